//! What one session hears of topics: which ones it wants, and the events that wait to be written to it.
//!
//! Not who may publish or hear what (`bus::topics`), nor the socket: its task takes an event when it has
//! nothing else to write. The invariant: what waits is bounded in number and in bytes, whatever others
//! publish and however little the plugin reads; the oldest goes first, and is counted.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bkg_protocol::TopicName;
use bkg_protocol::message::Event;

/// How many topics one session may want: each costs a look at every event that is published.
pub const MOST_TOPICS: usize = 256;
/// How many events may wait for one session. As many as the SDKs keep for a subscriber that is behind;
/// then the oldest is dropped.
const MOST_WAITING: usize = 256;
/// How many bytes of events may wait for one session, unless a single one is larger. Then the oldest are
/// dropped.
const MOST_BYTES: usize = 1 << 20;
/// How many bytes of an `event` frame are neither its topic nor its data.
const ENVELOPE: usize = r#"{"type":"event","topic":"","data":}"#.len();

/// The topics of one session.
#[derive(Debug)]
pub struct Topics {
    /// The largest frame that the plugin takes, in bytes.
    frame_limit: usize,
    state: Mutex<Wanted>,
}

#[derive(Debug, Default)]
struct Wanted {
    names: BTreeSet<TopicName>,
    waiting: VecDeque<Event>,
    bytes: usize,
    counts: TopicCounts,
    over: bool,
}

/// How often what happened to events of one session, since it registered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TopicCounts {
    /// Those that it published.
    pub published: u64,
    /// Those that were written to it.
    pub delivered: u64,
    /// Those that it missed because it did not read fast enough.
    pub missed: u64,
    /// Those that exceed the frame that it takes.
    pub too_large: u64,
    /// What it said about topics and may not say.
    pub refused: u64,
}

/// What can be seen of the topics of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicFigures {
    /// The topics that it wants, in alphabetical order.
    pub names: Vec<TopicName>,
    /// How many events wait to be written.
    pub waiting: usize,
    /// What happened so far.
    pub counts: TopicCounts,
}

/// The session wants [`MOST_TOPICS`] topics already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyTopics;

impl Topics {
    /// Wants nothing yet; `frame_limit` is the largest frame that the plugin takes, in bytes.
    pub(super) fn new(frame_limit: usize) -> Self {
        Self { frame_limit, state: Mutex::default() }
    }

    /// Wants a topic from now on. A second time changes nothing.
    ///
    /// # Errors
    /// It would be one too many.
    pub fn want(&self, topic: TopicName) -> Result<(), TooManyTopics> {
        let mut state = self.lock();
        if state.names.len() >= MOST_TOPICS && !state.names.contains(&topic) {
            return Err(TooManyTopics);
        }
        state.names.insert(topic);
        Ok(())
    }

    /// Wants a topic no more, nor the events of it that wait.
    pub fn give_up(&self, topic: &str) {
        let mut state = self.lock();
        if state.names.remove(topic) {
            state.waiting.retain(|event| event.topic != topic);
            state.bytes = state.waiting.iter().map(size).sum();
        }
    }

    /// Keeps an event for the session if it wants its topic; answers whether there is something to write.
    pub(super) fn offer(&self, event: &Event) -> bool {
        let mut state = self.lock();
        if state.over || !state.names.contains(event.topic.as_str()) {
            return false;
        }
        let bytes = size(event);
        if bytes > self.frame_limit {
            state.counts.too_large += 1;
            return false;
        }
        while !state.waiting.is_empty()
            && (state.waiting.len() >= MOST_WAITING || state.bytes + bytes > MOST_BYTES)
        {
            state.take();
            state.counts.missed += 1;
        }
        state.bytes += bytes;
        state.waiting.push_back(event.clone());
        true
    }

    /// Whether events wait.
    pub fn has_waiting(&self) -> bool {
        !self.lock().waiting.is_empty()
    }

    /// The oldest event that waits, to be written now.
    pub fn next(&self) -> Option<Event> {
        let mut state = self.lock();
        let event = state.take()?;
        state.counts.delivered += 1;
        Some(event)
    }

    /// Counts an event that the session published.
    pub fn published(&self) {
        self.lock().counts.published += 1;
    }

    /// Counts something that the session may not say.
    pub fn refused(&self) {
        self.lock().counts.refused += 1;
    }

