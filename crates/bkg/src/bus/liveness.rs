//! Whether a session lives: by its beats, and by WebSocket pings where the plugin bears them.
//!
//! Pure: the time comes in, verdicts go out. A base plugin is never pinged, and its silence counts
//! against it only once it has shown that it beats.

use std::time::Duration;

use bkg_protocol::Limits;
use bkg_protocol::host::Contract;

/// How many beats show that a base plugin beats at all: one known plugin beats once.
const BEATS_THAT_COUNT: u32 = 3;

/// What silence makes of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Silence {
    /// It beats in time.
    None,
    /// It never showed that it beats: it stays in rotation at lower preference.
    Unproven,
    /// It missed one window: it is out of rotation.
    OneWindow,
    /// It missed two: it is started again.
    TwoWindows,
}

/// What the socket needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// Nothing.
    Fine,
    /// A ping.
    Ping,
    /// To be closed: the pong is overdue.
    Dead,
}

/// The beats and pings of one session; all times are since the session began.
#[derive(Debug)]
pub(super) struct Liveness {
    contract: Contract,
    window: Duration,
    ping_every: Duration,
    pong_within: Duration,
    beats: u32,
    last_beat: Duration,
    last_ping: Duration,
    unanswered_ping: bool,
}

impl Liveness {
    /// A session that registered at `now`, which counts as its first sign of life.
    pub(super) fn new(contract: Contract, limits: &Limits, now: Duration) -> Self {
        Self {
            contract,
            window: limits.health_window(),
            ping_every: limits.ping_every,
            pong_within: limits.pong_within,
            beats: 0,
            last_beat: now,
            last_ping: now,
            unanswered_ping: false,
        }
    }

    pub(super) fn beat(&mut self, now: Duration) {
        self.beats = self.beats.saturating_add(1);
        self.last_beat = now;
    }

    pub(super) fn pong(&mut self) {
        self.unanswered_ping = false;
    }

    pub(super) fn silence(&self, now: Duration) -> Silence {
        let silent = now.saturating_sub(self.last_beat);
        if silent <= self.window {
            return Silence::None;
        }
        if self.contract == Contract::Base && self.beats < BEATS_THAT_COUNT {
            return Silence::Unproven;
        }
        if silent <= self.window * 2 { Silence::OneWindow } else { Silence::TwoWindows }
    }

    /// What the socket needs now; a ping that this asks for counts as sent.
    pub(super) fn link(&mut self, now: Duration) -> Link {
        if self.contract == Contract::Base {
            return Link::Fine;
        }
        let since = now.saturating_sub(self.last_ping);
        if self.unanswered_ping {
            return if since > self.pong_within { Link::Dead } else { Link::Fine };
        }
        if since < self.ping_every {
            return Link::Fine;
        }
        self.last_ping = now;
        self.unanswered_ping = true;
        Link::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn liveness(contract: Contract) -> Liveness {
        Liveness::new(contract, &Limits::default(), at(0))
    }

    #[test]
    fn an_extended_plugin_misses_one_window_and_then_two() {
        let mut beats = liveness(Contract::Extended);
        beats.beat(at(10));
        assert_eq!(beats.silence(at(35)), Silence::None);
        assert_eq!(beats.silence(at(36)), Silence::OneWindow);
        assert_eq!(beats.silence(at(60)), Silence::OneWindow);
        assert_eq!(beats.silence(at(61)), Silence::TwoWindows);
        beats.beat(at(62));
        assert_eq!(beats.silence(at(63)), Silence::None);
    }

    #[test]
    fn a_base_plugin_that_never_beats_stays_in_rotation() {
        let mut beats = liveness(Contract::Base);
        beats.beat(at(1));
        beats.beat(at(2));
        assert_eq!(beats.silence(at(3_600)), Silence::Unproven);
        beats.beat(at(3));
        assert_eq!(beats.silence(at(3_600)), Silence::TwoWindows);
    }

    #[test]
    fn a_base_plugin_is_never_pinged_and_an_extended_one_must_answer() {
        assert_eq!(liveness(Contract::Base).link(at(3_600)), Link::Fine);
        let mut link = liveness(Contract::Extended);
        assert_eq!(link.link(at(14)), Link::Fine);
        assert_eq!(link.link(at(15)), Link::Ping);
        assert_eq!(link.link(at(25)), Link::Fine);
        assert_eq!(link.link(at(26)), Link::Dead);
        link.pong();
        assert_eq!(link.link(at(30)), Link::Ping);
    }
}
