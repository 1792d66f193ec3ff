//! The version that the files of a plugin describe now takes over from the one that runs.
//!
//! Not when, and not how: `admin` and `dev` order it, the supervisor carries it out. The invariants: until
//! it is decided, the entry of before holds and nobody edits it; and an entry whose files took over is
//! compared with those files from then on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tracing::info;

use super::restore::{Known, fallback, misfit_of, with_saved};
use super::{Entries, EntriesError};
use crate::config::PluginEntry;
use crate::supervisor::{Share, SwapOrder, SwapOutcome, SwapRefused, SwapTicket};

/// What the files of a plugin are at this moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Files {
    /// What they say.
    pub entry: Arc<PluginEntry>,
    /// The real path of the folder.
    pub root: PathBuf,
}

/// Why the files of a plugin do not take over.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    /// What was saved does not fit to them, or their paths are another plugin's.
    #[error("{0}")]
    Misfit(String),
    /// There was no swap.
    #[error(transparent)]
    Refused(#[from] SwapRefused),
    /// The entry cannot be read.
    #[error(transparent)]
    Entries(#[from] EntriesError),
}

impl Entries {
    /// Has the version that `files` describe take over. A swap that is not decided yet ends, and edits
    /// wait until this one is.
    ///
    /// # Errors
    /// Nothing was begun, and nothing has changed.
    pub async fn take_over(
        self: &Arc<Self>,
        files: Files,
        why: String,
        share: Option<Share>,
    ) -> Result<SwapTicket, TakeoverError> {
        let name = files.entry.name.clone();
        // It holds the turn until it is settled.
        self.supervisor.give_up_swap(name.as_str()).map_err(SwapRefused::from)?;
        let (plugin, held) = self.turn(name.as_str()).await?;
        let effective = self.effective(&files.entry, &files.root).await?;
        let entry = effective.map_err(|misfit| TakeoverError::Misfit(misfit.reason))?;
        let share = share.or_else(|| Share::of_entry(&entry));
        let order = SwapOrder { entry: Arc::clone(&entry), root: files.root, why, share };
        let ticket = self.supervisor.swap(name.as_str(), order)?;
        let (entries, swap) = (Arc::clone(self), ticket.clone());
        self.tasks.spawn(async move {
            if swap.serves().await {
                let fallback = ArcSwap::new(entry);
                let known = Known { files_entry: files.entry, fallback, misfit: None };
                let before = plugin.known.swap(Arc::new(known));
                info!(plugin = %name, "the files of a plugin took over");
                entries.write_mirror().await;
                if !matches!(swap.outcome().await, SwapOutcome::Swapped { .. } | SwapOutcome::Restarted) {
                    plugin.known.store(before);
                    entries.write_mirror().await;
                }
            }
            drop(held);
        });
        Ok(ticket)
    }

    /// Whether files say what the plugin has, or had when it last took some.
    ///
    /// # Errors
    /// The name is not known.
    pub fn has_files(&self, files: &PluginEntry, root: &Path) -> Result<bool, EntriesError> {
        let (name, known) = self.known(files.name.as_str())?;
        let record = self.registry.plugin(name.as_str());
        Ok(*known.files_entry == *files && record.is_some_and(|record| record.root == root))
    }

    /// The entry that files make with what was saved on top of them, or why they make none.
    pub(super) async fn effective(
        &self,
        files: &PluginEntry,
        root: &Path,
    ) -> Result<Result<Arc<PluginEntry>, Misfit>, EntriesError> {
        let saved = self.revisions.current(&files.name).await?;
        let entry = match &saved {
            None => Arc::new(files.clone()),
            Some(revision) => match with_saved(files, revision, &self.vault) {
                Ok(entry) => Arc::new(entry),
                Err(reason) => {
                    let fallback = Arc::new(fallback(files, revision));
                    return Ok(Err(Misfit { reason: misfit_of(revision, &reason), fallback }));
                }
            },
        };
        let view = self.registry.view();
        let others = view.plugins().map(|record| &*record.entry).filter(|other| other.name != entry.name);
        Ok(match entry.prefix_taken(root, others) {
            None => Ok(entry),
            Some(error) => Err(Misfit { reason: error.to_string(), fallback: entry }),
        })
    }
}

/// Files that make no entry with what was saved, or none beside the other plugins.
pub(super) struct Misfit {
    pub(super) reason: String,
    /// What is left of it for whoever corrects it.
    pub(super) fallback: Arc<PluginEntry>,
}
