//! `bkg backup` and `bkg restore`: a backup into a file, and a file back into a data directory.
//!
//! Not how a backup is taken or unpacked. The invariant: the file is there if the backup is whole, which
//! was checked to the last sum, and not otherwise. `restore` needs no daemon, and refuses where one runs.

use std::fs::File;
use std::io::{self, BufReader, Seek, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::{Timestamp, fmt::strtime};
use serde::Deserialize;
use serde_json::json;

use super::Verdict;
use super::client::Client;
use super::error::CliError;
use super::output::{Output, harmless};
use super::route::asking;
use super::target::Target;
use super::time::moment;
use super::top::size;
use crate::backup::archive::{self, Quota};
use crate::backup::{How, KeyFate, KeyState, LeftOut, Part, Restore, RestorePreview, Restored, Why};

/// Which backup is to be taken.
#[derive(Debug, Args)]
pub(super) struct BackupRequest {
    /// The file to write, which is replaced; `-` is standard output. Without it, `bkg-TIME.tar` here
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Take the keys too: whoever has the file can then read every secret in it
    #[arg(long)]
    with_keys: bool,
    /// Take the logs of plugins too
    #[arg(long)]
    with_logs: bool,
    /// Only show what would be taken, how, and what would be missing
    #[arg(long, conflicts_with = "file")]
    preview: bool,
}

/// Which backup is to be put back.
#[derive(Debug, Args)]
pub(super) struct RestoreRequest {
    /// The file that `bkg backup` wrote
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Only check the file, and show what would be restored
    #[arg(long)]
    preview: bool,
    /// Go on also where keys are missing, and lose what they open
    #[arg(long)]
    without_keys: bool,
}

/// What the daemon says of a backup beforehand.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Preview {
    parts: Vec<Part>,
    bytes: u64,
    left_out: Vec<LeftOut>,
    lacks: Vec<String>,
}

/// Takes a backup, or shows what it would be.
pub(super) fn take(
    target: &Target,
    request: &BackupRequest,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    let client = Client::find(target)?;
    let path = |path| {
        let flag = |is_set: bool| is_set.then(|| "true".to_owned());
        asking(path, [("keys", flag(request.with_keys)), ("logs", flag(request.with_logs))])
    };
    let answer = client.get(&path("/admin/backup/preview"))?;
    if request.preview && output.wants_json() {
        output.json(&answer.body)?;
        return Ok(Verdict::Reached);
    }
    let preview: Preview = answer.read()?;
    if request.preview {
        show_parts(&preview.parts, output)?;
        output.text(&format!("about {} in all", size(preview.bytes)))?;
        show_left_out(&preview.left_out, output)?;
        show_list("will not work after a restore of this alone", &preview.lacks, output)?;
        return Ok(Verdict::Reached);
    }
    let file = request.file.clone().unwrap_or_else(|| {
        strtime::format("bkg-%Y%m%dT%H%M%SZ.tar", Timestamp::now()).expect("the form fits any time").into()
    });
    let path = path("/admin/backup");
    if file == Path::new("-") {
        client.fetch_posted(&path, &mut output.answers(), CliError::of_output)?;
        return Ok(Verdict::Reached);
    }
    let bytes = save(&client, &path, &file, preview.bytes)?;
    for sentence in &preview.lacks {
        output.notice(&harmless(&format!("note: {sentence}")));
    }
    if output.wants_json() {
        output.json(&json!({ "bytes": bytes, "file": file }).to_string())?;
    } else {
        output.text(&harmless(&format!("the backup is in {}: {}", file.display(), size(bytes))))?;
    }
    Ok(Verdict::Reached)
}

/// Brings the archive into a file that is there when all of it is right and on the disk.
fn save(client: &Client, path: &str, file: &Path, needed: u64) -> Result<u64, CliError> {
    let failed = |source: io::Error| CliError::File { action: "write", path: file.to_owned(), source };
    if file.symlink_metadata().is_ok_and(|found| !found.is_file()) {
        return Err(failed(io::Error::other("it is there and no ordinary file; choose another name")));
    }
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let found = nix::sys::statvfs::statvfs(directory).map_err(|error| failed(error.into()))?;
    let free = found.blocks_available().saturating_mul(found.fragment_size());
    if needed > free {
        let reason = format!("it takes about {needed} bytes, and {free} are free there");
        return Err(failed(io::Error::new(io::ErrorKind::StorageFull, reason)));
    }
    // For its owner alone, and beside its place until it is whole.
    let mut part =
        tempfile::Builder::new().prefix(".bkg-backup-").tempfile_in(directory).map_err(failed)?;
    let bytes = client.fetch_posted(path, &mut part, failed)?;
    part.flush().and_then(|()| part.as_file().sync_all()).map_err(failed)?;
    part.as_file_mut().rewind().map_err(failed)?;
    let quota = Quota::of_bytes(bytes);
    archive::read(BufReader::new(part.as_file()), &quota).map_err(|error| CliError::Unreadable {
        request: format!("POST {path}"),
        reason: error.to_string(),
    })?;
    part.persist(file).map_err(|error| failed(error.error))?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
    Ok(bytes)
}

