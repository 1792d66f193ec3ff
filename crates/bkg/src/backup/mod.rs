//! Backups: taken of a host that runs, whole or not at all, and put back where none runs.
//!
//! Not who may have one: `admin` asks for that. Everything is staged first, so that what goes wrong is
//! known before a byte is sent. The invariants: one backup at a time; what was acknowledged before one
//! began is in it; plugins are taken before the host, so that its audit log knows of everything that
//! their copies hold; a plugin that was stopped for its copy is started again, whatever becomes of it.

pub mod archive;
mod manifest;
mod place;
mod plan;
mod restore;
mod staging;
mod stream;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bkg_protocol::{CapabilityName, PluginName, RawJson};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use manifest::{FileOf, How, LeftOut, Manifest, Part, Taken, Why};
pub use place::{NoPlace, Place};
pub use plan::{PlanError, Wanted};
pub use restore::{KeyFate, KeyState, Restore, RestoreError, RestorePreview, Restored};
pub use staging::StageError;
pub use stream::Ready;

use plan::Contents;
use staging::Staging;

use crate::config::BackupMode;
use crate::dispatcher::{Answer, CallError, Dispatcher, Question, Target};
use crate::registry::{Lineage, Registry, State};
use crate::store::{DataDir, Store, StoreError};
use crate::supervisor::Supervisor;

/// What a plugin offers that writes its own copies.
const CAPABILITY: &str = "lifecycle.backup";
/// How long it may take for that.
const WRITES_WITHIN: Duration = Duration::from_secs(600);
/// How long a plugin may take to stop for its copy, besides its own drain and grace.
const STOPS_WITHIN: Duration = Duration::from_secs(120);
/// How much of the disk a backup leaves free, in bytes.
const LEFT_FREE: u64 = 64 << 20;
/// How large a file may be that is read as a key, in bytes.
const LARGEST_KEY: u64 = 1 << 20;
/// How often the files of a plugin are looked at again when one was removed meanwhile.
const LOOKS: usize = 3;

/// Takes backups.
#[derive(Debug)]
pub struct Backups {
    data: Arc<DataDir>,
    store: Store,
    registry: Arc<Registry>,
    dispatcher: Arc<Dispatcher>,
    supervisor: Arc<Supervisor>,
    /// Held from the first look to the last byte that is sent.
    turn: Arc<Semaphore>,
}

