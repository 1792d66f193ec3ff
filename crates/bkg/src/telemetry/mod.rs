//! What the processes of plugins cost: measured every few seconds, kept for half an hour.
//!
//! Not what a plugin says of itself (its instance keeps that), and nothing is kept on disk. One task
//! reads `/proc` once for all launches, off the runtime's thread. The invariant: a launch is measured
//! from its spawn to its end, whether or not it registers, and what is kept is bounded by number and
//! by age. `app` runs it; `admin` and the real-time socket read it.

mod history;
mod measure;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bkg_protocol::{InstanceId, PluginName, message};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::broadcast;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::registry::{PluginRecord, Registry};
use crate::store::ResourcePoint;
use history::History;
use measure::{Figures, Measuring};

/// How many samples may be on their way to one subscriber. One that is further behind loses the oldest
/// and is told so; a round has one sample for each launch.
const ON_THE_WAY: usize = 1_024;

/// What the processes of one launch used and held at one moment, added up.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// Grows by one with every sample of any plugin while the daemon runs, from 1.
    pub seq: u64,
    /// When it was taken.
    pub at: Timestamp,
    /// Whose launch it is.
    pub plugin: PluginName,
    /// The launch.
    pub instance: InstanceId,
    /// Processor time since the sample before (or since the launch began), in percent of one core: two
    /// busy cores are 200.
    pub cpu_percent: f64,
    /// Resident memory in bytes. What processes share is counted for each of them.
    pub rss_bytes: u64,
    /// Open descriptors; those of processes that may not be looked into are left out.
    pub fds: u64,
    /// Threads.
    pub threads: u64,
    /// Processes that are alive.
    pub processes: u64,
}

/// What the daemon's own process used and held at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostSample {
    /// When it was taken.
    pub at: Timestamp,
    /// Processor time since the sample before (or since the start), in percent of one core.
    pub cpu_percent: f64,
    /// Resident memory in bytes.
    pub rss_bytes: u64,
    /// Open descriptors.
    pub fds: u64,
    /// Threads.
    pub threads: u64,
}

/// What is known of one plugin: the host's samples and the plugin's own figures.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginTelemetry {
    /// Whose.
    pub plugin: PluginName,
    /// How often the host measures, in milliseconds.
    pub interval_ms: u64,
    /// The samples, the oldest first.
    pub samples: Vec<Arc<Sample>>,
    /// What its registered instances last said of themselves.
    pub own: Vec<OwnTelemetry>,
}

/// What an instance said of its own process.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OwnTelemetry {
    /// The launch.
    pub instance: InstanceId,
    /// When it said so.
    pub at: Timestamp,
    /// The figures, as it sent them.
    pub telemetry: message::Telemetry,
}

/// Measures launches and remembers what it saw.
#[derive(Debug)]
pub struct Telemetry {
    registry: Arc<Registry>,
    interval: Duration,
    kept: Mutex<History>,
    host: Mutex<Option<HostSample>>,
    news: broadcast::Sender<Arc<Sample>>,
}

impl Telemetry {
    /// Knows nothing yet; [`run`](Self::run) measures.
    pub fn new(registry: Arc<Registry>, interval: Duration) -> Arc<Self> {
        Arc::new(Self {
            registry,
            interval,
            kept: Mutex::default(),
            host: Mutex::default(),
            news: broadcast::Sender::new(ON_THE_WAY),
        })
    }

