//! How often a plugin is restarted for edits: at once for people, slower for who edits itself.
//!
//! A plugin that writes into its own folder at every start would restart for ever. Pure: the time comes
//! in. The invariant: an edit is put off, never forgotten.

use std::time::Duration;

use tokio::time::Instant;

/// An edit so soon after a restart may be the restart's own.
const SOON: Duration = Duration::from_secs(3);
/// How many of those in a row are taken for a person's.
const FREE: u32 = 5;
/// The longest that one is put off.
const LONGEST: Duration = Duration::from_secs(60);

/// The edits of one plugin.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Option<Instant>,
    /// How many edits in a row came soon after the restart for the one before.
    soon: u32,
    /// Until when an edit is put off.
    until: Option<Instant>,
    said: bool,
}

impl Pace {
    /// An edit was found: `None` to restart now, or how long to put it off.
    pub(super) fn edited(&mut self, now: Instant) -> Option<Duration> {
        if let Some(until) = self.until {
            if now < until {
                return Some(until - now);
            }
            (self.until, self.last) = (None, Some(now));
            return None;
        }
        let is_soon = self.last.is_some_and(|last| now < last + SOON);
        self.soon = if is_soon { self.soon + 1 } else { 0 };
        self.said &= is_soon;
        match self.soon.checked_sub(FREE) {
            None => {
                self.last = Some(now);
                None
            }
            Some(beyond) => {
                let wait = (SOON * 2u32.saturating_pow(beyond.min(10))).min(LONGEST);
                self.until = Some(now + wait);
                Some(wait)
            }
        }
    }

    /// Whether it is still to be said that edits are put off.
    pub(super) fn is_to_be_said(&mut self) -> bool {
        !std::mem::replace(&mut self.said, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_edits_itself_at_every_start_is_put_off_longer_each_time() {
        let mut pace = Pace::default();
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..20 {
            match pace.edited(now) {
                None => now += Duration::from_millis(200),
                Some(wait) => {
                    waits.push(wait.as_secs());
                    now += wait;
                }
            }
        }
        assert_eq!(waits[..5], [3, 6, 12, 24, 48], "{waits:?}");
        assert!(pace.is_to_be_said() && !pace.is_to_be_said());
        // A while later it is somebody else.
        now += SOON;
        assert_eq!(pace.edited(now), None);
        assert_eq!(pace.edited(now + SOON * 2), None);
    }

    #[test]
    fn a_person_is_never_put_off() {
        let (mut pace, begin) = (Pace::default(), Instant::now());
        for save in 0..100 {
            assert_eq!(pace.edited(begin + SOON * save), None);
        }
    }
}
