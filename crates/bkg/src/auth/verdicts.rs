//! What the auth provider said about credentials, for as long as that may be believed.
//!
//! Pure: it asks nobody, and the time comes in. The invariants: after [`Verdicts::changed`] has
//! returned, nothing that the provider said before that change is served or accepted any more; and a
//! caller that is held somewhere never leaves the table without being revoked.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bkg_protocol::message::{AuthChanged, Secret};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::caller::{Caller, Credential, Rights};

/// How long a verdict is served without asking again.
const FRESH: Duration = Duration::from_secs(60);
/// How long one is served while the provider cannot be asked.
const BELIEVED: Duration = Duration::from_secs(15 * 60);
/// How long to leave a provider alone that could not be asked.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// How many credentials are remembered; one more makes room by forgetting idle ones.
const MOST: usize = 10_000;

/// The hash of a credential.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Digest([u8; 32]);

impl fmt::Debug for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Digest(…)")
    }
}

impl Digest {
    pub(super) fn of(credential: &str) -> Self {
        Self(Sha256::digest(credential.as_bytes()).into())
    }
}

/// The table of verdicts.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Verdicts of earlier generations no longer hold.
    generation: u64,
    /// Counts the provider's sessions: an answer of an earlier one is not comparable.
    epoch: u64,
    remembered: HashMap<Digest, Remembered>,
}

#[derive(Debug)]
struct Remembered {
    caller: Caller,
    /// Kept to ask again without a request at hand.
    credential: Secret,
    confirmed: Instant,
    ask_again: Instant,
    standing: Standing,
}

/// What a remembered verdict is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The provider stands by it.
    Confirmed,
    /// The provider was away since: ask first, and believe it only if nobody answers.
    Doubtful,
    /// The provider said that something about it changed: worth nothing until it is asked.
    Changed,
}

/// What is remembered about a credential.
#[derive(Debug)]
pub(super) enum Recollection {
    /// It is this caller's.
    Fresh(Caller),
    /// It is this caller's, but the provider should be asked again meanwhile.
    Ageing(Caller),
    /// Ask first; if nobody answers, it is this caller's.
    Doubtful(Caller),
    /// It was valid until its time was over.
    Expired,
    /// Nothing that is worth anything.
    Nothing,
}

/// When a question was put, to judge its answer by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Put {
    epoch: u64,
}

/// A caller that is held by somebody and may have lost its rights.
#[derive(Debug)]
pub(super) struct Suspect {
    pub(super) digest: Digest,
    pub(super) credential: Secret,
    pub(super) caller: Caller,
}

impl Verdicts {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is remembered about a credential. An ageing one is said to be ageing once in a while only,
    /// so that one request asks and the others go on.
    pub(super) fn recall(&self, digest: &Digest, now: Instant, time: Timestamp) -> Recollection {
        let mut state = self.lock();
        let Some(remembered) = state.remembered.get_mut(digest) else { return Recollection::Nothing };
        if remembered.caller.rights().expires_at.is_some_and(|end| end <= time) {
            return Recollection::Expired;
        }
        let age = now.duration_since(remembered.confirmed);
        if remembered.standing == Standing::Changed || age >= BELIEVED {
            return Recollection::Nothing;
        }
        let caller = remembered.caller.clone();
        if now < remembered.ask_again {
            return Recollection::Fresh(caller);
        }
        if remembered.standing == Standing::Doubtful {
            return Recollection::Doubtful(caller);
        }
        remembered.ask_again = now + ASK_AGAIN_AFTER;
        Recollection::Ageing(caller)
    }

    /// Whether a credential was said to be valid and is not forgotten; what that is worth now is another
    /// question.
    pub(super) fn remembers(&self, digest: &Digest) -> bool {
        self.lock().remembered.contains_key(digest)
    }

    /// Notes that nobody answered: what is remembered is served for a moment without asking again.
    pub(super) fn unanswered(&self, digest: &Digest, now: Instant) {
        if let Some(remembered) = self.lock().remembered.get_mut(digest) {
            remembered.ask_again = now + ASK_AGAIN_AFTER;
        }
    }

