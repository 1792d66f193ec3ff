//! What an edit would make of an entry: checked whole, before anything is saved or told to anybody.
//!
//! A draft says what it changes and which right that takes. The invariants: a draft is valid, and it
//! holds of what was there before only what the edit left alone.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Editing, EntriesError, Whole, renewal};
use crate::config::check::{Violation, violations};
use crate::config::patch::{self, Change, child};
use crate::config::secrets::{SEALED, as_mask, replace};
use crate::config::{EntryError, PluginEntry};

/// What somebody wants an entry to become.
#[derive(Debug, Clone)]
pub enum Edit {
    /// What is named changes: a JSON Merge Patch (RFC 7396) of the effective entry.
    Patch(Map<String, Value>),
    /// The entry is this, whole: what is not there has the host's default.
    Whole(Map<String, Value>),
    /// These places, JSON Pointers, are what the plugin's files say.
    Reset(Vec<String>),
    /// What it was at this revision; 0 stands for the files alone.
    Return(u64),
    /// What it was before the newest revision.
    TakeBack,
}

/// Which right an edit takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// To manage plugins.
    Manage,
    /// To be an administrator: it changes what the plugin may do.
    Grant,
    /// To be an administrator who has just logged in: it changes what is executed.
    RunCode,
}

/// What an edit would make of an entry.
#[derive(Debug)]
pub struct Draft {
    /// The entry as it is.
    pub(super) current: Arc<PluginEntry>,
    /// The entry that it becomes; it has the next revision's number.
    pub(super) next: PluginEntry,
    /// What differs, secrets behind masks.
    pub changes: Vec<Change>,
    /// What it takes to make this edit.
    pub right: Right,
}

impl Draft {
    /// Whether the edit changes nothing.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// Members of an entry that say what is executed, and with what.
const RUNS_CODE: [&str; 4] = ["entrypoint", "args", "env", "prepare"];
/// Members that only say how a plugin is run and what its settings are. All others, also those that this
/// host does not know, say what it may do.
const MANAGES: [&str; 16] = [
    "settings",
    "description",
    "version",
    "type",
    "autostart",
    "instances",
    "restart",
    "activation",
    "overlap",
    "swap",
    "healthcheck",
    "maxFrameBytes",
    "maxConcurrency",
    "port",
    "limits",
    "backup",
];

impl Editing {
    /// What the edit would make of the entry.
    ///
    /// # Errors
    /// [`EntriesError::Invalid`] with every place that is wrong, or there is no such revision.
    pub async fn draft(&self, edit: Edit) -> Result<Draft, EntriesError> {
        let current = &self.current;
        let before = current.whole();
        // Where secrets are put that a mask stood for.
        let mut kept = BTreeSet::new();
        let mut sealed = current.sealed.clone();
        let desired = match edit {
            Edit::Patch(body) => {
                let body = self.without_masks(body, &mut kept)?;
                let mut desired = before.clone();
                patch::apply(&mut desired, body);
                desired
            }
            Edit::Whole(body) => self.without_masks(body, &mut kept)?,
            Edit::Reset(paths) => self.reset(&before, &paths)?,
            Edit::Return(_) | Edit::TakeBack => {
                let number = match edit {
                    Edit::Return(number) => number,
                    _ => self.held_before().await?,
                };
                let whole = self.entries.whole_opened(&self.known, number).await?;
                sealed.extend(whole.sealed);
                whole.members
            }
        };
        let next = self.entry(&desired, sealed)?;
        self.check_prefix(&next)?;
        let record = self.entries.registry.plugin(current.name.as_str());
        let schema = record.as_ref().and_then(|record| record.schema.clone());
        // Who may not read a secret must not have it copied to where everybody reads.
        let secret = next.secret_places(schema.as_deref());
        let bared: Vec<Violation> = kept.difference(&secret).map(|place| not_secret(place)).collect();
        if !bared.is_empty() {
            return Err(self.invalid(bared));
        }
        if let Some(schema) = schema.as_deref().or(next.config_schema.as_ref()) {
            let settings = Value::Object(next.settings.0.clone());
            match violations(schema, &settings) {
                Ok(found) if found.is_empty() => {}
                Ok(found) => return Err(self.invalid(found)),
                // Its author's mistake must not keep the operator from changing anything.
                Err(error) => tracing::warn!(plugin = %current.name, %error, "settings are not checked"),
            }
        }
        let after = next.whole();
        let right = patch::changes(&before, &after)
            .iter()
            .filter_map(|change| patch::steps(&change.path).next())
            .map(|member| right_for(&member))
            .max()
            .unwrap_or(Right::Manage);
        let sealed = self.entries.secret_places(current);
        let changes = self.entries.shown_changes(
            &self.known,
            &Whole { members: before, sealed },
            &Whole { members: after, sealed: secret },
        );
        Ok(Draft { current: Arc::clone(current), next, changes, right })
    }

