//! What a request for log lines asks for: parameters, `Accept`, and where a client resumes.
//!
//! Parsed here and nowhere else; an empty parameter counts as not given, as forms send it. A value that
//! does not fit is refused by name.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use bkg_protocol::message::LogLevel;
use http::header;

use crate::error::Problem;
use crate::logs::{LogFilter, LogStream, PatternError};
use crate::web::Call;

const DEFAULT_TAIL: usize = 200;

/// What a request asks for; `P` is how it names a place in the log.
pub(super) struct Wanted<P> {
    pub(super) place: Place<P>,
    /// At most so many lines.
    pub(super) count: usize,
    pub(super) filter: Arc<LogFilter>,
    /// Whether what comes later is wanted as well.
    pub(super) as_events: bool,
}

/// Where in the log to look.
pub(super) enum Place<P> {
    /// At its end.
    Newest,
    /// Before a place.
    Before(P),
    /// After a place.
    After(P),
}

impl<P> Wanted<P> {
    /// The same with places named in another way.
    pub(super) fn map<Q>(self, to: impl FnOnce(P) -> Q) -> Wanted<Q> {
        let place = match self.place {
            Place::Newest => Place::Newest,
            Place::Before(place) => Place::Before(to(place)),
            Place::After(place) => Place::After(to(place)),
        };
        Wanted { place, count: self.count, filter: self.filter, as_events: self.as_events }
    }
}

impl<P: FromStr> Wanted<P>
where
    P::Err: Display,
{
    pub(super) fn of(call: &Call) -> Result<Self, Problem> {
        let accept = call.parts.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
        let as_events = accept.is_some_and(|accept| accept.contains("text/event-stream"));
        let resumed = if as_events { resumed_from(call)? } else { None };
        let after = match resumed {
            Some(place) => Some(place),
            None => parsed::<P>(call, "since", "what an answer gave")?,
        };
        let before = parsed::<P>(call, "before", "what an answer gave")?;
        let tail = value(call, "tail")?;
        let (place, most) = match (after, before) {
            (Some(_), Some(_)) => {
                let message = "use one of `since` and `before`: a page is read from one end";
                return Err(Problem::invalid(message).param("before"));
            }
            (None, Some(_)) if as_events => {
                let message = "a stream goes on with what comes, so it has no `before`";
                return Err(Problem::invalid(message).param("before"));
            }
            (Some(place), None) => (Place::After(place), usize::MAX),
            (None, Some(place)) => (Place::Before(place), DEFAULT_TAIL),
            (None, None) => (Place::Newest, DEFAULT_TAIL),
        };
        let count = match tail {
            Some(_) => number(call, "tail")?.map_or(most, |count| count as usize),
            None => most,
        };
        // What comes after a place is not counted from the end: a client that resumes keeps its address.
        let count = if matches!(place, Place::After(_)) { usize::MAX } else { count };
        Ok(Self { place, count, filter: Arc::new(filter(call)?), as_events })
    }
}

/// The conditions on lines.
pub(super) fn filter(call: &Call) -> Result<LogFilter, Problem> {
    let refused = |name: &'static str, text: &str, right: &dyn Display| {
        Problem::invalid(format!("`{name}` is `{text}`: {right}")).param(name)
    };
    let level = value(call, "level")?.map(|text| {
        LogLevel::parse(&text)
            .ok_or_else(|| refused("level", &text, &"use trace, debug, info, warn or error"))
    });
    let stream = value(call, "stream")?.map(|text| {
        LogStream::parse(&text).ok_or_else(|| refused("stream", &text, &"use stdout, stderr, bus or host"))
    });
    let time = "a time such as 2026-01-31T12:00:00Z";
    let mut filter = LogFilter::default();
    filter.level = level.transpose()?;
    filter.stream = stream.transpose()?;
    filter.run = parsed(call, "run", "the `instance` of a line")?;
    filter.from = parsed(call, "from", time)?;
    filter.to = parsed(call, "to", time)?;
    let unfit = |name, text: &str, error: PatternError| refused(name, text, &error);
    if let Some(text) = value(call, "text")? {
        filter = filter.with_text(&text).map_err(|error| unfit("text", &text, error))?;
    }
    if let Some(text) = value(call, "regex")? {
        filter = filter.with_regex(&text).map_err(|error| unfit("regex", &text, error))?;
    }
    Ok(filter)
}

/// A parameter that is there and not empty.
pub(super) fn value(call: &Call, name: &str) -> Result<Option<String>, Problem> {
    Ok(call.query(name)?.filter(|text| !text.is_empty()))
}

/// A parameter that must be a whole number.
pub(in crate::admin) fn number(call: &Call, name: &str) -> Result<Option<u64>, Problem> {
    let Some(text) = call.query(name)? else { return Ok(None) };
    text.parse()
        .map(Some)
        .map_err(|_| Problem::invalid(format!("`{name}` is `{text}`: use a whole number")).param(name))
}

pub(super) fn parsed<T: FromStr>(
    call: &Call,
    name: &'static str,
    right: &str,
) -> Result<Option<T>, Problem> {
    let Some(text) = value(call, name)? else { return Ok(None) };
    text.parse()
        .map(Some)
        .map_err(|_| Problem::invalid(format!("`{name}` is `{text}`: use {right}")).param(name))
}

/// What a browser or another client of events says when it comes back.
fn resumed_from<P: FromStr>(call: &Call) -> Result<Option<P>, Problem> {
    const NAME: &str = "last-event-id";
    let Some(id) = call.parts.headers.get(NAME).filter(|id| !id.is_empty()) else { return Ok(None) };
    let place = id.to_str().ok().and_then(|id| id.parse().ok());
    place.map(Some).ok_or_else(|| {
        Problem::invalid("`last-event-id` is not the id of an event of this stream").param(NAME)
    })
}
