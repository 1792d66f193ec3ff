//! `bkg check`: runs the conformance kit on one plugin, and shows what it found.
//!
//! Without any daemon. The invariant: what the plugin did wrong ends with 1, what went wrong with the
//! check with 3, and Ctrl-C, SIGTERM or a terminal that goes away leave nothing running.

use tokio::signal::unix::{SignalKind, signal};

use super::Verdict;
use super::check_arguments::CheckRequest;
use super::check_report;
use super::error::CliError;
use super::output::Output;
use crate::conformance::{Checked, Progress, Report, Target, Wishes, check};

/// Checks a plugin, or lists the rules.
pub(super) fn run(request: CheckRequest, output: &mut Output) -> Result<Verdict, CliError> {
    let CheckRequest { target, level, settings, ask, only, list } = request;
    let wishes = Wishes { level: level.map(Into::into), only };
    let Some(target) = target.filter(|_| !list) else {
        return check_report::list(&wishes, output);
    };
    let target = Target::read(&target, settings.unwrap_or_default(), ask.as_deref())?;
    let report = carry_out(&target, &wishes, output)?;
    check_report::show(&report, output)?;
    Ok(if report.conforms() { Verdict::Reached } else { Verdict::NotReached })
}

fn carry_out(target: &Target, wishes: &Wishes, output: &mut Output) -> Result<Report, CliError> {
    let surroundings = |source| CliError::Surroundings { what: "signals of this process", source };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(surroundings)?;
    let output = std::cell::RefCell::new(output);
    let is_by_hand = target.is_by_hand();
    let say = |text: &str| {
        let mut output = output.borrow_mut();
        if is_by_hand { output.notice(text) } else { output.remark(text) }
    };
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(surroundings)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(surroundings)?;
        let mut hangup = signal(SignalKind::hangup()).map_err(surroundings)?;
        let stop = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        };
        match check(target, wishes, &Progress(&say), stop).await? {
            Checked::Report(report) => Ok(*report),
            Checked::Stopped => Err(CliError::Interrupted),
        }
    })
}
