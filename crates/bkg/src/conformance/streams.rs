//! The scene of streams: chunks in order, within credit and size, to their end.
//!
//! A reader that takes one chunk at a time is what shows whether a plugin waits; the judge sees each chunk,
//! this scene gives and withholds the credit.

use std::time::Duration;

use serde_json::{Value, json};

use super::cancels::{NO_SLOW, is_end_of_cancelled};
use super::judge::Heard;
use super::questions::Question;
use super::rule::Rule;
use super::session::{Session, Waited};
use super::stage::{Answer, Halt, SILENCE, Stage, shown};

/// How long a whole stream may take, and the pause between two of its chunks: a model may be behind it.
const STREAM_WITHIN: Duration = Duration::from_secs(60);
pub(super) const CHUNK_WITHIN: Duration = Duration::from_secs(30);
/// Credit that no stream of a check uses up.
pub(super) const PLENTY: u32 = 1_000_000;
/// How many times the slow reader takes two chunks before it takes all that is left.
const SLOW_ROUNDS: u32 = 5;
/// How many chunks a stream has at least that can be stopped in its middle.
const MIDDLE: u64 = 3;

/// Why a rule needs `stream` of `check.json`.
const NO_STREAM: &str =
    "`check.json` has no `stream`: name a capability that streams, and a payload for five chunks or more";

/// Why no rule of streams means anything.
const STREAMS_NOTHING: &str = "it registers no capability that streams";

/// A stream of at least three chunks, asked with credit for one, which has come.
pub(super) async fn held_stream(stage: &mut Stage<'_>) -> Result<String, Halt> {
    let question = question(stage).await?;
    let session = stage.ready().await?;
    let id = session.ask_for_stream(&question, 1).await;
    let waited = session.until(CHUNK_WITHIN, |heard| heard.rests(&id)).await;
    // One that does not wait for credit ends, or sends more, as soon as it can.
    session.listen(SILENCE).await;
    let is_over = session.heard.response(&id).is_some();
    let reason = match waited {
        Waited::Reached if is_over => "ended when its first chunk had used up its credit",
        Waited::Reached if session.heard.chunks(&id) > 1 => "does not wait for credit",
        Waited::Reached => return Ok(id),
        Waited::Late | Waited::Gone => "sent no chunk",
    };
    if !is_over {
        session.cancel(&id).await;
    }
    Err(Halt::Stuck(format!("the stream of `check.json` {reason}, so nothing can meet it in its middle")))
}

async fn question(stage: &mut Stage<'_>) -> Result<Question, Halt> {
    if let Some(question) = stage.kit.target.questions.stream.clone() {
        return Ok(question);
    }
    let can_stream = stage.ready().await?.heard.streams_at_all();
    Err(if can_stream { Halt::Stuck(NO_STREAM.to_owned()) } else { Halt::Beside(STREAMS_NOTHING) })
}

/// A reader that takes everything at once, then one that does not.
pub(super) async fn credit(stage: &mut Stage<'_>) -> Result<(), Halt> {
    let question = question(stage).await?;
    let notebook = &stage.kit.notebook;
    let session = stage.ready().await?;
    let id = session.ask_for_stream(&question, PLENTY).await;
    let waited = session.answered(&id, STREAM_WITHIN).await;
    let response = session.heard.response(&id).cloned().unwrap_or_default();
    if waited != Waited::Reached {
        let came = format!(
            "{} chunks, and no end within {} s",
            session.heard.chunks(&id),
            STREAM_WITHIN.as_secs()
        );
        let came = if session.gone.is_some() { session.fate() } else { came };
        notebook.broken(Rule::StreamResumes, "the end of a stream with plenty of credit", came);
        return Ok(());
    }
    if response["success"] != true {
        let expected = format!("`success: true` at the end of the stream of `{}`", question.capability);
        notebook.broken(Rule::ExampleAnswered, expected, shown(&response));
        return Err(Halt::Stuck("the stream of `check.json` failed".to_owned()));
    }
    let total = session.heard.chunks(&id);
    if total < MIDDLE {
        let reason = format!("the stream of `check.json` has {total} chunks: name one with five or more");
        return Err(Halt::Stuck(reason));
    }
    read_slowly(stage, &question, total).await
}

/// Takes one chunk, then two at a time.
async fn read_slowly(stage: &mut Stage<'_>, question: &Question, total: u64) -> Result<(), Halt> {
    let notebook = &stage.kit.notebook;
    let session = stage.ready().await?;
    let id = session.ask_for_stream(question, 1).await;
    for round in 0..=SLOW_ROUNDS {
        if session.until(CHUNK_WITHIN, |heard| heard.rests(&id)).await != Waited::Reached {
            let came = if session.gone.is_some() {
                session.fate()
            } else {
                format!(
                    "{} chunks, then nothing for {} s",
                    session.heard.chunks(&id),
                    CHUNK_WITHIN.as_secs()
                )
            };
            notebook.broken(Rule::StreamResumes, "the chunks that there is credit for", came);
            return Ok(());
        }
        session.listen(SILENCE).await;
        if let Some(response) = session.heard.response(&id).cloned() {
            judge_end(stage, &id, &response, total);
            return Ok(());
        }
        session.grant(&id, if round == SLOW_ROUNDS { PLENTY } else { 2 }).await;
    }
    match session.answered(&id, STREAM_WITHIN).await {
        Waited::Reached => {
            let response = session.heard.response(&id).cloned().unwrap_or_default();
            judge_end(stage, &id, &response, total);
        }
        Waited::Late | Waited::Gone => {
            let came = format!("{} chunks and no end: {}", session.heard.chunks(&id), session.fate());
            notebook.broken(Rule::StreamResumes, "the end of the stream", came);
        }
    }
    Ok(())
}

