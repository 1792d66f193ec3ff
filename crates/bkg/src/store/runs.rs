//! What became of plugins: one row for each run of a process, one for each change of state.
//!
//! Not who decides what happened, which the supervisor knows. The invariant: of each plugin the newest
//! [`Runs::MOST_RUNS`] runs and [`Runs::MOST_EVENTS`] events are kept, and no more. `supervisor` writes
//! them through its own queue, `admin` reads them.

use bkg_protocol::{InstanceId, PluginName};
use bkg_sqlite::Database;
use bkg_sqlite::rusqlite::types::Type;
use bkg_sqlite::rusqlite::{self, Connection, OptionalExtension, Row, params};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::StoreError;

/// The runs and events of one data directory; cheap to clone.
#[derive(Debug, Clone)]
pub struct Runs {
    database: Database,
}

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RunOutcome {
    /// It goes on.
    Running,
    /// Somebody stopped it, or it ended by itself and said that all is well.
    Stopped,
    /// It ended by itself, or had to be ended because something was wrong with it.
    Crashed,
    /// Somebody had it replaced.
    Replaced,
    /// Another version took its place.
    Swapped,
    /// It was of a version that was not good enough.
    RolledBack,
    /// It ended with the host that started it.
    Lost,
}

impl RunOutcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Crashed => "crashed",
            Self::Replaced => "replaced",
            Self::Swapped => "swapped",
            Self::RolledBack => "rolled-back",
            Self::Lost => "lost",
        }
    }
}

/// How the first process of a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunExit {
    /// Its exit code, if it ended by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The number of the signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Whether it was killed while memory ran out.
    #[serde(default)]
    pub oom: bool,
    /// The same in words.
    pub text: String,
}

/// One run of a plugin's process, as lists show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// The launch: what logs and figures call `instance`.
    pub id: InstanceId,
    /// Whose run it is.
    pub plugin: PluginName,
    /// Which of the plugin's instances it was, from 1.
    pub seat: u32,
    /// Its version: as it registered, else as its entry says.
    pub version: String,
    /// The saved revision of the entry that it was started with; 0 where nothing was saved.
    pub revision: u64,
    /// Its first process.
    pub pid: u32,
    /// When its process was started.
    pub started_at: Timestamp,
    /// When it registered first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered_at: Option<Timestamp>,
    /// When nothing was left of it; not known of one that is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// What became of it.
    pub outcome: RunOutcome,
    /// How its first process ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<RunExit>,
    /// One sentence on why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How often its instance had been started again by then, since someone last started it.
    pub restarts: u32,
    /// What bounds it and keeps it together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Map<String, Value>>")]
    pub mechanism: Option<Value>,
}

/// What else is known of a run that has ended: its crash card.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RunCard {
    /// The last lines that it wrote on standard error, 20 at most, the oldest first.
    pub last_stderr: Vec<String>,
    /// The requests that it had not answered when its session ended, 32 at most, the oldest first.
    pub in_flight: Vec<OpenRequest>,
    /// What its processes used, 120 points at most, the oldest first.
    pub resources: Vec<ResourcePoint>,
}

/// A request that was not answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OpenRequest {
    /// What was asked for.
    pub capability: String,
    /// The `x-request-id` of the HTTP request at its root, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// How long the plugin had had it, in milliseconds.
    pub age_ms: u64,
}

/// What the processes of a run used and held at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourcePoint {
    /// When.
    pub at: Timestamp,
    /// Processor time in percent of one core.
    pub cpu: f64,
    /// Resident memory in bytes.
    pub rss: u64,
    /// Open descriptors.
    pub fds: u64,
    /// Threads.
    pub threads: u64,
}

/// One change of the state of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginEvent {
    /// Grows with every event of any plugin.
    pub number: u64,
    /// The run that it happened to, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<InstanceId>,
    /// Which of the plugin's instances, from 1.
    pub seat: u32,
    /// When.
    pub at: Timestamp,
    /// The state that was entered.
    pub state: String,
    /// One sentence on why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Something to be kept.
