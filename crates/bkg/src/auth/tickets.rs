//! One-time tickets: what a page shows in place of its login where it cannot send a header.
//!
//! Kept in memory, for seconds, as hashes. The invariants: a ticket is taken once; it opens nothing
//! that its caller does not, so it is dead as soon as that caller is revoked; and their number is
//! bounded, in all and for each caller. The time comes in.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bkg_protocol::message::Secret;
use jiff::Timestamp;
use tokio::time::Instant;

use super::AuthError;
use super::caller::Caller;
use super::verdicts::Digest;

/// How long a ticket may be used.
const LASTS: Duration = Duration::from_secs(30);
/// How many unused ones are kept.
const MOST: usize = 1_024;
/// How many of one caller: with one more, the oldest is dead.
const MOST_OF_A_CALLER: usize = 16;

/// A ticket as it is handed out; shown once.
#[derive(Debug, Clone)]
pub struct Ticket {
    /// What is presented. It fits wherever a token of HTTP does.
    pub secret: Secret,
    /// From when on it opens nothing.
    pub expires_at: Timestamp,
}

/// The tickets that nobody has used yet.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    issued: Mutex<HashMap<Digest, Issued>>,
}

#[derive(Debug)]
struct Issued {
    caller: Caller,
    expires: Instant,
}

impl Tickets {
    /// A new ticket for a caller.
    ///
    /// # Errors
    /// There are too many of all callers together.
    pub(super) fn issue(&self, caller: &Caller, now: Instant) -> Result<Ticket, AuthError> {
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        issued.retain(|_, other| other.expires > now && !other.caller.is_revoked());
        let own = issued.iter().filter(|(_, other)| is_same(&other.caller, caller));
        if own.clone().count() >= MOST_OF_A_CALLER {
            let oldest = own.min_by_key(|(_, other)| other.expires).map(|(digest, _)| *digest);
            if let Some(oldest) = oldest {
                issued.remove(&oldest);
            }
        }
        if issued.len() >= MOST {
            let why = format!("{MOST} tickets wait to be used: try again in a moment");
            return Err(AuthError::Unavailable { why });
        }
        let secret: [u8; 32] = rand::random();
        let secret = URL_SAFE_NO_PAD.encode(secret);
        issued.insert(Digest::of(&secret), Issued { caller: caller.clone(), expires: now + LASTS });
        Ok(Ticket { secret: Secret::new(secret), expires_at: Timestamp::now() + LASTS })
    }

    /// Whose ticket this is; from now on nobody's.
    ///
    /// # Errors
    /// [`AuthError::Invalid`]: it is used up, too old, or its caller's rights are not what they were.
    pub(super) fn redeem(&self, ticket: &str, now: Instant) -> Result<Caller, AuthError> {
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        let found = issued.remove(&Digest::of(ticket)).ok_or(AuthError::Invalid)?;
        if found.expires <= now || found.caller.is_revoked() {
            return Err(AuthError::Invalid);
        }
        Ok(found.caller)
    }
}

/// Whether two callers came with the same credential, whatever it opened at the time.
fn is_same(one: &Caller, other: &Caller) -> bool {
    (one.user(), &one.rights().credential) == (other.user(), &other.rights().credential)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> Caller {
        let active = serde_json::json!({ "user": name, "sessionId": name });
        let active: super::super::caller::Active = serde_json::from_value(active).unwrap();
        Caller::new((&active).into())
    }

    fn is_dead(tickets: &Tickets, ticket: &Ticket, now: Instant) -> bool {
        matches!(tickets.redeem(ticket.secret.reveal(), now), Err(AuthError::Invalid))
    }

    #[test]
    fn a_ticket_opens_once_and_not_after_thirty_seconds() {
        let (tickets, begin) = (Tickets::default(), Instant::now());
        let issue = || tickets.issue(&user("ada"), begin).unwrap();
        let (once, early, late) = (issue(), issue(), issue());
        assert_eq!(tickets.redeem(once.secret.reveal(), begin).unwrap().user(), "ada");
        assert!(is_dead(&tickets, &once, begin), "used");
        assert!(!is_dead(&tickets, &early, begin + LASTS - Duration::from_nanos(1)));
        assert!(is_dead(&tickets, &late, begin + LASTS), "too old");
        assert!(matches!(tickets.redeem("", begin), Err(AuthError::Invalid)));
        assert!(
            once.secret.reveal().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        );
        assert!(!format!("{once:?}").contains(once.secret.reveal()));
    }

    #[test]
    fn the_ticket_of_a_revoked_caller_is_dead() {
        let (tickets, now, caller) = (Tickets::default(), Instant::now(), user("ada"));
        let ticket = tickets.issue(&caller, now).unwrap();
        caller.revoke();
        assert!(is_dead(&tickets, &ticket, now));
    }

    #[test]
    fn tickets_are_bounded_and_one_callers_do_not_crowd_out_anothers() {
        let (tickets, begin) = (Tickets::default(), Instant::now());
        let others = tickets.issue(&user("bob"), begin).unwrap();
        let mine: Vec<_> = (0..=MOST_OF_A_CALLER as u32)
            .map(|at| tickets.issue(&user("ada"), begin + Duration::from_millis(at.into())).unwrap())
            .collect();
        assert!(is_dead(&tickets, &mine[0], begin), "the oldest made room");
        assert!(!is_dead(&tickets, &mine[1], begin) && !is_dead(&tickets, &others, begin));

        let now = begin + LASTS * 2;
        for number in 0..MOST {
            tickets.issue(&user(&format!("u{number}")), now).unwrap();
        }
        let refused = tickets.issue(&user("one more"), now);
        assert!(matches!(refused, Err(AuthError::Unavailable { .. })), "{refused:?}");
        assert!(tickets.issue(&user("one more"), now + LASTS).is_ok(), "old ones make room");
    }
}
