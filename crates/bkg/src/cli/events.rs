//! Server-sent events, read from any stream of lines: the format of the HTML standard, section
//! "Server-sent events".
//!
//! Not the connection, and not what events mean. The invariant: only what ended with its empty line
//! is an event; what a broken connection left half done is dropped.

use std::io::{self, BufRead};

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// Its type; `message` where it names none.
    pub(super) kind: String,
    /// Its data, lines joined by line ends.
    pub(super) data: String,
    /// What the next connection says to go on after it, if it has a name.
    pub(super) id: Option<String>,
}

/// The events of one stream, until it ends or breaks.
pub(super) struct Events<R> {
    stream: R,
}

impl<R: BufRead> Events<R> {
    /// Reads from `stream`.
    pub(super) fn new(stream: R) -> Self {
        Self { stream }
    }

    fn next_event(&mut self) -> io::Result<Option<Event>> {
        let (mut kind, mut data, mut id) = (String::new(), Vec::new(), None);
        let mut line = String::new();
        loop {
            line.clear();
            if self.stream.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            let text = line.trim_end_matches(['\n', '\r']);
            if text.is_empty() {
                if data.is_empty() {
                    kind.clear();
                    continue;
                }
                if kind.is_empty() {
                    "message".clone_into(&mut kind);
                }
                return Ok(Some(Event { kind, data: data.join("\n"), id }));
            }
            let (field, value) = text.split_once(':').unwrap_or((text, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut kind),
                "data" => data.push(value.to_owned()),
                "id" => id = Some(value.to_owned()),
                // A comment has an empty name.
                _ => {}
            }
        }
    }
}

impl<R: BufRead> Iterator for Events<R> {
    type Item = io::Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_event().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(stream: &str) -> Vec<(String, String)> {
        Events::new(stream.as_bytes())
            .map(|event| event.unwrap())
            .map(|event| (event.kind, event.data))
            .collect()
    }

    fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
        pairs.map(|(kind, data)| (kind.to_owned(), data.to_owned())).into()
    }

    #[test]
    fn events_end_with_an_empty_line() {
        let stream =
            "id: 1\nevent: line\ndata: {\"a\": 1}\n\n: keep-alive\n\nevent: gap\ndata:x\ndata: y\n\n";
        assert_eq!(events(stream), pairs([("line", "{\"a\": 1}"), ("gap", "x\ny")]));
    }

    #[test]
    fn an_event_without_a_type_is_a_message_and_one_without_data_is_none() {
        assert_eq!(
            events("data: x\r\n\r\nevent: line\n\ndata: y\n\n"),
            pairs([("message", "x"), ("message", "y")])
        );
    }

    #[test]
    fn an_event_has_its_own_id_and_no_others() {
        let stream = "id: 7\ndata: x\n\ndata: y\n\n";
        let ids: Vec<Option<String>> =
            Events::new(stream.as_bytes()).map(|event| event.unwrap().id).collect();
        assert_eq!(ids, [Some("7".to_owned()), None]);
    }

    #[test]
    fn a_half_event_is_dropped() {
        assert_eq!(events("data: whole\n\nevent: line\ndata: hal"), pairs([("message", "whole")]));
    }
}
