//! Points in time, as the database keeps them and as answers show them.
//!
//! Not spans, which are `Duration`s. The invariant: a [`Moment`] has a written form, in the years 1 to
//! 9999. Used by everything that expires.

use std::time::Duration;

use bkg_sqlite::rusqlite;
use jiff::Timestamp;
use rusqlite::ToSql;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use serde::{Serialize, Serializer};

/// The first and the last millisecond that `jiff` makes a timestamp of.
const FIRST: i64 = -377_705_023_201_000;
const LAST: i64 = 253_402_207_200_000;

/// Milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(i64);

impl Moment {
    /// This moment.
    pub(crate) fn now() -> Self {
        Self(Timestamp::now().as_millisecond())
    }

    /// Reads RFC 3339, such as `2026-01-31T12:00:00Z`; `None` if it is anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        text.parse::<Timestamp>().ok().map(|time| Self(time.as_millisecond().min(LAST)))
    }

    /// The moment so much later; the end of time at most.
    pub(crate) fn after(self, span: Duration) -> Self {
        let span = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(span).min(LAST))
    }

    /// The moment so much earlier; the beginning of time at least.
    pub(crate) fn before(self, span: Duration) -> Self {
        let span = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(span).max(FIRST))
    }

    /// Milliseconds since 1970, as the answer to a login has them.
    pub(crate) fn as_milliseconds(self) -> i64 {
        self.0
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let time = Timestamp::from_millisecond(self.0).expect("a moment is within the range of timestamps");
        serializer.collect_str(&time)
    }
}

impl ToSql for Moment {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.into())
    }
}

impl FromSql for Moment {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let number = value.as_i64()?;
        let is_known = Timestamp::from_millisecond(number).is_ok();
        is_known.then_some(Self(number)).ok_or(FromSqlError::OutOfRange(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_reads_and_writes_rfc_3339_with_a_zone() {
        let moment = Moment::parse("2026-01-31T12:00:00.250+01:00").unwrap();
        assert_eq!(serde_json::to_string(&moment).unwrap(), r#""2026-01-31T11:00:00.25Z""#);
        for wrong in ["", "tomorrow", "2026-01-31", "2026-01-31T12:00:00", "2026-02-30T12:00:00Z", "99999"]
        {
            assert_eq!(Moment::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_ends_of_time_can_be_written() {
        let last = Moment::parse("9999-12-30T22:00:00.9Z").unwrap();
        for end in [Moment::now().after(Duration::MAX), Moment::now().before(Duration::MAX), last] {
            assert!(serde_json::to_string(&end).is_ok());
        }
    }
}
