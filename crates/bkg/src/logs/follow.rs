//! Following the logs of some plugins as one: what was kept first, then what comes, without a hole.
//!
//! A follower holds positions and one small page of each plugin, so a slow one costs little and loses
//! nothing that is still kept: it reads from memory where it can, and from the files where it fell
//! behind. The invariant: every line that it passes is told, left out by the filter, or counted in a gap.

use std::collections::VecDeque;
use std::sync::Arc;

use bkg_protocol::PluginName;
use futures_util::future::select_all;
use tokio::sync::watch;

use super::Logs;
use super::filter::LogFilter;
use super::journal::Journal;
use super::line::LogLine;
use super::merge::Cursor;
use super::reading::{LogQuery, LogSpan};

/// How many lines of one plugin are taken at once.
const BATCH_LINES: usize = 256;

/// What a follower is told.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// The next line.
    Line(Arc<LogLine>),
    /// So many lines are no longer kept, or never reached the files.
    Gap {
        /// Whose.
        plugin: PluginName,
        /// How many.
        lines: u64,
    },
}

/// A position in the logs of some plugins that moves on as lines come. What is there already comes in the
/// order of time; what comes later, as it comes.
pub struct Follower {
    logs: Logs,
    filter: Arc<LogFilter>,
    /// Not empty, unless no plugin is followed.
    sources: Vec<Source>,
    gaps: VecDeque<News>,
}

struct Source {
    journal: Arc<Journal>,
    changed: watch::Receiver<u64>,
    /// The number up to which lines were taken out of the log.
    taken: u64,
    /// Those that were, and were not yet told.
    ready: VecDeque<Arc<LogLine>>,
    /// Whether there were no more when it was looked.
    is_at_end: bool,
}

impl Logs {
    /// Follows the logs of these plugins from where the cursor stands; those that it does not name, from
    /// their first line.
    pub fn follow<'a>(
        &self,
        plugins: impl IntoIterator<Item = &'a PluginName>,
        after: &Cursor,
        filter: Arc<LogFilter>,
    ) -> Follower {
        let sources = plugins.into_iter().map(|plugin| {
            let journal = self.journal(plugin);
            Source {
                changed: journal.changes(),
                taken: journal.known(after.get(plugin).unwrap_or(0)),
                journal,
                ready: VecDeque::new(),
                is_at_end: false,
            }
        });
        Follower { logs: self.clone(), filter, sources: sources.collect(), gaps: VecDeque::new() }
    }

    /// Follows the logs of these plugins from their last `count` lines on.
    pub async fn follow_tail(
        &self,
        plugins: &[PluginName],
        count: usize,
        filter: Arc<LogFilter>,
    ) -> Follower {
        let tails = self.tails(plugins, Arc::clone(&filter), &Cursor::default(), count).await;
        let mut follower = self.follow(plugins, &Cursor::default(), filter);
        for (source, tail) in follower.sources.iter_mut().zip(tails) {
            source.taken = tail.page.reached;
            source.ready = tail.given;
            if tail.page.missing > 0 {
                follower.gaps.push_back(News::Gap { plugin: tail.plugin, lines: tail.page.missing });
            }
        }
        follower
    }
}

impl Follower {
    /// What comes next; `None` when the logs are closed, or no plugin is followed. Nothing is lost if
    /// this is dropped before it is done.
    pub async fn next(&mut self) -> Option<News> {
        loop {
            if let Some(news) = self.ready().await {
                return Some(news);
            }
            if self.sources.iter().all(Source::is_over) {
                return None;
            }
            let changes = self.sources.iter_mut().map(|source| Box::pin(source.changed.changed()));
            // It fails only where the journal is gone, and the source holds that.
            let (_, index, _) = select_all(changes).await;
            self.sources[index].is_at_end = false;
        }
    }

