//! The scene of cancels: in the middle of work, at its very end, and of what never was.
//!
//! A cancelled request still owes one `response`; that is what every part of this looks for.

use std::time::Duration;

use bkg_protocol::InstanceId;
use serde_json::{Value, json};

use super::rule::Rule;
use super::session::Waited;
use super::stage::{ANSWER_WITHIN, Answer, Halt, SILENCE, Stage, shown};
use super::streams::held_stream;

/// How long a plugin may owe the response to a cancelled request before the host calls it degraded.
const CANCELLED_WITHIN: Duration = Duration::from_secs(5);
/// How many requests race with their cancels.
const RACES: u32 = 48;
/// Enough credit for a racing stream to be in its middle, too little for it to run far.
const RACE_CREDIT: u32 = 5;

/// Why nothing can meet a plugin at work that does not stream.
pub(super) const NO_SLOW: &str =
    "`check.json` has no `slow`: name a request that takes ten seconds or more";

/// A cancel in the middle of a stream, and of slow work.
pub(super) async fn in_the_middle(stage: &mut Stage<'_>) -> Result<(), Halt> {
    let held = held_stream(stage).await;
    match held {
        Ok(id) => {
            cancelled(stage, &id, "a stream that waits for credit").await?;
        }
        Err(Halt::Kit(error)) => return Err(Halt::Kit(error)),
        Err(Halt::Beside(_)) if stage.kit.target.questions.slow.is_none() => {
            return Err(Halt::Stuck(NO_SLOW.to_owned()));
        }
        Err(stuck @ Halt::Stuck(_)) if stage.kit.target.questions.slow.is_none() => return Err(stuck),
        Err(Halt::Stuck(_) | Halt::Beside(_)) => {}
    }
    if let Some(slow) = stage.kit.target.questions.slow.clone() {
        let session = stage.ready().await?;
        let streams = session.heard.streams(slow.capability.as_str());
        let more = if streams { json!({ "stream": true, "credit": 4 }) } else { json!({}) };
        let id = session.ask_with(&slow, more).await;
        session.until(SILENCE, |heard| heard.response(&id).is_some()).await;
        cancelled(stage, &id, "the question `slow`").await?;
    }
    if !stage.kit.notebook.is_broken(Rule::CancelAnswered) {
        stage.survives(Rule::CancelAnswered, "an answer to the next question").await;
    }
    Ok(())
}

async fn cancelled(stage: &mut Stage<'_>, id: &str, what: &str) -> Result<(), Halt> {
    let notebook = &stage.kit.notebook;
    let session = stage.ready().await?;
    session.cancel(id).await;
    let waited = session.answered(id, CANCELLED_WITHIN).await;
    session.listen(SILENCE).await;
    let expected = format!("the code `cancelled` for {what}");
    match (waited, session.heard.response(id)) {
        (Waited::Reached, Some(response)) if !is_end_of_cancelled(response) => {
            notebook.broken(Rule::CancelAnswered, expected, shown(response));
        }
        (Waited::Reached, _) => {}
        (Waited::Gone, _) => notebook.broken(Rule::CancelAnswered, expected, session.fate()),
        (Waited::Late, _) => {
            let came = format!("no `response` within {} s of the `cancel`", CANCELLED_WITHIN.as_secs());
            notebook.broken(Rule::CancelAnswered, expected, came);
        }
    }
    Ok(())
}

/// Whether a response is one that a cancelled request may have: cancelled, or finished just before.
pub(super) fn is_end_of_cancelled(response: &Value) -> bool {
    response["success"] == true || response["error"]["code"] == "cancelled"
}

/// Cancels that meet their requests at every moment.
pub(super) async fn race(stage: &mut Stage<'_>) -> Result<(), Halt> {
    let questions = stage.kit.target.questions.clone();
    let quick = stage.harmless_question();
    let notebook = &stage.kit.notebook;
    let session = stage.ready().await?;
    let mut ids = Vec::new();
    for round in 0..RACES {
        let id = match &questions.stream {
            Some(stream) if round % 2 == 0 => session.ask_for_stream(stream, RACE_CREDIT).await,
            _ => session.ask(&quick).await,
        };
        session.blame(&id, Rule::CancelRaceSurvived);
        // At once, or when something of it has come: its first chunk, its last, its response.
        let chunks = u64::from(round % (RACE_CREDIT + 2));
        if round % 3 > 0 {
            let wanted = chunks.min(u64::from(RACE_CREDIT));
            session.until(SILENCE, |heard| heard.chunks(&id) >= wanted || heard.rests(&id)).await;
        }
        session.cancel(&id).await;
        ids.push(id);
    }
    let all = |heard: &super::judge::Heard<'_>| ids.iter().all(|id| heard.response(id).is_some());
    let waited = session.until(ANSWER_WITHIN, all).await;
    session.listen(SILENCE).await;
    let missing = ids.iter().filter(|id| session.heard.response(id).is_none()).count();
    match waited {
        Waited::Reached => {}
        Waited::Late | Waited::Gone => {
            let came = format!("{missing} of {RACES} without a `response`: {}", session.fate());
            notebook.broken(Rule::CancelRaceSurvived, "one `response` to each", came);
            return Ok(());
        }
    }
    stage.survives(Rule::CancelRaceSurvived, "an answer to the next question").await;
    Ok(())
}

/// Cancels and credit for what is over, and for what never was.
pub(super) async fn strays(stage: &mut Stage<'_>) -> Result<(), Halt> {
    let question = stage.harmless_question();
    let session = stage.ready().await?;
    let over = session.ask(&question).await;
    if let Answer::Missing(came) = session.answer_to(&over).await {
        return Err(Halt::Stuck(format!("no request ends that could be cancelled afterwards: {came}")));
    }
    session.blame(&over, Rule::StrayCancelIgnored);
    let never = InstanceId::new().to_string();
    session.heard.strays.insert(never.clone(), Rule::StrayCancelIgnored);
    for id in [&over, &never] {
        session.cancel(id).await;
        session.send_json(&json!({ "type": "credit", "requestId": id, "n": 3 })).await;
    }
    stage.survives(Rule::StrayCancelIgnored, "an answer to the next question").await;
    Ok(())
}
