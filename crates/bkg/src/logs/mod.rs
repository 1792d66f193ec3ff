//! The log lines of plugins: what they print, what they send over the bus, what the host says of them.
//!
//! Each plugin has a ring in memory, numbered without a hole and going on where the last host stopped,
//! and bounded files that one background thread writes. Not the host's own log: that is `tracing`. The
//! invariants: appending never waits for the disk, memory and disk are bounded whatever a plugin does,
//! and what was left out is counted and said. `supervisor` feeds output, `bus` feeds `log` messages,
//! `admin` reads and follows.

mod journal;
mod line;
mod queue;
mod rate;
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
use serde::Serialize;

use journal::Journal;
use queue::Queue;

pub use journal::{Followed, Subscription};
pub use line::{LogLine, LogStream, MAX_MESSAGE_BYTES, NewLine, printable};
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
    /// How many lines a second an instance may log before only a sample is kept.
    pub lines_per_second: u32,
}

/// The most lines that one reading gives.
pub const MAX_PAGE_LINES: usize = 10_000;

/// How long closing waits for the disk.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
/// How long a reader waits until what was just appended is in the files.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

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

/// Some lines of one plugin, oldest first.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogPage {
    /// The lines.
    #[serde(serialize_with = "line::as_lines")]
    pub lines: Vec<Arc<LogLine>>,
    /// How many lines between the first asked for and the last given are no longer kept, or never
    /// reached the files.
    pub missing: u64,
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
    queue: Arc<Queue>,
    counters: Arc<Counters>,
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
        let queue = Arc::new(Queue::default());
        let counters = Arc::new(Counters::default());
        let writer = writer::Writer::new(Arc::clone(&queue), Arc::clone(&counters), &settings);
        let thread =
            std::thread::Builder::new().name("log-writer".to_owned()).spawn(move || writer.run())?;
        let shared = Shared {
            plugins: plugins.to_owned(),
            settings,
            queue,
            counters,
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

    /// The last `count` lines, at most [`MAX_PAGE_LINES`].
    pub async fn tail(&self, plugin: &PluginName, count: usize) -> LogPage {
        let count = count.min(MAX_PAGE_LINES);
        let journal = self.journal(plugin);
        let (newest, oldest_seq) = journal.last(count);
        let mut lines = Vec::new();
        if newest.len() < count && oldest_seq > 1 {
            let wanted = count - newest.len();
            let read = move |directory: &Path| segments::tail(directory, wanted, oldest_seq);
            lines = self.read_files(journal, read).await.lines;
        }
        lines.extend(newest);
        let before_first = lines.first().map_or(0, |line| line.seq - 1);
        LogPage::new(lines, before_first)
    }

    /// At most `count` lines, and [`MAX_PAGE_LINES`], with numbers above `seq`. A number that this
    /// plugin has not reached comes from a host that died before it wrote its last lines: the answer
    /// then starts with the first line of the present one.
    pub async fn since(&self, plugin: &PluginName, seq: u64, count: usize) -> LogPage {
        let count = count.min(MAX_PAGE_LINES);
        let journal = self.journal(plugin);
        let after = journal.known(seq);
        let (newest, oldest_seq) = journal.after(after, count);
        let mut reading = segments::Reading::default();
        if after + 1 < oldest_seq {
            let read = move |directory: &Path| segments::since(directory, after, count, oldest_seq);
            reading = self.read_files(journal, read).await;
        }
        let mut lines = reading.lines;
        if !reading.is_cut {
            let room = count - lines.len();
            lines.extend(newest.into_iter().take(room));
        }
        if lines.is_empty() && count > 0 {
            return LogPage { lines, missing: (oldest_seq - 1).saturating_sub(after) };
        }
        LogPage::new(lines, after)
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
        let journal = Arc::new(Journal::open(plugin.clone(), directory, self.shared.settings.ring_lines));
        journals.insert(plugin.clone(), Arc::clone(&journal));
        journal
    }

    async fn read_files(
        &self,
        journal: Arc<Journal>,
        read: impl FnOnce(&Path) -> segments::Reading + Send + 'static,
    ) -> segments::Reading {
        let shared = Arc::clone(&self.shared);
        let reading = tokio::task::spawn_blocking(move || {
            // What has left the ring may still wait for the disk.
            shared.queue.flush(FLUSH_WITHIN);
            let reading = read(journal.directory());
            shared.counters.disk_errors.fetch_add(reading.errors, Ordering::Relaxed);
            reading
        });
        match reading.await {
            Ok(reading) => reading,
            // Only when the runtime is being dropped: nobody waits for the lines.
            Err(error) if error.is_cancelled() => segments::Reading::default(),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

impl LogPage {
    fn new(lines: Vec<Arc<LogLine>>, before_first: u64) -> Self {
        let covered = lines.last().map_or(0, |line| line.seq - before_first);
        Self { missing: covered.saturating_sub(lines.len() as u64), lines }
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
            let mut settings = LogSettings {
                ring_lines: 2_000,
                segment_bytes: 4 << 20,
                segments: 8,
                lines_per_second: 1_000_000,
            };
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
        assert_eq!(case.logs.tail(&plugin(), 0).await, LogPage::default());
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
        assert_eq!(page, LogPage::default());
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
        assert_eq!(page, LogPage::default());
        case.log(["line 5"]);
        let Some(Followed::Line(line)) = subscription.next().await else { panic!() };
        assert_eq!(line.seq, 5);
    }
}
