//! What a backup says about itself: the first member of its archive.
//!
//! Not the files. The invariant: a [`Manifest`] that passed [`Manifest::check`] names every file of the
//! backup once, with its size and its sum, and nothing that stands in the way of another. `archive`
//! reads and writes it; restoring decides by it.

use std::collections::BTreeSet;

use bkg_protocol::PluginName;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::archive::{ArchiveError, Quota};
use super::place::{DATABASE, Place};

/// The name of the member.
pub(super) const NAME: &str = "manifest.json";
/// What the first version of the archive calls itself.
pub(super) const FORMAT: u32 = 1;

/// The form alone, which every manifest says in the same way.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Form {
    pub(super) backplane_backup: u32,
}

/// A backup, described.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The version of the archive's form.
    pub backplane_backup: u32,
    /// The version of the program that made it.
    pub version: String,
    /// When it was begun. What was acknowledged before is in it.
    pub created: Timestamp,
    /// Whether it holds keys.
    pub with_keys: bool,
    /// Whether it holds the logs of plugins.
    pub with_logs: bool,
    /// Whose files it holds, and how they were taken.
    pub parts: Vec<Part>,
    /// The directories of plugins, the empty ones too.
    pub directories: Vec<Place>,
    /// Every file, in the order of the archive.
    pub files: Vec<FileOf>,
    /// What is not in it, and why.
    pub left_out: Vec<LeftOut>,
    /// What does not work after a restore of this alone, one sentence each.
    pub lacks: Vec<String>,
}

/// What a backup holds of the host or of one plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "BackupPart")]
pub struct Part {
    /// The plugin; none for the host itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plugin: Option<PluginName>,
    /// How its files are taken.
    pub how: How,
    /// How many they are; none while only the plugin knows.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub files: Option<u64>,
    /// How many bytes they have.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bytes: Option<u64>,
    /// What else is worth knowing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub note: Option<String>,
}

/// How the files of somebody are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "BackupHow")]
pub enum How {
    /// The host's own database, as it is at one moment.
    Host,
    /// The plugin writes them: its capability `lifecycle.backup`.
    Plugin,
    /// Databases as they are at one moment, other files as they are.
    Files,
    /// The same while the plugin is stopped.
    Stopped,
}

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileOf {
    /// Where it belongs.
    pub path: Place,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
    /// The owner's permission bits.
    pub mode: u32,
    /// Whose it is; none for the host.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plugin: Option<PluginName>,
    /// How it was taken.
    pub taken: Taken,
    /// `user_version` of a database.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub schema: Option<i64>,
}

/// How one file was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Taken {
    /// As a database: one moment of it.
    Database,
    /// Byte by byte, while it did not change.
    Copied,
    /// Its plugin wrote it.
    Written,
}

/// Something that a backup does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "BackupLeftOut")]
pub struct LeftOut {
    /// Where it stands.
    pub path: String,
    /// Why.
    pub why: Why,
    /// Of a key: what tells whether another file is the same, to those who have `audit.key`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub print: Option<String>,
}

/// Why something is not in a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "BackupLeftOutWhy")]
pub enum Why {
    /// It is a key, and keys were not asked for.
    Key,
    /// It is a link: backups hold none.
    Link,
    /// It is a socket, a pipe or a device.
    Special,
}

impl Manifest {
    pub(super) fn new(created: Timestamp, with_keys: bool, with_logs: bool) -> Self {
        Self {
            backplane_backup: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            created,
            with_keys,
            with_logs,
            parts: Vec::new(),
            directories: Vec::new(),
            files: Vec::new(),
            left_out: Vec::new(),
            lacks: Vec::new(),
        }
    }

    /// How many bytes its files have.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Everything that can be known to be wrong before a file is read.
    pub(super) fn check(&self, quota: &Quota) -> Result<(), ArchiveError> {
        let wrong = |reason: String| Err(ArchiveError::Manifest { reason });
        if self.backplane_backup != FORMAT {
            return Err(ArchiveError::Newer { found: self.backplane_backup, known: FORMAT });
        }
        let count = self.files.len() + self.directories.len() + self.left_out.len() + self.parts.len();
        if count > quota.files {
            return Err(ArchiveError::Quota { what: "files", most: quota.files as u64 });
        }
        let mut total = 0_u64;
        let mut files = BTreeSet::new();
        for file in &self.files {
            if file.size > quota.file_bytes {
                return Err(ArchiveError::Quota { what: "bytes in one file", most: quota.file_bytes });
            }
            total = total.saturating_add(file.size);
            if !files.insert(file.path.as_str()) {
                return wrong(format!("`{}` is named twice", file.path));
            }
            let is_digest =
                |byte: u8| byte.is_ascii_digit() || (byte.is_ascii_lowercase() && byte.is_ascii_hexdigit());
            if file.sha256.len() != 64 || !file.sha256.bytes().all(is_digest) {
                return wrong(format!("`{}` has no SHA-256", file.path));
            }
            if file.mode & !0o700 != 0 {
                return wrong(format!("`{}` has rights that a backup does not give", file.path));
            }
            if file.plugin != file.path.plugin() {
                return wrong(format!("`{}` is not of whom it says", file.path));
            }
        }
        if total > quota.total_bytes {
            return Err(ArchiveError::Quota { what: "bytes", most: quota.total_bytes });
        }
        if !files.contains(DATABASE) {
            return wrong(format!("it holds no `{DATABASE}`"));
        }
        let mut directories = BTreeSet::new();
        for directory in &self.directories {
            if !directories.insert(directory.as_str()) || directory.plugin().is_none() {
                return wrong(format!("`{directory}` is named twice, or is no directory"));
            }
        }
        for directory in self.all_directories(quota)? {
            if files.contains(directory) {
                return wrong(format!("`{directory}` is a file and a directory"));
            }
        }
        Ok(())
    }

    /// Every directory that its files need, each after the one that holds it.
    pub(super) fn all_directories(&self, quota: &Quota) -> Result<BTreeSet<&str>, ArchiveError> {
        let mut all = BTreeSet::new();
        let leading = self.files.iter().map(|file| &file.path).flat_map(Place::ancestors);
        let own = self.directories.iter().flat_map(|place| place.ancestors().chain([place.as_str()]));
        for directory in leading.chain(own) {
            all.insert(directory);
            if all.len() > quota.files {
                return Err(ArchiveError::Quota { what: "directories", most: quota.files as u64 });
            }
        }
        Ok(all)
    }
}
