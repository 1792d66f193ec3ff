//! What one caller may follow: the bootstrap, and what becomes of each message from the client.
//!
//! Not the socket. The invariant: no topic without its scope, no plugin beyond the caller's reach; a
//! plugin out of reach is as unknown as one that does not exist.

use std::sync::Arc;

use bkg_protocol::message::LogLevel;
use bkg_protocol::{ErrorCode, PluginName};

use super::Live;
use super::feeds::{Feed, Feeds, Subject};
use super::figures::{After, TelemetryFeed};
use super::lines::LogFeed;
use super::message::{Bootstrap, ClientMessage, Position, Sequences, ServerMessage, Topic};
use super::status::StatusFeed;
use super::trail::AuditFeed;
use crate::auth::Caller;
use crate::error::Problem;
use crate::plugin_object::PluginObject;
use crate::registry::Reach;

/// One caller's conversation.
pub(super) struct Session {
    live: Arc<Live>,
    caller: Caller,
    /// What is followed.
    pub(super) feeds: Feeds,
    /// The number of the newest status event when the bootstrap was made.
    began_at: u64,
}

/// What a `SUB` asks for.
struct Wanted {
    since: Option<Position>,
    epoch: Option<String>,
    level: Option<LogLevel>,
}

/// A place in a topic as a client may name it.
enum Resumption {
    /// It names none.
    None,
    /// After this number.
    After(u64),
    /// The number is of another run of the daemon.
    Lost,
}

impl Session {
    /// A conversation, and how it begins.
    pub(super) fn begin(live: Arc<Live>, caller: Caller) -> (Self, ServerMessage) {
        let topics: Vec<Topic> =
            Topic::ALL.into_iter().filter(|topic| caller.require(topic.scope()).is_ok()).collect();
        let sees = |topic| topics.contains(&topic);
        let mut sequences = Sequences::default();
        let mut plugins = Vec::new();
        let mut began_at = 0;
        if sees(Topic::Status) {
            let reach = &caller.rights().reach;
            (plugins, began_at) = live.states.snapshot(reach);
            sequences.status = Some(began_at);
            if reach.plugins.is_none() {
                plugins.extend(PluginObject::unusable(&live.catalogue.load()));
            }
        }
        if sees(Topic::Logs) {
            for plugin in live.plugins(&caller.rights().reach) {
                sequences.logs.insert(plugin.to_string(), live.logs.newest(&plugin));
            }
        }
        sequences.telemetry = sees(Topic::Telemetry).then(|| live.telemetry.newest());
        sequences.audit = sees(Topic::Audit).then(|| live.trail.newest());
        let payload = Bootstrap { epoch: live.epoch.clone(), topics, plugins, sequences };
        let session = Self { live, caller, feeds: Feeds::default(), began_at };
        (session, ServerMessage::Bootstrap { payload: Box::new(payload) })
    }

    /// Does what the client says; what it is answered.
    pub(super) fn hear(&mut self, text: &str) -> ServerMessage {
        let message = match ClientMessage::parse(text) {
            Ok(message) => message,
            Err(wrong) => return ServerMessage::error(ErrorCode::InvalidRequest, wrong, None),
        };
        let (topic, plugin_id) = match &message {
            ClientMessage::Ping => return ServerMessage::Pong,
            ClientMessage::Subscribe { topic, plugin_id, .. }
            | ClientMessage::Unsubscribe { topic, plugin_id } => (*topic, plugin_id.clone()),
        };
        let done = match message {
            ClientMessage::Subscribe { since, epoch, level, .. } => {
                self.subscribe(topic, plugin_id.as_deref(), Wanted { since, epoch, level })
            }
            _ => self.unsubscribe(topic, plugin_id.as_deref()),
        };
        done.unwrap_or_else(|problem| {
            ServerMessage::error(problem.code, problem.message, Some((topic, plugin_id)))
        })
    }

    fn unsubscribe(&mut self, topic: Topic, plugin_id: Option<&str>) -> Result<ServerMessage, Problem> {
        let subject = self.subject(topic, plugin_id)?;
        self.feeds.end(&subject);
        Ok(ServerMessage::Unsubscribed { topic, plugin_id: plugin_id.map(str::to_owned) })
    }

    fn subscribe(
        &mut self,
        topic: Topic,
        plugin_id: Option<&str>,
        wanted: Wanted,
    ) -> Result<ServerMessage, Problem> {
        let subject = self.subject(topic, plugin_id)?;
        if wanted.level.is_some() && topic != Topic::Logs {
            return Err(Problem::invalid("`level` is for `logs` alone"));
        }
        let plugin = subject.1.clone();
        let (feeds, from) = match topic {
            Topic::Status => self.status(plugin, wanted)?,
            Topic::Logs => self.logs(plugin, wanted)?,
            Topic::Telemetry => self.telemetry(plugin, wanted)?,
            Topic::Audit => {
                let after = number(wanted.since)?;
                let (feed, from) = AuditFeed::new(&self.live.trail, after);
                (vec![Feed::Audit(feed)], Some(Position::Number(from)))
            }
        };
        self.feeds.replace(subject, feeds);
        Ok(ServerMessage::Subscribed { topic, plugin_id: plugin_id.map(str::to_owned), from })
    }

