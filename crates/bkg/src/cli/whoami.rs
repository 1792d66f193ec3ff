//! `bkg whoami`: whom the daemon takes the caller for, and with which credential.
//!
//! Not what a caller may do: the daemon says its scopes. The invariant: the credential that is named is
//! the one that every other command would use; its text is never shown.

use std::fmt::Write;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Verdict;
use super::client::Client;
use super::credential::Origin;
use super::error::CliError;
use super::output::{Output, harmless};
use super::target::{KEY_VARIABLE, Target};
use super::time::moment;

/// The answer of `GET /auth/me`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Caller {
    kind: String,
    user: String,
    user_id: Option<String>,
    role: Option<String>,
    display_name: Option<String>,
    #[serde(default)]
    scopes: Vec<String>,
    key_id: Option<String>,
    expires_at: Option<Timestamp>,
    #[serde(default)]
    must_change_password: bool,
}

impl Caller {
    /// Whether this is a login session of the user with this name or id.
    pub(super) fn is_logged_in_as(&self, user: &str) -> bool {
        self.kind == "session" && (self.user == user || self.user_id.as_deref() == Some(user))
    }
}

/// Shows who the caller is.
pub(super) fn print(target: &Target, output: &mut Output) -> Result<Verdict, CliError> {
    let client = Client::find(target)?;
    let origin = client.origin().expect("a client that was found has a credential");
    let answer = client.get("/auth/me")?;
    let caller: Caller = answer.read()?;
    if output.wants_json() {
        // Put together as text: what the daemon said passes through as it was said.
        let members = answer.body.trim_end().strip_suffix('}').expect("an object ends with its brace");
        output.json(&format!("{members},\"credential\":{}}}", as_json(origin)))?;
    } else {
        output.text(&tell(&caller, origin))?;
    }
    Ok(Verdict::Reached)
}

fn as_json(origin: &Origin) -> Value {
    match origin {
        Origin::Environment => json!({ "from": "environment", "variable": KEY_VARIABLE }),
        Origin::Login { file, .. } => json!({ "from": "login", "file": file }),
        Origin::RootKey { file } => json!({ "from": "rootKey", "file": file }),
    }
}

fn tell(caller: &Caller, origin: &Origin) -> String {
    let how = match (caller.kind.as_str(), &caller.key_id) {
        ("root", _) => "the host's own credential".to_owned(),
        ("key", Some(id)) => format!("with the key {id}"),
        ("session", _) => "logged in".to_owned(),
        (other, _) => other.to_owned(),
    };
    let credential = match origin {
        Origin::Environment => format!("the variable {KEY_VARIABLE}"),
        Origin::Login { file, .. } => format!("the login saved in {}", file.display()),
        Origin::RootKey { file } => format!("the root key in {}", file.display()),
    };
    let change = caller.must_change_password;
    let facts = [
        ("credential", Some(credential)),
        ("display name", caller.display_name.clone()),
        ("role", caller.role.clone()),
        ("scopes", Some(caller.scopes.join(", "))),
        ("expires", caller.expires_at.map(moment)),
        ("next", change.then(|| format!("change the password: `bkg user password {}`", caller.user))),
    ];
    let mut text = harmless(&format!("{}, {how}", caller.user));
    text.push('\n');
    for (heading, value) in facts {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            writeln!(text, "  {heading:14}{}", harmless(&value)).expect("a string takes all text");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::client::tests::{ScriptedDaemon, answer};
    use super::*;

    fn caller(object: Value) -> Caller {
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_login_is_told_with_its_file_and_its_next_step() {
        let caller = caller(json!({
            "kind": "session", "user": "ada", "userId": "u1", "role": "operator", "displayName": null, "scopes": [],
            "sessionId": "s1", "expiresAt": "2026-01-02T03:04:05Z", "mustChangePassword": true,
        }));
        let origin = Origin::Login { user: "ada".into(), file: "/home/ada/.config/bkg/login.json".into() };
        assert_eq!(
            tell(&caller, &origin),
            "\
ada, logged in
  credential    the login saved in /home/ada/.config/bkg/login.json
  role          operator
  expires       2026-01-02T03:04:05.000Z
  next          change the password: `bkg user password ada`
"
        );
        assert!(caller.is_logged_in_as("ada") && caller.is_logged_in_as("u1"));
        assert!(!caller.is_logged_in_as("eve"));
    }

    #[test]
    fn a_key_is_told_with_its_id() {
        let caller =
            caller(json!({"kind": "key", "user": "ada\u{1b}", "keyId": "k1", "scopes": ["llm.chat"]}));
        assert_eq!(
            tell(&caller, &Origin::Environment),
            "\
ada\\u{1b}, with the key k1
  credential    the variable BKG_API_KEY
  scopes        llm.chat
"
        );
        assert!(!caller.is_logged_in_as("ada\u{1b}"));
    }

    #[test]
    fn json_is_what_the_daemon_said_and_the_origin() {
        let said = r#"{"kind":"root","user":"root","scopes":["admin"],"n":1.50}"#;
        let daemon = ScriptedDaemon::start(vec![answer("200 OK", said)]);
        let mut output = Output::captured(true);
        print(&daemon.target(), &mut output).unwrap();
        let text = output.written();
        let file = daemon.directory.path().join("root.key");
        let credential = json!({ "from": "rootKey", "file": file });
        let members = said.strip_suffix('}').unwrap();
        assert_eq!(text, format!("{members},\"credential\":{credential}}}\n"));
        daemon.requests();
    }
}
