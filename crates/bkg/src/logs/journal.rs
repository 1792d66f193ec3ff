//! What one plugin's log is in memory: the ring of its newest lines, their numbers, and who follows.
//!
//! Followers hold a position and no lines of their own, so a slow one costs nothing: it reads from the
//! ring, and finds out how far it fell behind. The invariant: the ring's numbers have no hole, and lines
//! reach the queue to the disk in the order of their numbers.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use bkg_protocol::{InstanceId, PluginName};
use jiff::{Timestamp, TimestampRound, Unit};
use tokio::sync::watch;

use super::line::{LogLine, LogStream, NewLine};
use super::queue::Queue;
use super::rate::{Rate, Verdict};
use super::{Clock, Counters, segments};

/// The ring's second bound, in bytes: lines may be long.
const RING_BYTES: usize = 4 << 20;
/// How much a follower takes out of the ring at once.
const BATCH_LINES: usize = 64;
const BATCH_BYTES: usize = 256 << 10;
/// Above so many instances, the counts of those that are gone are cleared away.
const RATES: usize = 32;

/// The log of one plugin.
pub(super) struct Journal {
    plugin: PluginName,
    directory: PathBuf,
    ring_lines: usize,
    clock: Clock,
    /// The last number when this host opened the log.
    opened_at: u64,
    /// Tells followers that there is something new; the value is the last number.
    changed: watch::Sender<u64>,
    state: Mutex<State>,
}

struct State {
    last_seq: u64,
    ring: VecDeque<Arc<LogLine>>,
    ring_bytes: usize,
    rates: HashMap<Option<InstanceId>, Rate>,
    /// Lines that no file holds and no line has told of yet.
    unwritten: u64,
    is_closed: bool,
}

impl Journal {
    /// Goes on where the files end.
    pub(super) fn open(plugin: PluginName, directory: PathBuf, ring_lines: usize, clock: Clock) -> Self {
        let last_seq = segments::last_seq(&directory);
        Self {
            plugin,
            directory,
            ring_lines: ring_lines.max(1),
            clock,
            opened_at: last_seq,
            changed: watch::Sender::new(last_seq),
            state: Mutex::new(State {
                last_seq,
                ring: VecDeque::new(),
                ring_bytes: 0,
                rates: HashMap::new(),
                unwritten: 0,
                is_closed: false,
            }),
        }
    }

