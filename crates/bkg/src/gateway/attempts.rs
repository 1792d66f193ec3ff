//! Has a request answered by one of the models that may answer it: attempt after attempt, until one begins
//! to answer or a failure is final.
//!
//! Which models those are is decided by `routing`. The invariants: after the first part of an answer
//! nothing is tried again, so a client never sees two beginnings; and no request is attempted more often
//! than its meter keeps.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use bkg_protocol::{CapabilityName, RawJson};
use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep};

use super::{Gateway, models};
use crate::auth::AuthError;
use crate::dispatcher::{Answer, Answered, CallError, Question, Target};
use crate::error::{Problem, Source};
use crate::registry::{Lineage, ModelOwner};
use crate::routing::{Decision, Onward, Table, Trial, Verdict, decide, onward, route_for};
use crate::web::{Attempt, Call, MOST_ATTEMPTS, Meter};

/// Names the plugin that answered a request.
const PLUGIN: HeaderName = HeaderName::from_static("x-bkg-plugin");
/// Names the model that answered, as its plugin knows it.
const MODEL: HeaderName = HeaderName::from_static("x-bkg-model");
/// How long the same model is left alone before the same request comes again; each time twice as long.
const PAUSE: Duration = Duration::from_millis(50);

/// A request that is to be answered by a model.
pub(super) struct Request<'a, S> {
    pub(super) call: &'a Call,
    pub(super) capability: &'a CapabilityName,
    /// What the client asked for.
    pub(super) model: &'a str,
    pub(super) body: RawJson,
    /// Makes the payload of a request whose answer is to be streamed.
    pub(super) streamed: S,
    pub(super) lineage: Lineage,
}

/// What is still to be tried.
struct Plan {
    targets: VecDeque<Try>,
    fallbacks: VecDeque<Try>,
    /// How many attempts there may be at the targets.
    left: usize,
    made: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Try {
    /// Which of the candidates.
    candidate: usize,
    /// How often it was tried before.
    before: u32,
    /// How long to wait first.
    pause: Duration,
    is_fallback: bool,
}

impl Plan {
    fn new(decision: &Decision) -> Self {
        let tries = |candidates: &[usize], is_fallback| {
            let first = |candidate: &usize| Try {
                candidate: *candidate,
                before: 0,
                pause: Duration::ZERO,
                is_fallback,
            };
            candidates.iter().map(first).collect()
        };
        Self {
            targets: tries(&decision.targets, false),
            fallbacks: tries(&decision.fallbacks, true),
            left: decision.retries + 1,
            made: 0,
        }
    }

    fn next(&mut self) -> Option<Try> {
        if self.made == MOST_ATTEMPTS {
            return None;
        }
        let target = if self.left > 0 { self.targets.pop_front() } else { None };
        target.or_else(|| self.fallbacks.pop_front())
    }

    fn is_over_before_it_began(&self) -> bool {
        self.made == 0 && self.targets.is_empty() && self.fallbacks.is_empty()
    }

    /// An attempt is made.
    fn makes(&mut self, attempt: Try) {
        self.made += 1;
        if !attempt.is_fallback {
            self.left = self.left.saturating_sub(1);
        }
    }

    /// An attempt failed, and the same may be tried once more: after all other targets.
    fn again(&mut self, attempt: Try, pause: Duration) {
        if attempt.is_fallback {
            return;
        }
        let pause = pause.max(PAUSE * 2_u32.pow(attempt.before.min(8)));
        self.targets.push_back(Try { before: attempt.before + 1, pause, ..attempt });
    }
}

impl Gateway {
    /// Where a request that names a model is tried, for somebody with the rights of this caller.
    fn decide(&self, table: &Table, call: &Call, capability: &CapabilityName, model: &str) -> Decision {
        let is_route = route_for(&table.document, capability, model).is_some();
        let permits = |owner: &ModelOwner| self.may_use(&call.caller, owner, is_route.then_some(model));
        let now = self.routing.now(table, &self.dispatcher, capability, permits);
        decide(&table.document, capability, model, &now)
    }

    /// The same for who only wants to know: no turn of the route is used up.
    pub(super) fn look(
        &self,
        table: &Table,
        call: &Call,
        capability: &CapabilityName,
        route: &str,
    ) -> Decision {
        let permits = |owner: &ModelOwner| self.may_use(&call.caller, owner, Some(route));
        let now = self.routing.now(table, &self.dispatcher, capability, permits).looked_at();
        decide(&table.document, capability, route, &now)
    }

    /// Has the request answered: whole, or until the first part of the answer is there.
    pub(super) async fn answer<S>(
        &self,
        request: &Request<'_, S>,
        meter: &mut Meter,
    ) -> Result<Answer, Problem>
    where
        S: Fn(&RawJson) -> Result<Option<RawJson>, Problem>,
    {
        let table = self.routing.table();
        let decision = self.decide(&table, request.call, request.capability, request.model);
        let mut plan = Plan::new(&decision);
        let mut failed = None;
        while let Some(attempt) = plan.next() {
            let Some(owner) = &decision.candidates[attempt.candidate].owner else { continue };
            let (health, model) = (self.routing.health(), owner.model.id.as_str());
            let trial = match health.begin(&owner.plugin, model) {
                Some(trial) => trial,
                // There is nothing else, or there was: a rest refuses nobody.
                None if plan.is_over_before_it_began() => health.begin_anyway(&owner.plugin, model),
                None => continue,
            };
            if !attempt.pause.is_zero() {
                if Instant::now() + attempt.pause >= request.lineage.deadline {
                    break;
                }
                let paused = async {
                    sleep(attempt.pause).await;
                    Ok::<_, AuthError>(())
                };
                request.call.while_allowed(paused).await?;
            }
            plan.makes(attempt);
            match self.attempt(request, &decision, owner, trial, meter).await? {
                Ok(answer) => return Ok(answer),
                Err((problem, onward)) => {
                    failed = Some((problem, owner));
                    match onward {
                        Onward::Nowhere => break,
                        Onward::Elsewhere => {}
                        Onward::Anywhere(pause) => plan.again(attempt, pause),
                    }
                }
            }
        }
        let Some((problem, owner)) = failed else { return Err(self.nobody(request, &decision)) };
        if problem.source == Source::Plugin {
            name_who_answers(request.call, owner);
        }
        Err(problem)
    }