#[derive(Debug, Clone)]
pub enum Story {
    /// How a run stands now; what was kept of it before is replaced.
    Run(Box<(Run, RunCard)>),
    /// A change of state; its number is assigned when it is kept.
    Event(PluginName, PluginEvent),
}

impl Runs {
    /// How many runs of a plugin are kept.
    pub const MOST_RUNS: u32 = 50;
    /// How many events of a plugin are kept.
    pub const MOST_EVENTS: u32 = 500;

    pub(super) fn new(database: Database) -> Self {
        Self { database }
    }

    /// Keeps all of this, in this order, or nothing of it.
    ///
    /// # Errors
    /// The database's; then nothing of it is kept.
    pub async fn keep(&self, story: Vec<Story>) -> Result<(), StoreError> {
        self.database
            .write(move |connection| {
                for one in &story {
                    match one {
                        Story::Run(run) => put_run(connection, &run.0, &run.1)?,
                        Story::Event(plugin, event) => put_event(connection, plugin, event)?,
                    }
                }
                Ok(())
            })
            .await
    }

    /// Says of every run that goes on that it was lost: to be asked before any begins. Answers how many.
    ///
    /// # Errors
    /// The database's.
    pub async fn lose_running(&self, at: Timestamp) -> Result<usize, StoreError> {
        self.database
            .write(move |connection| {
                let mut select = connection.prepare(&format!(
                    "SELECT {RUN} FROM plugin_runs WHERE outcome = ?1 ORDER BY number"
                ))?;
                let rows = select.query_map([RunOutcome::Running.as_str()], read_run)?;
                let running: Vec<(Run, RunCard)> = rows.collect::<Result<_, _>>()?;
                for (run, card) in &running {
                    let reason = "ended with the host that started it".to_owned();
                    let lost =
                        Run { outcome: RunOutcome::Lost, reason: Some(reason.clone()), ..run.clone() };
                    put_run(connection, &lost, card)?;
                    let event = PluginEvent {
                        number: 0,
                        run: Some(run.id),
                        seat: run.seat,
                        at,
                        state: "stopped".to_owned(),
                        reason: Some(reason),
                    };
                    put_event(connection, &run.plugin, &event)?;
                }
                Ok(running.len())
            })
            .await
    }

    /// The newest runs of a plugin, newest first, `limit` at most.
    ///
    /// # Errors
    /// The database's.
    pub async fn runs(&self, plugin: &PluginName, limit: u32) -> Result<Vec<Run>, StoreError> {
        let plugin = plugin.clone();
        self.database.read(move |connection| Ok(runs_before(connection, &plugin, i64::MAX, limit)?)).await
    }

    /// One run with its card, and the runs of the plugin before it, newest first, `earlier` at most.
    ///
    /// # Errors
    /// The database's.
    pub async fn run(
        &self,
        plugin: &PluginName,
        id: InstanceId,
        earlier: u32,
    ) -> Result<Option<(Run, RunCard, Vec<Run>)>, StoreError> {
        let plugin = plugin.clone();
        self.database
            .read(move |connection| {
                let found = connection
                    .prepare_cached(&format!(
                        "SELECT {RUN}, number FROM plugin_runs WHERE plugin = ?1 AND id = ?2"
                    ))?
                    .query_row(params![plugin.as_str(), id.to_string()], |row| {
                        Ok((read_run(row)?, row.get::<_, i64>(2)?))
                    })
                    .optional()?;
                let Some(((run, card), number)) = found else { return Ok(None) };
                Ok(Some((run, card, runs_before(connection, &plugin, number, earlier)?)))
            })
            .await
    }

