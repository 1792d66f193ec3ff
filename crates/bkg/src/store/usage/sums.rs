//! Sums of what requests used, by the hour: written in the transaction of their rows, and kept longer.
//!
//! Not the rows. The invariants: a row and its part of the sums are written together or not at all; and
//! there is one sum for each name that a plugin registered, never for one that a client made up.

use bkg_protocol::PluginName;
use bkg_sqlite::rusqlite::{self, Connection, Row, ToSql, params};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::{UsageRow, stored};
use crate::money::Money;

/// In microseconds.
const HOUR: i64 = 3_600_000_000;
const HOURS_OF_DAY: i64 = 24;
/// How long sums are kept.
const KEPT_FOR: i64 = 400 * HOURS_OF_DAY;
/// How many sums are kept.
const MOST_KEPT: i64 = 500_000;
/// Nobody has used so many tokens with one request, whatever a plugin says; and so sums fit a number.
const MOST_TOKENS: u64 = 1_000_000_000_000;

/// What sums are sums of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UsageGroup {
    /// Requests with one API key.
    Key,
    /// Requests of one user.
    User,
    /// Requests that were answered with one model, by the name that was asked for.
    Model,
    /// Requests that one plugin answered.
    Plugin,
    /// Requests that began on one day of UTC.
    Day,
    /// Requests that began in one hour.
    Hour,
}

/// Which sums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageQuestion {
    /// What they are sums of.
    pub by: UsageGroup,
    /// Only requests that began in this hour or later.
    pub from: Timestamp,
    /// Only requests that began before this time, up to the end of its hour.
    pub to: Timestamp,
    /// Only requests of this user.
    pub user: Option<String>,
    /// Only requests with this API key.
    pub key_id: Option<String>,
    /// How many groups are left out before the first.
    pub offset: u64,
    /// At most so many groups.
    pub limit: usize,
}

/// What some requests used together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsageSum {
    /// How many requests there were.
    pub requests: u64,
    /// How many of them did not end well.
    pub failed: u64,
    /// For how many of them tokens are estimates.
    pub estimated: u64,
    /// How many tokens were read.
    pub prompt_tokens: u64,
    /// How many tokens were written.
    pub completion_tokens: u64,
    /// What they cost, by the prices of their time.
    pub cost: Money,
}

/// What the requests of one group used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UsageOfGroup {
    /// The key's id, the user, the model, the plugin, or when the day or the hour began; `null` for requests
    /// without it.
    pub name: Option<String>,
    /// What they used.
    #[serde(flatten)]
    pub sum: UsageSum,
}

/// Sums of groups, and of all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageSums {
    /// The groups: days and hours from the newest, others by tokens.
    pub groups: Vec<UsageOfGroup>,
    /// Whether there are more of them.
    pub has_more: bool,
    /// Of all groups, also of those on other pages.
    pub total: UsageSum,
}

/// What one key or user has used of the day and the month that `since` is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedSoFar {
    /// The user.
    pub user: String,
    /// The key; `None` for the sum of all that the user has used.
    pub key_id: Option<String>,
    /// Tokens of the day.
    pub tokens_today: u64,
    /// Money of the day.
    pub money_today: Money,
    /// Money of the month.
    pub money_this_month: Money,
}

/// The hour of a time, counted from 1970.
fn hour_of(time: Timestamp) -> i64 {
    time.as_microsecond().div_euclid(HOUR)
}

/// Adds rows to the sums.
pub(super) fn add(connection: &Connection, rows: &[UsageRow]) -> rusqlite::Result<()> {
    let mut add = connection.prepare_cached(
        "INSERT INTO usage_hours VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT DO UPDATE SET requests = requests + 1, failed = failed + excluded.failed,
           estimated = estimated + excluded.estimated, prompt_tokens = prompt_tokens + excluded.prompt_tokens,
           completion_tokens = completion_tokens + excluded.completion_tokens, cost = cost + excluded.cost",
    )?;
    for row in rows {
        let tokens = |tokens: Option<u64>| stored(tokens.unwrap_or(0).min(MOST_TOKENS));
        // Without a plugin that answered, the model is whatever the client wrote.
        let model = row.model.as_deref().filter(|_| row.plugin.is_some()).unwrap_or("");
        add.execute(params![
            hour_of(row.at),
            row.user,
            row.key_id.as_deref().unwrap_or(""),
            row.plugin.as_ref().map_or("", PluginName::as_str),
            model,
            row.outcome != "ok",
            row.estimated,
            tokens(row.prompt_tokens),
            tokens(row.completion_tokens),
            row.cost.map_or(0, |cost| stored(cost.micros())),
        ])?;
    }
    Ok(())
}

/// Removes what is too old or too much.
pub(super) fn remove_old(connection: &Connection, now: Timestamp) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM usage_hours WHERE hour < ?1")?
        .execute([hour_of(now) - KEPT_FOR])?;
    connection
        .prepare_cached(
            "DELETE FROM usage_hours WHERE hour <= (SELECT hour FROM usage_hours ORDER BY hour DESC LIMIT 1 OFFSET ?1)",
        )?
        .execute([MOST_KEPT])?;
    Ok(())
}

