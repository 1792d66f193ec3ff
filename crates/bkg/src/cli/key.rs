//! `bkg key`: make, list, revoke and rotate keys, each one request to the daemon.
//!
//! Not who may do it: the daemon decides. The invariant: a secret is shown where one was just made, on
//! a line of its own, and nowhere else.

use bkg_protocol::{RawJson, Scope};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Verdict;
use super::access_arguments::{KeyCommand, NewKey};
use super::client::{Client, PROMPT};
use super::error::CliError;
use super::limit_arguments::together;
use super::output::{Output, harmless};
use super::route;
use super::table::Table;
use super::target::Target;
use super::time::{ago, moment};

/// Where keys are.
const KEYS: &str = "/admin/keys";

/// Carries out a command about keys.
pub(super) fn run(target: &Target, command: &KeyCommand, output: &mut Output) -> Result<Verdict, CliError> {
    let client = Client::find(target)?;
    match command {
        KeyCommand::Create(key) => {
            let answer = client.post(KEYS, Some(&RawJson::of(&Creation::of(key))), Some(PROMPT))?;
            answer.show(output, |made: Made| with_secret(&made, "is made"))
        }
        KeyCommand::List(of) => {
            let answer = client.get(&route::of_user(KEYS, of.user.as_deref()))?;
            answer.show(output, |page: Page| list(&page.keys, Timestamp::now()))
        }
        KeyCommand::Revoke { id } => {
            let answer = client.delete(&route::item(KEYS, id))?;
            answer.show(output, |key: Key| format!("{} is revoked", title(&key)))
        }
        KeyCommand::Rotate { id, grace_seconds } => {
            let path = format!("{}/rotate", route::item(KEYS, id));
            let body = RawJson::of(&json!({ "graceSeconds": grace_seconds }));
            let answer = client.post(&path, Some(&body), Some(PROMPT))?;
            let happened = match grace_seconds {
                0 => "has a new secret, the old one is dead".to_owned(),
                seconds => format!("has a new secret, the old one works for {seconds} s more"),
            };
            answer.show(output, |made: Made| with_secret(&made, &happened))
        }
    }
}

/// What `POST /admin/keys` takes. What is not said is left to the provider.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Creation<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    scopes: &'a [Scope],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    models: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    plugins: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_bodies: Option<bool>,
    #[serde(flatten)]
    end: Option<End>,
}

/// When a key ends that does not end after the provider's own time.
#[derive(Serialize)]
enum End {
    #[serde(rename = "expiresInDays")]
    After(u32),
    /// Written as `"expiresAt": null`.
    #[serde(rename = "expiresAt")]
    Never(()),
}

impl<'a> Creation<'a> {
    fn of(key: &'a NewKey) -> Self {
        let NewKey { requests_per_minute, tokens_per_day, expires_in_days, no_expiry, .. } = *key;
        let mut limits = together(&key.limits);
        for (name, limit) in [("requestsPerMinute", requests_per_minute), ("tokensPerDay", tokens_per_day)]
        {
            if let Some(limit) = limit {
                limits.insert(name.to_owned(), json!(limit));
            }
        }
        Self {
            name: key.name.as_deref(),
            user: key.user.as_deref(),
            scopes: &key.scopes,
            models: &key.models,
            plugins: &key.plugins,
            limits: (!limits.is_empty()).then_some(limits),
            log_bodies: key.log_bodies.then_some(true),
            end: expires_in_days.map(End::After).or(no_expiry.then_some(End::Never(()))),
        }
    }
}

/// A key as the daemon tells it: what is shown of it. Only the id must be there.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Key {
    id: String,
    name: Option<String>,
    user: Option<String>,
    #[serde(default)]
    scopes: Vec<String>,
    models: Option<Vec<String>>,
    plugins: Option<Vec<String>>,
    expires_at: Option<Timestamp>,
    last_used_at: Option<Timestamp>,
    status: Option<String>,
}

