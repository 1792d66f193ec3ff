//! The log files of one plugin: JSON lines, in files named by the number of their first line.
//!
//! Written by the one writing thread, read by anyone at any time. Best effort by design: nothing is
//! fsynced, a line that a crash tore in two is skipped, and files are bounded in size and number, the
//! oldest going first. Reading never fails as a whole: it gives what it finds and counts the errors.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::line::{LogLine, MAX_MESSAGE_BYTES};

const EXTENSION: &str = ".jsonl";
/// More than any line that is written: every byte of a message may take two in JSON, and the rest of
/// a line is far smaller than a message.
const MAX_LINE_BYTES: usize = 4 * MAX_MESSAGE_BYTES;
/// The most that one reading gives, in bytes.
const MAX_READ_BYTES: usize = 8 << 20;

/// Appends lines to the files of one plugin.
pub(super) struct SegmentWriter {
    directory: PathBuf,
    segment_bytes: usize,
    segments: usize,
    current: Option<Current>,
}

struct Current {
    file: File,
    bytes: usize,
}

/// What a reading found.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Oldest first.
    pub(super) lines: Vec<Arc<LogLine>>,
    /// How many files could not be read.
    pub(super) errors: u64,
    /// Whether more lines were asked for than one reading gives.
    pub(super) is_cut: bool,
}

impl SegmentWriter {
    pub(super) fn new(directory: &Path, segment_bytes: usize, segments: usize) -> Self {
        Self { directory: directory.to_owned(), segment_bytes, segments: segments.max(1), current: None }
    }

    /// Writes the lines.
    ///
    /// # Errors
    /// How many lines, counted from the end, were not written, and why. The next call starts over
    /// with the file system.
    pub(super) fn write(&mut self, lines: &[Arc<LogLine>]) -> Result<(), (u64, io::Error)> {
        let mut pending = Vec::new();
        let mut pending_from = 0;
        for (index, line) in lines.iter().enumerate() {
            let mut text = serde_json::to_vec(&**line).expect("a log line has a JSON form");
            text.push(b'\n');
            let is_full = |current: &Current| {
                current.bytes + pending.len() > 0
                    && current.bytes + pending.len() + text.len() > self.segment_bytes
            };
            let ready = match &self.current {
                Some(current) if is_full(current) => self.write_out(&mut pending).and_then(|()| {
                    pending_from = index;
                    self.begin(line.seq)
                }),
                Some(current) if index == 0 && current.is_deleted() => self.open(line.seq, text.len()),
                Some(_) => Ok(()),
                None => self.open(line.seq, text.len()),
            };
            if let Err(error) = ready {
                return Err(self.failed(lines.len() - pending_from, error));
            }
            pending.extend_from_slice(&text);
        }
        self.write_out(&mut pending).map_err(|error| self.failed(lines.len() - pending_from, error))
    }

    fn failed(&mut self, lines: usize, error: io::Error) -> (u64, io::Error) {
        // Opening again finds out whether the last line was torn.
        self.current = None;
        (lines as u64, error)
    }

    fn write_out(&mut self, pending: &mut Vec<u8>) -> io::Result<()> {
        if let Some(current) = &mut self.current {
            current.file.write_all(pending)?;
            current.bytes += pending.len();
        }
        pending.clear();
        Ok(())
    }

    /// Goes on with the newest file if a line of this size fits, else begins one.
    fn open(&mut self, seq: u64, size: usize) -> io::Result<()> {
        self.current = None;
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let Some(newest) = list(&self.directory)?.pop() else { return self.begin(seq) };
        let mut file = OpenOptions::new().read(true).append(true).open(path(&self.directory, newest))?;
        let mut bytes = file.metadata()?.len() as usize;
        if bytes + size > self.segment_bytes {
            return self.begin(seq);
        }
        if !ends_with_line_end(&mut file)? {
            // The torn line becomes a line of its own, which readers skip.
            file.write_all(b"\n")?;
            bytes += 1;
        }
        self.current = Some(Current { file, bytes });
        Ok(())
    }

    fn begin(&mut self, seq: u64) -> io::Result<()> {
        let path = path(&self.directory, seq);
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let bytes = file.metadata()?.len() as usize;
        self.current = Some(Current { file, bytes });
        let files = list(&self.directory)?;
        for first in &files[..files.len().saturating_sub(self.segments)] {
            fs::remove_file(self::path(&self.directory, *first))?;
        }
        Ok(())
    }
}

impl Current {
    /// Whether somebody removed the file: what is written to it then is nowhere.
    fn is_deleted(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }
}

