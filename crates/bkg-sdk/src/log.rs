//! Log lines to the host, straight from the plugin or from its `tracing` events.
//!
//! Lines that cannot leave yet (no session, or a socket that is behind) are kept, a bounded number of
//! them: the oldest go first, and the host is told how many went. Logging never waits.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use bkg_protocol::message::{Log, LogLevel, PluginMessage};
use bkg_protocol::{RawJson, RequestId};
use jiff::Timestamp;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use crate::session::Session;

/// How many lines are kept while they cannot leave.
const KEPT: usize = 512;
/// Longer messages are cut: a line is for people.
const LONGEST_MESSAGE: usize = 16 << 10;
/// Larger sets of fields are left out.
const LARGEST_FIELDS: usize = 32 << 10;

tokio::task_local! {
    /// The request that the current task answers, so that its log lines can say so.
    pub(crate) static CURRENT_REQUEST: RequestId;
}

/// Where log lines go in and leave when they can.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    plugin: Option<String>,
    session: Option<Arc<Session>>,
    kept: VecDeque<Log>,
    lost: u64,
}

impl Logs {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }

    /// From now on lines leave through this session.
    pub(crate) fn attach(&self, plugin: &str, session: Arc<Session>) {
        let mut state = self.lock();
        state.plugin = Some(plugin.to_owned());
        state.session = Some(session);
        state.send_what_can_leave();
    }

    /// Lines are kept until there is a session again.
    pub(crate) fn detach(&self) {
        self.lock().session = None;
    }

    /// Sends what was kept, as far as the session takes it.
    pub(crate) fn flush(&self) {
        self.lock().send_what_can_leave();
    }

    pub(crate) fn write(&self, level: LogLevel, message: String, fields: Option<RawJson>) {
        let line = Log {
            plugin: None,
            level,
            message: cut(message),
            timestamp: Some(Timestamp::now()),
            fields: fields.filter(|fields| fields.as_str().len() <= LARGEST_FIELDS),
            request_id: CURRENT_REQUEST.try_with(RequestId::clone).ok(),
        };
        let mut state = self.lock();
        state.kept.push_back(line);
        if state.kept.len() > KEPT {
            state.kept.pop_front();
            state.lost += 1;
        }
        state.send_what_can_leave();
    }
}

impl State {
    fn send_what_can_leave(&mut self) {
        let Some(session) = &self.session else { return };
        if self.lost > 0 && session.has_room_for_logs() {
            let message = format!("{} log lines are lost: they could not be sent in time", self.lost);
            session.say(&PluginMessage::Log(Log {
                plugin: self.plugin.clone(),
                level: LogLevel::Warn,
                message,
                timestamp: Some(Timestamp::now()),
                fields: None,
                request_id: None,
            }));
            self.lost = 0;
        }
        while !self.kept.is_empty() && session.has_room_for_logs() {
            if let Some(line) = self.kept.pop_front() {
                session.say(&PluginMessage::Log(Log { plugin: self.plugin.clone(), ..line }));
            }
        }
    }
}

fn cut(mut message: String) -> String {
    if message.len() > LONGEST_MESSAGE {
        let left_out = message.len() - message.floor_char_boundary(LONGEST_MESSAGE);
        message.truncate(message.len() - left_out);
        message.push_str(&format!("… ({left_out} more bytes)"));
    }
    message
}

/// Sends `tracing` events to the host as log lines: [`crate::Plugin::log_layer`] makes one.
///
/// The message becomes the line, the event's fields and its target become the line's fields. Events
/// of a task that answers a request carry the request's id; spans are not sent.
pub struct LogLayer {
    logs: Arc<Logs>,
}

impl LogLayer {
    pub(crate) fn new(logs: Arc<Logs>) -> Self {
        Self { logs }
    }
}

impl fmt::Debug for LogLayer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("LogLayer").finish_non_exhaustive()
    }
}

thread_local! {
    /// Whether this thread is inside [`LogLayer::on_event`]: a value whose `Debug` logs would come
    /// round again without end.
    static LOGGING: Cell<bool> = const { Cell::new(false) };
}

/// Marks this thread as logging until it is dropped, also by a panic.
struct Logging;

impl Logging {
    /// `None` where the thread is marked already.
    fn begin() -> Option<Self> {
        (!LOGGING.replace(true)).then_some(Self)
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        LOGGING.set(false);
    }
}

impl<S: Subscriber> Layer<S> for LogLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let Some(_logging) = Logging::begin() else { return };
        let mut facts = Facts::default();
        event.record(&mut facts);
        facts.fields.insert("target".to_owned(), event.metadata().target().into());
        let level = match *event.metadata().level() {
            Level::TRACE => LogLevel::Trace,
            Level::DEBUG => LogLevel::Debug,
            Level::INFO => LogLevel::Info,
            Level::WARN => LogLevel::Warn,
            Level::ERROR => LogLevel::Error,
        };
        self.logs.write(level, facts.message, Some(Value::Object(facts.fields).into()));
    }
}

#[derive(Default)]
struct Facts {
    message: String,
    fields: Map<String, Value>,
}

impl Facts {
    fn put(&mut self, field: &Field, value: Value) {
        self.fields.insert(field.name().to_owned(), value);
    }
}

impl Visit for Facts {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.put(field, format!("{value:?}").into());
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = value.to_owned();
        } else {
            self.put(field, value.into());
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_without_a_session_are_kept_and_the_oldest_are_counted_as_lost() {
        let logs = Logs::default();
        for number in 0..KEPT + 3 {
            logs.write(LogLevel::Info, format!("line {number}"), None);
        }
        let state = logs.lock();
        assert_eq!((state.kept.len(), state.lost), (KEPT, 3));
        assert_eq!(state.kept.front().unwrap().message, "line 3");
    }

    #[test]
    fn a_long_message_is_cut_and_says_by_how_much() {
        let message = cut("é".repeat(LONGEST_MESSAGE));
        assert!(message.ends_with(&format!("… ({LONGEST_MESSAGE} more bytes)")), "{}", message.len());
        assert_eq!(cut("short".to_owned()), "short");
    }
}