    /// Notes that a question is about to be put to the provider.
    pub(super) fn put(&self) -> Put {
        Put { epoch: self.lock().epoch }
    }

    /// Takes the provider's answer that a credential is valid; `None` if the answer is older than what
    /// is known by now: ask again.
    pub(super) fn accept(
        &self,
        (digest, credential): (Digest, &Secret),
        rights: Rights,
        generation: u64,
        put: Put,
        now: Instant,
    ) -> Option<Caller> {
        let mut state = self.lock();
        if put.epoch != state.epoch || generation < state.generation {
            return None;
        }
        state.generation = generation;
        let known = state.remembered.remove(&digest);
        let caller = match known {
            // One that was given up stays revoked: whoever shows its credential again is another caller.
            Some(known) if *known.caller.rights() == rights && !known.caller.is_revoked() => known.caller,
            other => {
                if let Some(other) = other {
                    other.caller.revoke();
                }
                Caller::new(rights)
            }
        };
        state.make_room(now);
        state.remembered.insert(
            digest,
            Remembered {
                caller: caller.clone(),
                credential: credential.clone(),
                confirmed: now,
                ask_again: now + FRESH,
                standing: Standing::Confirmed,
            },
        );
        Some(caller)
    }

    /// Forgets a credential that opens nothing, and tells whoever holds its caller.
    pub(super) fn refute(&self, digest: &Digest) {
        if let Some(known) = self.lock().remembered.remove(digest) {
            known.caller.revoke();
        }
    }

    /// Takes note of a change: whatever was said about those whom it means is worth nothing until the
    /// provider is asked again. Answers those of them that somebody holds.
    pub(super) fn changed(&self, change: &AuthChanged) -> Vec<Suspect> {
        let mut state = self.lock();
        state.generation = state.generation.max(change.generation);
        let mut suspects = Vec::new();
        for (digest, remembered) in &mut state.remembered {
            if !concerns(change, remembered.caller.rights()) {
                continue;
            }
            remembered.standing = Standing::Changed;
            if remembered.caller.is_held() {
                suspects.push(remembered.suspect(digest));
            }
        }
        state.remembered.retain(|_, known| known.standing != Standing::Changed || known.caller.is_held());
        suspects
    }

    /// A provider has come, perhaps with another memory than the one before: it is asked about
    /// everybody again, and its generations count from anew. Answers those that somebody holds: what
    /// changed while nobody could say so ends what they have open.
    pub(super) fn provider_came(&self, now: Instant) -> Vec<Suspect> {
        let mut state = self.lock();
        state.generation = 0;
        state.epoch += 1;
        let mut held = Vec::new();
        for (digest, remembered) in &mut state.remembered {
            if remembered.standing == Standing::Confirmed {
                remembered.standing = Standing::Doubtful;
            }
            remembered.ask_again = now;
            if remembered.caller.is_held() {
                held.push(remembered.suspect(digest));
            }
        }
        held
    }

    /// Revokes and forgets what has expired.
    pub(super) fn sweep(&self, time: Timestamp) {
        self.lock().remembered.retain(|_, remembered| {
            let expired = remembered.caller.rights().expires_at.is_some_and(|end| end <= time);
            if expired {
                remembered.caller.revoke();
            }
            !expired
        });
    }
}

impl Remembered {
    fn suspect(&self, digest: &Digest) -> Suspect {
        let (credential, caller) = (self.credential.clone(), self.caller.clone());
        Suspect { digest: *digest, credential, caller }
    }
}

impl State {
    /// Makes room for one more: those that nobody holds go, idle ones first.
    fn make_room(&mut self, now: Instant) {
        if self.remembered.len() < MOST {
            return;
        }
        self.remembered.retain(|_, known| known.caller.is_held() || now < known.confirmed + FRESH);
        let excess = (self.remembered.len() + 1).saturating_sub(MOST);
        let idle = self.remembered.iter().filter(|(_, known)| !known.caller.is_held());
        let idle: Vec<Digest> = idle.map(|(digest, _)| *digest).take(excess).collect();
        for digest in idle {
            self.remembered.remove(&digest);
        }
    }
}

