//! Logs as server-sent events: what is there, then what comes.
//!
//! Each line is an event whose id says where to go on, so a client that comes back loses and doubles
//! nothing; what is no longer kept is a `gap`. The stream ends with the host, and with the right of
//! whoever reads it.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bkg_protocol::PluginName;
use futures_util::stream;
use serde_json::json;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::wanted::{Place, Wanted};
use super::{Admin, Cursor};
use crate::auth::Caller;
use crate::logs::{Follower, News};
use crate::web::{KEEP_ALIVE, KEEP_ALIVE_AFTER, event_headers};

/// A stream under way.
struct Events {
    follower: Follower,
    ids: Ids,
    /// The id that the client has.
    last_id: String,
    /// Whether the stream has begun: its first words go out at once.
    has_begun: bool,
    caller: Caller,
    stopping: CancellationToken,
}

/// How a place in the log is written.
#[derive(Clone, Copy)]
enum Ids {
    /// The number of the last line.
    Number,
    /// A number for each plugin.
    Cursor,
}

/// The stream of one plugin.
pub(super) async fn one(
    admin: &Admin,
    caller: Caller,
    plugin: PluginName,
    wanted: Wanted<Cursor>,
) -> Response {
    respond(admin, caller, &[plugin], wanted, Ids::Number).await
}

/// The stream of several plugins.
pub(super) async fn merged(
    admin: &Admin,
    caller: Caller,
    plugins: &[PluginName],
    wanted: Wanted<Cursor>,
) -> Response {
    respond(admin, caller, plugins, wanted, Ids::Cursor).await
}

async fn respond(
    admin: &Admin,
    caller: Caller,
    plugins: &[PluginName],
    wanted: Wanted<Cursor>,
    ids: Ids,
) -> Response {
    let Wanted { place, count, filter, .. } = wanted;
    let follower = match place {
        Place::After(cursor) => admin.logs.follow(plugins, &cursor, filter),
        Place::Newest | Place::Before(_) => {
            admin.logs.follow_tail(plugins, count, Arc::clone(&filter)).await
        }
    };
    let events = Events {
        last_id: ids.of(&follower),
        follower,
        ids,
        has_begun: false,
        caller,
        stopping: admin.stopping.clone(),
    };
    let events = stream::unfold(events, async |mut events| {
        let text = events.next().await?;
        Some((Ok::<_, Infallible>(text), events))
    });
    let mut response = Body::from_stream(events).into_response();
    event_headers(response.headers_mut());
    response
}

impl Events {
    /// The next event, or a comment where nothing comes for a while; `None` when the host stops, or the
    /// caller may no longer read.
    async fn next(&mut self) -> Option<String> {
        if !std::mem::replace(&mut self.has_begun, true) {
            // A stream without lines still opens at once.
            return Some(KEEP_ALIVE.to_owned());
        }
        let (caller, stopping) = (self.caller.clone(), self.stopping.clone());
        tokio::select! {
            biased;
            () = caller.revoked() => None,
            () = stopping.cancelled() => None,
            text = self.next_or_comment() => text,
        }
    }

    async fn next_or_comment(&mut self) -> Option<String> {
        // One wait for all: lines that the filter leaves out must not put the comment off.
        match timeout(KEEP_ALIVE_AFTER, self.follower.next()).await {
            Ok(Some(News::Line(line))) => {
                self.last_id = self.ids.of(&self.follower);
                let line = serde_json::to_string(&*line).expect("a log line has a JSON form");
                Some(format!("id: {}\nevent: line\ndata: {line}\n\n", self.last_id))
            }
            Ok(Some(News::Gap { plugin, lines })) => {
                let gap = match self.ids {
                    Ids::Number => json!({ "lines": lines }),
                    Ids::Cursor => json!({ "plugin": plugin, "lines": lines }),
                };
                Some(format!("event: gap\ndata: {gap}\n\n"))
            }
            Ok(None) => None,
            Err(_) => Some(self.comment()),
        }
    }

    /// Keeps the stream open. What was left out meanwhile is not searched again by a client that comes
    /// back: an event without data moves the client's place and is not shown (HTML standard, section
    /// "Server-sent events").
    fn comment(&mut self) -> String {
        let id = self.ids.of(&self.follower);
        if id == self.last_id || self.follower.owes_a_gap() {
            return KEEP_ALIVE.to_owned();
        }
        self.last_id = id;
        format!("{KEEP_ALIVE}id: {}\n\n", self.last_id)
    }
}

impl Ids {
    fn of(self, follower: &Follower) -> String {
        match self {
            Self::Number => follower.position().to_string(),
            Self::Cursor => follower.cursor().to_string(),
        }
    }
}
