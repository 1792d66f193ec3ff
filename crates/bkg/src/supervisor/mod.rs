//! Starts, watches and restarts the processes of plugins.
//!
//! Not who serves requests: the bus does that once a process has registered. Each instance of a plugin
//! has a seat, a task that brings its process to the wanted state and tells how it stands. The
//! invariant: `stopped` is said when nothing of a launch is left.

mod backoff;
pub mod chronicle;
pub mod confine;
pub mod environment;
pub mod exit;
pub mod folder;
mod lookout;
mod output;
mod prepare;
pub(crate) mod probe;
pub mod processes;
mod requires;
mod seat;
pub mod spawn;
mod swap;
mod swapping;
mod team;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsString;
use std::sync::{Arc, PoisonError, RwLock};

use bkg_protocol::message::LogLevel;
use bkg_protocol::{InstanceId, PluginName, RawJson};
use serde_json::json;
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::config::{HostConfig, PluginEntry};
use crate::logs::{Logs, NewLine};
use crate::registry::process_table::ProcessTableError;
use crate::registry::{PrivateListener, Registry, State, Status, TeamId};
use crate::store::{DataDir, Ledger, LedgerEntry, StoreError};

pub use confine::Cgroups;
pub use spawn::{Spawner, SpawnerError};
pub use swap::{Share, SwapOrder, SwapOutcome, SwapRefused, SwapStage, SwapTicket};

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

use chronicle::Chronicler;
use exit::ExitCause;
use swapping::{Interruption, Underway};
use team::{Role, Team};

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
    /// Who keeps what is told of plugins.
    pub chronicler: Arc<Chronicler>,
    /// Who starts processes.
    pub spawner: Spawner,
    /// The cgroups that launches can have.
    pub cgroups: Arc<Cgroups>,
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
    /// How many `prepare.sh` may run: as many again, since one that builds must not keep others from starting.
    prepares: Arc<Semaphore>,
    plugins: RwLock<HashMap<PluginName, Arc<Row>>>,
    tasks: TaskTracker,
    /// Seats that are empty end when it fires.
    stop: CancellationToken,
}

/// A plugin with what is wanted of it, seat by seat.
#[derive(Debug)]
struct Row {
    plugin: Arc<Plugin>,
    teams: std::sync::Mutex<Teams>,
}

/// The versions of a plugin that have seats.
#[derive(Debug)]
struct Teams {
    /// The one that serves.
    serving: Arc<Team>,
    /// All others: at most one that is to take over, and those that finish what they have.
    others: Vec<Arc<Team>>,
    /// The number of the newest.
    newest: TeamId,
    /// How many swaps there were.
    swaps: u64,
    /// The last swap, until it is settled.
    swap: Option<Underway>,
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
    /// How many `prepare.sh` may run: as many again, since one that builds must not keep others from starting.
    prepares: Arc<Semaphore>,
    /// Where seats and swaps run.
    tasks: TaskTracker,
    /// Seats that are empty end when it fires, and swaps.
    stop: CancellationToken,
    /// Held while the folder is prepared: once for all seats.
    preparing: Mutex<()>,
    /// Why the last word came, for as long as what follows from it has no reason of its own.
    because: std::sync::Mutex<Option<String>>,
    /// How each seat stands; what those of the version that serves add up to is the plugin's status.
    board: std::sync::Mutex<Board>,
}

/// How the seats of every version of a plugin stand.
#[derive(Debug, Default)]
struct Board {
    serving: TeamId,
    teams: HashMap<TeamId, Seats>,
}

/// How the seats of one version stand.
#[derive(Debug, Default)]
struct Seats {
    /// How many there are to be; those beyond it count only until they are empty.
    count: usize,
    statuses: Vec<Status>,
}

