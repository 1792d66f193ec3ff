//! One log line, as it is kept, written and sent; and how a line comes to be fit for that.
//!
//! The invariants of a [`LogLine`]: it is bounded, and its texts hold nothing that a terminal or a
//! reader of lines would obey. Everything that comes from a plugin passes through [`NewLine`].

use std::fmt::Write;
use std::sync::Arc;

use bkg_protocol::message::{Log, LogLevel};
use bkg_protocol::{InstanceId, PluginName, RawJson};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use super::splitter::SplitLine;

/// The longest message that is kept, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 64 << 10;
/// The largest `fields` that are kept, in bytes.
const MAX_FIELDS_BYTES: usize = 16 << 10;

/// A line of a plugin's log.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogLine {
    /// Counts this plugin's lines from 1, over all restarts of the host.
    pub seq: u64,
    /// When the host received it.
    pub time: Timestamp,
    /// Whose log it belongs to.
    pub plugin: PluginName,
    /// Which launch it comes from or is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// How much it matters.
    pub level: LogLevel,
    /// How it came.
    pub stream: LogStream,
    /// The text, without control characters.
    pub message: String,
    /// Further facts from the plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<RawJson>,
    /// The request that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// When it happened, says the plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin_time: Option<Timestamp>,
}

/// How a line came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// A `log` message over the bus.
    Bus,
    /// The standard output of a process.
    Stdout,
    /// The standard error of a process.
    Stderr,
    /// The host says it about the plugin.
    Host,
}

impl LogStream {
    /// The stream that a word names.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Bus, Self::Stdout, Self::Stderr, Self::Host]
            .into_iter()
            .find(|stream| stream.as_str() == word)
    }

    /// The stream as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bus => "bus",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Host => "host",
        }
    }
}

