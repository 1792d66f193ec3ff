//! JSON that is passed on without being read.
//!
//! A payload crosses the host as the very bytes that its sender wrote: unknown fields, the text of
//! numbers and the order of keys survive, and nobody pays for parsing it. The invariant: the text is
//! one valid JSON value.

use std::collections::BTreeMap;
use std::fmt;

use bytestring::ByteString;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// One valid JSON value as text; cloning shares the text.
#[derive(Clone, PartialEq, Eq)]
pub struct RawJson(ByteString);

impl RawJson {
    /// The JSON value `null`.
    pub const NULL: Self = Self(ByteString::from_static("null"));
    /// The JSON value `{}`.
    pub const EMPTY_OBJECT: Self = Self(ByteString::from_static("{}"));

    /// Checks that `text` is one JSON value, and keeps it as it is.
    ///
    /// # Errors
    /// The syntax error with its line and column.
    pub fn parse(text: impl Into<ByteString>) -> Result<Self, serde_json::Error> {
        let text = text.into();
        let value = serde_json::from_str::<&RawValue>(&text)?.get();
        let slice = text.slice_ref(value);
        Ok(Self(slice))
    }

    /// The JSON of a value.
    ///
    /// # Panics
    /// If the value cannot be written as JSON: a map with keys that are not text, or its own
    /// `Serialize` that fails.
    pub fn of(value: &(impl Serialize + ?Sized)) -> Self {
        let text = serde_json::to_string(value).expect("the value has a JSON form");
        Self(ByteString::from(text))
    }

    /// Reads the value.
    ///
    /// # Errors
    /// What does not fit the type, with its line and column.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.0)
    }

    /// The value of a member of this object; `None` if this is no object, or has no such member.
    ///
    /// It shares this text where it is most of it, and is a copy where it would keep a larger one alive.
    pub fn member(&self, name: &str) -> Option<Self> {
        let mut members: BTreeMap<String, &RawValue> = serde_json::from_str(&self.0).ok()?;
        let value = members.remove(name)?.get();
        let is_most = value.len() >= self.0.len() / 2;
        Some(Self(if is_most { self.0.slice_ref(value) } else { ByteString::from(value) }))
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The JSON text, shared.
    pub fn into_text(self) -> ByteString {
        self.0
    }

    /// Whether this is the JSON value `null`.
    pub fn is_null(&self) -> bool {
        &*self.0 == "null"
    }
}

impl fmt::Debug for RawJson {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl From<serde_json::Value> for RawJson {
    fn from(value: serde_json::Value) -> Self {
        Self(ByteString::from(value.to_string()))
    }
}

impl Serialize for RawJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Parsing again is the one way to a borrowed `RawValue`; frames on the hot path do not come
        // here: `frame::encode` splices the text in.
        let value: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        value.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RawJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self(ByteString::from(String::from(Box::<str>::from(value)))))
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for RawJson {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RawJson".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        true.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_keeps_its_text_and_no_larger_one_alive() {
        let small = RawJson::parse(r#"{"a\u0062": 1.50, "payload" : {"z":[1, 2.0]} }"#).unwrap();
        assert_eq!(small.member("ab").unwrap().as_str(), "1.50");
        assert_eq!(small.member("payload").unwrap().as_str(), r#"{"z":[1, 2.0]}"#);
        assert_eq!(small.member("z"), None);
        assert_eq!(RawJson::parse("[1]").unwrap().member("a"), None);
        let within = |part: &RawJson, whole: &RawJson| {
            whole.as_str().as_bytes().as_ptr_range().contains(&part.as_str().as_ptr())
        };
        let text = |first: usize, second: usize| {
            format!(r#"{{"a":"{}","b":"{}"}}"#, "x".repeat(first), "x".repeat(second))
        };
        let large = RawJson::parse(text(10, 1_000)).unwrap();
        assert!(within(&large.member("b").unwrap(), &large));
        assert!(!within(&large.member("a").unwrap(), &large));
    }

    #[test]
    fn text_is_kept_as_it_was_written() {
        let text = r#"{"b":1.0e2,"a":[1E400,"\u00e9"]}"#;
        assert_eq!(RawJson::parse(text).unwrap().as_str(), text);
        assert_eq!(serde_json::to_string(&RawJson::parse(text).unwrap()).unwrap(), text);
    }

    #[test]
    fn what_is_not_one_json_value_is_refused() {
        for wrong in ["", "{", "1 2", "nul", "{\"a\":}", "\u{feff}1"] {
            assert!(RawJson::parse(wrong).is_err(), "{wrong}");
        }
    }
}
