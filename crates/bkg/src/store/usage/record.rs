//! What requests used, as it is read: pages of rows, and one row with all that is known of it.
//!
//! Not how rows get there, which is `usage`'s own matter. The invariant: a number that a plugin made up
//! breaks nothing here.

use bkg_sqlite::rusqlite::{self, Connection, OptionalExtension, Row, ToSql};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::stored;
use crate::money::Money;

/// One row, as it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsageRecord {
    /// Its number; later rows have higher ones.
    pub id: i64,
    /// When the request began.
    pub at: Timestamp,
    /// The `x-request-id`.
    pub request_id: String,
    /// Whose request.
    pub user: String,
    /// The id of the API key that was used.
    pub key_id: Option<String>,
    /// Who answered.
    pub plugin: Option<String>,
    /// What was asked for.
    pub capability: String,
    /// The model that was asked for.
    pub model: Option<String>,
    /// How many tokens were read.
    pub prompt_tokens: Option<u64>,
    /// How many tokens were written.
    pub completion_tokens: Option<u64>,
    /// Milliseconds until the first byte of a streamed answer.
    pub first_byte_ms: Option<u32>,
    /// Milliseconds until the end.
    pub total_ms: u32,
    /// Whether the answer was streamed.
    pub streamed: bool,
    /// `ok`, or the code of the error.
    pub outcome: String,
    /// The HTTP status.
    pub status: u16,
    /// The route that was asked, such as `POST /v1/chat/completions`; `null` for what a plugin asked.
    pub route: Option<String>,
    /// The model that answered, as its plugin knows it.
    pub served_model: Option<String>,
    /// Whether the tokens are an estimate, since the plugin did not say how many there were.
    pub estimated: bool,
    /// What it cost, by the prices of that time; `null` for a model without a price.
    pub cost: Option<Money>,
    /// The tries at having it answered, oldest first.
    pub attempts: Vec<AttemptRecord>,
    /// What went wrong.
    pub error: Option<String>,
}

/// One try at having a request answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttemptRecord {
    /// Who was asked.
    pub plugin: String,
    /// The model, as that plugin knows it.
    pub model: String,
    /// The number of the instance that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Milliseconds from the beginning of the request to that of the try.
    pub began_ms: u32,
    /// How many milliseconds it took, to the first part of the answer.
    pub took_ms: u32,
    /// `ok`, or the code of the error.
    pub outcome: String,
}

/// What was asked and answered, redacted and cut; for keys that this is turned on for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct Bodies {
    /// What was asked.
    pub request: Option<String>,
    /// What was answered.
    pub answer: Option<String>,
}

/// Which rows of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageFilter {
    /// Only rows with a lower number.
    pub before: Option<u64>,
    /// At most so many; more than [`UsageFilter::MOST`] are never given.
    pub limit: usize,
    /// Only the request with this `x-request-id`.
    pub request_id: Option<String>,
    /// Only requests with this API key.
    pub key_id: Option<String>,
    /// Only requests of this user.
    pub user: Option<String>,
    /// Only requests that named this model.
    pub model: Option<String>,
    /// Only requests that this plugin answered.
    pub plugin: Option<String>,
    /// Only requests that ended so: `ok`, or the code of an error.
    pub outcome: Option<String>,
    /// Only requests that began at this time or later.
    pub since: Option<Timestamp>,
}

impl UsageFilter {
    /// The most rows that a page has.
    pub const MOST: usize = 1_000;

    /// The newest rows, whatever they say.
    pub fn newest(limit: usize) -> Self {
        Self {
            before: None,
            limit,
            request_id: None,
            key_id: None,
            user: None,
            model: None,
            plugin: None,
            outcome: None,
            since: None,
        }
    }
}

