//! `GET /metrics`: what the host counts and measures, as scrapers read it.
//!
//! What is counted anywhere is read where it is kept, at the moment of the question; nothing is counted
//! twice. The invariant: labels are names that the host, an entry or a registration has, never text of a
//! client, so that the number of series is bounded.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header;
use procfs::process::Process;
use procfs::{WithCurrentSystemInfo, ticks_per_second};

use super::Admin;
use crate::error::Problem;
use crate::metrics::{Format, Page, family};
use crate::registry::{PluginRecord, State};
use crate::web::{Access, Call, Endpoint, Routes, Tag};

/// Every state, for series that are 0 as well as those that are 1.
const STATES: [State; 9] = [
    State::Stopped,
    State::Preparing,
    State::Starting,
    State::Running,
    State::Degraded,
    State::Draining,
    State::Unresponsive,
    State::Backoff,
    State::Failed,
];

pub(super) fn routes(routes: Routes, admin: &Arc<Admin>) -> Routes {
    let metrics = Endpoint::get("/metrics", Access::Scope("metrics"))
        .summary(Tag::Host, "Read what the host counts and measures")
        .describe(
            "In the text format of Prometheus (0.0.4), or as OpenMetrics (1.0.0) where `accept` wants that \
             more.",
        )
        .answers_with::<String>(200, "text/plain", "Every metric of docs/observability.md.");
    routes.add(metrics, admin, show)
}

async fn show(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    let accepted = call.parts.headers.get_all(header::ACCEPT).iter();
    let accepted: Vec<&str> = accepted.filter_map(|value| value.to_str().ok()).collect();
    let format = Format::wanted(&accepted.join(","));
    let mut page = Page::new(format);
    host(&admin, &mut page);
    http(&admin, &mut page);
    requests(&admin, &mut page);
    plugins(&admin, &mut page);
    bus(&admin, &mut page);
    drops(&admin, &mut page);
    process(&admin, &mut page);
    let headers = [(header::CONTENT_TYPE, format.content_type()), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, page.finish()).into_response())
}

fn host(admin: &Admin, page: &mut Page) {
    page.family(&family::BUILD_INFO).number(&[env!("CARGO_PKG_VERSION")], 1);
    page.family(&family::UPTIME).real(&[], admin.running_since.elapsed().as_secs_f64());
}

fn http(admin: &Admin, page: &mut Page) {
    let mut routes = admin.metrics.http.routes();
    // What nobody has asked for yet is left out: there are more than a hundred routes.
    routes.retain(|route| route.classes().next().is_some());
    let mut samples = page.family(&family::HTTP_REQUESTS);
    for route in &routes {
        for (class, count) in route.classes() {
            samples.number(&[&route.method, route.route, class], count);
        }
    }
    let mut samples = page.family(&family::HTTP_DURATION);
    for route in &routes {
        samples.distribution(&[&route.method, route.route], &route.duration.distribution());
    }
}

fn requests(admin: &Admin, page: &mut Page) {
    let rows = admin.metrics.requests.rows();
    let mut samples = page.family(&family::REQUESTS);
    for row in rows.iter() {
        for (outcome, count) in row.outcomes() {
            samples.number(&[&row.capability, &row.plugin, &row.model, outcome], count);
        }
    }
    let mut samples = page.family(&family::REQUEST_DURATION);
    for row in rows.iter() {
        samples.distribution(&[&row.capability, &row.plugin, &row.model], &row.duration.distribution());
    }
    let mut samples = page.family(&family::FIRST_TOKEN);
    for row in rows.iter() {
        let first = row.first.distribution();
        if first.count() > 0 {
            samples.distribution(&[&row.capability, &row.plugin, &row.model], &first);
        }
    }
    let mut samples = page.family(&family::TOKENS);
    for row in rows.iter() {
        for (direction, tokens) in [("in", row.read.get()), ("out", row.wrote.get())] {
            if tokens > 0 {
                samples.number(&[&row.capability, &row.plugin, &row.model, direction], tokens);
            }
        }
    }
}

