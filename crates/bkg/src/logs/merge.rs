//! The logs of many plugins as one, by time: pages of it, and cursors that say where a reader stands.
//!
//! Each plugin keeps its own numbers; there is no number of the whole. So a reader's place is a number for
//! each plugin. The invariant: pages that follow one another hold every line once, each in the order of
//! time.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bkg_protocol::PluginName;
use serde::{Serialize, Serializer};
use tokio::time::{Instant, timeout_at};

use super::Logs;
use super::filter::LogFilter;
use super::follow::News;
use super::line::{self, LogLine};
use super::reading::{
    LogPage, LogQuery, LogSpan, MAX_PAGE_BYTES, MAX_PAGE_LINES, MAX_PAGES_TIME, NextPage,
};

/// A number for each plugin, as text `ping:12,tester:7`. A plugin that is not named is at its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Default, schemars::JsonSchema)]
pub struct Cursor(#[schemars(with = "String")] BTreeMap<PluginName, u64>);

/// A text is no cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no place in the logs of plugins: use one that an answer gave, such as `ping:12,tester:7`"
)]
pub struct CursorError(String);

/// Which part of the merged logs is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MergedSpan {
    /// The last lines, below these numbers; of plugins that are not named, up to the newest line.
    Before(Cursor),
    /// The first lines above these numbers.
    After(Cursor),
}

/// Some lines of many plugins, by time.
#[derive(Debug, Clone, PartialEq, Default, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MergedPage {
    /// The lines.
    #[serde(serialize_with = "line::as_lines")]
    pub lines: Vec<Arc<LogLine>>,
    /// How many lines of the part that was looked at are no longer kept, or never reached the files.
    pub missing: u64,
    /// Up to where the logs were looked at: whoever wants what comes later asks for lines after this.
    pub reached: Cursor,
    /// Where there may be more of what was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<NextMergedPage>,
}

/// Where the next page of merged logs begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum NextMergedPage {
    /// After these numbers.
    Since(Cursor),
    /// Before these numbers.
    Before(Cursor),
}

impl Logs {
    /// Lines of all these plugins that the filter takes, at most `count` and [`MAX_PAGE_LINES`].
    pub async fn read_merged(
        &self,
        plugins: &[PluginName],
        filter: Arc<LogFilter>,
        span: &MergedSpan,
        count: usize,
    ) -> MergedPage {
        let count = count.min(MAX_PAGE_LINES);
        match span {
            MergedSpan::Before(before) => self.merged_before(plugins, filter, before, count).await,
            MergedSpan::After(after) => self.merged_after(plugins, filter, after, count).await,
        }
    }

    async fn merged_before(
        &self,
        plugins: &[PluginName],
        filter: Arc<LogFilter>,
        before: &Cursor,
        count: usize,
    ) -> MergedPage {
        let tails = self.tails(plugins, filter, before, count).await;
        let next: Cursor = tails.iter().map(|tail| (tail.plugin.clone(), tail.before())).collect();
        let has_more = count > 0 && next.positions().any(|(_, before)| before > 1);
        MergedPage {
            missing: tails.iter().map(|tail| tail.page.missing).sum(),
            reached: tails.iter().map(|tail| (tail.plugin.clone(), tail.page.reached)).collect(),
            next: has_more.then_some(NextMergedPage::Before(next)),
            lines: merged(tails),
        }
    }

    /// The last lines of these plugins that are the last of them together.
    pub(super) async fn tails(
        &self,
        plugins: &[PluginName],
        filter: Arc<LogFilter>,
        before: &Cursor,
        count: usize,
    ) -> Vec<Tail> {
        let mut tails = Vec::new();
        for plugin in plugins {
            let span = LogSpan::Before(before.get(plugin).unwrap_or(u64::MAX).max(1));
            let query = LogQuery::new(Arc::clone(&filter), span, count).one_of(plugins.len());
            let page = self.read(plugin, query).await;
            tails.push(Tail { plugin: plugin.clone(), page, given: VecDeque::new() });
        }
        for _ in 0..count {
            // Where a plugin may have more lines, older ones of others wait for them.
            if tails.iter().any(Tail::may_have_more) {
                break;
            }
            let newest = tails.iter_mut().max_by_key(|tail| tail.page.lines.last().map(|line| line.time));
            let Some(tail) = newest else { break };
            let Some(line) = tail.page.lines.pop() else { break };
            tail.given.push_front(line);
        }
        tails
    }

    async fn merged_after(
        &self,
        plugins: &[PluginName],
        filter: Arc<LogFilter>,
        after: &Cursor,
        count: usize,
    ) -> MergedPage {
        let mut follower = self.follow(plugins, after, filter);
        let mut page = MergedPage::default();
        let (mut size, until) = (0, Instant::now() + MAX_PAGES_TIME);
        let mut is_cut = true;
        while page.lines.len() < count && size <= MAX_PAGE_BYTES {
            match timeout_at(until, follower.ready()).await {
                Ok(Some(News::Line(line))) => {
                    size += line.cost();
                    page.lines.push(line);
                }
                Ok(Some(News::Gap { lines, .. })) => page.missing += lines,
                Ok(None) => {
                    is_cut = false;
                    break;
                }
                Err(_) => break,
            }
        }
        page.missing += follower.untold();
        page.reached = follower.cursor();
        let more = is_cut && follower.has_more();
        page.next = more.then(|| NextMergedPage::Since(page.reached.clone()));
        page
    }
}

/// The newest lines of one of several plugins.
pub(super) struct Tail {
    pub(super) plugin: PluginName,
    /// What was found, without the lines that are given.
    pub(super) page: LogPage,
    /// Those that are among the newest of all plugins.
    pub(super) given: VecDeque<Arc<LogLine>>,
}

impl Tail {
    fn may_have_more(&self) -> bool {
        self.page.lines.is_empty() && self.page.next.is_some()
    }

    /// Before which number the lines are that were not given.
    fn before(&self) -> u64 {
        match (self.page.lines.last(), self.page.next) {
            (Some(left), _) => left.seq + 1,
            (None, Some(NextPage::Before(before))) => before,
            (None, _) => 1,
        }
    }
}

/// All lines by time, those of each plugin in their order.
fn merged(mut tails: Vec<Tail>) -> Vec<Arc<LogLine>> {
    let mut lines = Vec::new();
    loop {
        let heads = tails.iter_mut().filter(|tail| !tail.given.is_empty());
        let Some(tail) = heads.min_by_key(|tail| tail.given.front().map(|line| line.time)) else { break };
        lines.extend(tail.given.pop_front());
    }
    lines
}

impl Cursor {
    /// Where a plugin stands.
    pub fn get(&self, plugin: &PluginName) -> Option<u64> {
        self.0.get(plugin).copied()
    }

    /// Where each plugin stands.
    pub fn positions(&self) -> impl Iterator<Item = (&PluginName, u64)> {
        self.0.iter().map(|(plugin, position)| (plugin, *position))
    }
}

impl FromIterator<(PluginName, u64)> for Cursor {
    fn from_iter<I: IntoIterator<Item = (PluginName, u64)>>(positions: I) -> Self {
        Self(positions.into_iter().collect())
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (plugin, position)) in self.positions().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(out, "{comma}{plugin}:{position}")?;
        }
        Ok(())
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let position = |part: &str| {
            let (plugin, position) = part.split_once(':')?;
            Some((plugin.parse().ok()?, position.parse().ok()?))
        };
        let parts = text.split(',').filter(|part| !part.is_empty());
        parts.map(position).collect::<Option<Self>>().ok_or_else(|| CursorError(text.to_owned()))
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
