//! The log files of one plugin: JSON lines, in files named by the number of their first line.
//!
//! Written and removed by the one writing thread, read by anyone at any time (`scan`). Best effort by
//! design: nothing is fsynced, and a line that a crash tore in two is skipped. The invariants: files are
//! bounded in size, number and age, the oldest going first, and the newest number outlives its line.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::line::{LogLine, MAX_MESSAGE_BYTES};

const EXTENSION: &str = ".jsonl";
/// More than any line that is written: every byte of a message may take two in JSON, and the rest of
/// a line is far smaller than a message.
pub(super) const MAX_LINE_BYTES: usize = 4 * MAX_MESSAGE_BYTES;

/// No log comes to this number, which JSON still holds exactly: what has a higher one is not ours.
const HIGHEST: u64 = 1 << 53;

/// The bounds of one plugin's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentLimits {
    /// How large one file may become, in bytes.
    pub(super) bytes: usize,
    /// How long lines go into the same file.
    pub(super) age: Duration,
    /// How many files are kept.
    pub(super) count: usize,
    /// How long a file is kept after its last line.
    pub(super) keep: Duration,
}

/// Appends lines to the files of one plugin.
pub(super) struct SegmentWriter {
    directory: PathBuf,
    limits: SegmentLimits,
    current: Option<Current>,
}

struct Current {
    file: File,
    bytes: usize,
    /// The time of its first line.
    begun: Timestamp,
}

