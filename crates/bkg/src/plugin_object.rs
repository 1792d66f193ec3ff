//! A plugin as operators see it: one JSON object, the same from every route and on the live socket.
//!
//! Not the plugin itself: that is a record of the registry. The invariant: there is no second way to
//! show a plugin, so whoever has seen the object in one place knows it in all. `admin` answers with
//! it, and `live` sends it when it changed.

use std::sync::Arc;

use bkg_protocol::InstanceId;
use bkg_protocol::host::{Contract, DropCounts};
use bkg_protocol::message::{self, Condition, Model};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::config::{Catalogue, Discovered, Outcome, RestartPolicy};
use crate::registry::{Confinement, Instance, PluginRecord, SwapStory, TopicFigures};
use crate::telemetry::{Sample, Telemetry};

/// A plugin, as `GET /admin/plugins/{name}` shows it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Plugin")]
pub struct PluginObject {
    /// Its name; of a folder that cannot be used, what it would be called.
    pub name: String,
    /// Its state, or `shadowed` or `broken` for a folder that cannot be used.
    #[schemars(with = "PluginStatus")]
    pub status: &'static str,
    /// One sentence on how the state came to be.
    pub reason: Option<String>,
    /// Since when it is in this state.
    pub since: Option<Timestamp>,
    /// How often it was started again since someone last started it.
    pub restarts: u32,
    /// What it is for, in its author's words.
    pub description: String,
    /// Its version: as it registered, else as its entry says.
    pub version: String,
    /// The real path of its folder.
    pub folder: String,
    /// Whether it starts with the host.
    pub autostart: bool,
    /// When it is started again; null for a folder that cannot be used.
    pub restart: Option<RestartPolicy>,
    /// What it registered, or may register while no instance is there.
    pub capabilities: Vec<String>,
    /// The models that it serves.
    pub models: Vec<Model>,
    /// Its registered instances, oldest first.
    pub instances: Vec<InstanceObject>,
    /// The newest sample of each launch that has processes, registered or not.
    pub resources: Vec<Arc<Sample>>,
    /// How many requests wait for a free place.
    pub queued: usize,
    /// Its effective entry; secrets read as `{"$secret": true}`.
    #[schemars(with = "Option<serde_json::Map<String, Value>>")]
    pub config: Value,
    /// The number of its saved revision; 0 where nothing was saved.
    pub revision: u64,
    /// Whether a process of it runs with something else than this entry.
    pub restart_needed: bool,
    /// The JSON Schema of its settings.
    #[schemars(with = "Option<serde_json::Map<String, Value>>")]
    pub config_schema: Option<Value>,
    /// The swap of versions that is under way, else the last one since the host started.
    pub swap: Option<Arc<SwapStory>>,
    /// Why the folder is no usable plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The states of a plugin, and those of a folder that cannot be used.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[allow(dead_code, reason = "a type for the reference alone")]
enum PluginStatus {
    /// No process of it exists.
    Stopped,
    /// It builds or installs what it needs before it can register.
    Preparing,
    /// Its process runs and has no session.
    Starting,
    /// It is registered and serves.
    Running,
    /// It serves at lower preference.
    Degraded,
    /// It finishes what it has.
    Draining,
    /// It is out of rotation.
    Unresponsive,
    /// It failed and will be started again.
    Backoff,
    /// It failed and stays down until someone starts it.
    Failed,
    /// Its folder cannot be used.
    Broken,
    /// Another folder has its name.
    Shadowed,
}

/// One registered instance of a plugin.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Instance")]
pub struct InstanceObject {
    /// The launch.
    pub id: InstanceId,
    /// Its process, where the host started it.
    pub pid: Option<u32>,
    /// What keeps its processes together, and what enforces its limits; null for one that the host did
    /// not start.
    pub confinement: Option<Confinement>,
    /// How it feels.
    pub status: Condition,
    /// When it registered.
    pub since: Timestamp,
    /// How many requests it has not answered yet.
    pub in_flight: u32,
    /// Which contract it speaks: `base` or `extended`.
    #[schemars(extend("enum" = ["base", "extended"]))]
    pub contract: &'static str,
    /// How it is known to be of the launch: `process`, or `first-come` where the first that dialled was
    /// taken.
    #[schemars(extend("enum" = ["process", "first-come"]))]
    pub identity: &'static str,
    /// Where it listens itself.
    pub port: Option<u16>,
    /// The figures that it last gave of itself.
    pub telemetry: Option<message::Telemetry>,
    /// What it told others and heard of them.
    pub events: EventFigures,
    /// What it sent to no effect.
    pub dropped: DroppedFrames,
}

/// The frames of one instance that had no effect, counted since it registered.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DroppedFrames {
    /// For requests that were given up before; nothing is wrong.
    pub late: u64,
    /// For requests that it was never asked, or has answered already.
    pub unknown_request: u64,
    /// Requests under an id of which one is open.
    pub duplicate_request: u64,
    /// Of a type that this version does not know.
    pub unknown_type: u64,
    /// Not allowed for it, or not at that moment.
    pub out_of_place: u64,
    /// Not readable: no JSON, not as their type says, or binary.
    pub unreadable: u64,
}

