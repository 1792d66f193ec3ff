//! The order of the scenes of a check: what is tried on which launch, and under which rules that counts.
//!
//! How a rule is tried is in the scenes. The first launch comes before everything else; then the scenes
//! play at once, each on a launch of its own, if the plugin bears company.

use super::kit::{Kit, KitError};
use super::rule::Rule;
use super::stage::{Halt, Stage};
use super::{asks, beats, begin, cancels, endings, settings, strays, streams};
use crate::config::PluginEntry;

/// Plays every scene; answers why what nobody tried was not tried.
pub(super) async fn play(kit: &Kit<'_>) -> Result<String, KitError> {
    let by_hand = match begin::begin(kit).await {
        Ok(by_hand) => by_hand,
        Err(Halt::Kit(error)) => return Err(error),
        Err(Halt::Stuck(reason)) => return Ok(reason),
        Err(Halt::Beside(reason)) => return Ok(reason.to_owned()),
    };
    kit.progress.say("it registers; questions and faults come now");
    let (mut at_work, mut at_loss) = (Stage::new(kit), Stage::new(kit));
    let (mut at_close, mut at_refusal) = (Stage::new(kit), Stage::new(kit));
    if let Some(mut stage) = by_hand {
        work(&mut stage).await?;
        broken_link(&mut stage).await?;
        drain(&mut stage).await?;
        leave_untried(kit, &[Rule::CloseAnswered, Rule::RedialsPolitely, Rule::RefusalBelieved]);
    } else if kit.target.entry().is_some_and(PluginEntry::may_overlap) {
        let working = async {
            work(&mut at_work).await?;
            drain(&mut at_work).await
        };
        let losing = async {
            broken_link(&mut at_loss).await?;
            at_loss.end().await
        };
        tokio::try_join!(working, losing, close(&mut at_close), refusal(&mut at_refusal))?;
    } else {
        broken_link(&mut at_loss).await?;
        at_loss.end().await?;
        close(&mut at_close).await?;
        refusal(&mut at_refusal).await?;
        work(&mut at_work).await?;
        drain(&mut at_work).await?;
    }
    kit.notebook.passed(Rule::OutputBounded);
    kit.notebook.not_applicable(Rule::AsksWithFreshIds, "it asked nothing itself");
    kit.notebook.not_applicable(Rule::LogsValid, "it sent neither `log` nor `telemetry`");
    Ok("nothing that it is about came to pass".to_owned())
}

/// Everything that is asked of a plugin at work.
async fn work(stage: &mut Stage<'_>) -> Result<(), KitError> {
    let of_answers = [Rule::ExampleAnswered, Rule::OneResponseEach, Rule::AnswersOwnIds];
    stage.tried(&of_answers, asks::example).await?;
    stage.tried(&[Rule::UnknownCapabilityRefused], asks::unknown).await?;
    stage.tried(&[Rule::UnknownTypeIgnored], asks::unknown_type).await?;
    stage.tried(&[Rule::UnknownMembersIgnored], asks::unknown_members).await?;
    stage.tried(&[Rule::BadPayloadSurvived], asks::bad_payloads).await?;
    stage.tried(&[Rule::ConcurrentIds], asks::concurrent).await?;
    stage.tried(&[Rule::LargeRequestSurvived, Rule::FrameSizeKept], asks::large).await?;
    if stage.kit.is_extended() {
        extended_work(stage).await?;
    }
    stage.tried(&[Rule::BeatsKeepComing, Rule::HeartbeatKept], beats::beats).await
}

/// What an extended plugin takes on besides.
async fn extended_work(stage: &mut Stage<'_>) -> Result<(), KitError> {
    stage.tried(&[Rule::PingAnswered], strays::ping).await?;
    stage.tried(&[Rule::GarbageSurvived], strays::garbage).await?;
    stage.tried(&[Rule::StrayAnswersIgnored], strays::answers).await?;
    stage.tried(&[Rule::StrayCancelIgnored], cancels::strays).await?;
    let of_streams = [
        Rule::ChunkOrder,
        Rule::ChunkSizeKept,
        Rule::CreditKept,
        Rule::NoChunkAfterResponse,
        Rule::StreamResumes,
        Rule::StreamNotCutShort,
    ];
    stage.tried(&of_streams, streams::credit).await?;
    stage.tried(&[Rule::ChunksOnlyWhenAsked], streams::unstreamed).await?;
    stage.tried(&[Rule::DuplicateIdHarmless], streams::duplicate).await?;
    stage.tried(&[Rule::CancelAnswered], cancels::in_the_middle).await?;
    stage.tried(&[Rule::CancelRaceSurvived], cancels::race).await?;
    let of_settings =
        [Rule::GoodSettingsApplied, Rule::BadSettingsRefused, Rule::RefusedSettingsChangeNothing];
    stage.tried(&of_settings, settings::pushed).await?;
    stage.tried(&[Rule::DryRunsAnswered, Rule::DryRunChangesNothing], settings::only_tried).await
}

/// The end of a plugin at work.
async fn drain(stage: &mut Stage<'_>) -> Result<(), KitError> {
    if stage.kit.is_extended() {
        let rules = [Rule::DrainFinishesWork, Rule::DrainCloses, Rule::DrainExits];
        stage.tried(&rules, endings::drain).await?;
    }
    stage.end().await
}

/// A link that breaks: for a base plugin, to end is as good as to come back.
async fn broken_link(stage: &mut Stage<'_>) -> Result<(), KitError> {
    if !stage.kit.is_extended() {
        return Ok(());
    }
    let rules = [Rule::ReconnectsWithResume, Rule::BeatsAfterReconnect, Rule::OldIdsForgotten];
    stage.tried(&rules, endings::broken_link).await
}

/// A socket that the host closes.
async fn close(stage: &mut Stage<'_>) -> Result<(), KitError> {
    stage.tried(&[Rule::CloseAnswered, Rule::RedialsPolitely], endings::close).await?;
    stage.end().await
}

/// A registration that the host does not take.
async fn refusal(stage: &mut Stage<'_>) -> Result<(), KitError> {
    stage.tried(&[Rule::RefusalBelieved], endings::refusal).await?;
    stage.end().await
}

/// What a plugin would have to be started again for is not tried where nobody does that.
fn leave_untried(kit: &Kit<'_>, rules: &[Rule]) {
    let reason = "the plugin would have to be started again by hand: check its `start.sh`";
    rules.iter().for_each(|rule| kit.notebook.not_tried(*rule, reason));
}