    pub(super) fn plugin(&self) -> &PluginName {
        &self.plugin
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn last_seq(&self) -> u64 {
        self.state().last_seq
    }

    /// The position that a reader with this number has in the numbers of this host.
    pub(super) fn known(&self, seq: u64) -> u64 {
        if seq > self.last_seq() { self.opened_at } else { seq }
    }

    /// The same of a reader who has the number from another host: what that one did not write, this one
    /// has given to other lines.
    pub(super) fn inherited(&self, seq: u64) -> u64 {
        seq.min(self.opened_at)
    }

    /// Whether the line's instance may log it now. What the host says always passes.
    pub(super) fn admit(&self, line: &NewLine, now: Instant, lines_per_second: u32) -> Verdict {
        if line.stream == LogStream::Host {
            return Verdict::Pass { left_out_before: 0 };
        }
        let mut state = self.state();
        if state.rates.len() > RATES {
            state.rates.retain(|_, rate| rate.owes() || !rate.is_over(now));
        }
        state.rates.entry(line.instance).or_insert_with(|| Rate::new(now)).admit(now, lines_per_second)
    }

    /// Numbers the line, keeps it, and offers it to the disk. Says whether the disk will get it.
    pub(super) fn append(self: &Arc<Self>, line: NewLine, queue: &Queue, counters: &Counters) -> bool {
        let line = line.clean(self.plugin.clone());
        let mut state = self.state();
        let line = self.keep(&mut state, line);
        // Under the lock: the queue gets the lines in the order of their numbers.
        let is_accepted = queue.offer(self, &line);
        if !is_accepted {
            state.unwritten += 1;
            counters.unwritten.fetch_add(1, Ordering::Relaxed);
        }
        is_accepted
    }

    /// Counts lines that the disk refused after they were taken from the queue.
    pub(super) fn add_unwritten(&self, lines: u64) {
        self.state().unwritten += lines;
    }

    /// Appends the notes that are due. Says whether more are to come later.
    pub(super) fn settle(
        self: &Arc<Self>,
        now: Instant,
        lines_per_second: u32,
        queue: &Queue,
        counters: &Counters,
    ) -> bool {
        let (left_out, unwritten, owes) = {
            let mut state = self.state();
            let left_out = state.left_out_notes(lines_per_second, |rate| rate.take_left_out(now));
            (left_out, std::mem::take(&mut state.unwritten), state.rates.values().any(Rate::owes))
        };
        for note in left_out {
            self.append(note, queue, counters);
        }
        if unwritten > 0 && !self.append(NewLine::unwritten(unwritten), queue, counters) {
            // The note is itself missing from the files now, and the next one counts for both.
            self.add_unwritten(unwritten);
        }
        owes
    }

    /// Keeps the last notes, when the queue takes nothing more, and returns them to be written.
    pub(super) fn settle_last(&self, lines_per_second: u32) -> Vec<Arc<LogLine>> {
        let mut state = self.state();
        let mut notes = state.left_out_notes(lines_per_second, Rate::take_all_left_out);
        let unwritten = std::mem::take(&mut state.unwritten);
        if unwritten > 0 {
            notes.push(NewLine::unwritten(unwritten));
        }
        notes.into_iter().map(|note| self.keep(&mut state, note.clean(self.plugin.clone()))).collect()
    }

    /// The lines in memory with numbers above `after` and not above `to`, at most `most` of them from
    /// the first.
    pub(super) fn after(&self, after: u64, to: u64, most: usize) -> RingPart {
        let state = self.state();
        let (start, end) = (state.position(after + 1), state.position(to.saturating_add(1)));
        state.part(start, end.min(start.saturating_add(most)).max(start))
    }

    /// The lines in memory with numbers below `before`, at most `most` of them from the last.
    pub(super) fn below(&self, before: u64, most: usize) -> RingPart {
        let state = self.state();
        let end = state.position(before);
        state.part(end.saturating_sub(most), end)
    }

    /// Whether nothing comes any more.
    pub(super) fn is_closed(&self) -> bool {
        self.state().is_closed
    }

    /// Wakes whenever a line comes, and when the log is closed.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// No follower gets anything that comes after this.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        self.changed.send_replace(state.last_seq);
    }

    fn keep(&self, state: &mut State, mut line: LogLine) -> Arc<LogLine> {
        state.last_seq += 1;
        line.seq = state.last_seq;
        line.time = to_microseconds((self.clock)());
        let line = Arc::new(line);
        state.ring_bytes += line.cost();
        state.ring.push_back(Arc::clone(&line));
        while state.ring.len() > self.ring_lines || (state.ring_bytes > RING_BYTES && state.ring.len() > 1)
        {
            let oldest = state.ring.pop_front().expect("the ring is not empty");
            state.ring_bytes -= oldest.cost();
        }
        self.changed.send_replace(line.seq);
        line
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the lock panics")
    }
}

/// Some lines of the ring, in order.
pub(super) struct RingPart {
    pub(super) lines: Vec<Arc<LogLine>>,
    /// The number of the oldest line in memory; the next number if there is none.
    pub(super) oldest: u64,
    /// The number of the newest line.
    pub(super) last: u64,
}

impl State {
    /// Where in the ring the line with this number is, or would be.
    fn position(&self, seq: u64) -> usize {
        (seq.saturating_sub(self.oldest_seq()) as usize).min(self.ring.len())
    }

    fn part(&self, start: usize, end: usize) -> RingPart {
        let lines = self.ring.range(start..end).cloned().collect();
        RingPart { lines, oldest: self.oldest_seq(), last: self.last_seq }
    }

    fn oldest_seq(&self) -> u64 {
        self.ring.front().map_or(self.last_seq + 1, |line| line.seq)
    }

    fn left_out_notes(&mut self, lines_per_second: u32, take: impl Fn(&mut Rate) -> u64) -> Vec<NewLine> {
        let mut notes = Vec::new();
        for (instance, rate) in &mut self.rates {
            let left_out = take(rate);
            if left_out > 0 {
                notes.push(NewLine::left_out(left_out, lines_per_second, *instance));
            }
        }
        notes
    }
}