    /// What a message is about, if the caller may know of it.
    fn subject(&self, topic: Topic, plugin_id: Option<&str>) -> Result<Subject, Problem> {
        self.caller.require(topic.scope())?;
        let Some(name) = plugin_id else { return Ok((topic, None)) };
        if topic == Topic::Audit {
            return Err(Problem::invalid("`audit` is not divided by plugins: leave `pluginId` out"));
        }
        let known = self.live.registry.plugin(name).map(|record| record.entry.name.clone());
        let reach = &self.caller.rights().reach;
        let plugin = known.filter(|plugin| reach.has_plugin(plugin)).ok_or_else(|| {
            let message =
                format!("no plugin is called `{}`: `bkg plugin list` has them", name.escape_debug());
            Problem::new(ErrorCode::NotFound, message)
        })?;
        Ok((topic, Some(plugin)))
    }

    fn status(
        &self,
        plugin: Option<PluginName>,
        wanted: Wanted,
    ) -> Result<(Vec<Feed>, Option<Position>), Problem> {
        let states = &self.live.states;
        let after = match self.resumption(wanted, states.newest())? {
            // What has changed since the bootstrap is not lost by who takes a moment to say this.
            Resumption::None => Some(self.began_at),
            Resumption::After(seq) => Some(seq),
            Resumption::Lost => None,
        };
        let reach = Arc::clone(&self.caller.rights().reach);
        let feed = StatusFeed::new(states, after, reach, plugin);
        Ok((vec![Feed::Status(feed)], after.map(Position::Number)))
    }

    fn logs(
        &self,
        plugin: Option<PluginName>,
        wanted: Wanted,
    ) -> Result<(Vec<Feed>, Option<Position>), Problem> {
        let least = wanted.level.unwrap_or(LogLevel::Trace);
        let is_of_another_run = wanted.epoch.is_some_and(|epoch| epoch != self.live.epoch);
        // A host that was killed has told of lines that no file holds; their numbers were given anew.
        let place = |plugin: &PluginName, seq: u64| {
            if is_of_another_run { self.live.logs.inherited_position(plugin, seq) } else { seq }
        };
        if let Some(plugin) = plugin {
            let after = match wanted.since {
                Some(Position::ByPlugin(numbers)) => numbers.get(plugin.as_str()).copied(),
                since => number(since)?,
            };
            let after = after.map(|seq| place(&plugin, seq));
            let (feed, from) = LogFeed::new(&self.live.logs, &plugin, after, least);
            return Ok((vec![Feed::Logs(feed.counted(&self.live.metrics))], Some(Position::Number(from))));
        }
        let numbers = match wanted.since {
            None => Default::default(),
            Some(Position::ByPlugin(numbers)) => numbers,
            Some(Position::Number(_)) => {
                let message = "each plugin's lines have their own numbers: `since` is an object of them, such as {\"ping\": 7}, or comes with a `pluginId`";
                return Err(Problem::invalid(message));
            }
        };
        let each = self.live.plugins(&self.caller.rights().reach).into_iter().map(|plugin| {
            let after = numbers.get(plugin.as_str()).map(|seq| place(&plugin, *seq));
            let (feed, from) = LogFeed::new(&self.live.logs, &plugin, after, least);
            (Feed::Logs(feed.counted(&self.live.metrics)), (plugin.to_string(), from))
        });
        let (feeds, from) = each.unzip();
        Ok((feeds, Some(Position::ByPlugin(from))))
    }

    fn telemetry(
        &self,
        plugin: Option<PluginName>,
        wanted: Wanted,
    ) -> Result<(Vec<Feed>, Option<Position>), Problem> {
        let telemetry = &self.live.telemetry;
        let after = match self.resumption(wanted, telemetry.newest())? {
            Resumption::None => After::Newest,
            Resumption::After(seq) => After::Number(seq),
            Resumption::Lost => After::Everything,
        };
        let reach = Arc::clone(&self.caller.rights().reach);
        let (feed, from) = TelemetryFeed::new(telemetry, after, reach, plugin);
        Ok((vec![Feed::Telemetry(feed.counted(&self.live.metrics))], from.map(Position::Number)))
    }

    /// The place that a client names in a topic whose numbers begin anew with each run.
    fn resumption(&self, wanted: Wanted, newest: u64) -> Result<Resumption, Problem> {
        let Some(since) = number(wanted.since)? else { return Ok(Resumption::None) };
        let epoch = wanted.epoch.ok_or_else(|| {
            Problem::invalid("`since` needs the `epoch` of the bootstrap that it belongs to: these numbers begin anew with each run of the daemon")
        })?;
        let is_known = epoch == self.live.epoch && since <= newest;
        Ok(if is_known { Resumption::After(since) } else { Resumption::Lost })
    }
}

/// The number that a client names where there is but one count.
fn number(since: Option<Position>) -> Result<Option<u64>, Problem> {
    match since {
        None => Ok(None),
        Some(Position::Number(seq)) => Ok(Some(seq)),
        Some(Position::ByPlugin(_)) => {
            Err(Problem::invalid("`since` is a number here: only `logs` count by plugin"))
        }
    }
}

impl Live {
    /// The usable plugins within a reach.
    fn plugins(&self, reach: &Reach) -> Vec<PluginName> {
        let view = self.registry.view();
        let names = view.plugins().map(|record| &record.entry.name);
        names.filter(|name| reach.has_plugin(name)).cloned().collect()
    }
}
