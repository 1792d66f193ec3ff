//! The file that a backup is: a plain tar, the manifest first, then its files in the manifest's order.
//!
//! Not what goes into it. What is read is hostile: the invariant is that nothing is written that the
//! manifest did not name and the quota did not allow, and that [`read`] answers only for an archive that
//! is whole, to the last sum. Nothing is compressed, so nothing can grow. `restore` unpacks with it,
//! `bkg backup` checks what it received, and it is fuzzed through [`read`].

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Cursor, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use sha2::{Digest, Sha256};
use tar::{Archive, Builder, EntryType, Header};

use super::manifest::{FORMAT, FileOf, Form, Manifest, NAME};
use super::place::{NoPlace, Place};

/// The size of a tar's header and of what files are padded to, in bytes.
const BLOCK: u64 = 512;
/// The longest name that stands in a header; a longer one has a member of its own.
const SHORT_NAME: usize = 100;
/// More than any name of ours, with the zero at its end.
const LONGEST_NAME: u64 = 1_025;
/// The most zeros after the end that are looked at.
const MOST_PADDING: u64 = 1 << 20;
/// What is read at once, in bytes.
const PIECE: usize = 64 << 10;

/// How much an archive may hold. What is beyond is refused before anything of it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// How many files, and how many directories.
    pub files: usize,
    /// How many bytes one file may have.
    pub file_bytes: u64,
    /// How many bytes all files may have together.
    pub total_bytes: u64,
    /// How many bytes the manifest may have.
    pub manifest_bytes: u64,
}

impl Quota {
    /// A quota for files of so many bytes in all.
    pub fn of_bytes(total_bytes: u64) -> Self {
        Self { files: 1_000_000, file_bytes: total_bytes, total_bytes, manifest_bytes: 256 << 20 }
    }
}

