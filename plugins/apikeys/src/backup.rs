//! The plugin's part of a backup of the host: the database as of one moment, and the key that its hashes
//! are made with, without which no credential in it would be known again.
//!
//! Not where a backup goes, and not whether keys go into it: the host decides both. The invariant: the copy
//! holds every change that was answered before it was asked for.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::accounts::Accounts;
use crate::opening::{DATABASE, KEY};

/// Copies what the plugin keeps into a directory, while it works on.
///
/// # Errors
/// Why there is no whole copy.
pub(crate) async fn copy(accounts: Arc<Accounts>, directory: PathBuf) -> io::Result<()> {
    let copying = tokio::task::spawn_blocking(move || {
        let database = &accounts.database;
        let key = database.path().parent().unwrap_or(Path::new("")).join(KEY);
        database.copy_to(&directory.join(DATABASE), &|| true).map_err(io::Error::other)?;
        std::fs::copy(key, directory.join(KEY)).map(drop)
    });
    copying.await.map_err(io::Error::other)?
}
