//! `bkg plugin swap`: has a new version of a plugin take over, and says how it went.
//!
//! Not how: the daemon does that. The invariant: it exits 0 only if the new version serves, or if nobody
//! wanted to wait.

use std::time::Duration;

use bkg_protocol::PluginName;
use clap::Args;
use http::StatusCode;

use super::Verdict;
use super::client::{Client, PROMPT};
use super::error::CliError;
use super::output::{Output, harmless};
use super::plugin_object::{Plugin, Swap};
use super::target::Target;

/// The longest that is waited, in seconds.
const LONGEST_WAIT: u64 = 600;

/// Which plugin is swapped, and how.
#[derive(Debug, Args)]
pub(super) struct SwapRequest {
    /// The plugin
    name: PluginName,
    /// Try the new version with so many of 100 requests first [default: as the entry says, else none]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=99))]
    share: Option<u8>,
    /// For how long it is tried [default: as the entry says, else 30]
    #[arg(long, value_name = "SECONDS", requires = "share")]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=86_400))]
    observe: Option<u64>,
    /// How long to wait for it, besides the trial; 0 only hands the order over
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=LONGEST_WAIT))]
    wait: u64,
}

pub(super) fn run(
    target: &Target,
    request: &SwapRequest,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    let SwapRequest { name, share, observe, wait } = request;
    let mut query = Vec::new();
    if let Some(share) = share {
        query.push(format!("share={share}"));
    }
    if let Some(observe) = observe {
        query.push(format!("observe={observe}"));
    }
    let patience = match *wait {
        0 => 0,
        wait => (wait + observe.or(share.map(|_| 30)).unwrap_or(0)).min(LONGEST_WAIT),
    };
    if patience > 0 {
        query.push(format!("wait={patience}"));
        output.remark(&format!("swap {name}, waiting up to {patience} s"));
    }
    let mut path = format!("/admin/plugins/{name}/swap");
    if !query.is_empty() {
        path.push_str(&format!("?{}", query.join("&")));
    }
    let answer = Client::find(target)?.post(&path, None, Some(PROMPT + Duration::from_secs(patience)))?;
    let plugin: Plugin = answer.read()?;
    let is_under_way = answer.status == StatusCode::ACCEPTED;
    if output.wants_json() {
        output.json(&answer.body)?;
    } else if patience == 0 {
        output.text(&format!("the order to swap {name} is given"))?;
    } else {
        let swap = plugin.swap.as_ref();
        output.text(&swap.map(|swap| harmless(&story(&plugin.name, swap))).unwrap_or_default())?;
        if is_under_way {
            output.remark(&format!("this is not its end: `bkg plugin show {name}` shows how far it is"));
        }
    }
    let serves = plugin.swap.is_some_and(|swap| swap.new_version_serves());
    Ok(if patience == 0 || (serves && !is_under_way) { Verdict::Reached } else { Verdict::NotReached })
}

/// How a swap goes or went, in one sentence.
pub(super) fn story(name: &str, swap: &Swap) -> String {
    let version = |version: &Option<super::plugin_object::Version>| match version {
        Some(version) if !version.version.is_empty() => format!(" {}", version.version),
        _ => String::new(),
    };
    let (from, to) = (version(&swap.from), version(&swap.to));
    let reason = swap.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let cut = match swap.cut {
        None | Some(0) => String::new(),
        Some(1) => "; 1 request of the version before was cut".to_owned(),
        Some(cut) => format!("; {cut} requests of the version before were cut"),
    };
    match swap.state.as_str() {
        "starting" => format!("{name}: the new version{to} starts, the one before{from} serves{reason}"),
        "sharing" => {
            let share = swap.share.as_ref().map(|share| format!("{} of 100 ", share.percent));
            format!("{name}: the new version{to} answers {}requests", share.unwrap_or_default())
        }
        "holding" => {
            format!("{name}: the new version{to} serves, the one before{from} could still come back")
        }
        "draining" => {
            format!("{name}: the new version{to} serves, the one before{from} finishes what it has")
        }
        "swapped" => format!("{name}: the new version{to} serves, the one before{from} is gone{cut}"),
        "restarted" => format!("{name}: it was started again as the new version{to}{cut}"),
        "rolled-back" => format!("{name}: rolled back, the version before{from} serves{reason}"),
        "superseded" => format!("{name}: another swap took the place of this one"),
        other => format!("{name}: the swap is {other}{reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::client::tests::{ScriptedDaemon, answer};
    use super::*;

    fn run_against(status: &str, body: &str, wait: u64) -> (Verdict, String, String) {
        let daemon = ScriptedDaemon::start(vec![answer(status, body)]);
        let mut output = Output::captured(false);
        let request =
            SwapRequest { name: "ping".parse().unwrap(), share: Some(10), observe: Some(5), wait };
        let verdict = run(&daemon.target(), &request, &mut output).unwrap();
        (verdict, output.written().to_owned(), daemon.requests().remove(0))
    }

    #[test]
    fn a_swap_succeeds_only_if_the_new_version_serves() {
        for (state, verdict, said) in [
            (
                "draining",
                Verdict::Reached,
                "ping: the new version 2 serves, the one before 1 finishes what it has\n",
            ),
            (
                "swapped",
                Verdict::Reached,
                "ping: the new version 2 serves, the one before 1 is gone; 3 requests of the version before were cut\n",
            ),
            (
                "restarted",
                Verdict::Reached,
                "ping: it was started again as the new version 2; 3 requests of the version before were cut\n",
            ),
            ("rolled-back", Verdict::NotReached, "ping: rolled back, the version before 1 serves: why\n"),
            ("superseded", Verdict::NotReached, "ping: another swap took the place of this one\n"),
        ] {
            let body = format!(
                r#"{{"name":"ping","status":"running","swap":{{"state":"{state}","reason":"why","cut":3,
                "from":{{"version":"1","revision":0}},"to":{{"version":"2","revision":0}}}}}}"#
            );
            let (reached, written, request) = run_against("200 OK", &body, 60);
            assert_eq!((reached, written.as_str()), (verdict, said));
            let due = "POST /admin/plugins/ping/swap?share=10&observe=5&wait=65 HTTP/1.1\r\n";
            assert!(request.starts_with(due), "{request}");
        }
    }

    #[test]
    fn an_order_without_waiting_says_that_it_is_only_given() {
        let body = r#"{"name":"ping","status":"running"}"#;
        let (reached, written, request) = run_against("202 Accepted", body, 0);
        assert_eq!((reached, written.as_str()), (Verdict::Reached, "the order to swap ping is given\n"));
        assert!(
            request.starts_with("POST /admin/plugins/ping/swap?share=10&observe=5 HTTP/1.1\r\n"),
            "{request}"
        );
    }
}
