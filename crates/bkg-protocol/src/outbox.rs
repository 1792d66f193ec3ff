//! Frames that wait to be written, in two lanes.
//!
//! Credits, cancels, health and drain overtake data, so that a full socket cannot keep a cancel from
//! freeing it. They never overtake the `request` that they are about: a `cancel` takes a `request`
//! that still waits back instead, and a `credit` queues behind it.

use std::collections::VecDeque;

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    urgent: VecDeque<String>,
    data: VecDeque<Waiting>,
    bytes: usize,
    /// The frames in both lanes that are no requests of this side and not about one that waits.
    replies: Unread,
}

/// What waits to be written because of what the other side said. Requests wait by this side's own will,
/// and are bounded where they are made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Unread {
    pub(crate) frames: usize,
    pub(crate) bytes: usize,
}

impl Unread {
    fn add(&mut self, text: &str) {
        self.frames += 1;
        self.bytes += text.len();
    }

    fn remove(&mut self, text: &str) {
        self.frames -= 1;
        self.bytes -= text.len();
    }
}

#[derive(Debug)]
struct Waiting {
    /// The number of this side's own request, where the frame is one or is about one that waits.
    request: Option<u64>,
    text: String,
}

impl Outbox {
    pub(crate) fn push_urgent(&mut self, text: String) {
        self.bytes += text.len();
        self.replies.add(&text);
        self.urgent.push_back(text);
    }

    pub(crate) fn push(&mut self, text: String) {
        self.bytes += text.len();
        self.replies.add(&text);
        self.data.push_back(Waiting { request: None, text });
    }

    /// Adds a request, or a frame about a request that still waits.
    pub(crate) fn push_request(&mut self, number: u64, text: String) {
        self.bytes += text.len();
        self.data.push_back(Waiting { request: Some(number), text });
    }

    /// The next frame to write, with the number of the request that it is or is about.
    pub(crate) fn pop(&mut self) -> Option<(String, Option<u64>)> {
        let (text, request) = match self.urgent.pop_front() {
            Some(text) => (text, None),
            None => self.data.pop_front().map(|waiting| (waiting.text, waiting.request))?,
        };
        self.bytes -= text.len();
        if request.is_none() {
            self.replies.remove(&text);
        }
        Some((text, request))
    }

    /// Takes a request back that was not written yet, and what queues behind it.
    pub(crate) fn retract(&mut self, number: u64) {
        self.take_out(|waiting| waiting.request == Some(number));
    }

    /// Takes all requests back for which `is_waiting` holds. A number comes once for each frame.
    pub(crate) fn retract_requests(&mut self, is_waiting: impl Fn(u64) -> bool) -> Vec<u64> {
        self.take_out(|waiting| waiting.request.is_some_and(&is_waiting))
    }

    fn take_out(&mut self, is_meant: impl Fn(&Waiting) -> bool) -> Vec<u64> {
        let mut taken = Vec::new();
        let bytes = &mut self.bytes;
        self.data.retain(|waiting| {
            if is_meant(waiting) {
                *bytes -= waiting.text.len();
                taken.extend(waiting.request);
                return false;
            }
            true
        });
        taken
    }

    /// How many bytes wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What waits besides requests.
    pub(crate) fn unread(&self) -> Unread {
        self.replies
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}
