//! The seats of one version of a plugin, and what the version is while another one serves.
//!
//! Not who decides which version serves: a swap does. The invariant: a version that waits is never
//! started again by itself, and one that was dismissed is never started at all.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::seat::Seat;
use super::{Plugin, Wanted};
use crate::config::PluginEntry;
use crate::registry::{PluginRecord, TeamId};
use crate::store::RunOutcome;

/// The seats of one version.
#[derive(Debug)]
pub(super) struct Team {
    pub(super) id: TeamId,
    role: Mutex<Role>,
    /// One for each seat that there ever was; those beyond the count are wanted down.
    wanted: Mutex<Vec<watch::Sender<Wanted>>>,
    /// The last of its launches that failed.
    failure: watch::Sender<Option<LaunchFailure>>,
    /// How long its seats drain, where that is not as configured.
    drain: Mutex<Option<Duration>>,
    /// How many requests were not answered when its processes were ended.
    cut: AtomicU32,
    /// What its runs have come to, once a swap has decided.
    outcome: Mutex<RunOutcome>,
    /// Its seats that are empty end when it fires.
    dismissed: CancellationToken,
    /// Fires when somebody waits for its end.
    hurried: CancellationToken,
    seats: TaskTracker,
}

/// What a version is to its plugin.
#[derive(Debug, Clone)]
pub(super) enum Role {
    /// It serves, with the entry of the registry, and is started again by the restart policy.
    Serves,
    /// Another one serves, and the registry has that one's entry. It is not started again.
    Waits(Version),
}

/// What processes are started with.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) entry: Arc<PluginEntry>,
    /// The real path of its folder.
    pub(super) root: PathBuf,
}

/// A launch that failed.
#[derive(Debug, Clone)]
struct LaunchFailure {
    /// The word that it was started for.
    generation: u64,
    /// One sentence on how.
    reason: String,
}

impl Team {
    pub(super) fn new(id: TeamId, role: Role) -> Arc<Self> {
        let seats = TaskTracker::new();
        seats.close();
        Arc::new(Self {
            id,
            role: Mutex::new(role),
            wanted: Mutex::default(),
            failure: watch::Sender::new(None),
            drain: Mutex::default(),
            cut: AtomicU32::new(0),
            outcome: Mutex::new(RunOutcome::Stopped),
            dismissed: CancellationToken::new(),
            hurried: CancellationToken::new(),
            seats,
        })
    }

    pub(super) fn set_role(&self, role: Role) {
        *self.role.lock().expect("no holder of the lock panics") = role;
    }

    /// Whether another version serves.
    pub(super) fn waits(&self) -> bool {
        matches!(*self.role.lock().expect("no holder of the lock panics"), Role::Waits(_))
    }

    /// The plugin's record with the entry and the folder of this version.
    pub(super) fn record_of(&self, record: Arc<PluginRecord>) -> Arc<PluginRecord> {
        match &*self.role.lock().expect("no holder of the lock panics") {
            Role::Serves => record,
            Role::Waits(version) => {
                let Version { entry, root } = version.clone();
                Arc::new(PluginRecord { entry, root, ..(*record).clone() })
            }
        }
    }

    /// Brings it to so many seats. Further ones are wanted the same as the first; `first` is for where
    /// there is none yet. `before` is how many there were.
    pub(super) fn set_count(
        self: &Arc<Self>,
        plugin: &Arc<Plugin>,
        before: usize,
        count: usize,
        first: Wanted,
    ) {
        let mut wanted = self.lock_wanted();
        // Read under the lock: a stop must not come between this word and the seats that get it.
        let word = wanted.first().map_or(first, |wanted| *wanted.borrow());
        for (number, seat) in wanted.iter().enumerate() {
            if number >= count {
                seat.send_modify(|wanted| wanted.up = false);
            } else if number >= before {
                // A seat that was given up and comes back: what it stopped for is over.
                seat.send_modify(|seat| {
                    *seat = Wanted { generation: seat.generation.max(word.generation) + 1, ..word };
                });
            }
        }
        for number in wanted.len()..count {
            let (sender, receiver) = watch::channel(word);
            let seat = Seat::new(number, Arc::clone(plugin), Arc::clone(self), receiver);
            plugin.tasks.spawn(self.seats.track_future(seat.run()));
            wanted.push(sender);
        }
    }

