//! Asks one capability of one plugin for a caller, and measures it.

use std::sync::Arc;
use std::time::Duration;

use bkg_protocol::{CapabilityName, ErrorCode, RawJson};

use super::Api;
use crate::auth::scope_of;
use crate::dispatcher::{Answer, Question, Target};
use crate::error::Problem;
use crate::registry::PluginRecord;
use crate::web::{Call, Form};

/// What is asked of a plugin.
pub(super) struct Wanted {
    pub(super) capability: CapabilityName,
    pub(super) payload: RawJson,
    /// How long it may take; the bound of all requests, if it says nothing or more.
    pub(super) within: Option<Duration>,
}

/// The record of a plugin that somebody wants to use.
pub(super) fn known(api: &Api, name: &str) -> Result<Arc<PluginRecord>, Problem> {
    api.registry.plugin(name).ok_or_else(|| not_known(name))
}

/// There is no such plugin for this caller; whether there is one for others is not told.
pub(super) fn not_known(name: &str) -> Problem {
    let message = format!(
        "no plugin is called `{name}`, or it may not be used with this credential: `/api/plugins` lists those that may"
    );
    Problem::new(ErrorCode::NotFound, message)
}

/// Has the plugin answer, if the caller has the scope for it, for as long as the caller may ask.
pub(super) async fn ask(
    api: &Api,
    call: &Call,
    record: &PluginRecord,
    wanted: Wanted,
) -> Result<RawJson, Problem> {
    let Wanted { capability, payload, within } = wanted;
    call.caller.require(scope_of(record.entry.scopes.get(&capability), &capability))?;
    if capability.is_for_the_host_alone() {
        let message = format!("`{capability}` is asked for by the host only");
        return Err(Problem::new(ErrorCode::Forbidden, message));
    }
    let longest = api.limits.request_timeout;
    let mut question = Question {
        target: Target::Plugin(record.entry.name.clone()),
        capability,
        payload,
        streamed_payload: None,
        http: None,
        lineage: call.lineage(within.unwrap_or(longest).min(longest)),
    };
    let mut meter = api.metering.begin(&question.lineage, &question.capability, None);
    question.lineage.traceparent = meter.traceparent();
    meter.answered_by(&record.entry.name);
    meter.admit(call, &question.payload, Form::Whole)?;
    match meter.concluded(call.while_allowed(api.dispatcher.ask(question)).await)?.answer {
        Answer::Whole(data) => {
            meter.read_tokens(&data);
            Ok(data)
        }
        Answer::Stream(_) => unreachable!("no stream was asked for"),
    }
}
