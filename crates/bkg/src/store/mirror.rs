//! `DATA/plugins.json`: the entries of all plugins as they are in effect, for people to read.
//!
//! Not what the host goes by: that is the database, and a lost or damaged mirror loses nothing. The
//! invariants: the file is whole, old or new, after any crash; and what somebody else wrote into it is
//! never overwritten, only moved aside. `entries` writes it and asks whether it was edited.

use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bkg_sqlite::Database;
use bkg_sqlite::rusqlite::{self, Connection, OptionalExtension, params};
use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{StoreError, atomic};

/// The mirror of one data directory; cheap to clone.
#[derive(Debug, Clone)]
pub struct Mirror {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    database: Database,
    /// Whoever touches the file has it, on a thread that may block.
    turn: Mutex<()>,
}

/// What is in the place of the mirror.
#[derive(Clone, PartialEq)]
pub enum MirrorState {
    /// What the host wrote last, or the same in another layout. After a crash it may be of before the
    /// newest revision: write it again.
    Same,
    /// Nothing.
    Missing,
    /// A list that the host did not write.
    Edited {
        /// What it holds: anything, secrets in plain text among it.
        entries: Vec<Value>,
    },
    /// Something that the host did not write and that is no list.
    Unreadable {
        /// Why.
        reason: String,
    },
}

impl fmt::Debug for MirrorState {
    /// Without what was written by hand: there may be secrets in it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same => out.write_str("Same"),
            Self::Missing => out.write_str("Missing"),
            Self::Edited { .. } => out.write_str("Edited(***)"),
            Self::Unreadable { reason } => write!(out, "Unreadable({reason})"),
        }
    }
}

impl Mirror {
    pub(super) fn new(data_dir: &Path, database: Database) -> Self {
        let path = data_dir.join(FILE);
        Self { inner: Arc::new(Inner { path, database, turn: Mutex::new(()) }) }
    }

    /// Where the mirror is.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Replaces what the host wrote last. Secrets in `entries` must be masked. What is the same already
    /// is not written again.
    ///
    /// # Errors
    /// [`StoreError::MirrorEdited`] if somebody else wrote what is there; or the disk's or the database's.
    pub async fn write(&self, entries: Vec<Value>) -> Result<(), StoreError> {
        self.in_turn(move |inner| inner.write(&entries)).await
    }

    /// What is there.
    ///
    /// # Errors
    /// The disk's or the database's.
    pub async fn look(&self) -> Result<MirrorState, StoreError> {
        self.in_turn(|inner| Ok(inner.look()?.1.state)).await
    }

    /// Moves what somebody else wrote aside, to `plugins.json.edited-TIME`, and answers where it is now.
    /// `None` if there is nothing but the host's own.
    ///
    /// # Errors
    /// The disk's or the database's; then it is still in its place.
    pub async fn keep_edit(&self) -> Result<Option<PathBuf>, StoreError> {
        self.in_turn(Inner::keep_edit).await
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.inner);
        let turn = tokio::task::spawn_blocking(move || {
            let _turn = inner.turn.lock().unwrap_or_else(PoisonError::into_inner);
            job(&inner)
        });
        turn.await.expect("the mirror's jobs do not panic")
    }
}

/// SHA-256 of what is in a file.
type Fingerprint = [u8; 32];

/// What was found in the mirror's place.
struct Found {
    state: MirrorState,
    /// Of the bytes; `None` if none could be read.
    bytes: Option<Fingerprint>,
    /// Of what the host wrote, if that is what is there.
    own: Option<Fingerprint>,
}