/// The time to the microsecond: what is finer only makes lines longer.
fn to_microseconds(time: Timestamp) -> Timestamp {
    time.round(TimestampRound::new().smallest(Unit::Microsecond)).unwrap_or(time)
}

/// What a follower of a log gets.
#[derive(Debug, Clone, PartialEq)]
pub enum Followed {
    /// The next line.
    Line(Arc<LogLine>),
    /// So many lines have left memory before they were read; [`super::Logs::since`] may still find
    /// them.
    Gap {
        /// How many.
        lines: u64,
    },
}

/// A position in a plugin's log that moves on as lines come.
pub struct Subscription {
    journal: Arc<Journal>,
    changed: watch::Receiver<u64>,
    /// The number of the last line taken out of the ring.
    position: u64,
    ready: VecDeque<Arc<LogLine>>,
}

impl Subscription {
    pub(super) fn new(journal: Arc<Journal>, after: u64) -> Self {
        let changed = journal.changed.subscribe();
        Self { journal, changed, position: after, ready: VecDeque::new() }
    }

    /// The next line, or how many were missed; `None` when the logs are closed. Nothing is lost if
    /// this is dropped before it is done.
    pub async fn next(&mut self) -> Option<Followed> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(Followed::Line(line));
            }
            // Before looking, so that a line that comes meanwhile wakes.
            self.changed.borrow_and_update();
            let (missed, is_closed) = self.take_batch();
            if missed > 0 {
                return Some(Followed::Gap { lines: missed });
            }
            if !self.ready.is_empty() {
                continue;
            }
            if is_closed || self.changed.changed().await.is_err() {
                return None;
            }
        }
    }

    fn take_batch(&mut self) -> (u64, bool) {
        let state = self.journal.state();
        let oldest = state.oldest_seq();
        let missed = oldest.saturating_sub(self.position + 1);
        let skipped = (self.position + 1).saturating_sub(oldest) as usize;
        let mut bytes = 0;
        for line in state.ring.iter().skip(skipped).take(BATCH_LINES) {
            if bytes > BATCH_BYTES {
                break;
            }
            bytes += line.cost();
            self.ready.push_back(Arc::clone(line));
        }
        self.position = self.ready.back().map_or(self.position + missed, |line| line.seq);
        (missed, state.is_closed)
    }
}

#[cfg(test)]
mod tests {
    use bkg_protocol::message::LogLevel;

    use super::*;

    #[test]
    fn the_ring_is_bounded_in_lines_and_in_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let (queue, counters) = (Queue::default(), Counters::default());
        let journal = Arc::new(Journal::open(
            "ping".parse().unwrap(),
            directory.path().to_owned(),
            100,
            Arc::new(Timestamp::now),
        ));
        let append = |message: &str| {
            journal.append(NewLine::host(LogLevel::Info, message), &queue, &counters);
        };
        let sizes = || {
            let state = journal.state();
            (state.ring.len(), state.ring_bytes)
        };

        (0..150).for_each(|_| append("short"));
        assert_eq!(sizes().0, 100);
        (0..100).for_each(|_| append(&"x".repeat(60_000)));
        assert!(sizes().0 < 100 && sizes().1 <= RING_BYTES, "{:?}", sizes());
        (0..100).for_each(|_| append("short"));
        let short = journal.below(u64::MAX, 1).lines[0].cost();
        assert_eq!(sizes(), (100, 100 * short), "the sum goes down as lines leave");
    }

    #[test]
    fn counts_of_instances_that_are_gone_are_cleared_away() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(
            "ping".parse().unwrap(),
            directory.path().to_owned(),
            100,
            Arc::new(Timestamp::now),
        );
        let start = Instant::now();
        for second in 0..200 {
            let line = NewLine::raw(LogStream::Stdout, super::super::SplitLine::of("x"))
                .instance(InstanceId::new());
            journal.admit(&line, start + std::time::Duration::from_secs(second), 10);
        }
        assert!(journal.state().rates.len() <= RATES + 1);
    }
}
