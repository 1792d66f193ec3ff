//! What requests used: one row for each, written in batches.
//!
//! Rows are kept in memory for up to a second, so a killed host loses that second; nothing else here
//! is ever lost without being counted. Nobody waits: where the disk does not keep up, is full or fails,
//! rows stay in memory, what does not fit there is dropped and counted, and requests go on. The
//! invariant: memory and the table are bounded.

mod record;
mod sums;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bkg_protocol::{CapabilityName, PluginName};
use bkg_sqlite::Database;
use bkg_sqlite::rusqlite::{self, Connection, params};
use jiff::Timestamp;
use tracing::warn;

pub use record::{AttemptRecord, Bodies, UsageFilter, UsageRecord};
pub use sums::{UsageGroup, UsageOfGroup, UsageQuestion, UsageSum, UsageSums, UsedSoFar};

use super::StoreError;
use crate::clock::Evenness;
use crate::money::Money;

/// How many rows wait to be written, up to 10 MB: more requests than a host serves in the second that they
/// wait. What comes beyond that is dropped and counted.
const MOST_WAITING: usize = 32_768;
/// How many bytes of what was asked and answered wait with them. What comes beyond that is left out of its
/// row.
const MOST_BODIES: usize = 16 << 20;
/// How long a row is kept.
const KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How many rows are kept.
const MOST_KEPT: i64 = 1_000_000;
/// How many old rows a batch removes, beyond as many as it adds: what is too much goes in small steps,
/// so that no other write waits long.
const REMOVED_AT_ONCE: i64 = 500;

/// The table of requests; cheap to clone.
#[derive(Debug, Clone)]
pub struct Usage {
    database: Database,
    buffer: Arc<Buffer>,
}

/// What one request used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    /// The `x-request-id`.
    pub request_id: Arc<str>,
    /// When it began.
    pub at: Timestamp,
    /// Whose request.
    pub user: String,
    /// The id of the API key that was used.
    pub key_id: Option<Arc<str>>,
    /// Who answered; `None` if nobody did.
    pub plugin: Option<PluginName>,
    /// What was asked for.
    pub capability: CapabilityName,
    /// The model that was asked for.
    pub model: Option<String>,
    /// How many tokens were read, if the plugin said so.
    pub prompt_tokens: Option<u64>,
    /// How many tokens were written, if the plugin said so.
    pub completion_tokens: Option<u64>,
    /// Milliseconds until the first byte of a streamed answer.
    pub first_byte_ms: Option<u32>,
    /// Milliseconds until the end.
    pub total_ms: u32,
    /// Whether the answer was streamed.
    pub streamed: bool,
    /// `ok`, or the code of the error.
    pub outcome: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// The route that was asked; `None` for what a plugin asked.
    pub route: Option<String>,
    /// The model that answered, as its plugin knows it.
    pub served_model: Option<String>,
    /// Whether the tokens are an estimate.
    pub estimated: bool,
    /// What it cost; `None` for a model without a price.
    pub cost: Option<Money>,
    /// The tries at having it answered.
    pub attempts: Vec<AttemptRecord>,
    /// What went wrong, in a sentence.
    pub error: Option<String>,
    /// What was asked and answered, where that is to be written down.
    pub bodies: Option<Box<Bodies>>,
}

impl UsageRow {
    fn body_bytes(&self) -> usize {
        let length = |body: &Option<String>| body.as_ref().map_or(0, String::len);
        self.bodies.as_ref().map_or(0, |bodies| length(&bodies.request) + length(&bodies.answer))
    }
}

/// How much is kept, in memory and in the table.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    waiting: usize,
    kept: i64,
    kept_for: Duration,
}

const BOUNDS: Bounds = Bounds { waiting: MOST_WAITING, kept: MOST_KEPT, kept_for: KEPT_FOR };