/// A key with its new secret, which is called `key` like the whole.
#[derive(Deserialize)]
struct Made {
    #[serde(rename = "key")]
    secret: String,
    #[serde(flatten)]
    key: Key,
}

#[derive(Deserialize)]
struct Page {
    keys: Vec<Key>,
}

fn title(key: &Key) -> String {
    let name = key.name.as_deref().filter(|name| !name.is_empty());
    let name = name.map(|name| format!(" ({name})")).unwrap_or_default();
    let user = key.user.as_deref().map(|user| format!(" of {user}")).unwrap_or_default();
    harmless(&format!("key {}{name}{user}", key.id))
}

fn with_secret(made: &Made, happened: &str) -> String {
    let Made { secret, key } = made;
    let end =
        key.expires_at.map_or("does not end by itself".to_owned(), |at| format!("ends {}", moment(at)));
    let mut text = format!("{} {happened}; it {end}\n", title(key));
    let facts =
        [("scopes", Some(&key.scopes)), ("models", key.models.as_ref()), ("plugins", key.plugins.as_ref())];
    for (heading, values) in facts {
        if let Some(values) = values.filter(|values| !values.is_empty()) {
            text.push_str(&format!("  {heading:9}{}\n", harmless(&values.join(", "))));
        }
    }
    format!("{text}\nthe secret is shown this once, keep it now:\n{}\n", harmless(secret))
}

