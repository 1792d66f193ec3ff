//! What the audit log's rows say: as they are written, and as they are read.
//!
//! Not how they hang together, which `chain` knows. The invariant: what is read is what was written,
//! to the last character; a time is kept to the microsecond.

use bkg_sqlite::rusqlite::types::Type;
use bkg_sqlite::rusqlite::{self, Connection, Row, named_params};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::super::StoreError;
use super::Action;
use super::chain::TEXTS;

/// What a row says of its action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum EntryKind {
    /// It is about to happen; another row with the same `intent` says what came of it.
    Intended,
    /// It happened.
    Done,
    /// It did not happen.
    Failed,
    /// Nobody can tell whether it happened.
    Unknown,
}

impl EntryKind {
    const ALL: [Self; 4] = [Self::Intended, Self::Done, Self::Failed, Self::Unknown];

    /// The word for it, as it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Intended => "intended",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// One row of the audit log.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditRow {
    /// Its number; the first is 1, and there are no gaps.
    pub seq: i64,
    /// When it was written.
    pub at: Timestamp,
    /// What it says of its action.
    pub kind: EntryKind,
    /// The id that an intent shares with its end: the `operationId`. `None` for an action that was
    /// written together with its outcome.
    pub intent: Option<Uuid>,
    /// Whose action.
    pub user: String,
    /// The API key that was used.
    pub key_id: Option<String>,
    /// The login that was used.
    pub session_id: Option<String>,
    /// Where the request came from.
    pub address: Option<String>,
    /// The action, in dotted words.
    pub action: String,
    /// To what.
    pub target: String,
    /// What else is worth knowing.
    pub detail: Value,
    /// The request that asked for it.
    pub request_id: Option<String>,
    /// The row's code in hexadecimal; see `chain`.
    pub mac: String,
}

/// An intent without an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenIntent {
    /// Its id.
    pub id: Uuid,
    /// What was to be done.
    pub action: String,
    /// To what.
    pub target: String,
    /// When it was announced.
    pub at: Timestamp,
}

/// Which rows of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only rows with a lower number.
    pub before: Option<u64>,
    /// At most so many; more than [`AuditFilter::MOST`] are never given.
    pub limit: usize,
    /// Only actions that begin with this, such as `key.`.
    pub action: Option<String>,
    /// Only actions of this user.
    pub actor: Option<String>,
    /// Only rows written at or after this moment.
    pub since: Option<Timestamp>,
}

impl AuditFilter {
    /// The most rows that a page has.
    pub const MOST: usize = 1_000;
}

/// The texts of a row that is about to be written, in the order of [`TEXTS`].
#[derive(Debug, Clone)]
pub(super) struct Texts([Option<String>; TEXTS.len()]);

/// Where in [`TEXTS`] these are.
const KIND: usize = 0;
const DETAIL: usize = 8;

impl Texts {
    pub(super) fn new(kind: EntryKind, intent: Option<Uuid>, action: &Action) -> Self {
        let Action { actor, action, target, detail, request_id } = action;
        Self([
            Some(kind.as_str().to_owned()),
            intent.map(|id| id.to_string()),
            Some(actor.user.clone()),
            actor.key_id.clone(),
            actor.session_id.clone(),
            actor.address.map(|address| address.to_string()),
            Some((*action).to_owned()),
            Some(target.clone()),
            Some(detail.to_string()),
            request_id.clone(),
        ])
    }

    /// Reads a row whose columns are [`TEXTS`].
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let mut texts = [const { None }; TEXTS.len()];
        for (index, text) in texts.iter_mut().enumerate() {
            *text = row.get(index)?;
        }
        Ok(Self(texts))
    }

    /// The same action with what came of it.
    pub(super) fn ended(mut self, kind: EntryKind, detail: &Value) -> Self {
        self.0[KIND] = Some(kind.as_str().to_owned());
        self.0[DETAIL] = Some(detail.to_string());
        self
    }

    pub(super) fn into_bytes(self) -> [Option<Vec<u8>>; TEXTS.len()] {
        self.0.map(|text| text.map(String::into_bytes))
    }
}

const COLUMNS: &str =
    "seq, at, kind, intent, user, key_id, session_id, address, action, target, detail, request_id, mac";

impl AuditRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let detail: String = row.get(10)?;
        let mac: Vec<u8> = row.get(12)?;
        Ok(Self {
            seq: row.get(0)?,
            at: time(row, 1)?,
            kind: kind(row, 2)?,
            intent: row.get::<_, Option<String>>(3)?.map(|id| uuid(&id, 3)).transpose()?,
            user: row.get(4)?,
            key_id: row.get(5)?,
            session_id: row.get(6)?,
            address: row.get(7)?,
            action: row.get(8)?,
            target: row.get(9)?,
            // Only somebody else's change makes it anything but JSON, and that is worth showing too.
            detail: serde_json::from_str(&detail).unwrap_or(Value::String(detail)),
            request_id: row.get(11)?,
            mac: hexadecimal(&mac),
        })
    }
}

