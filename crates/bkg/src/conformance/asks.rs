//! The scene of questions: good, bad, many and large ones, each with exactly one answer.
//!
//! What they answer is the author's business; that they answer, under their own ids, is the protocol's.

use std::time::Duration;

use serde_json::{Value, json};

use super::launch::SMALL;
use super::notebook::clipped;
use super::questions::Question;
use super::rule::Rule;
use super::session::Waited;
use super::stage::{ANSWER_WITHIN, Answer, Halt, Stage, shown, unknown_capability};

/// How many requests come at once.
const AT_ONCE: usize = 16;
/// How long a plugin that works through them one by one may take for all.
const ALL_WITHIN: Duration = Duration::from_secs(60);
/// How deep a payload is nested: the host lets no deeper one through.
const DEPTH: usize = 60;
/// The largest frame towards a base plugin, and towards an extended one, whose entry names no bound.
const LARGEST_TO_BASE: usize = 1 << 20;
const LARGEST_TO_EXTENDED: usize = 16 << 20;

/// Why a rule needs `answer` of `check.json`.
pub(super) const NO_ANSWER: &str =
    "`check.json` has no `answer`: name a capability and a payload that may be asked";

/// The question of `check.json` is answered with success.
pub(super) async fn example(stage: &mut Stage<'_>) -> Result<(), Halt> {
    let Some(question) = stage.kit.target.questions.answer.clone() else {
        return Err(Halt::Stuck(NO_ANSWER.to_owned()));
    };
    let notebook = &stage.kit.notebook;
    let expected = format!("`success: true` from `{}`", question.capability);
    stage.ready().await?.heard.asked_itself = None;
    let answer = stage.ask(&question, json!({})).await?;
    let asked_itself = stage.session.as_ref().and_then(|session| session.heard.asked_itself.as_deref());
    match (answer, asked_itself) {
        (Answer::Came(response), _) if response["success"] == true => {
            notebook.passed(Rule::ExampleAnswered);
        }
        // The kit has no other plugins, which is no fault of this one.
        (Answer::Came(response), Some(other)) => {
            let reason = format!(
                "`answer` failed after the plugin had asked for `{}`, and the kit has no other plugins: name one that needs none; it answered {}",
                clipped(other),
                shown(&response)
            );
            notebook.not_tried(Rule::ExampleAnswered, reason);
        }
        (Answer::Came(response), None) => {
            notebook.broken(Rule::ExampleAnswered, expected, shown(&response));
        }
        (Answer::Missing(came), _) => notebook.broken(Rule::ExampleAnswered, expected, came),
    }
    Ok(())
}

/// Nobody has everything.
pub(super) async fn unknown(stage: &mut Stage<'_>) -> Result<(), Halt> {
    let question = unknown_capability();
    let notebook = &stage.kit.notebook;
    let expected = format!("`success: false` from `{}`", question.capability);
    match stage.ask(&question, json!({})).await? {
        Answer::Came(response) if response["success"] == false => {
            notebook.passed(Rule::UnknownCapabilityRefused);
        }
        Answer::Came(response) => {
            notebook.broken(Rule::UnknownCapabilityRefused, expected, shown(&response));
        }
        Answer::Missing(came) => notebook.broken(Rule::UnknownCapabilityRefused, expected, came),
    }
    Ok(())
}

/// What the protocol may say one day.
pub(super) async fn unknown_type(stage: &mut Stage<'_>) -> Result<(), Halt> {
    let session = stage.ready().await?;
    session
        .send_json(&json!({ "type": "fromTheFuture", "requestId": "1", "anything": [1, { "a": null }] }))
        .await;
    stage.survives(Rule::UnknownTypeIgnored, "an answer to the next question").await;
    Ok(())
}

/// What a request may hold one day.
pub(super) async fn unknown_members(stage: &mut Stage<'_>) -> Result<(), Halt> {
    let question = stage.harmless_question();
    let more = json!({ "fromTheFuture": { "a": [1] }, "priority": "high" });
    let notebook = &stage.kit.notebook;
    match stage.ask(&question, more).await? {
        Answer::Came(_) => notebook.passed(Rule::UnknownMembersIgnored),
        Answer::Missing(came) => {
            let expected = "an answer to a request with members that nobody knows";
            notebook.broken(Rule::UnknownMembersIgnored, expected, came);
        }
    }
    Ok(())
}

