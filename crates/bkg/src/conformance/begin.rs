//! The first launch: from `prepare.sh` to the registration, and its end at SIGTERM.
//!
//! Everything else needs a plugin that gets as far as this, so it plays before the other scenes.

use std::time::Duration;

use tokio::time::Instant;

use super::kit::{FIRST_DIAL_WITHIN, Kit};
use super::launch::{GRACE, Launch, NoLaunch};
use super::rule::{Level, Rule};
use super::session::Session;
use super::stage::{ANSWER_WITHIN, Halt, Stage};
use crate::registry::process_table::ProcessRef;

/// How long `prepare.sh` may run, as the host has it by default.
const PREPARE_WITHIN: Duration = Duration::from_secs(30 * 60);
/// Why nothing else can be tried.
const NEVER_REGISTERED: &str = "the plugin never registered";
/// How long the kit keeps `registered` back, to see that nothing comes before it.
const KEPT_BACK: Duration = Duration::from_millis(250);

/// Starts the plugin for the first time; what it registers for is known when this has succeeded. Answers
/// the stage on which a plugin plays on that was started by hand, since nobody starts that again.
pub(super) async fn begin<'k>(kit: &'k Kit<'k>) -> Result<Option<Stage<'k>>, Halt> {
    Launch::prepare(kit, PREPARE_WITHIN).await?;
    if kit.by_hand.is_none() {
        kit.progress.say("the plugin starts; the first time it may build what it needs");
    }
    let mut launch = match Launch::start(kit).await {
        Ok(launch) => launch,
        Err(NoLaunch::Plugin(reason)) => {
            kit.notebook.broken(Rule::DialsInTime, "a process", reason);
            return Err(Halt::Stuck(NEVER_REGISTERED.to_owned()));
        }
        Err(other) => return Err(other.into()),
    };
    let begun = Instant::now();
    let mut session = match launch.registering(FIRST_DIAL_WITHIN).await {
        Ok(session) => session,
        Err(missing) => {
            missing.note(&kit.notebook);
            launch.end().await?;
            return Err(Halt::Stuck(NEVER_REGISTERED.to_owned()));
        }
    };
    kit.notebook.passed(Rule::DialsInTime);
    if kit.by_hand.is_none() {
        let _ = kit.first_dial.set(begun.elapsed());
    }
    let contract = session.heard.contract().expect("it has registered");
    let _ = kit.contract.set(contract);
    if contract == Level::Extended {
        kit.notebook.passed(Rule::SpeaksExtended);
        session.listen(KEPT_BACK).await;
        kit.notebook.passed(Rule::SilentUntilRegistered);
    } else if kit.wishes.level == Some(Level::Extended) {
        let came = "a `register` without `protocol`";
        kit.notebook.broken(Rule::SpeaksExtended, "`protocol: 1` in `register`", came);
    }
    launch.welcome(&mut session).await;
    if kit.by_hand.is_some() {
        for rule in [Rule::EndsAtSigterm, Rule::LeavesNothingBehind] {
            kit.notebook.not_tried(rule, "the plugin was started by hand, and is no process of the kit");
        }
        return Ok(Some(Stage::with(kit, launch, session)));
    }
    end_by_signal(kit, launch, session).await?;
    Ok(None)
}

/// Whoever is told to leave leaves, and takes along what it started.
async fn end_by_signal<'k>(
    kit: &'k Kit<'k>,
    mut launch: Launch<'k>,
    mut session: Session<'k>,
) -> Result<(), Halt> {
    // Not in the middle of its start: an extended plugin beats as soon as it is at home.
    if session.heard.contract() == Some(Level::Extended) {
        session.until(ANSWER_WITHIN, |heard| heard.beats > 0).await;
    }
    if launch.exited(Duration::ZERO).await.is_some() {
        for rule in [Rule::EndsAtSigterm, Rule::LeavesNothingBehind] {
            kit.notebook.not_tried(rule, "it ended by itself before it was told to");
        }
        return launch.end().await.map_err(Halt::from);
    }
    let group = launch.members().await?;
    // The socket is read meanwhile: what the plugin says at its end must find a reader.
    let (stopped, _) = tokio::join!(launch.stop(GRACE), session.ended(2 * GRACE));
    let Some(report) = stopped? else { return Ok(()) };
    let seconds = GRACE.as_secs();
    let (of_the_group, strangers): (Vec<ProcessRef>, Vec<ProcessRef>) =
        report.killed.iter().partition(|killed| group.contains(killed));
    if of_the_group.is_empty() {
        kit.notebook.passed(Rule::EndsAtSigterm);
    } else {
        let came = format!("it still ran {seconds} s after SIGTERM, and was killed");
        kit.notebook.broken(Rule::EndsAtSigterm, format!("its end within {seconds} s"), came);
    }
    if strangers.is_empty() {
        kit.notebook.passed(Rule::LeavesNothingBehind);
    } else {
        let pids: Vec<String> = strangers.iter().map(|process| process.pid.to_string()).collect();
        let came = format!("{seconds} s after SIGTERM still ran, and was killed: pid {}", pids.join(", "));
        kit.notebook.broken(Rule::LeavesNothingBehind, "no process of the launch", came);
    }
    Ok(())
}