/// Restores a backup, or shows what that would do.
pub(super) fn restore(
    data_dir: &Path,
    request: &RestoreRequest,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    let restore = Restore {
        file: request.file.clone(),
        data_dir: data_dir.to_owned(),
        without_keys: request.without_keys,
    };
    if request.preview {
        let preview = restore.preview()?;
        if output.wants_json() {
            output.json(&json!(preview).to_string())?;
        } else {
            show_restore(&preview, data_dir, output)?;
        }
        return Ok(Verdict::Reached);
    }
    let restored = restore.run()?;
    if output.wants_json() {
        output.json(&json!(restored).to_string())?;
        return Ok(Verdict::Reached);
    }
    let Restored { data_dir, earlier, files, bytes, audit_entries, lost } = restored;
    let shown = data_dir.display();
    output.text(&harmless(&format!(
        "{files} files, {}, are in {shown}; {audit_entries} entries of the audit log were verified",
        size(bytes)
    )))?;
    if let Some(earlier) = earlier {
        output.text(&harmless(&format!("what was there before is kept in {}", earlier.display())))?;
    }
    show_list("lost", &lost, output)?;
    output.text(&harmless(&format!("start it with `bkg serve --data-dir {shown}`")))?;
    Ok(Verdict::Reached)
}

fn show_restore(preview: &RestorePreview, data_dir: &Path, output: &mut Output) -> Result<(), CliError> {
    let RestorePreview { created, version, parts, files, bytes, keys, left_out, replaces, needs_consent } =
        preview;
    output.text(&harmless(&format!(
        "a backup of {} by bkg {version}: {files} files, {}, all as they were written",
        moment(*created),
        size(*bytes)
    )))?;
    show_parts(parts, output)?;
    for KeyFate { path, state, lost } in keys {
        let what = match state {
            KeyState::Present => "is taken from the present data directory",
            KeyState::MadeAnew => "is not in the backup; another is made where it is needed",
            KeyState::Missing => "is not in the backup and not in the present data directory",
            KeyState::Other => "is not in the backup, and that of the present data directory is another",
        };
        let lost = lost.as_ref().map(|lost| format!(": {lost}")).unwrap_or_default();
        output.text(&harmless(&format!("{path} {what}{lost}")))?;
    }
    show_left_out(left_out, output)?;
    if *replaces {
        let shown = data_dir.display();
        output.text(&harmless(&format!(
            "what is in {shown} is kept beside it, as {shown}.before-restore-…"
        )))?;
    }
    if *needs_consent {
        output.text("it is restored only with `--without-keys`, or when the missing keys are put there")?;
    }
    Ok(())
}

fn show_parts(parts: &[Part], output: &mut Output) -> Result<(), CliError> {
    for Part { plugin, how, files, bytes, note } in parts {
        let whose = plugin.as_ref().map_or("the host", |plugin| plugin.as_str());
        let how = match how {
            How::Host => "its database as of one moment",
            How::Plugin => "written by the plugin",
            How::Files => "databases as of one moment, other files as they are",
            How::Stopped => "copied while it is stopped",
        };
        let amount = match (files, bytes) {
            (Some(1), Some(bytes)) => format!(", 1 file, {}", size(*bytes)),
            (Some(files), Some(bytes)) => format!(", {files} files, {}", size(*bytes)),
            _ => String::new(),
        };
        let note = note.as_ref().map(|note| format!("; {note}")).unwrap_or_default();
        output.text(&harmless(&format!("{whose}: {how}{amount}{note}")))?;
    }
    Ok(())
}

fn show_left_out(left_out: &[LeftOut], output: &mut Output) -> Result<(), CliError> {
    for LeftOut { path, why, .. } in left_out {
        let why = match why {
            Why::Key => "a key",
            Why::Link => "a link",
            Why::Special => "neither file nor directory",
        };
        output.text(&harmless(&format!("left out: {path} ({why})")))?;
    }
    Ok(())
}

fn show_list(title: &str, sentences: &[String], output: &mut Output) -> Result<(), CliError> {
    if sentences.is_empty() {
        return Ok(());
    }
    output.text(&format!("{title}:"))?;
    sentences.iter().try_for_each(|sentence| output.text(&harmless(&format!("  {sentence}"))))
}
