//! Reading the log files of one plugin, forwards or backwards, for the lines that a filter takes.
//!
//! Blocking, so never for a task of the runtime. Reading never fails as a whole: it gives what it finds,
//! skips what is no line, and counts the errors. The invariant: one scan is bounded in what it reads, how
//! long it reads and what it gives, and says how far it came, always further than where it began.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::filter::LogFilter;
use super::line::LogLine;
use super::segments::{MAX_LINE_BYTES, list, parse, path};

/// How much of a file is read at once when it is read backwards.
const BLOCK: u64 = 64 << 10;

/// What one scan may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScanLimits {
    /// How many lines it gives.
    pub(super) lines: usize,
    /// How large the given lines may be, roughly, in bytes.
    pub(super) bytes: usize,
    /// How much of the files it reads, in bytes.
    pub(super) read_bytes: u64,
    /// How long it reads.
    pub(super) time: Duration,
}

/// What a scan found.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    /// The lines that the filter takes, oldest first.
    pub(super) lines: Vec<Arc<LogLine>>,
    /// How many lines were looked at, taken or not.
    pub(super) seen: u64,
    /// The number of the line that was looked at last.
    pub(super) reached: Option<u64>,
    /// How many files could not be read.
    pub(super) errors: u64,
    /// Whether it ended before the lines did.
    pub(super) is_cut: bool,
}

/// A scan under way.
struct Scan<'a> {
    filter: &'a LogFilter,
    limits: ScanLimits,
    until: Instant,
    read: u64,
    size: usize,
    found: Scanned,
}

/// The first lines with numbers above `after` and below `before`.
pub(super) fn forward(
    directory: &Path,
    after: u64,
    before: u64,
    filter: &LogFilter,
    limits: ScanLimits,
) -> Scanned {
    let mut scan = Scan::new(filter, limits);
    let files = scan.files(directory);
    // The last file that starts at or before the line sought; those before it hold older lines only.
    let start = files.partition_point(|first| *first <= after + 1).saturating_sub(1);
    for first in files[start..].iter().take_while(|first| **first < before) {
        let result = read_forward(&path(directory, *first), after + 1, |read, bytes| {
            scan.look(read, bytes, |line| line.seq > after && line.seq < before)
        });
        if scan.note(result).is_break() {
            break;
        }
    }
    scan.found
}

/// The last lines with numbers below `before`.
pub(super) fn backward(directory: &Path, before: u64, filter: &LogFilter, limits: ScanLimits) -> Scanned {
    let mut scan = Scan::new(filter, limits);
    let mut files = scan.files(directory);
    files.retain(|first| *first < before);
    for first in files.into_iter().rev() {
        let result = read_backward(&path(directory, first), before, |read, bytes| {
            scan.look(read, bytes, |line| line.seq < before)
        });
        if scan.note(result).is_break() {
            break;
        }
    }
    scan.found.lines.reverse();
    scan.found
}

impl<'a> Scan<'a> {
    fn new(filter: &'a LogFilter, limits: ScanLimits) -> Self {
        let until = Instant::now() + limits.time;
        Self { filter, limits, until, read: 0, size: 0, found: Scanned::default() }
    }

    /// Looks at what may be a line, after `read` further bytes of a file.
    fn look(&mut self, read: u64, bytes: &[u8], is_meant: impl Fn(&LogLine) -> bool) -> ControlFlow<()> {
        let is_over = self.found.lines.len() >= self.limits.lines
            || self.size > self.limits.bytes
            || self.read > self.limits.read_bytes
            || Instant::now() > self.until;
        // Not before there is something to go on from: else the next scan would end here as well.
        if is_over && self.found.reached.is_some() {
            self.found.is_cut = true;
            return ControlFlow::Break(());
        }
        self.read += read;
        let Some(line) = parse(bytes).filter(is_meant) else { return ControlFlow::Continue(()) };
        self.found.seen += 1;
        self.found.reached = Some(line.seq);
        if self.filter.takes(&line) {
            self.size += line.cost();
            self.found.lines.push(Arc::new(line));
        }
        ControlFlow::Continue(())
    }

    fn files(&mut self, directory: &Path) -> Vec<u64> {
        list(directory).unwrap_or_else(|error| {
            let _ = self.note(Err(error));
            Vec::new()
        })
    }

    fn note(&mut self, result: io::Result<ControlFlow<()>>) -> ControlFlow<()> {
        result.unwrap_or_else(|error| {
            // A file may be removed between listing and opening, or emptied while it is read.
            if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) {
                self.found.errors += 1;
            }
            ControlFlow::Continue(())
        })
    }
}

