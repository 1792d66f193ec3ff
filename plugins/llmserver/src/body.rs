//! What the bodies of chats and embeddings have in common, and how a wrong one is refused.
//!
//! A body is read once, straight into its type. Only a body that this refuses is looked at again, to
//! name the parameter that is wrong: the good ones do not pay for it.

use std::borrow::Cow;

use bkg_sdk::{ErrorCode, WireError};
use serde::Deserialize;
use serde_json::Value;

/// Text that is borrowed from the body where it needs no unescaping.
#[derive(Debug, Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// A refusal that names the parameter.
pub(crate) fn invalid(param: impl Into<String>, message: impl Into<String>) -> WireError {
    WireError::new(ErrorCode::InvalidRequest, message).param(param)
}

/// Whether a value is there; an explicit null means that it is not.
pub(crate) fn given<'a>(body: &'a Value, name: &str) -> Option<&'a Value> {
    body.get(name).filter(|value| !value.is_null())
}

/// Refuses a parameter that is there and is not a whole number that fits.
pub(crate) fn expect_number(body: &Value, name: &str) -> Result<(), WireError> {
    match given(body, name) {
        Some(value) if value.as_u64().is_none_or(|number| number > u64::from(u32::MAX)) => {
            Err(invalid(name, format!("`{name}` must be a whole number that is not negative")))
        }
        _ => Ok(()),
    }
}

/// Refuses a parameter that is there and is not text.
pub(crate) fn expect_text(body: &Value, name: &str) -> Result<(), WireError> {
    match given(body, name) {
        Some(value) if !value.is_string() => Err(invalid(name, format!("`{name}` must be a string"))),
        _ => Ok(()),
    }
}

/// Refuses a `model` that is another than `own`, which may come with its plugin's name before it.
pub(crate) fn expect_model(model: Option<&Text<'_>>, own: &str) -> Result<(), WireError> {
    let Some(Text(model)) = model else { return Ok(()) };
    if model.rsplit('/').next() == Some(own) {
        return Ok(());
    }
    let message = format!("this plugin has no model `{model}` for this: use `{own}`");
    Err(WireError::new(ErrorCode::NotFound, message).param("model"))
}
