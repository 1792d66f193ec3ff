//! What is said over the live socket: every message in both directions, and their JSON Schemas.
//!
//! Not when something is said: `docs/live.md` has the conversation. The invariant: nothing goes over the
//! socket that is no value of these types, so the schemas that are made from them tell all of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bkg_protocol::ErrorCode;
use bkg_protocol::message::LogLevel;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::logs::LogLine;
use crate::plugin_object::PluginObject;
use crate::store::AuditRow;
use crate::telemetry::Sample;

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(tag = "action", rename_all_fields = "camelCase")]
#[schemars(rename = "LiveClientMessage")]
pub enum ClientMessage {
    /// Begins to follow a topic, or goes on with it after a number. What was followed of the topic
    /// before is replaced, unless both are about single plugins.
    #[serde(rename = "SUB")]
    Subscribe {
        /// What to follow.
        topic: Topic,
        /// The plugin; all that the caller may see, if there is none. Never for `audit`.
        plugin_id: Option<String>,
        /// The number of the last event that the client has: the first one sent is the next after it.
        since: Option<Position>,
        /// The `epoch` of the bootstrap that `since` belongs to; needed with the topics whose numbers
        /// begin anew with each run of the daemon, `status` and `telemetry`.
        epoch: Option<String>,
        /// The least level of log lines.
        level: Option<LogLevel>,
    },
    /// Ends what `SUB` with the same topic and plugin began; without a plugin, all of the topic.
    #[serde(rename = "UNSUB")]
    Unsubscribe {
        /// What was followed.
        topic: Topic,
        /// The plugin.
        plugin_id: Option<String>,
    },
    /// Asks for a `pong`, for clients that cannot send a ping of the protocol.
    #[serde(rename = "PING")]
    Ping,
}

/// What can be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Topic {
    /// The state of plugins.
    Status,
    /// The log lines of plugins.
    Logs,
    /// What the processes of plugins cost.
    Telemetry,
    /// The audit log.
    Audit,
}

/// A place in the events of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Position {
    /// The number of an event.
    Number(u64),
    /// Where each plugin has numbers of its own, which is so with `logs`: the number by plugin.
    ByPlugin(BTreeMap<String, u64>),
}

/// What the daemon says.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase", rename_all_fields = "camelCase")]
#[schemars(rename = "LiveServerMessage")]
pub enum ServerMessage {
    /// How things are at the moment; always the first message, and said once.
    Bootstrap {
        /// How things are.
        payload: Box<Bootstrap>,
    },
    /// The answer to `SUB`.
    Subscribed {
        /// What is followed now.
        topic: Topic,
        /// The plugin; none for all.
        plugin_id: Option<String>,
        /// The number after which events come; none if what comes first is a fresh snapshot.
        from: Option<Position>,
    },
    /// The answer to `UNSUB`; no event of it comes after this.
    Unsubscribed {
        /// What is not followed any more.
        topic: Topic,
        /// The plugin; none for all.
        plugin_id: Option<String>,
    },
    /// The answer to `PING`.
    Pong,
    /// The answer to a message that is not obeyed, or the end of a subscription that cannot go on. The
    /// socket stays open.
    Error {
        /// One of the codes of `docs/errors`.
        #[schemars(with = "String")]
        code: &'static str,
        /// What happened, to what, and what to do next.
        message: String,
        /// The topic that it is about.
        topic: Option<Topic>,
        /// The plugin that it is about.
        plugin_id: Option<String>,
    },
    /// Something was left out here: what is still kept of it can be asked for over HTTP.
    Gap {
        /// Of what.
        topic: Topic,
        /// Of which plugin.
        plugin_id: Option<String>,
        /// How many events, or log lines; of `telemetry`, those of all plugins together.
        missed: u64,
    },
    /// A plugin has changed. States that were over before this could be sent are left out.
    Status {
        /// `status`.
        topic: Topic,
        /// The plugin.
        plugin_id: Option<String>,
        /// Counts the changes of all plugins in this run of the daemon.
        seq: u64,
        /// The whole plugin, as `GET /admin/plugins/{name}` answers it.
        payload: Box<PluginObject>,
    },
    /// Some lines of a plugin's log, oldest first.
    Logs {
        /// `logs`.
        topic: Topic,
        /// The plugin.
        plugin_id: Option<String>,
        /// The number of the last line that was looked at; `level` may have left that one out.
        seq: u64,
        /// The lines.
        payload: LogBatch,
    },
    /// What the processes of one launch cost at one moment.
    Telemetry {
        /// `telemetry`.
        topic: Topic,
        /// The plugin.
        plugin_id: Option<String>,
        /// Counts the samples of all plugins in this run of the daemon.
        seq: u64,
        /// The sample, as `GET /admin/plugins/{name}/telemetry` answers it.
        payload: Arc<Sample>,
    },
    /// A row of the audit log.
    Audit {
        /// `audit`.
        topic: Topic,
        /// None.
        plugin_id: Option<String>,
        /// The row's number.
        seq: u64,
        /// The row, as `GET /admin/audit` answers it.
        payload: Box<AuditRow>,
    },
}