    /// The newest events of a plugin, newest first, `limit` at most; of one run where that is given.
    ///
    /// # Errors
    /// The database's.
    pub async fn events(
        &self,
        plugin: &PluginName,
        run: Option<InstanceId>,
        limit: u32,
    ) -> Result<Vec<PluginEvent>, StoreError> {
        let plugin = plugin.clone();
        self.database
            .read(move |connection| {
                let mut select = connection.prepare_cached(
                    "SELECT number, run, seat, at, state, reason FROM plugin_events
                     WHERE plugin = ?1 AND (?2 IS NULL OR run = ?2) ORDER BY number DESC LIMIT ?3",
                )?;
                let run = run.map(|run| run.to_string());
                let rows = select.query_map(params![plugin.as_str(), run, limit], read_event)?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }
}

/// What [`read_run`] reads.
const RUN: &str = "head, card";

fn runs_before(
    connection: &Connection,
    plugin: &PluginName,
    number: i64,
    limit: u32,
) -> rusqlite::Result<Vec<Run>> {
    let mut select = connection.prepare_cached(
        "SELECT head FROM plugin_runs WHERE plugin = ?1 AND number < ?2 ORDER BY number DESC LIMIT ?3",
    )?;
    let rows = select.query_map(params![plugin.as_str(), number, limit], |row| read_json(row, 0))?;
    rows.collect()
}

fn put_run(connection: &Connection, run: &Run, card: &RunCard) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO plugin_runs (id, plugin, outcome, head, card) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (id) DO UPDATE SET outcome = ?3, head = ?4, card = ?5",
        )?
        .execute(params![
            run.id.to_string(),
            run.plugin.as_str(),
            run.outcome.as_str(),
            json(run)?,
            json(card)?
        ])?;
    forget(connection, "plugin_runs", &run.plugin, Runs::MOST_RUNS)
}

fn put_event(connection: &Connection, plugin: &PluginName, event: &PluginEvent) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO plugin_events (plugin, run, seat, at, state, reason)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            plugin.as_str(),
            event.run.map(|run| run.to_string()),
            event.seat,
            event.at.as_microsecond(),
            event.state,
            event.reason
        ])?;
    forget(connection, "plugin_events", plugin, Runs::MOST_EVENTS)
}

/// Removes what is older than the newest `most` of a plugin.
fn forget(connection: &Connection, table: &str, plugin: &PluginName, most: u32) -> rusqlite::Result<()> {
    connection
        .prepare_cached(&format!(
            "DELETE FROM {table} WHERE plugin = ?1 AND number <=
               (SELECT number FROM {table} WHERE plugin = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)"
        ))?
        .execute(params![plugin.as_str(), most])?;
    Ok(())
}

fn json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

fn read_json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into()))
}

fn read_run(row: &Row<'_>) -> rusqlite::Result<(Run, RunCard)> {
    Ok((read_json(row, 0)?, read_json(row, 1)?))
}

