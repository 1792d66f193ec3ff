//! The log lines of plugins: what they print, what they send over the bus, what the host says of them.
//!
//! Each plugin has a ring in memory, numbered without a hole and going on where the last host stopped,
//! and bounded files that one background thread writes. Not the host's own log: that is `tracing`. The
//! invariants: appending never waits for the disk, memory and disk are bounded whatever a plugin does,
//! and what was left out is counted and said. `supervisor` feeds output, `bus` feeds `log` messages,
//! `admin` reads and follows.

mod filter;
mod follow;
mod journal;
mod line;
mod merge;
mod queue;
mod rate;
mod reading;
mod scan;
mod segments;
mod splitter;
mod writer;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bkg_protocol::PluginName;
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::clock::Evenness;
use journal::Journal;
use queue::Queue;

pub use filter::{LogFilter, MAX_PATTERN_BYTES, PatternError};
pub use follow::{Follower, News};
pub use journal::{Followed, Subscription};
pub use line::{LogLine, LogStream, MAX_MESSAGE_BYTES, NewLine, printable};
pub use merge::{Cursor, CursorError, MergedPage, MergedSpan, NextMergedPage};
pub use reading::{LogPage, LogQuery, LogSpan, MAX_PAGE_LINES, NextPage};
pub use splitter::{LineSplitter, SplitLine};

/// The bounds of all plugins' logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// How many lines of each plugin stay in memory.
    pub ring_lines: usize,
    /// How large one file may become, in bytes.
    pub segment_bytes: usize,
    /// How many files of each plugin are kept.
    pub segments: usize,
    /// How long lines go into the same file.
    pub segment_age: Duration,
    /// How long a file is kept after its last line.
    pub keep: Duration,
    /// How many lines a second an instance may log before only a sample is kept.
    pub lines_per_second: u32,
}

impl Default for LogSettings {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self {
            ring_lines: 2_000,
            segment_bytes: 4 << 20,
            segments: 8,
            segment_age: DAY,
            keep: 30 * DAY,
            lines_per_second: 2_000,
        }
    }
}

/// How long closing waits for the disk.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
/// How many readers look into files, or for patterns, at the same time; others wait for their turn.
const SCANS: usize = 4;

/// Tells the time. Tests have one of their own.
type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The logs of all plugins; cloning shares them.
#[derive(Clone)]
pub struct Logs {
    shared: Arc<Shared>,
}

/// The log of one plugin, to append to; cloning shares it.
#[derive(Clone)]
pub struct PluginLog {
    shared: Arc<Shared>,
    journal: Arc<Journal>,
}

/// What was lost since the host started, for telemetry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogCounters {
    /// Lines that no file holds.
    pub unwritten: u64,
    /// Lines of instances that logged too fast: nowhere at all.
    pub left_out: u64,
    /// Failed operations on log files.
    pub disk_errors: u64,
}

struct Shared {
    plugins: PathBuf,
    settings: LogSettings,
    clock: Clock,
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    scans: Arc<Semaphore>,
    journals: Mutex<HashMap<PluginName, Arc<Journal>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Counters {
    unwritten: AtomicU64,
    left_out: AtomicU64,
    disk_errors: AtomicU64,
}

impl std::fmt::Debug for Logs {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Logs").field("plugins", &self.shared.plugins).finish_non_exhaustive()
    }
}