impl Inner {
    fn write(&self, entries: &[Value]) -> Result<(), StoreError> {
        let text = layout(entries);
        let next = fingerprint(&text);
        let (known, found) = self.look()?;
        if let MirrorState::Edited { .. } | MirrorState::Unreadable { .. } = found.state {
            return Err(self.edited());
        }
        let settled = Known { written: Some(next), writing: None };
        if found.own == Some(next) && known == settled {
            return Ok(());
        }
        // From here on the host knows both as its own, whatever a crash leaves.
        self.remember(Known { written: found.own, writing: Some(next) })?;
        let mut is_edited = false;
        let written = atomic::write_atomic_with(&self.path, MODE, |file| {
            file.write_all(&text)?;
            // What takes long comes before the second look, so that hardly a moment is left to edit it.
            file.sync_all()?;
            is_edited = read(&self.path)?.ok().map(|text| fingerprint(&text)) != found.bytes;
            if is_edited { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
        });
        match written {
            Err(_) if is_edited => Err(self.edited()),
            Err(error) => Err(StoreError::disk("write", &self.path)(error)),
            Ok(()) => self.remember(settled),
        }
    }

    fn look(&self) -> Result<(Known, Found), StoreError> {
        let known =
            self.database.read_blocking(|connection| Ok::<_, StoreError>(Known::read(connection)?))?;
        let text = match read(&self.path).map_err(StoreError::disk("read", &self.path))? {
            Ok(text) => text,
            Err(state) => return Ok((known, Found { state, bytes: None, own: None })),
        };
        let bytes = fingerprint(&text);
        let (state, own) = match serde_json::from_slice::<Vec<Value>>(&text) {
            Err(error) => {
                (MirrorState::Unreadable { reason: format!("it is no JSON list: {error}") }, None)
            }
            Ok(entries) => {
                // An editor may have laid it out in another way.
                let own = fingerprint(&layout(&entries));
                if known.has(own) {
                    (MirrorState::Same, Some(own))
                } else {
                    (MirrorState::Edited { entries }, None)
                }
            }
        };
        Ok((known, Found { state, bytes: Some(bytes), own }))
    }

    fn keep_edit(&self) -> Result<Option<PathBuf>, StoreError> {
        if let MirrorState::Same | MirrorState::Missing = self.look()?.1.state {
            return Ok(None);
        }
        let aside = self.free_name();
        atomic::move_durably(&self.path, &aside).map_err(StoreError::disk("move aside", &self.path))?;
        // It may hold secrets, and an editor that made a new file gave it the usual permissions.
        if aside.is_file()
            && let Err(error) = fs::set_permissions(&aside, Permissions::from_mode(MODE))
        {
            tracing::warn!(path = %aside.display(), %error, "an edited list of plugins cannot be closed to others");
        }
        tracing::info!(path = %aside.display(), "an edited list of plugins was moved aside");
        Ok(Some(aside))
    }

    /// A name beside the mirror that nothing has.
    fn free_name(&self) -> PathBuf {
        let time = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        let name = |suffix: &str| self.path.with_file_name(format!("{FILE}.edited-{time}{suffix}"));
        let later = (2..).map(|count| name(&format!("-{count}")));
        let mut names = std::iter::once(name("")).chain(later);
        names.find(|path| fs::symlink_metadata(path).is_err()).expect("there are endless names")
    }

    fn remember(&self, known: Known) -> Result<(), StoreError> {
        self.database.write_blocking(move |connection| Ok(known.write(connection)?))
    }

    fn edited(&self) -> StoreError {
        StoreError::MirrorEdited { path: self.path.clone() }
    }
}

/// What the host knows as its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Known {
    /// What was there when the host last looked, if it was its own.
    written: Option<Fingerprint>,
    /// What may be there since.
    writing: Option<Fingerprint>,
}

impl Known {
    fn has(&self, fingerprint: Fingerprint) -> bool {
        [self.written, self.writing].contains(&Some(fingerprint))
    }

    fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let mut select = connection.prepare_cached("SELECT written, writing FROM mirror WHERE one = 1")?;
        let known = select.query_row([], |row| Ok(Self { written: row.get(0)?, writing: row.get(1)? }));
        Ok(known.optional()?.unwrap_or_default())
    }

    fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection
            .prepare_cached("INSERT OR REPLACE INTO mirror (one, written, writing) VALUES (1, ?1, ?2)")?
            .execute(params![self.written, self.writing])?;
        Ok(())
    }
}

fn fingerprint(text: &[u8]) -> Fingerprint {
    Sha256::digest(text).into()
}