/// Whether a change is about this caller; one that names nobody is about everybody.
fn concerns(change: &AuthChanged, rights: &Rights) -> bool {
    let AuthChanged { key_id, session_id, user_id, .. } = change;
    if key_id.is_none() && session_id.is_none() && user_id.is_none() {
        return true;
    }
    let is = |named: &Option<String>, id: &str| named.as_deref() == Some(id);
    let by_credential = match &rights.credential {
        Credential::Key { id } => is(key_id, id),
        Credential::Session { id } => is(session_id, id),
        Credential::Nothing | Credential::Root | Credential::Other => false,
    };
    by_credential || rights.user_id.as_deref().is_some_and(|id| is(user_id, id))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::caller::Active;
    use super::*;

    struct Case {
        verdicts: Verdicts,
        now: Instant,
        time: Timestamp,
    }

    fn rights(key: &str, scope: &str) -> Rights {
        let active = json!({ "user": "ada", "userId": "u1", "keyId": key, "scopes": [scope] });
        (&serde_json::from_value::<Active>(active).unwrap()).into()
    }

    impl Case {
        fn new() -> Self {
            Self { verdicts: Verdicts::default(), now: Instant::now(), time: Timestamp::UNIX_EPOCH }
        }

        fn accept(&self, key: &str, generation: u64, put: Put) -> Option<Caller> {
            self.accept_with(rights(key, "llm.chat"), generation, put)
        }

        fn accept_with(&self, rights: Rights, generation: u64, put: Put) -> Option<Caller> {
            let Credential::Key { id } = rights.credential.clone() else { panic!("a key") };
            let credential = Secret::new(id.to_string());
            self.verdicts.accept((Digest::of(&id), &credential), rights, generation, put, self.now)
        }

        fn recall(&self, key: &str, after: Duration) -> Recollection {
            self.verdicts.recall(&Digest::of(key), self.now + after, self.time)
        }

        fn change(&self, generation: u64, key: &str) -> usize {
            let change =
                AuthChanged { generation, key_id: Some(key.to_owned()), session_id: None, user_id: None };
            self.verdicts.changed(&change).len()
        }
    }

    #[test]
    fn a_verdict_is_fresh_then_ageing_then_worth_nothing() {
        let case = Case::new();
        case.accept("k", 1, case.verdicts.put()).unwrap();
        assert!(matches!(case.recall("k", Duration::from_secs(59)), Recollection::Fresh(_)));
        assert!(matches!(case.recall("k", Duration::from_secs(61)), Recollection::Ageing(_)));
        assert!(matches!(case.recall("k", Duration::from_secs(62)), Recollection::Fresh(_)), "one asks");
        assert!(matches!(case.recall("k", Duration::from_secs(67)), Recollection::Ageing(_)));
        assert!(matches!(case.recall("k", Duration::from_secs(899)), Recollection::Ageing(_)));
        assert!(matches!(case.recall("k", Duration::from_secs(900)), Recollection::Nothing));
        assert!(matches!(case.recall("other", Duration::ZERO), Recollection::Nothing));
    }

    #[test]
    fn an_answer_that_was_on_its_way_during_a_change_is_discarded() {
        let case = Case::new();
        let put = case.verdicts.put();
        case.change(8, "k");
        assert!(case.accept("k", 7, put).is_none());
        assert!(case.accept("other", 7, put).is_none(), "generations are the provider's, not the key's");
        assert!(case.accept("k", 8, put).is_some());
    }

    #[test]
    fn a_change_makes_what_was_said_before_worth_nothing() {
        let case = Case::new();
        let held = case.accept("held", 1, case.verdicts.put()).unwrap();
        drop(case.accept("idle", 1, case.verdicts.put()));
        assert_eq!((case.change(2, "idle"), case.change(3, "held")), (0, 1));
        for key in ["idle", "held"] {
            assert!(matches!(case.recall(key, Duration::ZERO), Recollection::Nothing), "{key}");
        }
        // Nobody is revoked before the provider has said so.
        assert!(!held.is_revoked());
        case.verdicts.refute(&Digest::of("held"));
        assert!(held.is_revoked());
    }

    #[test]
    fn a_caller_whose_rights_are_as_before_is_not_disturbed_and_another_one_is() {
        let case = Case::new();
        let held = case.accept("k", 1, case.verdicts.put()).unwrap();
        case.change(2, "k");
        let again = case.accept("k", 2, case.verdicts.put()).unwrap();
        assert!(!held.is_revoked());
        drop(again);
        // What watches the first caller still hears of later changes.
        assert_eq!(case.change(3, "k"), 1);
        case.accept_with(rights("k", "llm.embed"), 3, case.verdicts.put()).unwrap();
        assert!(held.is_revoked());
    }

    #[test]
    fn a_provider_that_comes_back_is_asked_first_and_may_count_from_one() {
        let case = Case::new();
        let before = case.verdicts.put();
        case.accept("k", 9, before).unwrap();
        case.accept("changed", 9, before).unwrap();
        let _held = case.accept("changed", 9, before).unwrap();
        case.change(10, "changed");
        let asked = case.verdicts.provider_came(case.now);
        assert_eq!(asked.len(), 1, "whoever is held is asked about at once");
        drop(asked);
        for _ in 0..2 {
            assert!(
                matches!(case.recall("k", Duration::ZERO), Recollection::Doubtful(_)),
                "everybody asks"
            );
        }
        case.verdicts.unanswered(&Digest::of("k"), case.now);
        assert!(matches!(case.recall("k", Duration::ZERO), Recollection::Fresh(_)), "nobody answers");
        assert!(matches!(case.recall("changed", Duration::ZERO), Recollection::Nothing));
        assert!(case.accept("k", 9, before).is_none(), "the answer came from the one before");
        assert!(case.accept("k", 1, case.verdicts.put()).is_some());
    }

    #[test]
    fn who_was_given_up_and_is_confirmed_later_is_another_caller() {
        let case = Case::new();
        let held = case.accept("k", 1, case.verdicts.put()).unwrap();
        case.change(2, "k");
        // What the authenticator does when the provider does not say whether the rights still hold.
        held.revoke();
        let again = case.accept("k", 2, case.verdicts.put()).unwrap();
        assert!(held.is_revoked() && !again.is_revoked());
    }

    #[test]
    fn what_expires_is_revoked_where_it_is_held() {
        let mut case = Case::new();
        let mut short = rights("k", "llm.chat");
        short.expires_at = Some(Timestamp::from_second(10).unwrap());
        let held = case.accept_with(short, 1, case.verdicts.put()).unwrap();
        case.time = Timestamp::from_second(10).unwrap();
        assert!(matches!(case.recall("k", Duration::ZERO), Recollection::Expired));
        case.verdicts.sweep(case.time);
        assert!(held.is_revoked());
    }

    #[test]
    fn a_change_of_a_user_or_of_nobody_in_particular_concerns_all_keys_that_it_means() {
        let rights = rights("k", "llm.chat");
        let change = |key: Option<&str>, session: Option<&str>, user: Option<&str>| AuthChanged {
            generation: 1,
            key_id: key.map(str::to_owned),
            session_id: session.map(str::to_owned),
            user_id: user.map(str::to_owned),
        };
        for (change, meant) in [
            (change(None, None, None), true),
            (change(Some("k"), None, None), true),
            (change(None, None, Some("u1")), true),
            (change(Some("x"), None, None), false),
            (change(None, Some("k"), None), false),
            (change(None, None, Some("k")), false),
        ] {
            assert_eq!(concerns(&change, &rights), meant, "{change:?}");
        }
    }

    #[test]
    fn the_table_stays_bounded_and_keeps_who_is_held() {
        let case = Case::new();
        let held = case.accept("held", 1, case.verdicts.put()).unwrap();
        for number in 0..MOST + 100 {
            case.accept(&number.to_string(), 1, case.verdicts.put()).unwrap();
        }
        assert!(case.verdicts.lock().remembered.len() <= MOST);
        assert_eq!(case.change(2, "held"), 1);
        drop(held);
    }
}