/// The rows that `filter` wants, newest first.
pub(super) fn page(connection: &Connection, filter: &UsageFilter) -> rusqlite::Result<Vec<UsageRecord>> {
    let before = filter.before.map_or(i64::MAX, stored);
    let limit = stored(filter.limit.min(UsageFilter::MOST) as u64);
    let mut parameters: Vec<(&str, &dyn ToSql)> = vec![(":before", &before), (":limit", &limit)];
    // Only what is asked for stands in the text, so that each question finds its own index.
    let mut wanted = String::new();
    if let Some(request) = &filter.request_id {
        wanted.push_str(" AND request_id = :request");
        parameters.push((":request", request));
    }
    if let Some(key) = &filter.key_id {
        // The plus keeps its index out of a question about one request.
        wanted.push_str(if filter.request_id.is_some() {
            " AND +key_id = :key"
        } else {
            " AND key_id = :key"
        });
        parameters.push((":key", key));
    }
    for (column, value) in [
        ("user", &filter.user),
        ("model", &filter.model),
        ("plugin", &filter.plugin),
        ("outcome", &filter.outcome),
    ] {
        let Some(value) = value else { continue };
        let (name, condition) = match column {
            "user" => (":user", " AND user = :user"),
            "model" => (":model", " AND model = :model"),
            "plugin" => (":plugin", " AND plugin = :plugin"),
            _ => (":outcome", " AND outcome = :outcome"),
        };
        wanted.push_str(condition);
        parameters.push((name, value));
    }
    let since = filter.since.map(Timestamp::as_microsecond);
    if let Some(since) = &since {
        wanted.push_str(" AND at >= :since");
        parameters.push((":since", since));
    }
    let mut select = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM usage WHERE id < :before{wanted} ORDER BY id DESC LIMIT :limit"
    ))?;
    select.query_map(parameters.as_slice(), UsageRecord::read)?.collect()
}

const COLUMNS: &str = "id, at, request_id, user, key_id, plugin, capability, model, prompt_tokens, completion_tokens, \
    first_byte_ms, total_ms, streamed, outcome, status, route, served_model, estimated, cost, attempts, error";

/// The rows of one request, oldest first: its own, and those of what plugins asked on its behalf.
pub(super) fn of_request(connection: &Connection, request_id: &str) -> rusqlite::Result<Vec<UsageRecord>> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM usage WHERE request_id = ?1 ORDER BY id LIMIT 100"
    ))?;
    select.query_map([request_id], UsageRecord::read)?.collect()
}

/// What was asked and answered in a row, where that was written down.
pub(super) fn bodies(connection: &Connection, id: i64) -> rusqlite::Result<Option<Bodies>> {
    connection
        .prepare_cached("SELECT request, answer FROM usage_bodies WHERE id = ?1")?
        .query_row([id], |row| Ok(Bodies { request: row.get(0)?, answer: row.get(1)? }))
        .optional()
}

impl UsageRecord {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let at = Timestamp::from_microsecond(row.get(1)?);
        Ok(Self {
            id: row.get(0)?,
            at: at.unwrap_or(Timestamp::MIN),
            request_id: row.get(2)?,
            user: row.get(3)?,
            key_id: row.get(4)?,
            plugin: row.get(5)?,
            capability: row.get(6)?,
            model: row.get(7)?,
            prompt_tokens: tokens(row, 8)?,
            completion_tokens: tokens(row, 9)?,
            first_byte_ms: row.get(10)?,
            total_ms: row.get(11)?,
            streamed: row.get(12)?,
            outcome: row.get(13)?,
            status: row.get(14)?,
            route: row.get(15)?,
            served_model: row.get(16)?,
            estimated: row.get(17)?,
            cost: tokens(row, 18)?.map(Money::from_micros),
            attempts: row
                .get::<_, Option<String>>(19)?
                .and_then(|text| serde_json::from_str(&text).ok())
                .unwrap_or_default(),
            error: row.get(20)?,
        })
    }
}

fn tokens(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<u64>> {
    Ok(row.get::<_, Option<i64>>(index)?.map(|tokens| tokens.max(0).unsigned_abs()))
}