/// The text of the file.
fn layout(entries: &[Value]) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(entries).expect("values have a JSON form");
    text.push(b'\n');
    text
}

/// The bytes of the file, or what is there instead of one.
fn read(path: &Path) -> io::Result<Result<Vec<u8>, MirrorState>> {
    let unreadable = |reason: &str| Ok(Err(MirrorState::Unreadable { reason: reason.to_owned() }));
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Err(MirrorState::Missing)),
        Err(error) => return Err(error),
    };
    // To open a pipe would wait for whoever writes into it.
    if !metadata.is_file() {
        return unreadable("it is no ordinary file");
    }
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST_FILE + 1).read_to_end(&mut text));
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Err(MirrorState::Missing)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            unreadable("the host has no right to read it")
        }
        Err(error) => Err(error),
        Ok(_) if text.len() as u64 > LONGEST_FILE => unreadable("it is longer than 16 MiB"),
        Ok(_) => Ok(Ok(text)),
    }
}

const FILE: &str = "plugins.json";
const MODE: u32 = 0o600;
/// More than all entries of a host are together.
const LONGEST_FILE: u64 = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {

    use serde_json::json;

    use super::super::database::tests::{TestStore, to_be_killed};
    use super::super::{DataDir, Store};
    use super::*;

    fn entries(answer: impl Into<Value>) -> Vec<Value> {
        vec![
            json!({ "name": "ping", "settings": { "answer": answer.into(), "apiKey": { "$secret": true } } }),
            json!({ "name": "echo", "autostart": false }),
        ]
    }

    fn write(host: &TestStore, entries: Vec<Value>) -> Result<(), StoreError> {
        host.wait(host.store.mirror.write(entries))
    }

    fn look(host: &TestStore) -> MirrorState {
        host.wait(host.store.mirror.look()).unwrap()
    }

    fn keep_edit(host: &TestStore) -> Option<PathBuf> {
        host.wait(host.store.mirror.keep_edit()).unwrap()
    }

    /// A store whose mirror was written, and where that is.
    fn written() -> (TestStore, PathBuf) {
        let host = TestStore::new();
        write(&host, entries(1)).unwrap();
        let path = host.store.mirror.path().to_owned();
        (host, path)
    }

    fn names(path: &Path) -> Vec<String> {
        let items = fs::read_dir(path.parent().unwrap()).unwrap();
        let names = items.map(|item| item.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains(FILE)).collect()
    }

    #[test]
    fn the_mirror_is_for_people_and_for_the_owner_alone() {
        let host = TestStore::new();
        let path = host.store.mirror.path().to_owned();
        assert_eq!((look(&host), keep_edit(&host)), (MirrorState::Missing, None));
        write(&host, Vec::new()).unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), look(&host)), ("[]\n", MirrorState::Same));
        write(&host, vec![json!({ "name": "ping", "a": [1] })]).unwrap();
        let text = "[\n  {\n    \"name\": \"ping\",\n    \"a\": [\n      1\n    ]\n  }\n]\n";
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, MODE);
        assert_eq!((look(&host), keep_edit(&host)), (MirrorState::Same, None));

        let directory = host.close();
        let host = TestStore::open(&directory).unwrap();
        assert_eq!(look(&host), MirrorState::Same);
        fs::remove_file(&path).unwrap();
        assert_eq!(look(&host), MirrorState::Missing);
        write(&host, entries(2)).unwrap();
        assert_eq!((look(&host), names(&path)), (MirrorState::Same, vec![FILE.to_owned()]));
    }

    #[test]
    fn what_is_the_same_is_not_written_again() {
        use std::os::unix::fs::MetadataExt;

        let (host, path) = written();
        let file = || fs::metadata(&path).unwrap().ino();
        let before = file();
        write(&host, entries(1)).unwrap();
        assert_eq!(file(), before);
        write(&host, entries(2)).unwrap();
        assert_ne!(file(), before);
    }

    #[test]
    fn an_edit_is_seen_and_never_overwritten() {
        let (host, path) = written();
        let edited = serde_json::to_string(&entries("edited")).unwrap();
        fs::write(&path, &edited).unwrap();
        for _ in 0..2 {
            assert_eq!(look(&host), MirrorState::Edited { entries: entries("edited") });
            // Not even by what would be the same.
            for new in [entries(2), entries(1)] {
                let error = write(&host, new).unwrap_err();
                assert!(matches!(error, StoreError::MirrorEdited { .. }), "{error}");
            }
            assert_eq!(fs::read_to_string(&path).unwrap(), edited);
        }
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let aside = keep_edit(&host).unwrap();
        assert_eq!((fs::read_to_string(&aside).unwrap(), look(&host)), (edited, MirrorState::Missing));
        assert_eq!(fs::metadata(&aside).unwrap().permissions().mode() & 0o7777, MODE);
        write(&host, entries(2)).unwrap();
        assert_eq!((look(&host), keep_edit(&host)), (MirrorState::Same, None));
    }

    #[test]
    fn what_was_written_by_hand_shows_nowhere_but_in_the_list() {
        let (host, path) = written();
        let secret = entries("a secret");
        fs::write(&path, layout(&secret)).unwrap();
        let state = look(&host);
        assert_eq!(format!("{state:?}"), "Edited(***)");
        let error = write(&host, entries(2)).unwrap_err();
        assert!(!error.to_string().contains("a secret"), "{error}");
        fs::write(&path, &layout(&secret)[..80]).unwrap();
        let state = look(&host);
        assert!(
            matches!(&state, MirrorState::Unreadable { reason } if !reason.contains("secret")),
            "{state:?}"
        );
    }

    #[test]
    fn edits_that_are_moved_aside_do_not_replace_each_other() {
        let (host, path) = written();
        let mut kept = Vec::new();
        for number in 0..5 {
            fs::write(&path, format!("[{number}]")).unwrap();
            kept.push((keep_edit(&host).unwrap(), format!("[{number}]")));
            write(&host, entries(number)).unwrap();
        }
        for (aside, content) in kept {
            assert_eq!(fs::read_to_string(&aside).unwrap(), content);
        }
        assert_eq!(names(&path).len(), 6);
    }

    #[test]
    fn another_layout_is_no_edit_and_a_former_content_is_one() {
        let (host, path) = written();
        for text in [json!(entries(1)).to_string(), format!("\n{:#}\r\n", json!(entries(1)))] {
            fs::write(&path, text).unwrap();
            assert_eq!((look(&host), keep_edit(&host)), (MirrorState::Same, None));
        }
        write(&host, entries(2)).unwrap();
        fs::write(&path, layout(&entries(1))).unwrap();
        assert_eq!(look(&host), MirrorState::Edited { entries: entries(1) });
    }

    #[test]
    fn a_mirror_that_is_cut_anywhere_is_not_taken_for_the_hosts() {
        let (host, path) = written();
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() - 1 {
            fs::write(&path, &whole[..length]).unwrap();
            let state = look(&host);
            assert!(matches!(state, MirrorState::Unreadable { .. }), "{length}: {state:?}");
            let error = write(&host, entries(2)).unwrap_err();
            assert!(matches!(error, StoreError::MirrorEdited { .. }), "{length}: {error}");
        }
        // Without its last line end it says the same.
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert_eq!(look(&host), MirrorState::Same);
    }

    #[test]
    fn what_is_no_list_is_unreadable_and_is_moved_aside() {
        let (host, path) = written();
        let too_long = vec![b' '; LONGEST_FILE as usize + 1];
        let texts: [&[u8]; 5] = [b"{}", b"null", b"[\xff]", b"[1] 2", &too_long];
        for text in texts {
            fs::write(&path, text).unwrap();
            assert!(matches!(look(&host), MirrorState::Unreadable { .. }), "{}", text.len());
            assert_eq!(fs::read(keep_edit(&host).unwrap()).unwrap(), text);
        }
        let kinds: [fn(&Path); 2] = [
            |path| fs::create_dir(path).unwrap(),
            |path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
        ];
        for make in kinds {
            make(&path);
            let state = MirrorState::Unreadable { reason: "it is no ordinary file".to_owned() };
            assert_eq!(look(&host), state);
            write(&host, entries(1)).unwrap_err();
            keep_edit(&host).unwrap();
        }
        write(&host, entries(1)).unwrap();
        assert_eq!(look(&host), MirrorState::Same);
    }

    #[test]
    fn a_list_that_was_there_before_the_host_is_an_edit() {
        let host = TestStore::new();
        fs::write(host.store.mirror.path(), "[]\n").unwrap();
        assert_eq!(look(&host), MirrorState::Edited { entries: vec![] });
        write(&host, vec![]).unwrap_err();
    }

    #[test]
    fn a_crash_between_any_two_steps_looks_like_no_edit() {
        let (old, new, newer) = (layout(&entries(1)), layout(&entries(2)), entries(3));
        let [written, writing] = [&old, &new].map(|text| Some(fingerprint(text)));
        for (known, content) in [
            (Known { written, writing }, Some(&old)),
            (Known { written, writing }, Some(&new)),
            (Known { written: writing, writing: None }, Some(&new)),
            (Known { written: None, writing }, None),
            (Known { written: None, writing }, Some(&new)),
        ] {
            let host = TestStore::new();
            let path = host.store.mirror.path().to_owned();
            host.store.mirror.inner.remember(known).unwrap();
            content.inspect(|content| fs::write(&path, content).unwrap());
            let expected = if content.is_some() { MirrorState::Same } else { MirrorState::Missing };
            assert_eq!(look(&host), expected);
            // Nor does another crash, right before the next content is in its place.
            let own = host.store.mirror.inner.look().unwrap().1.own;
            let next = Some(fingerprint(&layout(&newer)));
            host.store.mirror.inner.remember(Known { written: own, writing: next }).unwrap();
            assert_eq!(look(&host), expected);
            write(&host, newer.clone()).unwrap();
            assert_eq!((look(&host), fs::read(&path).unwrap()), (MirrorState::Same, layout(&newer)));
            let settled = Known { written: next, writing: None };
            assert_eq!(host.store.mirror.inner.look().unwrap().0, settled);
        }
    }

    #[test]
    fn many_who_write_at_once_leave_one_whole_mirror() {
        let host = TestStore::new();
        host.wait(async {
            let tasks: Vec<_> = (0..20)
                .map(|number| {
                    let mirror = host.store.mirror.clone();
                    tokio::spawn(async move { mirror.write(entries(number)).await.unwrap() })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
        assert_eq!(
            (look(&host), names(host.store.mirror.path())),
            (MirrorState::Same, vec![FILE.to_owned()])
        );
    }

    /// Set in a child process of the test below: where its data directory is.
    const CHILD: &str = "BKG_TEST_MIRROR_DIR";

    #[test]
    fn a_killed_host_leaves_an_old_or_a_new_mirror_that_is_its_own() {
        if let Some(data_dir) = std::env::var_os(CHILD) {
            write_until_killed(Path::new(&data_dir));
        }
        let directory = Arc::new(tempfile::tempdir().unwrap());
        for round in 0..10 {
            let (mut child, lines) = to_be_killed(
                "store::mirror::tests::a_killed_host_leaves_an_old_or_a_new_mirror_that_is_its_own",
                CHILD,
                directory.path(),
            );
            let written = lines.map(Result::unwrap).filter(|line| line.starts_with("written"));
            assert_eq!(written.take(3 + round * 2).count(), 3 + round * 2);
            child.kill().unwrap();
            child.wait().unwrap();
            let host = TestStore::open(&directory).unwrap();
            assert_eq!(look(&host), MirrorState::Same, "round {round}");
            assert_eq!(names(host.store.mirror.path()), [FILE]);
        }
    }

    fn write_until_killed(data_dir: &Path) -> ! {
        let data = DataDir::open(data_dir).unwrap();
        let store = Store::open(&data).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        runtime.block_on(async {
            for number in 0_u64.. {
                store.mirror.write(entries(number.to_string().repeat(10_000))).await.unwrap();
                println!("written {number}");
            }
        });
        unreachable!("the process is killed")
    }
}