    /// What comes next of what is there; `None` if that is all. Nothing is lost if this is dropped before
    /// it is done.
    pub(super) async fn ready(&mut self) -> Option<News> {
        loop {
            for index in 0..self.sources.len() {
                while self.sources[index].wants_more() {
                    self.take(index).await;
                }
            }
            if let Some(gap) = self.gaps.pop_front() {
                return Some(gap);
            }
            let heads = self.sources.iter_mut().filter(|source| !source.ready.is_empty());
            let source = heads.min_by_key(|source| source.ready.front().map(|line| line.time))?;
            if let Some(line) = source.ready.pop_front() {
                return Some(News::Line(line));
            }
        }
    }

    /// Where it stands: what was told, and what was left out before the next line.
    pub fn cursor(&self) -> Cursor {
        let positions = self.sources.iter().map(|source| {
            let position = source.ready.front().map_or(source.taken, |line| line.seq - 1);
            (source.journal.plugin().clone(), position)
        });
        positions.collect()
    }

    /// The same, of the one plugin that is followed.
    pub fn position(&self) -> u64 {
        self.cursor().positions().next().map_or(0, |(_, position)| position)
    }

    /// Forgets the gaps that were not told, and answers how many lines they are.
    pub(super) fn untold(&mut self) -> u64 {
        let gaps = self.gaps.drain(..);
        gaps.map(|gap| if let News::Gap { lines, .. } = gap { lines } else { 0 }).sum()
    }

    /// Whether a gap is still to be told. Who goes on from the cursor would not hear of it.
    pub fn owes_a_gap(&self) -> bool {
        !self.gaps.is_empty()
    }

    /// Whether lines are there that were not told, left out or not.
    pub(super) fn has_more(&self) -> bool {
        self.sources.iter().any(|source| !source.ready.is_empty() || source.wants_more())
    }

    async fn take(&mut self, index: usize) {
        let pages = self.sources.len();
        let source = &mut self.sources[index];
        // Before looking, so that a line that comes meanwhile wakes.
        source.changed.borrow_and_update();
        // Until the page is here: who gives up waiting for it has not seen what woke this.
        source.is_at_end = false;
        let query = LogQuery::new(Arc::clone(&self.filter), LogSpan::since(source.taken), BATCH_LINES);
        let page = self.logs.read_journal(Arc::clone(&source.journal), query.one_of(pages.max(8))).await;
        source.taken = page.reached;
        source.is_at_end = page.next.is_none();
        source.ready.extend(page.lines);
        if page.missing > 0 {
            let plugin = source.journal.plugin().clone();
            self.gaps.push_back(News::Gap { plugin, lines: page.missing });
        }
    }
}

impl Source {
    fn wants_more(&self) -> bool {
        self.ready.is_empty() && (!self.is_at_end || self.changed.has_changed().unwrap_or(false))
    }

    /// Whether nothing comes any more.
    fn is_over(&self) -> bool {
        self.is_at_end && self.journal.is_closed() && self.taken >= self.journal.last_seq()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bkg_protocol::message::LogLevel;
    use futures_util::FutureExt;

    use super::super::{LogSettings, NewLine, SCANS};
    use super::*;

    #[tokio::test]
    async fn a_line_is_told_although_an_earlier_wait_for_it_was_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let logs = Logs::open(directory.path(), LogSettings::default()).unwrap();
        let plugin: PluginName = "ping".parse().unwrap();
        let filter = Arc::new(LogFilter::default().with_text("line").unwrap());
        let mut follower = logs.follow([&plugin], &Cursor::default(), filter);
        let log = logs.plugin(&plugin);
        log.append(NewLine::host(LogLevel::Info, "line 1"));
        assert!(matches!(follower.next().await, Some(News::Line(told)) if told.seq == 1));
        log.append(NewLine::host(LogLevel::Info, "line 2"));
        // Whoever else looks for words keeps this one waiting.
        let turns = logs.shared.scans.acquire_many(SCANS as u32).await.unwrap();
        assert!(follower.next().now_or_never().is_none());
        drop(turns);
        let told = tokio::time::timeout(Duration::from_secs(10), follower.next()).await;
        assert!(matches!(told, Ok(Some(News::Line(told))) if told.seq == 2));
    }
}