    /// The revision that held before the newest. One that was rolled back never did, and what took its
    /// place is the one before it.
    async fn held_before(&self) -> Result<u64, EntriesError> {
        let plugin = &self.current.name;
        let mut number = self.current.revision;
        while let Some(revision) = self.entries.revisions.get(plugin, number).await? {
            if !renewal::is_rollback(&revision) {
                break;
            }
            number = number.saturating_sub(2);
        }
        match number.checked_sub(1) {
            Some(before) => Ok(before),
            None => {
                let message = "nothing was saved that could be taken back".to_owned();
                Err(self.invalid(vec![Violation { path: String::new(), message }]))
            }
        }
    }

    /// Whether the paths that the entry wants for its plugin are nobody else's.
    pub(super) fn check_prefix(&self, next: &PluginEntry) -> Result<(), EntriesError> {
        let view = self.entries.registry.view();
        let others = view.plugins().map(|record| &*record.entry).filter(|other| other.name != next.name);
        match next.prefix_taken(Path::new(""), others) {
            None => Ok(()),
            Some(error) => {
                let (path, message) = error.place();
                Err(self.invalid(vec![Violation { path, message }]))
            }
        }
    }

    /// The valid entry that comes of `desired`, holding on top of the files only what differs. What is
    /// at a `sealed` place stays a secret until it is taken away, whatever the schema says since.
    fn entry(
        &self,
        desired: &Map<String, Value>,
        mut sealed: BTreeSet<String>,
    ) -> Result<PluginEntry, EntriesError> {
        let name = &self.current.name;
        if desired.get("name").is_none_or(|wanted| wanted != name.as_str()) {
            let message = format!("the name cannot be changed: it is `{name}`");
            return Err(self.invalid(vec![Violation { path: "/name".to_owned(), message }]));
        }
        if let Some(path) = sealed_inside(desired) {
            let message = format!("`{SEALED}` is the host's own: send the secret itself");
            return Err(self.invalid(vec![Violation { path, message }]));
        }
        let number = self.current.revision + 1;
        let base = self.known.files_entry.whole();
        let misfit = |error: EntryError| {
            let (path, message) = error.place();
            self.invalid(vec![Violation { path, message }])
        };
        let read =
            |overlay: Map<String, Value>| PluginEntry::of(self.files().with_saved(number, overlay), number);
        // Read once to have it in the one form that entries have: only then what differs is what
        // was meant.
        let rough = read(patch::between(&base, desired)).map_err(misfit)?;
        let entry = read(patch::between(&base, &rough.whole())).map_err(misfit)?;
        let whole = Value::Object(entry.whole());
        sealed.retain(|place| whole.pointer(place).is_some_and(|value| !value.is_null()));
        Ok(PluginEntry { sealed, ..entry })
    }

    /// The entry with these places as the files say.
    fn reset(
        &self,
        before: &Map<String, Value>,
        paths: &[String],
    ) -> Result<Map<String, Value>, EntriesError> {
        let base = Value::Object(self.known.files_entry.whole());
        let mut desired = Value::Object(before.clone());
        for path in paths {
            let steps: Vec<String> = patch::steps(path).collect();
            let Some((last, parents)) = steps.split_last().filter(|_| path.starts_with('/')) else {
                let message =
                    "this is no JSON Pointer to a place of the entry, such as `/settings/greeting`";
                let message = message.to_owned();
                return Err(self.invalid(vec![Violation { path: path.clone(), message }]));
            };
            let is_list = |count: usize| {
                let above: String = parents[..count].iter().map(|step| child("", step)).collect();
                desired.pointer(&above).or(base.pointer(&above)).is_some_and(Value::is_array)
            };
            if (0..=parents.len()).any(is_list) {
                let message = "this is inside of a list, which is reset whole".to_owned();
                return Err(self.invalid(vec![Violation { path: path.clone(), message }]));
            }
            let parent: String = parents.iter().map(|step| child("", step)).collect();
            let place = desired.pointer_mut(&parent).and_then(Value::as_object_mut);
            match (place, base.pointer(path)) {
                (Some(place), Some(value)) => drop(place.insert(last.clone(), value.clone())),
                (Some(place), None) => drop(place.shift_remove(last)),
                (None, None) => {}
                (None, Some(value)) => put(&mut desired, &steps, value.clone()),
            }
        }
        match desired {
            Value::Object(desired) => Ok(desired),
            other => unreachable!("an entry is an object, not {other}"),
        }
    }

