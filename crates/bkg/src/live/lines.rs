//! One socket's place in one plugin's log: batches of lines, and how much was missed.
//!
//! Holds a number and next to no lines of its own: what a slow socket has not taken stays in the log's
//! memory until that has no room for it. The invariant: every line after the place is sent once, in
//! order, or counted in a gap that stands where it would have been.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bkg_protocol::PluginName;
use bkg_protocol::message::LogLevel;
use futures_util::FutureExt;
use tokio::time::{Instant, sleep_until};

use super::message::{LogBatch, ServerMessage, Text, Topic};
use crate::logs::{Followed, LogLine, Logs, Subscription};
use crate::metrics::Metrics;

/// The most lines of one message.
const BATCH_LINES: usize = 256;
/// From how many bytes of text on no further line is added to a message.
const BATCH_BYTES: usize = 256 << 10;
/// How long lines gather after a message: many small ones cost more than the lines themselves.
const GATHER: Duration = Duration::from_millis(50);
/// How many lines at most are read from files for one subscription.
const MOST_CAUGHT_UP: u64 = 10_000;

/// One socket's place in one plugin's log.
pub(super) struct LogFeed {
    logs: Logs,
    plugin: PluginName,
    least: LogLevel,
    /// The number of the last line that was looked at.
    position: u64,
    /// Up to which number lines are taken from the files too; what comes later, from memory alone.
    catch_up_to: u64,
    subscription: Option<Subscription>,
    /// When the next message may go.
    gathered: Instant,
    /// Made and not yet taken: a gap and the lines around it.
    ready: VecDeque<Text>,
    /// Where it is counted what was missed.
    metrics: Arc<Metrics>,
}

impl LogFeed {
    /// What comes after the line `after`; from now on, if there is none. Answers the number too that it
    /// goes on from.
    pub(super) fn new(
        logs: &Logs,
        plugin: &PluginName,
        after: Option<u64>,
        least: LogLevel,
    ) -> (Self, u64) {
        let newest = logs.newest(plugin);
        let position = after.map_or(newest, |seq| logs.position(plugin, seq));
        let feed = Self {
            logs: logs.clone(),
            plugin: plugin.clone(),
            least,
            position,
            catch_up_to: newest,
            subscription: None,
            gathered: Instant::now(),
            ready: VecDeque::new(),
            metrics: Arc::default(),
        };
        (feed, position)
    }

    /// The same, counting there what is missed.
    pub(super) fn counted(self, metrics: &Arc<Metrics>) -> Self {
        Self { metrics: Arc::clone(metrics), ..self }
    }

    /// The next message; `None` when the logs are closed.
    pub(super) async fn next(&mut self) -> Option<Text> {
        loop {
            if let Some(text) = self.ready.pop_front() {
                return Some(text);
            }
            if self.position < self.catch_up_to {
                self.catch_up().await;
            } else {
                self.follow().await?;
            }
        }
    }

    /// Takes a page of what came before the subscription.
    async fn catch_up(&mut self) {
        let behind = self.catch_up_to - self.position;
        if behind > MOST_CAUGHT_UP {
            self.skip(behind - MOST_CAUGHT_UP);
        }
        let before = self.position;
        let page = self.logs.since(&self.plugin, before, BATCH_LINES).await;
        let mut together = Vec::with_capacity(page.lines.len());
        for line in page.lines {
            let missed = line.seq.saturating_sub(self.position + 1);
            if missed > 0 {
                self.tell(std::mem::take(&mut together));
                self.tell_gap(missed);
            }
            self.position = self.position.max(line.seq);
            together.push(line);
        }
        self.tell(together);
        // What was looked at and is nowhere; a page always gets on.
        let reached = if page.reached > before { page.reached } else { self.catch_up_to };
        if reached > self.position {
            self.skip(reached - self.position);
        }
    }

