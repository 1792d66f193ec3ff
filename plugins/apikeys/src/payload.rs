//! Reads the members of a payload, one after the other, and says which one is wrong.
//!
//! Not what they mean. The invariants: an error never repeats a value, which may be a password in the
//! wrong place; and a member that nobody reads is refused, since `model` for `models` would make a key
//! that opens everything. Called by every handler before anything else.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use bkg_sdk::Request;
use serde_json::{Map, Value};

use crate::refusal::Refusal;

/// The longest text that is looked at: anything that may be longer is refused by its length alone.
const LONGEST_TEXT: usize = 1_024;
/// The longest id that a host may give an operation.
const LONGEST_OPERATION: usize = 128;

/// The members that have not been read yet.
pub(crate) struct Payload {
    /// Where it stands in the whole, with a dot at the end; empty for the whole.
    place: String,
    members: Map<String, Value>,
}

/// The id that the host gave a change, by which it asks later whether that happened.
#[derive(Debug, Clone)]
pub(crate) struct OperationId(String);

impl OperationId {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Payload {
    pub(crate) fn of(request: &Request) -> Result<Self, Refusal> {
        match serde_json::from_str(request.payload().as_str()) {
            Ok(Value::Object(members)) => Ok(Self { place: String::new(), members }),
            Ok(Value::Null) => Ok(Self { place: String::new(), members: Map::new() }),
            _ => Err(Refusal::Invalid { message: "the payload is not an object".to_owned(), param: None }),
        }
    }

    fn path(&self, name: &str) -> String {
        format!("{}{name}", self.place)
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.members.remove(name).filter(|value| !value.is_null())
    }

    fn needed<T>(&self, name: &str, value: Option<T>) -> Result<T, Refusal> {
        value.ok_or_else(|| Refusal::invalid(self.path(name), format!("`{}` is missing", self.path(name))))
    }

    fn wrong(&self, name: &str, right: impl Display) -> Refusal {
        Refusal::invalid(self.path(name), format!("`{}` is not {right}", self.path(name)))
    }

    /// Whether the member is there and says `null`; it is read then.
    pub(crate) fn is_null(&mut self, name: &str) -> bool {
        let is_null = self.members.get(name).is_some_and(Value::is_null);
        if is_null {
            self.members.remove(name);
        }
        is_null
    }