/// The rows that `filter` wants, newest first.
pub(super) fn page(connection: &Connection, filter: &AuditFilter) -> rusqlite::Result<Vec<AuditRow>> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM audit
         WHERE seq < :before AND (:action IS NULL OR instr(action, :action) = 1)
           AND (:actor IS NULL OR user = :actor) AND at >= :since
         ORDER BY seq DESC LIMIT :limit"
    ))?;
    let parameters = named_params! {
        ":before": filter.before.and_then(|seq| i64::try_from(seq).ok()).unwrap_or(i64::MAX),
        ":action": filter.action,
        ":actor": filter.actor,
        ":since": filter.since.map_or(i64::MIN, Timestamp::as_microsecond),
        ":limit": filter.limit.min(AuditFilter::MOST) as i64,
    };
    select.query_map(parameters, AuditRow::read)?.collect()
}

/// At most `limit` rows with numbers above `seq`, oldest first.
pub(super) fn after(connection: &Connection, seq: u64, limit: usize) -> rusqlite::Result<Vec<AuditRow>> {
    let select = format!("SELECT {COLUMNS} FROM audit WHERE seq > ?1 ORDER BY seq LIMIT ?2");
    let seq = i64::try_from(seq).unwrap_or(i64::MAX);
    let limit = limit.min(AuditFilter::MOST) as i64;
    connection.prepare_cached(&select)?.query_map([seq, limit], AuditRow::read)?.collect()
}

/// Hands every row at or after `since` to `take`, oldest first, until that fails.
pub(super) fn each<E: From<StoreError>>(
    connection: &Connection,
    since: Option<Timestamp>,
    mut take: impl FnMut(AuditRow) -> Result<(), E>,
) -> Result<(), E> {
    let mut select = connection
        .prepare(&format!("SELECT {COLUMNS} FROM audit WHERE at >= ?1 ORDER BY seq"))
        .map_err(StoreError::from)?;
    let since = since.map_or(i64::MIN, Timestamp::as_microsecond);
    let mut rows = select.query([since]).map_err(StoreError::from)?;
    while let Some(row) = rows.next().map_err(StoreError::from)? {
        take(AuditRow::read(row).map_err(StoreError::from)?)?;
    }
    Ok(())
}

/// The intents without an outcome, oldest first.
pub(super) fn open_intents(connection: &Connection) -> rusqlite::Result<Vec<OpenIntent>> {
    let mut select = connection.prepare(&format!(
        "SELECT intent, action, target, at FROM audit WHERE seq IN (SELECT seq FROM {OPEN}) ORDER BY seq"
    ))?;
    let read = |row: &Row<'_>| {
        let id: String = row.get(0)?;
        Ok(OpenIntent { id: uuid(&id, 0)?, action: row.get(1)?, target: row.get(2)?, at: time(row, 3)? })
    };
    select.query_map([], read)?.collect()
}

/// How many intents have no outcome.
pub(super) fn count_open(connection: &Connection) -> rusqlite::Result<u64> {
    let select = format!("SELECT count(*) FROM {OPEN}");
    connection.query_row(&select, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}

/// The intents without an outcome. The indexes hold all that this needs, and a host that starts waits for
/// it.
const OPEN: &str = "audit AS begun INDEXED BY audit_begun WHERE kind = 'intended' AND NOT EXISTS
    (SELECT 1 FROM audit WHERE intent IS NOT NULL AND kind <> 'intended' AND intent = begun.intent)";

fn kind(row: &Row<'_>, index: usize) -> rusqlite::Result<EntryKind> {
    let word: String = row.get(index)?;
    let known = EntryKind::ALL.into_iter().find(|kind| kind.as_str() == word);
    known.ok_or_else(|| unreadable(index, Type::Text, format!("`{word}` is no kind of entry").into()))
}

fn time(row: &Row<'_>, index: usize) -> rusqlite::Result<Timestamp> {
    Timestamp::from_microsecond(row.get(index)?)
        .map_err(|error| unreadable(index, Type::Integer, error.into()))
}

fn uuid(text: &str, index: usize) -> rusqlite::Result<Uuid> {
    Uuid::parse_str(text).map_err(|error| unreadable(index, Type::Text, error.into()))
}

/// The error about a column that somebody else has written.
fn unreadable(
    index: usize,
    found: Type,
    reason: Box<dyn std::error::Error + Send + Sync>,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(index, found, reason)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