/// How things are when a socket is opened, as far as its caller may know.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Bootstrap {
    /// Names this run of the daemon.
    pub epoch: String,
    /// What the caller may follow.
    pub topics: Vec<Topic>,
    /// The plugins, as `GET /admin/plugins` answers them; none without the scope for it.
    pub plugins: Vec<PluginObject>,
    /// The numbers that things have come to: a `SUB` with one of them as `since` misses nothing.
    pub sequences: Sequences,
}

/// The number of the newest event of each topic that the caller may follow.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct Sequences {
    /// Of `status`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u64>,
    /// Of `telemetry`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub telemetry: Option<u64>,
    /// Of `audit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit: Option<u64>,
    /// Of `logs`, by plugin.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub logs: BTreeMap<String, u64>,
}

/// Log lines that go together.
#[derive(Debug, Serialize, JsonSchema)]
pub struct LogBatch {
    /// The lines, oldest first.
    pub lines: Vec<Arc<LogLine>>,
}

/// A message as it is sent; cheap to share between sockets.
pub(super) type Text = Utf8Bytes;

impl ClientMessage {
    /// Reads what a client said.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        // Serde would read a list as the members in their order.
        if !text.trim_start().starts_with('{') {
            return Err("the message is no JSON object".to_owned());
        }
        serde_json::from_str(text)
            .map_err(|error| format!("the message does not fit: {error}: `docs/live.md` has those that do"))
    }
}

impl ServerMessage {
    /// The message as text.
    pub(super) fn text(&self) -> Text {
        serde_json::to_string(self).expect("messages are JSON").into()
    }

    /// An error about a topic, or about nothing in particular.
    pub(super) fn error(
        code: ErrorCode,
        message: impl Into<String>,
        about: Option<(Topic, Option<String>)>,
    ) -> Self {
        let (topic, plugin_id) = about.map_or((None, None), |(topic, plugin)| (Some(topic), plugin));
        Self::Error { code: code.as_str(), message: message.into(), topic, plugin_id }
    }
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Status, Self::Logs, Self::Telemetry, Self::Audit];

    /// The scope that a caller needs to follow it.
    pub fn scope(self) -> &'static str {
        match self {
            Self::Status | Self::Logs | Self::Telemetry => "plugin:read",
            Self::Audit => "audit:read",
        }
    }
}

/// The schemas by file name: `live-client-message.json` and `live-server-message.json`.
pub fn schemas() -> [(&'static str, serde_json::Value); 2] {
    let server = schemars::generate::SchemaSettings::draft2020_12().for_serialize();
    [
        ("live-client-message.json", schemars::schema_for!(ClientMessage).to_value()),
        (
            "live-server-message.json",
            server.into_generator().into_root_schema_for::<ServerMessage>().to_value(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    /// `BKG_BLESS=1` writes them anew after a change of the messages.
    #[test]
    fn the_committed_schemas_are_those_of_the_types() {
        let blessed = std::env::var_os("BKG_BLESS").is_some_and(|value| value == "1");
        for (name, schema) in schemas() {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas").join(name);
            let expected = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
            if blessed {
                std::fs::write(&file, &expected).unwrap();
            }
            let committed = std::fs::read_to_string(&file).unwrap_or_default();
            assert!(
                committed == expected,
                "`{}` is not what the types say: run with `BKG_BLESS=1` and read the difference",
                file.display()
            );
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_a_reason_and_what_fits_is_right_by_the_schema() {
        let schema = jsonschema::validator_for(&schemas()[0].1).unwrap();
        for right in [
            json!({ "action": "SUB", "topic": "status" }),
            json!({ "action": "SUB", "topic": "logs", "pluginId": "ping", "since": 7, "level": "warn" }),
            json!({ "action": "SUB", "topic": "logs", "since": { "ping": 7 }, "epoch": null }),
            json!({ "action": "UNSUB", "topic": "audit", "pluginId": null }),
            json!({ "action": "PING", "and": "more" }),
        ] {
            assert!(ClientMessage::parse(&right.to_string()).is_ok(), "{right}");
            assert!(schema.is_valid(&right), "{right}");
        }
        for (wrong, says) in [
            ("", "no JSON object"),
            ("[\"PING\"]", "no JSON object"),
            ("{", "EOF"),
            ("{}", "`action`"),
            (r#"{"action":"sub","topic":"status"}"#, "`SUB`"),
            (r#"{"action":"SUB"}"#, "`topic`"),
            (r#"{"action":"SUB","topic":"weather"}"#, "`logs`"),
            (r#"{"action":"SUB","topic":"logs","since":-1}"#, "Position"),
            (r#"{"action":"SUB","topic":"logs","pluginId":1}"#, "a string"),
        ] {
            let error = ClientMessage::parse(wrong).unwrap_err();
            assert!(error.contains(says), "{wrong}: {error}");
        }
    }
}