    /// Measures every launch each interval until the host stops.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut turns = tokio::time::interval(self.interval);
        // A machine that is too busy to measure in time is not helped by catching up.
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut measuring = Measuring::default();
        let mut earlier = None;
        while stop.run_until_cancelled(turns.tick()).await.is_some() {
            let telemetry = Arc::clone(&self);
            // Awaited also when the host stops: a round takes milliseconds.
            let round = tokio::task::spawn_blocking(move || {
                let problem = telemetry.measure(&mut measuring).err();
                (measuring, problem)
            });
            let Ok((returned, problem)) = round.await else { return };
            measuring = returned;
            let problem = problem.map(|problem| problem.to_string());
            if let Some(problem) = problem.as_ref().filter(|&problem| earlier.as_ref() != Some(problem)) {
                warn!(error = problem, "the processes of plugins cannot be measured");
            }
            earlier = problem;
        }
    }

    /// One round. Blocks: it reads `/proc`.
    fn measure(&self, measuring: &mut Measuring) -> Result<(), measure::MeasureError> {
        let launches = self.registry.launches();
        let round = measuring.round(&launches)?;
        let at = Timestamp::now();
        if let Some(Figures { cpu_percent, rss_bytes, fds, threads, .. }) = round.host {
            let sample = HostSample { at, cpu_percent, rss_bytes, fds, threads };
            *self.host.lock().unwrap_or_else(PoisonError::into_inner) = Some(sample);
        }
        let mut kept = self.lock();
        for (launch, figures) in round.launches {
            let Figures { cpu_percent, rss_bytes, fds, threads, processes } = figures;
            let sample = Arc::new(Sample {
                seq: kept.next_seq(),
                at,
                plugin: launch.plugin.clone(),
                instance: launch.process.instance,
                cpu_percent,
                rss_bytes,
                fds,
                threads,
                processes,
            });
            kept.add(Arc::clone(&sample));
            // Nobody listens, or somebody does: both are fine. Sent under the lock, so that the order
            // of what is sent is that of what is kept.
            let _ = self.news.send(sample);
        }
        kept.forget(at, |instance| launches.iter().any(|launch| launch.process.instance == instance));
        Ok(())
    }

    /// The samples of the last half hour of all launches of a plugin, the oldest first.
    pub fn history(&self, plugin: &PluginName) -> Vec<Arc<Sample>> {
        self.lock().of(plugin)
    }

    /// What the processes of one launch used in the last half hour, the oldest first.
    pub fn curve(&self, plugin: &PluginName, instance: InstanceId) -> Vec<ResourcePoint> {
        let samples = self.history(plugin).into_iter().filter(|sample| sample.instance == instance);
        let point = |sample: Arc<Sample>| ResourcePoint {
            at: sample.at,
            cpu: sample.cpu_percent,
            rss: sample.rss_bytes,
            fds: sample.fds,
            threads: sample.threads,
        };
        samples.map(point).collect()
    }

    /// The newest sample of each launch of a plugin that has processes at this moment, in the order in
    /// which they were started.
    pub fn latest(&self, plugin: &PluginName) -> Vec<Arc<Sample>> {
        let launches = self.registry.launches();
        let has_processes = |instance| launches.iter().any(|launch| launch.process.instance == instance);
        self.lock().latest(plugin, has_processes)
    }

    /// The number of the newest sample of any plugin; 0 before the first.
    pub fn newest(&self) -> u64 {
        self.lock().last_seq()
    }

    /// What is kept of all plugins with numbers above `seq`, the oldest first, and the number of the
    /// newest sample at that moment.
    pub fn after(&self, seq: u64) -> (Vec<Arc<Sample>>, u64) {
        let kept = self.lock();
        (kept.after(seq), kept.last_seq())
    }

    /// What the daemon itself costs; `None` before the first round.
    pub fn host(&self) -> Option<HostSample> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Every sample from now on. At most 1,024 wait for a subscriber; one that falls further behind
    /// loses the oldest, and is told how many.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Sample>> {
        self.news.subscribe()
    }

    /// How often is measured.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Everything that is known of a plugin.
    pub fn of(&self, record: &PluginRecord) -> PluginTelemetry {
        self.with(record, self.history(&record.entry.name))
    }

    /// The newest that is known of a plugin: of each launch with processes one sample.
    pub fn newest_of(&self, record: &PluginRecord) -> PluginTelemetry {
        self.with(record, self.latest(&record.entry.name))
    }

    fn with(&self, record: &PluginRecord, samples: Vec<Arc<Sample>>) -> PluginTelemetry {
        let own = record.sessions().filter_map(|instance| {
            let own = instance.telemetry()?;
            Some(OwnTelemetry { instance: instance.id, at: own.at, telemetry: own.telemetry.clone() })
        });
        PluginTelemetry {
            plugin: record.entry.name.clone(),
            interval_ms: u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX),
            samples,
            own: own.collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
