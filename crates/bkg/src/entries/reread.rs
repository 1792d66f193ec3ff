//! The files of one plugin as they are now, while the host runs: taken like at the start, under what was
//! saved.
//!
//! Not when to look, and not the processes: `dev` decides both. The invariants: nobody edits the entry
//! meanwhile; and files that make no valid entry change nothing for a plugin that has one.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use arc_swap::ArcSwap;
use tracing::info;

use super::restore::Known;
use super::takeover::Misfit;
use super::{Entries, EntriesError, Plugin};
use crate::config::PluginEntry;

/// What became of files that were read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reread {
    /// They say what they said.
    Same,
    /// The plugin has another entry, or another folder, and its processes do not know yet.
    Changed,
    /// There is a plugin that was none before.
    New,
    /// What was saved does not fit to them, or their paths are another plugin's: a plugin that there is
    /// goes on with the entry of before.
    Misfit(String),
}

impl Entries {
    /// Takes what the files of a plugin say now; `root` is the real path of its folder.
    ///
    /// # Errors
    /// The store's.
    pub async fn reread(&self, files: &PluginEntry, root: &Path) -> Result<Reread, EntriesError> {
        let name = files.name.as_str();
        let there = || self.plugins().contains_key(name);
        if !there() {
            let entry = Arc::new(files.clone());
            let fallback = ArcSwap::new(Arc::clone(&entry));
            let known = Known { files_entry: entry, fallback, misfit: None };
            let mut plugins = self.plugins.write().unwrap_or_else(PoisonError::into_inner);
            plugins.entry(files.name.clone()).or_insert_with(|| Plugin::new(known));
        }
        let (plugin, _held) = self.turn(name).await?;
        let known = plugin.known.load_full();
        let record = self.registry.plugin(name);
        let is_same = *known.files_entry == *files;
        match (&record, &known.misfit) {
            (Some(record), _) if is_same && record.root == root => return Ok(Reread::Same),
            (None, Some(misfit)) if is_same => return Ok(Reread::Misfit(misfit.clone())),
            _ => {}
        }
        let files_entry = Arc::new(files.clone());
        let entry = match self.effective(files, root).await? {
            Ok(entry) => entry,
            Err(Misfit { reason: misfit, fallback }) => {
                // Who runs keeps the entry that it has, and what its changes are compared with.
                if record.is_none() {
                    let fallback = ArcSwap::new(fallback);
                    let misfit = Some(misfit.clone());
                    plugin.known.store(Arc::new(Known { files_entry, fallback, misfit }));
                }
                return Ok(Reread::Misfit(misfit));
            }
        };
        let fallback = ArcSwap::new(Arc::clone(&entry));
        plugin.known.store(Arc::new(Known { files_entry, fallback, misfit: None }));
        self.registry.put(Arc::clone(&entry), root.to_owned());
        plugin.ahead.store(None);
        info!(plugin = name, root = %root.display(), "the files of a plugin were read again");
        let is_new = record.is_none();
        match record {
            None => self.supervisor.add(&entry),
            Some(before) if before.entry.instances != entry.instances => {
                // It is in the registry, so the supervisor knows it.
                let _ = self.supervisor.set_instances(name, entry.instances);
            }
            Some(_) => {}
        }
        self.write_mirror().await;
        Ok(if is_new { Reread::New } else { Reread::Changed })
    }
}
