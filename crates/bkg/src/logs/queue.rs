//! What waits to be written, between the tasks that append and the one thread that writes.
//!
//! Bounded in lines and in bytes; when it is full, a line is refused and its journal is owed a note that
//! says so. Offering never waits for the disk: the lock is held only to move pointers. Lock order:
//! a journal's lock may be held while taking this one, never the other way round.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::journal::Journal;
use super::line::LogLine;

const MAX_LINES: usize = 8_192;
const MAX_BYTES: usize = 4 << 20;
/// How long the first line waits for others, so that steady logging wakes the thread rarely. What a
/// killed host loses of its logs is that and one write.
const GATHER: Duration = Duration::from_millis(20);
/// How often the thread looks whether owed notes are due while nothing else comes.
const SETTLE: Duration = Duration::from_millis(250);

/// Lines on their way to the disk.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// The writer waits here.
    work: Condvar,
    /// Those who want something written wait here.
    written: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<Queued>,
    bytes: usize,
    owed: Vec<Arc<Journal>>,
    /// How many lines were ever accepted, and how many of them the writer is done with.
    accepted: u64,
    done: u64,
    is_urgent: bool,
    is_closing: bool,
    is_finished: bool,
}

/// A line and the journal that it belongs to.
pub(super) struct Queued {
    pub(super) journal: Arc<Journal>,
    pub(super) line: Arc<LogLine>,
}

/// What the writer is to do next.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) lines: Vec<Queued>,
    /// Journals that may have notes to append.
    pub(super) owed: Vec<Arc<Journal>>,
    /// Nothing comes after this.
    pub(super) is_last: bool,
}

impl Queue {
    /// Takes the line if there is room, else remembers that the journal is owed a note.
    pub(super) fn offer(&self, journal: &Arc<Journal>, line: &Arc<LogLine>) -> bool {
        let mut state = self.state();
        let cost = line.cost();
        if state.is_closing || state.lines.len() >= MAX_LINES || state.bytes + cost > MAX_BYTES {
            state.owe(journal);
            return false;
        }
        let was_waiting = state.lines.is_empty();
        state.lines.push(Queued { journal: Arc::clone(journal), line: Arc::clone(line) });
        state.bytes += cost;
        state.accepted += 1;
        if was_waiting || state.is_pressing() {
            self.work.notify_one();
        }
        true
    }

    /// Remembers that the journal may have notes to append.
    pub(super) fn owe(&self, journal: &Arc<Journal>) {
        let mut state = self.state();
        if state.owe(journal) {
            self.work.notify_one();
        }
    }

    /// Waits for something to do, until then at the latest. For the writer alone.
    pub(super) fn next(&self, latest: Instant) -> Batch {
        let mut state = self.state();
        while state.lines.is_empty() && !state.is_closing && !state.is_urgent {
            let left = latest.saturating_duration_since(Instant::now());
            let wait = if state.owed.is_empty() { left } else { left.min(SETTLE) };
            let timed_out;
            (state, timed_out) = self.wait(state, wait);
            if timed_out {
                break;
            }
        }
        let until = Instant::now() + GATHER;
        while !state.lines.is_empty() && !state.is_pressing() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            (state, _) = self.wait(state, left);
        }
        state.bytes = 0;
        state.is_urgent = false;
        Batch {
            lines: std::mem::take(&mut state.lines),
            owed: std::mem::take(&mut state.owed),
            is_last: state.is_closing,
        }
    }

    /// What came to be owed since the batch was taken. For the writer alone.
    pub(super) fn take_owed(&self) -> Vec<Arc<Journal>> {
        std::mem::take(&mut self.state().owed)
    }

    /// Says that so many lines are written, or never will be. For the writer alone.
    pub(super) fn finish_batch(&self, lines: usize) {
        self.state().done += lines as u64;
        self.written.notify_all();
    }

    /// Says that the writer ends.
    pub(super) fn finish(&self) {
        self.state().is_finished = true;
        self.written.notify_all();
    }

    /// Waits until what was accepted so far is written; says whether it is.
    pub(super) fn flush(&self, within: Duration) -> bool {
        let mut state = self.state();
        let ticket = state.accepted;
        state.is_urgent |= state.done < ticket;
        self.work.notify_one();
        let (state, _) = self
            .written
            .wait_timeout_while(state, within, |state| state.done < ticket && !state.is_finished)
            .expect("no holder of the lock panics");
        state.done >= ticket
    }

    /// From now on nothing is accepted, and the writer ends when it has written what waits.
    pub(super) fn begin_close(&self) {
        self.state().is_closing = true;
        self.work.notify_one();
    }

    /// Closes, and waits for the writer's end; says whether it came.
    pub(super) fn close(&self, within: Duration) -> bool {
        self.begin_close();
        let (state, _) = self
            .written
            .wait_timeout_while(self.state(), within, |state| !state.is_finished)
            .expect("no holder of the lock panics");
        state.is_finished
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> (MutexGuard<'a, State>, bool) {
        let (state, result) = self.work.wait_timeout(state, time).expect("no holder of the lock panics");
        (state, result.timed_out())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the lock panics")
    }
}

