//! `bkg top` and `bkg plugin telemetry`: what plugins use of the machine.
//!
//! Nothing is measured here. The invariant: what the daemon did not say is a dash, never a zero.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::Verdict;
use super::client::Client;
use super::error::CliError;
use super::facts;
use super::output::Output;
use super::plugin_object::{Plugin, Sample};
use super::table::Table;
use super::target::Target;
use super::time::{elapsed, moment};
use super::watch_arguments::TopRequest;

/// The answer of `GET /admin/plugins/{name}/telemetry`.
#[derive(Debug, Deserialize)]
struct Telemetry {
    #[serde(default)]
    samples: Vec<Sample>,
    #[serde(default)]
    own: Vec<Own>,
}

/// What an instance says about itself.
#[derive(Debug, Deserialize)]
struct Own {
    instance: Option<String>,
    at: Option<Timestamp>,
    #[serde(default)]
    telemetry: Value,
}

/// Looks again and again.
pub(super) fn watch(
    target: &Target,
    request: &TopRequest,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    if !request.once {
        output.end_with_reader()?;
    }
    loop {
        look(target, output)?;
        if request.once {
            return Ok(Verdict::Reached);
        }
        std::thread::sleep(Duration::from_secs(request.interval));
    }
}

fn look(target: &Target, output: &mut Output) -> Result<(), CliError> {
    let answer = Client::find(target)?.get("/admin/plugins")?;
    if output.wants_json() {
        return output.json(&answer.body);
    }
    let text = table(&answer.read::<Vec<Plugin>>()?, Timestamp::now());
    if output.is_terminal() { output.screen(&text) } else { output.text(&format!("{text}\n")) }
}

fn table(plugins: &[Plugin], now: Timestamp) -> String {
    let mut table = Table::new([
        "NAME",
        "STATUS",
        "FOR",
        "CPU",
        "MEMORY",
        "FILES",
        "THREADS",
        "PROCESSES",
        "IN FLIGHT",
    ]);
    let mut any = false;
    for plugin in plugins {
        for instance in &plugin.instances {
            any = true;
            let is_its = |sample: &&Sample| sample.instance.as_deref() == Some(instance.id.as_str());
            let sample = plugin.resources.iter().find(is_its).cloned().unwrap_or_default();
            let [cpu, memory, files, threads, processes] = used(&sample);
            table.row([
                plugin.name.clone(),
                instance.status.clone().unwrap_or_else(|| plugin.status.clone()),
                instance.since.map(|since| elapsed(since, now)).unwrap_or_default(),
                cpu,
                memory,
                files,
                threads,
                processes,
                instance.in_flight.map(|count| count.to_string()).unwrap_or_default(),
            ]);
        }
    }
    if any { table.to_string() } else { "no plugin runs: `bkg plugin list` shows all of them\n".to_owned() }
}

fn used(sample: &Sample) -> [String; 5] {
    let count = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
    [
        sample.cpu_percent.map(|percent| format!("{percent:.1} %")).unwrap_or_default(),
        sample.rss_bytes.map(size).unwrap_or_default(),
        count(sample.fds),
        count(sample.threads),
        count(sample.processes),
    ]
}

/// Bytes in the largest unit that leaves a whole in front of the point.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// Shows the last samples of one plugin, and what it says about itself.
pub(super) fn history(
    target: &Target,
    plugin: &str,
    samples: usize,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    let answer = Client::find(target)?.get(&format!("/admin/plugins/{plugin}/telemetry"))?;
    answer.show(output, |telemetry: Telemetry| tell(plugin, &telemetry, samples))
}

fn tell(plugin: &str, telemetry: &Telemetry, samples: usize) -> String {
    let mut text = String::new();
    if telemetry.samples.is_empty() {
        text.push_str(&format!("no samples: {plugin} does not run, or has only begun to\n"));
    } else {
        let mut table = Table::new(["TIME", "CPU", "MEMORY", "FILES", "THREADS", "PROCESSES", "INSTANCE"]);
        let skipped = telemetry.samples.len().saturating_sub(samples);
        for sample in &telemetry.samples[skipped..] {
            let [cpu, memory, files, threads, processes] = used(sample);
            let instance = sample.instance.clone().unwrap_or_default();
            let time = sample.at.map(moment).unwrap_or_default();
            table.row([time, cpu, memory, files, threads, processes, instance]);
        }
        text.push_str(&table.to_string());
    }
    for own in &telemetry.own {
        let instance = own.instance.as_deref().unwrap_or("the plugin");
        let at = own.at.map(|at| format!(" at {}", moment(at))).unwrap_or_default();
        text.push_str(&format!("\n{instance} says{at}\n{}", facts::table(&own.telemetry)));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn telemetry() -> Telemetry {
        serde_json::from_value(json!({
            "plugin": "ping", "intervalMs": 1000,
            "samples": [
                {"seq": 1, "at": "2026-01-02T03:04:05Z", "plugin": "ping", "instance": "i", "cpuPercent": 12.345,
                 "rssBytes": 3_145_728, "fds": 9, "threads": 4, "processes": 1},
                {"seq": 2, "at": "2026-01-02T03:04:06Z", "plugin": "ping", "instance": "i", "cpuPercent": 0.0,
                 "rssBytes": 512, "fds": null, "threads": 4, "processes": 1},
            ],
            "own": [{"instance": "i", "at": "2026-01-02T03:04:06Z", "telemetry": {"queue": 3}}],
        }))
        .unwrap()
    }

    #[test]
    fn an_instance_is_shown_with_its_newest_sample() {
        let plugin: Plugin = serde_json::from_value(json!({
            "name": "ping", "status": "running",
            "instances": [{"id": "i", "status": "running", "since": "2026-01-02T03:04:00Z", "inFlight": 2}, {"id": "j"}],
            "resources": [{"instance": "i", "cpuPercent": 0.0, "rssBytes": 512, "fds": null, "threads": 4, "processes": 1}],
        }))
        .unwrap();
        let now = "2026-01-02T03:04:10Z".parse().unwrap();
        assert_eq!(
            table(&[plugin], now),
            "NAME  STATUS   FOR   CPU    MEMORY  FILES  THREADS  PROCESSES  IN FLIGHT\n\
             ping  running  10 s  0.0 %  512 B   -      4        1          2\n\
             ping  running  -     -      -       -      -        -          -\n"
        );
        assert!(table(&[], now).contains("no plugin runs"));
    }

    #[test]
    fn the_history_ends_with_what_the_plugin_says() {
        assert_eq!(
            tell("ping", &telemetry(), 1),
            "TIME                      CPU    MEMORY  FILES  THREADS  PROCESSES  INSTANCE\n\
             2026-01-02T03:04:06.000Z  0.0 %  512 B   -      4        1          i\n\n\
             i says at 2026-01-02T03:04:06.000Z\nWHAT   VALUE\nqueue  3\n"
        );
        let nothing = Telemetry { samples: Vec::new(), own: Vec::new() };
        assert_eq!(tell("ping", &nothing, 1), "no samples: ping does not run, or has only begun to\n");
    }

    #[test]
    fn a_size_has_the_unit_that_fits() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (3 << 20, "3.0 MiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