fn read_event(row: &Row<'_>) -> rusqlite::Result<PluginEvent> {
    let wrong = |column, error: &dyn ToString| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.to_string().into())
    };
    let run: Option<String> = row.get(1)?;
    let at = Timestamp::from_microsecond(row.get(3)?).map_err(|error| wrong(3, &error))?;
    Ok(PluginEvent {
        number: row.get::<_, i64>(0)?.unsigned_abs(),
        run: run.map(|run| run.parse()).transpose().map_err(|_| wrong(1, &"it is no instance id"))?,
        seat: row.get(2)?,
        at,
        state: row.get(4)?,
        reason: row.get(5)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::database::tests::TestStore;
    use super::*;

    fn plugin(name: &str) -> PluginName {
        name.parse().unwrap()
    }

    fn now() -> Timestamp {
        Timestamp::from_microsecond(Timestamp::now().as_microsecond()).unwrap()
    }

    fn run(name: &str) -> Run {
        Run {
            id: InstanceId::new(),
            plugin: plugin(name),
            seat: 1,
            version: "1.2.3".to_owned(),
            revision: 4,
            pid: 4711,
            started_at: now(),
            registered_at: None,
            ended_at: None,
            outcome: RunOutcome::Running,
            exit: None,
            reason: None,
            restarts: 2,
            mechanism: None,
        }
    }

    fn event(state: &str) -> PluginEvent {
        PluginEvent { number: 0, run: None, seat: 1, at: now(), state: state.to_owned(), reason: None }
    }

    fn keep(host: &TestStore, story: Vec<Story>) {
        host.wait(host.store.runs.keep(story)).unwrap();
    }

    #[test]
    fn a_run_is_replaced_by_what_is_known_of_it_later() {
        let host = TestStore::new();
        let begun = run("a");
        keep(&host, vec![Story::Run(Box::new((begun.clone(), RunCard::default())))]);
        let ended = Run {
            ended_at: Some(now()),
            outcome: RunOutcome::Crashed,
            exit: Some(RunExit { code: None, signal: Some(9), oom: false, text: "killed".to_owned() }),
            ..begun.clone()
        };
        let card = RunCard { last_stderr: vec!["the end".to_owned()], ..RunCard::default() };
        keep(&host, vec![Story::Run(Box::new((ended.clone(), card.clone())))]);
        let runs = &host.store.runs;
        assert_eq!(host.wait(runs.runs(&plugin("a"), 10)).unwrap(), std::slice::from_ref(&ended));
        let (found, its_card, earlier) =
            host.wait(runs.run(&plugin("a"), begun.id, 10)).unwrap().expect("it is kept");
        assert_eq!((found, its_card, earlier.len()), (ended, card, 0));
        assert_eq!(host.wait(runs.run(&plugin("b"), begun.id, 10)).unwrap(), None);
    }

    #[test]
    fn only_the_newest_of_each_plugin_are_kept() {
        let host = TestStore::new();
        let other = run("b");
        keep(&host, vec![Story::Run(Box::new((other.clone(), RunCard::default())))]);
        let all: Vec<Run> = (0..60).map(|_| run("a")).collect();
        keep(
            &host,
            all.iter().map(|run| Story::Run(Box::new((run.clone(), RunCard::default())))).collect(),
        );
        let events = (0..520).map(|number| Story::Event(plugin("a"), event(&number.to_string())));
        keep(&host, events.collect());
        let runs = &host.store.runs;
        let kept = host.wait(runs.runs(&plugin("a"), 1_000)).unwrap();
        let newest: Vec<Run> = all.into_iter().rev().take(50).collect();
        assert_eq!(kept, newest);
        assert_eq!(host.wait(runs.runs(&plugin("b"), 1_000)).unwrap(), [other]);
        let events = host.wait(runs.events(&plugin("a"), None, 1_000)).unwrap();
        let states: Vec<&str> = events.iter().map(|event| event.state.as_str()).collect();
        assert_eq!((states.len(), states[0], states[499]), (500, "519", "20"));
    }

    #[test]
    fn what_went_on_when_the_host_died_is_lost() {
        let host = TestStore::new();
        let (running, over) = (run("a"), Run { outcome: RunOutcome::Stopped, ..run("a") });
        let rows = [&over, &running].map(|run| Story::Run(Box::new((run.clone(), RunCard::default()))));
        keep(&host, rows.to_vec());
        let host = TestStore::open(&host.close()).unwrap();
        let runs = &host.store.runs;
        assert_eq!(host.wait(runs.lose_running(now())).unwrap(), 1);
        assert_eq!(host.wait(runs.lose_running(now())).unwrap(), 0);
        let reason = Some("ended with the host that started it".to_owned());
        let lost = Run { outcome: RunOutcome::Lost, reason: reason.clone(), ..running.clone() };
        assert_eq!(host.wait(runs.runs(&plugin("a"), 10)).unwrap(), [lost, over]);
        let events = host.wait(runs.events(&plugin("a"), Some(running.id), 10)).unwrap();
        assert_eq!((events.len(), &events[0].reason), (1, &reason));
    }
}