impl Logs {
    /// Opens the logs below `plugins`, where those of a plugin are in `NAME/logs`, and starts the
    /// thread that writes them.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn open(plugins: &Path, settings: LogSettings) -> io::Result<Self> {
        Self::open_at(plugins, settings, Arc::new(Timestamp::now), Evenness::default())
    }

    fn open_at(
        plugins: &Path,
        settings: LogSettings,
        clock: Clock,
        evenness: Evenness,
    ) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let counters = Arc::new(Counters::default());
        let writer = writer::Writer::new(
            Arc::clone(&queue),
            Arc::clone(&counters),
            plugins,
            &settings,
            Arc::clone(&clock),
            evenness,
        );
        let thread =
            std::thread::Builder::new().name("log-writer".to_owned()).spawn(move || writer.run())?;
        let shared = Shared {
            plugins: plugins.to_owned(),
            settings,
            clock,
            queue,
            counters,
            scans: Arc::new(Semaphore::new(SCANS)),
            journals: Mutex::default(),
            thread: Mutex::new(Some(thread)),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The log of one plugin, to append to. The first call for a plugin reads the end of its newest
    /// file, to go on with its numbers.
    pub fn plugin(&self, plugin: &PluginName) -> PluginLog {
        PluginLog { shared: Arc::clone(&self.shared), journal: self.journal(plugin) }
    }

    /// The last `backlog` lines and everything that comes after them.
    pub async fn subscribe(&self, plugin: &PluginName, backlog: usize) -> (LogPage, Subscription) {
        let page = self.tail(plugin, backlog).await;
        let journal = self.journal(plugin);
        let after = page.lines.last().map_or_else(|| journal.last_seq(), |line| line.seq);
        (page, Subscription::new(journal, after))
    }

    /// Everything with a number above `seq` that is still in memory, and all that comes: what follows
    /// [`Logs::since`] without a hole.
    pub fn subscribe_after(&self, plugin: &PluginName, seq: u64) -> Subscription {
        let journal = self.journal(plugin);
        let after = journal.known(seq);
        Subscription::new(journal, after)
    }

    /// The number of a plugin's newest line; 0 if it has none.
    pub fn newest(&self, plugin: &PluginName) -> u64 {
        self.journal(plugin).last_seq()
    }

    /// Where a reader goes on who has the line `seq`: there, or at the end of what the last host left, if
    /// this plugin has not reached that number.
    pub fn position(&self, plugin: &PluginName, seq: u64) -> u64 {
        self.journal(plugin).known(seq)
    }

    /// The same of a reader who has the line from another host: at the end of what that one left, if it
    /// died before it wrote the line.
    pub fn inherited_position(&self, plugin: &PluginName, seq: u64) -> u64 {
        self.journal(plugin).inherited(seq)
    }

    /// What was lost so far.
    pub fn counters(&self) -> LogCounters {
        let counters = &self.shared.counters;
        LogCounters {
            unwritten: counters.unwritten.load(Ordering::Relaxed),
            left_out: counters.left_out.load(Ordering::Relaxed),
            disk_errors: counters.disk_errors.load(Ordering::Relaxed),
        }
    }

    /// Writes what is waiting, ends the writing thread and every subscription. Lines that come later
    /// stay in memory. Blocks for at most five seconds, so not for an async task; says whether the
    /// thread was done by then. A second call does nothing.
    pub fn close(&self) -> bool {
        let is_written = self.shared.queue.close(CLOSE_WITHIN);
        let thread = self.shared.thread.lock().expect("no holder of the lock panics").take();
        if let Some(thread) = thread.filter(|_| is_written)
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes logs panicked");
        }
        for journal in self.shared.journals.lock().expect("no holder of the lock panics").values() {
            journal.close();
        }
        is_written
    }

    fn journal(&self, plugin: &PluginName) -> Arc<Journal> {
        let mut journals = self.shared.journals.lock().expect("no holder of the lock panics");
        if let Some(journal) = journals.get(plugin) {
            return Arc::clone(journal);
        }
        let directory = self.shared.plugins.join(plugin.as_str()).join("logs");
        let journal = Arc::new(Journal::open(
            plugin.clone(),
            directory,
            self.shared.settings.ring_lines,
            Arc::clone(&self.shared.clock),
        ));
        journals.insert(plugin.clone(), Arc::clone(&journal));
        journal
    }
}