    /// Waits for lines and takes what is there.
    async fn follow(&mut self) -> Option<()> {
        let subscription =
            self.subscription.get_or_insert_with(|| self.logs.subscribe_after(&self.plugin, self.position));
        sleep_until(self.gathered).await;
        let mut lines: Vec<Arc<LogLine>> = Vec::new();
        let mut missed = 0;
        let mut bytes = 0;
        let mut next = subscription.next().await;
        let is_open = loop {
            match next {
                None => break false,
                // A gap ends the message, so that it stands between what came before and after it.
                Some(Followed::Gap { lines }) => {
                    missed = lines;
                    break true;
                }
                Some(Followed::Line(line)) => {
                    bytes +=
                        line.message.len() + line.fields.as_ref().map_or(0, |json| json.as_str().len());
                    lines.push(line);
                }
            }
            if lines.len() >= BATCH_LINES || bytes >= BATCH_BYTES {
                break true;
            }
            match subscription.next().now_or_never() {
                Some(found) => next = found,
                None => {
                    self.gathered = Instant::now() + GATHER;
                    break true;
                }
            }
        };
        if let Some(last) = lines.last() {
            self.position = last.seq;
        }
        self.tell(lines);
        if missed > 0 {
            self.skip(missed);
        }
        (is_open || !self.ready.is_empty()).then_some(())
    }

    fn skip(&mut self, missed: u64) {
        self.position += missed;
        self.tell_gap(missed);
    }

    fn tell_gap(&mut self, missed: u64) {
        self.metrics.missed_live_events.add(missed);
        let gap =
            ServerMessage::Gap { topic: Topic::Logs, plugin_id: Some(self.plugin.to_string()), missed };
        self.ready.push_back(gap.text());
    }

    fn tell(&mut self, mut lines: Vec<Arc<LogLine>>) {
        lines.retain(|line| line.level >= self.least);
        if lines.is_empty() {
            return;
        }
        let message = ServerMessage::Logs {
            topic: Topic::Logs,
            plugin_id: Some(self.plugin.to_string()),
            seq: self.position,
            payload: LogBatch { lines },
        };
        self.ready.push_back(message.text());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::logs::{LogSettings, NewLine};

    struct Case {
        logs: Logs,
        plugin: PluginName,
        _directory: tempfile::TempDir,
    }

    impl Case {
        fn new(ring_lines: usize) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let settings = LogSettings {
                ring_lines,
                segment_bytes: 4 << 20,
                segments: 8,
                segment_age: Duration::MAX,
                keep: Duration::MAX,
                lines_per_second: 1_000_000,
            };
            let logs = Logs::open(directory.path(), settings).unwrap();
            Self { logs, plugin: "ping".parse().unwrap(), _directory: directory }
        }

        fn log(&self, count: u64) {
            for number in 0..count {
                let level = if number % 2 == 0 { LogLevel::Info } else { LogLevel::Warn };
                self.logs.plugin(&self.plugin).append(NewLine::host(level, "line"));
            }
        }

        fn feed(&self, after: Option<u64>, least: LogLevel) -> LogFeed {
            LogFeed::new(&self.logs, &self.plugin, after, least).0
        }
    }

    /// The numbers of the lines of a message, or how many it says were missed.
    async fn taken(feed: &mut LogFeed) -> Result<Vec<u64>, u64> {
        let message: Value = serde_json::from_str(&feed.next().await.unwrap()).unwrap();
        assert_eq!(message["pluginId"], json!("ping"));
        if message["type"] == "gap" {
            return Err(message["missed"].as_u64().unwrap());
        }
        let lines = message["payload"]["lines"].as_array().unwrap();
        let seqs: Vec<u64> = lines.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
        assert!(message["seq"].as_u64() >= seqs.last().copied());
        Ok(seqs)
    }