/// The rows that are on their way to the disk.
#[derive(Debug)]
struct Buffer {
    bounds: Bounds,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    rows: Vec<UsageRow>,
    /// Those whose transaction may yet fail.
    sent: Vec<UsageRow>,
    /// How many commits there had been when they were sent: with the next one it is known.
    sent_after: u64,
    /// Whether the database has been given a [`Turn`] that has not begun.
    has_turn: bool,
    /// The number of the last row that was written, in a transaction that may yet have failed.
    newest: i64,
    dropped: u64,
    /// How many bytes of bodies are in `rows` and `sent`.
    body_bytes: usize,
    /// When sums were last looked through for old ones.
    swept: Option<Instant>,
    evenness: Evenness,
}

/// A place in the database's queue. The database may give it up without having used it; then the next row
/// asks for another.
struct Turn(Arc<Buffer>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.lock().has_turn = false;
    }
}

impl Usage {
    pub(super) fn new(database: Database) -> Self {
        Self::with_bounds(database, BOUNDS)
    }

    fn with_bounds(database: Database, bounds: Bounds) -> Self {
        Self { database, buffer: Arc::new(Buffer { bounds, waiting: Mutex::default() }) }
    }

    /// Takes a row, to be written within a second. Never waits.
    pub fn record(&self, row: UsageRow) {
        if self.buffer.push(row) {
            let turn = Turn(Arc::clone(&self.buffer));
            // A full queue gives the turn back at once: the rows stay, and the next one tries again.
            let database = self.database.clone();
            self.database.post(move |connection| turn.0.write(connection, database.commits()));
        }
    }

    /// How many rows were lost since the start.
    pub fn dropped(&self) -> u64 {
        self.buffer.lock().dropped
    }

    /// The rows that `filter` wants, newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn page(&self, filter: UsageFilter) -> Result<Vec<UsageRecord>, StoreError> {
        self.settle().await;
        self.database.read(move |connection| Ok(record::page(connection, &filter)?)).await
    }

    /// The rows of one request, oldest first, and what was asked and answered in the first of them where that
    /// was written down.
    ///
    /// # Errors
    /// The database's.
    pub async fn of_request(&self, id: String) -> Result<(Vec<UsageRecord>, Option<Bodies>), StoreError> {
        self.settle().await;
        let reading = self.database.read(move |connection| {
            let records = record::of_request(connection, &id)?;
            let mut bodies = None;
            for record in &records {
                bodies = bodies.or(record::bodies(connection, record.id)?);
            }
            Ok((records, bodies))
        });
        reading.await
    }

    /// Sums of all requests that have ended.
    ///
    /// # Errors
    /// The database's.
    pub async fn sums(&self, question: UsageQuestion) -> Result<UsageSums, StoreError> {
        self.settle().await;
        self.database.read(move |connection| Ok(sums::read(connection, &question)?)).await
    }

    /// What keys and users have used since a day and a month began; at the start, when nothing waits.
    ///
    /// # Errors
    /// The database's.
    pub async fn used_so_far(
        &self,
        day: Timestamp,
        month: Timestamp,
    ) -> Result<Vec<UsedSoFar>, StoreError> {
        self.database.read(move |connection| Ok(sums::used_so_far(connection, day, month)?)).await
    }

    /// Has what waits written, so that it can be read. If the disk refuses, what is read lacks it.
    async fn settle(&self) {
        if !self.buffer.lock().has_something() {
            return;
        }
        let (buffer, database) = (Arc::clone(&self.buffer), self.database.clone());
        let writing = self
            .database
            .write(move |connection| Ok::<_, StoreError>(buffer.write(connection, database.commits())?));
        if let Err(error) = writing.await {
            warn!(%error, "what requests used cannot be written; what is shown of it lacks the newest");
        }
    }

    /// Writes what waits, now. Blocks; for the stop.
    ///
    /// # Errors
    /// The database's; then it is not written.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        let buffer = Arc::clone(&self.buffer);
        let database = self.database.clone();
        let flushed = self
            .database
            .write_blocking(move |connection| Ok(buffer.write(connection, database.commits())?));
        let left = self.buffer.lock().rows.len();
        if flushed.is_err() && left > 0 {
            self.buffer.lose(left as u64, "the host stops, and the disk takes no writes");
        }
        flushed
    }
}

