//! What narrows a key besides its scopes: models, plugins, rates and time.
//!
//! Pure. The invariant: what one key gives to another never exceeds what it has itself.

use std::time::Duration;

use bkg_sdk::Pattern;

use crate::limits::Limits;
use crate::moment::Moment;
use crate::payload::Payload;
use crate::refusal::Refusal;

/// How many patterns a list may have.
const MOST_PATTERNS: usize = 64;
/// How many days a key may be given by their number.
const MOST_DAYS: u64 = 3_650;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What narrows a key; `None` means that it does not.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bounds {
    pub(crate) models: Option<Vec<Pattern>>,
    pub(crate) plugins: Option<Vec<Pattern>>,
    pub(crate) limits: Limits,
    pub(crate) expires_at: Option<Moment>,
    /// Whether what is asked and answered with it is written down, which is no wish of whoever has it.
    pub(crate) log_bodies: bool,
}

/// What narrows a key that is to be made, as its maker says.
#[derive(Debug, Clone)]
pub(crate) struct AskedBounds {
    models: Option<Vec<Pattern>>,
    plugins: Option<Vec<Pattern>>,
    limits: Limits,
    expiry: AskedExpiry,
    log_bodies: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum AskedExpiry {
    Unsaid,
    Never,
    At(Moment),
}

impl AskedBounds {
    pub(crate) fn read(payload: &mut Payload, now: Moment) -> Result<Self, Refusal> {
        Ok(Self {
            models: payload.list("models", MOST_PATTERNS)?,
            plugins: payload.list("plugins", MOST_PATTERNS)?,
            limits: Limits::read(payload)?,
            expiry: AskedExpiry::read(payload, now)?,
            log_bodies: payload.flag("logBodies")?.unwrap_or(false),
        })
    }

    /// Whether what is asked and answered with the key is to be written down.
    pub(crate) fn log_bodies(&self) -> bool {
        self.log_bodies
    }

    /// The bounds of the key: what its maker said, and where nothing was said the bounds of the key that
    /// it is made with, and the usual time.
    ///
    /// # Errors
    /// The member of the payload that asks for more than `maker` has.
    pub(crate) fn within(self, maker: Option<&Bounds>, usual_end: Moment) -> Result<Bounds, Refusal> {
        let expires_at = match self.expiry {
            AskedExpiry::Never => None,
            AskedExpiry::At(end) => Some(end),
            AskedExpiry::Unsaid => {
                let bound = maker.and_then(|maker| maker.expires_at);
                Some(bound.map_or(usual_end, |bound| bound.min(usual_end)))
            }
        };
        let (models, plugins, limits, log_bodies) =
            (self.models, self.plugins, self.limits, self.log_bodies);
        let asked = Bounds { models, plugins, limits, expires_at, log_bodies };
        let Some(maker) = maker else { return Ok(asked) };
        let bounds = Bounds {
            models: asked.models.or_else(|| maker.models.clone()),
            plugins: asked.plugins.or_else(|| maker.plugins.clone()),
            limits: asked.limits.or(&maker.limits),
            expires_at,
            // Else a key that is watched would make itself one that is not.
            log_bodies: asked.log_bodies || maker.log_bodies,
        };
        match bounds.first_excess(maker) {
            None => Ok(bounds),
            Some(param) => Err(excess(param)),
        }
    }
}

/// The key that asks has less of `param` than it asks for.
pub(crate) fn excess(param: &'static str) -> Refusal {
    let message =
        format!("`{param}` is wider than that of the key that asks: nobody gives more than they have");
    Refusal::too_much(param, message)
}

impl Bounds {
    /// The first bound that is wider here than in `other`; with `None` there is none.
    pub(crate) fn first_excess(&self, other: &Self) -> Option<&'static str> {
        if exceeds(self.models.as_deref(), other.models.as_deref()) {
            return Some("models");
        }
        if exceeds(self.plugins.as_deref(), other.plugins.as_deref()) {
            return Some("plugins");
        }
        if let Some(excess) = self.limits.first_excess(&other.limits) {
            return Some(excess);
        }
        is_more(self.expires_at, other.expires_at).then_some("expiresAt")
    }
}