impl PluginLog {
    /// Adds a line: to memory, to whoever follows, and to what is to be written. Never blocks. An
    /// instance that logs faster than it may loses lines, which are counted.
    pub fn append(&self, line: NewLine) {
        let Shared { settings, queue, counters, .. } = &*self.shared;
        let left_out = match self.journal.admit(&line, Instant::now(), settings.lines_per_second) {
            rate::Verdict::Pass { left_out_before } => left_out_before,
            rate::Verdict::LeaveOut => {
                counters.left_out.fetch_add(1, Ordering::Relaxed);
                queue.owe(&self.journal);
                return;
            }
        };
        if left_out > 0 {
            let notice = NewLine::left_out(left_out, settings.lines_per_second, line.instance);
            self.journal.append(notice, queue, counters);
        }
        self.journal.append(line, queue, counters);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Without waiting: whoever wants the last lines on disk calls `close`.
        self.queue.begin_close();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bkg_protocol::InstanceId;
    use bkg_protocol::message::LogLevel;

    use super::*;

    struct Case {
        directory: tempfile::TempDir,
        settings: LogSettings,
        logs: Logs,
    }

    impl Case {
        fn new() -> Self {
            Self::with(|_| ())
        }

        fn with(change: impl FnOnce(&mut LogSettings)) -> Self {
            let mut settings = LogSettings { lines_per_second: 1_000_000, ..LogSettings::default() };
            change(&mut settings);
            let directory = tempfile::tempdir().unwrap();
            let logs = Logs::open(directory.path(), settings.clone()).unwrap();
            Self { directory, settings, logs }
        }

        /// The next host on the same directory, after this one was closed.
        fn restart(self) -> Self {
            assert!(self.logs.close());
            self.restart_after_kill()
        }

        /// The next host on the same directory, without a proper end of this one.
        fn restart_after_kill(self) -> Self {
            let logs = Logs::open(self.directory.path(), self.settings.clone()).unwrap();
            Self { logs, ..self }
        }

        fn log(&self, messages: impl IntoIterator<Item = impl AsRef<str>>) {
            let log = self.logs.plugin(&plugin());
            for message in messages {
                log.append(NewLine::host(LogLevel::Info, message.as_ref()));
            }
        }

        fn files(&self) -> Vec<PathBuf> {
            let directory = self.directory.path().join("ping/logs");
            let mut files: Vec<_> =
                fs::read_dir(directory).unwrap().map(|item| item.unwrap().path()).collect();
            files.sort();
            files
        }
    }

    fn plugin() -> PluginName {
        "ping".parse().unwrap()
    }

    fn numbered(range: std::ops::RangeInclusive<u64>) -> impl Iterator<Item = String> {
        range.map(|number| format!("line {number}"))
    }

    fn messages(page: &LogPage) -> Vec<&str> {
        page.lines.iter().map(|line| line.message.as_str()).collect()
    }

    fn seqs(page: &LogPage) -> Vec<u64> {
        page.lines.iter().map(|line| line.seq).collect()
    }

    #[tokio::test]
    async fn the_tail_is_read_from_memory() {
        let case = Case::new();
        case.log(numbered(1..=5));
        let page = case.logs.tail(&plugin(), 2).await;
        assert_eq!((messages(&page), seqs(&page), page.missing), (vec!["line 4", "line 5"], vec![4, 5], 0));
        assert_eq!(case.logs.tail(&"other".parse().unwrap(), 2).await, LogPage::default());
        let none = case.logs.tail(&plugin(), 0).await;
        assert_eq!((seqs(&none), none.reached, none.next), (vec![], 5, None));
    }

    #[tokio::test]
    async fn what_left_the_ring_is_read_from_the_files() {
        let case = Case::with(|settings| settings.ring_lines = 3);
        case.log(numbered(1..=10));
        let page = case.logs.tail(&plugin(), 5).await;
        assert_eq!((seqs(&page), page.missing), (vec![6, 7, 8, 9, 10], 0));
        let page = case.logs.since(&plugin(), 2, 4).await;
        assert_eq!((seqs(&page), page.missing), (vec![3, 4, 5, 6], 0));
        let page = case.logs.since(&plugin(), 6, 100).await;
        assert_eq!((seqs(&page), page.missing), (vec![7, 8, 9, 10], 0));
        let page = case.logs.since(&plugin(), 10, 100).await;
        assert_eq!(page, LogPage { reached: 10, ..LogPage::default() });
    }

    #[tokio::test]
    async fn what_is_nowhere_any_more_is_counted_as_missing() {
        let case = Case::new();
        case.log(numbered(1..=5));
        assert!(case.logs.close());
        let file = &case.files()[0];
        let text = fs::read_to_string(file).unwrap();
        fs::write(file, text.lines().last().unwrap().to_owned() + "\n").unwrap();
        let case = case.restart_after_kill();
        let page = case.logs.since(&plugin(), 1, 100).await;
        assert_eq!((seqs(&page), page.missing), (vec![5], 3));

        fs::write(&case.files()[0], "").unwrap();
        let page = case.logs.since(&plugin(), 1, 100).await;
        assert_eq!((seqs(&page), page.missing), (vec![], 4));
    }

    #[tokio::test]
    async fn a_page_that_is_full_of_long_lines_goes_on_with_the_next() {
        let case = Case::with(|settings| {
            settings.ring_lines = 1;
            settings.segments = 100;
        });
        let long = "x".repeat(60_000);
        for _ in 0..4 {
            case.log(std::iter::repeat_n(&long, 50));
            assert!(case.logs.shared.queue.flush(CLOSE_WITHIN));
        }
        let (mut after, mut pages) = (0, 0);
        while after < 200 {
            let page = case.logs.since(&plugin(), after, 1_000).await;
            assert_eq!((page.lines[0].seq, page.missing), (after + 1, 0));
            after = page.lines.last().unwrap().seq;
            pages += 1;
        }
        assert!(pages > 1, "one page would hold {} MB", 200 * 60_000 / 1_000_000);
    }

    #[tokio::test]
    async fn numbers_and_lines_go_on_after_a_restart() {
        let case = Case::new();
        case.log(numbered(1..=3));
        let case = case.restart();
        case.log(numbered(4..=5));
        let page = case.logs.tail(&plugin(), 100).await;
        assert_eq!(messages(&page), ["line 1", "line 2", "line 3", "line 4", "line 5"]);
        assert_eq!(seqs(&page), [1, 2, 3, 4, 5]);
        let case = case.restart();
        assert_eq!(seqs(&case.logs.since(&plugin(), 3, 100).await), [4, 5]);
        assert_eq!(case.files().len(), 1, "a restart alone begins no new file");
    }

    #[tokio::test]
    async fn a_torn_last_line_costs_that_line_only() {
        let case = Case::new();
        case.log(numbered(1..=3));
        assert!(case.logs.close());
        let file = &case.files()[0];
        let whole = fs::read(file).unwrap();
        fs::write(file, &whole[..whole.len() - 9]).unwrap();

        let case = case.restart_after_kill();
        case.log(["after"]);
        let case = case.restart();
        let page = case.logs.tail(&plugin(), 100).await;
        assert_eq!(messages(&page), ["line 1", "line 2", "after"]);
        assert_eq!((seqs(&page), page.missing), (vec![1, 2, 4], 1), "3 was taken, whoever saw it");
    }

    #[tokio::test]
    async fn a_reader_from_before_a_crash_gets_what_came_since() {
        let case = Case::new();
        case.log(numbered(1..=3));
        let case = case.restart();
        case.log(["new"]);
        let page = case.logs.since(&plugin(), 1000, 100).await;
        assert_eq!((messages(&page), page.missing), (vec!["new"], 0));
    }

    #[tokio::test]
    async fn files_are_bounded_in_size_and_number() {
        let case = Case::with(|settings| {
            settings.ring_lines = 1;
            settings.segment_bytes = 2_000;
            settings.segments = 3;
        });
        case.log(numbered(1..=200));
        assert!(case.logs.close());
        let sizes: Vec<_> = case.files().iter().map(|file| fs::metadata(file).unwrap().len()).collect();
        assert_eq!(sizes.len(), 3);
        assert!(sizes.iter().all(|size| (1..=2_000).contains(size)), "{sizes:?}");

        let page = case.logs.since(&plugin(), 0, 1_000).await;
        let first = page.lines[0].seq;
        assert_eq!(seqs(&page), (first..=200).collect::<Vec<_>>());
        assert_eq!(page.missing, first - 1, "what was rotated away is counted");
        assert!(first > 100);
    }

    #[tokio::test]
    async fn a_follower_gets_the_backlog_and_then_every_line() {
        let case = Case::new();
        case.log(numbered(1..=3));
        let (page, mut subscription) = case.logs.subscribe(&plugin(), 2).await;
        assert_eq!(messages(&page), ["line 2", "line 3"]);
        case.log(["line 4"]);
        let Some(Followed::Line(line)) = subscription.next().await else { panic!() };
        assert_eq!((line.seq, line.message.as_str()), (4, "line 4"));

        let next = tokio::spawn(async move { (subscription.next().await, subscription) });
        tokio::task::yield_now().await;
        case.log(["line 5"]);
        let (Some(Followed::Line(line)), mut subscription) = next.await.unwrap() else { panic!() };
        assert_eq!(line.seq, 5);

        assert!(case.logs.close());
        assert!(subscription.next().await.is_none());
    }

    #[tokio::test]
    async fn a_follower_that_lags_is_told_how_much_it_missed() {
        let case = Case::with(|settings| settings.ring_lines = 4);
        let mut subscription = case.logs.subscribe_after(&plugin(), 0);
        case.log(numbered(1..=10));
        let Some(Followed::Gap { lines }) = subscription.next().await else { panic!() };
        assert_eq!(lines, 6);
        for expected in 7..=10 {
            let Some(Followed::Line(line)) = subscription.next().await else { panic!() };
            assert_eq!(line.seq, expected);
        }
    }

    #[tokio::test]
    async fn an_instance_that_floods_is_sampled_and_the_rest_is_counted() {
        let case = Case::with(|settings| settings.lines_per_second = 10);
        let log = case.logs.plugin(&plugin());
        let (flood, quiet) = (InstanceId::new(), InstanceId::new());
        for _ in 0..5_000 {
            log.append(NewLine::raw(LogStream::Stdout, SplitLine::of("flood")).instance(flood));
        }
        log.append(NewLine::raw(LogStream::Stdout, SplitLine::of("quiet")).instance(quiet));
        log.append(NewLine::host(LogLevel::Info, "the host is never left out"));
        assert!(case.logs.close());

        let page = case.logs.tail(&plugin(), 10_000).await;
        let kept = page.lines.iter().filter(|line| line.message == "flood").count() as u64;
        let said: u64 = page
            .lines
            .iter()
            .filter(|line| line.stream == LogStream::Host && line.instance == Some(flood))
            .map(|line| line.message.split(' ').next().unwrap().parse::<u64>().unwrap())
            .sum();
        assert_eq!(kept + said, 5_000);
        assert_eq!(case.logs.counters().left_out, said);
        assert!((10..1_000).contains(&kept), "{kept}");
        assert!(
            messages(&page).contains(&"quiet") && messages(&page).contains(&"the host is never left out")
        );
    }

    #[test]
    fn a_flood_faster_than_the_disk_is_written_or_counted_in_the_log_itself() {
        let case = Case::with(|settings| settings.segment_bytes = 64 << 20);
        let log = case.logs.plugin(&plugin());
        let big = "x".repeat(60_000);
        for _ in 0..200 {
            log.append(NewLine::host(LogLevel::Info, &big));
        }
        assert!(case.logs.close());
        let text = case.files().iter().map(|file| fs::read_to_string(file).unwrap()).collect::<String>();
        let lines: Vec<LogLine> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(lines.is_sorted_by(|one, next| one.seq < next.seq));
        let unwritten = case.logs.counters().unwritten;
        assert_eq!(lines.len() as u64 + unwritten, case.logs.journal(&plugin()).last_seq());
        let said: u64 = lines
            .iter()
            .filter(|line| line.message.contains("missing from the log files"))
            .map(|line| line.message.split(' ').next().unwrap().parse::<u64>().unwrap())
            .sum();
        assert_eq!(said, unwritten);
    }

    #[tokio::test]
    async fn without_a_disk_logging_goes_on_in_memory() {
        let case = Case::new();
        let directory = case.directory.path().join("ping");
        fs::write(&directory, "a file where the directory should be").unwrap();
        case.log(numbered(1..=3));
        case.logs.shared.queue.flush(CLOSE_WITHIN);
        let page = case.logs.tail(&plugin(), 10).await;
        assert_eq!(seqs(&page), [1, 2, 3]);
        assert_eq!(case.logs.counters().unwritten, 3);
        assert!(case.logs.counters().disk_errors > 0);

        // When the disk is back, the files say what they lack.
        fs::remove_file(&directory).unwrap();
        case.log(["back"]);
        let case = case.restart();
        assert_eq!(
            messages(&case.logs.tail(&plugin(), 10).await),
            ["back", "3 lines are missing from the log files: the disk did not take them"]
        );
    }

    #[tokio::test]
    async fn log_files_that_were_deleted_are_begun_anew() {
        let case = Case::new();
        case.log(["before"]);
        case.logs.shared.queue.flush(CLOSE_WITHIN);
        fs::remove_dir_all(case.directory.path().join("ping")).unwrap();
        case.log(["after"]);
        let case = case.restart();
        assert_eq!(messages(&case.logs.tail(&plugin(), 10).await), ["after"]);
    }

    #[test]
    fn closing_twice_and_logging_afterwards_harm_nothing() {
        let case = Case::new();
        assert!(case.logs.close());
        case.log(["late"]);
        assert!(case.logs.close());
        assert_eq!(case.logs.journal(&plugin()).last_seq(), 1);
        assert_eq!(case.logs.counters().unwritten, 1);
    }

    #[tokio::test]
    async fn the_newest_line_is_served_even_if_it_alone_is_in_memory() {
        let case = Case::with(|settings| settings.ring_lines = 1);
        case.log(numbered(1..=4));
        let (page, mut subscription) = case.logs.subscribe(&plugin(), 0).await;
        assert_eq!(page, LogPage { reached: 4, ..LogPage::default() });
        case.log(["line 5"]);
        let Some(Followed::Line(line)) = subscription.next().await else { panic!() };
        assert_eq!(line.seq, 5);
    }

    fn filtered(change: impl FnOnce(&mut LogFilter)) -> Arc<LogFilter> {
        let mut filter = LogFilter::default();
        change(&mut filter);
        Arc::new(filter)
    }

    fn finds(regex: &str) -> Arc<LogFilter> {
        Arc::new(LogFilter::default().with_regex(regex).unwrap())
    }

    async fn read(case: &Case, filter: &Arc<LogFilter>, span: LogSpan, count: usize) -> LogPage {
        case.logs.read(&plugin(), LogQuery::new(Arc::clone(filter), span, count)).await
    }

    #[tokio::test]
    async fn a_filter_counts_before_the_tail_does() {
        let case = Case::with(|settings| settings.ring_lines = 20);
        let log = case.logs.plugin(&plugin());
        for number in 1..=100 {
            let level = if number % 10 == 0 { LogLevel::Warn } else { LogLevel::Info };
            log.append(NewLine::host(level, format!("line {number}")));
        }
        let warnings = filtered(|filter| filter.level = Some(LogLevel::Warn));
        let page = read(&case, &warnings, LogSpan::NEWEST, 4).await;
        assert_eq!((seqs(&page), page.missing, page.reached), (vec![70, 80, 90, 100], 0, 100));
        assert_eq!(page.next, Some(NextPage::Before(70)));
        let page = read(&case, &warnings, LogSpan::Before(70), 100).await;
        assert_eq!((seqs(&page), page.next), ((10..70).step_by(10).collect(), None));
        let page = read(&case, &finds("5$"), LogSpan::since(50), 3).await;
        assert_eq!((seqs(&page), page.missing, page.reached), (vec![55, 65, 75], 0, 75));
        assert_eq!(page.next, Some(NextPage::Since(75)));
        let page = read(&case, &finds("nowhere"), LogSpan::NEWEST, 3).await;
        assert_eq!((seqs(&page), page.missing, page.next), (vec![], 0, None));
        let page = read(&case, &warnings, LogSpan::After { after: 15, to: 40 }, 100).await;
        assert_eq!((seqs(&page), page.reached, page.next), (vec![20, 30, 40], 40, None));
    }

    #[tokio::test]
    async fn pages_in_either_direction_give_every_line_once() {
        for ring_lines in [1, 7, 2_000] {
            let case = Case::with(|settings| {
                settings.ring_lines = ring_lines;
                settings.segment_bytes = 3_000;
                settings.segments = 100;
            });
            case.log(numbered(1..=150));
            for (filter, expected) in [
                (Arc::default(), (1..=150).collect::<Vec<u64>>()),
                (finds("[37]$"), (1..=150).filter(|seq| matches!(seq % 10, 3 | 7)).collect()),
            ] {
                let (mut span, mut found) = (LogSpan::since(0), Vec::new());
                loop {
                    let page = read(&case, &filter, span, 11).await;
                    assert_eq!(page.missing, 0);
                    found.extend(seqs(&page));
                    let Some(NextPage::Since(seq)) = page.next else { break };
                    span = LogSpan::since(seq);
                }
                assert_eq!(found, expected);
                let (mut span, mut found) = (LogSpan::NEWEST, Vec::new());
                loop {
                    let page = read(&case, &filter, span, 11).await;
                    assert_eq!(page.missing, 0);
                    found.splice(0..0, seqs(&page));
                    let Some(NextPage::Before(seq)) = page.next else { break };
                    span = LogSpan::Before(seq);
                }
                assert_eq!(found, expected);
            }
        }
    }

    #[tokio::test]
    async fn a_follower_that_falls_behind_the_ring_reads_the_files() {
        let case = Case::with(|settings| settings.ring_lines = 4);
        let cursor = [(plugin(), 10)].into_iter().collect();
        case.log(numbered(1..=20));
        let mut follower = case.logs.follow([&plugin()], &cursor, finds("[05]$"));
        for (seq, position) in [(15, 19), (20, 20)] {
            let Some(News::Line(line)) = follower.next().await else { panic!() };
            assert_eq!((line.seq, follower.position()), (seq, position), "what is left out is passed");
        }
        case.log(numbered(21..=39));
        let Some(News::Line(line)) = follower.next().await else { panic!() };
        assert_eq!(line.seq, 25);
        assert!(case.logs.close());
        let rest = [follower.next().await, follower.next().await, follower.next().await];
        assert!(matches!(&rest, [Some(News::Line(line)), Some(News::Line(_)), None] if line.seq == 30));
    }

    #[tokio::test]
    async fn a_follower_that_waits_is_woken_by_each_of_its_plugins() {
        let case = Case::new();
        let plugins: Vec<PluginName> = ["a", "b", "c"].map(|name| name.parse().unwrap()).into();
        let mut follower = case.logs.follow(&plugins, &Cursor::default(), finds("told"));
        for round in 0..3 {
            for name in &plugins {
                let waiting = tokio::spawn(async move { (follower.next().await, follower) });
                tokio::task::yield_now().await;
                let log = case.logs.plugin(name);
                log.append(NewLine::host(LogLevel::Info, "left out"));
                tokio::task::yield_now().await;
                log.append(NewLine::host(LogLevel::Info, format!("told in {round}")));
                let told;
                (told, follower) = waiting.await.unwrap();
                let Some(News::Line(line)) = told else { panic!() };
                assert_eq!(
                    (&line.plugin, line.message.as_str()),
                    (name, format!("told in {round}").as_str())
                );
            }
        }
    }

    #[tokio::test]
    async fn a_follower_is_told_what_is_nowhere_any_more() {
        let case = Case::with(|settings| {
            settings.ring_lines = 1;
            settings.segment_bytes = 500;
            settings.segments = 2;
        });
        case.log(numbered(1..=50));
        let mut follower = case.logs.follow([&plugin()], &Cursor::default(), Arc::default());
        let Some(News::Gap { lines, .. }) = follower.next().await else { panic!() };
        for expected in lines + 1..=50 {
            let Some(News::Line(line)) = follower.next().await else { panic!() };
            assert_eq!(line.seq, expected);
        }
    }

    /// Three plugins that log in turns, one line a second.
    fn three_in_turns(count: u64) -> (Case, Vec<PluginName>) {
        let second = Arc::new(AtomicU64::new(0));
        let ticks = Arc::clone(&second);
        let clock = move || Timestamp::from_second(ticks.fetch_add(1, Ordering::Relaxed) as i64).unwrap();
        let settings = LogSettings { ring_lines: 5, lines_per_second: 1_000_000, ..LogSettings::default() };
        let directory = tempfile::tempdir().unwrap();
        let logs = Logs::open_at(directory.path(), settings.clone(), Arc::new(clock), Evenness::default())
            .unwrap();
        let plugins: Vec<PluginName> = ["a", "b", "c"].map(|name| name.parse().unwrap()).into();
        for number in 0..count {
            let log = logs.plugin(&plugins[(number * number % 7 % 3) as usize]);
            log.append(NewLine::host(LogLevel::Info, number.to_string()));
        }
        (Case { directory, settings, logs }, plugins)
    }

    fn numbers(lines: &[Arc<LogLine>]) -> Vec<u64> {
        lines.iter().map(|line| line.message.parse().unwrap()).collect()
    }

    #[tokio::test]
    async fn merged_pages_give_every_line_once_and_by_time() {
        let (case, plugins) = three_in_turns(100);
        for (filter, expected) in [
            (Arc::default(), (0..100).collect::<Vec<u64>>()),
            (finds("[37]$"), (0..100).filter(|number| matches!(number % 10, 3 | 7)).collect()),
        ] {
            let read = async |span: &MergedSpan| {
                case.logs.read_merged(&plugins, Arc::clone(&filter), span, 9).await
            };
            let (mut span, mut found) = (MergedSpan::After(Cursor::default()), Vec::new());
            loop {
                let page = read(&span).await;
                found.extend(numbers(&page.lines));
                let Some(NextMergedPage::Since(cursor)) = page.next else { break };
                span = MergedSpan::After(cursor.to_string().parse().unwrap());
            }
            assert_eq!(found, expected);
            let (mut span, mut found) = (MergedSpan::Before(Cursor::default()), Vec::new());
            loop {
                let page = read(&span).await;
                found.splice(0..0, numbers(&page.lines));
                let Some(NextMergedPage::Before(cursor)) = page.next else { break };
                span = MergedSpan::Before(cursor.to_string().parse().unwrap());
            }
            assert_eq!(found, expected);
        }
    }

    #[tokio::test]
    async fn a_merged_follower_goes_on_from_any_of_its_cursors() {
        let (case, plugins) = three_in_turns(60);
        let mut whole = case.logs.follow_tail(&plugins, 40, Arc::default()).await;
        let mut cursors = vec![whole.cursor()];
        for expected in 20..60 {
            let Some(News::Line(line)) = whole.next().await else { panic!() };
            assert_eq!(line.message, expected.to_string());
            cursors.push(whole.cursor());
        }
        for (told, cursor) in cursors.iter().enumerate() {
            let mut resumed = case.logs.follow(&plugins, cursor, Arc::default());
            for expected in 20 + told..60 {
                let Some(News::Line(line)) = resumed.next().await else { panic!() };
                assert_eq!(line.message, expected.to_string());
            }
            assert!(resumed.ready().await.is_none());
        }
    }

    #[tokio::test]
    async fn what_is_too_old_goes_while_its_plugin_is_silent_or_gone() {
        let case = Case::new();
        case.log(numbered(1..=3));
        assert!(case.logs.close());
        let gone = case.directory.path().join("gone/logs");
        fs::create_dir_all(&gone).unwrap();
        fs::copy(&case.files()[0], gone.join("00000000000000000001.jsonl")).unwrap();
        let days = |days: i64| move || Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);

        let open = |evenness, clock: Clock| {
            Logs::open_at(case.directory.path(), case.settings.clone(), clock, evenness)
        };
        let even = |clock: &dyn Fn() -> Timestamp| Evenness::long(Instant::now(), clock());
        let logs = open(even(&days(29)), Arc::new(days(29)));
        let case = Case { logs: logs.unwrap(), ..case };
        assert!(case.logs.close());
        assert_eq!(seqs(&case.logs.since(&plugin(), 0, 10).await), [1, 2, 3]);

        // A clock that was only just set is not believed.
        let open = |evenness, clock: Clock| {
            Logs::open_at(case.directory.path(), case.settings.clone(), clock, evenness)
        };
        let set = open(even(&days(29)), Arc::new(days(31))).unwrap();
        assert!(set.close());
        assert!(fs::metadata(gone.join("00000000000000000001.jsonl")).unwrap().len() > 0);
        let logs = open(even(&days(31)), Arc::new(days(31)));
        let case = Case { logs: logs.unwrap(), ..case };
        assert!(case.logs.close());
        let page = case.logs.since(&plugin(), 0, 10).await;
        assert_eq!((seqs(&page), page.missing, page.reached), (vec![], 3, 3));
        let left: u64 =
            fs::read_dir(gone).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert_eq!(left, 0);

        let case = case.restart_after_kill();
        case.log(["line 4"]);
        assert_eq!(seqs(&case.logs.tail(&plugin(), 10).await), [4], "numbers go on");
    }