/// Whether a slowly read stream ended where it should; two runs of one need not be of the same length.
fn judge_end(stage: &Stage<'_>, id: &str, response: &Value, total: u64) {
    let notebook = &stage.kit.notebook;
    let Some(asked) = stage.session.as_ref().and_then(|session| session.heard.asked.get(id)) else {
        return;
    };
    let used_up = asked.chunks >= asked.granted;
    if response["success"] != true {
        notebook.broken(
            Rule::StreamResumes,
            "a stream that ends well when it is read slowly",
            shown(response),
        );
    } else if used_up && asked.chunks < total / 2 {
        let expected = format!("about {total} chunks, as with plenty of credit");
        let came = format!(
            "the end after {} chunks, when the credit was used up: {}",
            asked.chunks,
            shown(response)
        );
        notebook.broken(Rule::StreamNotCutShort, expected, came);
    } else {
        notebook.passed(Rule::StreamResumes);
        notebook.passed(Rule::StreamNotCutShort);
    }
}

/// What can stream is asked without.
pub(super) async fn unstreamed(stage: &mut Stage<'_>) -> Result<(), Halt> {
    let question = question(stage).await?;
    let session = stage.ready().await?;
    let id = session.ask(&question).await;
    let is_told = |heard: &Heard<'_>| heard.response(&id).is_some() || heard.chunks(&id) > 0;
    let waited = session.until(STREAM_WITHIN, is_told).await;
    if session.heard.response(&id).is_none() {
        // What it waits for will never come.
        session.cancel(&id).await;
    }
    let came = session.fate();
    let notebook = &stage.kit.notebook;
    match waited {
        // Chunks have been noted by the judge.
        Waited::Reached => notebook.passed(Rule::ChunksOnlyWhenAsked),
        _ => notebook.broken(Rule::ChunksOnlyWhenAsked, "one `response`", format!("none: {came}")),
    }
    Ok(())
}

/// Two requests under one id.
pub(super) async fn duplicate(stage: &mut Stage<'_>) -> Result<(), Halt> {
    let slow = stage.kit.target.questions.slow.clone();
    let (id, is_stream) = match (held_stream(stage).await, slow) {
        (Err(Halt::Beside(_)), Some(slow)) => (stage.ready().await?.ask(&slow).await, false),
        (Err(Halt::Beside(_)), None) => return Err(Halt::Stuck(NO_SLOW.to_owned())),
        (held, _) => (held?, true),
    };
    let second = stage.harmless_question();
    let notebook = &stage.kit.notebook;
    let session = stage.ready().await?;
    session.blame(&id, Rule::DuplicateIdHarmless);
    let frame = json!({
        "type": "request", "requestId": id, "capability": second.capability, "payload": second.payload,
    });
    session.send_json(&frame).await;
    session.listen(SILENCE).await;
    if let Some(response) = session.heard.response(&id) {
        let came = format!("an answer to the second: {}", shown(response));
        notebook.broken(Rule::DuplicateIdHarmless, "nothing before the first is at its end", came);
        finish(session, &id).await;
        return Ok(());
    }
    if !is_stream {
        session.cancel(&id).await;
    }
    let is_right = |response: &Value| {
        if is_stream { response["success"] == true } else { is_end_of_cancelled(response) }
    };
    let expected = "the answer to the first request, to its end";
    match finish(session, &id).await {
        Answer::Came(response) if is_right(&response) => {}
        Answer::Came(response) => notebook.broken(Rule::DuplicateIdHarmless, expected, shown(&response)),
        Answer::Missing(came) => notebook.broken(Rule::DuplicateIdHarmless, expected, came),
    }
    stage.survives(Rule::DuplicateIdHarmless, "an answer to the next question").await;
    Ok(())
}

/// Lets a stream run to its end, and hears what comes after it.
pub(super) async fn finish(session: &mut Session<'_>, id: &str) -> Answer {
    session.grant(id, PLENTY).await;
    let waited = session.answered(id, STREAM_WITHIN).await;
    session.listen(SILENCE).await;
    match (waited, session.heard.response(id)) {
        (Waited::Reached, Some(response)) => Answer::Came(response.clone()),
        (Waited::Gone, _) => Answer::Missing(session.fate()),
        _ => Answer::Missing(format!("no `response` within {} s", STREAM_WITHIN.as_secs())),
    }
}