/// Payloads that nobody meant to send.
pub(super) async fn bad_payloads(stage: &mut Stage<'_>) -> Result<(), Halt> {
    let Some(question) = stage.kit.target.questions.answer.clone() else {
        return Err(Halt::Stuck(NO_ANSWER.to_owned()));
    };
    for payload in bent(&question.payload) {
        let asked = Question { payload, ..question.clone() };
        if let Answer::Missing(came) = stage.ask(&asked, json!({})).await? {
            let came = format!("{came}, for the payload {}", clipped(&asked.payload.to_string()));
            stage.kit.notebook.broken(Rule::BadPayloadSurvived, "a `response`, with success or not", came);
            return Ok(());
        }
    }
    stage.survives(Rule::BadPayloadSurvived, "an answer to the next question").await;
    Ok(())
}

/// Payloads of the wrong shape, and the right one with each member spoiled.
fn bent(payload: &Value) -> Vec<Value> {
    let deep = (0..DEPTH).fold(json!(1), |inner, _| json!([inner]));
    let mut bent = vec![
        Value::Null,
        json!(true),
        json!(-1),
        json!(1e308),
        json!(u64::MAX),
        json!("text"),
        json!("\u{0}\u{1b}[2J\u{202e}äß漢字🦀\u{10ffff}"),
        json!([]),
        json!({}),
        json!({ "": null, "__proto__": { "a": 1 }, "🦀": [[], {}] }),
        deep,
    ];
    if let Value::Object(members) = payload {
        for name in members.keys().take(8) {
            for spoiled in [Value::Null, json!({}), json!([0]), json!(-1e300), json!("")] {
                let mut whole = members.clone();
                whole.insert(name.clone(), spoiled);
                bent.push(Value::Object(whole));
            }
        }
    }
    bent
}

/// Several callers at the same time.
pub(super) async fn concurrent(stage: &mut Stage<'_>) -> Result<(), Halt> {
    let question = stage.harmless_question();
    let session = stage.ready().await?;
    let mut ids = Vec::new();
    for _ in 0..AT_ONCE {
        ids.push(session.ask(&question).await);
    }
    let waited = session.until(ALL_WITHIN, |heard| ids.iter().all(|id| heard.response(id).is_some())).await;
    let answered = ids.iter().filter(|id| session.heard.response(id).is_some()).count();
    let came = match waited {
        Waited::Reached => {
            stage.kit.notebook.passed(Rule::ConcurrentIds);
            return Ok(());
        }
        Waited::Late => format!("{answered} of them within {} s", ALL_WITHIN.as_secs()),
        Waited::Gone => format!("{answered} of them, then {}", session.fate()),
    };
    let expected = format!("{AT_ONCE} requests at once, each answered");
    stage.kit.notebook.broken(Rule::ConcurrentIds, expected, came);
    Ok(())
}

/// A request that only just fits, and an answer that may not.
pub(super) async fn large(stage: &mut Stage<'_>) -> Result<(), Halt> {
    let question = stage.harmless_question();
    let is_extended = stage.kit.is_extended();
    let usual = if is_extended { LARGEST_TO_EXTENDED } else { LARGEST_TO_BASE };
    let limit = stage.kit.target.entry().and_then(|entry| entry.max_frame_bytes).unwrap_or(usual);
    let mut sizes = vec![limit];
    if is_extended && limit > 2 * SMALL.frame {
        // An echo of this is larger than the plugin may write, and not so large that it gives up before.
        sizes.insert(0, 2 * SMALL.frame);
    }
    for size in sizes {
        let session = stage.ready().await?;
        let id = session.ask_filled(&question, size).await;
        if session.answered(&id, 3 * ANSWER_WITHIN).await != Waited::Reached {
            let came = match session.gone {
                Some(_) => session.fate(),
                None => format!("no `response` within {} s", 3 * ANSWER_WITHIN.as_secs()),
            };
            let expected = format!("a `response` to a frame of {size} bytes");
            stage.kit.notebook.broken(Rule::LargeRequestSurvived, expected, came);
            return Ok(());
        }
    }
    stage.survives(Rule::LargeRequestSurvived, "an answer to the next question").await;
    stage.kit.notebook.passed(Rule::FrameSizeKept);
    Ok(())
}
