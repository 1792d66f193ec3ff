//! `bkg user`: list, make, change and remove users, and set their passwords.
//!
//! Not who may do it: the daemon decides. The invariants: a password comes from a terminal that does
//! not show it or from standard input, and is shown only if the provider has just made it; `reset`
//! alone uses the root key whatever else is there, because it is the way back in.

use bkg_protocol::RawJson;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Verdict;
use super::access_arguments::{Deletion, NewUser, UserChange, UserCommand};
use super::answer::Answer;
use super::client::{Client, PROMPT};
use super::error::CliError;
use super::input::{Input, PasswordSource};
use super::limit_arguments::together;
use super::output::{Output, harmless};
use super::route;
use super::secret::Password;
use super::table::Table;
use super::target::Target;
use super::time::ago;
use super::whoami::Caller;

/// Where users are.
const USERS: &str = "/admin/users";

/// Carries out a command about users.
pub(super) fn run(
    target: &Target,
    command: &UserCommand,
    input: &mut Input,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    match command {
        UserCommand::List => {
            Client::find(target)?.get(USERS)?.show(output, |page: Page| list(&page.users, Timestamp::now()))
        }
        UserCommand::Create(user) => create(target, user, input, output),
        UserCommand::Update(change) => {
            let body = RawJson::of(&Change::of(change));
            let answer = Client::find(target)?.patch(&route::item(USERS, &change.name), &body)?;
            answer.show(output, |user: User| format!("{}: {}", title(&user), state(&user)))
        }
        UserCommand::Password { name, password_stdin } => {
            let source = PasswordSource::of_flag(*password_stdin);
            let answer = set_password(&Client::find(target)?, name, source, input)?;
            answer.show_done(output, &harmless(&format!("the password of {name} is changed")))
        }
        UserCommand::Delete(deletion) => delete(target, deletion, input, output),
        UserCommand::Reset { name, password_stdin } => {
            let password = given(*password_stdin, input)?;
            let body = RawJson::of(&Reset { password });
            let path = format!("{}/reset", route::item(USERS, name));
            let answer = Client::find(&target.as_root()?)?.post(&path, Some(&body), Some(PROMPT))?;
            answer.show(output, |made: Made| with_password(&made, "can log in again"))
        }
    }
}

fn create(
    target: &Target,
    user: &NewUser,
    input: &mut Input,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    let client = Client::find(target)?;
    let NewUser { name, role, display_name, password_stdin } = user;
    let password = given(*password_stdin, input)?;
    let body = RawJson::of(&Creation { name, role, display_name: display_name.as_deref(), password });
    client
        .post(USERS, Some(&body), Some(PROMPT))?
        .show(output, |made: Made| with_password(&made, "is made"))
}

/// The password on standard input; without one, the provider makes it.
fn given(password_stdin: bool, input: &mut Input) -> Result<Option<Password>, CliError> {
    password_stdin.then(|| input.password(PasswordSource::Stdin, "")).transpose()
}

/// Somebody's own password is not a matter of administration: it needs the old one and no scope, and
/// leaves the session that asks.
fn set_password(
    client: &Client,
    name: &str,
    source: PasswordSource,
    input: &mut Input,
) -> Result<Answer, CliError> {
    let caller: Caller = client.get("/auth/me")?.read()?;
    if caller.is_logged_in_as(name) {
        let old_password = input.password(source, "old password: ")?;
        let new_password = input.new_password(source, "new password: ")?;
        let body = RawJson::of(&OwnPassword { old_password, new_password });
        return client.post("/auth/password", Some(&body), Some(PROMPT));
    }
    let question = harmless(&format!("new password of {name}: "));
    let new_password = input.new_password(source, &question)?;
    let path = format!("{}/password", route::item(USERS, name));
    client.post(&path, Some(&RawJson::of(&json!({ "newPassword": new_password }))), Some(PROMPT))
}

fn delete(
    target: &Target,
    deletion: &Deletion,
    input: &mut Input,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    let client = Client::find(target)?;
    let name = harmless(&deletion.name);
    let question = format!("delete {name} with all keys and login sessions?");
    if !deletion.yes && input.is_terminal() && !input.agrees(&question)? {
        output.remark(&format!("{name} stays"));
        return Ok(Verdict::NotReached);
    }
    let answer = client.delete(&route::item(USERS, &deletion.name))?;
    answer.show_done(output, &format!("{name} is deleted, with all keys and login sessions"))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Creation<'a> {
    name: &'a str,
    role: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    display_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<Password>,
}

#[derive(Serialize)]
struct Reset {
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<Password>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OwnPassword {
    old_password: Password,
    new_password: Password,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Change<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    display_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<Map<String, Value>>,
}

impl<'a> Change<'a> {
    fn of(change: &'a UserChange) -> Self {
        let UserChange { role, display_name, disable, enable, limits, no_limits, .. } = change;
        let disabled = (*disable || *enable).then_some(*disable);
        let limits = (*no_limits || !limits.is_empty()).then(|| together(limits));
        Self { role: role.as_deref(), disabled, display_name: display_name.as_deref(), limits }
    }
}

/// A user as the daemon tells it: what is shown of it. Only the name must be there.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct User {
    name: String,
    display_name: Option<String>,
    role: Option<String>,
    #[serde(default)]
    disabled: bool,
    #[serde(default)]
    must_change_password: bool,
    last_login_at: Option<Timestamp>,
    keys: Option<u64>,
    sessions: Option<u64>,
}

