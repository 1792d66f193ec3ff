//! Text that must not be seen: tokens and passwords on their way to the daemon.
//!
//! Not where they come from and not where they are kept. The invariant: such a text leaves its type
//! only through `expose`, and no `Debug` shows it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// More than any provider makes; what is longer would not fit the head of a request.
const LONGEST_TOKEN: usize = 4096;

/// What opens something: a key, or the token of a login session. It fits an HTTP header.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(super) struct Token(String);

/// What a person knows; any text.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct Password(String);

/// The text cannot be a token. It does not say which text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is empty, longer than {LONGEST_TOKEN} bytes, or has characters that no key has")]
pub(super) struct NoToken;

impl Token {
    /// The token as text, to send it. Never to show it.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Token {
    type Error = NoToken;

    fn try_from(text: String) -> Result<Self, NoToken> {
        let fits = !text.is_empty() && text.len() <= LONGEST_TOKEN;
        if fits && text.bytes().all(|byte| byte.is_ascii_graphic()) { Ok(Self(text)) } else { Err(NoToken) }
    }
}

impl From<Token> for String {
    fn from(token: Token) -> Self {
        token.0
    }
}

impl From<String> for Password {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Token(***)")
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Password(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_fits_a_header() {
        Token::try_from("bkg_sk_1_x".to_owned()).unwrap();
        for wrong in ["", "a b", "a\r\nb", "ä", &"a".repeat(LONGEST_TOKEN + 1)] {
            assert_eq!(Token::try_from(wrong.to_owned()), Err(NoToken), "{wrong}");
        }
    }

    #[test]
    fn secrets_never_show_themselves() {
        let (token, password) = (Token("s3cret".into()), Password("s3cret".into()));
        assert_eq!(format!("{token:?} {password:?}"), "Token(***) Password(***)");
    }
}
