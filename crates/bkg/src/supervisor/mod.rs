//! Starts, watches and restarts the processes of plugins.
//!
//! Not who serves requests: the bus does that once a process has registered. Each instance of a plugin
//! has a seat, a task that brings its process to the wanted state and tells how it stands. The
//! invariant: `stopped` is said when nothing of a launch is left.

mod backoff;
pub mod environment;
pub mod exit;
pub mod folder;
mod output;
mod prepare;
pub mod processes;
mod seat;
pub mod spawn;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsString;
use std::sync::{Arc, PoisonError, RwLock};

use bkg_protocol::message::LogLevel;
use bkg_protocol::{InstanceId, PluginName, RawJson};
use serde_json::json;
use tokio::sync::{Mutex, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::config::{HostConfig, PluginEntry};
use crate::logs::{Logs, NewLine};
use crate::registry::process_table::ProcessTableError;
use crate::registry::{PrivateListener, Registry, State, Status};
use crate::store::{DataDir, Ledger, LedgerEntry, StoreError};

pub use spawn::{Spawner, SpawnerError};

/// Why the supervisor cannot work.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// No processes can be started.
    #[error(transparent)]
    Spawner(#[from] SpawnerError),
    /// What a killed host left cannot be found.
    #[error("what an earlier host left cannot be reaped: {0}")]
    Leftovers(#[from] ProcessTableError),
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] StoreError),
}

/// Ends what a killed host left of its launches, and nothing else, before anything new is started.
/// Answers the launches that are over.
///
/// # Errors
/// The ledger or the process table cannot be read.
pub async fn reap_leftovers(ledger: &Ledger) -> Result<Vec<LedgerEntry>, SupervisorError> {
    let contents = ledger.entries()?;
    for unreadable in &contents.unreadable {
        warn!(file = %unreadable.path.display(), reason = unreadable.reason, "a ledger entry cannot be read");
        ledger.discard(unreadable)?;
    }
    let leftovers = processes::reap_leftovers(&contents.entries).await?;
    for reaped in &leftovers {
        warn!(plugin = %reaped.plugin, instance = %reaped.instance, killed = reaped.killed.len(),
            survivors = reaped.survivors.len(), "an earlier host left processes behind");
    }
    let survived = |instance| {
        leftovers.iter().any(|reaped| reaped.instance == instance && !reaped.survivors.is_empty())
    };
    // Who could not be killed stays in the ledger: the next host tries again.
    let over: Vec<_> = contents.entries.into_iter().filter(|entry| !survived(entry.instance)).collect();
    for entry in &over {
        ledger.remove(entry.instance)?;
    }
    Ok(over)
}

/// Ends in the logs what has ended with an earlier host, which could not say so itself.
pub fn log_lost_runs(logs: &Logs, over: &[LedgerEntry]) {
    // Without a process it was never said to have started.
    for entry in over.iter().filter(|entry| entry.process.is_some()) {
        let line = NewLine::host(LogLevel::Warn, "ended with the host that started it")
            .instance(entry.instance)
            .fields(run_ended(None));
        logs.plugin(&entry.plugin).append(line);
    }
}

/// What marks the line with which a run begins.
fn run_started(program: &str, pid: u32) -> RawJson {
    RawJson::of(&json!({ "event": "run-started", "program": program, "pid": pid }))
}

/// What marks the line with which a run ends; without a cause where nobody saw it.
fn run_ended(exit: Option<ExitCause>) -> RawJson {
    RawJson::of(&json!({ "event": "run-ended", "exit": exit }))
}

use exit::ExitCause;
use seat::Seat;

/// What the supervisor works with.
#[derive(Debug)]
pub struct Supervision {
    /// The host's configuration.
    pub config: Arc<HostConfig>,
    /// Where statuses are written.
    pub registry: Arc<Registry>,
    /// Where output and events of plugins go.
    pub logs: Logs,
    /// The ledger and the plugins' directories.
    pub data: Arc<DataDir>,
    /// Who starts processes.
    pub spawner: Spawner,
    /// Where the listeners of launches go: to the bus.
    pub listeners: mpsc::Sender<PrivateListener>,
    /// The environment of the host, of which plugins see an allowed part.
    pub environment: Vec<(OsString, OsString)>,
}

/// What someone wants of a plugin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Wanted {
    up: bool,
    /// Counts restarts, and starts of what was not wanted: a process of an older count is replaced.
    generation: u64,
    /// Counts explicit starts: what rests begins again, what runs is left alone.
    starts: u64,
}

impl Wanted {
    /// The word that replaces what is wanted, and leaves alone what is not.
    fn replaced(self) -> Self {
        Self { generation: self.generation + u64::from(self.up), ..self }
    }