/// Why an archive is refused.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is no archive at all, or a damaged one.
    #[error("it is no archive of `bkg backup`, or damaged: {0}")]
    Tar(#[source] io::Error),
    /// It was compressed afterwards.
    #[error("it is compressed with {with}: unpack that first")]
    Compressed {
        /// By what.
        with: &'static str,
    },
    /// It ends too early.
    #[error("it ends too early: a part of it is missing")]
    Truncated,
    /// It does not begin with a manifest.
    #[error("it does not begin with `manifest.json`: it is no archive of `bkg backup`")]
    NoManifest,
    /// A newer program made it.
    #[error("it has the form {found}, and this program knows {known}: use the newer program")]
    Newer {
        /// Its form.
        found: u32,
        /// The newest that is known.
        known: u32,
    },
    /// Its manifest contradicts itself.
    #[error("its manifest is wrong: {reason}")]
    Manifest {
        /// What is wrong with it.
        reason: String,
    },
    /// More than is allowed.
    #[error("it holds more {what} than the {most} that there is room for")]
    Quota {
        /// Of what.
        what: &'static str,
        /// How many are allowed.
        most: u64,
    },
    /// A name that a backup does not hold.
    #[error("it holds a name that no backup has: {0}")]
    Name(#[from] NoPlace),
    /// Something that is no file.
    #[error("it holds `{name}`, which is no plain file")]
    NoFile {
        /// Its name, as far as it can be shown.
        name: String,
    },
    /// Another file than the manifest names.
    #[error("it holds `{found}` where the manifest has {expected}")]
    Unexpected {
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
    },
    /// A file has other bytes than the manifest says.
    #[error("`{path}` is not what the manifest says: its SHA-256 is another")]
    Changed {
        /// The file.
        path: Place,
    },
    /// Something follows the end.
    #[error("something follows its end")]
    Trailing,
    /// It cannot be unpacked.
    #[error("cannot write `{path}`: {source}")]
    Write {
        /// What was to be written.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Reads an archive to its end and checks everything that can be checked. Nothing is written.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn read<R: Read>(reader: R, quota: &Quota) -> Result<Manifest, ArchiveError> {
    walk(reader, quota, |_| Ok(()), |_| Ok(None))
}

/// Unpacks an archive into a directory, which is there and empty. Every file is on the disk afterwards,
/// for its owner alone.
///
/// # Errors
/// The first thing that is wrong with the archive or the disk. What was written until then stays.
pub(super) fn unpack<R: Read>(reader: R, quota: &Quota, into: &Path) -> Result<Manifest, ArchiveError> {
    let make_directories = |manifest: &Manifest| {
        for directory in manifest.all_directories(quota)? {
            // One that is there already has a name that the file system takes for another's.
            DirBuilder::new()
                .mode(0o700)
                .create(into.join(directory))
                .map_err(|source| ArchiveError::Write { path: directory.to_owned(), source })?;
        }
        Ok(())
    };
    let make_file = |file: &FileOf| {
        let opened = OpenOptions::new()
            .write(true)
            // Neither through a link nor onto what is there.
            .create_new(true)
            .mode(file.mode | 0o600)
            .open(file.path.below(into));
        opened.map(Some).map_err(|source| ArchiveError::Write { path: file.path.to_string(), source })
    };
    walk(reader, quota, make_directories, make_file)
}

/// How many bytes [`write`] writes.
pub(super) fn length(manifest: &Manifest) -> u64 {
    let padded = |bytes: u64| bytes.div_ceil(BLOCK) * BLOCK;
    let named = |name: &str| match name.len() {
        0..=SHORT_NAME => BLOCK,
        // The name as a member of its own, with a zero at its end.
        long => 2 * BLOCK + padded(long as u64 + 1),
    };
    let files = manifest.files.iter().map(|file| named(file.path.as_str()) + padded(file.size));
    named(NAME) + padded(text(manifest).len() as u64) + files.sum::<u64>() + 2 * BLOCK
}

/// Writes an archive; `open` has the files of the manifest.
///
/// # Errors
/// Those of `open` and of `out`, or a file that is not as long as the manifest says.
pub(super) fn write<W: Write>(
    out: W,
    manifest: &Manifest,
    mut open: impl FnMut(&FileOf) -> io::Result<File>,
) -> io::Result<W> {
    let mut builder = Builder::new(out);
    let time = u64::try_from(manifest.created.as_second()).unwrap_or_default();
    let header = |size: u64| {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_size(size);
        header.set_mode(0o600);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(time);
        header
    };
    let text = text(manifest);
    builder.append_data(&mut header(text.len() as u64), NAME, text.as_slice())?;
    for file in &manifest.files {
        let mut content = open(file)?.take(file.size);
        builder.append_data(&mut header(file.size), file.path.as_str(), &mut content)?;
        if content.limit() > 0 {
            return Err(io::Error::other(format!("`{}` is shorter than it was", file.path)));
        }
    }
    builder.into_inner()
}

fn text(manifest: &Manifest) -> Vec<u8> {
    serde_json::to_vec_pretty(manifest).expect("a manifest has a JSON form")
}

/// Reads an archive; `begin` sees the manifest before anything else is read, `place` says where each
/// file goes.
fn walk<R: Read>(
    mut reader: R,
    quota: &Quota,
    begin: impl FnOnce(&Manifest) -> Result<(), ArchiveError>,
    mut place: impl FnMut(&FileOf) -> Result<Option<File>, ArchiveError>,
) -> Result<Manifest, ArchiveError> {
    let mut first = Vec::new();
    reader.by_ref().take(6).read_to_end(&mut first).map_err(ArchiveError::Tar)?;
    refuse_compressed(&first)?;
    let mut archive = Archive::new(Cursor::new(first).chain(reader));
    let mut begin = Some(begin);
    let mut manifest: Option<Manifest> = None;
    let (mut next, mut long_name) = (0, None::<String>);
    // As they stand in the file: extensions that the library would follow are refused here.
    for member in archive.entries().map_err(ArchiveError::Tar)?.raw(true) {
        let mut member = member.map_err(ArchiveError::Tar)?;
        let kind = member.header().entry_type();
        let size = member.header().entry_size().map_err(ArchiveError::Tar)?;
        if kind == EntryType::GNULongName && long_name.is_none() && size <= LONGEST_NAME {
            let mut name = Vec::new();
            member.read_to_end(&mut name).map_err(ArchiveError::Tar)?;
            if name.len() as u64 != size {
                return Err(ArchiveError::Truncated);
            }
            if name.last() == Some(&0) {
                name.pop();
            }
            long_name = Some(shown(&name));
            continue;
        }
        let name = long_name.take().unwrap_or_else(|| shown(&member.path_bytes()));
        if kind != EntryType::Regular {
            return Err(ArchiveError::NoFile { name });
        }
        let Some(manifest) = &manifest else {
            let read = read_manifest(&name, size, &mut member, quota)?;
            read.check(quota)?;
            if let Some(begin) = begin.take() {
                begin(&read)?;
            }
            manifest = Some(read);
            continue;
        };
        let expected = manifest.files.get(next);
        let Some(file) = expected.filter(|file| file.path.as_str() == name && file.size == size) else {
            let expected = expected.map_or_else(
                || "nothing".to_owned(),
                |file| format!("`{}` of {} bytes", file.path, file.size),
            );
            return Err(ArchiveError::Unexpected { found: format!("{name}` of `{size} bytes"), expected });
        };
        copy(&mut member, file, place(file)?)?;
        next += 1;
    }
    let manifest = manifest.ok_or(ArchiveError::NoManifest)?;
    // A name without its file, too.
    if long_name.is_some() || next < manifest.files.len() {
        return Err(ArchiveError::Truncated);
    }
    refuse_rest(archive.into_inner())?;
    Ok(manifest)
}

fn refuse_compressed(first: &[u8]) -> Result<(), ArchiveError> {
    let kinds: [(&[u8], &str); 4] = [
        (&[0x1f, 0x8b], "gzip"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
        (&[0xfd, b'7', b'z', b'X', b'Z'], "xz"),
        (b"BZh", "bzip2"),
    ];
    match kinds.into_iter().find(|(magic, _)| first.starts_with(magic)) {
        Some((_, with)) => Err(ArchiveError::Compressed { with }),
        None => Ok(()),
    }
}

fn read_manifest(
    name: &str,
    size: u64,
    member: &mut impl Read,
    quota: &Quota,
) -> Result<Manifest, ArchiveError> {
    if name != NAME {
        return Err(ArchiveError::NoManifest);
    }
    if size > quota.manifest_bytes {
        return Err(ArchiveError::Quota { what: "bytes in its manifest", most: quota.manifest_bytes });
    }
    // It grows with what is read, not with what the header promises.
    let mut text = Vec::new();
    member.read_to_end(&mut text).map_err(ArchiveError::Tar)?;
    if text.len() as u64 != size {
        return Err(ArchiveError::Truncated);
    }
    let read = serde_json::from_slice(&text);
    read.map_err(|error| match serde_json::from_slice::<Form>(&text) {
        Ok(Form { backplane_backup: found }) if found > FORMAT => {
            ArchiveError::Newer { found, known: FORMAT }
        }
        _ => ArchiveError::Manifest { reason: error.to_string() },
    })
}

/// Copies a file and compares its sum.
fn copy(member: &mut impl Read, file: &FileOf, mut into: Option<File>) -> Result<(), ArchiveError> {
    let failed = |source| ArchiveError::Write { path: file.path.to_string(), source };
    let (mut hasher, mut left, mut buffer) = (Sha256::new(), file.size, vec![0; PIECE]);
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let count = match member.read(&mut buffer[..most]) {
            Ok(0) => return Err(ArchiveError::Truncated),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(ArchiveError::Tar(error)),
        };
        hasher.update(&buffer[..count]);
        if let Some(into) = &mut into {
            into.write_all(&buffer[..count]).map_err(failed)?;
        }
        left -= count as u64;
    }
    if hex(&hasher.finalize()) != file.sha256 {
        return Err(ArchiveError::Changed { path: file.path.clone() });
    }
    if let Some(into) = into {
        into.sync_all().map_err(failed)?;
    }
    Ok(())
}

/// After the end there are zeros at most.
fn refuse_rest(reader: impl Read) -> Result<(), ArchiveError> {
    let mut rest = reader.take(MOST_PADDING + 1);
    let (mut buffer, mut total) = (vec![0; PIECE], 0);
    loop {
        let count = match rest.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(ArchiveError::Tar(error)),
        };
        total += count as u64;
        if total > MOST_PADDING || buffer[..count].iter().any(|byte| *byte != 0) {
            return Err(ArchiveError::Trailing);
        }
    }
}

/// A name as it can be shown and compared: what is not UTF-8 equals nothing.
fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// Bytes in hexadecimal, in lower case.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes whatever is written to it");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::manifest::Taken;
    use super::*;

    /// A member of an archive as somebody hostile writes it.
    type Member<'a> = (EntryType, &'a str, &'a [u8]);

    fn header(kind: EntryType, name: &str, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o600);
        header.set_cksum();
        header
    }

    fn archive(members: &[Member<'_>]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (kind, name, bytes) in members {
            builder.append(&header(*kind, name, bytes.len() as u64), *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn file(path: &str, bytes: &[u8]) -> FileOf {
        let path = Place::try_from(path).unwrap();
        let (size, sha256) = (bytes.len() as u64, hex(&Sha256::digest(bytes)));
        FileOf {
            plugin: path.plugin(),
            path,
            size,
            sha256,
            mode: 0o600,
            taken: Taken::Copied,
            schema: None,
        }
    }

    fn manifest(files: &[(&str, &[u8])]) -> Manifest {
        let mut manifest = Manifest::new("2026-01-02T03:04:05Z".parse().unwrap(), false, false);
        manifest.files = files.iter().map(|(path, bytes)| file(path, bytes)).collect();
        manifest
    }

    /// The manifest's text with something else in it.
    fn edited(from: &str, to: &str) -> Vec<u8> {
        let text = String::from_utf8(text(&manifest(&[("bkg.db", b"db")]))).unwrap();
        assert!(text.contains(from), "{text}");
        text.replace(from, to).into_bytes()
    }

    fn quota() -> Quota {
        Quota { files: 20, file_bytes: 100, total_bytes: 150, manifest_bytes: 64 << 10 }
    }

    const DB: Member<'_> = (EntryType::Regular, "bkg.db", b"db");

    #[test]
    fn what_was_written_is_read_and_as_long_as_was_said() {
        let long = format!("plugins/ping/data/{}x", "long/".repeat(60));
        let [longest, longer] = [82, 83].map(|count| format!("plugins/ping/data/{}", "y".repeat(count)));
        for name in ["plugins/ping/data/a", &longest, &longer, &long] {
            for size in [0, 1, 511, 512, 513] {
                let bytes = vec![7; size];
                let mut manifest = manifest(&[("bkg.db", b"db"), (name, &bytes)]);
                manifest.directories = vec![Place::try_from("plugins/ping/data/empty").unwrap()];
                let source = tempfile::tempdir().unwrap();
                let written = write(Vec::new(), &manifest, |file| {
                    let path = source.path().join("file");
                    fs::write(&path, if file.path.as_str() == name { &bytes } else { b"db".as_slice() })?;
                    File::open(path)
                })
                .unwrap();
                assert_eq!(written.len() as u64, length(&manifest), "{name} {size}");
                let generous = Quota::of_bytes(1 << 20);
                assert_eq!(read(written.as_slice(), &generous).unwrap(), manifest);
                let target = tempfile::tempdir().unwrap();
                assert_eq!(unpack(written.as_slice(), &generous, target.path()).unwrap(), manifest);
                assert_eq!(fs::read(target.path().join(name)).unwrap(), bytes);
                assert!(target.path().join("plugins/ping/data/empty").is_dir());
                for cut in [0, 1, 511, 512, 700, written.len() / 2] {
                    read(&written[..cut], &generous).unwrap_err();
                }
            }
        }
    }

    #[test]
    fn a_hostile_archive_is_refused_and_nothing_leaves_the_directory() {
        let good = text(&manifest(&[("bkg.db", b"db")]));
        let head: Member<'_> = (EntryType::Regular, NAME, &good);
        let two = text(&manifest(&[("bkg.db", b"db"), ("plugins/p/data/a", b"x")]));
        let two: Member<'_> = (EntryType::Regular, NAME, &two);
        let climbs = edited("bkg.db", "plugins/p/data/../../../../escaped");
        let absolute = edited("bkg.db", "/etc/passwd");
        let other_case = edited("bkg.db", "BKG.DB");
        let elsewhere = edited("bkg.db", "lock");
        let zero = edited("bkg.db", "plugins/p/data/a\\u0000b");
        let wide = edited("\"mode\": 384", "\"mode\": 2541");
        let newer = edited("\"backplaneBackup\": 1", "\"backplaneBackup\": 2");
        let no_sum = edited(&hex(&Sha256::digest(b"db")), "nonsense");
        let large = edited("\"size\": 2", "\"size\": 101");
        let endless = edited("\"size\": 2", "\"size\": 18446744073709551615");
        let negative = edited("\"size\": 2", "\"size\": -2");
        let others = edited("\"bkg.db\"", "\"plugins/p/data/x\", \"plugin\": \"q\"");
        let twice = text(&manifest(&[("bkg.db", b"db"), ("bkg.db", b"db")]));
        let no_database = text(&manifest(&[("plugins/p/data/a", b"x")]));
        let over = text(&manifest(&[("bkg.db", &[0; 90]), ("plugins/p/data/a", &[0; 90])]));
        let many: Vec<String> = (0..30).map(|number| format!("plugins/p/data/{number}")).collect();
        let many: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), b"".as_slice())).collect();
        let many = text(&manifest(&many));
        let deep = format!("plugins/p/data{}", "/d".repeat(30));
        let deep = text(&manifest(&[("bkg.db", b"db"), (&deep, b"")]));
        let in_the_way =
            text(&manifest(&[("bkg.db", b"db"), ("plugins/p/data/a", b"x"), ("plugins/p/data/a/b", b"x")]));
        let long = vec![b' '; (64 << 10) + 1];
        let regular = EntryType::Regular;
        let cases: Vec<(&str, Vec<Member<'_>>)> = vec![
            ("no manifest", vec![DB]),
            ("nothing at all", vec![]),
            ("a manifest that is no JSON", vec![(regular, NAME, b"{")]),
            ("a manifest that is too long", vec![(regular, NAME, &long)]),
            ("a manifest twice", vec![head, head, DB]),
            ("a name that climbs", vec![(regular, NAME, &climbs)]),
            ("an absolute name", vec![(regular, NAME, &absolute)]),
            ("a name in other case", vec![(regular, NAME, &other_case), (regular, "BKG.DB", b"db")]),
            ("a file of the host's own", vec![(regular, NAME, &elsewhere), (regular, "lock", b"db")]),
            ("a zero in a name", vec![(regular, NAME, &zero)]),
            ("rights for others", vec![(regular, NAME, &wide), DB]),
            ("a newer form", vec![(regular, NAME, &newer), DB]),
            ("no sum", vec![(regular, NAME, &no_sum), DB]),
            ("a file that is too large", vec![(regular, NAME, &large)]),
            ("a file without end", vec![(regular, NAME, &endless)]),
            ("a negative size", vec![(regular, NAME, &negative)]),
            ("somebody else's file", vec![(regular, NAME, &others)]),
            ("a file twice", vec![(regular, NAME, &twice), DB, DB]),
            ("no database", vec![(regular, NAME, &no_database), (regular, "plugins/p/data/a", b"x")]),
            ("too much in all", vec![(regular, NAME, &over)]),
            ("too many files", vec![(regular, NAME, &many)]),
            ("too deep", vec![(regular, NAME, &deep)]),
            ("a file in the way of another", vec![(regular, NAME, &in_the_way)]),
            ("a file that is not named", vec![head, DB, (regular, "plugins/p/data/a", b"x")]),
            ("another file than is named", vec![head, (regular, "root.key", b"db")]),
            ("a file too few", vec![two, DB]),
            ("another order", vec![two, (regular, "plugins/p/data/a", b"x"), DB]),
            ("another size", vec![head, (regular, "bkg.db", b"dbx")]),
            ("other bytes", vec![head, (regular, "bkg.db", b"xx")]),
            ("a link", vec![head, (EntryType::Symlink, "bkg.db", b"")]),
            ("a hard link", vec![head, (EntryType::Link, "bkg.db", b"")]),
            ("a device", vec![head, (EntryType::Char, "bkg.db", b"")]),
            ("a block device", vec![head, (EntryType::Block, "bkg.db", b"")]),
            ("a pipe", vec![head, (EntryType::Fifo, "bkg.db", b"")]),
            ("a directory", vec![head, (EntryType::Directory, "bkg.db", b"")]),
            ("a sparse file", vec![head, (EntryType::GNUSparse, "bkg.db", b"db")]),
            ("an extension that renames", vec![head, (EntryType::XHeader, "x", b"18 path=/etc/x\n"), DB]),
            ("an extension for all", vec![head, (EntryType::XGlobalHeader, "x", b"18 path=/etc/x\n"), DB]),
            ("a long name that climbs", vec![head, (EntryType::GNULongName, "x", b"../../x"), DB]),
            ("a long name without end", vec![head, (EntryType::GNULongName, "x", &long), DB]),
            (
                "two long names",
                vec![
                    head,
                    (EntryType::GNULongName, "x", b"a"),
                    (EntryType::GNULongName, "x", b"bkg.db"),
                    DB,
                ],
            ),
            ("a name for nothing", vec![head, DB, (EntryType::GNULongName, "x", b"bkg.db")]),
            ("a long link", vec![head, (EntryType::GNULongLink, "x", b"/etc/passwd"), DB]),
        ];
        for (what, members) in cases {
            check_refused(what, &archive(&members));
        }
        let whole = archive(&[head, DB]);
        read(whole.as_slice(), &quota()).unwrap();
        check_refused("something behind the end", &[whole.as_slice(), b"more"].concat());
        check_refused("zeros without end", &[whole.as_slice(), &vec![0; 2 << 20]].concat());
        check_refused("a damaged header", &[b"x", &whole[1..]].concat());
        // A newer form need not look like this one.
        let newer = archive(&[(regular, NAME, br#"{"backplaneBackup": 2, "chunks": []}"#)]);
        let error = read(newer.as_slice(), &quota()).unwrap_err();
        assert!(matches!(error, ArchiveError::Newer { found: 2, .. }), "{error}");
        for (with, magic) in [("gzip", b"\x1f\x8b\x08\0\0\0"), ("zstd", b"\x28\xb5\x2f\xfd\0\0")] {
            let error = read(magic.as_slice(), &quota()).unwrap_err().to_string();
            assert!(error.contains(with), "{error}");
        }
        // A header that promises more than there is costs nothing.
        let mut promise = header(regular, NAME, 1 << 60).as_bytes().to_vec();
        promise.extend_from_slice(b"{}");
        check_refused("a size that is a lie", &promise);
        let mut lie = archive(&[head]);
        lie.truncate(lie.len() - 1_024);
        lie.extend_from_slice(header(regular, "bkg.db", 2).as_bytes());
        check_refused("an end in mid-file", &lie);
    }

    /// Neither read nor unpacked, and nothing is outside of the directory that it was unpacked into.
    fn check_refused(what: &str, archive: &[u8]) {
        assert!(read(archive, &quota()).is_err(), "{what}");
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("a/b/c/d");
        fs::create_dir_all(&target).unwrap();
        assert!(unpack(archive, &quota(), &target).is_err(), "{what}");
        for directory in ["", "a", "a/b", "a/b/c"] {
            assert_eq!(fs::read_dir(parent.path().join(directory)).unwrap().count(), 1, "{what}");
        }
    }

    #[test]
    fn a_file_that_is_there_already_is_not_written_through() {
        let good = text(&manifest(&[("bkg.db", b"db")]));
        let archive = archive(&[(EntryType::Regular, NAME, &good), DB]);
        let target = tempfile::tempdir().unwrap();
        let outside = tempfile::NamedTempFile::new().unwrap();
        std::os::unix::fs::symlink(outside.path(), target.path().join("bkg.db")).unwrap();
        let error = unpack(archive.as_slice(), &quota(), target.path()).unwrap_err();
        assert!(matches!(error, ArchiveError::Write { .. }), "{error}");
        assert_eq!(fs::read(outside.path()).unwrap(), b"");
    }
}
