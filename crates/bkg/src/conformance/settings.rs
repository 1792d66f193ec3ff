//! The scenes of settings that are pushed, and of those that are only tried: good ones, bad ones, and what
//! remains afterwards.
//!
//! Only for a plugin that asks for either. The invariant: the plugin goes out of a scene with the settings
//! that it came in with, as the host would leave it.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::kit::Kit;
use super::rule::Rule;
use super::session::Waited;
use super::stage::{Answer, Halt, Stage, shown};
use crate::config::check::violations;

/// How long a plugin may take to say whether settings are in force.
const APPLIED_WITHIN: Duration = Duration::from_secs(15);

/// What a push came to.
enum Verdict {
    Is(Value),
    Missing(String),
}

/// What settings are sent for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    InForce,
    DryRun,
}

/// Pushes good and bad settings.
pub(super) async fn pushed(stage: &mut Stage<'_>) -> Result<(), Halt> {
    let kit = stage.kit;
    let session = stage.ready().await?;
    let register = Value::Object(session.heard.register.clone().unwrap_or_default());
    if register["meta"]["hotConfig"] != true {
        let reason = "it does not register `meta.hotConfig: true`, so it is started again for new settings";
        for rule in
            [Rule::GoodSettingsApplied, Rule::BadSettingsRefused, Rule::RefusedSettingsChangeNothing]
        {
            kit.notebook.not_applicable(rule, reason);
        }
        return Ok(());
    }
    let present = kit.target.settings().clone();
    let good = match &kit.target.questions.good_settings {
        Some(good) => laid_over(&present, good),
        // Those that it runs with are good.
        None => present.clone(),
    };
    if !take_good(stage, &good).await? {
        return Ok(());
    }
    match bad_settings(kit, &register, &good) {
        Some(bad) => take_bad(stage, &bad).await?,
        None => {
            let reason = NOTHING_BAD;
            kit.notebook.not_tried(Rule::BadSettingsRefused, reason);
            kit.notebook.not_tried(Rule::RefusedSettingsChangeNothing, reason);
        }
    }
    // What the host does after a refusal, too.
    take_good(stage, &present).await.map(drop)
}

/// Tries good and bad settings, and looks whether anything came of them.
pub(super) async fn only_tried(stage: &mut Stage<'_>) -> Result<(), Halt> {
    let kit = stage.kit;
    let session = stage.ready().await?;
    let register = Value::Object(session.heard.register.clone().unwrap_or_default());
    if register["meta"]["configDryRun"] != true {
        let reason =
            "it does not register `meta.configDryRun: true`, so it is not asked before settings are saved";
        kit.notebook.not_applicable(Rule::DryRunsAnswered, reason);
        kit.notebook.not_applicable(Rule::DryRunChangesNothing, reason);
        return Ok(());
    }
    let before = steady_answer(stage).await?;
    let present = kit.target.settings();
    let good = kit.target.questions.good_settings.as_ref().map(|good| laid_over(present, good));
    let bad = bad_settings(kit, &register, good.as_ref().unwrap_or(present));
    let (good_ones, bad_ones) =
        (good.into_iter().map(|it| (it, true)), bad.into_iter().map(|it| (it, false)));
    let cases: Vec<_> = good_ones.chain(bad_ones).collect();
    if cases.is_empty() {
        let reason = format!("`check.json` has no `goodSettings`; {NOTHING_BAD}");
        kit.notebook.not_tried(Rule::DryRunsAnswered, &reason);
        kit.notebook.not_tried(Rule::DryRunChangesNothing, &reason);
        return Ok(());
    }
    for (settings, success) in cases {
        let expected = format!(
            "`configApplied` with `success: {success}`, `dryRun: true` and the revision that was tried"
        );
        let came = match send(stage, &settings, Purpose::DryRun).await? {
            Verdict::Is(applied) if applied["success"] == success && applied["dryRun"] == true => {
                kit.notebook.passed(Rule::DryRunsAnswered);
                continue;
            }
            Verdict::Is(applied) => format!("{}, for {}", shown(&applied), shown(&Value::Object(settings))),
            Verdict::Missing(came) => came,
        };
        kit.notebook.broken(Rule::DryRunsAnswered, expected, came);
    }
    still_answers(stage, Rule::DryRunChangesNothing, before).await
}

const NOTHING_BAD: &str = "`check.json` has no `badSettings`, and no `configSchema` says what would be bad";

/// Settings that the plugin has to refuse, if any are known.
fn bad_settings(kit: &Kit<'_>, register: &Value, good: &Map<String, Value>) -> Option<Map<String, Value>> {
    let registered = Some(&register["configSchema"]).filter(|schema| !schema.is_null());
    let schema = registered.or_else(|| kit.target.entry()?.config_schema.as_ref());
    match &kit.target.questions.bad_settings {
        Some(bad) => Some(laid_over(good, bad)),
        None => schema.and_then(|schema| of_the_wrong_type(schema, good)),
    }
}

/// Pushes settings that have to be taken; answers whether they were.
async fn take_good(stage: &mut Stage<'_>, settings: &Map<String, Value>) -> Result<bool, Halt> {
    let expected = "`configApplied` with `success: true` and the revision that was pushed";
    let verdict = send(stage, settings, Purpose::InForce).await?;
    let notebook = &stage.kit.notebook;
    match verdict {
        Verdict::Is(applied) if applied["success"] == true => {
            notebook.passed(Rule::GoodSettingsApplied);
            return Ok(true);
        }
        Verdict::Is(applied) => notebook.broken(Rule::GoodSettingsApplied, expected, shown(&applied)),
        Verdict::Missing(came) => notebook.broken(Rule::GoodSettingsApplied, expected, came),
    }
    Ok(false)
}

