//! `GET /admin/usage` and `GET /api/usage`: sums of what requests used, everybody's and one's own.
//!
//! Whole hours of UTC. The invariant: who is no operator sees what they have used themselves, and a key sees
//! what was used with that key.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use super::Admin;
use super::audit::{Limit, limit, time};
use super::logs::number;
use crate::error::Problem;
use crate::store::{UsageGroup, UsageOfGroup, UsageQuestion, UsageSum};
use crate::web::{Access, Call, Endpoint, Routes, Tag};

/// How long ago the sums begin if nobody says when.
const USUAL: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Sums of what requests used.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct UsageAnswer {
    by: UsageGroup,
    /// When the first hour begins.
    from: Timestamp,
    /// Up to when.
    to: Timestamp,
    /// What costs are in.
    currency: String,
    /// Days and hours from the newest, others by tokens.
    groups: Vec<UsageOfGroup>,
    /// Whether there are more groups: ask with `offset`.
    more: bool,
    /// Of all groups together.
    total: UsageSum,
    /// How many requests are missing from all sums, since their rows could not be written.
    lost: u64,
}

/// Adds the routes.
pub(super) fn routes(routes: Routes, admin: &Arc<Admin>) -> Routes {
    let ask = |path, access, summary, whose| {
        Endpoint::get(path, access)
            .summary(Tag::Audit, summary)
            .describe(whose)
            .query::<UsageGroup>("by", "What is summed up; `day` unless said.")
            .query::<Timestamp>("from", "From the hour of this time on; thirty days ago unless said.")
            .query::<Timestamp>("to", "Up to the end of the hour before this time; now unless said.")
            .query::<Limit>("limit", "How many groups; 100 unless said.")
            .query::<u64>("offset", "How many groups are left out before the first.")
    };
    let all = ask(
        "/admin/usage",
        Access::Scope("audit:read"),
        "Read sums of what requests used",
        "Every request to a plugin that has ended is in exactly one group. Money is by the prices of its time.",
    )
    .query::<String>("user", "Only requests of this user.")
    .query::<String>("key", "Only requests with the API key of this id.")
    .answers::<UsageAnswer>(200, "The sums.");
    let own = ask(
        "/api/usage",
        Access::AnyCaller,
        "Read sums of what the caller's requests used",
        "What was used with the key that asks, or by the user who has logged in.",
    )
    .answers::<UsageAnswer>(200, "The sums.");
    routes.add(all, admin, self::all).add(own, admin, self::own)
}

async fn all(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    let (user, key) = (call.query("user")?, call.query("key")?);
    answer(&admin, &call, user, key).await
}

async fn own(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    let user = Some(call.caller.user().to_owned());
    let key = call.caller.key_id().map(|id| id.to_string());
    answer(&admin, &call, user, key).await
}

async fn answer(
    admin: &Admin,
    call: &Call,
    user: Option<String>,
    key_id: Option<String>,
) -> Result<Response, Problem> {
    let now = Timestamp::now();
    let to = time(call, "to")?.unwrap_or(now);
    let from = time(call, "from")?.unwrap_or_else(|| to.saturating_sub(USUAL).unwrap_or(Timestamp::MIN));
    if from > to {
        return Err(Problem::invalid(format!("`from` is after `to`, which is {to}")).param("from"));
    }
    let question = UsageQuestion {
        by: by(call)?,
        from,
        to,
        user,
        key_id,
        offset: number(call, "offset")?.unwrap_or(0),
        limit: limit(call)?,
    };
    let by = question.by;
    let sums = admin.usage.sums(question).await?;
    let answer = UsageAnswer {
        by,
        from,
        to,
        currency: admin.config.prices_currency.clone(),
        groups: sums.groups,
        more: sums.has_more,
        total: sums.total,
        lost: admin.usage.dropped(),
    };
    Ok(axum::Json(answer).into_response())
}

fn by(call: &Call) -> Result<UsageGroup, Problem> {
    let Some(text) = call.query("by")? else { return Ok(UsageGroup::Day) };
    Ok(match text.as_str() {
        "key" => UsageGroup::Key,
        "user" => UsageGroup::User,
        "model" => UsageGroup::Model,
        "plugin" => UsageGroup::Plugin,
        "day" => UsageGroup::Day,
        "hour" => UsageGroup::Hour,
        _ => {
            let message =
                format!("`by` is `{}`: use key, user, model, plugin, day or hour", text.escape_debug());
            return Err(Problem::invalid(message).param("by"));
        }
    })
}
