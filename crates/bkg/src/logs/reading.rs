//! Pages of one plugin's log: what is in memory and, before that, in the files, as if it were one.
//!
//! Not following, which asks for one page after the other. The invariants: no page costs more than its
//! bounds, files and patterns never keep a task of the runtime, and a page says what it lacks and where
//! the next one begins.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bkg_protocol::PluginName;
use serde::Serialize;

use super::filter::LogFilter;
use super::journal::{Journal, RingPart};
use super::line::{self, LogLine};
use super::scan::{self, ScanLimits, Scanned};
use super::{Logs, Shared};

/// The most lines that one page holds.
pub const MAX_PAGE_LINES: usize = 10_000;
/// The most that one page holds, roughly, in bytes.
pub(super) const MAX_PAGE_BYTES: usize = 8 << 20;
/// How much of the files is read for one page, in bytes: all of them, unless they were made larger.
pub(super) const MAX_SCAN_BYTES: u64 = 32 << 20;
/// How long lines are looked at for one page: an expression can be slow.
const MAX_SCAN_TIME: Duration = Duration::from_secs(2);
/// How long they are for the pages of all plugins together.
pub(super) const MAX_PAGES_TIME: Duration = Duration::from_secs(5);
/// How long a reader waits until what was just appended is in the files.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// What a reader asks for.
#[derive(Debug, Clone)]
pub struct LogQuery {
    /// Which lines.
    pub filter: Arc<LogFilter>,
    /// Where to look.
    pub span: LogSpan,
    /// At most so many of them, and [`MAX_PAGE_LINES`].
    pub count: usize,
    pub(super) bytes: usize,
    pub(super) scan_bytes: u64,
    pub(super) time: Duration,
}

/// A part of a log, and from which end it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogSpan {
    /// The last lines with numbers below this one.
    Before(u64),
    /// The first lines with numbers above `after` and not above `to`. A number `after` that this plugin
    /// has not reached comes from a host that died before it wrote its last lines: the page then starts
    /// with the first line of the present one.
    After {
        /// The number that the reader has.
        after: u64,
        /// The last number that the reader wants.
        to: u64,
    },
}

impl LogSpan {
    /// The last lines of all.
    pub const NEWEST: Self = Self::Before(u64::MAX);

    /// Everything that came after this number.
    pub fn since(seq: u64) -> Self {
        Self::After { after: seq, to: u64::MAX }
    }
}

/// Some lines of one plugin, oldest first.
#[derive(Debug, Clone, PartialEq, Default, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogPage {
    /// The lines.
    #[serde(serialize_with = "line::as_lines")]
    pub lines: Vec<Arc<LogLine>>,
    /// How many lines of the part that was looked at are no longer kept, or never reached the files.
    pub missing: u64,
    /// The number up to which the log was looked at: whoever wants what comes later asks for lines after
    /// this one.
    pub reached: u64,
    /// Where there may be more of what was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<NextPage>,
}

/// Where the next page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum NextPage {
    /// After this number.
    Since(u64),
    /// Before this number.
    Before(u64),
}

impl LogQuery {
    /// The lines of a span that the filter takes, at most `count` of them.
    pub fn new(filter: Arc<LogFilter>, span: LogSpan, count: usize) -> Self {
        let count = count.min(MAX_PAGE_LINES);
        let (bytes, scan_bytes, time) = (MAX_PAGE_BYTES, MAX_SCAN_BYTES, MAX_SCAN_TIME);
        Self { filter, span, count, bytes, scan_bytes, time }
    }

    /// With bounds for one of so many pages that are held at the same time.
    pub(super) fn one_of(self, pages: usize) -> Self {
        let pages = pages.max(1);
        Self {
            bytes: (MAX_PAGE_BYTES / pages).max(256 << 10),
            scan_bytes: (MAX_SCAN_BYTES / pages as u64).max(1 << 20),
            time: MAX_SCAN_TIME.min(MAX_PAGES_TIME / u32::try_from(pages).unwrap_or(u32::MAX)),
            ..self
        }
    }
}

impl Logs {
    /// The last `count` lines, at most [`MAX_PAGE_LINES`].
    pub async fn tail(&self, plugin: &PluginName, count: usize) -> LogPage {
        self.read(plugin, LogQuery::new(Arc::default(), LogSpan::NEWEST, count)).await
    }

    /// At most `count` lines, and [`MAX_PAGE_LINES`], with numbers above `seq`.
    pub async fn since(&self, plugin: &PluginName, seq: u64, count: usize) -> LogPage {
        self.read(plugin, LogQuery::new(Arc::default(), LogSpan::since(seq), count)).await
    }

    /// The lines that a reader asks for, or a first part of them: then the page says where the next one
    /// begins.
    pub async fn read(&self, plugin: &PluginName, query: LogQuery) -> LogPage {
        self.read_journal(self.journal(plugin), query).await
    }

