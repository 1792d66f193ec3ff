//! `bkg session`: see login sessions, and end them.
//!
//! Not the login of this command line: `login` and `logout` make and end that. The invariant: what is
//! asked for as one's own goes to the route that needs no scope, never to the other one.

use jiff::Timestamp;
use serde::Deserialize;

use super::Verdict;
use super::access_arguments::SessionCommand;
use super::client::Client;
use super::error::CliError;
use super::output::{Output, harmless};
use super::route;
use super::table::Table;
use super::target::Target;
use super::time::{ago, moment};

/// Where everybody's sessions are.
const ALL: &str = "/admin/sessions";
/// Where the caller's own sessions are.
const OWN: &str = "/auth/sessions";

/// Carries out a command about login sessions.
pub(super) fn run(
    target: &Target,
    command: &SessionCommand,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    let client = Client::find(target)?;
    match command {
        SessionCommand::List { of, own } => {
            let path = if *own { OWN.to_owned() } else { route::of_user(ALL, of.user.as_deref()) };
            client.get(&path)?.show(output, |page: Page| list(&page.sessions, Timestamp::now()))
        }
        SessionCommand::Revoke { id, own } => {
            let answer = client.delete(&route::item(if *own { OWN } else { ALL }, id))?;
            answer.show_done(output, &harmless(&format!("the login session {id} has ended")))
        }
    }
}

/// A login session as the daemon tells it: what is shown of it. Only the id must be there.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Session {
    id: String,
    user: Option<String>,
    created_at: Option<Timestamp>,
    last_used_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    client: Option<Origin>,
}

/// From where it was opened.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Origin {
    address: Option<String>,
    user_agent: Option<String>,
}

#[derive(Deserialize)]
struct Page {
    sessions: Vec<Session>,
}

fn list(sessions: &[Session], now: Timestamp) -> String {
    if sessions.is_empty() {
        return "no login sessions".to_owned();
    }
    let mut table = Table::new(["ID", "USER", "SINCE", "LAST USED", "EXPIRES", "ADDRESS", "CLIENT"]);
    for session in sessions {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let from = |member: fn(&Origin) -> &Option<String>| {
            session.client.as_ref().map(|origin| text(member(origin))).unwrap_or_default()
        };
        table.row([
            session.id.clone(),
            text(&session.user),
            session.created_at.map(moment).unwrap_or_default(),
            session.last_used_at.map(|at| ago(at, now)).unwrap_or_default(),
            session.expires_at.map(moment).unwrap_or_default(),
            from(|origin| &origin.address),
            from(|origin| &origin.user_agent),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::super::access_arguments::OfUser;
    use super::super::client::tests::{ScriptedDaemon, answer};
    use super::*;

    const SESSIONS: &str = r#"{"sessions":[{"id":"s1","user":"ada","userId":"u","createdAt":"2026-01-02T03:04:05Z",
        "lastUsedAt":"2026-01-02T03:04:05Z","expiresAt":"2026-01-03T03:04:05Z",
        "client":{"address":"127.0.0.1","userAgent":"bkg/0.1.0"}}]}"#;

    fn run_against(body: &str, command: &SessionCommand) -> (String, String) {
        let daemon = ScriptedDaemon::start(vec![answer("200 OK", body)]);
        let mut output = Output::captured(false);
        assert_eq!(run(&daemon.target(), command, &mut output).unwrap(), Verdict::Reached);
        (output.written(), daemon.requests().remove(0))
    }

    fn of(user: Option<&str>) -> OfUser {
        OfUser { user: user.map(str::to_owned) }
    }

    #[test]
    fn a_list_says_from_where_each_session_was_opened() {
        let page: Page = serde_json::from_str(SESSIONS).unwrap();
        assert_eq!(
            list(&page.sessions, "2026-01-02T03:05:05Z".parse().unwrap()),
            "\
ID  USER  SINCE                     LAST USED      EXPIRES                   ADDRESS    CLIENT
s1  ada   2026-01-02T03:04:05.000Z  1 min 0 s ago  2026-01-03T03:04:05.000Z  127.0.0.1  bkg/0.1.0
"
        );
    }

    #[test]
    fn ones_own_sessions_have_a_route_of_their_own() {
        for (user, own, path) in [
            (None, false, "/admin/sessions"),
            (Some("ada"), false, "/admin/sessions?user=ada"),
            (None, true, "/auth/sessions"),
        ] {
            let command = SessionCommand::List { of: of(user), own };
            let (_, request) = run_against(r#"{"sessions":[]}"#, &command);
            assert!(request.starts_with(&format!("GET {path} HTTP/1.1\r\n")), "{request}");
        }
        for (own, path) in [(false, "/admin/sessions/s1"), (true, "/auth/sessions/s1")] {
            let (text, request) = run_against("", &SessionCommand::Revoke { id: "s1".into(), own });
            assert_eq!(text, "the login session s1 has ended\n");
            assert!(request.starts_with(&format!("DELETE {path} HTTP/1.1\r\n")), "{request}");
        }
    }
}
