//! Moments and spans as people read and write them.

use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// A moment as a person names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// This one.
    At(Timestamp),
    /// So long before now.
    Ago(SignedDuration),
}

impl When {
    /// The moment that is meant now. One before all calendars is the first one.
    pub(super) fn resolved(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(moment) => moment,
            Self::Ago(span) => now.checked_sub(span).unwrap_or(Timestamp::MIN),
        }
    }
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(span) = span(text) {
            return Ok(Self::Ago(span));
        }
        if let Ok(moment) = text.parse() {
            return Ok(Self::At(moment));
        }
        // A date would be read from the text of a moment without its zone too, and its time be lost.
        let is_a_date = text.len() == "2026-01-31".len();
        let midnight =
            |date: Date| date.to_zoned(TimeZone::UTC).map(|midnight| Self::At(midnight.timestamp()));
        match text.parse().map(midnight) {
            Ok(Ok(moment)) if is_a_date => Ok(moment),
            _ => Err(
                "use a span such as `10m`, `2h` or `1d`, a time such as `2026-01-31T12:00:00Z`, or a date"
                    .to_owned(),
            ),
        }
    }
}

/// A number and its unit, several of them one after the other.
fn span(text: &str) -> Option<SignedDuration> {
    let (mut seconds, mut number) = (0_i64, None);
    for character in text.chars() {
        if let Some(digit) = character.to_digit(10) {
            number = Some(number.unwrap_or(0_i64).checked_mul(10)?.checked_add(digit.into())?);
            continue;
        }
        let unit = match character {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        seconds = seconds.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    let is_whole = number.is_none() && !text.is_empty();
    is_whole.then(|| SignedDuration::from_secs(seconds))
}

/// How long it has been, in the two largest units that say something; a moment that lies ahead,
/// since a clock was set, is now.
pub(super) fn elapsed(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(since).as_secs().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// How long ago a moment was.
pub(super) fn ago(time: Timestamp, now: Timestamp) -> String {
    format!("{} ago", elapsed(time, now))
}

/// A moment to the millisecond, in UTC.
pub(super) fn moment(time: Timestamp) -> String {
    format!("{time:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_named_by_a_span_a_time_or_a_date() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        for (text, moment) in [
            ("10m", "2026-01-31T11:50:00Z"),
            ("1d2h", "2026-01-30T10:00:00Z"),
            ("0s", "2026-01-31T12:00:00Z"),
            ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
            ("2026-01-02T03:04:05+02:00", "2026-01-02T01:04:05Z"),
            ("2026-01-02", "2026-01-02T00:00:00Z"),
        ] {
            assert_eq!(text.parse::<When>().unwrap().resolved(now), moment.parse().unwrap(), "{text}");
        }
        for text in [
            "",
            "10",
            "m",
            "10 m",
            "1m2",
            "-5m",
            "1y",
            "99999999999999999999d",
            "soon",
            "2026-13-01",
            "2026-01-02T03:04:05",
        ] {
            text.parse::<When>().unwrap_err();
        }
        assert_eq!(When::Ago(SignedDuration::MAX).resolved(now), Timestamp::MIN);
    }

    #[test]
    fn a_span_shows_its_two_largest_units() {
        let since: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        for (seconds, text) in [
            (-5, "0 s"),
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min 0 s"),
            (3_599, "59 min 59 s"),
            (3_600, "1 h 0 min"),
            (86_399, "23 h 59 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(elapsed(since, since + SignedDuration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_moment_always_has_its_milliseconds() {
        assert_eq!(moment("2026-01-02T03:04:05Z".parse().unwrap()), "2026-01-02T03:04:05.000Z");
        assert_eq!(moment("2026-01-02T03:04:05.123456Z".parse().unwrap()), "2026-01-02T03:04:05.123Z");
    }
}