    /// One attempt. The inner error is the plugin's or the dispatcher's, the outer one is final.
    async fn attempt<S>(
        &self,
        request: &Request<'_, S>,
        decision: &Decision,
        owner: &ModelOwner,
        mut trial: Trial,
        meter: &mut Meter,
    ) -> Result<Result<Answer, (Problem, Onward)>, Problem>
    where
        S: Fn(&RawJson) -> Result<Option<RawJson>, Problem>,
    {
        let payload = with_model(&request.body, request.model, &owner.model.id);
        let plugin = owner.plugin.clone();
        let question = Question {
            target: if decision.route.is_some() { Target::Routed(plugin) } else { Target::Plugin(plugin) },
            capability: request.capability.clone(),
            streamed_payload: (request.streamed)(&payload)?,
            payload,
            http: None,
            lineage: request.lineage.clone(),
        };
        let began = Instant::now();
        let asking = async { Ok::<_, AuthError>(self.dispatcher.ask(question).await) };
        // Pinned here: the future is large, and passing it on would copy it.
        let outcome = request.call.while_allowed(pin!(asking)).await?;
        let problem = outcome.as_ref().err().map(|error: &CallError| Problem::from(error.clone()));
        meter.attempt(Attempt {
            plugin: owner.plugin.clone(),
            model: owner.model.id.clone(),
            instance: outcome.as_ref().ok().map(|answered| answered.instance),
            began,
            ended: Instant::now(),
            outcome: problem.as_ref().map_or("ok", |problem| problem.code.as_str()),
        });
        match (outcome, problem) {
            (Ok(Answered { answer, .. }), _) => {
                trial.answers();
                meter.answered_by(&owner.plugin);
                meter.judges(trial);
                name_who_answers(request.call, owner);
                Ok(Ok(answer))
            }
            (Err(error), problem) => {
                let problem = problem.unwrap_or_else(|| error.clone().into());
                if problem.speaks_against_plugin() {
                    trial.failed();
                }
                let is_idempotent = self.dispatcher.is_idempotent(&owner.plugin, request.capability);
                Ok(Err((problem, onward(&error, is_idempotent))))
            }
        }
    }

    /// Why nothing was attempted.
    fn nobody<S>(&self, request: &Request<'_, S>, decision: &Decision) -> Problem {
        let Request { capability, model, .. } = request;
        let Some(route) = &decision.route else {
            return match decision.is_forbidden() {
                true => models::no_such_model(model),
                false => self.dispatcher.nobody_serves(capability, model).into(),
            };
        };
        // Which routes there are is nothing for those who may not use them.
        let may_know = request.call.caller.rights().reach.has_name(model);
        if decision.is_forbidden() || !may_know {
            return models::no_such_model(model);
        }
        let unknown = decision.candidates.iter().filter(|candidate| candidate.verdict == Verdict::Unknown);
        let names: Vec<String> = unknown.map(|candidate| format!("`{}`", candidate.named)).collect();
        let why = format!("no plugin offers what the route `{route}` leads to: {}", names.join(", "));
        CallError::Unavailable { capability: (*capability).clone(), plugin: None, why }.into()
    }
}

/// Says in the answer who gave it: the plugin, and the model as that plugin knows it.
fn name_who_answers(call: &Call, owner: &ModelOwner) {
    call.answer_header(PLUGIN, header_value(owner.plugin.as_str()));
    call.answer_header(MODEL, header_value(&owner.model.id));
}

/// A text as a header: what is not visible ASCII is percent-encoded, and so is `%` itself.
fn header_value(text: &str) -> HeaderValue {
    let mut value = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'!'..=b'~' if byte != b'%' => value.push(char::from(byte)),
            _ => value.push_str(&format!("%{byte:02X}")),
        }
    }
    HeaderValue::from_str(&value).expect("visible ASCII is a header value")
}

/// The body with another model in it; every other byte stays what it was.
fn with_model(body: &RawJson, named: &str, model: &str) -> RawJson {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        model: &'a RawValue,
    }
    if named == model {
        return body.clone();
    }
    let text = body.as_str();
    // It was read when the request came in: the member is there, and there once.
    let Ok(Named { model: before }) = serde_json::from_str::<Named<'_>>(text) else { return body.clone() };
    let begin = before.get().as_ptr().addr() - text.as_ptr().addr();
    let (head, tail) = (&text[..begin], &text[begin + before.get().len()..]);
    let model = serde_json::to_string(model).expect("a text has a JSON form");
    RawJson::parse(format!("{head}{model}{tail}")).expect("one text in the place of another keeps it JSON")
}
