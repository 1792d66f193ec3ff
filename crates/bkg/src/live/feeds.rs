//! What one socket follows: for each topic, all plugins or single ones.
//!
//! Not how it is sent. The invariant: a feed makes a message only when it is asked for one, so what a
//! socket has not taken waits where all sockets share it, and not here.

use std::collections::BTreeMap;

use bkg_protocol::{ErrorCode, PluginName};
use futures_util::StreamExt;
use futures_util::stream::{self, AbortHandle, Abortable, BoxStream, SelectAll};
use tracing::warn;

use super::figures::TelemetryFeed;
use super::lines::LogFeed;
use super::message::{ServerMessage, Text, Topic};
use super::status::StatusFeed;
use super::trail::AuditFeed;

/// What is followed: a topic, of one plugin or of all.
pub(super) type Subject = (Topic, Option<PluginName>);

/// One source of messages, with the socket's place in it.
pub(super) enum Feed {
    Status(StatusFeed),
    Logs(LogFeed),
    Telemetry(TelemetryFeed),
    Audit(AuditFeed),
}

/// All that a socket follows.
#[derive(Default)]
pub(super) struct Feeds {
    /// Each is woken by itself; their number is bounded by those of topics and plugins.
    waiting: SelectAll<Abortable<BoxStream<'static, Text>>>,
    /// What ends those of a subject.
    handles: BTreeMap<Subject, Vec<AbortHandle>>,
}

impl Feeds {
    /// Follows a subject, in place of what was followed of it before: a topic is followed either as a
    /// whole or by single plugins.
    pub(super) fn replace(&mut self, subject: Subject, feeds: impl IntoIterator<Item = Feed>) {
        self.end(&subject);
        self.end_one(&(subject.0, None));
        let handles = feeds.into_iter().map(|feed| {
            let (feed, handle) = stream::abortable(feed.into_messages());
            self.waiting.push(feed);
            handle
        });
        let handles = handles.collect();
        self.handles.insert(subject, handles);
    }

    /// Follows a subject no more; without a plugin, nothing of the topic.
    pub(super) fn end(&mut self, subject: &Subject) {
        if subject.1.is_some() {
            return self.end_one(subject);
        }
        let all: Vec<Subject> =
            self.handles.keys().filter(|(topic, _)| *topic == subject.0).cloned().collect();
        for subject in all {
            self.end_one(&subject);
        }
    }

    fn end_one(&mut self, subject: &Subject) {
        let Some(handles) = self.handles.remove(subject) else { return };
        for handle in handles {
            handle.abort();
        }
        // At once: while a client goes on sending, nobody takes messages, which would clear them away.
        let feeds = std::mem::take(&mut self.waiting).into_iter();
        self.waiting = feeds.filter(|feed| !feed.is_aborted()).collect();
    }

    /// The next message of any feed; never completes while there is nothing to follow. Nothing is lost
    /// if this is dropped before it is done.
    pub(super) async fn next(&mut self) -> Text {
        match self.waiting.next().await {
            Some(text) => text,
            None => std::future::pending().await,
        }
    }
}

impl Feed {
    fn into_messages(self) -> BoxStream<'static, Text> {
        match self {
            Self::Status(feed) => {
                stream::unfold(feed, async |mut feed| Some((feed.next().await?, feed))).boxed()
            }
            Self::Logs(feed) => {
                stream::unfold(feed, async |mut feed| Some((feed.next().await?, feed))).boxed()
            }
            Self::Telemetry(feed) => {
                stream::unfold(feed, async |mut feed| Some((feed.next().await?, feed))).boxed()
            }
            Self::Audit(feed) => stream::unfold(Some(feed), async |feed| {
                let mut feed = feed?;
                match feed.next().await {
                    Ok(text) => Some((text, Some(feed))),
                    Err(error) => {
                        warn!(%error, "a socket follows the audit log no longer");
                        let about = Some((Topic::Audit, None));
                        let code = ErrorCode::Internal;
                        Some((ServerMessage::error(code, error.to_string(), about).text(), None))
                    }
                }
            })
            .boxed(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bkg_protocol::message::LogLevel;

    use super::*;
    use crate::logs::{LogSettings, Logs};

    #[tokio::test]
    async fn what_is_not_followed_any_more_is_gone_although_nobody_takes_messages() {
        let directory = tempfile::tempdir().unwrap();
        let logs = Logs::open(directory.path(), LogSettings::default()).unwrap();
        let plugin: PluginName = "ping".parse().unwrap();
        let subject = (Topic::Logs, Some(plugin.clone()));
        let mut feeds = Feeds::default();
        for _ in 0..100 {
            let (feed, _) = LogFeed::new(&logs, &plugin, None, LogLevel::Trace);
            feeds.replace(subject.clone(), [Feed::Logs(feed)]);
        }
        assert_eq!(feeds.waiting.len(), 1);
        feeds.end(&subject);
        assert_eq!(feeds.waiting.len(), 0);
    }
}