    #[tokio::test]
    async fn without_a_number_it_begins_with_what_comes() {
        let case = Case::new(100);
        case.log(5);
        let mut feed = case.feed(None, LogLevel::Trace);
        case.log(3);
        assert_eq!(taken(&mut feed).await, Ok(vec![6, 7, 8]));
    }

    #[tokio::test]
    async fn what_left_memory_before_the_subscription_comes_from_the_files() {
        let case = Case::new(10);
        case.log(1_000);
        let mut feed = case.feed(Some(100), LogLevel::Trace);
        let mut seen = Vec::new();
        while seen.len() < 900 {
            seen.extend(taken(&mut feed).await.unwrap());
        }
        case.log(5);
        seen.extend(taken(&mut feed).await.unwrap());
        assert_eq!(seen, (101..=1_005).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn what_left_memory_before_it_was_taken_is_a_gap_where_it_was() {
        let case = Case::new(10);
        let mut feed = case.feed(None, LogLevel::Trace);
        case.log(1);
        assert_eq!(taken(&mut feed).await, Ok(vec![1]));
        case.log(50);
        assert_eq!(taken(&mut feed).await, Err(40));
        assert_eq!(taken(&mut feed).await, Ok((42..=51).collect()));
    }

    #[tokio::test]
    async fn who_was_away_for_too_long_hears_how_much_is_left_out() {
        let case = Case::new(10);
        case.log(MOST_CAUGHT_UP + 7);
        let mut feed = case.feed(Some(2), LogLevel::Trace);
        assert_eq!(taken(&mut feed).await, Err(5));
        assert_eq!(taken(&mut feed).await.unwrap()[0], 8);
    }

    #[tokio::test]
    async fn lines_below_the_level_are_passed_over_and_count_as_seen() {
        let case = Case::new(100);
        let mut feed = case.feed(None, LogLevel::Warn);
        case.log(5);
        assert_eq!(taken(&mut feed).await, Ok(vec![2, 4]));
        assert_eq!(feed.position, 5);
    }

    #[tokio::test]
    async fn a_number_that_was_never_reached_is_the_last_hosts() {
        let case = Case::new(100);
        case.log(5);
        let (mut feed, from) = LogFeed::new(&case.logs, &case.plugin, Some(900), LogLevel::Trace);
        assert_eq!(from, 0);
        assert_eq!(taken(&mut feed).await, Ok(vec![1, 2, 3, 4, 5]));
    }

    #[tokio::test]
    async fn it_ends_with_the_logs() {
        let case = Case::new(100);
        let mut feed = case.feed(None, LogLevel::Trace);
        case.log(1);
        assert!(case.logs.close());
        assert_eq!(taken(&mut feed).await, Ok(vec![1]));
        assert!(feed.next().await.is_none());
    }

    #[tokio::test]
    async fn what_is_missing_at_the_end_of_the_files_is_told_once_and_where_it_is() {
        let case = Case::new(10);
        case.log(5);
        assert!(case.logs.close());
        let directory = case._directory.path().join("ping/logs");
        let file = std::fs::read_dir(directory).unwrap().next().unwrap().unwrap().path();
        let text = std::fs::read_to_string(&file).unwrap();
        // Line 3 is gone, and a crash tore line 5 in two.
        let lines: Vec<&str> = text.lines().collect();
        let torn = &lines[4][..20];
        std::fs::write(&file, format!("{}\n{}\n{}\n{torn}", lines[0], lines[1], lines[3])).unwrap();
        let settings = LogSettings { ring_lines: 10, ..LogSettings::default() };
        let logs = Logs::open(case._directory.path(), settings).unwrap();
        let case = Case { logs, ..case };
        let mut feed = case.feed(Some(1), LogLevel::Trace);
        case.log(1);
        let mut told = Vec::new();
        for _ in 0..5 {
            told.push(taken(&mut feed).await);
        }
        assert_eq!(told, [Ok(vec![2]), Err(1), Ok(vec![4]), Err(1), Ok(vec![6])]);
    }
}
