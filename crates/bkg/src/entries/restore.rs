//! At the start: what was saved, on top of what the files of now say.
//!
//! The invariant: a plugin never runs without something that an operator saved for it. Where that no
//! longer fits to the files, the plugin is listed with the reason and does not run.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bkg_protocol::PluginName;
use indexmap::IndexMap;
use tracing::warn;

use super::sealing;
use crate::config::{Catalogue, EntryError, Outcome, PluginEntry};
use crate::store::{Revision, Store, StoreError, Vault};

/// A plugin whose files can be read.
#[derive(Debug)]
pub struct Known {
    /// What its files alone make.
    pub(super) files_entry: Arc<PluginEntry>,
    /// What stands for its entry where it is not in the registry.
    pub(super) fallback: ArcSwap<PluginEntry>,
    /// Why what was saved does not fit.
    pub(super) misfit: Option<String>,
}

/// Puts what was saved on top of the entries of a catalogue.
///
/// # Errors
/// The store's. What is wrong with one plugin is noted in its outcome.
pub async fn restore(
    catalogue: &mut Catalogue,
    store: &Store,
) -> Result<IndexMap<PluginName, Known>, StoreError> {
    let mut saved: IndexMap<PluginName, Revision> = IndexMap::new();
    for revision in store.revisions.all_current().await? {
        saved.insert(revision.plugin.clone(), revision);
    }
    let mut known = IndexMap::new();
    // Who runs, with what was saved: of those whose paths overlap, the first.
    let mut earlier: Vec<Arc<PluginEntry>> = Vec::new();
    for found in &mut catalogue.plugins {
        let Outcome::Ready(entry) = &mut found.outcome else { continue };
        let files_entry = Arc::new((**entry).clone());
        let effective = match saved.get(&entry.name) {
            None => Ok(Arc::clone(&files_entry)),
            Some(revision) => with_saved(&files_entry, revision, &store.vault)
                .map(Arc::new)
                .map_err(|reason| (revision, reason)),
        };
        let (fallback, misfit) = match effective {
            Ok(effective) => {
                let taken = effective.prefix_taken(&found.folder, earlier.iter().map(|entry| &**entry));
                match &taken {
                    None => {
                        (**entry).clone_from(&effective);
                        earlier.push(Arc::clone(&effective));
                    }
                    Some(error) => {
                        warn!(plugin = %entry.name, %error, "its paths are those of another plugin");
                    }
                }
                (effective, taken)
            }
            Err((revision, reason)) => {
                let reason = misfit_of(revision, &reason);
                warn!(plugin = %entry.name, reason, "a saved entry does not fit");
                let error = EntryError::Unreadable { file: found.folder.clone(), reason };
                (Arc::new(fallback(&files_entry, revision)), Some(error))
            }
        };
        let fallback = ArcSwap::new(fallback);
        let reason = misfit.as_ref().map(|error| match error {
            EntryError::Unreadable { reason, .. } => reason.clone(),
            error => error.to_string(),
        });
        known.insert(files_entry.name.clone(), Known { files_entry, fallback, misfit: reason });
        if let Some(error) = misfit {
            found.outcome = Outcome::Broken { error };
        }
    }
    Ok(known)
}

/// Why what was saved cannot hold, and what to do about it.
pub(super) fn misfit_of(revision: &Revision, reason: &str) -> String {
    format!(
        "revision {} of its saved entry does not fit: {reason}; `bkg config revisions {name}` lists those to \
         return to, `bkg config return {name} 0` goes back to the files",
        revision.number,
        name = revision.plugin,
    )
}

/// What is left of a revision that does not fit: what it says besides secrets, if that fits alone, so
/// that giving the secrets again is all that it takes. Else the files.
pub(super) fn fallback(files: &PluginEntry, revision: &Revision) -> PluginEntry {
    let layers =
        files.layers.with_saved(revision.number, sealing::without_sealed(revision.overlay.clone()));
    match PluginEntry::of(layers, revision.number) {
        Ok(entry) if entry.name == files.name => entry,
        _ => PluginEntry { revision: revision.number, ..files.clone() },
    }
}

/// The entry that a revision makes of the files.
pub(super) fn with_saved(
    files: &PluginEntry,
    revision: &Revision,
    vault: &Vault,
) -> Result<PluginEntry, String> {
    let (overlay, sealed) = sealing::open(vault, &revision.plugin, revision.overlay.clone())
        .map_err(|error| error.to_string())?;
    let layers = files.layers.with_saved(revision.number, overlay);
    let entry = PluginEntry::of(layers, revision.number).map_err(|error| error.to_string())?;
    if entry.name != files.name {
        return Err("it has another name".to_owned());
    }
    Ok(PluginEntry { sealed, ..entry })
}
