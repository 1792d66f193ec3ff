//! The thread that writes all plugins' log files.
//!
//! One thread and plain blocking writes: the disk may hang or fill up, and then this thread alone
//! waits. A failure is counted, said once in the host's own log, and tried again with the next lines.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bkg_protocol::PluginName;

use super::journal::Journal;
use super::line::LogLine;
use super::queue::{Queue, Queued};
use super::segments::{self, SegmentLimits, SegmentWriter};
use super::{Clock, Counters, LogSettings};
use crate::clock::Evenness;

/// How often files that are too old are looked for, also where nobody logs.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

pub(super) struct Writer {
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    plugins: PathBuf,
    settings: LogSettings,
    clock: Clock,
    evenness: Evenness,
    files: HashMap<PluginName, Files>,
    is_failing: bool,
}

struct Files {
    segments: SegmentWriter,
    /// Lines that failed since the last success.
    lost: u64,
}

impl Writer {
    pub(super) fn new(
        queue: Arc<Queue>,
        counters: Arc<Counters>,
        plugins: &Path,
        settings: &LogSettings,
        clock: Clock,
        evenness: Evenness,
    ) -> Self {
        Self {
            queue,
            counters,
            plugins: plugins.to_owned(),
            settings: settings.clone(),
            clock,
            evenness,
            files: HashMap::new(),
            is_failing: false,
        }
    }

    /// Writes until the queue is closed.
    pub(super) fn run(mut self) {
        let queue = Arc::clone(&self.queue);
        // Also if this thread panics: nobody is to wait for it then.
        let _finish = Finish(&queue);
        let mut sweep_at = Instant::now();
        loop {
            if sweep_at <= Instant::now() {
                self.sweep();
                sweep_at = Instant::now() + SWEEP_EVERY;
            }
            let batch = queue.next(sweep_at);
            let lines = batch.lines.len();
            self.write(batch.lines);
            let limit = self.settings.lines_per_second;
            if batch.is_last {
                for journal in batch.owed.iter().chain(&queue.take_owed()) {
                    self.write_journal(journal, &journal.settle_last(limit));
                }
            } else {
                for journal in &batch.owed {
                    if journal.settle(Instant::now(), limit, &queue, &self.counters) {
                        queue.owe(journal);
                    }
                }
            }
            queue.finish_batch(lines);
            if batch.is_last {
                return;
            }
        }
    }

    /// Writes the lines, those of each plugin at once.
    fn write(&mut self, queued: Vec<Queued>) {
        let mut by_plugin: Vec<(Arc<Journal>, Vec<Arc<LogLine>>)> = Vec::new();
        for Queued { journal, line } in queued {
            match by_plugin.iter_mut().find(|(other, _)| Arc::ptr_eq(other, &journal)) {
                Some((_, lines)) => lines.push(line),
                None => by_plugin.push((journal, vec![line])),
            }
        }
        for (journal, lines) in by_plugin {
            self.write_journal(&journal, &lines);
        }
    }

    fn write_journal(&mut self, journal: &Arc<Journal>, lines: &[Arc<LogLine>]) {
        if lines.is_empty() {
            return;
        }
        let limits = self.limits();
        let files = self.files.entry(journal.plugin().clone()).or_insert_with(|| Files {
            segments: SegmentWriter::new(journal.directory(), limits),
            lost: 0,
        });
        match files.segments.write(lines) {
            Ok(()) => {
                if files.lost > 0 {
                    journal.add_unwritten(std::mem::take(&mut files.lost));
                    self.queue.owe(journal);
                }
                self.succeeded();
            }
            Err((lost, error)) => {
                files.lost += lost;
                self.counters.unwritten.fetch_add(lost, Ordering::Relaxed);
                self.failed(journal, &error);
            }
        }
    }

    /// Removes what is older than it may be, of plugins that are no longer known too.
    fn sweep(&mut self) {
        let (mut limits, now) = (self.limits(), (self.clock)());
        if !self.evenness.look(Instant::now(), now) {
            // Nobody knows how old anything is; the bounds of size and number hold all the same.
            limits.keep = Duration::MAX;
        }
        for plugin in std::fs::read_dir(&self.plugins).into_iter().flatten().flatten() {
            let directory = plugin.path().join("logs");
            match segments::sweep(&directory, &limits, now) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    self.counters.disk_errors.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(directory = %directory.display(), %error, "old log files cannot be removed");
                }
            }
        }
    }

    fn limits(&self) -> SegmentLimits {
        SegmentLimits {
            bytes: self.settings.segment_bytes,
            age: self.settings.segment_age,
            count: self.settings.segments,
            keep: self.settings.keep,
        }
    }

    fn failed(&mut self, journal: &Journal, error: &io::Error) {
        self.counters.disk_errors.fetch_add(1, Ordering::Relaxed);
        if !self.is_failing {
            self.is_failing = true;
            tracing::warn!(
                plugin = %journal.plugin(),
                directory = %journal.directory().display(),
                %error,
                "log lines cannot be written: they stay in memory only until the disk takes them again"
            );
        }
    }

    fn succeeded(&mut self) {
        if self.is_failing && self.files.values().all(|files| files.lost == 0) {
            self.is_failing = false;
            tracing::info!("log lines are written again");
        }
    }
}

struct Finish<'a>(&'a Queue);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.finish();
    }
}
