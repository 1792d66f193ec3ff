//! Where in an entry something is, and what is to stand there.
//!
//! Not an entry. The invariant: a path is a JSON Pointer (RFC 6901), whichever way it was written.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};

/// A place in an entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EntryPath {
    keys: Vec<String>,
}

/// A place, and the value that is to stand there.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Assignment {
    /// Where.
    pub(super) path: EntryPath,
    /// What.
    pub(super) value: Value,
}

/// The same, where the value is text whatever it looks like.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TextAssignment(pub(super) Assignment);

/// Why a text is no path or no assignment. It never holds the text, which may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoPath {
    /// Nothing, or nothing between two dots.
    #[error("a path is like `settings.answer` or `/settings/answer`, and no part of it is empty")]
    Empty,
    /// A tilde that means nothing.
    #[error("in a path with slashes, `~` is written `~0`, and a slash inside of a name `~1`")]
    Tilde,
    /// No value.
    #[error("write PATH=VALUE, such as `settings.answer=42`")]
    NoValue,
}

/// Why a value cannot stand where a path says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Misplaced {
    /// An array that is shorter.
    #[error("`{path}` is beyond the end of its list: the next place is `{next}`")]
    Beyond { path: EntryPath, next: usize },
    /// A list has no names.
    #[error("`{path}` is in a list, whose places are numbers from 0 on")]
    NoNumber { path: EntryPath },
}

impl EntryPath {
    /// A path that the daemon wrote.
    pub(super) fn of_pointer(pointer: &str) -> Option<Self> {
        if pointer.is_empty() {
            return Some(Self { keys: Vec::new() });
        }
        let keys = pointer.strip_prefix('/')?.split('/').map(unescaped).collect::<Option<Vec<_>>>()?;
        Some(Self { keys })
    }

    /// What stands there, if something does.
    pub(super) fn find<'a>(&self, root: &'a Value) -> Option<&'a Value> {
        self.keys.iter().try_fold(root, |value, key| match value {
            Value::Object(members) => members.get(key),
            Value::Array(items) => items.get(key.parse::<usize>().ok()?),
            _ => None,
        })
    }

    /// The paths of the places below this one that have nothing below them, with their values.
    pub(super) fn leaves<'a>(&self, value: &'a Value) -> Vec<(Self, &'a Value)> {
        match value {
            Value::Object(members) if !members.is_empty() && !is_secret(value) => members
                .iter()
                .flat_map(|(key, value)| {
                    let mut keys = self.keys.clone();
                    keys.push(key.clone());
                    Self { keys }.leaves(value)
                })
                .collect(),
            _ => vec![(self.clone(), value)],
        }
    }

    /// The names on the way, from the outermost on.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(String::as_str)
    }

    /// The whole.
    pub(super) fn root() -> Self {
        Self { keys: Vec::new() }
    }

    /// Whether somebody seems to have written a value behind it.
    pub(super) fn looks_like_an_assignment(&self) -> bool {
        self.keys.iter().any(|key| key.contains('='))
    }

    /// Whether it is `other` or below it.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        self.keys.starts_with(&other.keys)
    }
}

/// Puts values into a partial entry that is laid over `effective`: objects are joined there, and lists
/// are replaced, so that a place in a list takes the whole list along.
///
/// # Errors
/// The path leads to a place that a list does not have.
pub(super) fn place(
    partial: &mut Value,
    effective: &Value,
    assignment: &Assignment,
) -> Result<(), Misplaced> {
    let Assignment { path, value } = assignment;
    let (mut target, mut known) = (partial, Some(effective));
    for key in &path.keys {
        if let (Value::Null, Some(Value::Array(items))) = (&*target, known) {
            *target = Value::Array(items.clone());
        }
        if let Value::Array(items) = target {
            let index = key.parse::<usize>().map_err(|_| Misplaced::NoNumber { path: path.clone() })?;
            let next = items.len();
            if index > next {
                return Err(Misplaced::Beyond { path: path.clone(), next });
            }
            if index == next {
                items.push(Value::Object(Map::new()));
            }
            // What is in a list goes along whole, so nothing below it is left to the daemon.
            known = None;
            target = &mut items[index];
            continue;
        }
        if !target.is_object() {
            *target = Value::Object(Map::new());
        }
        let members = target.as_object_mut().expect("it has just been made one");
        known = known.and_then(|value| value.get(key));
        target = members.entry(key.clone()).or_insert(Value::Null);
    }
    target.clone_from(value);
    Ok(())
}

/// Whether the daemon has a secret there that it does not show.
pub(super) fn is_secret(value: &Value) -> bool {
    value.get("$secret") == Some(&Value::Bool(true))
}

/// A value on one line.
pub(super) fn shown(value: &Value) -> String {
    if is_secret(value) { "(secret)".to_owned() } else { value.to_string() }
}

fn unescaped(key: &str) -> Option<String> {
    let mut parts = key.split('~');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (sign, rest) = match part.as_bytes().first()? {
            b'0' => ('~', &part[1..]),
            b'1' => ('/', &part[1..]),
            _ => return None,
        };
        text.push(sign);
        text.push_str(rest);
    }
    Some(text)
}

impl FromStr for EntryPath {
    type Err = NoPath;

    fn from_str(text: &str) -> Result<Self, NoPath> {
        path(text)
    }
}

