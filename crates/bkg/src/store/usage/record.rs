//! What requests used, as it is read: pages for people, and sums for the quotas of keys.
//!
//! Not how rows get there, which is `usage`'s own matter. The invariant: a number that a plugin made up
//! breaks nothing here.

use std::collections::HashMap;

use bkg_sqlite::rusqlite::{self, Connection, Row, ToSql};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::stored;

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
}

impl UsageFilter {
    /// The most rows that a page has.
    pub const MOST: usize = 1_000;
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
    let mut select = connection.prepare_cached(&format!(
        "SELECT id, at, request_id, user, key_id, plugin, capability, model, prompt_tokens, completion_tokens,
           first_byte_ms, total_ms, streamed, outcome, status
         FROM usage WHERE id < :before{wanted} ORDER BY id DESC LIMIT :limit"
    ))?;
    select.query_map(parameters.as_slice(), UsageRecord::read)?.collect()
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
        })
    }
}

/// How many tokens each key has used since a moment, read and written.
pub(super) fn tokens_since(
    connection: &Connection,
    since: Timestamp,
) -> rusqlite::Result<HashMap<String, u64>> {
    let mut select = connection.prepare_cached(
        "SELECT key_id, prompt_tokens, completion_tokens FROM usage WHERE at >= ?1 AND key_id IS NOT NULL",
    )?;
    let mut sums = HashMap::<String, u64>::new();
    let mut rows = select.query([since.as_microsecond()])?;
    while let Some(row) = rows.next()? {
        // Not `sum()`, which fails where plugins claim more tokens than fit a number.
        let used = tokens(row, 1)?.unwrap_or(0).saturating_add(tokens(row, 2)?.unwrap_or(0));
        let key = row.get_ref(0)?.as_str()?;
        match sums.get_mut(key) {
            Some(sum) => *sum = sum.saturating_add(used),
            None => {
                sums.insert(key.to_owned(), used);
            }
        }
    }
    Ok(sums)
}

fn tokens(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<u64>> {
    Ok(row.get::<_, Option<i64>>(index)?.map(|tokens| tokens.max(0).unsigned_abs()))
}