impl Buffer {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a row, or counts it as dropped where there is no room; says whether a turn is needed.
    fn push(&self, mut row: UsageRow) -> bool {
        let mut waiting = self.lock();
        if waiting.rows.len() >= self.bounds.waiting {
            waiting.dropped += 1;
        } else {
            let bytes = row.body_bytes();
            if waiting.body_bytes + bytes > MOST_BODIES {
                row.bodies = None;
            } else {
                waiting.body_bytes += bytes;
            }
            waiting.rows.push(row);
        }
        !std::mem::replace(&mut waiting.has_turn, true)
    }

    fn lose(&self, rows: u64, reason: &str) {
        self.lock().dropped += rows;
        warn!(rows, reason, "what requests used was not written");
    }

    /// Writes all that waits, in the transaction of `connection`, before which there were so many commits.
    fn write(&self, connection: &Connection, commits: u64) -> rusqlite::Result<()> {
        // Nobody waited for the rows before; that the last of them is not there tells that the
        // transaction failed that they were in.
        let found = newest(connection)?;
        let rows = {
            let mut waiting = self.lock();
            waiting.has_turn = false;
            if found < waiting.newest {
                let sent = std::mem::take(&mut waiting.sent);
                waiting.rows.splice(..0, sent);
            } else if waiting.sent_after < commits {
                waiting.sent.clear();
            }
            let bytes = |rows: &[UsageRow]| rows.iter().map(UsageRow::body_bytes).sum::<usize>();
            waiting.body_bytes = bytes(&waiting.rows) + bytes(&waiting.sent);
            waiting.sent_after = commits;
            std::mem::take(&mut waiting.rows)
        };
        let written = self.write_rows(connection, &rows, found);
        match &written {
            Ok(()) => self.lock().sent.extend(rows),
            Err(error) if is_the_disks(error) => self.take_back(rows),
            Err(error) => self.lose(rows.len() as u64, &error.to_string()),
        }
        written
    }

    /// Keeps rows that could not be written, before those that came since, as many as there is room for.
    fn take_back(&self, rows: Vec<UsageRow>) {
        let mut waiting = self.lock();
        waiting.rows.splice(..0, rows);
        let surplus = waiting.rows.len().saturating_sub(self.bounds.waiting);
        let kept = waiting.rows.len() - surplus;
        waiting.rows.truncate(kept);
        waiting.dropped += surplus as u64;
    }

    fn write_rows(&self, connection: &Connection, rows: &[UsageRow], newest: i64) -> rusqlite::Result<()> {
        self.lock().newest = newest;
        if rows.is_empty() {
            return Ok(());
        }
        let mut insert = connection.prepare_cached(
            "INSERT INTO usage (at, request_id, user, key_id, plugin, capability, model, prompt_tokens,
               completion_tokens, first_byte_ms, total_ms, streamed, outcome, status, route, served_model, estimated,
               cost, attempts, error)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)",
        )?;
        let mut insert_bodies = connection
            .prepare_cached("INSERT INTO usage_bodies (id, request, answer) VALUES (?1, ?2, ?3)")?;
        for row in rows {
            let attempts = (!row.attempts.is_empty())
                .then(|| serde_json::to_string(&row.attempts).expect("attempts are texts and numbers"));
            insert.execute(params![
                row.at.as_microsecond(),
                &*row.request_id,
                row.user,
                row.key_id.as_deref(),
                row.plugin.as_ref().map(PluginName::as_str),
                row.capability.as_str(),
                row.model,
                row.prompt_tokens.map(stored),
                row.completion_tokens.map(stored),
                row.first_byte_ms,
                row.total_ms,
                row.streamed,
                row.outcome,
                row.status,
                row.route,
                row.served_model,
                row.estimated,
                row.cost.map(|cost| stored(cost.micros())),
                attempts,
                row.error,
            ])?;
            if let Some(bodies) = &row.bodies {
                let id = connection.last_insert_rowid();
                insert_bodies.execute(params![id, bodies.request, bodies.answer])?;
            }
        }
        let newest = connection.last_insert_rowid();
        sums::add(connection, rows)?;
        let now = Timestamp::now();
        // While nobody knows how old anything is, nothing is too old.
        let is_known = self.lock().evenness.look(Instant::now(), now);
        let oldest = now.checked_sub(self.bounds.kept_for).ok().filter(|_| is_known);
        if is_known && self.lock().may_sweep(Instant::now()) {
            sums::remove_old(connection, now)?;
        }
        self.bounds.remove_old(connection, newest, oldest, stored(rows.len() as u64) + REMOVED_AT_ONCE)?;
        self.lock().newest = newest;
        Ok(())
    }
}

