//! `bkg login` and `bkg logout`: be somebody on the command line, until told otherwise.
//!
//! Not how the login is kept (`login_file`) or used (`credential`). The invariants: nothing of a session
//! but the fact is ever shown; a logout leaves no saved login behind, even if the daemon is gone.

use bkg_protocol::RawJson;
use serde::Serialize;
use serde_json::json;

use super::Verdict;
use super::access_arguments::LoginRequest;
use super::client::{Client, PROMPT};
use super::credential::{Credential, LoginAnswer};
use super::error::CliError;
use super::input::{Input, PasswordSource};
use super::login_file::{Login, LoginFile, LoginFileError};
use super::output::{Output, harmless};
use super::secret::Password;
use super::target::{Choice, Target};
use super::time::moment;

#[derive(Serialize)]
struct Proof<'a> {
    username: &'a str,
    password: Password,
}

/// Logs in, and saves the login for the commands that follow.
pub(super) fn login(
    target: &Target,
    request: &LoginRequest,
    input: &mut Input,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    let file = place(target)?;
    let client = Client::without_credential(target)?;
    // A session that could not be saved would be one that nobody can end.
    file.check()?;
    let user = request.user.clone().map_or_else(|| input.user(), Ok)?;
    let source = PasswordSource::of_flag(request.password_stdin);
    let password = input.password(source, &harmless(&format!("password of {user}: ")))?;
    let body = RawJson::of(&Proof { username: &user, password });
    let answer: LoginAnswer =
        client.post("/auth/login", Some(&body), Some(PROMPT)).map_err(advised)?.read()?;
    let must_change_password = answer.must_change_password;
    let login = answer.into_login();
    let (user, until) = (login.user.clone(), login.refresh_expires_at);
    file.save(&target.place, login)?;
    if output.wants_json() {
        let state = json!({
            "user": user,
            "file": file.path(),
            "expiresAt": until,
            "mustChangePassword": must_change_password,
        });
        output.json(&state.to_string())?;
    } else {
        output.text(&harmless(&format!("{user} is logged in, until {} if unused", moment(until))))?;
        if must_change_password {
            output.text(&harmless(&format!(
                "the password must be changed before anything else: `bkg user password {user}`"
            )))?;
        }
    }
    if let Choice::FirstOf { key: Some(_), .. } = target.choice {
        output.remark("`BKG_API_KEY` is set, and comes before the login: unset it to use the login");
    }
    Ok(Verdict::Reached)
}

/// What to do if the name or the password is wrong: which of them, nobody says.
fn advised(error: CliError) -> CliError {
    match error {
        CliError::Refused(refusal) if refusal.status == 401 => CliError::Refused(
            refusal.advised("try again, or set another password: `bkg --root user password NAME`"),
        ),
        other => other,
    }
}