    /// Whether this word ends a process that was started for an earlier one.
    fn ends(self, serving: Self) -> bool {
        !self.up || self.generation != serving.generation
    }
}

/// The tasks that keep plugins in their wanted state.
#[derive(Debug)]
pub struct Supervisor {
    supervision: Arc<Supervision>,
    /// How many processes may be starting, over all plugins.
    starts: Arc<Semaphore>,
    plugins: RwLock<HashMap<PluginName, Arc<Row>>>,
    tasks: TaskTracker,
    /// Seats that are empty end when it fires.
    stop: CancellationToken,
}

/// A plugin with what is wanted of it, seat by seat.
#[derive(Debug)]
struct Row {
    plugin: Arc<Plugin>,
    /// One for each seat that there ever was; those beyond the count are wanted down.
    wanted: std::sync::Mutex<Vec<watch::Sender<Wanted>>>,
}

/// No plugin has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no plugin is called `{0}`: `bkg plugin list` shows those that are")]
pub struct UnknownPlugin(pub String);

/// What all seats of one plugin share.
#[derive(Debug)]
struct Plugin {
    name: PluginName,
    supervision: Arc<Supervision>,
    /// How many processes may be starting, over all plugins.
    starts: Arc<Semaphore>,
    /// Held while the folder is prepared: once for all seats.
    preparing: Mutex<()>,
    /// Why the last word came, for as long as what follows from it has no reason of its own.
    because: std::sync::Mutex<Option<String>>,
    /// How each seat stands; what they add up to is the plugin's status.
    seats: std::sync::Mutex<Seats>,
}

/// How the seats of a plugin stand.
#[derive(Debug)]
struct Seats {
    /// How many there are to be; those beyond it count only until they are empty.
    count: usize,
    statuses: Vec<Status>,
}