    /// What can be seen at this moment.
    pub fn figures(&self) -> TopicFigures {
        let state = self.lock();
        TopicFigures {
            names: state.names.iter().cloned().collect(),
            waiting: state.waiting.len(),
            counts: state.counts,
        }
    }

    /// The session is over: nothing waits any more, and nothing comes.
    pub fn close(&self) {
        let mut state = self.lock();
        *state = Wanted { counts: state.counts, over: true, ..Wanted::default() };
    }

    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wanted {
    fn take(&mut self) -> Option<Event> {
        let event = self.waiting.pop_front()?;
        self.bytes -= size(&event);
        Some(event)
    }
}

/// How many bytes the frame of an event has: the name of a topic needs no escapes.
fn size(event: &Event) -> usize {
    ENVELOPE + event.topic.len() + event.data.as_str().len()
}

#[cfg(test)]
mod tests {
    use bkg_protocol::frame::Message;
    use bkg_protocol::{HostMessage, RawJson};

    use super::*;

    fn event(topic: &str, data: &str) -> Event {
        Event { topic: topic.to_owned(), data: RawJson::of(data), client: None }
    }

    fn wanting(frame_limit: usize, topics: &[&str]) -> Topics {
        let wanted = Topics::new(frame_limit);
        for topic in topics {
            wanted.want(topic.parse().unwrap()).unwrap();
        }
        wanted
    }

    #[test]
    fn an_event_is_kept_for_those_who_want_its_topic() {
        let topics = wanting(1_000, &["a.b"]);
        assert!(topics.offer(&event("a.b", "1")) && !topics.offer(&event("a.c", "2")));
        assert_eq!(topics.next(), Some(event("a.b", "1")));
        assert_eq!(topics.next(), None);
        topics.offer(&event("a.b", "3"));
        topics.give_up("a.b");
        assert!(!topics.has_waiting() && !topics.offer(&event("a.b", "4")));
    }

    #[test]
    fn the_oldest_go_when_too_many_wait() {
        let topics = wanting(1_000, &["a.b"]);
        for number in 0..MOST_WAITING + 3 {
            topics.offer(&event("a.b", &number.to_string()));
        }
        assert_eq!(topics.next(), Some(event("a.b", "3")));
        assert_eq!((topics.figures().waiting, topics.figures().counts.missed), (MOST_WAITING - 1, 3));
    }

    #[test]
    fn the_oldest_go_when_what_waits_is_too_large() {
        let topics = wanting(2 * MOST_BYTES, &["a.b"]);
        for fill in ["x", "y", "z"] {
            topics.offer(&event("a.b", &fill.repeat(MOST_BYTES / 2 - 100)));
        }
        assert_eq!((topics.figures().waiting, topics.figures().counts.missed), (2, 1));
        assert!(topics.offer(&event("a.b", &"w".repeat(MOST_BYTES + 1))), "one of any size may wait");
        assert_eq!((topics.figures().waiting, topics.figures().counts.missed), (1, 3));
        topics.next();
        assert_eq!(topics.lock().bytes, 0);
    }

    #[test]
    fn what_exceeds_the_frame_of_the_receiver_is_counted_and_goes_no_further() {
        let small = event("a.b", "é\n");
        let frame = HostMessage::Event(small.clone()).encode();
        assert_eq!(size(&small), frame.len());
        assert!(wanting(frame.len(), &["a.b"]).offer(&small));
        let topics = wanting(frame.len() - 1, &["a.b"]);
        assert!(!topics.offer(&small));
        assert_eq!(topics.figures().counts, TopicCounts { too_large: 1, ..TopicCounts::default() });
    }

    #[test]
    fn the_number_of_topics_is_bounded() {
        let topics = Topics::new(1_000);
        for number in 0..MOST_TOPICS {
            topics.want(format!("a.{number}").parse().unwrap()).unwrap();
        }
        assert_eq!(topics.want("a.more".parse().unwrap()), Err(TooManyTopics));
        assert_eq!(topics.want("a.0".parse().unwrap()), Ok(()), "it wants that one already");
        topics.give_up("a.0");
        assert_eq!(topics.want("a.more".parse().unwrap()), Ok(()));
    }

    #[test]
    fn nothing_waits_for_a_session_that_is_over() {
        let topics = wanting(1_000, &["a.b"]);
        topics.offer(&event("a.b", "1"));
        topics.close();
        assert!(!topics.offer(&event("a.b", "2")) && !topics.has_waiting());
        assert!(topics.figures().names.is_empty());
    }
}
