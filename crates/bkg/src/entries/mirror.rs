//! `DATA/plugins.json` and the entries: written after each change, and what somebody wrote into it by
//! hand offered for import.
//!
//! The invariants: a mirror that cannot be written fails nobody's change; what was written by hand holds
//! only after it was imported, checked like any other edit; and it is never lost.

use std::collections::HashSet;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use tracing::{info, warn};

use super::{Apply, Draft, Edit, Editing, Entries, EntriesError, Outcome, Plugin, Right};
use crate::config::check::Violation;
use crate::config::patch::Change;
use crate::store::{Action, MirrorState, StoreError};

/// What is in the place of the mirror, as operators see it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MirrorView {
    /// Where it is.
    pub path: String,
    /// Whether it is the host's own.
    pub state: MirrorWord,
    /// Why it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was written by hand, where that differs from what is in effect.
    pub edits: Vec<HandEdit>,
}

/// Whether the mirror is the host's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MirrorWord {
    /// It is as the host wrote it.
    Same,
    /// It is not there; the next change writes it.
    Missing,
    /// Somebody wrote into it: import it or give it up. Until then the host leaves it alone.
    Edited,
    /// Somebody made something of it that is no list of entries.
    Unreadable,
}

/// What was written by hand about one plugin.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HandEdit {
    /// The plugin.
    pub plugin: String,
    /// What an import would change; secrets read as `{"$secret": true}`.
    pub changes: Vec<Change>,
    /// Why it cannot be imported.
    pub violations: Vec<Violation>,
}

/// What became of one plugin in an import.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Imported {
    /// The plugin.
    pub plugin: String,
    /// What became of its entry; absent where that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A hand edit that could be imported: checked whole, and nobody else edits these plugins meanwhile.
#[derive(Debug)]
pub struct Import {
    edits: Vec<(Editing, Draft)>,
}

impl Entries {
    /// Writes the mirror anew. What goes wrong is logged: nobody's change depends on it.
    pub(super) async fn write_mirror(&self) {
        let shown = |plugin: &Arc<Plugin>| {
            let entry = self.current(&plugin.known.load());
            let record = self.registry.plugin(entry.name.as_str());
            entry.shown(record.as_ref().and_then(|record| record.schema.as_deref()))
        };
        let entries = self.plugins().values().map(shown).collect();
        match self.mirror.write(entries).await {
            Ok(()) => {}
            Err(StoreError::MirrorEdited { .. }) => warn!(
                path = %self.mirror.path().display(),
                "the mirror of entries was edited by hand and stays as it is: `bkg config mirror` shows what it would change"
            ),
            Err(error) => warn!(%error, "the mirror of entries could not be written"),
        }
    }

    /// Looks at the mirror, and at what an import would change.
    ///
    /// # Errors
    /// The store's.
    pub async fn mirror(self: &Arc<Self>) -> Result<MirrorView, EntriesError> {
        let path = self.mirror.path().display().to_string();
        let view = |state, reason, edits| MirrorView { path, state, reason, edits };
        Ok(match self.mirror.look().await? {
            MirrorState::Same => view(MirrorWord::Same, None, Vec::new()),
            MirrorState::Missing => view(MirrorWord::Missing, None, Vec::new()),
            MirrorState::Unreadable { reason } => view(MirrorWord::Unreadable, Some(reason), Vec::new()),
            MirrorState::Edited { entries } => {
                let mut edits = Vec::new();
                for drafted in self.draft_all(entries).await? {
                    match drafted {
                        Ok((_, draft)) if draft.is_empty() => {}
                        Ok((_, draft)) => edits.push(HandEdit {
                            plugin: draft.current.name.to_string(),
                            changes: draft.changes,
                            violations: Vec::new(),
                        }),
                        Err(misfit) => edits.push(misfit),
                    }
                }
                view(MirrorWord::Edited, None, edits)
            }
        })
    }