const SUMS: &str = "coalesce(sum(requests), 0), coalesce(sum(failed), 0), coalesce(sum(estimated), 0), \
    coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0), coalesce(sum(cost), 0)";

/// The sums that are asked for.
pub(super) fn read(connection: &Connection, question: &UsageQuestion) -> rusqlite::Result<UsageSums> {
    let (from, to) =
        (hour_of(question.from), question.to.as_microsecond().saturating_add(HOUR - 1).div_euclid(HOUR));
    let mut filter = "hour >= :from AND hour < :to".to_owned();
    let mut parameters: Vec<(&str, &dyn ToSql)> = vec![(":from", &from), (":to", &to)];
    if let Some(user) = &question.user {
        filter.push_str(" AND user = :user");
        parameters.push((":user", user));
    }
    if let Some(key) = &question.key_id {
        filter.push_str(" AND key_id = :key");
        parameters.push((":key", key));
    }
    let total = connection
        .prepare_cached(&format!("SELECT {SUMS} FROM usage_hours WHERE {filter}"))?
        .query_row(parameters.as_slice(), |row| UsageSum::read(row, 0))?;
    let (group, order) = match question.by {
        UsageGroup::Key => ("key_id", BY_TOKENS),
        UsageGroup::User => ("user", BY_TOKENS),
        UsageGroup::Model => ("model", BY_TOKENS),
        UsageGroup::Plugin => ("plugin", BY_TOKENS),
        UsageGroup::Day => ("hour / 24", "1 DESC"),
        UsageGroup::Hour => ("hour", "1 DESC"),
    };
    let (limit, offset) = (stored(question.limit as u64), stored(question.offset));
    let one_more = limit.saturating_add(1);
    parameters.push((":limit", &one_more));
    parameters.push((":offset", &offset));
    let mut select = connection.prepare_cached(&format!(
        "SELECT {group}, {SUMS} FROM usage_hours WHERE {filter} GROUP BY 1 ORDER BY {order} \
         LIMIT :limit OFFSET :offset"
    ))?;
    let groups = select.query_map(parameters.as_slice(), |row| {
        let name = match question.by {
            UsageGroup::Day => begin(row.get::<_, i64>(0)?.saturating_mul(HOURS_OF_DAY)),
            UsageGroup::Hour => begin(row.get(0)?),
            _ => Some(row.get::<_, String>(0)?).filter(|name| !name.is_empty()),
        };
        Ok(UsageOfGroup { name, sum: UsageSum::read(row, 1)? })
    })?;
    let mut groups = groups.collect::<rusqlite::Result<Vec<_>>>()?;
    let has_more = groups.len() > question.limit;
    groups.truncate(question.limit);
    Ok(UsageSums { groups, has_more, total })
}

const BY_TOKENS: &str = "sum(prompt_tokens) + sum(completion_tokens) DESC, sum(requests) DESC, 1";

/// When an hour begins.
fn begin(hour: i64) -> Option<String> {
    Timestamp::from_microsecond(hour.saturating_mul(HOUR)).ok().map(|time| time.to_string())
}

impl UsageSum {
    fn read(row: &Row<'_>, first: usize) -> rusqlite::Result<Self> {
        let number = |index: usize| {
            Ok::<_, rusqlite::Error>(row.get::<_, i64>(first + index)?.max(0).unsigned_abs())
        };
        Ok(Self {
            requests: number(0)?,
            failed: number(1)?,
            estimated: number(2)?,
            prompt_tokens: number(3)?,
            completion_tokens: number(4)?,
            cost: Money::from_micros(number(5)?),
        })
    }
}

/// What keys and users have used since a day and a month began.
pub(super) fn used_so_far(
    connection: &Connection,
    day: Timestamp,
    month: Timestamp,
) -> rusqlite::Result<Vec<UsedSoFar>> {
    let mut used = Vec::new();
    for (columns, filter) in [("user, NULL", ""), ("user, key_id", " AND key_id <> ''")] {
        let mut select = connection.prepare_cached(&format!(
            "SELECT {columns}, sum(CASE WHEN hour >= :day THEN prompt_tokens + completion_tokens ELSE 0 END), \
               sum(CASE WHEN hour >= :day THEN cost ELSE 0 END), sum(cost) \
             FROM usage_hours WHERE hour >= :month AND user <> ''{filter} GROUP BY 1, 2"
        ))?;
        let parameters: [(&str, &dyn ToSql); 2] = [(":day", &hour_of(day)), (":month", &hour_of(month))];
        let rows = select.query_map(&parameters, |row| {
            let number = |index| Ok::<_, rusqlite::Error>(row.get::<_, i64>(index)?.max(0).unsigned_abs());
            Ok(UsedSoFar {
                user: row.get(0)?,
                key_id: row.get(1)?,
                tokens_today: number(2)?,
                money_today: Money::from_micros(number(3)?),
                money_this_month: Money::from_micros(number(4)?),
            })
        })?;
        for row in rows {
            used.push(row?);
        }
    }
    Ok(used)
}
