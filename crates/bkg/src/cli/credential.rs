//! With what a command proves who it is: the first credential that is there.
//!
//! `target` says where to look, the daemon whether it is good. The invariant: what is there is used;
//! a credential that is refused never makes room for a mightier one.

use std::path::PathBuf;

use bkg_protocol::RawJson;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::advice;
use super::client::{Client, PROMPT};
use super::error::CliError;
use super::login_file::Login;
use super::secret::Token;
use super::target::{Choice, Place, Target};
use crate::store::RootKey;

/// Something to send along, and where it was found.
#[derive(Debug)]
pub(super) struct Credential {
    /// What is sent.
    pub(super) token: Token,
    /// Where it was found.
    pub(super) origin: Origin,
}

/// Where a credential was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// In the variable `BKG_API_KEY`.
    Environment,
    /// In the file of saved logins.
    Login { user: String, file: PathBuf },
    /// In the data directory.
    RootKey { file: PathBuf },
}

/// What the daemon answers to a login and to its renewal. Only here are times milliseconds.
#[derive(Deserialize)]
pub(super) struct LoginAnswer {
    user: String,
    token: Token,
    expires_at: i64,
    #[serde(rename = "refreshToken")]
    refresh_token: Token,
    refresh_expires_at: i64,
    #[serde(rename = "mustChangePassword", default)]
    pub(super) must_change_password: bool,
}

impl LoginAnswer {
    /// What of it is kept. A moment that no calendar has is past, so that the daemon is asked again.
    pub(super) fn into_login(self) -> Login {
        let moment = |milliseconds| Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MIN);
        Login {
            user: self.user,
            token: self.token,
            expires_at: moment(self.expires_at),
            refresh_token: self.refresh_token,
            refresh_expires_at: moment(self.refresh_expires_at),
        }
    }
}

impl Credential {
    /// The first that is there. A login whose token has expired is renewed with `client`, which needs
    /// no credential for that.
    ///
    /// # Errors
    /// None is there, or the first one cannot be read or renewed.
    pub(super) fn find(target: &Target, client: &Client) -> Result<Self, CliError> {
        if let Choice::FirstOf { key: Some(token), .. } = &target.choice {
            return Ok(Self { token: token.clone(), origin: Origin::Environment });
        }
        match Self::of_login(target, client)? {
            Some(login) => Ok(login),
            None => Self::of_root(target),
        }
    }

    /// The saved login, if there is one.
    ///
    /// # Errors
    /// It cannot be read or renewed.
    pub(super) fn of_login(target: &Target, client: &Client) -> Result<Option<Self>, CliError> {
        let Choice::FirstOf { logins: Some(file), .. } = &target.choice else { return Ok(None) };
        let login = file.current(&target.place, |login| renewed(login, client))?;
        Ok(login.map(|login| Self {
            token: login.token,
            origin: Origin::Login { user: login.user, file: file.path().to_owned() },
        }))
    }

    fn of_root(target: &Target) -> Result<Self, CliError> {
        let data_dir = match &target.place {
            Place::Directory(data_dir) => data_dir,
            Place::Elsewhere(remote) => {
                return Err(CliError::NoCredential { address: remote.address.clone() });
            }
        };
        let file = data_dir.join("root.key");
        let Some(key) = RootKey::read(data_dir)? else {
            return Err(CliError::NoRootKey { path: file });
        };
        let token = Token::try_from(key.expose().to_owned()).expect("a root key fits a header");
        Ok(Self { token, origin: Origin::RootKey { file } })
    }
}

fn renewed(login: &Login, client: &Client) -> Result<Login, CliError> {
    let body = RawJson::of(&json!({ "refreshToken": login.refresh_token.expose() }));
    let answer = client.post("/auth/refresh", Some(&body), Some(PROMPT)).map_err(|error| match error {
        CliError::Refused(refusal) if refusal.is_about_the_credential() => {
            CliError::Refused(refusal.advised(&advice::saved_login_refused(&login.user)))
        }
        other => other,
    })?;
    Ok(answer.read::<LoginAnswer>()?.into_login())
}

#[cfg(test)]
mod tests {
    use super::super::client::tests::{ScriptedDaemon, answer};
    use super::super::login_file::tests::{login, login_file};
    use super::*;

    fn bearer(request: &str) -> &str {
        let line = request.lines().find_map(|line| line.strip_prefix("authorization: Bearer "));
        line.unwrap_or_else(|| panic!("a credential was sent: {request}"))
    }

    fn target(daemon: &ScriptedDaemon, key: Option<&str>, saved: Option<Login>) -> Target {
        let data_dir = daemon.directory.path().to_owned();
        let logins = login_file(&data_dir);
        if let Some(saved) = saved {
            logins.save(&Place::Directory(data_dir.clone()), saved).unwrap();
        }
        let key = key.map(|key| Token::try_from(key.to_owned()).unwrap());
        Target { place: Place::Directory(data_dir), choice: Choice::FirstOf { key, logins: Some(logins) } }
    }