/// What a backup would be at this moment.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "BackupPreview")]
pub struct Preview {
    /// Whether it would hold keys.
    pub with_keys: bool,
    /// Whether it would hold the logs of plugins.
    pub with_logs: bool,
    /// Whose files, and how they are taken.
    pub parts: Vec<Part>,
    /// About how many bytes, without what plugins write themselves.
    pub bytes: u64,
    /// How many bytes are free where it comes together.
    pub free: u64,
    /// What would not be in it.
    pub left_out: Vec<LeftOut>,
    /// What would not work after a restore of it alone.
    pub lacks: Vec<String>,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Another one is being taken.
    #[error("another backup is being taken: wait for its end")]
    Busy,
    /// The disk has no room for the copies.
    #[error(
        "the disk of the data directory has no room for a backup: it takes {needed} bytes, and {free} are free"
    )]
    Full {
        /// How much it takes.
        needed: u64,
        /// How much there is.
        free: u64,
    },
    /// The disk was full before its end.
    #[error("the disk of the data directory is full: free some space and try again")]
    NoRoom,
    /// The host's own files.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody can say what there is to take.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The host's or a stopped plugin's file could not be copied.
    #[error("{0}; nothing was kept of the backup")]
    Stage(#[from] StageError),
    /// A plugin did not write its copies, or not as it should.
    #[error("plugin `{plugin}` did not write its copies: {reason}; nothing was kept of the backup")]
    Plugin {
        /// The plugin.
        plugin: PluginName,
        /// What is wrong.
        reason: String,
    },
    /// A plugin could not be stopped for its copy.
    #[error("plugin `{plugin}` did not stop for its copy in time; nothing was kept of the backup")]
    DoesNotStop {
        /// The plugin.
        plugin: PluginName,
    },
    /// The directory in which it comes together.
    #[error("a backup cannot be put together: {0}")]
    Disk(#[source] io::Error),
    /// The host stops, or who asked for it has left.
    #[error("the backup was given up")]
    Stopped,
}

/// What `lifecycle.backup` answers.
#[derive(Deserialize)]
struct Written {
    /// The files, relative to the directory that it was given.
    files: Vec<String>,
}

impl Backups {
    /// Backups of this host.
    pub fn new(
        data: Arc<DataDir>,
        store: Store,
        registry: Arc<Registry>,
        dispatcher: Arc<Dispatcher>,
        supervisor: Arc<Supervisor>,
    ) -> Self {
        staging::remove_leftovers(data.path());
        Self { data, store, registry, dispatcher, supervisor, turn: Arc::new(Semaphore::new(1)) }
    }

    /// Says what a backup would take, and takes nothing.
    ///
    /// # Errors
    /// Something that is in the way of a backup.
    pub async fn preview(&self, wanted: Wanted) -> Result<Preview, BackupError> {
        let data_dir = self.data.path().to_owned();
        let planned = spawn_blocking(move || {
            let plugins = plan::plugins(&data_dir)?;
            Ok::<_, BackupError>((plugins, database_bytes(&data_dir), free(&data_dir)?))
        });
        let (plugins, mut bytes, free) = planned.await.map_err(panicked)??;
        let mut host = self.contents(None, wanted, How::Host).await?;
        let mut parts = vec![Part {
            plugin: None,
            how: How::Host,
            files: Some(1 + host.files.len() as u64),
            bytes: Some(bytes + host.bytes()),
            note: None,
        }];
        bytes += host.bytes();
        for plugin in plugins {
            let how = self.how(&plugin);
            let contents = self.contents(Some(&plugin), wanted, how).await?;
            parts.push(contents.part(&plugin, how));
            bytes += contents.bytes();
            host.left_out.extend(contents.left_out);
        }
        let lacks = self.lacks(&host.left_out)?;
        let Wanted { keys: with_keys, logs: with_logs } = wanted;
        Ok(Preview { with_keys, with_logs, parts, bytes, free, left_out: host.left_out, lacks })
    }

    /// Takes a backup. It is staged whole when this returns. Dropping the future gives it up, and
    /// plugins that were stopped are started again all the same.
    ///
    /// # Errors
    /// Why there is none; nothing is left of it.
    pub async fn take(
        self: &Arc<Self>,
        wanted: Wanted,
        stopping: CancellationToken,
    ) -> Result<Ready, BackupError> {
        let turn = Arc::clone(&self.turn).try_acquire_owned().map_err(|_| BackupError::Busy)?;
        let given_up = stopping.child_token();
        let _leaves = given_up.clone().drop_guard();
        let this = Arc::clone(self);
        let taking = tokio::spawn(async move { this.carry_out(wanted, given_up, turn).await });
        taking.await.map_err(panicked)?
    }

    async fn carry_out(
        &self,
        wanted: Wanted,
        given_up: CancellationToken,
        turn: OwnedSemaphorePermit,
    ) -> Result<Ready, BackupError> {
        let mut manifest = Manifest::new(Timestamp::now(), wanted.keys, wanted.logs);
        let preview = self.preview(wanted).await?;
        let mut needed = preview.bytes.saturating_add(LEFT_FREE);
        for part in preview.parts.iter().filter(|part| part.how == How::Plugin) {
            // What a plugin writes is about what it keeps.
            let kept = self.contents(part.plugin.as_ref(), wanted, How::Files).await?;
            needed = needed.saturating_add(kept.bytes());
        }
        if needed > preview.free {
            return Err(BackupError::Full { needed, free: preview.free });
        }
        let data_dir = self.data.path().to_owned();
        let staging = spawn_blocking(move || Staging::new(&data_dir)).await.map_err(panicked)?;
        let work = Work { staging: Arc::new(staging.map_err(BackupError::Disk)?), wanted, given_up };
        for part in &preview.parts {
            let Some(plugin) = &part.plugin else { continue };
            self.take_plugin(&work, plugin, &mut manifest).await?;
        }
        self.take_host(&work, &mut manifest).await?;
        manifest.files.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        manifest.directories.sort_unstable();
        manifest.lacks = self.lacks(&manifest.left_out)?;
        let checked = manifest.check(&archive::Quota::of_bytes(u64::MAX));
        checked.map_err(|error| BackupError::Disk(io::Error::other(error)))?;
        let Work { staging, .. } = work;
        info!(files = manifest.files.len(), bytes = manifest.bytes(), "backup staged");
        Ok(Ready::new(manifest, staging, turn))
    }

    /// How a plugin's files are taken at this moment.
    fn how(&self, plugin: &PluginName) -> How {
        match self.registry.plugin(plugin.as_str()) {
            Some(record) if record.entry.backup == BackupMode::Stopped => How::Stopped,
            Some(record) if record.answers(CAPABILITY) => How::Plugin,
            _ => How::Files,
        }
    }

    async fn contents(
        &self,
        plugin: Option<&PluginName>,
        wanted: Wanted,
        how: How,
    ) -> Result<Contents, BackupError> {
        let (data_dir, plugin, store) = (self.data.path().to_owned(), plugin.cloned(), self.store.clone());
        let planned = spawn_blocking(move || {
            let mut contents = match plugin {
                Some(plugin) => plan::of_plugin(&data_dir, &plugin, wanted, how),
                None => plan::of_host(&data_dir, wanted),
            }?;
            for left in contents.left_out.iter_mut().filter(|left| left.why == Why::Key) {
                // A key that cannot be read now is one that cannot be recognised later.
                left.print = read_key(&data_dir.join(&left.path)).map(|bytes| store.print_of_key(&bytes));
            }
            Ok::<_, BackupError>(contents)
        });
        planned.await.map_err(panicked)?
    }

    async fn take_plugin(
        &self,
        work: &Work,
        plugin: &PluginName,
        manifest: &mut Manifest,
    ) -> Result<(), BackupError> {
        let how = self.how(plugin);
        let taken = match how {
            How::Plugin => self.have_written(work, plugin).await,
            How::Stopped => self.take_stopped(work, plugin).await,
            How::Files | How::Host => match self.take_files(work, plugin, How::Files).await {
                Err(BackupError::Stage(error)) if error.is_change() => {
                    warn!(%plugin, %error, "a plugin is stopped for its copy");
                    self.take_stopped(work, plugin).await
                }
                taken => taken,
            },
        };
        let part = taken?;
        manifest.parts.push(part.described);
        manifest.files.extend(part.files);
        manifest.directories.extend(part.directories);
        manifest.left_out.extend(part.left_out);
        Ok(())
    }

    /// Copies the files of a plugin as they are, once more from the start if one was removed meanwhile.
    async fn take_files(
        &self,
        work: &Work,
        plugin: &PluginName,
        how: How,
    ) -> Result<PartTaken, BackupError> {
        let own = Place::try_from(format!("plugins/{plugin}/data")).expect("it is a place");
        let mut look = 1;
        loop {
            let contents = self.contents(Some(plugin), work.wanted, how).await?;
            let staged = self.stage(work, contents).await;
            match staged {
                Err(BackupError::Stage(StageError::Gone(_))) if look < LOOKS => {
                    look += 1;
                    let (staging, own) = (Arc::clone(&work.staging), own.clone());
                    let cleared = spawn_blocking(move || staging.clear(&own)).await.map_err(panicked)?;
                    cleared.map_err(BackupError::Disk)?;
                }
                Err(error) => return Err(error),
                Ok((contents, files)) => return Ok(PartTaken::new(plugin, how, contents, files)),
            }
        }
    }

    async fn stage(&self, work: &Work, contents: Contents) -> Result<(Contents, Vec<FileOf>), BackupError> {
        let (data_dir, staging) = (self.data.path().to_owned(), Arc::clone(&work.staging));
        let given_up = work.given_up.clone();
        let staged = spawn_blocking(move || {
            let goes_on = || !given_up.is_cancelled();
            let mut files = Vec::with_capacity(contents.files.len());
            for file in &contents.files {
                if !goes_on() {
                    return Err(StageError::Stopped);
                }
                match staging.take(&data_dir, file, &goes_on) {
                    // Old logs are removed when their time is over.
                    Err(StageError::Gone(_)) if file.kind == plan::Kind::Log => {}
                    taken => files.push(taken?),
                }
            }
            Ok((contents, files))
        });
        staged.await.map_err(panicked)?.map_err(of_stage)
    }

    /// Copies the files of a plugin while nothing of it runs, and starts it again if it ran.
    async fn take_stopped(&self, work: &Work, plugin: &PluginName) -> Result<PartTaken, BackupError> {
        const WHY: &str = "stopped for a backup";
        let comes_on_demand =
            self.registry.plugin(plugin.as_str()).is_some_and(|record| record.comes_on_demand());
        let was_wanted = self.supervisor.want_down_because(plugin.as_str(), WHY).unwrap_or(false);
        let is_down = self.registry.until(|view| {
            let state = view.plugin(plugin.as_str()).map(|record| record.state());
            matches!(state, None | Some(State::Stopped | State::Failed)).then_some(())
        });
        let stopped = timeout(STOPS_WITHIN, is_down).await;
        let taken = match stopped {
            Ok(()) => {
                let own = Place::try_from(format!("plugins/{plugin}/data")).expect("it is a place");
                let staging = Arc::clone(&work.staging);
                let cleared = spawn_blocking(move || staging.clear(&own)).await.map_err(panicked);
                match cleared {
                    Ok(Ok(())) => self.take_files(work, plugin, How::Stopped).await,
                    Ok(Err(error)) => Err(BackupError::Disk(error)),
                    Err(error) => Err(error),
                }
            }
            Err(_) => Err(BackupError::DoesNotStop { plugin: plugin.clone() }),
        };
        if was_wanted && let Err(error) = self.supervisor.want_up(plugin.as_str()) {
            warn!(%plugin, %error, "a plugin that was stopped for a backup is gone");
        }
        if !was_wanted && comes_on_demand {
            // It rested, and the next request starts it again.
            self.registry.release(plugin);
        }
        taken
    }

    /// Has a plugin write its copies into a directory of its own, and checks what is there then.
    async fn have_written(&self, work: &Work, plugin: &PluginName) -> Result<PartTaken, BackupError> {
        let own = Place::try_from(format!("plugins/{plugin}/data")).expect("it is a place");
        let (staging, place) = (Arc::clone(&work.staging), own.clone());
        let made = spawn_blocking(move || staging.make_directory(&place)).await.map_err(panicked)?;
        let directory = made.map_err(BackupError::Disk)?;
        let failed = |reason: String| BackupError::Plugin { plugin: plugin.clone(), reason };
        let question = Question {
            target: Target::Plugin(plugin.clone()),
            capability: CAPABILITY.parse::<CapabilityName>().expect("the host's own names are valid"),
            payload: RawJson::of(&json!({ "directory": directory })),
            streamed_payload: None,
            http: None,
            lineage: Lineage {
                caller: None,
                reach: Arc::default(),
                deadline: Instant::now() + WRITES_WITHIN,
                chain: Vec::new(),
                correlation_id: None,
                traceparent: None,
            },
        };
        let answered = tokio::select! {
            answered = self.dispatcher.ask(question) => answered,
            () = work.given_up.cancelled() => return Err(BackupError::Stopped),
        };
        let answer = match answered.map_err(|error: CallError| failed(error.to_string()))?.answer {
            Answer::Whole(answer) => answer,
            Answer::Stream(_) => unreachable!("no stream was asked for"),
        };
        let written: Written = answer
            .read()
            .map_err(|error| failed(format!("its answer is not `{{\"files\": […]}}`: {error}")))?;
        let staging = Arc::clone(&work.staging);
        let with_keys = work.wanted.keys;
        let described = spawn_blocking(move || describe_written(&staging, &own, &written.files, with_keys));
        let written = described.await.map_err(panicked)?.map_err(failed)?;
        // Its keys are not its to decide about.
        let mut contents = self.contents(Some(plugin), work.wanted, How::Plugin).await?;
        contents.files.retain(|file| written.iter().all(|other| other.path != file.place));
        let (contents, mut files) = self.stage(work, contents).await?;
        files.extend(written);
        Ok(PartTaken::new(plugin, How::Plugin, contents, files))
    }

    async fn take_host(&self, work: &Work, manifest: &mut Manifest) -> Result<(), BackupError> {
        let contents = self.contents(None, work.wanted, How::Host).await?;
        let (contents, mut files) = self.stage(work, contents).await?;
        let (store, staging, given_up) =
            (self.store.clone(), Arc::clone(&work.staging), work.given_up.clone());
        let copied = spawn_blocking(move || {
            let place = Place::try_from(place::DATABASE).expect("it is a place");
            store.copy_database(&staging.path(&place), &|| !given_up.is_cancelled()).map_err(|error| {
                if error.is_full() { BackupError::NoRoom } else { StageError::from(error).into() }
            })?;
            staging.describe(&place, Taken::Database).map_err(BackupError::Disk)
        });
        files.push(copied.await.map_err(panicked)??);
        manifest.parts.insert(
            0,
            Part {
                plugin: None,
                how: How::Host,
                files: Some(files.len() as u64),
                bytes: Some(files.iter().map(|file| file.size).sum()),
                note: None,
            },
        );
        manifest.files.extend(files);
        manifest.left_out.splice(0..0, contents.left_out);
        Ok(())
    }

    /// What does not work after a restore without what is left out.
    fn lacks(&self, left_out: &[LeftOut]) -> Result<Vec<String>, BackupError> {
        let has_secrets = self.store.has_secrets()?;
        let sentence = |left: &LeftOut| match (left.path.as_str(), left.why) {
            ("secrets.key", _) if !has_secrets => None,
            ("initial-password", _) => {
                Some("the generated password of the first administrator is not in it".to_owned())
            }
            (path, Why::Key) => Some(restore::lost(path)),
            (path, Why::Link) => Some(format!("`{path}` is a link, and has to be made again")),
            (_, Why::Special) => None,
        };
        Ok(left_out.iter().filter_map(sentence).collect())
    }
}

/// What one backup works with.
struct Work {
    staging: Arc<Staging>,
    wanted: Wanted,
    given_up: CancellationToken,
}

/// What was taken of a plugin.
struct PartTaken {
    described: Part,
    files: Vec<FileOf>,
    directories: Vec<Place>,
    left_out: Vec<LeftOut>,
}

impl PartTaken {
    fn new(plugin: &PluginName, how: How, contents: Contents, files: Vec<FileOf>) -> Self {
        let described = Part {
            plugin: Some(plugin.clone()),
            how,
            files: Some(files.len() as u64),
            bytes: Some(files.iter().map(|file| file.size).sum()),
            note: None,
        };
        Self { described, files, directories: contents.directories, left_out: contents.left_out }
    }
}

/// Looks at what a plugin says that it has written. Keys that were not asked for are not taken.
fn describe_written(
    staging: &Staging,
    own: &Place,
    files: &[String],
    with_keys: bool,
) -> Result<Vec<FileOf>, String> {
    let (mut described, mut named) = (Vec::new(), HashSet::new());
    for file in files {
        let place = own.join(file).map_err(|error| error.to_string())?;
        if !named.insert(file) {
            return Err(format!("it names `{file}` twice"));
        }
        if place.is_key() && !with_keys {
            continue;
        }
        let path = staging.path(&place);
        // Neither the file nor a directory on the way may lead elsewhere.
        let steps = place.ancestors().skip(3).map(Place::try_from).collect::<Result<Vec<_>, _>>();
        let steps = steps.map_err(|error| error.to_string())?;
        let is_direct = steps
            .iter()
            .all(|step| std::fs::symlink_metadata(staging.path(step)).is_ok_and(|found| found.is_dir()));
        if !is_direct || !std::fs::symlink_metadata(&path).is_ok_and(|found| found.is_file()) {
            return Err(format!("it names `{file}`, which is no file in its directory"));
        }
        let is_database = bkg_sqlite::is_database(&path).map_err(|error| error.to_string())?;
        if is_database {
            bkg_sqlite::examine(&path).map_err(|error| error.to_string())?;
        }
        described.push(staging.describe(&place, Taken::Written).map_err(|error| error.to_string())?);
    }
    Ok(described)
}

/// What a key's file holds; nothing of one that is too large for a key, whatever it is called.
fn read_key(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(LARGEST_KEY + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= LARGEST_KEY).then_some(bytes)
}

fn of_stage(error: StageError) -> BackupError {
    match error {
        StageError::Stopped => BackupError::Stopped,
        error if error.is_full() => BackupError::NoRoom,
        error => BackupError::Stage(error),
    }
}

fn panicked(error: tokio::task::JoinError) -> BackupError {
    BackupError::Disk(io::Error::other(error))
}

/// About how large the host's database is with its log. Its file is not opened: that would drop the
/// locks of those who have it open.
fn database_bytes(data_dir: &Path) -> u64 {
    let length = |name: &str| std::fs::metadata(data_dir.join(name)).map_or(0, |found| found.len());
    length("bkg.db") + length("bkg.db-wal")
}

/// How many bytes are free where a directory is.
fn free(directory: &Path) -> Result<u64, BackupError> {
    let found = nix::sys::statvfs::statvfs(directory).map_err(|error| BackupError::Disk(error.into()))?;
    Ok(found.blocks_available().saturating_mul(found.fragment_size()))
}