impl State {
    /// Whether the journal was not owed a note before.
    fn owe(&mut self, journal: &Arc<Journal>) -> bool {
        let is_new = !self.owed.iter().any(|owed| Arc::ptr_eq(owed, journal));
        if is_new {
            self.owed.push(Arc::clone(journal));
        }
        is_new
    }

    /// Whether the writer should no longer wait for more lines to gather.
    fn is_pressing(&self) -> bool {
        self.is_closing
            || self.is_urgent
            || self.lines.len() >= MAX_LINES / 2
            || self.bytes >= MAX_BYTES / 2
    }
}

#[cfg(test)]
mod tests {
    use bkg_protocol::message::LogLevel;

    use super::super::{Counters, NewLine};
    use super::*;

    fn journal(directory: &tempfile::TempDir) -> Arc<Journal> {
        Arc::new(Journal::open(
            "ping".parse().unwrap(),
            directory.path().to_owned(),
            10,
            Arc::new(jiff::Timestamp::now),
        ))
    }

    fn next(queue: &Queue) -> Batch {
        queue.next(Instant::now() + Duration::from_secs(60))
    }

    #[test]
    fn a_full_queue_refuses_counts_and_notes_it_as_soon_as_there_is_room() {
        let directory = tempfile::tempdir().unwrap();
        let (queue, counters, journal) = (Queue::default(), Counters::default(), journal(&directory));
        for number in 0..MAX_LINES + 5 {
            journal.append(NewLine::host(LogLevel::Info, number.to_string()), &queue, &counters);
        }
        let batch = next(&queue);
        assert_eq!((batch.lines.len(), batch.owed.len(), batch.is_last), (MAX_LINES, 1, false));
        assert!(!journal.settle(Instant::now(), 10, &queue, &counters));
        let batch = next(&queue);
        let messages: Vec<_> = batch.lines.iter().map(|queued| queued.line.message.as_str()).collect();
        assert_eq!(messages, ["5 lines are missing from the log files: the disk did not take them"]);
        assert_eq!(journal.last_seq(), MAX_LINES as u64 + 6, "the ring has them all");
    }

    #[test]
    fn a_note_that_finds_no_room_is_counted_in_the_next_one() {
        let directory = tempfile::tempdir().unwrap();
        let (queue, counters, journal) = (Queue::default(), Counters::default(), journal(&directory));
        for number in 0..MAX_LINES + 5 {
            journal.append(NewLine::host(LogLevel::Info, number.to_string()), &queue, &counters);
        }
        journal.settle(Instant::now(), 10, &queue, &counters);
        assert_eq!(next(&queue).owed.len(), 1);
        let notes = journal.settle_last(10);
        assert_eq!(notes[0].message, "6 lines are missing from the log files: the disk did not take them");
    }

    #[test]
    fn long_lines_fill_the_queue_by_their_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let (queue, counters, journal) = (Queue::default(), Counters::default(), journal(&directory));
        for _ in 0..200 {
            journal.append(NewLine::host(LogLevel::Info, "x".repeat(60_000)), &queue, &counters);
        }
        let bytes: usize = next(&queue).lines.iter().map(|queued| queued.line.cost()).sum();
        assert!((MAX_BYTES / 2..=MAX_BYTES).contains(&bytes), "{bytes}");
    }

    #[test]
    fn a_closed_queue_gives_what_it_has_and_takes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (queue, counters, journal) = (Queue::default(), Counters::default(), journal(&directory));
        journal.append(NewLine::host(LogLevel::Info, "before"), &queue, &counters);
        queue.begin_close();
        journal.append(NewLine::host(LogLevel::Info, "after"), &queue, &counters);
        let batch = next(&queue);
        assert_eq!((batch.lines.len(), batch.is_last), (1, true));
    }

    #[test]
    fn nobody_waits_longer_than_they_said_for_a_writer_that_hangs() {
        let directory = tempfile::tempdir().unwrap();
        let (queue, counters, journal) = (Queue::default(), Counters::default(), journal(&directory));
        assert!(queue.flush(Duration::ZERO), "nothing is waiting");
        journal.append(NewLine::host(LogLevel::Info, "x"), &queue, &counters);
        assert!(!queue.flush(Duration::from_millis(1)));
        assert!(!queue.close(Duration::from_millis(1)));
    }
}