impl AskedExpiry {
    fn read(payload: &mut Payload, now: Moment) -> Result<Self, Refusal> {
        let never = payload.is_null("expiresAt");
        let end = payload.optional_text("expiresAt")?;
        let days = payload.number("expiresInDays", 1..=MOST_DAYS)?;
        if (never || end.is_some()) && days.is_some() {
            let message =
                "`expiresAt` and `expiresInDays` both say when the key ends: leave one of them out";
            return Err(Refusal::invalid("expiresInDays", message));
        }
        match (end, days) {
            _ if never => Ok(Self::Never),
            (Some(text), _) => match Moment::parse(&text) {
                Some(end) if end > now => Ok(Self::At(end)),
                Some(_) => Err(Refusal::invalid("expiresAt", "`expiresAt` is over: choose a later time")),
                None => {
                    let message = "`expiresAt` is not a time such as `2026-01-31T12:00:00Z`";
                    Err(Refusal::invalid("expiresAt", message))
                }
            },
            (None, Some(days)) => {
                let days = u32::try_from(days).expect("the range of the member ends before");
                Ok(Self::At(now.after(DAY * days)))
            }
            (None, None) => Ok(Self::Unsaid),
        }
    }
}

fn is_more<T: PartialOrd>(one: Option<T>, other: Option<T>) -> bool {
    match (one, other) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(one), Some(other)) => one > other,
    }
}

fn exceeds(one: Option<&[Pattern]>, other: Option<&[Pattern]>) -> bool {
    match (one, other) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(one), Some(other)) => !one.iter().all(|narrow| other.iter().any(|wide| covers(wide, narrow))),
    }
}