/// The number of the last line that was written, or that a crash tore in two; 0 if there is none.
pub(super) fn last_seq(directory: &Path) -> u64 {
    let Ok(files) = list(directory) else { return 0 };
    let Some(newest) = files.last().copied() else { return 0 };
    match last_seq_in(&path(directory, newest)) {
        Ok(Some(seq)) => seq.max(newest),
        // Without a whole line the file's first one may have been begun, so its number is taken.
        Ok(None) | Err(_) => newest,
    }
}

fn last_seq_in(file: &Path) -> io::Result<Option<u64>> {
    let mut file = File::open(file)?;
    let length = file.metadata()?.len();
    // Two lines of any length, so that one is whole; if neither can be read, the whole file is.
    for window in [2 * MAX_LINE_BYTES as u64, length] {
        file.seek(SeekFrom::Start(length.saturating_sub(window)))?;
        let mut bytes = Vec::new();
        (&file).take(length.min(window)).read_to_end(&mut bytes)?;
        let is_torn = !bytes.is_empty() && !bytes.ends_with(b"\n");
        if let Some(line) = bytes.split(|byte| *byte == b'\n').rev().find_map(parse) {
            let torn_one = is_torn && bytes.rsplit(|byte| *byte == b'\n').next().and_then(parse).is_none();
            return Ok(Some(line.seq + u64::from(torn_one)));
        }
    }
    Ok(None)
}

/// The last `count` lines with numbers below `before`.
pub(super) fn tail(directory: &Path, count: usize, before: u64) -> Reading {
    let mut reading = Reading::default();
    let mut files = files(directory, &mut reading);
    files.retain(|first| *first < before);
    let (mut newest_first, mut size) = (Vec::new(), 0);
    'files: for first in files.into_iter().rev() {
        let bytes = match fs::read(path(directory, first)) {
            Ok(bytes) => bytes,
            Err(error) => {
                reading.note(&error);
                continue;
            }
        };
        for line in bytes.split(|byte| *byte == b'\n').rev().filter_map(parse) {
            if line.seq >= before {
                continue;
            }
            if newest_first.len() == count || size > MAX_READ_BYTES {
                break 'files;
            }
            size += line.cost();
            newest_first.push(Arc::new(line));
        }
    }
    newest_first.reverse();
    reading.lines = newest_first;
    reading
}

/// The first `count` lines with numbers above `after` and below `before`.
pub(super) fn since(directory: &Path, after: u64, count: usize, before: u64) -> Reading {
    let mut reading = Reading::default();
    let files = files(directory, &mut reading);
    // The last file that starts at or before the line sought; those before it hold older lines only.
    let start = files.partition_point(|first| *first <= after + 1).saturating_sub(1);
    let mut size = 0;
    for first in files[start..].iter().take_while(|first| **first < before) {
        let file = match File::open(path(directory, *first)) {
            Ok(file) => file,
            Err(error) => {
                reading.note(&error);
                continue;
            }
        };
        let mut file = BufReader::new(file);
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            match file.by_ref().take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut bytes) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    reading.note(&error);
                    break;
                }
            }
            let Some(line) = parse(&bytes) else { continue };
            if line.seq <= after || line.seq >= before {
                continue;
            }
            if reading.lines.len() == count || size > MAX_READ_BYTES {
                reading.is_cut = true;
                return reading;
            }
            size += line.cost();
            reading.lines.push(Arc::new(line));
        }
    }
    reading
}

impl Reading {
    fn note(&mut self, error: &io::Error) {
        // A file may be rotated away between listing and opening.
        if error.kind() != io::ErrorKind::NotFound {
            self.errors += 1;
        }
    }
}

fn parse(bytes: &[u8]) -> Option<LogLine> {
    serde_json::from_slice(bytes).ok()
}

fn files(directory: &Path, reading: &mut Reading) -> Vec<u64> {
    list(directory).unwrap_or_else(|error| {
        reading.note(&error);
        Vec::new()
    })
}

/// The first numbers of the files, which are their names, in order.
fn list(directory: &Path) -> io::Result<Vec<u64>> {
    let mut files = Vec::new();
    for item in fs::read_dir(directory)? {
        let name = item?.file_name();
        let first = name
            .to_str()
            .and_then(|name| name.strip_suffix(EXTENSION))
            .and_then(|name| name.parse::<u64>().ok());
        files.extend(first);
    }
    files.sort_unstable();
    Ok(files)
}

fn path(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("{first:020}{EXTENSION}"))
}