    /// Gives the first `count` seats another word.
    pub(super) fn change(&self, count: usize, edit: impl Fn(Wanted) -> Wanted) {
        for wanted in self.lock_wanted().iter().take(count) {
            wanted.send_modify(|wanted| *wanted = edit(*wanted));
        }
    }

    /// Whether one of the first `count` seats is wanted up.
    pub(super) fn is_wanted(&self, count: usize) -> bool {
        self.lock_wanted().iter().take(count).any(|wanted| wanted.borrow().up)
    }

    /// Has the first `count` seats started anew, all for the same word; answers which.
    pub(super) fn start_anew(&self, count: usize) -> u64 {
        let wanted = self.lock_wanted();
        let generation = 1 + wanted.iter().map(|wanted| wanted.borrow().generation).max().unwrap_or(0);
        for wanted in wanted.iter().take(count) {
            wanted.send_modify(|wanted| *wanted = Wanted { up: true, generation, ..*wanted });
        }
        generation
    }

    /// Wants all of it down, for the last time: its seats go when they are empty. They drain so long.
    pub(super) fn dismiss(&self, drain: Duration) {
        *self.drain.lock().expect("no holder of the lock panics") = Some(drain);
        self.want_all_down();
        self.dismissed.cancel();
    }

    pub(super) fn want_all_down(&self) {
        for wanted in self.lock_wanted().iter() {
            wanted.send_modify(|wanted| wanted.up = false);
        }
    }

    /// Notes what its runs come to, which a swap has decided: to be said before they are ended.
    pub(super) fn ends_as(&self, outcome: RunOutcome) {
        *self.outcome.lock().expect("no holder of the lock panics") = outcome;
    }

    /// What a run of it comes to that somebody ends.
    pub(super) fn outcome(&self) -> RunOutcome {
        *self.outcome.lock().expect("no holder of the lock panics")
    }

    /// Completes when its seats are gone after it was dismissed, or the host has stopped.
    pub(super) async fn gone(&self) {
        self.seats.wait().await;
    }

    /// Completes when it was dismissed.
    pub(super) async fn dismissed(&self) {
        self.dismissed.cancelled().await;
    }

    /// It drains no longer than any other from here on: somebody waits for its end.
    pub(super) fn hurry(&self) {
        self.hurried.cancel();
    }

    /// Completes when somebody waits for its end.
    pub(super) async fn hurried(&self) {
        self.hurried.cancelled().await;
    }

    /// How long its seats drain, where that is not as configured.
    pub(super) fn drain(&self) -> Option<Duration> {
        *self.drain.lock().expect("no holder of the lock panics")
    }

    /// Counts requests that will not be answered.
    pub(super) fn cuts(&self, requests: u32) {
        self.cut.fetch_add(requests, Ordering::Relaxed);
    }

    /// How many requests were not answered when its processes were ended.
    pub(super) fn cut(&self) -> u32 {
        self.cut.load(Ordering::Relaxed)
    }

    /// Notes that a launch failed, which was started for the word of this generation.
    pub(super) fn failed(&self, generation: u64, reason: &str) {
        self.failure.send_replace(Some(LaunchFailure { generation, reason: reason.to_owned() }));
    }

    /// Completes when a launch has failed that was started for the word of this generation or a later
    /// one; answers how.
    pub(super) async fn failure_since(&self, generation: u64) -> String {
        let mut failures = self.failure.subscribe();
        let is_later = |failure: &Option<LaunchFailure>| {
            failure.as_ref().is_some_and(|it| it.generation >= generation)
        };
        let failure = failures.wait_for(is_later).await.expect("the sender lives in self").clone();
        failure.map(|failure| failure.reason).unwrap_or_default()
    }

    fn lock_wanted(&self) -> MutexGuard<'_, Vec<watch::Sender<Wanted>>> {
        self.wanted.lock().expect("no holder of the lock panics")
    }
}