fn path(text: &str) -> Result<EntryPath, NoPath> {
    if text.starts_with('/') {
        return EntryPath::of_pointer(text).ok_or(NoPath::Tilde);
    }
    let keys: Vec<String> = text.split('.').map(str::to_owned).collect();
    if keys.iter().any(String::is_empty) { Err(NoPath::Empty) } else { Ok(EntryPath { keys }) }
}

fn halves(text: &str) -> Result<(EntryPath, &str), NoPath> {
    let (left, right) = text.split_once('=').ok_or(NoPath::NoValue)?;
    Ok((path(left)?, right))
}

impl FromStr for Assignment {
    type Err = NoPath;

    fn from_str(text: &str) -> Result<Self, NoPath> {
        let (path, text) = halves(text)?;
        let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
        Ok(Self { path, value })
    }
}

impl FromStr for TextAssignment {
    type Err = NoPath;

    fn from_str(text: &str) -> Result<Self, NoPath> {
        let (path, text) = halves(text)?;
        Ok(Self(Assignment { path, value: Value::String(text.to_owned()) }))
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.keys.iter().try_for_each(|key| write!(out, "/{}", key.replace('~', "~0").replace('/', "~1")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn dots_and_slashes_name_the_same_place() {
        for (text, pointer) in [
            ("settings.answer", "/settings/answer"),
            ("/settings/answer", "/settings/answer"),
            ("env.A_B", "/env/A_B"),
            ("/settings/a.b~1c~0d", "/settings/a.b~1c~0d"),
            ("settings.a/b~c", "/settings/a~1b~0c"),
            ("settings.list.0", "/settings/list/0"),
        ] {
            assert_eq!(text.parse::<EntryPath>().unwrap().to_string(), pointer);
        }
        for (text, why) in [
            ("", NoPath::Empty),
            ("a..b", NoPath::Empty),
            (".a", NoPath::Empty),
            ("/a~2", NoPath::Tilde),
            ("/a~", NoPath::Tilde),
        ] {
            assert_eq!(text.parse::<EntryPath>(), Err(why), "{text}");
        }
    }

    #[test]
    fn a_value_is_json_where_it_is_json() {
        for (text, value) in [
            ("a=42", json!(42)),
            ("a=007", json!("007")),
            ("a=1.50", json!(1.5)),
            ("a=true", json!(true)),
            ("a=null", json!(null)),
            ("a=\"true\"", json!("true")),
            ("a=hello world", json!("hello world")),
            ("a=", json!("")),
            ("a=b=c", json!("b=c")),
            ("a=[1, 2]", json!([1, 2])),
            ("a={\"b\":{}}", json!({"b": {}})),
            ("a={b", json!("{b")),
        ] {
            assert_eq!(text.parse::<Assignment>().unwrap().value, value, "{text}");
        }
        assert_eq!("a=true".parse::<TextAssignment>().unwrap().0.value, json!("true"));
        assert_eq!("a".parse::<Assignment>(), Err(NoPath::NoValue));
    }

    #[test]
    fn values_gather_in_one_partial_entry() {
        let effective = json!({"settings": {"list": [1, {"a": 2}], "deep": {"x": 1}}});
        for (texts, partial) in [
            (
                &["settings.deep.y=2", "instances=3"][..],
                json!({"settings": {"deep": {"y": 2}}, "instances": 3}),
            ),
            (&["settings.list.1.a=5"], json!({"settings": {"list": [1, {"a": 5}]}})),
            (&["settings.list.2=7", "settings.list.0=9"], json!({"settings": {"list": [9, {"a": 2}, 7]}})),
            (&["settings.new.0=7"], json!({"settings": {"new": {"0": 7}}})),
            (&["settings.deep=1", "settings.deep.x=2"], json!({"settings": {"deep": {"x": 2}}})),
        ] {
            let mut found = json!({});
            for text in texts {
                place(&mut found, &effective, &text.parse().unwrap()).unwrap();
            }
            assert_eq!(found, partial, "{texts:?}");
        }
    }

    #[test]
    fn a_list_has_no_place_beyond_its_end_and_none_with_a_name() {
        let effective = json!({"list": [1]});
        for (text, why) in [
            ("list.2=1", "`/list/2` is beyond the end of its list: the next place is `1`"),
            ("list.x=1", "`/list/x` is in a list, whose places are numbers from 0 on"),
        ] {
            let error = place(&mut json!({}), &effective, &text.parse().unwrap()).unwrap_err();
            assert_eq!(error.to_string(), why);
        }
    }

    #[test]
    fn the_leaves_of_an_entry_are_its_values() {
        let entry = json!({"a": {"b": [1, 2], "c": {}}, "key": {"$secret": true, "id": "x"}, "d/e": null});
        let leaves: Vec<(String, String)> = EntryPath::root()
            .leaves(&entry)
            .into_iter()
            .map(|(path, value)| (path.to_string(), shown(value)))
            .collect();
        let expected = [("/a/b", "[1,2]"), ("/a/c", "{}"), ("/key", "(secret)"), ("/d~1e", "null")];
        assert_eq!(leaves, expected.map(|(path, value)| (path.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_path_finds_what_stands_there() {
        let entry = json!({"a": {"b": [1, {"c": 2}]}});
        for (path, value) in
            [("a.b.1.c", Some(json!(2))), ("a.b.2", None), ("a.x", None), ("a.b.0.c", None)]
        {
            assert_eq!(path.parse::<EntryPath>().unwrap().find(&entry), value.as_ref(), "{path}");
        }
    }
}