impl Supervisor {
    /// Seats for every plugin of the registry, all empty; then starts those with `autostart`.
    pub fn start(supervision: Supervision) -> Self {
        let supervision = Arc::new(supervision);
        let at_once = || Arc::new(Semaphore::new(supervision.config.supervisor.parallel_starts));
        let (starts, prepares) = (at_once(), at_once());
        remove_runtime_configs(&supervision.data);
        let supervisor = Self {
            supervision: Arc::clone(&supervision),
            starts,
            prepares,
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

    /// Starts a plugin for a request that needs it, unless somebody stopped it. One that is on its way is
    /// left alone, so that many requests make one start.
    pub fn start_on_demand(&self, plugin: &PluginName) {
        // Its name was in the registry a moment ago, and names stay.
        let Ok(row) = self.row(plugin.as_str()) else { return };
        // Under the lock under which every other word is given: a stop comes before this look, and is seen
        // by it, or after this start, and ends it.
        let teams = row.lock_teams();
        let is_due = self
            .supervision
            .registry
            .plugin(plugin.as_str())
            .is_some_and(|record| record.starts_on_demand() && record.status.state == State::Stopped);
        if !is_due {
            return;
        }
        row.plugin.set_because(Some("a request needs it".to_owned()));
        teams.serving.change(row.plugin.count(teams.serving.id), |wanted| Wanted {
            up: true,
            generation: wanted.generation + u64::from(!wanted.up),
            starts: wanted.starts + 1,
        });
    }

    /// Seats for one more plugin, which the registry knows already; starts it if it has `autostart`.
    pub fn add(&self, entry: &PluginEntry) {
        let name = entry.name.clone();
        let first = Wanted { up: entry.autostart, ..Wanted::default() };
        let plugin = Arc::new(Plugin {
            name: name.clone(),
            supervision: Arc::clone(&self.supervision),
            starts: Arc::clone(&self.starts),
            prepares: Arc::clone(&self.prepares),
            tasks: self.tasks.clone(),
            stop: self.stop.clone(),
            preparing: Mutex::new(()),
            because: std::sync::Mutex::default(),
            board: std::sync::Mutex::default(),
        });
        self.tell_requirements(&plugin);
        let row = Arc::new(Row::new(plugin));
        let mut plugins = self.plugins.write().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Vacant(place) = plugins.entry(name) {
            place.insert(Arc::clone(&row));
            row.set_count(entry.instances as usize, first);
        }
    }

    /// Says in the plugin's log what it requires in vain, or of itself.
    fn tell_requirements(&self, plugin: &Plugin) {
        let view = self.supervision.registry.view();
        let Some(record) = view.plugin(plugin.name.as_str()) else { return };
        for unknown in requires::unknown(&view, record) {
            let line = format!(
                "it requires `{unknown}`, which no plugin is called and none of them offers: it is not waited for"
            );
            plugin.log(LogLevel::Info, line);
        }
        if let Some(circle) = requires::circle(&view, &plugin.name) {
            let path = circle.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" requires ");
            let line = format!("what it requires goes in a circle and is not waited for there: {path}");
            warn!(plugin = %plugin.name, circle = path, "plugins require one another in a circle");
            plugin.log(LogLevel::Warn, line);
        }
    }

    /// Brings a plugin to so many instances: further ones are started if it is wanted up, those beyond
    /// the number are stopped.
    ///
    /// # Errors
    /// The name is not known.
    pub fn set_instances(&self, plugin: &str, count: u32) -> Result<(), UnknownPlugin> {
        let row = self.row(plugin)?;
        row.set_count(count as usize, Wanted::default());
        Ok(())
    }

    /// Wants a plugin up; one that is up stays as it is, one that rests or failed is started.
    ///
    /// # Errors
    /// The name is not known.
    pub fn want_up(&self, plugin: &str) -> Result<(), UnknownPlugin> {
        self.release(plugin)?;
        // A seat that has not yet heard of the stop before this must not take both for nothing.
        self.change(plugin, None, None, |wanted| Wanted {
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
        self.hold(plugin)?;
        let stopped = Some(Interruption::Stopped);
        self.change(plugin, None, stopped, |wanted| Wanted { up: false, ..wanted }).map(drop)
    }

    /// The same, with the reason that is shown; answers whether it was wanted up.
    ///
    /// # Errors
    /// The name is not known.
    pub fn want_down_because(&self, plugin: &str, why: &str) -> Result<bool, UnknownPlugin> {
        self.hold(plugin)?;
        let stopped = Some(Interruption::Stopped);
        self.change(plugin, Some(why), stopped, |wanted| Wanted { up: false, ..wanted })
    }

    /// Wants a plugin's processes replaced, or started if there are none.
    ///
    /// # Errors
    /// The name is not known.
    pub fn want_again(&self, plugin: &str) -> Result<(), UnknownPlugin> {
        self.release(plugin)?;
        let again = |wanted: Wanted| Wanted { up: true, generation: wanted.generation + 1, ..wanted };
        self.change(plugin, None, Some(Interruption::Restarted), again).map(drop)
    }

    /// Wants a plugin's processes replaced where they are wanted; what somebody stopped stays stopped.
    ///
    /// # Errors
    /// The name is not known.
    pub fn replace(&self, plugin: &str) -> Result<(), UnknownPlugin> {
        self.change(plugin, None, Some(Interruption::Restarted), Wanted::replaced).map(drop)
    }

    /// The same, with the reason that is shown until they run; answers whether they are wanted. What
    /// waits to be started again is started at once, as if it had never failed.
    ///
    /// # Errors
    /// The name is not known.
    pub fn replace_because(&self, plugin: &str, why: &str) -> Result<bool, UnknownPlugin> {
        self.change(plugin, Some(why), Some(Interruption::Restarted), Wanted::replaced)
    }

    /// Has another version of a plugin take over: the new version starts beside the one that serves, and
    /// takes its place when all its instances are registered, well, and have answered their probe. Until
    /// then everything stays as it is, and it stays so if the new version fails. A swap before, which is
    /// not decided yet, ends.
    ///
    /// Where two versions may not run side by side, or none runs, the new one is started in the place of
    /// the one before, and that one again if it fails.
    ///
    /// # Errors
    /// Nothing was begun.
    pub fn swap(&self, plugin: &str, order: SwapOrder) -> Result<SwapTicket, SwapRefused> {
        self.row(plugin)?.swap(order)
    }

    /// Whether a plugin is wanted up; `false` for a name that is not known.
    pub fn is_wanted(&self, plugin: &str) -> bool {
        self.row(plugin).is_ok_and(|row| row.is_wanted())
    }

    /// Ends the swap of a plugin that is not decided yet, as if another had been ordered.
    ///
    /// # Errors
    /// The name is not known.
    pub fn give_up_swap(&self, plugin: &str) -> Result<(), UnknownPlugin> {
        self.row(plugin)?.lock_teams().interrupt(Interruption::Superseded);
        Ok(())
    }

    /// Gives every seat of the version that serves another word; answers whether one was wanted up
    /// before. A swap that is not decided yet ends, if the word is an `interruption` to it.
    fn change(
        &self,
        plugin: &str,
        because: Option<&str>,
        interruption: Option<Interruption>,
        edit: impl Fn(Wanted) -> Wanted,
    ) -> Result<bool, UnknownPlugin> {
        let row = self.row(plugin)?;
        let teams = row.lock_teams();
        let count = row.plugin.count(teams.serving.id);
        let was_up = teams.serving.is_wanted(count);
        if let Some(interruption) = interruption {
            teams.interrupt(interruption);
        }
        if interruption == Some(Interruption::Stopped) {
            teams.others.iter().for_each(|team| team.hurry());
        }
        if was_up || because.is_none() {
            // Before the word: whoever acts on it finds the reason.
            row.plugin.set_because(because.map(str::to_owned));
        }
        teams.serving.change(count, edit);
        Ok(was_up)
    }

    /// Requests do not start it from here on.
    fn hold(&self, plugin: &str) -> Result<(), UnknownPlugin> {
        self.supervision.registry.hold(&self.row(plugin)?.plugin.name);
        Ok(())
    }

    /// Requests may start it when it rests.
    fn release(&self, plugin: &str) -> Result<(), UnknownPlugin> {
        self.supervision.registry.release(&self.row(plugin)?.plugin.name);
        Ok(())
    }

    fn row(&self, plugin: &str) -> Result<Arc<Row>, UnknownPlugin> {
        let plugins = self.plugins.read().unwrap_or_else(PoisonError::into_inner);
        plugins.get(plugin).cloned().ok_or_else(|| UnknownPlugin(plugin.to_owned()))
    }

    /// Stops every plugin, each after those that require it and otherwise all at once, and returns when
    /// nothing of any is left.
    pub async fn shut_down(&self) {
        self.stop.cancel();
        let rows: HashMap<PluginName, Arc<Row>> =
            self.plugins.read().unwrap_or_else(PoisonError::into_inner).clone();
        let groups = requires::stop_order(&self.supervision.registry.view(), rows.keys().cloned());
        for group in groups {
            let mut teams = Vec::new();
            for row in group.iter().filter_map(|name| rows.get(name)) {
                let of_row = row.lock_teams();
                for team in of_row.others.iter().chain([&of_row.serving]) {
                    team.want_all_down();
                    team.hurry();
                    teams.push(Arc::clone(team));
                }
            }
            // Bounded: a seat that is told to go with the host leaves what it cannot end.
            futures_util::future::join_all(teams.iter().map(|team| team.gone())).await;
        }
        self.tasks.wait().await;
    }
}

impl Row {
    fn new(plugin: Arc<Plugin>) -> Self {
        let (newest, swaps) = (TeamId::default(), 0);
        let serving = Team::new(newest, Role::Serves);
        let teams = Teams { serving, others: Vec::new(), newest, swaps, swap: None };
        Self { plugin, teams: std::sync::Mutex::new(teams) }
    }

    /// Brings the version that serves to so many seats; `first` is for where there is none yet.
    fn set_count(&self, count: usize, first: Wanted) {
        let teams = self.lock_teams();
        let before = self.plugin.set_count(teams.serving.id, count);
        teams.serving.set_count(&self.plugin, before, count, first);
    }

    fn lock_teams(&self) -> std::sync::MutexGuard<'_, Teams> {
        self.teams.lock().expect("no holder of the lock panics")
    }
}

impl Plugin {
    /// Notes how a seat stands and what that makes of the plugin; answers the reason that is shown.
    fn set_status(
        &self,
        team: TeamId,
        seat: usize,
        state: State,
        reason: Option<String>,
        restarts: u32,
    ) -> Option<String> {
        // Held until the sum is in the registry: an older sum must not arrive there after a newer one.
        let mut board = self.lock_board();
        let serves = board.serving == team;
        let reason = reason.or_else(|| if serves { self.because(state) } else { None });
        let status = Status { restarts, ..Status::now(state, reason.clone()) };
        // A version whose seats are gone says nothing more.
        let Some(seats) = board.teams.get_mut(&team) else { return reason };
        let known = &mut seats.statuses[seat];
        if (known.state, &known.reason, known.restarts) == (state, &status.reason, restarts) {
            return reason;
        }
        match state {
            State::Failed | State::Backoff | State::Unresponsive => {
                warn!(plugin = %self.name, serves, state = state.as_str(), reason = status.reason, "plugin status changed");
            }
            _ => {
                info!(plugin = %self.name, serves, state = state.as_str(), reason = status.reason, "plugin status changed");
            }
        }
        *known = status;
        if serves || board.is_at_rest() {
            self.supervision.registry.set_status(&self.name, board.sum_up());
        }
        reason
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

    fn count(&self, team: TeamId) -> usize {
        self.lock_board().teams.get(&team).map_or(0, |seats| seats.count)
    }

    fn lock_board(&self) -> std::sync::MutexGuard<'_, Board> {
        self.board.lock().expect("no holder of the lock panics")
    }

    /// Notes how many seats a version is to have, and answers how many there were.
    fn set_count(&self, team: TeamId, count: usize) -> usize {
        let mut board = self.lock_board();
        let serves = board.serving == team;
        let seats = board.teams.entry(team).or_default();
        if seats.statuses.len() < count {
            seats.statuses.resize(count, Status::now(State::Stopped, None));
        }
        let before = std::mem::replace(&mut seats.count, count);
        if serves && before > 0 {
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

impl Board {
    /// Whether nothing of the version that serves is left.
    fn is_at_rest(&self) -> bool {
        self.teams.get(&self.serving).is_some_and(|seats| seats.sum_up().state == State::Stopped)
    }

    /// The plugin's status: that of the version that serves. It is not stopped while another finishes.
    fn sum_up(&self) -> Status {
        let status = self.teams[&self.serving].sum_up();
        let is_left = |(team, seats): (&TeamId, &Seats)| {
            *team != self.serving && seats.statuses.iter().any(|status| !is_empty(status.state))
        };
        if status.state == State::Stopped && self.teams.iter().any(is_left) {
            let reason = "processes of another version are left".to_owned();
            return Status { restarts: status.restarts, ..Status::now(State::Draining, Some(reason)) };
        }
        status
    }
}

/// Whether a seat in this state has no process.
fn is_empty(state: State) -> bool {
    matches!(state, State::Stopped | State::Failed | State::Backoff)
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
