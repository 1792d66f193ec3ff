//! A plugin's part of a backup of the host: `lifecycle.backup`.
//!
//! The plugin writes a copy of what it keeps below a directory of the host's; here the request is read
//! and what is there afterwards is listed. Not what a copy is: only the plugin knows when its files fit
//! together. The invariant: every file that is listed lies below the directory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bkg_protocol::{ErrorCode, WireError};
use serde::{Deserialize, Serialize};

use crate::capability::Capability;
use crate::request::Request;

const CAPABILITY: &str = "lifecycle.backup";

#[derive(Deserialize)]
struct Order {
    directory: PathBuf,
}

#[derive(Serialize)]
struct Copied {
    /// Relative to the directory, with `/` between the steps.
    files: Vec<String>,
}

/// The capability that answers with the files that `handler` left in the directory.
pub(crate) fn capability<H, F>(handler: H) -> Capability
where
    H: Fn(PathBuf) -> F + Send + Sync + 'static,
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let handler = Arc::new(handler);
    let answer = move |request: Request| {
        let handler = Arc::clone(&handler);
        async move {
            let Order { directory } = request.read()?;
            let failed = |problem: io::Error| {
                WireError::new(ErrorCode::PluginError, format!("the backup failed: {problem}"))
            };
            handler(directory.clone()).await.map_err(failed)?;
            let listed = tokio::task::spawn_blocking(move || files_below(&directory));
            let files = listed.await.map_err(io::Error::other).and_then(|files| files).map_err(failed)?;
            let copied = serde_json::to_value(Copied { files });
            copied.map_err(|problem| failed(problem.into()))
        }
    };
    Capability::new(CAPABILITY)
        .description("Writes a copy of what the plugin keeps below a directory, for a backup of the host")
        .answer(answer)
}

/// The files below a directory, in order; links are not followed.
fn files_below(directory: &Path) -> io::Result<Vec<String>> {
    let mut files = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(directory.join(&folder))? {
            let entry = entry?;
            let name = entry.file_name().into_string().map_err(|name| {
                io::Error::other(format!("the name of `{}` is no text", name.to_string_lossy()))
            })?;
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}
