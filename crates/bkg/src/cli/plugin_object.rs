//! A plugin as the daemon tells it: the members that the command line shows.
//!
//! Everything but name and status may be missing, so that this program shows what a daemon of
//! another version does say. `--json` never goes through here: it prints what was sent.

use indexmap::IndexMap;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

/// One plugin.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Plugin {
    pub(super) name: String,
    pub(super) status: String,
    pub(super) reason: Option<String>,
    pub(super) since: Option<Timestamp>,
    pub(super) description: Option<String>,
    pub(super) version: Option<String>,
    pub(super) folder: Option<String>,
    pub(super) autostart: Option<bool>,
    pub(super) restart: Option<String>,
    pub(super) restarts: Option<u64>,
    #[serde(default)]
    pub(super) capabilities: Vec<String>,
    #[serde(default)]
    pub(super) models: Vec<Model>,
    #[serde(default)]
    pub(super) instances: Vec<Instance>,
    pub(super) queued: Option<u64>,
    /// What its launches used lately, one sample for each.
    #[serde(default)]
    pub(super) resources: Vec<Sample>,
    pub(super) config: Option<Entry>,
    pub(super) swap: Option<Swap>,
    pub(super) error: Option<String>,
    pub(super) shadowed_by: Option<String>,
}

/// A swap of its versions: the one that is under way, else the last.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Swap {
    pub(super) state: String,
    pub(super) reason: Option<String>,
    pub(super) since: Option<Timestamp>,
    pub(super) share: Option<Share>,
    pub(super) from: Option<Version>,
    pub(super) to: Option<Version>,
    /// How many requests of the version before were cut.
    pub(super) cut: Option<u64>,
}

impl Swap {
    /// Whether it is settled that the new version serves.
    pub(super) fn new_version_serves(&self) -> bool {
        matches!(self.state.as_str(), "draining" | "swapped" | "restarted")
    }
}

/// The share of requests that a version is tried with.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Share {
    pub(super) percent: u64,
}

/// A version of a plugin.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Version {
    #[serde(default)]
    pub(super) version: String,
}

/// A model that a plugin offers.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Model {
    pub(super) id: String,
    pub(super) capability: Option<String>,
}

/// One running process of a plugin.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Instance {
    pub(super) id: String,
    pub(super) pid: Option<u32>,
    pub(super) status: Option<String>,
    pub(super) since: Option<Timestamp>,
    pub(super) in_flight: Option<u64>,
    pub(super) contract: Option<String>,
    pub(super) identity: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) confinement: Option<Confinement>,
    #[serde(default)]
    pub(super) events: Events,
}

/// What keeps the processes of one instance together, and what enforces its limits.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Confinement {
    pub(super) group: String,
    #[serde(default)]
    pub(super) limits: IndexMap<String, Option<String>>,
    #[serde(default)]
    pub(super) notes: Vec<String>,
}

/// The events of one instance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Events {
    pub(super) published: u64,
    pub(super) delivered: u64,
    pub(super) missed: u64,
    pub(super) too_large: u64,
    pub(super) refused: u64,
}

/// What one launch used at one moment.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sample {
    pub(super) at: Option<Timestamp>,
    pub(super) instance: Option<String>,
    /// Of one core.
    pub(super) cpu_percent: Option<f64>,
    pub(super) rss_bytes: Option<u64>,
    pub(super) fds: Option<u64>,
    pub(super) threads: Option<u64>,
    pub(super) processes: Option<u64>,
}

/// What the entry says that is shown for itself.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Entry {
    pub(super) identity: Option<String>,
    pub(super) activation: Option<String>,
    #[serde(default)]
    pub(super) requires: Vec<Value>,
    pub(super) limits: Option<Map<String, Value>>,
    pub(super) healthcheck: Option<Map<String, Value>>,
}

impl Plugin {
    /// Whether it answers requests.
    pub(super) fn serves(&self) -> bool {
        matches!(self.status.as_str(), "running" | "degraded")
    }

    /// How its instances are known to be its own: as the entry says, unless one of them could not be
    /// looked up and was taken because it came first.
    pub(super) fn identity(&self) -> Option<&str> {
        let mut taken = self.instances.iter().filter_map(|instance| instance.identity.as_deref());
        let entry = self.config.as_ref().and_then(|entry| entry.identity.as_deref());
        taken.find(|identity| *identity == "first-come").or(entry)
    }

    /// What confines its oldest instance, in one line.
    pub(super) fn confinement(&self) -> Option<String> {
        let Confinement { group, limits, notes } =
            self.instances.iter().find_map(|instance| instance.confinement.as_ref())?;
        let limits =
            limits.iter().filter_map(|(limit, means)| Some(format!("{limit} by {}", means.as_ref()?)));
        let means = std::iter::once(group.clone()).chain(limits).collect::<Vec<_>>().join(", ");
        let notes = notes.iter().map(|note| format!("; {note}"));
        Some(std::iter::once(means).chain(notes).collect())
    }

    /// Why it is as it is.
    pub(super) fn why(&self) -> Option<&str> {
        let text = self.reason.as_deref().or(self.error.as_deref());
        text.filter(|text| !text.is_empty())
    }
}
