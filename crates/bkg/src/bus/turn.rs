//! How much one session may do before everybody else has their turn, and how often it makes news.
//!
//! Pure. The invariant: however many frames a plugin sends, its connection lets other tasks run after a
//! bounded number of them, and what becomes known of it in the host's own log is bounded by time.
//! `connection` asks after each frame.

use std::time::Duration;

/// How many frames are heard in one turn: as many as are written together.
const FRAMES: u32 = 64;
/// How many bytes are heard in one turn, unless a single frame is larger.
const BYTES: usize = 256 << 10;

/// How much news a session may make at once.
const NEWS_BURST: u32 = 20;
/// How long until one more piece of news is allowed.
const NEWS_EVERY: Duration = Duration::from_secs(1);

/// What a connection has heard since others last had their turn.
#[derive(Debug, Default)]
pub(super) struct Turn {
    frames: u32,
    bytes: usize,
}

impl Turn {
    /// Notes a frame of so many bytes; answers whether others come first now.
    pub(super) fn heard(&mut self, bytes: usize) -> bool {
        self.frames += 1;
        self.bytes += bytes;
        if self.frames < FRAMES && self.bytes < BYTES {
            return false;
        }
        *self = Self::default();
        true
    }
}

/// How often a session may still make news: what it says beyond that is noticed later, and once.
#[derive(Debug)]
pub(super) struct News {
    left: u32,
    /// When the last one was earned, since the session began.
    earned: Duration,
}

impl Default for News {
    fn default() -> Self {
        Self { left: NEWS_BURST, earned: Duration::ZERO }
    }
}

impl News {
    /// Whether one more piece is allowed at `now`, the time since the session began.
    pub(super) fn allow(&mut self, now: Duration) -> bool {
        let earned = now.saturating_sub(self.earned).as_millis() / NEWS_EVERY.as_millis();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(earned).min(NEWS_BURST);
            self.earned = now;
        }
        let allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_ends_by_frames_or_by_bytes_and_begins_anew() {
        let mut turn = Turn::default();
        for _ in 0..2 {
            assert!((1..FRAMES).all(|_| !turn.heard(10)));
            assert!(turn.heard(10));
        }
        assert!(!turn.heard(BYTES - 1));
        assert!(turn.heard(1));
        assert!(turn.heard(16 << 20), "one frame of any size is heard, and then others come first");
    }

    #[test]
    fn news_comes_in_a_burst_and_then_by_the_second() {
        let mut news = News::default();
        let second = Duration::from_secs;
        let told =
            |news: &mut News, at: u64, times: u32| (0..times).filter(|_| news.allow(second(at))).count();
        assert_eq!(told(&mut news, 0, 1_000), 20);
        assert_eq!(told(&mut news, 1, 1_000), 1);
        assert_eq!(told(&mut news, 4, 1_000), 3);
        assert_eq!(told(&mut news, 9_999, 1_000), 20);
    }
}