fn list(keys: &[Key], now: Timestamp) -> String {
    if keys.is_empty() {
        return "no keys: `bkg key create` makes one".to_owned();
    }
    let mut table = Table::new(["ID", "NAME", "USER", "STATUS", "EXPIRES", "LAST USED", "SCOPES"]);
    for key in keys {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        table.row([
            key.id.clone(),
            text(&key.name),
            text(&key.user),
            text(&key.status),
            key.expires_at.map_or("never".to_owned(), moment),
            key.last_used_at.map_or("never".to_owned(), |at| ago(at, now)),
            key.scopes.join(", "),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::super::access_arguments::OfUser;
    use super::super::client::tests::{ScriptedDaemon, answer};
    use super::*;

    const KEY: &str = r#"{"id":"k1","name":"ci","user":"ada","userId":"u","scopes":["llm.chat","llm.embed"],
        "models":["llama-*"],"plugins":null,"limits":{},"createdAt":"2026-01-02T03:04:05Z",
        "createdBy":"root","expiresAt":"2026-04-02T03:04:05Z","lastUsedAt":null,"revokedAt":null,"status":"active"}"#;

    fn with_new_secret() -> String {
        KEY.replacen('{', r#"{"key":"bkg_sk_k1_s3cret","token":"bkg_sk_k1_s3cret","#, 1)
    }

    fn run_against(status: &str, body: &str, command: KeyCommand, json: bool) -> (String, String) {
        let daemon = ScriptedDaemon::start(vec![answer(status, body)]);
        let mut output = Output::captured(json);
        assert_eq!(run(&daemon.target(), &command, &mut output).unwrap(), Verdict::Reached);
        (output.written(), daemon.requests().remove(0))
    }

    fn new_key() -> NewKey {
        NewKey {
            user: Some("ada".into()),
            scopes: vec!["llm.chat".parse().unwrap(), "llm.embed".parse().unwrap()],
            name: None,
            models: Vec::new(),
            plugins: Vec::new(),
            expires_in_days: None,
            no_expiry: false,
            requests_per_minute: None,
            tokens_per_day: None,
            limits: Vec::new(),
            log_bodies: false,
        }
    }

    #[test]
    fn a_new_key_shows_its_secret_on_a_line_of_its_own() {
        let (text, request) =
            run_against("201 Created", &with_new_secret(), KeyCommand::Create(new_key()), false);
        assert_eq!(
            text,
            "\
key k1 (ci) of ada is made; it ends 2026-04-02T03:04:05.000Z
  scopes   llm.chat, llm.embed
  models   llama-*

the secret is shown this once, keep it now:
bkg_sk_k1_s3cret
"
        );
        assert!(request.starts_with("POST /admin/keys HTTP/1.1\r\n"), "{request}");
        let body = r#"{"user":"ada","scopes":["llm.chat","llm.embed"]}"#;
        assert!(request.ends_with(&format!("\r\n\r\n{body}")), "{request}");
    }

    #[test]
    fn what_is_said_about_a_key_reaches_the_provider() {
        let whole = NewKey {
            name: Some("ci".into()),
            models: vec!["llama-*".into()],
            plugins: vec!["llmserver".into()],
            expires_in_days: Some(7),
            requests_per_minute: Some(60),
            ..new_key()
        };
        assert_eq!(
            RawJson::of(&Creation::of(&whole)).as_str(),
            r#"{"name":"ci","user":"ada","scopes":["llm.chat","llm.embed"],"models":["llama-*"],"plugins":["llmserver"],"limits":{"requestsPerMinute":60},"expiresInDays":7}"#
        );
        let endless = NewKey { user: None, no_expiry: true, ..new_key() };
        assert_eq!(
            RawJson::of(&Creation::of(&endless)).as_str(),
            r#"{"scopes":["llm.chat","llm.embed"],"expiresAt":null}"#
        );
    }

    #[test]
    fn json_is_the_daemons_own() {
        let (text, _) = run_against("201 Created", &with_new_secret(), KeyCommand::Create(new_key()), true);
        assert_eq!(text, format!("{}\n", with_new_secret()));
    }

    #[test]
    fn a_list_has_one_line_per_key() {
        let body = format!(r#"{{"keys":[{KEY},{{"id":"k2"}}]}}"#);
        let command = KeyCommand::List(OfUser { user: Some("ada b".into()) });
        let (text, request) = run_against("200 OK", &body, command, false);
        assert_eq!(
            text,
            "\
ID  NAME  USER  STATUS  EXPIRES                   LAST USED  SCOPES
k1  ci    ada   active  2026-04-02T03:04:05.000Z  never      llm.chat, llm.embed
k2  -     -     -       never                     never      -
"
        );
        assert!(request.starts_with("GET /admin/keys?user=ada%20b HTTP/1.1\r\n"), "{request}");
    }

    #[test]
    fn revoking_and_rotating_name_the_key() {
        let (text, request) = run_against("200 OK", KEY, KeyCommand::Revoke { id: "k1".into() }, false);
        assert_eq!(text, "key k1 (ci) of ada is revoked\n");
        assert!(request.starts_with("DELETE /admin/keys/k1 HTTP/1.1\r\n"), "{request}");
        for (grace_seconds, start) in [
            (0, "key k1 (ci) of ada has a new secret, the old one is dead; it ends "),
            (60, "key k1 (ci) of ada has a new secret, the old one works for 60 s more; it ends "),
        ] {
            let command = KeyCommand::Rotate { id: "k1".into(), grace_seconds };
            let (text, request) = run_against("200 OK", &with_new_secret(), command, false);
            assert!(text.starts_with(start) && text.ends_with("\nbkg_sk_k1_s3cret\n"), "{text}");
            assert!(request.starts_with("POST /admin/keys/k1/rotate HTTP/1.1\r\n"), "{request}");
            assert!(request.ends_with(&format!(r#"{{"graceSeconds":{grace_seconds}}}"#)), "{request}");
        }
    }

    #[test]
    fn a_key_cannot_steer_the_terminal() {
        let hostile =
            r#"{"id":"\u001b[2J","name":"\u001b","user":"\u001b","scopes":["\u001b"],"key":"\u001b"}"#;
        let made: Made = serde_json::from_str(hostile).unwrap();
        for text in [with_secret(&made, "is made"), list(&[made.key], Timestamp::UNIX_EPOCH)] {
            assert!(!text.contains('\u{1b}'), "{text:?}");
        }
    }
}
