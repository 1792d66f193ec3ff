//! Plugins in words: one line in a list, or everything that `plugin show` tells.
//!
//! Pure text from what the daemon said; what it did not say is left out, never made up.

use std::fmt::Write;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::output::harmless;
use super::plugin_object::{Events, Instance, Plugin, Swap};
use super::swap;
use super::table::Table;
use super::time::{elapsed, moment};

/// What a heading of `plugin show` is filled up to.
const HEADING: usize = 14;

/// All plugins as a table.
pub(super) fn list(plugins: &[Plugin], now: Timestamp) -> String {
    if plugins.is_empty() {
        return "no plugins: `bkg config` shows in which directories they are looked for\n".to_owned();
    }
    let mut table =
        Table::new(["NAME", "STATUS", "FOR", "VERSION", "PID", "IN FLIGHT", "RESTARTS", "REASON"]);
    for plugin in plugins {
        let pids: Vec<String> = plugin
            .instances
            .iter()
            .filter_map(|instance| instance.pid)
            .map(|pid| pid.to_string())
            .collect();
        let in_flight =
            plugin.instances.iter().map(|instance| instance.in_flight.unwrap_or(0)).sum::<u64>();
        table.row([
            plugin.name.clone(),
            plugin.status.clone(),
            plugin.since.map(|since| elapsed(since, now)).unwrap_or_default(),
            plugin.version.clone().unwrap_or_default(),
            pids.join(","),
            if plugin.instances.is_empty() { String::new() } else { in_flight.to_string() },
            plugin
                .restarts
                .filter(|restarts| *restarts > 0)
                .map(|restarts| restarts.to_string())
                .unwrap_or_default(),
            plugin.why().unwrap_or_default().to_owned(),
        ]);
    }
    table.to_string()
}

/// How a plugin is, in one sentence.
pub(super) fn state(plugin: &Plugin) -> String {
    let why = plugin.why().map(|why| format!(": {why}")).unwrap_or_default();
    harmless(&format!("{} is {}{why}", plugin.name, plugin.status))
}

/// Everything about one plugin.
pub(super) fn show(plugin: &Plugin, now: Timestamp) -> String {
    let mut text = harmless(&format!("{} is {}", plugin.name, plugin.status));
    if let Some(since) = plugin.since {
        write!(text, " for {}, since {}", elapsed(since, now), moment(since))
            .expect("a string takes all text");
    }
    text.push('\n');
    for (heading, value) in facts(plugin, now) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            writeln!(text, "  {heading:HEADING$}{}", harmless(&value)).expect("a string takes all text");
        }
    }
    if !plugin.instances.is_empty() {
        text.push('\n');
        text.push_str(&instances(&plugin.instances, now));
    }
    text
}