/// Whether everything that `narrow` means is meant by `wide`.
fn covers(wide: &Pattern, narrow: &Pattern) -> bool {
    match (wide.as_str().strip_suffix('*'), narrow.as_str().strip_suffix('*')) {
        (Some(wide), Some(narrow)) => narrow.starts_with(wide),
        (Some(wide), None) => narrow.as_str().starts_with(wide),
        (None, Some(_)) => false,
        (None, None) => wide == narrow,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn asked(payload: Value) -> Result<AskedBounds, Refusal> {
        let mut payload = Payload::from(payload);
        let asked = AskedBounds::read(&mut payload, Moment::now())?;
        payload.end()?;
        Ok(asked)
    }

    fn bounds(payload: Value) -> Bounds {
        asked(payload).unwrap().within(None, Moment::now().after(90 * DAY)).unwrap()
    }

    fn refused_param(outcome: Result<impl std::fmt::Debug, Refusal>) -> String {
        match outcome.unwrap_err() {
            Refusal::Forbidden { param, .. } | Refusal::Invalid { param, .. } => param.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_pattern_covers_another_only_if_it_means_all_of_it() {
        for (wide, narrow, covered) in [
            ("*", "*", true),
            ("*", "gpt-4", true),
            ("gpt-*", "gpt-4*", true),
            ("gpt-*", "gpt-*", true),
            ("gpt-*", "gpt*", false),
            ("gpt-*", "*", false),
            ("gpt-4", "gpt-4", true),
            ("gpt-4", "gpt-4*", false),
            ("gpt-4", "gpt-41", false),
        ] {
            let (wide, narrow) = (wide.parse().unwrap(), narrow.parse().unwrap());
            assert_eq!(covers(&wide, &narrow), covered, "{wide} | {narrow}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_covered_pattern_matches_the_wider_one_matches(
            wide in "[ab]{0,2}\\*|[ab]{1,3}", narrow in "[ab]{0,2}\\*|[ab]{1,3}", name in "[ab]{0,4}"
        ) {
            let (wide, narrow): (Pattern, Pattern) = (wide.parse().unwrap(), narrow.parse().unwrap());
            if covers(&wide, &narrow) && narrow.matches(&name) {
                prop_assert!(wide.matches(&name));
            }
        }
    }

    #[test]
    fn a_key_inherits_what_its_maker_does_not_say() {
        let maker = bounds(json!({
            "models": ["gpt-*"], "plugins": [], "expiresInDays": 10,
            "limits": { "requestsPerMinute": 5, "tokensPerDay": 100 }
        }));
        let usual_end = Moment::now().after(90 * DAY);
        assert_eq!(asked(json!({})).unwrap().within(Some(&maker), usual_end).unwrap(), maker);
        let narrower = json!({ "models": ["gpt-4"], "expiresInDays": 9, "limits": { "tokensPerDay": 99 } });
        let child = asked(narrower).unwrap().within(Some(&maker), usual_end).unwrap();
        assert_eq!(child.first_excess(&maker), None);
        assert_eq!(
            child.limits,
            Limits { requests_per_minute: Some(5), tokens_per_day: Some(99), ..Limits::default() }
        );
    }

    #[test]
    fn a_key_cannot_give_more_than_it_has() {
        let maker = bounds(json!({
            "models": ["gpt-*"], "plugins": ["llmserver"], "expiresInDays": 10,
            "limits": { "requestsPerMinute": 5, "tokensPerDay": 100 }
        }));
        for (wider, param) in [
            (json!({ "models": ["*"] }), "models"),
            (json!({ "models": ["gpt-4", "other"] }), "models"),
            (json!({ "plugins": ["ping"] }), "plugins"),
            (json!({ "limits": { "requestsPerMinute": 6 } }), "limits.requestsPerMinute"),
            (json!({ "limits": { "tokensPerDay": 101 } }), "limits.tokensPerDay"),
            (json!({ "expiresInDays": 11 }), "expiresAt"),
            (json!({ "expiresAt": null }), "expiresAt"),
        ] {
            let outcome = asked(wider).unwrap().within(Some(&maker), Moment::now());
            assert_eq!(refused_param(outcome), param);
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_its_path() {
        let many: Vec<String> = (0..65).map(|number| format!("m{number}")).collect();
        for (payload, param) in [
            (json!({ "models": "gpt-4" }), "models"),
            (json!({ "models": many }), "models"),
            (json!({ "models": ["a", "b*c"] }), "models[1]"),
            (json!({ "plugins": [1] }), "plugins[0]"),
            (json!({ "limits": [] }), "limits"),
            (json!({ "limits": { "requestsPerMinute": 0 } }), "limits.requestsPerMinute"),
            (json!({ "limits": { "tokensPerDay": 1.5 } }), "limits.tokensPerDay"),
            (json!({ "limits": { "perHour": 1 } }), "limits.perHour"),
            (json!({ "expiresAt": "soon" }), "expiresAt"),
            (json!({ "expiresAt": "2001-01-01T00:00:00Z" }), "expiresAt"),
            (json!({ "expiresInDays": 0 }), "expiresInDays"),
            (json!({ "expiresInDays": 3651 }), "expiresInDays"),
            (json!({ "expiresInDays": 1, "expiresAt": null }), "expiresInDays"),
        ] {
            assert_eq!(refused_param(asked(payload.clone())), param, "{payload}");
        }
    }

    #[test]
    fn a_key_lasts_as_long_as_its_maker_says_or_as_usual() {
        let usual_end = Moment::now().after(90 * DAY);
        let end = |payload| asked(payload).unwrap().within(None, usual_end).unwrap().expires_at;
        assert_eq!(end(json!({})), Some(usual_end));
        assert_eq!(end(json!({ "expiresAt": null })), None);
        assert_eq!(
            end(json!({ "expiresAt": "2999-01-01T00:00:00Z" })),
            Moment::parse("2999-01-01T00:00:00Z")
        );
    }
}