    /// The body with the present secrets in the place of their masks; `kept` is told where.
    fn without_masks(
        &self,
        body: Map<String, Value>,
        kept: &mut BTreeSet<String>,
    ) -> Result<Map<String, Value>, EntriesError> {
        let whole = Value::Object(self.current.whole());
        let secret = self.entries.secret_places(&self.current);
        let by_id: HashMap<String, &Value> = secret
            .iter()
            .filter_map(|place| whole.pointer(place))
            .map(|value| (self.entries.masks.id(&self.current.name, value), value))
            .collect();
        let sent = Value::Object(body.clone());
        let mut lost = Vec::new();
        let mut visit = |at: &str, value: &Value| {
            let Some(id) = as_mask(value) else { return Ok(None) };
            // Said before anything looks at the value, which a message about it could repeat.
            if !at.starts_with("/settings/") {
                lost.push(not_secret(at));
                return Ok(Some(Value::Null));
            }
            let place = || same_place(&whole, &sent, at).filter(|place| secret.contains(place));
            let found = match id {
                Some(id) => by_id.get(id).copied(),
                None => place().and_then(|place| whole.pointer(&place)),
            };
            if found.is_some() {
                kept.insert(at.to_owned());
            } else {
                let message = match id {
                    Some(_) => {
                        "this stands for a secret that is not there: read the entry again, or send the secret itself"
                    }
                    None => "there is no secret here to be kept: send the secret itself",
                };
                lost.push(Violation { path: at.to_owned(), message: message.to_owned() });
            }
            Ok::<_, std::convert::Infallible>(Some(found.cloned().unwrap_or(Value::Null)))
        };
        let Ok(body) = replace(Value::Object(body), "", &mut visit);
        if !lost.is_empty() {
            return Err(self.invalid(lost));
        }
        match body {
            Value::Object(body) => Ok(body),
            other => unreachable!("a body is an object, not {other}"),
        }
    }

    fn invalid(&self, violations: Vec<Violation>) -> EntriesError {
        EntriesError::Invalid { plugin: self.current.name.clone(), violations }
    }
}

/// Where `whole` has what `sent` has at a place. Items of lists are told by their `name` or `id`, since
/// a list may have been put in another order; without one, by their place in a list of equal length.
fn same_place(whole: &Value, sent: &Value, at: &str) -> Option<String> {
    let (mut there, mut here) = (String::new(), String::new());
    for step in patch::steps(at) {
        let (list, sent_list) = (whole.pointer(&there)?, sent.pointer(&here)?);
        here = child(&here, &step);
        let (Value::Array(items), Value::Array(sent_items)) = (list, sent_list) else {
            there = child(&there, &step);
            continue;
        };
        let item = sent.pointer(&here)?;
        let identity = ["name", "id"].into_iter().find_map(|word| Some((word, item.get(word)?)));
        let place = match identity {
            Some((word, told)) => items.iter().position(|item| item.get(word) == Some(told))?,
            None if items.len() == sent_items.len() => step.parse().ok()?,
            None => return None,
        };
        there = child(&there, &place.to_string());
    }
    Some(there)
}

/// What is wrong with a mask at a place that is not secret.
fn not_secret(place: &str) -> Violation {
    let message = "this stands for a secret, and the place is none: send what is to be there".to_owned();
    Violation { path: place.to_owned(), message }
}

fn right_for(member: &str) -> Right {
    if RUNS_CODE.contains(&member) {
        Right::RunCode
    } else if MANAGES.contains(&member) {
        Right::Manage
    } else {
        Right::Grant
    }
}

/// Where something pretends to be sealed.
fn sealed_inside(members: &Map<String, Value>) -> Option<String> {
    let mut found = None;
    let mut visit = |at: &str, value: &Value| {
        if value.as_object().is_some_and(|members| members.contains_key(SEALED)) {
            found.get_or_insert_with(|| at.to_owned());
        }
        Ok::<_, std::convert::Infallible>(None)
    };
    let Ok(_) = replace(Value::Object(members.clone()), "", &mut visit);
    found
}

/// Puts a value at a place whose parents may not be there.
fn put(target: &mut Value, steps: &[String], value: Value) {
    let Some((first, rest)) = steps.split_first() else {
        *target = value;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let members = target.as_object_mut().expect("it was made an object");
    put(members.entry(first.clone()).or_insert(Value::Null), rest, value);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_mask_without_an_id_is_found_by_name_and_else_by_place() {
        let whole = json!({ "s": { "k": 1, "named": [{ "name": "a", "k": 1 }, { "name": "b", "k": 2 }], "bare": [{ "k": 1 }] } });
        let sent = json!({ "s": { "k": 0, "named": [{ "name": "b", "k": 0 }, { "name": "new", "k": 0 }], "bare": [{ "k": 0 }] } });
        let check = |at: &str, expected: Option<&str>| {
            assert_eq!(same_place(&whole, &sent, at).as_deref(), expected, "{at}");
        };
        check("/s/k", Some("/s/k"));
        check("/s/named/0/k", Some("/s/named/1/k"));
        check("/s/named/1/k", None);
        check("/s/bare/0/k", Some("/s/bare/0/k"));
        let longer = json!({ "s": { "bare": [{ "k": 0 }, { "k": 0 }] } });
        assert_eq!(same_place(&whole, &longer, "/s/bare/0/k"), None);
    }

    #[test]
    fn a_member_that_the_host_does_not_know_is_a_grant() {
        let rights = ["settings", "calls", "env", "somethingNew"].map(right_for);
        assert_eq!(rights, [Right::Manage, Right::Grant, Right::RunCode, Right::Grant]);
    }
}
