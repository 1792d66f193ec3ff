//! Who is asking, and what they may do.
//!
//! For now one credential is known: the root key, which the host checks itself. The invariant: a
//! request without a valid credential becomes no [`Caller`], and nothing but a `Caller` has scopes.

use std::sync::Arc;

use bkg_protocol::{Pattern, message};

use crate::store::RootKey;

/// Checks credentials.
#[derive(Debug)]
pub struct Authenticator {
    root_key: RootKey,
    root: Caller,
}

/// Who is asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// As plugins see it.
    identity: Arc<message::Caller>,
    scopes: Scopes,
}

/// A set of permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scopes(Arc<[Pattern]>);

/// Why a credential opens nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// None was sent.
    #[error("a key is needed: send it as `Authorization: Bearer <key>`")]
    Missing,
    /// It is not a known key.
    #[error("the key is not valid: check it, or make a new one")]
    Invalid,
    /// The caller lacks a scope.
    #[error("the scope `{scope}` is needed, and `{user}` does not have it")]
    Forbidden {
        /// What is needed.
        scope: String,
        /// Who asked.
        user: String,
    },
}

impl Authenticator {
    /// Accepts the root key.
    pub fn new(root_key: RootKey) -> Self {
        Self { root_key, root: Caller::new("root", ["admin"]) }
    }

    /// Turns the value of an `Authorization` header into a caller.
    ///
    /// # Errors
    /// No credential, or one that is not valid.
    pub fn authenticate(&self, authorization: Option<&[u8]>) -> Result<Caller, AuthError> {
        let header = authorization.ok_or(AuthError::Missing)?;
        let key = bearer(header).ok_or(AuthError::Missing)?;
        let key = std::str::from_utf8(key).map_err(|_| AuthError::Invalid)?;
        if self.root_key.matches(key) { Ok(self.root.clone()) } else { Err(AuthError::Invalid) }
    }
}

/// The credential in a `Bearer` header; the scheme's case does not matter (RFC 9110, section 11.1).
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = header.split_at_checked(7)?;
    let key = key.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !key.is_empty()).then_some(key)
}

impl Caller {
    fn new<'a>(user: &str, scopes: impl IntoIterator<Item = &'a str>) -> Self {
        let scopes = Scopes::parse(scopes);
        let identity = message::Caller {
            user: user.to_owned(),
            key_id: None,
            scopes: scopes.0.iter().map(ToString::to_string).collect(),
        };
        Self { identity: Arc::new(identity), scopes }
    }

    /// Somebody without a credential, who may do nothing.
    pub fn nobody() -> Self {
        Self::new("", [])
    }

    /// Whether the caller may do what `scope` names.
    ///
    /// # Errors
    /// [`AuthError::Forbidden`] with the scope.
    pub fn require(&self, scope: &str) -> Result<(), AuthError> {
        if self.scopes.allow(scope) {
            return Ok(());
        }
        Err(AuthError::Forbidden { scope: scope.to_owned(), user: self.identity.user.clone() })
    }

    /// The caller as plugins see it.
    pub fn on_the_wire(&self) -> Arc<message::Caller> {
        Arc::clone(&self.identity)
    }
}

impl Scopes {
    /// The set of those texts that are scopes; anything else grants nothing.
    pub fn parse<'a>(scopes: impl IntoIterator<Item = &'a str>) -> Self {
        Self(scopes.into_iter().filter_map(|scope| scope.parse().ok()).collect())
    }

    /// Whether `scope` is granted: by name, by a prefix such as `repo.*`, or by `admin`, which
    /// implies all.
    pub fn allow(&self, scope: &str) -> bool {
        self.0.iter().any(|granted| granted.as_str() == "admin" || granted.matches(scope))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bearer_header_carries_a_key() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bEARER  abc "), Some(&b"abc"[..]));
        for wrong in [&b""[..], b"Bearer", b"Bearer ", b"Basic abc", b"abc", b"Bearerabc"] {
            assert_eq!(bearer(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn admin_implies_all_and_a_prefix_only_its_own() {
        assert!(Scopes::parse(["admin"]).allow("llm.chat"));
        assert!(Scopes::parse(["repo.*"]).allow("repo.file.read"));
        assert!(!Scopes::parse(["repo.*"]).allow("llm.chat"));
        assert!(!Scopes::parse(["llm.chat"]).allow("admin"));
        assert!(!Scopes::parse([]).allow("llm.chat"));
    }
}