    #[tokio::test]
    async fn a_file_of_another_name_is_no_segment() {
        let case = Case::with(|settings| (settings.segments, settings.segment_bytes) = (2, 200));
        case.log(numbered(1..=2));
        assert!(case.logs.shared.queue.flush(CLOSE_WITHIN));
        for name in ["1.jsonl", "+7.jsonl", "99999.jsonl", "18446744073709551615.jsonl"] {
            fs::write(case.directory.path().join("ping/logs").join(name), "").unwrap();
        }
        let case = case.restart();
        case.log(numbered(3..=20));
        assert!(case.logs.shared.queue.flush(CLOSE_WITHIN));
        assert_eq!(case.logs.counters(), LogCounters::default());
        assert_eq!(case.logs.newest(&plugin()), 20);
    }

    #[tokio::test]
    async fn a_number_of_a_host_that_was_killed_is_not_one_of_the_next_host() {
        let case = Case::new();
        case.log(numbered(1..=5));
        // The reader has line 5, which never reached the file.
        assert!(case.logs.close());
        let file = &case.files()[0];
        let text = fs::read_to_string(file).unwrap();
        fs::write(file, text.lines().take(3).map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        let case = case.restart_after_kill();
        case.log(numbered(4..=10));
        assert_eq!(case.logs.position(&plugin(), 5), 5, "the number alone says nothing of its host");
        assert_eq!(case.logs.inherited_position(&plugin(), 5), 3);
        assert_eq!(case.logs.inherited_position(&plugin(), 2), 2);
    }
}