impl SegmentWriter {
    pub(super) fn new(directory: &Path, limits: SegmentLimits) -> Self {
        Self { directory: directory.to_owned(), limits, current: None }
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
                let bytes = current.bytes + pending.len();
                bytes > 0 && (bytes + text.len() > self.limits.bytes || self.is_aged(current.begun, line))
            };
            let ready = match &self.current {
                Some(current) if index == 0 && current.is_deleted() => self.open(line, text.len()),
                Some(current) if is_full(current) => self.write_out(&mut pending).and_then(|()| {
                    pending_from = index;
                    self.begin(line)
                }),
                Some(_) => Ok(()),
                None => self.open(line, text.len()),
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
    fn open(&mut self, line: &LogLine, size: usize) -> io::Result<()> {
        self.current = None;
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let Some(newest) = list(&self.directory)?.pop() else { return self.begin(line) };
        let mut file = OpenOptions::new().read(true).append(true).open(path(&self.directory, newest))?;
        let mut bytes = file.metadata()?.len() as usize;
        let begun = if bytes == 0 { line.time } else { begun(&mut file)? };
        if bytes > 0 && (bytes + size > self.limits.bytes || self.is_aged(begun, line)) {
            return self.begin(line);
        }
        if !ends_with_line_end(&mut file)? {
            // The torn line becomes a line of its own, which readers skip.
            file.write_all(b"\n")?;
            bytes += 1;
        }
        self.current = Some(Current { file, bytes, begun });
        Ok(())
    }

    fn begin(&mut self, line: &LogLine) -> io::Result<()> {
        let file = create(&path(&self.directory, line.seq))?;
        let bytes = file.metadata()?.len() as usize;
        self.current = Some(Current { file, bytes, begun: line.time });
        remove_surplus(&self.directory, self.limits.count)
    }

    /// Whether a file that was begun then is too old to take the line. Where the clock was put back,
    /// it is not.
    fn is_aged(&self, begun: Timestamp, line: &LogLine) -> bool {
        line.time.duration_since(begun).unsigned_abs() >= self.limits.age && line.time > begun
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

/// Removes what is more than the limits allow, also of a plugin that is silent or gone. The number of the
/// last line stays taken: where the newest file goes too, an empty one with that number takes its place.
pub(super) fn sweep(directory: &Path, limits: &SegmentLimits, now: Timestamp) -> io::Result<()> {
    remove_surplus(directory, limits.count)?;
    for first in list(directory)? {
        let expired = path(directory, first);
        let metadata = fs::metadata(&expired)?;
        let written = Timestamp::try_from(metadata.modified()?).unwrap_or(now);
        let is_expired = written < now && now.duration_since(written).unsigned_abs() >= limits.keep;
        if !is_expired {
            continue;
        }
        if list(directory)?.last() != Some(&first) {
            fs::remove_file(expired)?;
        } else if metadata.len() > 0 {
            let last = last_seq(directory);
            if last == first {
                OpenOptions::new().write(true).truncate(true).open(expired)?;
            } else {
                create(&path(directory, last))?;
                fs::remove_file(expired)?;
            }
        }
    }
    Ok(())
}

fn remove_surplus(directory: &Path, count: usize) -> io::Result<()> {
    let files = list(directory)?;
    for first in &files[..files.len().saturating_sub(count.max(1))] {
        fs::remove_file(path(directory, *first))?;
    }
    Ok(())
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// The time of a file's first line; where that cannot be read, of its last change.
fn begun(file: &mut File) -> io::Result<Timestamp> {
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    BufReader::new(file.take(MAX_LINE_BYTES as u64)).read_until(b'\n', &mut bytes)?;
    if let Some(line) = parse(&bytes) {
        return Ok(line.time);
    }
    Timestamp::try_from(file.metadata()?.modified()?).map_err(io::Error::other)
}

/// The line, if the bytes are one.
pub(super) fn parse(bytes: &[u8]) -> Option<LogLine> {
    serde_json::from_slice(bytes).ok().filter(|line: &LogLine| line.seq <= HIGHEST)
}

/// The first numbers of the files, which are their names, in order.
pub(super) fn list(directory: &Path) -> io::Result<Vec<u64>> {
    let mut files = Vec::new();
    for item in fs::read_dir(directory)? {
        let name = item?.file_name();
        let first = name
            .to_str()
            .and_then(|name| name.strip_suffix(EXTENSION))
            // What somebody else put there is not found under the name that the number has.
            .filter(|name| name.len() == 20 && name.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|name| name.parse::<u64>().ok())
            .filter(|first| *first <= HIGHEST);
        files.extend(first);
    }
    files.sort_unstable();
    Ok(files)
}

/// Where the file with this first number is.
pub(super) fn path(directory: &Path, first: u64) -> PathBuf {
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
pub(super) mod tests {
    use bkg_protocol::message::LogLevel;

    use super::super::{LogFilter, NewLine, scan};
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn limits(bytes: usize, count: usize) -> SegmentLimits {
        SegmentLimits { bytes, age: DAY, count, keep: 14 * DAY }
    }

    /// The numbers of all lines that can be read.
    fn kept(directory: &Path) -> Vec<u64> {
        let limits = scan::tests::LIMITS;
        let scanned = scan::forward(directory, 0, u64::MAX, &LogFilter::default(), limits);
        scanned.lines.iter().map(|line| line.seq).collect()
    }

    pub(crate) fn lines(range: std::ops::RangeInclusive<u64>) -> Vec<Arc<LogLine>> {
        range
            .map(|seq| {
                let line =
                    NewLine::host(LogLevel::Info, format!("line {seq}")).clean("ping".parse().unwrap());
                Arc::new(LogLine { seq, ..line })
            })
            .collect()
    }

    /// A line of so many days after the beginning of 2026.
    fn line_of_day(seq: u64, day: u32) -> Arc<LogLine> {
        let time = Timestamp::from_second(1_767_225_600).unwrap() + DAY * day;
        Arc::new(LogLine { time, ..(*lines(seq..=seq)[0]).clone() })
    }

    /// Makes a file one that was written to at the line's time.
    fn set_written(directory: &Path, first: u64, line: &LogLine) {
        let file = OpenOptions::new().append(true).open(path(directory, first)).unwrap();
        file.set_modified(line.time.into()).unwrap();
    }

    /// Three files of at most ten lines.
    pub(crate) fn three_files() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let size = serde_json::to_vec(&*lines(10..=10)[0]).unwrap().len() + 1;
        let mut writer = SegmentWriter::new(directory.path(), limits(10 * size, 3));
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
    fn a_failed_write_says_how_many_lines_it_cost() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("logs");
        let mut writer = SegmentWriter::new(&place, limits(1 << 20, 3));
        writer.write(&lines(1..=2)).unwrap();
        fs::remove_dir_all(&place).unwrap();
        fs::write(&place, "in the way").unwrap();
        assert_eq!(writer.write(&lines(3..=7)).unwrap_err().0, 5);
        fs::remove_file(&place).unwrap();
        writer.write(&lines(8..=9)).unwrap();
        assert_eq!(kept(&place), [8, 9]);
    }

    #[test]
    fn a_line_larger_than_a_file_gets_a_file_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = SegmentWriter::new(directory.path(), limits(10, 5));
        writer.write(&lines(1..=3)).unwrap();
        assert_eq!(list(directory.path()).unwrap(), [1, 2, 3]);
        assert_eq!(kept(directory.path()), [1, 2, 3]);
    }

    #[test]
    fn a_file_that_is_a_day_old_takes_no_further_line() {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = SegmentWriter::new(directory.path(), limits(1 << 20, 8));
        writer.write(&[line_of_day(1, 0), line_of_day(2, 0), line_of_day(3, 1)]).unwrap();
        writer.write(&[line_of_day(4, 1)]).unwrap();
        assert_eq!(list(directory.path()).unwrap(), [1, 3]);
        // The next host finds the age of the file in its first line.
        let mut writer = SegmentWriter::new(directory.path(), limits(1 << 20, 8));
        writer.write(&[line_of_day(5, 1)]).unwrap();
        writer.write(&[line_of_day(6, 2)]).unwrap();
        let mut writer = SegmentWriter::new(directory.path(), limits(1 << 20, 8));
        writer.write(&[line_of_day(7, 4)]).unwrap();
        assert_eq!(list(directory.path()).unwrap(), [1, 3, 6, 7]);
        // A clock that was put back begins no file for each line.
        writer.write(&[line_of_day(8, 0), line_of_day(9, 0)]).unwrap();
        assert_eq!(list(directory.path()).unwrap(), [1, 3, 6, 7]);
        assert_eq!(kept(directory.path()), (1..=9).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_older_than_it_may_be_is_removed_and_its_numbers_stay_taken() {
        let directory = tempfile::tempdir().unwrap();
        let limits = limits(1 << 20, 8);
        let mut writer = SegmentWriter::new(directory.path(), limits);
        let days = [line_of_day(1, 0), line_of_day(2, 0), line_of_day(3, 1), line_of_day(4, 2)];
        writer.write(&days).unwrap();
        for (first, line) in [(1, &days[1]), (3, &days[2]), (4, &days[3])] {
            set_written(directory.path(), first, line);
        }
        let sweep_on = |day| sweep(directory.path(), &limits, line_of_day(0, day).time).unwrap();
        for (day, files) in [(0, vec![1, 3, 4]), (13, vec![1, 3, 4]), (14, vec![3, 4]), (15, vec![4])] {
            sweep_on(day);
            assert_eq!(list(directory.path()).unwrap(), files, "day {day}");
        }
        sweep_on(16);
        assert_eq!((kept(directory.path()), last_seq(directory.path())), (vec![], 4));
        // The writer goes on, whatever happened to its file meanwhile.
        writer.write(&[line_of_day(5, 16), line_of_day(6, 16)]).unwrap();
        assert_eq!((kept(directory.path()), last_seq(directory.path())), (vec![5, 6], 6));
        for first in list(directory.path()).unwrap() {
            set_written(directory.path(), first, &days[0]);
        }
        sweep_on(30);
        assert_eq!((kept(directory.path()), last_seq(directory.path())), (vec![], 6));
        sweep_on(365);
        assert_eq!(list(directory.path()).unwrap(), [6], "the number is not forgotten");
    }

    #[test]
    fn a_bound_that_was_lowered_holds_for_the_files_that_are_there() {
        let directory = three_files();
        sweep(directory.path(), &limits(1, 2), Timestamp::now()).unwrap();
        assert_eq!(list(directory.path()).unwrap(), [20, 30]);
    }
}
