//! The scene of frames that nobody wants: garbage, answers to nothing, pings.
//!
//! Each is followed by an ordinary question: whoever still answers has ignored what came before.

use bkg_protocol::InstanceId;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::rule::Rule;
use super::session::Waited;
use super::stage::{ANSWER_WITHIN, Halt, Stage};

/// Texts that are no message. None names a request: to one that does, an answer would be right.
const GARBAGE: [&str; 9] = [
    "",
    "not JSON",
    "{\"type\": \"request\", \"requestId\": ",
    "[1, 2, 3]",
    "null",
    "{}",
    "{\"type\": 7}",
    "{\"type\": \"cancel\"}",
    "{\"type\": \"config\", \"revision\": \"many\"}",
];

/// Frames that cannot be read.
pub(super) async fn garbage(stage: &mut Stage<'_>) -> Result<(), Halt> {
    let session = stage.ready().await?;
    for text in GARBAGE {
        session.send_text(text.to_owned()).await;
    }
    stage.survives(Rule::GarbageSurvived, "an answer to the next question").await;
    Ok(())
}

/// Answers to questions that the plugin never asked.
pub(super) async fn answers(stage: &mut Stage<'_>) -> Result<(), Halt> {
    let session = stage.ready().await?;
    let id = InstanceId::new().to_string();
    session.heard.strays.insert(id.clone(), Rule::StrayAnswersIgnored);
    session.send_json(&json!({ "type": "chunk", "requestId": id, "seq": 0, "data": 1 })).await;
    session.send_json(&json!({ "type": "response", "requestId": id, "success": true, "data": 1 })).await;
    session
        .send_json(&json!({ "type": "response", "requestId": id, "success": false, "error": "no" }))
        .await;
    stage.survives(Rule::StrayAnswersIgnored, "an answer to the next question").await;
    Ok(())
}

/// The host wants to know whether the link holds.
pub(super) async fn ping(stage: &mut Stage<'_>) -> Result<(), Halt> {
    let session = stage.ready().await?;
    let before = session.heard.pongs;
    session.send(Message::Ping("are you there".into())).await;
    let waited = session.until(ANSWER_WITHIN, |heard| heard.pongs > before).await;
    let fate = session.fate();
    let notebook = &stage.kit.notebook;
    match waited {
        Waited::Reached => notebook.passed(Rule::PingAnswered),
        Waited::Late => {
            let came = format!("none within {} s", ANSWER_WITHIN.as_secs());
            notebook.broken(Rule::PingAnswered, "a pong", came);
        }
        Waited::Gone => notebook.broken(Rule::PingAnswered, "a pong", fate),
    }
    Ok(())
}