/// Hands over the lines of a file in order, from one that may be before line `seq`, each with how many
/// bytes were read for it.
fn read_forward(
    path: &Path,
    seq: u64,
    mut each: impl FnMut(u64, &[u8]) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    let mut file = File::open(path)?;
    let (start, _) = bracket(&mut file, seq)?;
    file.seek(SeekFrom::Start(start))?;
    let mut file = BufReader::with_capacity(BLOCK as usize, file);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let read = file.by_ref().take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut bytes)?;
        if read == 0 {
            return Ok(ControlFlow::Continue(()));
        }
        if each(read as u64, &bytes).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
}

/// Hands over the lines of a file, the last one first, from one that may be after line `before`, each
/// with how many bytes were read for it.
fn read_backward(
    path: &Path,
    before: u64,
    mut each: impl FnMut(u64, &[u8]) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    let mut file = File::open(path)?;
    let (_, mut position) = bracket(&mut file, before)?;
    let mut block = vec![0; BLOCK as usize];
    // The end of a line whose beginning is still to be read.
    let mut line_end: Vec<u8> = Vec::new();
    let mut is_too_long = false;
    while position > 0 {
        let size = BLOCK.min(position) as usize;
        position -= size as u64;
        file.seek(SeekFrom::Start(position))?;
        file.read_exact(&mut block[..size])?;
        let mut rest = &block[..size];
        while let Some(at) = rest.iter().rposition(|byte| *byte == b'\n') {
            let mut line = rest[at + 1..].to_vec();
            line.append(&mut line_end);
            if !std::mem::take(&mut is_too_long) && each(line.len() as u64 + 1, &line).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            rest = &rest[..at];
        }
        is_too_long |= rest.len() + line_end.len() > MAX_LINE_BYTES;
        line_end = if is_too_long { Vec::new() } else { [rest, &line_end].concat() };
    }
    if is_too_long { Ok(ControlFlow::Continue(())) } else { Ok(each(line_end.len() as u64, &line_end)) }
}

/// Two places in a file: lines that begin before the first have numbers below `seq`, those that begin at
/// or after the second have `seq` or a higher one. Found by halving, since numbers only grow.
fn bracket(file: &mut File, seq: u64) -> io::Result<(u64, u64)> {
    let (mut low, mut high) = (0, file.metadata()?.len());
    while high - low > BLOCK {
        let middle = low + (high - low) / 2;
        match first_line(file, middle, high)? {
            Some((start, found)) if found < seq => low = start,
            Some((start, _)) => high = start,
            // Nothing there that can be read: what is left is read from its beginning.
            None => break,
        }
    }
    Ok((low, high))
}

