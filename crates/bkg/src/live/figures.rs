//! One socket's place in the samples of what plugins cost.
//!
//! Samples come as they are taken; what a socket missed comes from the half hour that is kept. The
//! invariant: samples come in the order of their numbers, each once, and what is not kept any more is
//! counted in a gap.

use std::collections::VecDeque;
use std::sync::Arc;

use bkg_protocol::PluginName;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::message::{ServerMessage, Text, Topic};
use crate::metrics::Metrics;
use crate::registry::Reach;
use crate::telemetry::{Sample, Telemetry};

/// Where a socket begins.
#[derive(Debug, Clone, Copy)]
pub(super) enum After {
    /// With the next sample.
    Newest,
    /// With the sample after this one.
    Number(u64),
    /// With the oldest that is kept.
    Everything,
}

/// One socket's place in the samples.
#[derive(Debug)]
pub(super) struct TelemetryFeed {
    telemetry: Arc<Telemetry>,
    /// Holds none of its own: one that is too far behind is told so.
    news: broadcast::Receiver<Arc<Sample>>,
    /// The number of the last sample that was looked at.
    position: u64,
    /// What was missed and not yet taken: at most what is kept.
    missed: VecDeque<Arc<Sample>>,
    /// How many of the missed are not kept any more.
    lost: u64,
    reach: Arc<Reach>,
    only: Option<PluginName>,
    /// Where it is counted what was missed.
    metrics: Arc<Metrics>,
}

impl TelemetryFeed {
    /// A place, and the number that it goes on from; none if that is the oldest.
    pub(super) fn new(
        telemetry: &Arc<Telemetry>,
        after: After,
        reach: Arc<Reach>,
        only: Option<PluginName>,
    ) -> (Self, Option<u64>) {
        // Before anything is read: what comes in between comes twice, and is passed over the second time.
        let news = telemetry.subscribe();
        let telemetry = Arc::clone(telemetry);
        let (missed, lost) = (VecDeque::new(), 0);
        let metrics = Arc::default();
        let mut feed = Self { telemetry, news, position: 0, missed, lost, reach, only, metrics };
        let from = match after {
            After::Newest => {
                feed.position = feed.telemetry.newest();
                Some(feed.position)
            }
            After::Number(seq) => {
                feed.position = seq;
                feed.lost = feed.look_back();
                Some(seq)
            }
            After::Everything => {
                feed.look_back();
                None
            }
        };
        (feed, from)
    }

    /// The same, counting there what is missed.
    pub(super) fn counted(self, metrics: &Arc<Metrics>) -> Self {
        Self { metrics: Arc::clone(metrics), ..self }
    }

    /// Takes what is kept from the position on, and answers how much is not.
    fn look_back(&mut self) -> u64 {
        let (kept, newest) = self.telemetry.after(self.position);
        let lost = newest.saturating_sub(self.position).saturating_sub(kept.len() as u64);
        if kept.is_empty() {
            self.position = newest;
        }
        self.missed.extend(kept);
        lost
    }

    /// The next message; `None` when nothing is measured any more.
    pub(super) async fn next(&mut self) -> Option<Text> {
        loop {
            if self.lost > 0 {
                let missed = std::mem::take(&mut self.lost);
                self.metrics.missed_live_events.add(missed);
                let plugin_id = self.only.as_ref().map(ToString::to_string);
                return Some(ServerMessage::Gap { topic: Topic::Telemetry, plugin_id, missed }.text());
            }
            let sample = match self.missed.pop_front() {
                Some(sample) => sample,
                None => match self.news.recv().await {
                    Ok(sample) => sample,
                    Err(RecvError::Lagged(_)) => {
                        self.lost = self.look_back();
                        continue;
                    }
                    Err(RecvError::Closed) => return None,
                },
            };
            if sample.seq <= self.position {
                continue;
            }
            self.position = sample.seq;
            if self.sees(&sample.plugin) {
                return Some(event(sample));
            }
        }
    }

    fn sees(&self, plugin: &PluginName) -> bool {
        self.only.as_ref().is_none_or(|only| only == plugin) && self.reach.has_plugin(plugin)
    }
}

fn event(sample: Arc<Sample>) -> Text {
    let message = ServerMessage::Telemetry {
        topic: Topic::Telemetry,
        plugin_id: Some(sample.plugin.to_string()),
        seq: sample.seq,
        payload: sample,
    };
    message.text()
}
