//! A request's JSON object, taken apart member by member.
//!
//! Not a schema: whoever translates asks for what it knows and decides what happens to the rest. The
//! invariant: whatever does not fit is refused with its place (`input[2].content[0].type`), and values that
//! are only passed on keep the text that their sender wrote.

use bkg_protocol::RawJson;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::Members;
use crate::error::Problem;

/// An object and where in the request it stands. A member that is null counts as absent.
#[derive(Debug)]
pub(super) struct Object {
    members: Members,
    place: String,
}

/// A value and where in the request it stands.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) value: Box<RawValue>,
    pub(super) place: String,
}

impl Object {
    /// The request itself.
    pub(super) fn of_body(body: &RawJson) -> Result<Self, Problem> {
        Ok(Self { members: crate::web::members(body)?, place: String::new() })
    }

    /// The place of a member.
    pub(super) fn place_of(&self, name: &str) -> String {
        if self.place.is_empty() { name.to_owned() } else { format!("{}.{name}", self.place) }
    }

    /// Takes a member out as it was written.
    pub(super) fn raw(&mut self, name: &str) -> Option<Box<RawValue>> {
        self.members.shift_remove(name).filter(|value| value.get() != "null")
    }

    /// Takes a member out; `what` says what it must be.
    pub(super) fn take<T: DeserializeOwned>(
        &mut self,
        name: &str,
        what: &str,
    ) -> Result<Option<T>, Problem> {
        let Some(value) = self.raw(name) else { return Ok(None) };
        let read = serde_json::from_str(value.get());
        read.map(Some).map_err(|_| self.refusal(name, &format!("must be {what}")))
    }

    /// Takes a member out that has to be there.
    pub(super) fn need<T: DeserializeOwned>(&mut self, name: &str, what: &str) -> Result<T, Problem> {
        self.take(name, what)?.ok_or_else(|| self.refusal(name, &format!("is missing: it must be {what}")))
    }

    /// Takes a member out that is an object.
    pub(super) fn object(&mut self, name: &str) -> Result<Option<Self>, Problem> {
        let place = self.place_of(name);
        self.raw(name).map(|value| Placed { value, place }.object()).transpose()
    }

    /// Takes a member out that is a list.
    pub(super) fn list(&mut self, name: &str) -> Result<Option<Vec<Placed>>, Problem> {
        let place = self.place_of(name);
        self.raw(name).map(|value| Placed { value, place }.list()).transpose()
    }

    /// Takes a member out that may be anything.
    pub(super) fn placed(&mut self, name: &str) -> Option<Placed> {
        let place = self.place_of(name);
        self.raw(name).map(|value| Placed { value, place })
    }

    /// What is wrong with a member: `why` goes on after its name.
    pub(super) fn refusal(&self, name: &str, why: &str) -> Problem {
        refused(&self.place_of(name), why)
    }

    /// Refuses each of these members unless its text is one of those that ask for nothing; null does not.
    pub(super) fn refuse_all(&mut self, refused: &[Unsupported]) -> Result<(), Problem> {
        for Unsupported { name, nothing, why } in refused {
            if self.raw(name).is_some_and(|value| !nothing.contains(&value.get())) {
                return Err(self.refusal(name, why));
            }
        }
        Ok(())
    }

    /// The names of the members that nobody took.
    pub(super) fn untaken(&self) -> impl Iterator<Item = &str> {
        let members = self.members.iter().filter(|(_, value)| value.get() != "null");
        members.map(|(name, _)| name.as_str())
    }
}

/// A member that cannot be honoured.
#[derive(Debug)]
pub(super) struct Unsupported {
    pub(super) name: &'static str,
    /// The values that ask for nothing, as JSON.
    pub(super) nothing: &'static [&'static str],
    /// What is said of it, after its name.
    pub(super) why: &'static str,
}

impl Placed {
    /// The value as an object.
    pub(super) fn object(self) -> Result<Object, Problem> {
        match serde_json::from_str(self.value.get()) {
            Ok(members) if self.value.get().starts_with('{') => Ok(Object { members, place: self.place }),
            _ => Err(refused(&self.place, "must be an object")),
        }
    }

    /// The value as a list.
    pub(super) fn list(self) -> Result<Vec<Self>, Problem> {
        let values: Vec<Box<RawValue>> =
            serde_json::from_str(self.value.get()).map_err(|_| refused(&self.place, "must be a list"))?;
        let place = |index| format!("{}[{index}]", self.place);
        Ok(values
            .into_iter()
            .enumerate()
            .map(|(index, value)| Self { value, place: place(index) })
            .collect())
    }

    /// The value, if it is a text.
    pub(super) fn text(&self) -> Option<String> {
        self.value.get().starts_with('"').then(|| serde_json::from_str(self.value.get()).ok()).flatten()
    }

    /// What is wrong with the value.
    pub(super) fn refusal(&self, why: &str) -> Problem {
        refused(&self.place, why)
    }
}

fn refused(place: &str, why: &str) -> Problem {
    Problem::invalid(format!("`{place}` {why}")).param(place)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: serde_json::Value) -> Object {
        Object::of_body(&RawJson::from(value)).unwrap()
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_place() {
        let mut body = object(json!({ "input": [{ "content": [{ "type": 7 }] }] }));
        let mut item = body.list("input").unwrap().unwrap().remove(0).object().unwrap();
        let mut part = item.list("content").unwrap().unwrap().remove(0).object().unwrap();
        let problem = part.need::<String>("type", "a text").unwrap_err();
        assert_eq!(problem.param.as_deref(), Some("input[0].content[0].type"));
        assert_eq!(problem.message, "`input[0].content[0].type` must be a text");
        let problem = part.need::<String>("text", "a text").unwrap_err();
        assert_eq!(problem.message, "`input[0].content[0].text` is missing: it must be a text");
    }

    #[test]
    fn null_is_absent_and_a_list_is_no_object() {
        let mut body = object(json!({ "a": null, "b": [1] }));
        assert!(body.take::<String>("a", "a text").unwrap().is_none());
        assert!(body.object("b").is_err());
    }

    #[test]
    fn what_asks_for_nothing_is_not_refused() {
        let refused = [Unsupported { name: "a", nothing: &["false"], why: "is not served" }];
        assert_eq!(object(json!({ "a": false })).refuse_all(&refused), Ok(()));
        assert_eq!(object(json!({ "a": null })).refuse_all(&refused), Ok(()));
        let problem = object(json!({ "a": true })).refuse_all(&refused).unwrap_err();
        assert_eq!(problem.message, "`a` is not served");
    }
}