    pub(super) async fn read_journal(&self, journal: Arc<Journal>, query: LogQuery) -> LogPage {
        let most = if query.filter.takes_all() { query.count } else { MAX_PAGE_LINES };
        let (span, part) = match query.span {
            LogSpan::Before(before) => (query.span, journal.below(before, most)),
            LogSpan::After { after, to } => {
                let after = journal.known(after);
                (LogSpan::After { after, to }, journal.after(after, to, most))
            }
        };
        let query = LogQuery { span, ..query };
        if !query.filter.is_costly()
            && let Some(page) = query.page(&part, None)
        {
            return page;
        }
        let permit = Arc::clone(&self.shared.scans).acquire_owned().await;
        let permit = permit.expect("nobody closes the semaphore");
        let shared = Arc::clone(&self.shared);
        let reading = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let files = Files { shared: &shared, directory: journal.directory() };
            query.page(&part, Some(files)).expect("there are files to look into")
        });
        match reading.await {
            Ok(page) => page,
            // Only when the runtime is being dropped: nobody waits for the lines.
            Err(error) if error.is_cancelled() => LogPage::default(),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

/// Where lines are that have left memory.
struct Files<'a> {
    shared: &'a Shared,
    directory: &'a Path,
}

impl Files<'_> {
    fn scan(&self, scan: impl FnOnce(&Path) -> Scanned) -> Scanned {
        // What has left the ring may still wait for the disk.
        self.shared.queue.flush(FLUSH_WITHIN);
        let scanned = scan(self.directory);
        self.shared.counters.disk_errors.fetch_add(scanned.errors, Ordering::Relaxed);
        scanned
    }
}

/// What a page holds so far.
struct Found {
    until: Instant,
    lines: Vec<Arc<LogLine>>,
    size: usize,
    /// How many lines were looked at.
    seen: u64,
}

impl Found {
    fn new(time: Duration) -> Self {
        Self { until: Instant::now() + time, lines: Vec::new(), size: 0, seen: 0 }
    }

    fn look(&mut self, line: &Arc<LogLine>, filter: &LogFilter) {
        self.seen += 1;
        if filter.takes(line) {
            self.size += line.cost();
            self.lines.push(Arc::clone(line));
        }
    }

    /// Whether the page is to end here. Time ends it only after a first line, so that pages get on.
    fn is_done(&self, query: &LogQuery) -> bool {
        let is_late = self.seen > 0 && Instant::now() > self.until;
        self.lines.len() >= query.count || self.size > query.bytes || is_late
    }

    fn add(&mut self, scanned: Scanned) {
        self.seen += scanned.seen;
        self.size += scanned.lines.iter().map(|line| line.cost()).sum::<usize>();
        self.lines.extend(scanned.lines);
    }
}

impl LogQuery {
    /// The page, from a part of the ring and, where that is not enough, from the files; `None` if they
    /// are needed and not given.
    fn page(&self, part: &RingPart, files: Option<Files<'_>>) -> Option<LogPage> {
        match self.span {
            LogSpan::Before(before) => self.page_before(before, part, files),
            LogSpan::After { after, to } => self.page_after(after, to, part, files),
        }
    }

    fn page_after(
        &self,
        after: u64,
        to: u64,
        part: &RingPart,
        files: Option<Files<'_>>,
    ) -> Option<LogPage> {
        let mut found = Found::new(self.time);
        let end = to.min(part.last).max(after);
        let mut reached = end;
        let below = part.oldest.min(end + 1);
        if after + 1 < below {
            let limits = self.limits(&found);
            let scanned = files?.scan(|path| scan::forward(path, after, below, &self.filter, limits));
            if scanned.is_cut {
                reached = scanned.reached.unwrap_or(after);
            }
            found.add(scanned);
        }
        if reached == end {
            for line in &part.lines {
                if found.is_done(self) {
                    reached = line.seq - 1;
                    break;
                }
                found.look(line, &self.filter);
            }
            if let Some(last) = part.lines.last().filter(|last| last.seq < end) {
                reached = reached.min(last.seq);
            }
        }
        Some(LogPage {
            missing: (reached - after).saturating_sub(found.seen),
            lines: found.lines,
            reached,
            next: (reached < end).then_some(NextPage::Since(reached)),
        })
    }

    fn page_before(&self, before: u64, part: &RingPart, files: Option<Files<'_>>) -> Option<LogPage> {
        let mut found = Found::new(self.time);
        let reached = part.last.min(before - 1);
        if self.count == 0 {
            return Some(LogPage { reached, ..LogPage::default() });
        }
        let mut lowest = reached + 1;
        for line in part.lines.iter().rev() {
            if found.is_done(self) {
                break;
            }
            found.look(line, &self.filter);
            lowest = line.seq;
        }
        found.lines.reverse();
        let mut has_more = lowest > 1;
        if has_more && lowest <= part.oldest && !found.is_done(self) {
            let limits = self.limits(&found);
            let mut scanned = files?.scan(|path| scan::backward(path, lowest, &self.filter, limits));
            has_more = scanned.is_cut;
            lowest = scanned.reached.unwrap_or(lowest);
            scanned.lines.append(&mut found.lines);
            found.add(scanned);
        }
        Some(LogPage {
            missing: (reached + 1 - lowest).saturating_sub(found.seen),
            lines: found.lines,
            reached,
            next: has_more.then_some(NextPage::Before(lowest)),
        })
    }

    fn limits(&self, found: &Found) -> ScanLimits {
        ScanLimits {
            lines: self.count - found.lines.len(),
            bytes: self.bytes.saturating_sub(found.size),
            read_bytes: self.scan_bytes,
            time: self.time,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_of_many_plugins_take_no_longer_together_than_they_may() {
        let query = LogQuery::new(Arc::default(), LogSpan::NEWEST, 10);
        assert_eq!(query.clone().one_of(1).time, MAX_SCAN_TIME);
        for pages in [3, 8, 100, 1_000] {
            assert!(query.clone().one_of(pages).time * pages as u32 <= MAX_PAGES_TIME, "{pages}");
        }
    }
}