/// Ends the saved login, at the daemon and here.
pub(super) fn logout(target: &Target, output: &mut Output) -> Result<Verdict, CliError> {
    let file = place(target)?;
    let Some(login) = file.saved(&target.place)? else {
        if output.wants_json() {
            output.json(r#"{"user":null}"#)?;
        } else {
            output.text(&format!("no login is saved for {}", target.place))?;
        }
        return Ok(Verdict::Reached);
    };
    let ended = end(target);
    file.forget(&target.place)?;
    match ended {
        Err(error) if !has_ended_before(&error) => {
            let Login { user, refresh_expires_at, .. } = login;
            Err(CliError::SessionLeft { user, until: moment(refresh_expires_at), reason: Box::new(error) })
        }
        _ if output.wants_json() => {
            output.json(&json!({ "user": login.user }).to_string())?;
            Ok(Verdict::Reached)
        }
        _ => {
            output.text(&harmless(&format!("{} is logged out", login.user)))?;
            Ok(Verdict::Reached)
        }
    }
}

fn place(target: &Target) -> Result<&LoginFile, CliError> {
    match &target.choice {
        Choice::FirstOf { logins: Some(file), .. } => Ok(file),
        _ => Err(LoginFileError::NoPlace.into()),
    }
}

fn end(target: &Target) -> Result<(), CliError> {
    let client = Client::without_credential(target)?;
    match Credential::of_login(target, &client)? {
        Some(credential) => {
            client.with_credential(credential).post("/auth/logout", None, Some(PROMPT)).map(drop)
        }
        None => Ok(()),
    }
}

/// Whether it says that there is no session any more.
fn has_ended_before(error: &CliError) -> bool {
    match error {
        CliError::Refused(refusal) => refusal.status == 401,
        CliError::LoginFile(LoginFileError::Expired { .. }) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::client::tests::{ScriptedDaemon, answer};
    use super::super::login_file::tests::{login as saved_login, login_file};
    use super::super::secret::Token;
    use super::super::target::Place;
    use super::*;

    const ANSWER: &str = r#"{"token":"bkg_at_1","user":"ada","userId":"u1","role":"user","scopes":[],"sessionId":"s1",
        "expires_at":4000000000000,"refreshToken":"bkg_rt_1","refresh_expires_at":4100000000000,"mustChangePassword":true}"#;

    fn target_at(directory: &Path) -> Target {
        let logins = Some(login_file(directory));
        Target {
            place: Place::Directory(directory.to_owned()),
            choice: Choice::FirstOf { key: None, logins },
        }
    }

    fn request() -> LoginRequest {
        LoginRequest { user: Some("ada".into()), password_stdin: true }
    }

    #[test]
    fn a_login_is_saved_and_shows_no_token() {
        for json in [false, true] {
            let daemon = ScriptedDaemon::start(vec![answer("200 OK", ANSWER)]);
            let target = target_at(daemon.directory.path());
            let mut output = Output::captured(json);
            let verdict = login(&target, &request(), &mut Input::sent(["s3cret\n"]), &mut output).unwrap();
            assert_eq!(verdict, Verdict::Reached);
            let saved = place(&target).unwrap().saved(&target.place).unwrap().unwrap();
            assert_eq!((saved.token.expose(), saved.refresh_token.expose()), ("bkg_at_1", "bkg_rt_1"));
            assert_eq!(saved.expires_at.as_millisecond(), 4_000_000_000_000);
            assert_eq!(saved.refresh_expires_at.as_millisecond(), 4_100_000_000_000);
            let text = output.written();
            for secret in ["bkg_at_1", "bkg_rt_1", "s3cret"] {
                assert!(!text.contains(secret), "{text}");
            }
            assert!(text.contains("ada"), "{text}");
            let request = daemon.requests().remove(0);
            assert!(request.starts_with("POST /auth/login HTTP/1.1\r\n"), "{request}");
            assert!(request.ends_with(r#"{"username":"ada","password":"s3cret"}"#), "{request}");
            assert!(!request.contains("authorization"), "{request}");
        }
    }

    #[test]
    fn a_password_that_must_be_changed_is_said() {
        let daemon = ScriptedDaemon::start(vec![answer("200 OK", ANSWER)]);
        let mut output = Output::captured(false);
        let target = target_at(daemon.directory.path());
        let request = LoginRequest { user: None, password_stdin: false };
        login(&target, &request, &mut Input::typed(["ada\n", "s3cret\n"]), &mut output).unwrap();
        assert_eq!(
            output.written(),
            "ada is logged in, until 2099-12-03T16:53:20.000Z if unused\n\
             the password must be changed before anything else: `bkg user password ada`\n"
        );
        daemon.requests();
    }

    #[test]
    fn a_refused_login_saves_nothing() {
        let body = r#"{"error":{"message":"the name or the password is wrong","code":"unauthorized"}}"#;
        let daemon = ScriptedDaemon::start(vec![answer("401 Unauthorized", body)]);
        let target = target_at(daemon.directory.path());
        let error = login(&target, &request(), &mut Input::sent(["x\n"]), &mut Output::captured(false))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the name or the password is wrong; try again, or set another password: `bkg --root user password NAME`"
        );
        assert_eq!(place(&target).unwrap().saved(&target.place).unwrap(), None);
        daemon.requests();
    }

    #[test]
    fn a_key_that_comes_before_the_login_is_said() {
        let daemon = ScriptedDaemon::start(vec![answer("200 OK", ANSWER)]);
        let mut target = target_at(daemon.directory.path());
        let logins = Some(login_file(daemon.directory.path()));
        let key = Some(Token::try_from("bkg_sk_1".to_owned()).unwrap());
        target.choice = Choice::FirstOf { key, logins };
        let mut output = Output::captured(false);
        login(&target, &request(), &mut Input::sent(["x\n"]), &mut output).unwrap();
        assert!(output.remarked().starts_with("`BKG_API_KEY` is set"), "{}", output.remarked());
        daemon.requests();
    }

    #[test]
    fn a_logout_ends_the_session_and_forgets_it() {
        for refusal in [None, Some(r#"{"error":{"message":"not valid","code":"unauthorized"}}"#)] {
            let daemon = ScriptedDaemon::start(vec![match refusal {
                None => answer("200 OK", "{}"),
                Some(body) => answer("401 Unauthorized", body),
            }]);
            let target = target_at(daemon.directory.path());
            let file = place(&target).unwrap();
            file.save(&target.place, saved_login("token", 60, 60)).unwrap();
            let mut output = Output::captured(false);
            assert_eq!(logout(&target, &mut output).unwrap(), Verdict::Reached);
            assert_eq!(output.written(), "ada is logged out\n");
            assert_eq!(file.saved(&target.place).unwrap(), None);
            let request = daemon.requests().remove(0);
            assert!(request.starts_with("POST /auth/logout HTTP/1.1\r\n"), "{request}");
            assert!(request.contains("authorization: Bearer token\r\n"), "{request}");
        }
    }

    #[test]
    fn a_logout_without_a_daemon_forgets_the_login_and_says_what_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let target = target_at(directory.path());
        let file = place(&target).unwrap();
        file.save(&target.place, saved_login("token", 60, 60)).unwrap();
        let error = logout(&target, &mut Output::captured(false)).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("the saved login of `ada` is removed, but its session may live until 2"),
            "{text}"
        );
        assert!(text.contains("no daemon runs on `"), "{text}");
        assert_eq!(error.exit_code(), 1);
        assert_eq!(file.saved(&target.place).unwrap(), None);
    }

    #[test]
    fn a_logout_of_nobody_is_done_already() {
        let directory = tempfile::tempdir().unwrap();
        let mut output = Output::captured(false);
        assert_eq!(logout(&target_at(directory.path()), &mut output).unwrap(), Verdict::Reached);
        assert!(output.written().starts_with("no login is saved for "), "{}", output.written());
    }
}
