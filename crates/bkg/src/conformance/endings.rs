//! The scenes of endings: a drain, a broken link, a close, a refusal, each of a launch of its own.
//!
//! What a plugin does when nobody asks it anything any more decides whether a restart of the host is an
//! incident, so each ending is tried from where work is in hand.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::launch::{Dialled, REGISTER_WITHIN};
use super::rule::{Level, Rule};
use super::session::{Gone, Waited};
use super::stage::{ANSWER_WITHIN, Answer, Halt, SILENCE, Stage, shown};
use super::streams::{finish, held_stream};

/// How long a drained plugin has, as `drain` says.
const DRAIN_WITHIN: Duration = Duration::from_secs(20);
/// A pause of this length between two connections is polite: the claim is that nothing dials meanwhile.
const POLITE_PAUSE: Duration = Duration::from_secs(1);
/// For how long it is watched at most how often a plugin dials that is turned away.
const WATCHED: Duration = Duration::from_secs(10);
/// How many connections within that are too many: the host makes whoever dials so often wait.
const TOO_MANY: u32 = 20;
/// How long a plugin that was turned away may take to read that.
const TURNED_AWAY_WITHIN: Duration = Duration::from_millis(500);

/// A drain while a stream is in hand.
pub(super) async fn drain(stage: &mut Stage<'_>) -> Result<(), Halt> {
    let notebook = &stage.kit.notebook;
    let held = match held_stream(stage).await {
        Ok(id) => Some(id),
        Err(Halt::Kit(error)) => return Err(Halt::Kit(error)),
        Err(Halt::Stuck(reason)) => {
            notebook.not_tried(Rule::DrainFinishesWork, reason);
            None
        }
        Err(Halt::Beside(reason)) => {
            notebook.not_applicable(Rule::DrainFinishesWork, reason);
            None
        }
    };
    let session = stage.ready().await?;
    let begun = Instant::now();
    session.send_json(&json!({ "type": "drain", "deadlineMs": DRAIN_WITHIN.as_millis() as u64 })).await;
    if let Some(id) = held {
        session.listen(SILENCE).await;
        let expected = "the rest of the stream, and its `response` with success";
        match finish(session, &id).await {
            Answer::Came(response) if response["success"] == true => {
                notebook.passed(Rule::DrainFinishesWork);
            }
            // Whoever gives up at the deadline does as it was told.
            _ if begun.elapsed() >= DRAIN_WITHIN => {
                let reason = format!(
                    "the stream of `check.json` was not over {} s after `drain`, its deadline: name a shorter one",
                    DRAIN_WITHIN.as_secs()
                );
                notebook.not_tried(Rule::DrainFinishesWork, reason);
            }
            Answer::Came(response) => notebook.broken(Rule::DrainFinishesWork, expected, shown(&response)),
            Answer::Missing(came) => notebook.broken(Rule::DrainFinishesWork, expected, came),
        }
    }
    let came = match session.ended(DRAIN_WITHIN).await {
        Some(Gone::Closed { code: 1000, .. }) => None,
        Some(gone) => Some(gone.to_string()),
        None => Some(format!("the session was open {} s after `drain`", DRAIN_WITHIN.as_secs())),
    };
    match came {
        None => notebook.passed(Rule::DrainCloses),
        Some(came) => notebook.broken(Rule::DrainCloses, "a close with 1000", came),
    }
    if stage.kit.by_hand.is_some() {
        notebook
            .not_tried(Rule::DrainExits, "the plugin was started by hand, and is no process of the kit");
        return Ok(());
    }
    let launch = stage.launch.as_mut().expect("a session has a launch");
    match launch.exited(ANSWER_WITHIN).await {
        Some(cause) => {
            notebook.passed(Rule::DrainExits);
            if !cause.is_success() {
                notebook.remark(Rule::DrainExits, format!("it {cause} after it had drained"));
            }
        }
        None => {
            let came = format!("it still ran {} s later", ANSWER_WITHIN.as_secs());
            notebook.broken(Rule::DrainExits, "the end of its process", came);
        }
    }
    Ok(())
}

