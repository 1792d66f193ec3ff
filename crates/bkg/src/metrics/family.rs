//! Every metric that the host has: its name, its kind, its labels, and what it says.
//!
//! One row for each and nothing about a metric anywhere else; `docs/observability.md` shows the same table,
//! and a test compares the two. Names follow the conventions of Prometheus: base units, `_total` for what
//! only grows.

/// One metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// The name, with its unit.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says, in one line.
    pub help: &'static str,
}

/// What kind of number a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations in buckets.
    Histogram,
}

impl Kind {
    /// The kind in the words of Prometheus.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

macro_rules! families {
    ($($constant:ident = $name:literal $kind:ident [$($label:literal),*] $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $constant: Family =
                Family { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };
        )+

        /// All of them, in the order in which they are shown.
        pub const FAMILIES: &[&Family] = &[$(&$constant),+];
    };
}

families! {
    BUILD_INFO = "bkg_build_info" Gauge ["version"]
        "Always 1; the label is the version of the host.";
    UPTIME = "bkg_uptime_seconds" Gauge []
        "How long the host has been running.";

    HTTP_REQUESTS = "bkg_http_requests_total" Counter ["method", "route", "status"]
        "HTTP requests that were answered, by route and class of status.";
    HTTP_DURATION = "bkg_http_request_duration_seconds" Histogram ["method", "route"]
        "From the head of an HTTP request to the end of its answer.";

    REQUESTS = "bkg_requests_total" Counter ["capability", "plugin", "model", "outcome"]
        "Requests to plugins on behalf of callers that have ended, by outcome: `ok`, `cancelled` or the code of the error.";
    REQUEST_DURATION = "bkg_request_duration_seconds" Histogram ["capability", "plugin", "model"]
        "From the begin of such a request to its end, streams included.";
    FIRST_TOKEN = "bkg_request_time_to_first_token_seconds" Histogram ["capability", "plugin", "model"]
        "From the begin of a streamed request to the first part of its answer.";
    TOKENS = "bkg_tokens_total" Counter ["capability", "plugin", "model", "direction"]
        "Tokens that models said they read (`in`) and wrote (`out`).";

    IN_FLIGHT = "bkg_plugin_in_flight" Gauge ["plugin"]
        "Requests that the plugin has and has not answered.";
    QUEUED = "bkg_plugin_queue_length" Gauge ["plugin"]
        "Requests that wait for a free place at the plugin.";
    QUEUE_WAIT = "bkg_plugin_queue_wait_seconds" Histogram ["plugin"]
        "How long requests waited that had to wait for a place, whether or not they got one.";
    QUEUE_REFUSED = "bkg_plugin_queue_refused_total" Counter ["plugin", "reason"]
        "Requests without a place: the queue was full (`full`), or none became free in time (`late`).";

    BUS_FRAMES = "bkg_bus_frames_total" Counter ["direction", "kind"]
        "Frames on the plugin bus, from plugins (`in`) and towards them (`out`).";
    BUS_BYTES = "bkg_bus_bytes_total" Counter ["direction", "kind"]
        "Bytes of those frames, without what WebSocket adds.";
    BUS_DROPPED = "bkg_bus_frames_without_effect_total" Counter ["reason"]
        "Frames of plugins that had no effect, by reason.";

    PLUGIN_STATE = "bkg_plugin_state" Gauge ["plugin", "state"]
        "1 for the state that the plugin is in, 0 for every other.";
    PLUGIN_INSTANCES = "bkg_plugin_instances" Gauge ["plugin"]
        "Registered instances of the version that serves.";
    PLUGIN_STARTS = "bkg_plugin_starts_total" Counter ["plugin"]
        "Processes of the plugin that were started.";
    PLUGIN_RESTARTS = "bkg_plugin_restarts_total" Counter ["plugin"]
        "Those that were started because the one before had ended by itself.";
    PLUGIN_CRASHES = "bkg_plugin_crashes_total" Counter ["plugin"]
        "Processes of the plugin that failed.";
    PLUGIN_SWAPS = "bkg_plugin_swaps_total" Counter ["plugin", "outcome"]
        "Versions of the plugin that were to take over, by how that ended.";
    PLUGIN_CPU = "bkg_plugin_cpu_ratio" Gauge ["plugin"]
        "Processor time that its processes use, over the last interval; 1 is one core.";
    PLUGIN_MEMORY = "bkg_plugin_resident_memory_bytes" Gauge ["plugin"]
        "Memory that its processes hold.";

    DROPPED_LOG_LINES = "bkg_dropped_log_lines_total" Counter ["reason"]
        "Log lines of plugins that were not kept.";
    DROPPED_USAGE = "bkg_dropped_usage_rows_total" Counter []
        "Rows of what requests used that were not kept.";
    DROPPED_EVENTS = "bkg_dropped_live_events_total" Counter []
        "What clients of the live socket missed because they did not read fast enough.";
    DROPPED_STORIES = "bkg_dropped_plugin_events_total" Counter []
        "Changes of state and runs of plugins that were not kept.";
    DROPPED_SPANS = "bkg_dropped_spans_total" Counter ["reason"]
        "Spans that were not handed to the collector: the queue was full (`queue_full`), it refused them (`refused`), or the host stopped before (`stopped`).";
    EXPORTED_SPANS = "bkg_exported_spans_total" Counter []
        "Spans that the collector took.";
    EXPORT_FAILURES = "bkg_span_export_failures_total" Counter []
        "Attempts to hand spans to the collector that failed.";

    PROCESS_CPU = "process_cpu_seconds_total" Counter []
        "Processor time that the host has used.";
    PROCESS_MEMORY = "process_resident_memory_bytes" Gauge []
        "Memory that the host holds.";
    PROCESS_VIRTUAL = "process_virtual_memory_bytes" Gauge []
        "Address space of the host.";
    PROCESS_FDS = "process_open_fds" Gauge []
        "Descriptors that the host has open.";
    PROCESS_MAX_FDS = "process_max_fds" Gauge []
        "Descriptors that it may have open.";
    PROCESS_THREADS = "process_threads" Gauge []
        "Threads of the host.";
    PROCESS_START = "process_start_time_seconds" Gauge []
        "When the host was started, in seconds since 1970.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_their_numbers_are() {
        for family in FAMILIES {
            let name = family.name;
            let is_counter = family.kind == Kind::Counter;
            assert_eq!(name.ends_with("_total"), is_counter, "{name}");
            if family.kind == Kind::Histogram {
                assert!(name.ends_with("_seconds"), "{name}");
            }
            assert!(name.starts_with("bkg_") || name.starts_with("process_"), "{name}");
            assert!(!family.labels.contains(&"le"), "{name}");
            assert!(!family.help.contains(['"', '\\', '\n', '|']), "{name}");
        }
    }

    /// The row of a metric in the table of the documentation.
    fn row(family: &Family) -> String {
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        format!(
            "| `{}` | {} | {} | {} |",
            family.name,
            family.kind.as_str(),
            labels.join(", "),
            family.help
        )
    }

    #[test]
    fn the_documentation_has_the_same_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/observability.md");
        let page = std::fs::read_to_string(path).unwrap();
        let of_metrics = |line: &&str| line.starts_with("| `bkg_") || line.starts_with("| `process_");
        let shown: Vec<&str> = page.lines().filter(of_metrics).collect();
        let expected: Vec<String> = FAMILIES.iter().map(|family| row(family)).collect();
        assert_eq!(shown, expected, "put these rows there:\n{}", expected.join("\n"));
    }
}