impl Waiting {
    fn has_something(&self) -> bool {
        !(self.rows.is_empty() && self.sent.is_empty())
    }

    /// Whether an hour has passed since sums were last looked through; they are then, says who asks.
    fn may_sweep(&mut self, now: Instant) -> bool {
        const EVERY: Duration = Duration::from_secs(60 * 60);
        let is_due = self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= EVERY);
        if is_due {
            self.swept = Some(now);
        }
        is_due
    }
}

impl Bounds {
    /// Removes up to `most` rows that are too many, and up to as many that are too old; never the newest,
    /// by which the next batch sees that this one's transaction did not fail.
    fn remove_old(
        &self,
        connection: &Connection,
        newest: i64,
        oldest: Option<Timestamp>,
        most: i64,
    ) -> rusqlite::Result<()> {
        connection
            .prepare_cached(
                "DELETE FROM usage WHERE id IN (SELECT id FROM usage WHERE id <= ?1 ORDER BY id LIMIT ?2)",
            )?
            .execute([newest - self.kept, most])?;
        let Some(oldest) = oldest else { return Ok(()) };
        connection
            .prepare_cached(
                "DELETE FROM usage WHERE id IN
                   (SELECT id FROM usage WHERE at < ?1 AND id <> ?2 ORDER BY at LIMIT ?3)",
            )?
            .execute([oldest.as_microsecond(), newest, most])?;
        Ok(())
    }
}

/// Whether the disk was at fault, which may be well later.
fn is_the_disks(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode;
    matches!(error.sqlite_error_code(), Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure))
}

/// The highest number of a row; 0 if there is none.
fn newest(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("SELECT coalesce(max(id), 0) FROM usage")?.query_row([], |row| row.get(0))
}

