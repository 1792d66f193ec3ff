//! What handlers and calls hand over: anything that becomes one JSON value.
//!
//! [`RawJson`] goes through as the text it is; everything else is written once.

use bkg_protocol::RawJson;
use serde::Serialize;

/// A value that can travel as `payload` or `data`.
///
/// ```
/// use bkg_sdk::{IntoJson, Json};
///
/// #[derive(serde::Serialize)]
/// struct Pong { pong: bool }
///
/// assert_eq!(Json(Pong { pong: true }).into_json().as_str(), r#"{"pong":true}"#);
/// assert_eq!(serde_json::json!([1, 2]).into_json().as_str(), "[1,2]");
/// assert_eq!(().into_json().as_str(), "null");
/// ```
pub trait IntoJson {
    /// The value as JSON text.
    fn into_json(self) -> RawJson;
}

/// A value that serde writes.
///
/// # Panics
/// Its [`IntoJson::into_json`] panics where serde cannot write the value: a map whose keys are not
/// text. In a handler that becomes a `plugin_error`.
#[derive(Debug, Clone, Copy)]
pub struct Json<T>(pub T);

impl IntoJson for RawJson {
    fn into_json(self) -> RawJson {
        self
    }
}

impl IntoJson for serde_json::Value {
    fn into_json(self) -> RawJson {
        self.into()
    }
}

impl IntoJson for () {
    fn into_json(self) -> RawJson {
        RawJson::NULL
    }
}

impl<T: Serialize> IntoJson for Json<T> {
    fn into_json(self) -> RawJson {
        RawJson::of(&self.0)
    }
}
