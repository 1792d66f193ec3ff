//! How much a key or a user may use: read from payloads, kept as JSON, compared.
//!
//! Not counted here: the host does that. The invariant: what one key gives to another never exceeds what it has
//! itself.

use bkg_sqlite::rusqlite::types::Type;
use bkg_sqlite::rusqlite::{self, Row};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::payload::Payload;
use crate::refusal::Refusal;

/// The largest number that every reader of JSON keeps.
const LARGEST_EXACT: u64 = (1 << 53) - 1;
/// How many parts a unit of money has here.
const PARTS: f64 = 1_000_000.0;
/// The longest month.
const DAYS_OF_MONTH: u64 = 31;

/// How much a key or a user may use; what is `None` is not limited.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Limits {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) requests_per_minute: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tokens_per_minute: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tokens_per_day: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) concurrent_requests: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) concurrent_streams: Option<u64>,
    /// What is set aside for an answer whose request does not say how long it may be: no bound of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) budget: Option<Budget>,
}

/// How much money may be spent in which time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Budget {
    amount: Amount,
    per: Period,
}

/// Money in millionths of a unit, of whatever currency the host's prices are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
struct Amount(u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Period {
    Day,
    Month,
}

impl Limits {
    /// Reads the member `limits`; one that is absent limits nothing.
    ///
    /// # Errors
    /// The member that is not known or does not fit.
    pub(crate) fn read(payload: &mut Payload) -> Result<Self, Refusal> {
        Ok(Self::read_optional(payload)?.unwrap_or_default())
    }

    /// Reads the member `limits`, if it is there; `null` means none at all.
    ///
    /// # Errors
    /// The member that is not known or does not fit.
    pub(crate) fn read_optional(payload: &mut Payload) -> Result<Option<Self>, Refusal> {
        if payload.is_null("limits") {
            return Ok(Some(Self::default()));
        }
        let Some(mut members) = payload.object("limits")? else { return Ok(None) };
        let count = 1..=u64::from(u32::MAX);
        let tokens = 1..=LARGEST_EXACT;
        let limits = Self {
            requests_per_minute: members.number("requestsPerMinute", count.clone())?,
            tokens_per_minute: members.number("tokensPerMinute", tokens.clone())?,
            tokens_per_day: members.number("tokensPerDay", tokens.clone())?,
            concurrent_requests: members.number("concurrentRequests", count.clone())?,
            concurrent_streams: members.number("concurrentStreams", count)?,
            max_tokens: members.number("maxTokens", tokens)?,
            budget: Budget::read(&mut members)?,
        };
        members.end()?;
        Ok(Some(limits))
    }

    /// These limits, and where nothing is said those of `maker`.
    pub(crate) fn or(self, maker: &Self) -> Self {
        Self {
            requests_per_minute: self.requests_per_minute.or(maker.requests_per_minute),
            tokens_per_minute: self.tokens_per_minute.or(maker.tokens_per_minute),
            tokens_per_day: self.tokens_per_day.or(maker.tokens_per_day),
            concurrent_requests: self.concurrent_requests.or(maker.concurrent_requests),
            concurrent_streams: self.concurrent_streams.or(maker.concurrent_streams),
            max_tokens: self.max_tokens.or(maker.max_tokens),
            budget: self.budget.or(maker.budget),
        }
    }

    /// The first limit that is wider here than in `other`; with `None` there is none.
    pub(crate) fn first_excess(&self, other: &Self) -> Option<&'static str> {
        let is_more = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(one), Some(other)) => one > other,
        };
        for (one, other, name) in [
            (self.requests_per_minute, other.requests_per_minute, "limits.requestsPerMinute"),
            (self.tokens_per_minute, other.tokens_per_minute, "limits.tokensPerMinute"),
            (self.tokens_per_day, other.tokens_per_day, "limits.tokensPerDay"),
            (self.concurrent_requests, other.concurrent_requests, "limits.concurrentRequests"),
            (self.concurrent_streams, other.concurrent_streams, "limits.concurrentStreams"),
        ] {
            if is_more(one, other) {
                return Some(name);
            }
        }
        let is_wider = match (self.budget, other.budget) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(one), Some(other)) => one.exceeds(other),
        };
        is_wider.then_some("limits.budget")
    }

    /// As the database has them.
    pub(crate) fn to_text(self) -> String {
        serde_json::to_string(&self).expect("limits have a JSON form")
    }

    /// As they stand in a column.
    pub(crate) fn of_column(row: &Row<'_>, index: usize) -> rusqlite::Result<Self> {
        serde_json::from_str(&row.get::<_, String>(index)?)
            .map_err(|error| rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(error)))
    }
}