    /// Takes what was written by hand as edits, if all of it can be.
    ///
    /// # Errors
    /// [`EntriesError::NotImported`] with everything that is wrong, or the store's.
    pub async fn import(self: &Arc<Self>) -> Result<Import, EntriesError> {
        let entries = match self.mirror.look().await? {
            MirrorState::Edited { entries } => entries,
            MirrorState::Unreadable { reason } => return Err(EntriesError::NotImported(reason)),
            MirrorState::Same | MirrorState::Missing => Vec::new(),
        };
        let (mut edits, mut wrong) = (Vec::new(), Vec::new());
        for drafted in self.draft_all(entries).await? {
            match drafted {
                Ok(edit) => edits.push(edit),
                Err(misfit) => wrong.extend(misfit.violations.into_iter().map(|violation| {
                    format!("`{}`: `{}`: {}", misfit.plugin, violation.path, violation.message)
                })),
            }
        }
        if !wrong.is_empty() {
            return Err(EntriesError::NotImported(wrong.join("; ")));
        }
        edits.retain(|(_, draft)| !draft.is_empty());
        Ok(Import { edits })
    }

    /// Moves what was written by hand aside, and writes what is in effect. Answers where it is now.
    ///
    /// # Errors
    /// The store's.
    pub async fn give_up_mirror_edit(&self) -> Result<Option<String>, EntriesError> {
        let kept = self.mirror.keep_edit().await?;
        if let Some(path) = &kept {
            info!(path = %path.display(), "what was written into the mirror by hand was moved aside");
        }
        self.write_mirror().await;
        Ok(kept.map(|path| path.display().to_string()))
    }

    /// Drafts an edit for each entry of a list, in the order of the catalogue so that two who do this at
    /// once cannot wait for one another.
    async fn draft_all(
        self: &Arc<Self>,
        entries: Vec<Value>,
    ) -> Result<Vec<Result<(Editing, Draft), HandEdit>>, EntriesError> {
        let misfit = |plugin: &str, path: &str, message: String| HandEdit {
            plugin: plugin.to_owned(),
            changes: Vec::new(),
            violations: vec![Violation { path: path.to_owned(), message }],
        };
        let mut drafted = Vec::new();
        let mut named: Vec<(usize, String, Map<String, Value>)> = Vec::new();
        let mut seen = HashSet::new();
        for entry in entries {
            let Value::Object(entry) = entry else {
                drafted.push(Err(misfit("", "", "an entry is an object `{…}`".to_owned())));
                continue;
            };
            let name = entry.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            let place = self.plugins().get_index_of(name.as_str());
            match place {
                None => drafted.push(Err(misfit(&name, "/name", format!("no plugin is called `{name}`")))),
                Some(_) if !seen.insert(name.clone()) => {
                    drafted.push(Err(misfit(&name, "/name", "it is there twice".to_owned())));
                }
                Some(place) => named.push((place, name, entry)),
            }
        }
        named.sort_by_key(|(place, ..)| *place);
        for (_, name, entry) in named {
            let editing = self.edit(&name, None).await?;
            match editing.draft(Edit::Whole(entry)).await {
                Ok(draft) => drafted.push(Ok((editing, draft))),
                Err(EntriesError::Invalid { violations, .. }) => {
                    drafted.push(Err(HandEdit { plugin: name, changes: Vec::new(), violations }));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(drafted)
    }
}

impl Import {
    /// Which right it takes.
    pub fn right(&self) -> Right {
        self.edits.iter().map(|(_, draft)| draft.right).max().unwrap_or(Right::Manage)
    }

    /// Commits the edits one after the other. One that fails keeps the others from nothing.
    pub async fn commit(self, note: &str, action: impl Fn(&str, &[Change]) -> Action) -> Vec<Imported> {
        let mut imported = Vec::new();
        for (editing, draft) in self.edits {
            let plugin = draft.current.name.to_string();
            let action = action(&plugin, &draft.changes);
            let committed = editing.commit(draft, Apply::Now, note.to_owned(), action).await;
            let (outcome, error) = match committed {
                Ok(outcome) => (Some(outcome), None),
                Err(error) => (None, Some(error.to_string())),
            };
            imported.push(Imported { plugin, outcome, error });
        }
        imported
    }
}
