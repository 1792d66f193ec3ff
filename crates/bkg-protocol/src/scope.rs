//! Scopes: the permissions that a caller has, and the rules by which one implies another.
//!
//! Host, auth provider and plugins decide by the same rules, so they stand here. Not who has which
//! scope: the auth provider keeps that. The invariant: nothing that is not written as a scope grants
//! anything, and no scope but `admin` implies all others.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytestring::ByteString;
use serde::{Deserialize, Serialize};

use crate::CapabilityName;
use crate::name::{MAX_CAPABILITY_NAME, NameError, shown};

/// One permission.
///
/// | form | grants |
/// |---|---|
/// | `llm.chat` | the capability of that name |
/// | `llm.*` | every capability of that family |
/// | `plugin:read` | one thing in an area of the host |
/// | `plugin:manage` | everything in that area |
/// | `metrics` | what has a name of its own |
/// | `admin` | everything |
///
/// ```
/// # use bkg_protocol::Scope;
/// let scope: Scope = "repo.*".parse().unwrap();
/// assert!(scope.grants("repo.file.read") && !scope.grants("llm.chat"));
/// assert!("*".parse::<Scope>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Scope(ByteString);

impl Scope {
    /// The scope as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether whoever has this scope may do what `wanted` names: a scope as text, or a capability.
    pub fn grants(&self, wanted: &str) -> bool {
        let own = &*self.0;
        if own == wanted || own == "admin" {
            return true;
        }
        match (own.strip_suffix('*'), own.strip_suffix("manage")) {
            (Some(family), _) => wanted.starts_with(family),
            (None, Some(area)) if area.ends_with(':') => wanted.starts_with(area),
            _ => false,
        }
    }
}

impl FromStr for Scope {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let is_word = |word: &str| {
            word.starts_with(|c: char| c.is_ascii_lowercase())
                && word
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
        };
        let is_scope = match (text.split_once(':'), text.strip_suffix(".*")) {
            (Some((area, verb)), _) => is_word(area) && is_word(verb),
            (None, Some(family)) => is_word(family) || family.parse::<CapabilityName>().is_ok(),
            (None, None) => is_word(text) || text.parse::<CapabilityName>().is_ok(),
        };
        if is_scope && text.len() <= MAX_CAPABILITY_NAME {
            Ok(Self(ByteString::from(text)))
        } else {
            Err(NameError::Scope(shown(text)))
        }
    }
}

impl TryFrom<String> for Scope {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.0.into()
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, out)
    }
}

/// A set of permissions; cheap to share.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scopes(Arc<[Scope]>);

impl Scopes {
    /// The set of those texts that are scopes; anything else grants nothing.
    pub fn lenient<'a>(scopes: impl IntoIterator<Item = &'a str>) -> Self {
        scopes.into_iter().filter_map(|scope| scope.parse().ok()).collect()
    }

    /// Whether `wanted` is granted: a scope as text, or the name of a capability.
    pub fn grant(&self, wanted: &str) -> bool {
        self.0.iter().any(|scope| scope.grants(wanted))
    }

    /// The first scope of `others` that this set does not grant: with `None`, it grants all of them.
    pub fn first_missing<'a>(&self, others: &'a Self) -> Option<&'a Scope> {
        others.0.iter().find(|scope| !self.grant(scope.as_str()))
    }

    /// What both sets grant: of two scopes of which one implies the other, the narrower.
    pub fn within(&self, bound: &Self) -> Self {
        let kept = self.0.iter().filter(|scope| bound.grant(scope.as_str()));
        let narrowed = bound.0.iter().filter(|scope| self.grant(scope.as_str()));
        let mut both: Vec<Scope> = kept.chain(narrowed).cloned().collect();
        both.sort();
        both.dedup();
        both.into()
    }

    /// The scopes.
    pub fn iter(&self) -> std::slice::Iter<'_, Scope> {
        self.0.iter()
    }

    /// Whether nothing is granted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<Scope>> for Scopes {
    fn from(scopes: Vec<Scope>) -> Self {
        Self(scopes.into())
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(words: &str) -> Scopes {
        words.split_whitespace().map(|word| word.parse().unwrap()).collect()
    }

    #[test]
    fn one_scope_implies_another_by_name_family_area_and_admin_only() {
        for (own, wanted, granted) in [
            ("llm.chat", "llm.chat", true),
            ("llm.chat", "llm.chats", false),
            ("llm.*", "llm.chat", true),
            ("llm.*", "llm.*", true),
            ("llm.*", "llmserver.x", false),
            ("llm.chat", "llm.*", false),
            ("repo.file.*", "repo.file.read", true),
            ("repo.file.*", "repo.tree", false),
            ("plugin:read", "plugin:manage", false),
            ("plugin:manage", "plugin:read", true),
            ("plugin:manage", "key:own", false),
            ("metrics", "metrics", true),
            ("admin", "anything", true),
            ("llm.*", "admin", false),
            ("llm.manage", "llm.chat", false),
        ] {
            assert_eq!(scopes(own).grant(wanted), granted, "{own} → {wanted}");
        }
    }

    #[test]
    fn what_is_no_scope_is_refused_and_grants_nothing() {
        let long = format!("a.{}", "b".repeat(MAX_CAPABILITY_NAME));
        for text in [
            "", "*", ".*", "a*", "a.b*", "A.b", "a b", "a:*", "a:b:c", ":", "a:", "é.b", "a.\0", "a'b",
            &long,
        ] {
            assert!(text.parse::<Scope>().is_err(), "{text:?}");
        }
        assert!(Scopes::lenient(["*", "a*"]).is_empty());
        assert!(!Scopes::lenient(["*"]).grant("llm.chat"));
    }

    #[test]
    fn what_two_sets_share_is_the_narrower_of_each_pair() {
        for (one, other, both) in [
            ("llm.* plugin:read", "llm.chat plugin:manage", "llm.chat plugin:read"),
            ("admin", "llm.chat", "llm.chat"),
            ("llm.chat", "repo.*", ""),
            ("llm.chat llm.*", "llm.*", "llm.* llm.chat"),
        ] {
            assert_eq!(scopes(one).within(&scopes(other)), scopes(both), "{one} | {other}");
            assert_eq!(scopes(other).within(&scopes(one)), scopes(both), "{other} | {one}");
        }
    }

    #[test]
    fn the_first_scope_that_is_too_much_is_named() {
        let maker = scopes("llm.* key:own");
        assert_eq!(maker.first_missing(&scopes("llm.chat key:own")), None);
        assert_eq!(maker.first_missing(&scopes("llm.chat admin")).unwrap().as_str(), "admin");
    }
}