/// SQLite has no greater numbers; nobody has used so many tokens.
fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::super::database::tests::TestStore;
    use super::*;

    fn row(request: &str) -> UsageRow {
        UsageRow {
            request_id: Arc::from(request),
            at: Timestamp::now(),
            user: "ada".to_owned(),
            key_id: Some(Arc::from("k_1")),
            plugin: Some("llmserver".parse().unwrap()),
            capability: "llm.chat".parse().unwrap(),
            model: Some("tiny".to_owned()),
            prompt_tokens: Some(3),
            completion_tokens: Some(4),
            first_byte_ms: Some(5),
            total_ms: 6,
            streamed: true,
            outcome: "ok",
            status: 200,
            route: Some("POST /v1/chat/completions".to_owned()),
            served_model: Some("tiny-1".to_owned()),
            estimated: false,
            cost: Some(Money::from_micros(12)),
            attempts: vec![],
            error: None,
            bodies: None,
        }
    }

    fn all() -> UsageFilter {
        UsageFilter::newest(UsageFilter::MOST)
    }

    fn page(host: &TestStore, filter: UsageFilter) -> Vec<UsageRecord> {
        host.wait(host.store.usage.page(filter)).unwrap()
    }

    fn requests(host: &TestStore, filter: UsageFilter) -> Vec<String> {
        page(host, filter).into_iter().map(|record| record.request_id).collect()
    }

    fn count(host: &TestStore) -> i64 {
        let count = |connection: &Connection| {
            Ok::<i64, StoreError>(connection.query_row("SELECT count(*) FROM usage", [], |row| row.get(0))?)
        };
        host.store.usage.database.read_blocking(count).unwrap()
    }

    /// The table with other bounds, over the same database.
    fn bounded(host: &TestStore, waiting: usize, kept: i64) -> Usage {
        Usage::with_bounds(host.store.usage.database.clone(), Bounds { waiting, kept, ..BOUNDS })
    }

    #[test]
    fn a_row_is_read_as_it_was_recorded() {
        let host = TestStore::new();
        let recorded = row("r_1");
        let at = Timestamp::from_microsecond(recorded.at.as_microsecond()).unwrap();
        host.store.usage.record(recorded);
        host.store.usage.record(UsageRow {
            key_id: None,
            plugin: None,
            model: None,
            prompt_tokens: None,
            completion_tokens: Some(u64::MAX),
            first_byte_ms: None,
            streamed: false,
            outcome: "timeout",
            status: 504,
            ..row("r_2")
        });
        host.store.usage.flush().unwrap();
        let records = page(&host, all());
        let expected = UsageRecord {
            id: 1,
            at,
            request_id: "r_1".to_owned(),
            user: "ada".to_owned(),
            key_id: Some("k_1".to_owned()),
            plugin: Some("llmserver".to_owned()),
            capability: "llm.chat".to_owned(),
            model: Some("tiny".to_owned()),
            prompt_tokens: Some(3),
            completion_tokens: Some(4),
            first_byte_ms: Some(5),
            total_ms: 6,
            streamed: true,
            outcome: "ok".to_owned(),
            status: 200,
            route: Some("POST /v1/chat/completions".to_owned()),
            served_model: Some("tiny-1".to_owned()),
            estimated: false,
            cost: Some(Money::from_micros(12)),
            attempts: vec![],
            error: None,
        };
        assert_eq!(records[1], expected);
        let other = UsageRecord {
            id: 2,
            at: records[0].at,
            request_id: "r_2".to_owned(),
            key_id: None,
            plugin: None,
            model: None,
            prompt_tokens: None,
            completion_tokens: Some(i64::MAX.unsigned_abs()),
            first_byte_ms: None,
            streamed: false,
            outcome: "timeout".to_owned(),
            status: 504,
            ..expected
        };
        assert_eq!(records[0], other);
    }

    #[test]
    fn rows_are_written_in_batches_without_anybody_asking() {
        let host = TestStore::new();
        for number in 0..500 {
            host.store.usage.record(row(&format!("r_{number}")));
        }
        // Whatever is written next carries them along.
        host.note(1);
        assert_eq!(count(&host), 500);
        host.store.usage.record(row("last"));
        while count(&host) < 501 {
            std::thread::yield_now();
        }
        assert_eq!(host.store.usage.dropped(), 0);
    }

    #[test]
    fn a_clean_stop_writes_what_waits() {
        let host = TestStore::new();
        for number in 0..50 {
            host.store.usage.record(row(&format!("r_{number}")));
        }
        let directory = host.close();
        assert_eq!(count(&TestStore::open(&directory).unwrap()), 50);
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let host = TestStore::new();
        let usage = bounded(&host, 10, MOST_KEPT);
        let (hold, held) = (std::sync::mpsc::channel::<()>(), std::sync::mpsc::channel::<()>());
        let (release, begun) = (hold.0, held.1);
        let database = usage.database.clone();
        let holding = std::thread::spawn(move || {
            database.write_blocking(move |_| {
                held.0.send(()).unwrap();
                hold.1.recv().unwrap();
                Ok::<_, StoreError>(())
            })
        });
        begun.recv().unwrap();
        for number in 0..25 {
            usage.record(row(&format!("r_{number}")));
        }
        assert_eq!(usage.dropped(), 15);
        release.send(()).unwrap();
        holding.join().unwrap().unwrap();
        usage.flush().unwrap();
        assert_eq!((count(&host), usage.dropped()), (10, 15));
    }

    #[test]
    fn what_the_disk_refuses_is_counted_and_later_rows_are_written() {
        let host = TestStore::new();
        let usage = &host.store.usage;
        host.tamper("CREATE TRIGGER full BEFORE INSERT ON usage BEGIN SELECT RAISE(ABORT, 'no room'); END");
        usage.record(row("r_1"));
        usage.record(row("r_2"));
        // Whether the rows meet it in their own turn or in this one is the database's matter.
        let _ = usage.flush();
        assert_eq!(usage.dropped(), 2);
        host.tamper("DROP TRIGGER full");
        usage.record(row("r_3"));
        usage.flush().unwrap();
        assert_eq!((requests(&host, all()), usage.dropped()), (vec!["r_3".to_owned()], 2));
    }

    #[test]
    fn a_batch_whose_transaction_failed_is_written_by_the_next() {
        let host = TestStore::new();
        let usage = &host.store.usage;
        usage.record(row("r_1"));
        usage.record(row("r_2"));
        usage.flush().unwrap();
        host.tamper("DELETE FROM usage");
        usage.record(row("r_3"));
        usage.flush().unwrap();
        assert_eq!(
            (requests(&host, all()), usage.dropped()),
            (["r_3", "r_2", "r_1"].map(str::to_owned).into(), 0)
        );
    }

    #[test]
    fn a_turn_that_the_database_gave_up_is_asked_for_again() {
        let host = TestStore::new();
        let buffer = &host.store.usage.buffer;
        assert!(buffer.push(row("r_1")));
        assert!(!buffer.push(row("r_2")));
        drop(Turn(Arc::clone(buffer)));
        assert!(buffer.push(row("r_3")));
        drop(Turn(Arc::clone(buffer)));
        host.store.usage.record(row("r_4"));
        host.note(1);
        assert_eq!(count(&host), 4);
    }

    #[test]
    fn the_oldest_rows_go_when_there_are_too_many() {
        let host = TestStore::new();
        let usage = bounded(&host, MOST_WAITING, 20);
        for number in 0..100 {
            usage.record(row(&format!("r_{number}")));
        }
        usage.flush().unwrap();
        assert_eq!(count(&host), 20);
        usage.record(row("last"));
        usage.flush().unwrap();
        let kept = requests(&host, all());
        assert_eq!((kept.len(), kept[0].as_str(), kept[19].as_str()), (20, "last", "r_81"));
    }

    #[test]
    fn rows_go_after_thirty_days_in_small_steps() {
        let host = TestStore::new();
        let usage = &host.store.usage;
        let days = |days: i64| Timestamp::now() - SignedDuration::from_hours(24 * days);
        for number in 0..1_500 {
            usage.buffer.push(UsageRow { at: days(29), ..row(&format!("r_{number}")) });
        }
        usage.flush().unwrap();
        usage.buffer.lock().evenness = Evenness::long(Instant::now(), Timestamp::now());
        let age = days(31).as_microsecond();
        host.tamper(&format!("UPDATE usage SET at = {age} WHERE id <= 1400"));
        let mut before = count(&host);
        while before > 100 {
            usage.record(row("new"));
            usage.flush().unwrap();
            let after = count(&host);
            assert!(after <= before && before - after <= REMOVED_AT_ONCE, "{before} to {after}");
            assert!(after < before, "each batch removes some");
            before = after;
            if page(&host, all()).last().unwrap().at > days(30) {
                break;
            }
        }
        assert_eq!(count(&host), 103);
    }

    #[test]
    fn pages_go_by_request_and_key() {
        let host = TestStore::new();
        for number in 1..=6 {
            let key_id = (number % 2 == 0).then(|| Arc::from("k_2"));
            host.store.usage.record(UsageRow { key_id, ..row(&format!("r_{number}")) });
        }
        host.store.usage.flush().unwrap();
        let key = || Some("k_2".to_owned());
        assert_eq!(requests(&host, UsageFilter { limit: 2, ..all() }), ["r_6", "r_5"]);
        assert_eq!(requests(&host, UsageFilter { before: Some(3), ..all() }), ["r_2", "r_1"]);
        assert_eq!(requests(&host, UsageFilter { key_id: key(), ..all() }), ["r_6", "r_4", "r_2"]);
        let one = UsageFilter { request_id: Some("r_4".to_owned()), ..all() };
        assert_eq!(requests(&host, one.clone()), ["r_4"]);
        assert_eq!(requests(&host, UsageFilter { key_id: key(), ..one.clone() }), ["r_4"]);
        assert_eq!(requests(&host, UsageFilter { key_id: Some("k_1".to_owned()), ..one }), [""; 0]);
    }

    fn sums(host: &TestStore, question: UsageQuestion) -> UsageSums {
        host.wait(host.store.usage.sums(question)).unwrap()
    }

    fn by(by: UsageGroup) -> UsageQuestion {
        let (from, to) = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
        UsageQuestion { by, from, to, user: None, key_id: None, offset: 0, limit: 100 }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(2_000_000_000 + second).unwrap()
    }

    fn used(key: &str, second: i64, prompt: u64, completion: u64) -> UsageRow {
        UsageRow {
            key_id: Some(Arc::from(key)),
            at: at(second),
            prompt_tokens: Some(prompt),
            completion_tokens: Some(completion),
            ..row("r")
        }
    }

    #[test]
    fn sums_go_by_what_is_asked_and_hold_every_row_that_was_recorded() {
        let host = TestStore::new();
        let usage = &host.store.usage;
        for row in [
            used("k_1", 0, 10, 1),
            used("k_1", 3_600, 20, 2),
            UsageRow { user: "bob".to_owned(), cost: None, estimated: true, ..used("k_2", 3_600, 300, 3) },
            UsageRow {
                outcome: "timeout",
                plugin: None,
                model: Some("made up".into()),
                ..used("k_2", 90_000, 0, 0)
            },
            used("k_3", 3_600, u64::MAX, 0),
        ] {
            usage.record(row);
        }
        let keys = sums(&host, by(UsageGroup::Key));
        let names: Vec<_> = keys.groups.iter().map(|group| group.name.as_deref().unwrap()).collect();
        assert_eq!(names, ["k_3", "k_2", "k_1"]);
        let of_k_1 = UsageSum {
            requests: 2,
            prompt_tokens: 30,
            completion_tokens: 3,
            cost: Money::from_micros(24),
            ..UsageSum::default()
        };
        assert_eq!(keys.groups[2].sum, of_k_1);
        assert_eq!((keys.total.requests, keys.total.failed, keys.total.estimated), (5, 1, 1));
        assert_eq!(keys.total.prompt_tokens, 1_000_000_000_330);
        let models = sums(&host, by(UsageGroup::Model));
        let names: Vec<_> = models.groups.iter().map(|group| group.name.as_deref()).collect();
        assert_eq!(names, [Some("tiny"), None]);
        let days = sums(&host, by(UsageGroup::Day));
        let names: Vec<_> = days.groups.iter().map(|group| group.name.as_deref().unwrap()).collect();
        assert_eq!(names, ["2033-05-19T00:00:00Z", "2033-05-18T00:00:00Z"]);
        let page = sums(&host, UsageQuestion { limit: 1, offset: 1, ..by(UsageGroup::Hour) });
        assert_eq!((page.groups.len(), page.has_more, page.total.requests), (1, true, 5));
        let hour = UsageQuestion { from: at(3_600), to: at(3_601), ..by(UsageGroup::User) };
        assert_eq!(sums(&host, hour).total.requests, 3);
        let bobs = UsageQuestion { user: Some("bob".to_owned()), ..by(UsageGroup::User) };
        assert_eq!(sums(&host, bobs).total.prompt_tokens, 300);
        let mine = UsageQuestion { key_id: Some("k_1".to_owned()), ..by(UsageGroup::User) };
        assert_eq!(sums(&host, mine).total.prompt_tokens, 30);
    }

    #[test]
    fn what_was_used_so_far_is_told_for_keys_and_users() {
        let host = TestStore::new();
        for row in [
            used("k_1", -2 * 86_400, 10, 1),
            used("k_1", 0, 20, 2),
            used("k_2", 0, 1, 0),
            UsageRow { key_id: None, ..used("", 0, 5, 0) },
            UsageRow { user: String::new(), key_id: None, ..used("", 0, 9, 9) },
        ] {
            host.store.usage.record(row);
        }
        host.store.usage.flush().unwrap();
        let (day, month) = (at(-43_200), at(-5 * 86_400));
        let used = host.wait(host.store.usage.used_so_far(day, month)).unwrap();
        let told: Vec<_> = used
            .iter()
            .map(|used| {
                let key = used.key_id.as_deref().unwrap_or("-");
                (key, used.tokens_today, used.money_today.micros(), used.money_this_month.micros())
            })
            .collect();
        assert_eq!(told, [("-", 28, 36, 48), ("k_1", 22, 12, 24), ("k_2", 1, 12, 12)]);
    }

    #[test]
    fn what_was_asked_and_answered_goes_with_its_row() {
        let host = TestStore::new();
        let usage = bounded(&host, MOST_WAITING, 2);
        let bodies = Bodies { request: Some("asked".to_owned()), answer: None };
        usage.record(UsageRow { bodies: Some(Box::new(bodies.clone())), ..row("r_1") });
        usage.record(row("r_2"));
        let (records, kept) = host.wait(usage.of_request("r_1".to_owned())).unwrap();
        assert_eq!((records.len(), kept), (1, Some(bodies)));
        usage.record(row("r_3"));
        let (records, kept) = host.wait(usage.of_request("r_1".to_owned())).unwrap();
        assert_eq!((records, kept), (vec![], None));
        let left = |connection: &Connection| {
            Ok::<i64, StoreError>(
                connection.query_row("SELECT count(*) FROM usage_bodies", [], |row| row.get(0))?,
            )
        };
        assert_eq!(usage.database.read_blocking(left).unwrap(), 0);
    }

    #[test]
    fn bodies_that_find_no_room_are_left_out_and_their_rows_are_not() {
        let host = TestStore::new();
        let buffer = &host.store.usage.buffer;
        let large = || Box::new(Bodies { request: Some("x".repeat(MOST_BODIES / 2)), answer: None });
        for _ in 0..3 {
            buffer.push(UsageRow { bodies: Some(large()), ..row("r") });
        }
        let kept = buffer.lock().rows.iter().filter(|row| row.bodies.is_some()).count();
        assert_eq!((kept, buffer.lock().rows.len()), (2, 3));
        host.store.usage.flush().unwrap();
        host.store.usage.flush().unwrap();
        assert_eq!(buffer.lock().body_bytes, 0);
    }

    #[test]
    fn a_row_is_found_by_everything_that_it_says() {
        let host = TestStore::new();
        host.store.usage.record(row("r_1"));
        host.store.usage.record(UsageRow {
            user: "bob".to_owned(),
            model: Some("large".to_owned()),
            plugin: Some("providers".parse().unwrap()),
            outcome: "timeout",
            at: at(10),
            ..row("r_2")
        });
        let text = |text: &str| Some(text.to_owned());
        for filter in [
            UsageFilter { user: text("bob"), ..all() },
            UsageFilter { model: text("large"), ..all() },
            UsageFilter { plugin: text("providers"), ..all() },
            UsageFilter { outcome: text("timeout"), ..all() },
            UsageFilter { since: Some(at(10)), ..all() },
            UsageFilter { user: text("bob"), model: text("large"), since: Some(at(0)), ..all() },
        ] {
            assert_eq!(requests(&host, filter.clone()), ["r_2"], "{filter:?}");
        }
        let none = UsageFilter { user: text("ada"), outcome: text("timeout"), ..all() };
        assert_eq!(requests(&host, none), [""; 0]);
    }
}