impl Supervisor {
    /// Seats for every plugin of the registry, all empty; then starts those with `autostart`.
    pub fn start(supervision: Supervision) -> Self {
        let supervision = Arc::new(supervision);
        let starts = Arc::new(Semaphore::new(supervision.config.supervisor.parallel_starts));
        remove_runtime_configs(&supervision.data);
        let supervisor = Self {
            supervision: Arc::clone(&supervision),
            starts,
            plugins: RwLock::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        supervisor.tasks.close();
        for record in supervision.registry.view().plugins() {
            supervisor.add(&record.entry);
        }
        supervisor
    }

    /// Seats for one more plugin, which the registry knows already; starts it if it has `autostart`.
    pub fn add(&self, entry: &PluginEntry) {
        let name = entry.name.clone();
        let first = Wanted { up: entry.autostart, ..Wanted::default() };
        let plugin = Arc::new(Plugin {
            name: name.clone(),
            supervision: Arc::clone(&self.supervision),
            starts: Arc::clone(&self.starts),
            preparing: Mutex::new(()),
            because: std::sync::Mutex::default(),
            seats: std::sync::Mutex::new(Seats { count: 0, statuses: Vec::new() }),
        });
        let row = Arc::new(Row { plugin, wanted: std::sync::Mutex::default() });
        let mut plugins = self.plugins.write().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Vacant(place) = plugins.entry(name) {
            place.insert(Arc::clone(&row));
            row.set_count(entry.instances as usize, first, &self.tasks, &self.stop);
        }
    }

    /// Brings a plugin to so many instances: further ones are started if it is wanted up, those beyond
    /// the number are stopped.
    ///
    /// # Errors
    /// The name is not known.
    pub fn set_instances(&self, plugin: &str, count: u32) -> Result<(), UnknownPlugin> {
        let row = self.row(plugin)?;
        row.set_count(count as usize, Wanted::default(), &self.tasks, &self.stop);
        Ok(())
    }

    /// Wants a plugin up; one that is up stays as it is, one that rests or failed is started.
    ///
    /// # Errors
    /// The name is not known.
    pub fn want_up(&self, plugin: &str) -> Result<(), UnknownPlugin> {
        // A seat that has not yet heard of the stop before this must not take both for nothing.
        self.change(plugin, None, |wanted| Wanted {
            up: true,
            generation: wanted.generation + u64::from(!wanted.up),
            starts: wanted.starts + 1,
        })
        .map(drop)
    }

    /// Wants a plugin down.
    ///
    /// # Errors
    /// The name is not known.
    pub fn want_down(&self, plugin: &str) -> Result<(), UnknownPlugin> {
        self.change(plugin, None, |wanted| Wanted { up: false, ..wanted }).map(drop)
    }

    /// The same, with the reason that is shown; answers whether it was wanted up.
    ///
    /// # Errors
    /// The name is not known.
    pub fn want_down_because(&self, plugin: &str, why: &str) -> Result<bool, UnknownPlugin> {
        self.change(plugin, Some(why), |wanted| Wanted { up: false, ..wanted })
    }

    /// Wants a plugin's processes replaced, or started if there are none.
    ///
    /// # Errors
    /// The name is not known.
    pub fn want_again(&self, plugin: &str) -> Result<(), UnknownPlugin> {
        let again = |wanted: Wanted| Wanted { up: true, generation: wanted.generation + 1, ..wanted };
        self.change(plugin, None, again).map(drop)
    }

    /// Wants a plugin's processes replaced where they are wanted; what somebody stopped stays stopped.
    ///
    /// # Errors
    /// The name is not known.
    pub fn replace(&self, plugin: &str) -> Result<(), UnknownPlugin> {
        self.change(plugin, None, Wanted::replaced).map(drop)
    }

    /// The same, with the reason that is shown until they run; answers whether they are wanted. What
    /// waits to be started again is started at once, as if it had never failed.
    ///
    /// # Errors
    /// The name is not known.
    pub fn replace_because(&self, plugin: &str, why: &str) -> Result<bool, UnknownPlugin> {
        self.change(plugin, Some(why), Wanted::replaced)
    }

    /// Gives every seat of a plugin another word; answers whether one was wanted up before.
    fn change(
        &self,
        plugin: &str,
        because: Option<&str>,
        edit: impl Fn(Wanted) -> Wanted,
    ) -> Result<bool, UnknownPlugin> {
        let row = self.row(plugin)?;
        let wanted = row.wanted.lock().expect("no holder of the lock panics");
        let count = row.plugin.count();
        let was_up = wanted.iter().take(count).any(|wanted| wanted.borrow().up);
        if was_up || because.is_none() {
            // Before the word: whoever acts on it finds the reason.
            row.plugin.set_because(because.map(str::to_owned));
        }
        for wanted in wanted.iter().take(count) {
            wanted.send_modify(|wanted| *wanted = edit(*wanted));
        }
        Ok(was_up)
    }

    fn row(&self, plugin: &str) -> Result<Arc<Row>, UnknownPlugin> {
        let plugins = self.plugins.read().unwrap_or_else(PoisonError::into_inner);
        plugins.get(plugin).cloned().ok_or_else(|| UnknownPlugin(plugin.to_owned()))
    }

    /// Stops every plugin, all at once, and returns when nothing of any is left.
    pub async fn shut_down(&self) {
        self.stop.cancel();
        for row in self.plugins.read().unwrap_or_else(PoisonError::into_inner).values() {
            for wanted in row.wanted.lock().expect("no holder of the lock panics").iter() {
                wanted.send_modify(|wanted| wanted.up = false);
            }
        }
        self.tasks.wait().await;
    }
}

impl Row {
    /// Further seats are wanted the same as the first; `first` is for where there is none yet.
    fn set_count(&self, count: usize, first: Wanted, tasks: &TaskTracker, stop: &CancellationToken) {
        let mut wanted = self.wanted.lock().expect("no holder of the lock panics");
        // Read under the lock: a stop must not come between this word and the seats that get it.
        let word = wanted.first().map_or(first, |wanted| *wanted.borrow());
        let before = self.plugin.set_count(count);
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
            tasks.spawn(Seat::new(number, Arc::clone(&self.plugin), receiver, stop.clone()).run());
            wanted.push(sender);
        }
    }
}

impl Plugin {
    /// Notes how a seat stands and what that makes of the plugin.
    fn set_status(&self, seat: usize, state: State, reason: Option<String>, restarts: u32) {
        let because = self.because(state);
        let reason = reason.or(because);
        let status = Status { restarts, ..Status::now(state, reason) };
        // Held until the sum is in the registry: an older sum must not arrive there after a newer one.
        let mut seats = self.seats.lock().expect("no holder of the lock panics");
        let known = &mut seats.statuses[seat];
        if (known.state, &known.reason, known.restarts) == (state, &status.reason, restarts) {
            return;
        }
        match state {
            State::Failed | State::Backoff | State::Unresponsive => {
                warn!(plugin = %self.name, state = state.as_str(), reason = status.reason, "plugin status changed");
            }
            _ => {
                info!(plugin = %self.name, state = state.as_str(), reason = status.reason, "plugin status changed");
            }
        }
        *known = status;
        self.supervision.registry.set_status(&self.name, seats.sum_up());
    }

    fn set_because(&self, because: Option<String>) {
        *self.because.lock().expect("no holder of the lock panics") = because;
    }

    /// Why a state without a reason of its own came about; once it runs or has failed, that is over.
    fn because(&self, state: State) -> Option<String> {
        let mut because = self.because.lock().expect("no holder of the lock panics");
        match state {
            State::Draining | State::Preparing | State::Starting | State::Stopped => because.clone(),
            State::Running | State::Degraded | State::Unresponsive | State::Backoff | State::Failed => {
                *because = None;
                None
            }
        }
    }

