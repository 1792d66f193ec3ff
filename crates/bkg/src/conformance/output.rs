//! What a plugin prints: always drained, counted, and its end remembered.
//!
//! Not kept: who wants the whole output starts the plugin by hand. The invariant: the plugin is never
//! blocked because nobody reads.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::Instant;

use super::notebook::Notebook;
use super::rule::Rule;
use crate::logs::{LineSplitter, printable};

/// How many lines a plugin may write within [`WINDOW`]: what the host keeps of the bus's log lines.
const MOST_LINES: usize = 2_000;
const WINDOW: Duration = Duration::from_secs(1);
/// How many of the last lines are shown where a plugin failed, and how much of each, in bytes.
const LAST_LINES: usize = 5;
const LINE_SHOWN: usize = 300;

/// What one launch writes, on its pipes and over the bus together.
#[derive(Debug)]
pub(super) struct Output {
    notebook: Arc<Notebook>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    since: Instant,
    lines: usize,
    last: VecDeque<String>,
}

impl Output {
    pub(super) fn new(notebook: Arc<Notebook>) -> Arc<Self> {
        let state = State { since: Instant::now(), lines: 0, last: VecDeque::new() };
        Arc::new(Self { notebook, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Counting cannot be left half done by a panic elsewhere.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a line, wherever it came from.
    pub(super) fn count(&self) {
        let mut state = self.state();
        if state.since.elapsed() >= WINDOW {
            state.since = Instant::now();
            state.lines = 0;
        }
        state.lines += 1;
        if state.lines == MOST_LINES + 1 {
            self.notebook.broken(
                Rule::OutputBounded,
                format!("at most {MOST_LINES} lines within a second"),
                format!("line {} within {} ms", state.lines, state.since.elapsed().as_millis()),
            );
        }
    }

    /// Reads a pipe to its end.
    pub(super) async fn drain(self: Arc<Self>, mut pipe: impl AsyncRead + Unpin) {
        let mut splitter = LineSplitter::default();
        let mut buffer = vec![0; 16 << 10];
        loop {
            match pipe.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(count) => splitter.push(&buffer[..count], |line| self.line(&line.text)),
            }
            // A flood must not keep the rest of the check from its turn.
            tokio::task::yield_now().await;
        }
        splitter.finish(|line| self.line(&line.text));
    }

    fn line(&self, text: &str) {
        self.count();
        if text.trim().is_empty() {
            return;
        }
        let mut state = self.state();
        if state.last.len() == LAST_LINES {
            state.last.pop_front();
        }
        state.last.push_back(printable(text.trim_end(), LINE_SHOWN).0);
    }

    /// The last lines, for people: empty if there were none.
    pub(super) fn last_words(&self) -> String {
        let state = self.state();
        if state.last.is_empty() {
            return String::new();
        }
        let lines: Vec<&str> = state.last.iter().map(String::as_str).collect();
        format!("; its last lines: {}", lines.join(" | "))
    }
}
