//! Moments and spans as people read them.

use jiff::Timestamp;

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
    use jiff::SignedDuration;

    use super::*;

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