    fn count(&self) -> usize {
        self.seats.lock().expect("no holder of the lock panics").count
    }

    /// Notes how many seats there are to be, and answers how many there were.
    fn set_count(&self, count: usize) -> usize {
        let mut seats = self.seats.lock().expect("no holder of the lock panics");
        if seats.statuses.len() < count {
            seats.statuses.resize(count, Status::now(State::Stopped, None));
        }
        let before = std::mem::replace(&mut seats.count, count);
        if before > 0 {
            self.supervision.registry.set_status(&self.name, seats.sum_up());
        }
        before
    }

    /// Adds a line of the host's own to the plugin's log, about no launch.
    fn log(&self, level: LogLevel, message: impl Into<String>) {
        self.append(NewLine::host(level, message));
    }

    /// Adds a line of the host's own about a launch.
    fn log_run(&self, run: InstanceId, level: LogLevel, message: impl Into<String>) {
        self.append(NewLine::host(level, message).instance(run));
    }

    fn append(&self, line: NewLine) {
        self.supervision.logs.plugin(&self.name).append(line);
    }
}

/// What a killed host handed to processes that are gone, whole or half-written: it may hold secrets.
/// Also that of plugins which are no longer known.
fn remove_runtime_configs(data: &DataDir) {
    for plugin in std::fs::read_dir(data.plugins()).into_iter().flatten().flatten() {
        for file in std::fs::read_dir(plugin.path().join("run")).into_iter().flatten().flatten() {
            if let Err(error) = std::fs::remove_file(file.path()) {
                warn!(path = %file.path().display(), %error, "an old runtime configuration cannot be removed");
            }
        }
    }
}

/// What several seats make of their plugin: what someone asked for is shown until all have done it;
/// else it runs if one does, and says how many do; else the one that is the least at rest speaks.
fn sum_up<'a>(seats: impl DoubleEndedIterator<Item = &'a Status> + Clone) -> Status {
    let rank = |status: &Status| match status.state {
        State::Draining => 9,
        // Nobody waits for what the supervisor starts again by itself.
        State::Preparing if status.restarts == 0 => 8,
        State::Starting if status.restarts == 0 => 7,
        State::Running => 6,
        State::Degraded => 5,
        State::Unresponsive => 4,
        State::Preparing | State::Starting => 3,
        State::Backoff => 2,
        State::Failed => 1,
        State::Stopped => 0,
    };
    let first = seats.clone().rev().max_by_key(|status| rank(status)).expect("a plugin has a seat");
    let mut summary = first.clone();
    summary.restarts = seats.clone().map(|status| status.restarts).sum();
    let running = seats.clone().filter(|status| status.state == State::Running).count();
    let all = seats.count();
    if summary.state == State::Running && running < all {
        summary.reason = Some(format!("{running} of {all} instances run"));
    }
    summary
}

impl Seats {
    fn sum_up(&self) -> Status {
        let is_counted =
            |(number, status): &(usize, &Status)| *number < self.count || status.state != State::Stopped;
        sum_up(self.statuses.iter().enumerate().filter(is_counted).map(|(_, status)| status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_seats_are_summed_up_by_the_one_that_matters() {
        use State::{Backoff, Draining, Failed, Preparing, Running, Starting, Stopped, Unresponsive};
        let asked = 0;
        let again = 1;
        let cases = [
            ([(Running, asked), (Running, asked), (Running, asked)], (Running, None)),
            ([(Backoff, again), (Running, asked), (Running, asked)], (Running, Some(2))),
            ([(Running, asked), (Starting, again), (Running, asked)], (Running, Some(2))),
            ([(Running, asked), (Starting, asked), (Running, asked)], (Starting, None)),
            ([(Running, asked), (Starting, asked), (Preparing, asked)], (Preparing, None)),
            ([(Stopped, asked), (Draining, asked), (Stopped, asked)], (Draining, None)),
            ([(Stopped, asked), (Running, asked), (Draining, asked)], (Draining, None)),
            ([(Unresponsive, asked), (Running, asked), (Running, asked)], (Running, Some(2))),
            ([(Failed, asked), (Stopped, asked), (Stopped, asked)], (Failed, None)),
            ([(Failed, asked), (Backoff, again), (Failed, asked)], (Backoff, None)),
            ([(Stopped, asked), (Stopped, asked), (Stopped, asked)], (Stopped, None)),
        ];
        for (seats, (state, running)) in cases {
            let seats = seats.map(|(state, restarts)| Status { restarts, ..Status::now(state, None) });
            let sum = sum_up(seats.iter());
            let reason = running.map(|running| format!("{running} of 3 instances run"));
            assert_eq!((sum.state, sum.reason), (state, reason), "{seats:?}");
        }
    }
}
