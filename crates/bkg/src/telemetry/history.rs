//! The samples that are kept: half an hour of each launch, and of a few launches that are over.
//!
//! Pure state without a clock. The invariant: one plugin never keeps more than its launches that have
//! processes and [`PAST_LAUNCHES`] others, each with at most [`SAMPLES`] samples of about 150 bytes. At
//! the default interval that is 55 kB for a launch, half a megabyte for a plugin that fails all the
//! time. Called by `mod`.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bkg_protocol::{InstanceId, PluginName};
use jiff::{SignedDuration, Timestamp};

use super::Sample;

/// How long a sample is kept.
const KEPT_FOR: SignedDuration = SignedDuration::from_mins(30);
/// How many samples of one launch are kept: half an hour, unless the interval is below a second.
const SAMPLES: usize = 1_800;
/// How many launches of one plugin are kept that are over.
const PAST_LAUNCHES: usize = 8;

/// What is kept of all plugins.
#[derive(Debug, Default)]
pub(super) struct History {
    last_seq: u64,
    /// The launches of each plugin in the order in which they were first seen.
    plugins: HashMap<PluginName, Vec<Kept>>,
}

/// What is kept of one launch.
#[derive(Debug)]
struct Kept {
    instance: InstanceId,
    samples: VecDeque<Arc<Sample>>,
}

impl History {
    /// The number of the next sample.
    pub(super) fn next_seq(&mut self) -> u64 {
        self.last_seq += 1;
        self.last_seq
    }

    /// The number of the newest sample; 0 before the first.
    pub(super) fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// All that is kept with numbers above `seq`, the oldest first.
    pub(super) fn after(&self, seq: u64) -> Vec<Arc<Sample>> {
        let kept = self.plugins.values().flatten().flat_map(|kept| {
            let newest_first = kept.samples.iter().rev();
            newest_first.take_while(|sample| sample.seq > seq).cloned()
        });
        let mut samples: Vec<_> = kept.collect();
        samples.sort_by_key(|sample| sample.seq);
        samples
    }

    pub(super) fn add(&mut self, sample: Arc<Sample>) {
        let launches = self.plugins.entry(sample.plugin.clone()).or_default();
        let instance = sample.instance;
        let place = launches.iter().position(|kept| kept.instance == instance).unwrap_or_else(|| {
            launches.push(Kept { instance, samples: VecDeque::new() });
            launches.len() - 1
        });
        let samples = &mut launches[place].samples;
        if samples.len() == SAMPLES {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    /// Drops what is too old, and the oldest of the launches that are over.
    pub(super) fn forget(&mut self, now: Timestamp, has_processes: impl Fn(InstanceId) -> bool) {
        self.plugins.retain(|_, launches| {
            for kept in launches.iter_mut() {
                // Also from a time to come: a clock that was set back would keep them for as long.
                let is_old = |sample: &Arc<Sample>| now.duration_since(sample.at).abs() > KEPT_FOR;
                let old = kept.samples.iter().take_while(|sample| is_old(sample)).count();
                kept.samples.drain(..old);
            }
            launches.retain(|kept| !kept.samples.is_empty());
            let over = launches.iter().filter(|kept| !has_processes(kept.instance)).count();
            let mut surplus = over.saturating_sub(PAST_LAUNCHES);
            launches.retain(|kept| {
                let goes = surplus > 0 && !has_processes(kept.instance);
                surplus -= usize::from(goes);
                !goes
            });
            !launches.is_empty()
        });
    }

    /// All samples of a plugin, the oldest first.
    pub(super) fn of(&self, plugin: &PluginName) -> Vec<Arc<Sample>> {
        let launches = self.plugins.get(plugin).into_iter().flatten();
        let mut samples: Vec<_> = launches.flat_map(|kept| &kept.samples).cloned().collect();
        samples.sort_by_key(|sample| sample.seq);
        samples
    }

    /// The newest sample of each launch that has processes.
    pub(super) fn latest(
        &self,
        plugin: &PluginName,
        has_processes: impl Fn(InstanceId) -> bool,
    ) -> Vec<Arc<Sample>> {
        let launches = self.plugins.get(plugin).into_iter().flatten();
        let there = launches.filter(|kept| has_processes(kept.instance));
        there.filter_map(|kept| kept.samples.back().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin() -> PluginName {
        "p".parse().unwrap()
    }

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn add(history: &mut History, instance: InstanceId, at: i64) {
        let sample = Sample {
            seq: history.next_seq(),
            at: second(at),
            plugin: plugin(),
            instance,
            cpu_percent: 0.0,
            rss_bytes: 0,
            fds: 0,
            threads: 1,
            processes: 1,
        };
        history.add(Arc::new(sample));
    }

    fn seconds(samples: &[Arc<Sample>]) -> Vec<i64> {
        samples.iter().map(|sample| sample.at.as_second()).collect()
    }

    #[test]
    fn half_an_hour_is_kept_and_a_launch_without_samples_is_forgotten() {
        let (mut history, first, second_launch) =
            (History::default(), InstanceId::new(), InstanceId::new());
        for at in [0, 100, 200] {
            add(&mut history, first, at);
        }
        add(&mut history, second_launch, 1_900);
        history.forget(second(1_900), |instance| instance == second_launch);
        assert_eq!(seconds(&history.of(&plugin())), [100, 200, 1_900]);
        let latest = history.latest(&plugin(), |instance| instance == second_launch);
        assert_eq!(seconds(&latest), [1_900], "the other is over");
        history.forget(second(9_000), |_| false);
        assert!(history.plugins.is_empty());
    }

    #[test]
    fn the_oldest_past_launches_go_first_and_those_with_processes_stay() {
        let mut history = History::default();
        let launches: Vec<InstanceId> = (0..=PAST_LAUNCHES + 2).map(|_| InstanceId::new()).collect();
        for (at, launch) in launches.iter().enumerate() {
            add(&mut history, *launch, at as i64);
        }
        history.forget(second(20), |instance| instance == launches[0]);
        let kept: Vec<i64> = seconds(&history.of(&plugin()));
        assert_eq!(kept.len(), 1 + PAST_LAUNCHES);
        assert_eq!(kept[..2], [0, 3], "the first has processes, the next two are over");
    }

    #[test]
    fn one_launch_keeps_a_bounded_number_of_samples() {
        let (mut history, launch) = (History::default(), InstanceId::new());
        for _ in 0..SAMPLES + 5 {
            add(&mut history, launch, 0);
        }
        let kept = history.of(&plugin());
        assert_eq!((kept.len(), kept[0].seq), (SAMPLES, 6));
    }
}