fn ends_with_line_end(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use bkg_protocol::message::LogLevel;

    use super::super::NewLine;
    use super::*;

    fn lines(range: std::ops::RangeInclusive<u64>) -> Vec<Arc<LogLine>> {
        range
            .map(|seq| {
                let line =
                    NewLine::host(LogLevel::Info, format!("line {seq}")).clean("ping".parse().unwrap());
                Arc::new(LogLine { seq, ..line })
            })
            .collect()
    }

    fn seqs(reading: &Reading) -> Vec<u64> {
        reading.lines.iter().map(|line| line.seq).collect()
    }

    /// Three files of at most ten lines.
    fn three_files() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let size = serde_json::to_vec(&*lines(10..=10)[0]).unwrap().len() + 1;
        let mut writer = SegmentWriter::new(directory.path(), 10 * size, 3);
        writer.write(&lines(10..=25)).unwrap();
        writer.write(&lines(26..=35)).unwrap();
        directory
    }

    #[test]
    fn files_are_named_by_their_first_line() {
        let directory = three_files();
        assert_eq!(list(directory.path()).unwrap(), [10, 20, 30]);
        assert_eq!(path(Path::new(""), 10).to_str().unwrap(), "00000000000000000010.jsonl");
    }

    #[test]
    fn reading_finds_lines_by_number_across_files() {
        let directory = three_files();
        let all = |range: std::ops::RangeInclusive<u64>| range.collect::<Vec<_>>();
        assert_eq!(seqs(&since(directory.path(), 0, 100, 100)), all(10..=35));
        assert_eq!(seqs(&since(directory.path(), 18, 4, 100)), all(19..=22));
        assert_eq!(seqs(&since(directory.path(), 19, 4, 100)), all(20..=23));
        assert_eq!(seqs(&since(directory.path(), 19, 100, 22)), all(20..=21));
        assert!(since(directory.path(), 35, 100, 100).lines.is_empty());
        assert_eq!(seqs(&tail(directory.path(), 7, 100)), all(29..=35));
        assert_eq!(seqs(&tail(directory.path(), 3, 31)), all(28..=30));
        assert!(tail(directory.path(), 100, 10).lines.is_empty());
        let nowhere = Path::new("/nowhere/at/all");
        assert_eq!(
            (tail(nowhere, 1, 9).errors, since(nowhere, 0, 1, 9).errors, last_seq(nowhere)),
            (0, 0, 0)
        );
    }

    #[test]
    fn the_last_number_is_found_behind_whatever_a_crash_left() {
        let directory = three_files();
        let newest = path(directory.path(), 30);
        let whole = fs::read(&newest).unwrap();
        assert_eq!(last_seq(directory.path()), 35);
        for (length, expected) in [
            (whole.len() - 1, 35),     // Only the line end is missing.
            (whole.len() - 5, 35),     // The torn line was 35.
            (whole.len() / 2, 32),     // Exactly three lines.
            (whole.len() / 2 + 5, 33), // The torn line was 33.
            (3, 30),                   // The torn line was the first.
            (0, 30),                   // Begun, nothing written.
        ] {
            fs::write(&newest, &whole[..length]).unwrap();
            assert_eq!(last_seq(directory.path()), expected, "{length} of {} bytes", whole.len());
        }
        let zeros = [&whole[..], &[0; 3 * MAX_LINE_BYTES]].concat();
        fs::write(&newest, zeros).unwrap();
        assert_eq!(last_seq(directory.path()), 36, "what a power cut leaves of a file");
    }

    #[test]
    fn lines_that_cannot_be_read_are_skipped() {
        let directory = three_files();
        let mut file = OpenOptions::new().append(true).open(path(directory.path(), 20)).unwrap();
        file.write_all(b"{\"seq\":\nnot json\n\xff\n\n").unwrap();
        file.write_all(&vec![b'x'; 3 * MAX_LINE_BYTES]).unwrap();
        assert_eq!(since(directory.path(), 0, 100, 100).lines.len(), 26);
        assert_eq!(tail(directory.path(), 100, 100).lines.len(), 26);
    }

    #[test]
    fn a_failed_write_says_how_many_lines_it_cost() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("logs");
        let mut writer = SegmentWriter::new(&place, 1 << 20, 3);
        writer.write(&lines(1..=2)).unwrap();
        fs::remove_dir_all(&place).unwrap();
        fs::write(&place, "in the way").unwrap();
        assert_eq!(writer.write(&lines(3..=7)).unwrap_err().0, 5);
        fs::remove_file(&place).unwrap();
        writer.write(&lines(8..=9)).unwrap();
        assert_eq!(seqs(&tail(&place, 10, 100)), [8, 9]);
    }

    #[test]
    fn a_line_larger_than_a_file_gets_a_file_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = SegmentWriter::new(directory.path(), 10, 5);
        writer.write(&lines(1..=3)).unwrap();
        assert_eq!(list(directory.path()).unwrap(), [1, 2, 3]);
        assert_eq!(seqs(&tail(directory.path(), 10, 100)), [1, 2, 3]);
    }
}