/// Serialises shared lines as the lines themselves.
pub(super) fn as_lines<S: Serializer>(lines: &[Arc<LogLine>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(lines.iter().map(|line| &**line))
}

/// A line that has not been taken yet: not bounded, not cleaned, without number and time.
#[derive(Debug, Clone)]
pub struct NewLine {
    pub(super) instance: Option<InstanceId>,
    pub(super) stream: LogStream,
    level: LogLevel,
    message: String,
    /// How many bytes of the message were left out before it came here.
    left_out: u64,
    fields: Option<RawJson>,
    request_id: Option<String>,
    plugin_time: Option<Timestamp>,
}

impl NewLine {
    fn new(stream: LogStream, level: LogLevel, message: String) -> Self {
        Self {
            instance: None,
            stream,
            level,
            message,
            left_out: 0,
            fields: None,
            request_id: None,
            plugin_time: None,
        }
    }

    /// A line that a process printed.
    pub fn raw(stream: LogStream, line: SplitLine) -> Self {
        Self { left_out: line.left_out, ..Self::new(stream, LogLevel::Info, line.text) }
    }

    /// A `log` message.
    pub fn bus(log: Log) -> Self {
        Self {
            fields: log.fields,
            request_id: log.request_id.map(|id| id.as_str().to_owned()),
            plugin_time: log.timestamp,
            ..Self::new(LogStream::Bus, log.level, log.message)
        }
    }

    /// What the host says about the plugin.
    pub fn host(level: LogLevel, message: impl Into<String>) -> Self {
        Self::new(LogStream::Host, level, message.into())
    }

    /// The launch that it comes from or is about.
    pub fn instance(self, instance: InstanceId) -> Self {
        Self { instance: Some(instance), ..self }
    }

    /// Further facts.
    pub fn fields(self, fields: RawJson) -> Self {
        Self { fields: Some(fields), ..self }
    }

    /// The request that it is about.
    pub fn request(self, request_id: impl Into<String>) -> Self {
        Self { request_id: Some(request_id.into()), ..self }
    }

    pub(super) fn left_out(lines: u64, lines_per_second: u32, instance: Option<InstanceId>) -> Self {
        let message = format!(
            "{lines} {} left out: more than {lines_per_second} a second",
            if lines == 1 { "line" } else { "lines" }
        );
        Self { instance, ..Self::host(LogLevel::Warn, message) }
    }

    pub(super) fn unwritten(lines: u64) -> Self {
        let lines = if lines == 1 { "1 line is".to_owned() } else { format!("{lines} lines are") };
        Self::host(
            LogLevel::Warn,
            format!("{lines} missing from the log files: the disk did not take them"),
        )
    }

    /// Makes it fit to be kept. Number and time are still to be set.
    pub(super) fn clean(self, plugin: PluginName) -> LogLine {
        let (mut message, cut) = printable(&self.message, MAX_MESSAGE_BYTES);
        let left_out = self.left_out + cut as u64;
        if left_out > 0 {
            let _ = write!(message, "… ({left_out} bytes left out)");
        }
        let fields = match self.fields {
            Some(fields) if fields.as_str().len() > MAX_FIELDS_BYTES => {
                let _ = write!(message, " (fields of {} bytes left out)", fields.as_str().len());
                None
            }
            Some(fields) => one_line(&fields),
            None => None,
        };
        LogLine {
            seq: 0,
            time: Timestamp::UNIX_EPOCH,
            plugin,
            instance: self.instance,
            level: self.level,
            stream: self.stream,
            message,
            fields,
            request_id: self.request_id.map(|id| printable(&id, 128).0),
            plugin_time: self.plugin_time,
        }
    }
}

impl LogLine {
    /// How much memory the line takes, roughly, in bytes.
    pub(super) fn cost(&self) -> usize {
        size_of::<Self>()
            + self.message.len()
            + self.fields.as_ref().map_or(0, |fields| fields.as_str().len())
            + self.request_id.as_ref().map_or(0, String::len)
    }
}

/// Whether a terminal or a reader of lines could take the character for more than itself: control
/// characters, line separators, and those that turn the direction of the text around them.
fn is_unsafe(character: char) -> bool {
    (character.is_control() && character != '\t')
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text with such characters escaped, at most `most` bytes of it, and how many bytes of the
/// original were left out.
pub fn printable(text: &str, most: usize) -> (String, usize) {
    if text.len() <= most && !text.chars().any(is_unsafe) {
        return (text.to_owned(), 0);
    }
    let mut clean = String::with_capacity(text.len().min(most));
    let mut escape = String::new();
    for (position, character) in text.char_indices() {
        escape.clear();
        match character {
            '\n' => escape.push_str("\\n"),
            '\r' => escape.push_str("\\r"),
            other if is_unsafe(other) => {
                let code = u32::from(other);
                let _ = if code < 0x100 {
                    write!(escape, "\\x{code:02x}")
                } else {
                    write!(escape, "\\u{{{code:x}}}")
                };
            }
            other => escape.push(other),
        }
        if clean.len() + escape.len() > most {
            return (clean, text.len() - position);
        }
        clean.push_str(&escape);
    }
    (clean, 0)
}

/// JSON on one line, in memory of its own: the text may be a small part of a large frame, which it
/// would keep alive.
fn one_line(json: &RawJson) -> Option<RawJson> {
    let mut text = String::with_capacity(json.as_str().len());
    for character in json.as_str().chars() {
        match character {
            // Inside a JSON text these stand between values only.
            '\n' | '\r' => text.push(' '),
            // And these inside strings only, where they may be written as escapes.
            other if is_unsafe(other) => {
                let _ = write!(text, "\\u{:04x}", u32::from(other));
            }
            other => text.push(other),
        }
    }
    RawJson::parse(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(line: NewLine) -> LogLine {
        line.clean("ping".parse().unwrap())
    }

    fn message(text: &str) -> String {
        clean(NewLine::host(LogLevel::Info, text)).message
    }

    #[test]
    fn a_line_has_this_form_on_disk_and_over_http() {
        let log: Log = serde_json::from_str(
            r#"{"level": "WARNING", "message": "hot", "timestamp": "2026-01-02T03:04:05", "fields": {"a": 1.0},
                "requestId": "r-1"}"#,
        )
        .unwrap();
        let instance: InstanceId = "0198f2a0-0000-7000-8000-000000000001".parse().unwrap();
        let line = LogLine {
            seq: 7,
            time: "2026-01-02T03:04:06.5Z".parse().unwrap(),
            ..clean(NewLine::bus(log).instance(instance))
        };
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(
            text,
            "{\"seq\":7,\"time\":\"2026-01-02T03:04:06.5Z\",\"plugin\":\"ping\",\
             \"instance\":\"0198f2a0-0000-7000-8000-000000000001\",\"level\":\"warn\",\"stream\":\"bus\",\
             \"message\":\"hot\",\"fields\":{\"a\": 1.0},\"requestId\":\"r-1\",\"pluginTime\":\"2026-01-02T03:04:05Z\"}"
        );
        assert_eq!(serde_json::from_str::<LogLine>(&text).unwrap(), line);
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        for (text, expected) in [
            ("plain\ttext – ü", "plain\ttext – ü"),
            ("two\r\nlines", "two\\r\\nlines"),
            ("\u{1b}[31mred", "\\x1b[31mred"),
            ("bell\u{7} del\u{7f} c1\u{9b}", "bell\\x07 del\\x7f c1\\x9b"),
            ("turn\u{202e}ed", "turn\\u{202e}ed"),
            ("nul\0", "nul\\x00"),
        ] {
            assert_eq!(message(text), expected);
        }
    }

    #[test]
    fn a_long_message_is_cut_with_a_note() {
        let text = "é".repeat(MAX_MESSAGE_BYTES);
        let cut = message(&text);
        assert_eq!(cut.len(), MAX_MESSAGE_BYTES + "… (65536 bytes left out)".len());
        assert!(cut.ends_with("é… (65536 bytes left out)"));

        let binary = "\0".repeat(MAX_MESSAGE_BYTES);
        let cut = message(&binary);
        assert!(cut.len() <= MAX_MESSAGE_BYTES + 40, "escapes count too");
        assert!(cut.ends_with("\\x00… (49152 bytes left out)"), "{}", &cut[cut.len() - 40..]);

        let exact = "x".repeat(MAX_MESSAGE_BYTES);
        assert_eq!(message(&exact), exact);
    }

    #[test]
    fn what_was_cut_before_is_counted_with_it() {
        let line = SplitLine { text: "start".to_owned(), left_out: 12 };
        assert_eq!(clean(NewLine::raw(LogStream::Stderr, line)).message, "start… (12 bytes left out)");
    }

    #[test]
    fn fields_stay_on_one_line_and_mean_the_same() {
        let fields = RawJson::parse("{\n  \"a\": \"x\u{9b}\u{202e}\",\r\n  \"b\": 1E400\n}").unwrap();
        let line = clean(NewLine::host(LogLevel::Info, "m").fields(fields.clone()));
        let kept = line.fields.unwrap();
        assert_eq!(kept.as_str(), "{   \"a\": \"x\\u009b\\u202e\",    \"b\": 1E400 }");
        let value = |json: &RawJson| {
            json.read::<std::collections::BTreeMap<String, RawJson>>().unwrap()["a"]
                .read::<String>()
                .unwrap()
        };
        assert_eq!(value(&kept), value(&fields));
    }

    #[test]
    fn fields_that_are_too_large_are_left_out_with_a_note() {
        let fields = RawJson::of(&"x".repeat(MAX_FIELDS_BYTES));
        let line = clean(NewLine::host(LogLevel::Info, "m").fields(fields).request("r\n"));
        assert_eq!((line.message.as_str(), line.fields), ("m (fields of 16386 bytes left out)", None));
        assert_eq!(line.request_id.as_deref(), Some("r\\n"));
    }
}