fn facts(plugin: &Plugin, now: Timestamp) -> [(&'static str, Option<String>); 18] {
    let models = plugin.models.iter().map(|model| match &model.capability {
        Some(capability) => format!("{} ({capability})", model.id),
        None => model.id.clone(),
    });
    let restarts = match plugin.restarts {
        None | Some(0) => String::new(),
        Some(1) => ", 1 restart so far".to_owned(),
        Some(restarts) => format!(", {restarts} restarts so far"),
    };
    let entry = plugin.config.as_ref();
    let is_lazy = entry.is_some_and(|entry| entry.activation.as_deref() == Some("on-demand"));
    let starts = plugin.autostart.map(|autostart| match (autostart, is_lazy) {
        (true, _) => "with the daemon",
        (false, true) => "when a request needs it",
        (false, false) => "when asked to",
    });
    let required = entry.map(|entry| entry.requires.iter().map(plain).collect::<Vec<_>>().join(", "));
    let members = |members: &Option<Map<String, Value>>| {
        let each = members.iter().flatten().map(|(name, value)| format!("{name} {}", plain(value)));
        each.collect::<Vec<_>>().join(", ")
    };
    [
        ("reason", plugin.why().map(str::to_owned)),
        ("shadowed by", plugin.shadowed_by.clone()),
        ("description", plugin.description.clone()),
        ("version", plugin.version.clone()),
        ("folder", plugin.folder.clone()),
        ("starts", starts.map(str::to_owned)),
        ("restart", plugin.restart.as_ref().map(|policy| format!("{policy}{restarts}"))),
        ("requires", required),
        ("probe", entry.map(|entry| members(&entry.healthcheck))),
        ("limits", entry.map(|entry| members(&entry.limits))),
        ("swap", plugin.swap.as_ref().map(|swap| told(plugin, swap, now))),
        ("identity", plugin.identity().map(str::to_owned)),
        ("confinement", plugin.confinement()),
        ("capabilities", Some(plugin.capabilities.join(", "))),
        ("models", Some(models.collect::<Vec<_>>().join(", "))),
        ("queued", plugin.queued.filter(|queued| *queued > 0).map(|queued| queued.to_string())),
        ("events", Some(events(&plugin.instances))),
        (
            "instances",
            Some(plugin.instances.len()).filter(|count| *count > 1).map(|count| count.to_string()),
        ),
    ]
}

/// How its last swap went, and when that was.
fn told(plugin: &Plugin, swap: &Swap, now: Timestamp) -> String {
    let when = swap.since.map(|since| format!(" ({} ago)", elapsed(since, now))).unwrap_or_default();
    let story = swap::story(&plugin.name, swap);
    let prefix = format!("{}: ", plugin.name);
    format!("{}{when}", story.strip_prefix(&prefix).unwrap_or(&story))
}

/// A value of an entry; texts as they are.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What its instances told others and heard of them, without what did not happen.
fn events(instances: &[Instance]) -> String {
    let sum = |count: fn(&Events) -> u64| instances.iter().map(|one| count(&one.events)).sum::<u64>();
    let counts = [
        (sum(|events| events.published), "published"),
        (sum(|events| events.delivered), "delivered"),
        (sum(|events| events.missed), "missed"),
        (sum(|events| events.too_large), "too large"),
        (sum(|events| events.refused), "refused"),
    ];
    let happened = counts.iter().filter(|(count, _)| *count > 0);
    happened.map(|(count, what)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
}

fn instances(instances: &[Instance], now: Timestamp) -> String {
    let mut table = Table::new(["PID", "HEALTH", "FOR", "IN FLIGHT", "CONTRACT", "PORT", "INSTANCE"]);
    for instance in instances {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        table.row([
            instance.pid.map(|pid| pid.to_string()).unwrap_or_default(),
            text(&instance.status),
            instance.since.map(|since| elapsed(since, now)).unwrap_or_default(),
            instance.in_flight.map(|count| count.to_string()).unwrap_or_default(),
            text(&instance.contract),
            instance.port.map(|port| port.to_string()).unwrap_or_default(),
            instance.id.clone(),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plugin(object: Value) -> Plugin {
        serde_json::from_value(object).unwrap()
    }

    fn now() -> Timestamp {
        "2026-01-02T03:04:05Z".parse().unwrap()
    }

    fn whole() -> Plugin {
        plugin(json!({
            "name": "llmserver", "status": "running", "reason": null, "since": "2026-01-02T03:01:03Z",
            "description": "The stand-in model server", "version": "0.1.0", "folder": "/srv/plugins/llmserver",
            "autostart": true, "restarts": 2, "restart": "on-failure",
            "capabilities": ["llm.chat", "llm.embed"],
            "models": [{"id": "stand-in", "capability": "llm.chat"}, {"id": "vectors"}],
            "instances": [{
                "id": "0199f1e2-0000-7000-8000-000000000001", "pid": 4711, "status": "ok",
                "since": "2026-01-02T03:01:04Z", "inFlight": 3, "contract": "extended", "port": null,
                "telemetry": {"cpu": 1},
                "confinement": {
                    "group": "cgroup-v2",
                    "limits": {"memory": "cgroup-v1", "cpu": null, "pids": "none", "files": null},
                    "notes": ["`pids` is not enforced"],
                },
            }],
            "queued": 0, "config": {"name": "llmserver", "identity": "process"}, "configSchema": null,
        }))
    }

    #[test]
    fn show_tells_the_whole_story() {
        assert_eq!(
            show(&whole(), now()),
            "\
llmserver is running for 3 min 2 s, since 2026-01-02T03:01:03.000Z
  description   The stand-in model server
  version       0.1.0
  folder        /srv/plugins/llmserver
  starts        with the daemon
  restart       on-failure, 2 restarts so far
  identity      process
  confinement   cgroup-v2, memory by cgroup-v1, pids by none; `pids` is not enforced
  capabilities  llm.chat, llm.embed
  models        stand-in (llm.chat), vectors

PID   HEALTH  FOR        IN FLIGHT  CONTRACT  PORT  INSTANCE
4711  ok      3 min 1 s  3          extended  -     0199f1e2-0000-7000-8000-000000000001
"
        );
    }

    #[test]
    fn what_its_entry_asks_for_and_the_last_swap_are_told() {
        let plugin = plugin(json!({
            "name": "p", "status": "stopped", "autostart": false,
            "config": {
                "activation": "on-demand", "requires": ["first", "llm.chat"], "limits": {"memoryMb": 64},
                "healthcheck": {"path": "/health", "failures": 2},
            },
            "swap": {"state": "rolled-back", "since": "2026-01-02T03:03:05Z", "why": "its files changed",
                     "reason": "it did not register"},
        }));
        assert_eq!(
            show(&plugin, now()),
            "\
p is stopped
  starts        when a request needs it
  requires      first, llm.chat
  probe         path /health, failures 2
  limits        memoryMb 64
  swap          rolled back, the version before serves: it did not register (1 min 0 s ago)
"
        );
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        assert_eq!(show(&plugin(json!({"name": "a", "status": "stopped"})), now()), "a is stopped\n");
    }

    #[test]
    fn a_failed_plugin_says_why_first() {
        let failed = plugin(json!({
            "name": "a", "status": "failed", "reason": "`start.sh` ended with code 1 before it registered",
            "since": "2026-01-02T03:04:05Z", "description": "", "version": "", "autostart": false,
            "restart": "never", "restarts": 0, "queued": 4, "config": {},
        }));
        assert_eq!(
            show(&failed, now()),
            "\
a is failed for 0 s, since 2026-01-02T03:04:05.000Z
  reason        `start.sh` ended with code 1 before it registered
  starts        when asked to
  restart       never
  queued        4
"
        );
        assert_eq!(state(&failed), "a is failed: `start.sh` ended with code 1 before it registered");
    }

    #[test]
    fn an_unusable_folder_says_what_is_wrong_with_it() {
        let broken = plugin(json!({
            "name": "b", "status": "broken", "error": "`plugin.json` is not JSON", "restart": null, "config": null,
        }));
        assert_eq!(show(&broken, now()), "b is broken\n  reason        `plugin.json` is not JSON\n");
    }

    #[test]
    fn events_are_summed_up_over_the_instances() {
        let mut plugin = whole();
        plugin.instances.push(plugin.instances[0].clone());
        assert!(!show(&plugin, now()).contains("events"));
        plugin.instances[0].events = Events { delivered: 4, missed: 2, ..Events::default() };
        plugin.instances[1].events = Events { delivered: 1, too_large: 3, ..Events::default() };
        assert!(show(&plugin, now()).contains("  events        5 delivered, 2 missed, 3 too large\n"));
    }

    #[test]
    fn a_list_has_one_line_per_plugin() {
        let stopped =
            plugin(json!({"name": "ping", "status": "stopped", "reason": "nobody has started it"}));
        assert_eq!(
            list(&[whole(), stopped], now()),
            "\
NAME       STATUS   FOR        VERSION  PID   IN FLIGHT  RESTARTS  REASON
llmserver  running  3 min 2 s  0.1.0    4711  3          2         -
ping       stopped  -          -        -     -          -         nobody has started it
"
        );
        assert_eq!(
            list(&[], now()),
            "no plugins: `bkg config` shows in which directories they are looked for\n"
        );
    }

    #[test]
    fn a_plugin_cannot_steer_the_terminal() {
        let hostile =
            plugin(json!({"name": "a", "status": "failed", "reason": "\u{1b}[2J", "description": "x\ny"}));
        for text in [show(&hostile, now()), state(&hostile), list(&[hostile], now())] {
            assert!(!text.contains('\u{1b}'), "{text:?}");
            assert!(!text.contains("x\ny"), "{text:?}");
        }
    }
}