    fn renewal(token: &str) -> String {
        let body = format!(
            r#"{{"token":"{token}","user":"ada","userId":"u","role":"user","scopes":[],"sessionId":"s",
            "expires_at":4000000000000,"refreshToken":"next","refresh_expires_at":4000000000000,"mustChangePassword":false}}"#
        );
        answer("200 OK", &body)
    }

    #[test]
    fn the_first_credential_that_is_there_is_sent() {
        let root = format!("bkg_root_{}", "A".repeat(43));
        for (key, saved, expected) in [
            (Some("bkg_sk_1"), Some(login("token", 60, 60)), "bkg_sk_1"),
            (None, Some(login("token", 60, 60)), "token"),
            (None, None, root.as_str()),
        ] {
            let daemon = ScriptedDaemon::start(vec![answer("200 OK", "{}")]);
            Client::find(&target(&daemon, key, saved)).unwrap().get("/x").unwrap();
            assert_eq!(bearer(&daemon.requests()[0]), expected);
        }
    }

    #[test]
    fn root_is_used_whatever_else_is_there_if_asked_for() {
        let daemon = ScriptedDaemon::start(vec![answer("200 OK", "{}")]);
        let target = target(&daemon, Some("bkg_sk_1"), Some(login("token", 60, 60)));
        Client::find(&target.as_root().unwrap()).unwrap().get("/x").unwrap();
        assert!(bearer(&daemon.requests()[0]).starts_with("bkg_root_"));
    }

    #[test]
    fn another_credential_works_without_the_root_key() {
        let daemon = ScriptedDaemon::start(vec![answer("200 OK", "{}")]);
        let target = target(&daemon, Some("bkg_sk_1"), None);
        std::fs::remove_file(daemon.directory.path().join("root.key")).unwrap();
        let error = Client::find(&target.as_root().unwrap()).err().unwrap();
        assert!(matches!(error, CliError::NoRootKey { .. }), "{error:?}");
        Client::find(&target).unwrap().get("/x").unwrap();
        daemon.requests();
    }

    #[test]
    fn an_expired_login_is_renewed_and_saved_before_its_token_is_used() {
        let daemon = ScriptedDaemon::start(vec![renewal("new"), answer("500 Internal Server Error", "{}")]);
        let target = target(&daemon, None, Some(login("old", -1, 60)));
        let client = Client::find(&target).unwrap();
        let Choice::FirstOf { logins: Some(file), .. } = &target.choice else {
            panic!("logins have a place")
        };
        let saved = file.saved(&target.place).unwrap().unwrap();
        assert_eq!((saved.token.expose(), saved.refresh_token.expose()), ("new", "next"));
        client.get("/x").unwrap_err();
        let requests = daemon.requests();
        assert!(requests[0].starts_with("POST /auth/refresh HTTP/1.1\r\n"), "{}", requests[0]);
        assert!(requests[0].ends_with(r#"{"refreshToken":"old-refresh"}"#), "{}", requests[0]);
        assert!(!requests[0].contains("authorization"), "{}", requests[0]);
        assert_eq!(bearer(&requests[1]), "new");
    }

    #[test]
    fn two_commands_at_once_spend_the_refresh_token_once() {
        let daemon =
            ScriptedDaemon::start(vec![renewal("new"), answer("200 OK", "{}"), answer("200 OK", "{}")]);
        let target = target(&daemon, None, Some(login("old", -1, 60)));
        // Both find the daemon before one of them asks it for the last time.
        let both = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let client = Client::find(&target).unwrap();
                    both.wait();
                    client.get("/x").unwrap();
                });
            }
        });
        let requests = daemon.requests();
        let refreshes = requests.iter().filter(|request| request.starts_with("POST /auth/refresh")).count();
        assert_eq!(refreshes, 1, "{requests:?}");
        assert_eq!((bearer(&requests[1]), bearer(&requests[2])), ("new", "new"));
    }

    #[test]
    fn a_login_that_is_not_renewed_says_so_and_root_is_not_tried() {
        let body = r#"{"error":{"message":"the token was used before","code":"reused"}}"#;
        let daemon = ScriptedDaemon::start(vec![answer("401 Unauthorized", body)]);
        let error = Client::find(&target(&daemon, None, Some(login("old", -1, 60)))).err().unwrap();
        assert_eq!(
            error.to_string(),
            "the token was used before; the saved login of `ada` is refused: `bkg login` makes a new one, \
             `bkg logout` removes it"
        );
        assert_eq!(daemon.requests().len(), 1);
    }

    #[test]
    fn a_daemon_that_is_busy_does_not_make_a_login_look_bad() {
        let body = r#"{"error":{"message":"too many requests","code":"rate_limited"}}"#;
        let daemon = ScriptedDaemon::start(vec![answer("429 Too Many Requests", body)]);
        let error = Client::find(&target(&daemon, None, Some(login("old", -1, 60)))).err().unwrap();
        assert!(!error.to_string().contains("saved login"), "{error}");
        daemon.requests();
    }
}