    /// A text of any length, which the caller bounds.
    pub(crate) fn optional_long_text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "a text")),
        }
    }

    pub(crate) fn long_text(&mut self, name: &str) -> Result<String, Refusal> {
        let text = self.optional_long_text(name)?;
        self.needed(name, text)
    }

    pub(crate) fn optional_text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        match self.optional_long_text(name)? {
            Some(text) if text.len() > LONGEST_TEXT => {
                Err(self.wrong(name, format_args!("a text of at most {LONGEST_TEXT} bytes")))
            }
            text => Ok(text),
        }
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<String, Refusal> {
        let text = self.optional_text(name)?;
        self.needed(name, text)
    }

    /// A text of a form of its own, whose error says what is wrong with it.
    pub(crate) fn optional<T: FromStr<Err: Display>>(&mut self, name: &str) -> Result<Option<T>, Refusal> {
        let text = self.optional_text(name)?;
        text.map(|text| text.parse()).transpose().map_err(|error: T::Err| {
            Refusal::invalid(self.path(name), format!("`{}`: {error}", self.path(name)))
        })
    }

    pub(crate) fn one<T: FromStr<Err: Display>>(&mut self, name: &str) -> Result<T, Refusal> {
        let value = self.optional(name)?;
        self.needed(name, value)
    }

    pub(crate) fn flag(&mut self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(_) => Err(self.wrong(name, "`true` or `false`")),
        }
    }

    pub(crate) fn number(
        &mut self,
        name: &str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => match value.as_u64().filter(|number| range.contains(number)) {
                Some(number) => Ok(Some(number)),
                None => {
                    let right = format_args!("a whole number from {} to {}", range.start(), range.end());
                    Err(self.wrong(name, right))
                }
            },
        }
    }

    /// A number with decimal places, of a form that `read` knows.
    pub(crate) fn decimal<T>(
        &mut self,
        name: &str,
        right: &str,
        read: impl FnOnce(f64) -> Option<T>,
    ) -> Result<T, Refusal> {
        let value = self.take(name);
        let value = self.needed(name, value)?;
        value.as_f64().and_then(read).ok_or_else(|| self.wrong(name, right))
    }

    /// A list of at most `most` texts of a form of their own.
    pub(crate) fn list<T: FromStr<Err: Display>>(
        &mut self,
        name: &str,
        most: usize,
    ) -> Result<Option<Vec<T>>, Refusal> {
        let items = match self.take(name) {
            None => return Ok(None),
            Some(Value::Array(items)) if items.len() <= most => items,
            Some(_) => return Err(self.wrong(name, format_args!("a list of at most {most} texts"))),
        };
        let parse = |(index, item): (usize, Value)| {
            let item_name = format!("{name}[{index}]");
            match item {
                Value::String(text) if text.len() <= LONGEST_TEXT => {
                    text.parse().map_err(|error: T::Err| {
                        Refusal::invalid(
                            self.path(&item_name),
                            format!("`{}`: {error}", self.path(&item_name)),
                        )
                    })
                }
                _ => Err(self.wrong(&item_name, format_args!("a text of at most {LONGEST_TEXT} bytes"))),
            }
        };
        items.into_iter().enumerate().map(parse).collect::<Result<_, _>>().map(Some)
    }

    /// An object with members of its own.
    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Self>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(members)) => {
                Ok(Some(Self { place: format!("{}.", self.path(name)), members }))
            }
            Some(_) => Err(self.wrong(name, "an object")),
        }
    }

    pub(crate) fn optional_operation(&mut self) -> Result<Option<OperationId>, Refusal> {
        match self.optional_text("operationId")? {
            Some(id) if id.is_empty() || id.len() > LONGEST_OPERATION => {
                Err(self.wrong("operationId", format_args!("a text of 1 to {LONGEST_OPERATION} bytes")))
            }
            id => Ok(id.map(OperationId)),
        }
    }

    pub(crate) fn operation(&mut self) -> Result<OperationId, Refusal> {
        let id = self.optional_operation()?;
        self.needed("operationId", id)
    }

    /// Nothing more is expected.
    pub(crate) fn end(self) -> Result<(), Refusal> {
        match self.members.keys().next() {
            None => Ok(()),
            Some(name) => {
                // The name comes from outside: it is not repeated at any length.
                let path: String = self.path(name).chars().take(64).flat_map(char::escape_debug).collect();
                let message = format!("`{path}` is not known here: leave it out, or correct its spelling");
                Err(Refusal::invalid(path, message))
            }
        }
    }
}

#[cfg(test)]
impl From<Value> for Payload {
    fn from(value: Value) -> Self {
        let Value::Object(members) = value else { panic!("the test gives an object") };
        Self { place: String::new(), members }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_unknown_member_is_named_and_its_value_is_not() {
        let mut payload = Payload::from(json!({ "name": "x", "pasword": "hunter2hunter2" }));
        payload.text("name").unwrap();
        let message = payload.end().unwrap_err().to_string();
        assert!(message.contains("`pasword`") && !message.contains("hunter2"), "{message}");
    }

    #[test]
    fn a_value_of_the_wrong_type_is_not_repeated() {
        let mut payload =
            Payload::from(json!({ "password": 12345678, "flag": "hunter2", "list": ["a b"] }));
        for message in [
            payload.long_text("password").unwrap_err().to_string(),
            payload.flag("flag").unwrap_err().to_string(),
            payload.text("absent").unwrap_err().to_string(),
        ] {
            assert!(!message.contains("1234") && !message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn null_is_absent_unless_it_is_asked_for() {
        let mut payload = Payload::from(json!({ "a": null, "b": null }));
        assert_eq!(payload.optional_text("a").unwrap(), None);
        assert!(payload.is_null("b") && !payload.is_null("c"));
        payload.end().unwrap();
    }
}
