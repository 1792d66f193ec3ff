//! The key that an upstream asks for: shown to that upstream, and to nobody else.
//!
//! The invariant: `Debug` prints stars, and what an upstream says of the key is struck out before it goes
//! on ([`Credential::strike_out`]).

use bkg_sdk::WireError;
use reqwest::header::HeaderValue;
use serde::Deserialize;
use serde::de::Error;

/// An upstream's key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credential(String);

impl Credential {
    /// The value of the header `authorization`.
    pub(crate) fn header(&self) -> HeaderValue {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.0))
            .expect("a credential is made of characters that a header takes");
        value.set_sensitive(true);
        value
    }

    /// The text without the key, should it have it.
    pub(crate) fn strike_out(&self, text: String) -> String {
        if text.contains(&self.0) { text.replace(&self.0, "***") } else { text }
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("***")
    }
}

impl<'de> Deserialize<'de> for Credential {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(D::Error::custom("`apiKey` has visible ASCII characters only, and at least one"));
        }
        Ok(Self(text))
    }
}

/// Strikes the key out of an error, where there is a key.
pub(crate) fn without_key(mut error: WireError, key: Option<&Credential>) -> WireError {
    if let Some(key) = key {
        error.message = key.strike_out(error.message);
        error.param = error.param.map(|param| key.strike_out(param));
        error.details = error.details.filter(|details| !details.as_str().contains(&key.0));
    }
    error
}