fn plugins(admin: &Admin, page: &mut Page) {
    let view = admin.registry.view();
    let each = || view.plugins().map(|record| (record.entry.name.as_str(), record));
    let in_flight = |record: &PluginRecord| {
        record.sessions().map(|instance| u64::from(instance.in_flight())).sum::<u64>()
    };
    let mut samples = page.family(&family::IN_FLIGHT);
    for (name, record) in each() {
        samples.number(&[name], in_flight(record));
    }
    let mut samples = page.family(&family::QUEUED);
    for (name, record) in each() {
        samples.number(&[name], record.capacity.waiting() as u64);
    }
    let mut samples = page.family(&family::QUEUE_WAIT);
    for (name, record) in each() {
        samples.distribution(&[name], &record.counts.queue_wait.distribution());
    }
    let mut samples = page.family(&family::QUEUE_REFUSED);
    for (name, record) in each() {
        samples.number(&[name, "full"], record.counts.queue_full.get());
        samples.number(&[name, "late"], record.counts.queue_late.get());
    }
    let mut samples = page.family(&family::PLUGIN_STATE);
    for (name, record) in each() {
        let now = record.state();
        for state in STATES {
            samples.number(&[name, state.as_str()], u64::from(state == now));
        }
    }
    let mut samples = page.family(&family::PLUGIN_INSTANCES);
    for (name, record) in each() {
        samples.number(&[name], record.instances.len() as u64);
    }
    let mut samples = page.family(&family::PLUGIN_STARTS);
    for (name, record) in each() {
        samples.number(&[name], record.counts.starts.get());
    }
    let mut samples = page.family(&family::PLUGIN_RESTARTS);
    for (name, record) in each() {
        samples.number(&[name], record.counts.restarts.get());
    }
    let mut samples = page.family(&family::PLUGIN_CRASHES);
    for (name, record) in each() {
        samples.number(&[name], record.counts.crashes.get());
    }
    let mut samples = page.family(&family::PLUGIN_SWAPS);
    for (name, record) in each() {
        let counts = &record.counts;
        for (outcome, count) in [
            ("swapped", &counts.swapped),
            ("rolled_back", &counts.rolled_back),
            ("restarted", &counts.restarted),
            ("superseded", &counts.superseded),
        ] {
            samples.number(&[name, outcome], count.get());
        }
    }
    let cost: Vec<_> =
        each().map(|(name, record)| (name, admin.telemetry.latest(&record.entry.name))).collect();
    let mut samples = page.family(&family::PLUGIN_CPU);
    for (name, launches) in &cost {
        samples.real(&[name], launches.iter().fold(0.0, |sum, sample| sum + sample.cpu_percent) / 100.0);
    }
    let mut samples = page.family(&family::PLUGIN_MEMORY);
    for (name, launches) in &cost {
        samples.number(&[name], launches.iter().map(|sample| sample.rss_bytes).sum());
    }
}

fn bus(admin: &Admin, page: &mut Page) {
    let bus = &admin.metrics.bus;
    let directions = [("in", &bus.from_plugins), ("out", &bus.to_plugins)];
    let mut samples = page.family(&family::BUS_FRAMES);
    for (direction, frames) in directions {
        for kind in frames.kinds() {
            samples.number(&[direction, kind.kind], kind.frames.get());
        }
    }
    let mut samples = page.family(&family::BUS_BYTES);
    for (direction, frames) in directions {
        for kind in frames.kinds() {
            samples.number(&[direction, kind.kind], kind.bytes.get());
        }
    }
    let mut samples = page.family(&family::BUS_DROPPED);
    for (reason, count) in bus.without_effect.counts() {
        samples.number(&[reason], count);
    }
}

fn drops(admin: &Admin, page: &mut Page) {
    let lines = admin.logs.counters();
    let mut samples = page.family(&family::DROPPED_LOG_LINES);
    samples.number(&["unwritten"], lines.unwritten);
    samples.number(&["left_out"], lines.left_out);
    page.family(&family::DROPPED_USAGE).number(&[], admin.usage.dropped());
    page.family(&family::DROPPED_EVENTS).number(&[], admin.metrics.missed_live_events.get());
    page.family(&family::DROPPED_STORIES).number(&[], admin.chronicler.missed());
    let spans = admin.spans.clone().unwrap_or_default();
    let mut samples = page.family(&family::DROPPED_SPANS);
    samples.number(&["queue_full"], spans.queue_full.get());
    samples.number(&["refused"], spans.refused.get());
    samples.number(&["stopped"], spans.stopped.get());
    page.family(&family::EXPORTED_SPANS).number(&[], spans.exported.get());
    page.family(&family::EXPORT_FAILURES).number(&[], spans.failures.get());
}

/// The host's own process; what the system does not say is left out.
fn process(admin: &Admin, page: &mut Page) {
    let own = Process::myself().ok();
    let stat = own.as_ref().and_then(|own| own.stat().ok());
    if let Some(stat) = &stat {
        let ticks = (stat.utime + stat.stime) as f64;
        page.family(&family::PROCESS_CPU).real(&[], ticks / ticks_per_second() as f64);
        page.family(&family::PROCESS_MEMORY).number(&[], stat.rss_bytes().get());
        page.family(&family::PROCESS_VIRTUAL).number(&[], stat.vsize);
        page.family(&family::PROCESS_THREADS).number(&[], stat.num_threads.max(0) as u64);
    }
    if let Some(own) = &own {
        if let Ok(count) = own.fd_count() {
            page.family(&family::PROCESS_FDS).number(&[], count as u64);
        }
        if let Ok(limits) = own.limits()
            && let procfs::process::LimitValue::Value(most) = limits.max_open_files.soft_limit
        {
            page.family(&family::PROCESS_MAX_FDS).number(&[], most);
        }
    }
    let started = admin.started_at.as_millisecond() as f64 / 1000.0;
    page.family(&family::PROCESS_START).real(&[], started);
}