/// Pushes settings that have to be refused, and looks whether anything came of them.
async fn take_bad(stage: &mut Stage<'_>, settings: &Map<String, Value>) -> Result<(), Halt> {
    let before = steady_answer(stage).await?;
    let verdict = send(stage, settings, Purpose::InForce).await?;
    let notebook = &stage.kit.notebook;
    let expected = "`configApplied` with `success: false` and the revision that was pushed";
    match verdict {
        Verdict::Is(applied) if applied["success"] == false => notebook.passed(Rule::BadSettingsRefused),
        Verdict::Is(applied) => {
            let came = format!("{}, for {}", shown(&applied), shown(&Value::Object(settings.clone())));
            notebook.broken(Rule::BadSettingsRefused, expected, came);
            let reason = "the bad settings were not refused";
            notebook.not_tried(Rule::RefusedSettingsChangeNothing, reason);
            return Ok(());
        }
        Verdict::Missing(came) => {
            notebook.broken(Rule::BadSettingsRefused, expected, came);
            return Ok(());
        }
    }
    still_answers(stage, Rule::RefusedSettingsChangeNothing, before).await
}

/// Looks whether the plugin answers what it answered before.
async fn still_answers(stage: &mut Stage<'_>, rule: Rule, before: Option<Value>) -> Result<(), Halt> {
    let Some(before) = before else {
        let reason = "`check.json` has no `answer` that is twice the same";
        stage.kit.notebook.not_tried(rule, reason);
        return Ok(());
    };
    let question = stage.harmless_question();
    let came = match stage.ask(&question, json!({})).await? {
        Answer::Came(after) if after["data"] == before => {
            stage.kit.notebook.passed(rule);
            return Ok(());
        }
        Answer::Came(after) => shown(&after["data"]),
        Answer::Missing(came) => came,
    };
    stage.kit.notebook.broken(rule, shown(&before), came);
    Ok(())
}

/// What the plugin answers, if it answers the same twice.
async fn steady_answer(stage: &mut Stage<'_>) -> Result<Option<Value>, Halt> {
    let Some(question) = stage.kit.target.questions.answer.clone() else { return Ok(None) };
    let first = stage.ask(&question, json!({})).await?;
    let second = stage.ask(&question, json!({})).await?;
    Ok(match (first, second) {
        (Answer::Came(mut first), Answer::Came(second))
            if first["success"] == true && first["data"] == second["data"] =>
        {
            Some(first["data"].take())
        }
        _ => None,
    })
}

async fn send(
    stage: &mut Stage<'_>,
    settings: &Map<String, Value>,
    purpose: Purpose,
) -> Result<Verdict, Halt> {
    stage.ready().await?;
    let launch = stage.launch.as_mut().expect("a session has a launch");
    launch.revision += 1;
    let revision = launch.revision;
    let session = stage.ready().await?;
    let heard_before = session.heard.applied.len();
    let mut frame = json!({ "type": "config", "revision": revision, "config": settings });
    if purpose == Purpose::DryRun {
        frame["dryRun"] = json!(true);
    }
    session.send_json(&frame).await;
    let waited = session.until(APPLIED_WITHIN, |heard| heard.applied(revision).is_some()).await;
    Ok(match waited {
        Waited::Reached => Verdict::Is(session.heard.applied(revision).cloned().unwrap_or_default()),
        Waited::Gone => Verdict::Missing(session.fate()),
        // One for another revision is shown, if that is what came.
        Waited::Late => Verdict::Missing(match session.heard.applied.get(heard_before) {
            Some(other) => shown(other),
            None => format!("nothing within {} s", APPLIED_WITHIN.as_secs()),
        }),
    })
}

/// Settings with those of another place on top of them.
pub(super) fn laid_over(below: &Map<String, Value>, above: &Map<String, Value>) -> Map<String, Value> {
    let mut whole = below.clone();
    whole.extend(above.clone());
    whole
}

/// The settings with one of a type that the schema does not allow. Limits of size alone are not tried:
/// the host has checked those before it pushes.
fn of_the_wrong_type(schema: &Value, settings: &Map<String, Value>) -> Option<Map<String, Value>> {
    let properties = schema["properties"].as_object()?;
    let wrong = |name: &String, value: &Value| {
        let mut whole = settings.clone();
        whole.insert(name.clone(), value.clone());
        let found = violations(schema, &Value::Object(whole.clone())).ok()?;
        let place = format!("/settings/{name}");
        found.iter().any(|violation| violation.path == place).then_some(whole)
    };
    let values = [json!({ "of": "the wrong type" }), json!(["of the wrong type"])];
    properties
        .iter()
        .filter(|(_, declared)| declared.get("type").is_some())
        .find_map(|(name, _)| values.iter().find_map(|value| wrong(name, value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_settings_are_of_a_type_that_the_schema_excludes() {
        let Value::Object(settings) = json!({ "tone": "plain" }) else { panic!() };
        let schema = json!({ "properties": { "anything": {}, "tone": { "type": "string" } } });
        let bad = of_the_wrong_type(&schema, &settings).unwrap();
        assert!(bad["tone"].is_object(), "{bad:?}");
        let schema = json!({ "properties": { "map": { "type": "object" } } });
        assert!(of_the_wrong_type(&schema, &settings).unwrap()["map"].is_array());
        assert_eq!(of_the_wrong_type(&json!({}), &settings), None);
    }
}