impl Budget {
    fn read(limits: &mut Payload) -> Result<Option<Self>, Refusal> {
        let Some(mut members) = limits.object("budget")? else { return Ok(None) };
        let amount =
            members.decimal("amount", "an amount above 0 with at most 6 decimal places", Amount::of)?;
        let per: Period = members.one("per")?;
        members.end()?;
        Ok(Some(Self { amount, per }))
    }

    /// Whether there is a month in which this allows more than `other`.
    fn exceeds(self, other: Self) -> bool {
        let spread = match (self.per, other.per) {
            (Period::Day, Period::Month) => DAYS_OF_MONTH,
            _ => 1,
        };
        self.amount.0.saturating_mul(spread) > other.amount.0
    }
}

impl Amount {
    fn of(units: f64) -> Option<Self> {
        let parts = (units * PARTS).round();
        let is_exact = (parts / PARTS - units).abs() <= units.abs() * (4.0 * f64::EPSILON);
        (units > 0.0 && units <= 1e9 && is_exact).then_some(Self(parts as u64))
    }
}

impl std::str::FromStr for Period {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "day" => Ok(Self::Day),
            "month" => Ok(Self::Month),
            _ => Err("use `day` or `month`"),
        }
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(1_000_000) {
            return serializer.serialize_u64(self.0 / 1_000_000);
        }
        serializer.serialize_f64(self.0 as f64 / PARTS)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(f64::deserialize(deserializer)?).ok_or_else(|| serde::de::Error::custom("no amount"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn limits(value: Value) -> Result<Limits, Refusal> {
        let mut payload = Payload::from(json!({ "limits": value }));
        let limits = Limits::read(&mut payload)?;
        payload.end()?;
        Ok(limits)
    }

    fn refused_param(value: Value) -> String {
        match limits(value).unwrap_err() {
            Refusal::Invalid { param, .. } => param.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_read_is_kept_and_shown_as_it_was_written() {
        let all = json!({
            "requestsPerMinute": 1, "tokensPerMinute": 2, "tokensPerDay": 3, "concurrentRequests": 4,
            "concurrentStreams": 5, "maxTokens": 6, "budget": { "amount": 0.25, "per": "month" }
        });
        let read = limits(all.clone()).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), all);
        assert_eq!(serde_json::from_str::<Limits>(&read.to_text()).unwrap(), read);
        assert_eq!(limits(Value::Null).unwrap(), Limits::default());
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_its_path() {
        for (value, param) in [
            (json!([]), "limits"),
            (json!({ "requestsPerMinute": 0 }), "limits.requestsPerMinute"),
            (json!({ "tokensPerMinute": "1" }), "limits.tokensPerMinute"),
            (json!({ "concurrentRequests": 1.5 }), "limits.concurrentRequests"),
            (json!({ "perHour": 1 }), "limits.perHour"),
            (json!({ "budget": 5 }), "limits.budget"),
            (json!({ "budget": { "amount": 5 } }), "limits.budget.per"),
            (json!({ "budget": { "amount": 5, "per": "year" } }), "limits.budget.per"),
            (json!({ "budget": { "amount": 0, "per": "day" } }), "limits.budget.amount"),
            (json!({ "budget": { "amount": 0.0000001, "per": "day" } }), "limits.budget.amount"),
            (json!({ "budget": { "amount": "5", "per": "day" } }), "limits.budget.amount"),
            (json!({ "budget": { "amount": 1, "per": "day", "in": "EUR" } }), "limits.budget.in"),
        ] {
            assert_eq!(refused_param(value.clone()), param, "{value}");
        }
    }

    #[test]
    fn nothing_is_given_that_is_wider_than_what_there_is() {
        let maker = json!({ "tokensPerMinute": 10, "budget": { "amount": 31, "per": "month" } });
        let maker = limits(maker).unwrap();
        for (asked, excess) in [
            (json!({}), None),
            (json!({ "tokensPerMinute": 10, "concurrentStreams": 99 }), None),
            (json!({ "tokensPerMinute": 11 }), Some("limits.tokensPerMinute")),
            (json!({ "budget": { "amount": 1, "per": "day" } }), None),
            (json!({ "budget": { "amount": 1.01, "per": "day" } }), Some("limits.budget")),
            (json!({ "budget": { "amount": 31.01, "per": "month" } }), Some("limits.budget")),
        ] {
            let asked = limits(asked).unwrap().or(&maker);
            assert_eq!(asked.first_excess(&maker), excess, "{asked:?}");
        }
    }
}