/// The link breaks while a request is open.
pub(super) async fn broken_link(stage: &mut Stage<'_>) -> Result<(), Halt> {
    let notebook = &stage.kit.notebook;
    stage.ready().await?;
    let is_held = match held_stream(stage).await {
        Ok(_) => true,
        Err(Halt::Kit(error)) => return Err(Halt::Kit(error)),
        Err(Halt::Stuck(_) | Halt::Beside(_)) => match stage.kit.target.questions.slow.clone() {
            Some(slow) => {
                let session = stage.ready().await?;
                session.ask(&slow).await;
                // Until it has been read: what is lost on the way is not known to the plugin.
                session.listen(SILENCE).await;
                true
            }
            None => false,
        },
    };
    let session = stage.ready().await?;
    let old = session.open_ids();
    session.cut();
    let launch = stage.launch.as_mut().expect("a session has a launch");
    let wanted = launch.resume.clone();
    let expected = "a new connection, and `register` with the last `resume` secret";
    let mut session = match launch.registering(stage.kit.dial_within()).await {
        Ok(session) => session,
        Err(missing) => {
            notebook.broken(Rule::ReconnectsWithResume, expected, missing.sentence());
            return Err(Halt::Stuck("it did not come back after its link broke".to_owned()));
        }
    };
    let register = session.heard.register.clone().unwrap_or_default();
    let shown_secret = register.get("resume").and_then(|resume| resume.as_str()).map(str::to_owned);
    match shown_secret {
        Some(secret) if Some(&secret) == wanted.as_ref() => notebook.passed(Rule::ReconnectsWithResume),
        Some(_) => notebook.broken(Rule::ReconnectsWithResume, expected, "another `resume` secret"),
        None => notebook.broken(Rule::ReconnectsWithResume, expected, "`register` without `resume`"),
    }
    session.heard.strays.extend(old.into_iter().map(|id| (id, Rule::OldIdsForgotten)));
    launch.welcome(&mut session).await;
    let waited = session.until(ANSWER_WITHIN, |heard| heard.beats > 0).await;
    let fate = session.fate();
    stage.session = Some(session);
    if waited == Waited::Reached {
        stage.survives(Rule::BeatsAfterReconnect, "an answer in the new session").await;
    } else {
        let came = format!("no `health` within {} s: {fate}", ANSWER_WITHIN.as_secs());
        notebook.broken(Rule::BeatsAfterReconnect, "`health` in the new session", came);
    }
    if let Some(session) = &mut stage.session {
        session.listen(SILENCE).await;
    }
    if is_held {
        notebook.passed(Rule::OldIdsForgotten);
    } else {
        let reason =
            "`check.json` has neither `stream` nor `slow`, so nothing was open when the link broke";
        notebook.not_tried(Rule::OldIdsForgotten, reason);
    }
    Ok(())
}

/// The host closes, and goes on closing.
pub(super) async fn close(stage: &mut Stage<'_>) -> Result<(), Halt> {
    let notebook = &stage.kit.notebook;
    let (code, reason) = match stage.kit.contract.get() {
        Some(Level::Extended) => (1011, "a pong did not come in time"),
        _ => (1013, "the instance is about to be stopped"),
    };
    let session = stage.ready().await?;
    session.listen(SILENCE).await;
    if session.gone.is_some() {
        let reason = format!("{} before the host closed", session.fate());
        return Err(Halt::Stuck(reason));
    }
    session.close(code, reason).await;
    let gone = session.ended(ANSWER_WITHIN).await.cloned();
    let launch = stage.launch.as_mut().expect("a session has a launch");
    let expected = format!("a close in answer to the close with {code}, or the plugin's end");
    match gone {
        Some(Gone::Closed { .. }) => notebook.passed(Rule::CloseAnswered),
        // Whoever ends need not be polite.
        Some(Gone::Lost(_)) if launch.exited(ANSWER_WITHIN).await.is_some() => {
            notebook.passed(Rule::CloseAnswered);
        }
        Some(lost) => notebook.broken(Rule::CloseAnswered, expected, lost.to_string()),
        None => {
            let came = format!("nothing within {} s", ANSWER_WITHIN.as_secs());
            notebook.broken(Rule::CloseAnswered, expected, came);
        }
    }
    turn_away(stage, Rule::RedialsPolitely, code, reason).await
}

/// The host does not want the plugin.
pub(super) async fn refusal(stage: &mut Stage<'_>) -> Result<(), Halt> {
    stage.end().await?;
    let mut launch = super::launch::Launch::start(stage.kit).await?;
    let session = launch.registering(stage.kit.dial_within()).await;
    stage.launch = Some(launch);
    let mut session = match session {
        Ok(session) => session,
        Err(missing) => return Err(Halt::Stuck(missing.note(&stage.kit.notebook))),
    };
    session.heard.is_welcomed = true;
    let reason = "the conformance kit refuses every plugin once";
    if session.heard.contract() == Some(Level::Extended) {
        session.send_json(&json!({ "type": "rejected", "code": "forbidden", "message": reason })).await;
    }
    session.close(1008, reason).await;
    session.ended(TURNED_AWAY_WITHIN).await;
    turn_away(stage, Rule::RefusalBelieved, 1008, reason).await
}

/// Watches how often a plugin comes back that is sent away each time.
async fn turn_away(stage: &mut Stage<'_>, rule: Rule, code: u16, reason: &str) -> Result<(), Halt> {
    let notebook = &stage.kit.notebook;
    stage.session = None;
    let launch = stage.launch.as_mut().expect("the scene has a launch");
    let before = launch.dials;
    let begun = Instant::now();
    while begun.elapsed() < WATCHED {
        match launch.dialled(POLITE_PAUSE).await {
            Dialled::Exited(_) | Dialled::Late => break,
            Dialled::Session(mut session) => {
                session
                    .until(TURNED_AWAY_WITHIN.min(REGISTER_WITHIN), |heard| heard.register.is_some())
                    .await;
                session.close(code, reason).await;
                session.ended(TURNED_AWAY_WITHIN).await;
            }
        }
        if launch.dials - before > TOO_MANY {
            let expected = "its end, or further connections with pauses between them";
            let seconds = begun.elapsed().as_secs_f64();
            let came = format!("{} connections within {seconds:.1} s", launch.dials - before);
            notebook.broken(rule, expected, came);
            return Ok(());
        }
    }
    notebook.passed(rule);
    Ok(())
}