/// A user whose password may just have been made.
#[derive(Deserialize)]
struct Made {
    password: Option<String>,
    #[serde(flatten)]
    user: User,
}

#[derive(Deserialize)]
struct Page {
    users: Vec<User>,
}

fn title(user: &User) -> String {
    let role = user.role.as_deref().map(|role| format!(" ({role})")).unwrap_or_default();
    harmless(&format!("{}{role}", user.name))
}

fn state(user: &User) -> &'static str {
    match (user.disabled, user.must_change_password) {
        (true, _) => "disabled",
        (false, true) => "must change the password",
        (false, false) => "enabled",
    }
}

fn with_password(made: &Made, happened: &str) -> String {
    let mut text = format!("{} {happened}\n", title(&made.user));
    if made.user.must_change_password {
        text.push_str("the password must be changed at the first login\n");
    }
    if let Some(password) = &made.password {
        text.push_str(&format!(
            "\nthe password is shown this once, keep it now:\n{}\n",
            harmless(password)
        ));
    }
    text
}

fn list(users: &[User], now: Timestamp) -> String {
    if users.is_empty() {
        return "no users: `bkg user reset NAME` makes an administrator".to_owned();
    }
    let mut table = Table::new(["NAME", "ROLE", "STATE", "KEYS", "SESSIONS", "LAST LOGIN", "DISPLAY NAME"]);
    for user in users {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let count = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
        table.row([
            user.name.clone(),
            text(&user.role),
            state(user).to_owned(),
            count(user.keys),
            count(user.sessions),
            user.last_login_at.map_or("never".to_owned(), |at| ago(at, now)),
            text(&user.display_name),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::super::client::tests::{ScriptedDaemon, answer};
    use super::*;

    const USER: &str = r#"{"id":"u1","name":"ada","displayName":"Ada L.","role":"operator","scopes":["plugin:read"],
        "disabled":false,"mustChangePassword":true,"createdAt":"2026-01-02T03:04:05Z","lastLoginAt":null,
        "keys":2,"sessions":0}"#;

    /// Runs a command against a daemon that gives these answers: its output, and the requests.
    fn run_against(
        answers: &[(&str, &str)],
        command: &UserCommand,
        mut input: Input,
    ) -> (Result<Verdict, CliError>, Output, Vec<String>) {
        let daemon =
            ScriptedDaemon::start(answers.iter().map(|(status, body)| answer(status, body)).collect());
        let mut output = Output::captured(false);
        let result = run(&daemon.target(), command, &mut input, &mut output);
        (result, output, daemon.requests())
    }

    fn new_user(password_stdin: bool) -> UserCommand {
        let (name, role) = ("ada".to_owned(), "operator".to_owned());
        UserCommand::Create(NewUser { name, role, display_name: Some("Ada L.".into()), password_stdin })
    }

    #[test]
    fn a_made_password_is_shown_this_once() {
        let body = USER.replacen('{', r#"{"password":"correct horse","#, 1);
        let (result, output, requests) =
            run_against(&[("201 Created", &body)], &new_user(false), Input::sent([]));
        assert_eq!(result.unwrap(), Verdict::Reached);
        assert_eq!(
            output.written(),
            "\
ada (operator) is made
the password must be changed at the first login

the password is shown this once, keep it now:
correct horse
"
        );
        assert!(requests[0].starts_with("POST /admin/users HTTP/1.1\r\n"), "{requests:?}");
        let body = r#"{"name":"ada","role":"operator","displayName":"Ada L."}"#;
        assert!(requests[0].ends_with(body), "{requests:?}");
    }

    #[test]
    fn a_given_password_is_sent_and_not_shown() {
        let (_, output, requests) =
            run_against(&[("201 Created", USER)], &new_user(true), Input::sent(["s3cret\n"]));
        assert!(requests[0].ends_with(r#""password":"s3cret"}"#), "{requests:?}");
        assert!(!output.written().contains("s3cret"), "{}", output.written());
    }

    #[test]
    fn a_change_has_only_the_members_that_were_asked_for() {
        let change = UserChange {
            name: "ada".into(),
            role: None,
            display_name: None,
            disable: false,
            enable: false,
            limits: vec![],
            no_limits: false,
        };
        for (change, body) in [
            (
                UserChange { limits: vec!["max-tokens=5".parse().unwrap()], ..change.clone() },
                r#"{"limits":{"maxTokens":5}}"#,
            ),
            (UserChange { no_limits: true, ..change.clone() }, r#"{"limits":{}}"#),
            (UserChange { disable: true, ..change.clone() }, r#"{"disabled":true}"#),
            (UserChange { enable: true, ..change.clone() }, r#"{"disabled":false}"#),
            (
                UserChange { role: Some("user".into()), display_name: Some("".into()), ..change },
                r#"{"role":"user","displayName":""}"#,
            ),
        ] {
            let command = UserCommand::Update(change);
            let (_, output, requests) = run_against(&[("200 OK", USER)], &command, Input::sent([]));
            assert_eq!(output.written(), "ada (operator): must change the password\n");
            assert!(requests[0].starts_with("PATCH /admin/users/ada HTTP/1.1\r\n"), "{requests:?}");
            assert!(requests[0].ends_with(&format!("\r\n\r\n{body}")), "{requests:?}");
        }
    }

    fn password(password_stdin: bool) -> UserCommand {
        UserCommand::Password { name: "ada".into(), password_stdin }
    }

    #[test]
    fn the_password_of_another_is_set_without_the_old_one() {
        let me = r#"{"kind":"root","user":"root","scopes":["admin"]}"#;
        let (_, output, requests) = run_against(
            &[("200 OK", me), ("200 OK", USER)],
            &password(false),
            Input::typed(["new", "new"]),
        );
        assert!(requests[1].starts_with("POST /admin/users/ada/password HTTP/1.1\r\n"), "{requests:?}");
        assert!(requests[1].ends_with(r#"{"newPassword":"new"}"#), "{requests:?}");
        assert_eq!(output.written(), "the password of ada is changed\n");
    }

    #[test]
    fn ones_own_password_needs_the_old_one() {
        let me = r#"{"kind":"session","user":"ada","userId":"u1","scopes":[],"mustChangePassword":true}"#;
        for (command, input) in [
            (password(false), Input::typed(["old", "new", "new"])),
            (password(true), Input::sent(["old\n", "new\n"])),
        ] {
            let (result, _, requests) = run_against(&[("200 OK", me), ("200 OK", "{}")], &command, input);
            assert_eq!(result.unwrap(), Verdict::Reached);
            assert!(requests[1].starts_with("POST /auth/password HTTP/1.1\r\n"), "{requests:?}");
            assert!(requests[1].ends_with(r#"{"oldPassword":"old","newPassword":"new"}"#), "{requests:?}");
        }
    }

    fn deletion(yes: bool) -> UserCommand {
        UserCommand::Delete(Deletion { name: "ada".into(), yes })
    }

    #[test]
    fn a_person_is_asked_before_a_user_is_deleted_and_a_script_is_not() {
        for (yes, input) in
            [(false, Input::typed(["y"])), (true, Input::typed([])), (false, Input::sent([]))]
        {
            let (result, output, requests) = run_against(&[("200 OK", "{}")], &deletion(yes), input);
            assert_eq!(result.unwrap(), Verdict::Reached);
            assert_eq!(output.written(), "ada is deleted, with all keys and login sessions\n");
            assert!(requests[0].starts_with("DELETE /admin/users/ada HTTP/1.1\r\n"), "{requests:?}");
        }
    }

    #[test]
    fn without_a_yes_nobody_is_deleted() {
        let daemon = ScriptedDaemon::start(vec![answer("200 OK", "{}")]);
        let mut output = Output::captured(false);
        let verdict = run(&daemon.target(), &deletion(false), &mut Input::typed(["n"]), &mut output);
        assert_eq!(verdict.unwrap(), Verdict::NotReached);
        assert_eq!((output.written().as_str(), output.remarked().as_str()), ("", "ada stays\n"));
        // The only request that the daemon gets is this one.
        Client::find(&daemon.target()).unwrap().get("/x").unwrap();
        assert!(daemon.requests()[0].starts_with("GET /x "));
    }

    #[test]
    fn a_reset_uses_the_root_key() {
        let body = USER.replacen('{', r#"{"password":"correct horse","#, 1);
        let command = UserCommand::Reset { name: "ada".into(), password_stdin: false };
        let (_, output, requests) = run_against(&[("200 OK", &body)], &command, Input::sent([]));
        assert!(requests[0].starts_with("POST /admin/users/ada/reset HTTP/1.1\r\n"), "{requests:?}");
        assert!(requests[0].contains("authorization: Bearer bkg_root_"), "{requests:?}");
        assert!(requests[0].ends_with("\r\n\r\n{}"), "{requests:?}");
        let text = output.written();
        assert!(text.starts_with("ada (operator) can log in again\n"), "{text}");
        assert!(text.ends_with("\ncorrect horse\n"), "{text}");
    }

    #[test]
    fn a_list_has_one_line_per_user() {
        let body = format!(r#"{{"users":[{USER},{{"name":"eve\u001b[2J","disabled":true}}]}}"#);
        let (_, output, _) = run_against(&[("200 OK", &body)], &UserCommand::List, Input::sent([]));
        assert_eq!(
            output.written(),
            "\
NAME          ROLE      STATE                     KEYS  SESSIONS  LAST LOGIN  DISPLAY NAME
ada           operator  must change the password  2     0         never       Ada L.
eve\\u{1b}[2J  -         disabled                  -     -         never       -
"
        );
    }
}
