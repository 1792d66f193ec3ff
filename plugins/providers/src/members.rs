//! JSON objects whose members keep their order and their text: what nobody changes goes on as it came.
//!
//! Used for what callers ask and for what upstreams answer.

use bkg_sdk::{ErrorCode, RawJson, Request, WireError};
use indexmap::IndexMap;
use serde::Serialize;
use serde_json::value::RawValue;

/// An object.
pub(crate) type Members = IndexMap<String, Box<RawValue>>;

/// A value as text.
pub(crate) fn raw(value: &(impl Serialize + ?Sized)) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("the value has a JSON form")
}

/// The value `null`.
pub(crate) fn null() -> Box<RawValue> {
    raw(&())
}

/// A member that is there and not null.
pub(crate) fn given<'a>(members: &'a Members, name: &str) -> Option<&'a RawValue> {
    members.get(name).map(Box::as_ref).filter(|value| value.get() != "null")
}

/// A member that is a text which is not empty.
pub(crate) fn text(members: &Members, name: &str) -> Option<String> {
    let value = given(members, name)?;
    serde_json::from_str::<String>(value.get()).ok().filter(|text| !text.is_empty())
}

/// A member that is a whole number.
pub(crate) fn number(members: &Members, name: &str) -> Option<u64> {
    serde_json::from_str(given(members, name)?.get()).ok()
}

/// The object as one line: what an upstream spread over lines must not end a line of an event.
pub(crate) fn line(members: &Members) -> RawJson {
    let json = RawJson::of(members);
    if !json.as_str().contains(['\n', '\r']) {
        return json;
    }
    // Within texts these are written as escapes, so each of them stands between members.
    RawJson::parse(json.as_str().replace(['\n', '\r'], " ")).expect("space for space it is the same JSON")
}

/// The body of a request for a model.
#[derive(Debug)]
pub(crate) struct Payload {
    pub(crate) members: Members,
}

impl Payload {
    /// Reads it.
    ///
    /// # Errors
    /// `invalid_request` where it is no object.
    pub(crate) fn of(request: &Request) -> Result<Self, WireError> {
        Ok(Self { members: request.read()? })
    }

    /// The model that it names.
    ///
    /// # Errors
    /// `invalid_request` where it names none.
    pub(crate) fn model(&self) -> Result<String, WireError> {
        text(&self.members, "model").ok_or_else(|| {
            let message = "`model` is missing, or is no text: name a model of an upstream";
            WireError::new(ErrorCode::InvalidRequest, message).param("model")
        })
    }

    /// Sets a member in its place, or at the end.
    pub(crate) fn set(&mut self, name: &str, value: &(impl Serialize + ?Sized)) {
        self.members.insert(name.to_owned(), raw(value));
    }

    /// Gives a member another name in its place, unless there is one of that name.
    pub(crate) fn rename(&mut self, name: &str, other: &str) {
        if let Some(place) = self.members.get_index_of(name)
            && !self.members.contains_key(other)
            && let Some((_, value)) = self.members.shift_remove_index(place)
        {
            self.members.shift_insert(place, other.to_owned(), value);
        }
    }

    /// Takes a member out.
    pub(crate) fn remove(&mut self, name: &str) {
        self.members.shift_remove(name);
    }

    /// The body as it is sent.
    pub(crate) fn into_body(self) -> bytes::Bytes {
        serde_json::to_vec(&self.members).expect("an object of JSON texts has a JSON form").into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_changed_keeps_order_and_text() {
        let text = r#"{"z":1.50,"model":"a","n":12345678901234567890,"e":1e2}"#;
        let mut payload = Payload { members: serde_json::from_str(text).unwrap() };
        payload.set("model", "b");
        payload.remove("e");
        assert_eq!(payload.into_body(), r#"{"z":1.50,"model":"b","n":12345678901234567890}"#);
    }

    #[test]
    fn a_member_is_renamed_in_its_place_and_never_over_another() {
        let mut payload = Payload { members: serde_json::from_str(r#"{"a":1,"b":2.0,"c":3}"#).unwrap() };
        payload.rename("b", "d");
        payload.rename("a", "c");
        payload.rename("x", "y");
        assert_eq!(payload.into_body(), r#"{"a":1,"d":2.0,"c":3}"#);
    }

    #[test]
    fn an_object_over_several_lines_becomes_one() {
        let members: Members = serde_json::from_str("{\n \"a\": {\r\n\"b\": \"x\\n\"}\n}").unwrap();
        assert_eq!(line(&members).as_str(), r#"{"a":{  "b": "x\n"}}"#);
    }
}