/// Where the first line begins after `from` and before `end`, and its number.
fn first_line(file: &mut File, from: u64, end: u64) -> io::Result<Option<(u64, u64)>> {
    file.seek(SeekFrom::Start(from))?;
    let mut reader = BufReader::new(file.take(4 * MAX_LINE_BYTES as u64));
    let mut bytes = Vec::new();
    // What is left of the line in whose middle this began.
    let mut start = from + reader.read_until(b'\n', &mut bytes)? as u64;
    while start < end {
        bytes.clear();
        let read = reader.read_until(b'\n', &mut bytes)?;
        if read == 0 {
            break;
        }
        if let Some(line) = parse(&bytes) {
            return Ok(Some((start, line.seq)));
        }
        start += read as u64;
    }
    Ok(None)
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write;

    use super::super::segments::tests::{lines, three_files};
    use super::*;

    pub(crate) const LIMITS: ScanLimits = ScanLimits {
        lines: 1_000_000,
        bytes: 1 << 30,
        read_bytes: 1 << 30,
        time: Duration::from_secs(3_600),
    };

    fn all() -> LogFilter {
        LogFilter::default()
    }

    fn seqs(scanned: &Scanned) -> Vec<u64> {
        scanned.lines.iter().map(|line| line.seq).collect()
    }

    fn at_most(lines: usize) -> ScanLimits {
        ScanLimits { lines, ..LIMITS }
    }

    fn since(directory: &Path, after: u64, count: usize, before: u64) -> Vec<u64> {
        seqs(&forward(directory, after, before, &all(), at_most(count)))
    }

    fn tail(directory: &Path, count: usize, before: u64) -> Vec<u64> {
        seqs(&backward(directory, before, &all(), at_most(count)))
    }

    #[test]
    fn lines_are_found_by_number_across_files() {
        let directory = three_files();
        let directory = directory.path();
        let all_of = |range: std::ops::RangeInclusive<u64>| range.collect::<Vec<_>>();
        assert_eq!(since(directory, 0, 100, 100), all_of(10..=35));
        assert_eq!(since(directory, 18, 4, 100), all_of(19..=22));
        assert_eq!(since(directory, 19, 4, 100), all_of(20..=23));
        assert_eq!(since(directory, 19, 100, 22), all_of(20..=21));
        assert!(since(directory, 35, 100, 100).is_empty());
        assert_eq!(tail(directory, 7, 100), all_of(29..=35));
        assert_eq!(tail(directory, 3, 31), all_of(28..=30));
        assert!(tail(directory, 100, 10).is_empty());
        let nowhere = forward(Path::new("/nowhere/at/all"), 0, 9, &all(), LIMITS);
        assert_eq!((nowhere.lines.len(), nowhere.errors, nowhere.is_cut), (0, 0, false));
    }

    #[test]
    fn a_scan_that_was_cut_goes_on_where_it_ended() {
        let directory = three_files();
        for limits in [
            at_most(3),
            ScanLimits { bytes: 500, ..LIMITS },
            ScanLimits { read_bytes: 100, ..LIMITS },
            ScanLimits { time: Duration::ZERO, ..LIMITS },
        ] {
            let filter = all().with_regex("[05]$").unwrap();
            let (mut found, mut after, mut scans) = (Vec::new(), 0, 0);
            loop {
                let scanned = forward(directory.path(), after, 100, &filter, limits);
                found.extend(seqs(&scanned));
                scans += 1;
                if !scanned.is_cut {
                    break;
                }
                assert!(scanned.reached.unwrap() > after);
                after = scanned.reached.unwrap();
            }
            assert_eq!((found, scans > 1), (vec![10, 15, 20, 25, 30, 35], true), "{limits:?}");

            let (mut found, mut before) = (Vec::new(), 100);
            loop {
                let scanned = backward(directory.path(), before, &filter, limits);
                found.splice(0..0, seqs(&scanned));
                if !scanned.is_cut {
                    break;
                }
                assert!(scanned.reached.unwrap() < before);
                before = scanned.reached.unwrap();
            }
            assert_eq!(found, [10, 15, 20, 25, 30, 35], "{limits:?}");
        }
    }

    #[test]
    fn lines_that_cannot_be_read_are_skipped() {
        let directory = three_files();
        let mut file = OpenOptions::new().append(true).open(path(directory.path(), 20)).unwrap();
        file.write_all(b"{\"seq\":\nnot json\n\xff\n\n").unwrap();
        file.write_all(&vec![b'x'; 3 * MAX_LINE_BYTES]).unwrap();
        assert_eq!(since(directory.path(), 0, 100, 100).len(), 26);
        assert_eq!(tail(directory.path(), 100, 100).len(), 26);
        assert_eq!(tail(directory.path(), 100, 25), (10..=24).collect::<Vec<_>>());
    }

    #[test]
    fn a_file_cut_at_any_byte_costs_at_most_the_line_it_was_cut_in() {
        let directory = three_files();
        let newest = path(directory.path(), 30);
        let whole = fs::read(&newest).unwrap();
        for length in 0..whole.len() {
            fs::write(&newest, &whole[..length]).unwrap();
            let whole_lines = whole[..length + 1].iter().filter(|byte| **byte == b'\n').count() as u64;
            let expected: Vec<u64> = (20..30 + whole_lines).collect();
            assert_eq!(since(directory.path(), 19, 100, 100), expected, "{length} bytes");
            assert_eq!(tail(directory.path(), expected.len(), 100), expected, "{length} bytes");
        }
    }

    #[test]
    fn every_line_of_a_large_file_is_found_by_its_number() {
        let directory = tempfile::tempdir().unwrap();
        let mut text = Vec::new();
        for line in lines(1..=2_000) {
            let message = "x".repeat((line.seq as usize * 7_919) % 3_000);
            serde_json::to_writer(&mut text, &LogLine { message, ..(*line).clone() }).unwrap();
            text.extend(if line.seq % 100 == 0 { &b"\ngarbage\n"[..] } else { b"\n" });
        }
        fs::write(path(directory.path(), 1), text).unwrap();
        for seq in (1..=2_000).step_by(97) {
            assert_eq!(since(directory.path(), seq - 1, 2, 5_000), [seq, seq + 1]);
            assert_eq!(tail(directory.path(), 1, seq + 1), [seq]);
            let scanned = backward(directory.path(), seq + 1, &all(), at_most(1));
            assert_eq!(scanned.seen, 1, "nothing behind it was looked at");
        }
    }
}