/// The events of one instance, counted since it registered.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventFigures {
    /// The topics that it subscribed to, also those that its entry does not let it hear of.
    pub topics: Vec<String>,
    /// How many events it published.
    pub published: u64,
    /// How many were written to it.
    pub delivered: u64,
    /// How many wait to be written.
    pub waiting: usize,
    /// How many it missed because it did not read fast enough.
    pub missed: u64,
    /// How many exceed the frame that it takes.
    pub too_large: u64,
    /// How often it said something about topics that it may not say.
    pub refused: u64,
}

impl PluginObject {
    /// The object of a usable plugin at this moment.
    pub fn of(record: &PluginRecord, telemetry: &Telemetry) -> Self {
        let entry = &record.entry;
        let mut capabilities: Vec<String> = Vec::new();
        let mut models: Vec<Model> = Vec::new();
        for instance in &record.instances {
            let registration = instance.registration();
            for capability in registration.capabilities() {
                if !capabilities.iter().any(|known| known == capability.as_str()) {
                    capabilities.push(capability.to_string());
                }
            }
            for model in &registration.models {
                if !models.contains(model) {
                    models.push(model.clone());
                }
            }
        }
        if record.instances.is_empty() {
            capabilities = entry.capabilities.iter().map(|granted| granted.id.to_string()).collect();
        }
        let instances = &record.instances;
        let version = instances.iter().find_map(|one| one.registration().register.version.clone());
        Self {
            name: entry.name.to_string(),
            status: record.state().as_str(),
            reason: record.status.reason.clone(),
            since: Some(record.status.since),
            restarts: record.status.restarts,
            description: entry.description.clone(),
            version: version.unwrap_or_else(|| entry.version.clone()),
            folder: record.root.display().to_string(),
            autostart: entry.autostart,
            restart: Some(entry.restart),
            capabilities,
            models,
            instances: instances.iter().map(|instance| InstanceObject::of(instance)).collect(),
            resources: telemetry.latest(&entry.name),
            queued: record.capacity.waiting(),
            config: entry.shown(record.schema.as_deref()),
            revision: entry.revision,
            restart_needed: record.restart_needed(),
            config_schema: record.config_schema().cloned(),
            swap: record.swap.clone(),
            error: None,
        }
    }

    /// The folders that cannot be used, each with the reason.
    pub fn unusable(catalogue: &Catalogue) -> impl Iterator<Item = Self> {
        catalogue.plugins.iter().filter_map(|found| match &found.outcome {
            Outcome::Ready(_) => None,
            Outcome::Shadowed { name, by } => {
                let why = format!("`{}` has this name already: rename one of them", by.display());
                Some(Self::of_folder(found, name.to_string(), "shadowed", why))
            }
            Outcome::Broken { error } => {
                let name = found.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
                Some(Self::of_folder(found, name, "broken", error.to_string()))
            }
        })
    }

    fn of_folder(found: &Discovered, name: String, status: &'static str, error: String) -> Self {
        Self {
            name,
            status,
            reason: Some(error.clone()),
            since: None,
            restarts: 0,
            description: String::new(),
            version: String::new(),
            folder: found.folder.display().to_string(),
            autostart: false,
            restart: None,
            capabilities: Vec::new(),
            models: Vec::new(),
            instances: Vec::new(),
            resources: Vec::new(),
            queued: 0,
            config: Value::Null,
            revision: 0,
            restart_needed: false,
            config_schema: None,
            swap: None,
            error: Some(error),
        }
    }
}

impl InstanceObject {
    fn of(instance: &Instance) -> Self {
        Self {
            id: instance.id,
            pid: instance.pid,
            confinement: instance.confinement.get().cloned(),
            status: instance.condition(),
            since: instance.since,
            in_flight: instance.in_flight(),
            contract: match instance.contract {
                Contract::Base => "base",
                Contract::Extended => "extended",
            },
            identity: if instance.verified { "process" } else { "first-come" },
            port: instance.registration().register.port.number(),
            telemetry: instance.telemetry().map(|own| own.telemetry.clone()),
            events: EventFigures::of(instance.topics.figures()),
            dropped: DroppedFrames::of(instance.dropped()),
        }
    }
}

impl DroppedFrames {
    fn of(counts: DropCounts) -> Self {
        // No `..`: a new count does not compile until it is shown.
        let DropCounts { late, unknown_request, duplicate_request, unknown_type, out_of_place, unreadable } =
            counts;
        Self { late, unknown_request, duplicate_request, unknown_type, out_of_place, unreadable }
    }
}

impl EventFigures {
    fn of(TopicFigures { names, waiting, counts }: TopicFigures) -> Self {
        Self {
            topics: names.iter().map(ToString::to_string).collect(),
            published: counts.published,
            delivered: counts.delivered,
            waiting,
            missed: counts.missed,
            too_large: counts.too_large,
            refused: counts.refused,
        }
    }
}
