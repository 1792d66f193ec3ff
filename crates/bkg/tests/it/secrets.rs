//! No secret is anywhere but where it must be: planted ones are looked for in everything that a daemon
//! writes, answers or hands on.
//!
//! In any encoding that a careless line of code might choose. Files that exist to hold a secret are
//! left out: `root.key` and `initial-password`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use http::Method;
use serde_json::json;

use crate::daemon::{Daemon, Place};
use crate::host::Reply;
use crate::visitor::{Visitor, complete};

/// Secrets by what they are, and all that was answered.
struct Trail {
    secrets: BTreeMap<&'static str, String>,
    answers: Vec<String>,
}

impl Trail {
    fn keep(&mut self, reply: &Reply) {
        self.answers.push(format!("{:?} {}", reply.headers, reply.text));
    }

    /// Keeps an answer that shows secrets, and which: nowhere else may they be.
    fn keep_shown(&mut self, reply: &Reply, shown: &[(&'static str, &str)]) {
        assert!(reply.status.is_success(), "{}", reply.text);
        let mut answer = format!("{:?} {}", reply.headers, reply.text);
        for (what, member) in shown {
            let secret = reply.json()[*member].as_str().unwrap().to_owned();
            answer = answer.replace(&secret, "***");
            self.secrets.insert(what, secret);
        }
        self.answers.push(answer);
    }

    /// What of the secrets is in `bytes`.
    fn found_in(&self, bytes: &[u8]) -> Vec<&'static str> {
        let is_in = |secret: &String| forms(secret).iter().any(|form| contains(bytes, form));
        self.secrets.iter().filter(|(_, secret)| is_in(secret)).map(|(what, _)| *what).collect()
    }

    fn check(&self, place: &Place) {
        let mut is_key_there = false;
        for path in files(&place.data_dir()) {
            // The id of a key is no secret: where it is, its secret might be.
            is_key_there |= contains(&fs::read(&path).unwrap(), id_of(&self.secrets["a key"]).as_bytes());
            let name = path.file_name().unwrap().to_str().unwrap();
            if !["root.key", "initial-password"].contains(&name) {
                let found = self.found_in(&fs::read(&path).unwrap());
                assert!(found.is_empty(), "{found:?} in `{}`", path.display());
            }
        }
        assert!(is_key_there, "the databases are among the files");
        let log = place.log();
        assert!(log.contains("DEBUG"), "the log is as talkative as it can be");
        assert_eq!(self.found_in(log.as_bytes()), [""; 0], "in the daemon's log");
        let export = place.run(&["audit", "export"]);
        assert!(export.status.success() && export.stdout.len() > 1_000);
        assert_eq!(self.found_in(&export.stdout), [""; 0], "in the audit log");
        for answer in &self.answers {
            assert_eq!(self.found_in(answer.as_bytes()), [""; 0], "in {answer}");
        }
    }
}

/// The forms in which a secret may leak: as it is, in hexadecimal, in base64 wherever it begins in what
/// was encoded, and as a list of bytes.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    // What stands behind the prefix and the id of a token is the secret of it.
    let secret = secret.rsplit('_').next().unwrap();
    let bytes = secret.as_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = format!("{bytes:?}");
    let list = list.trim_matches(['[', ']']).to_owned();
    let mut forms = vec![secret.to_owned(), hex.to_uppercase(), hex, list.replace(' ', ""), list];
    for before in 0..3 {
        let text = [&vec![0; before], bytes].concat();
        // The letters that depend on nothing but the secret.
        let (first, last) = ([0, 2, 3][before], text.len() * 8 / 6);
        forms.push(STANDARD_NO_PAD.encode(&text)[first..last].to_owned());
        forms.push(URL_SAFE_NO_PAD.encode(&text)[first..last].to_owned());
    }
    forms.into_iter().map(String::into_bytes).collect()
}

/// The id in a key: `bkg_sk_<id>_<secret>`.
fn id_of(key: &str) -> &str {
    key.split('_').nth(2).unwrap()
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// Does with secrets all that can be done with them, and much that cannot.
async fn use_secrets(daemon: &Daemon, trail: &mut Trail) {
    let (visitor, root) = (Visitor::at(daemon.port()), daemon.root());
    let planted = |trail: &Trail, what: &str| trail.secrets[what].clone();
    let first = planted(trail, "ADMIN_PASSWORD");
    let login = visitor.try_login("admin", &first).await;
    trail.keep_shown(&login, &[("a login token", "token"), ("a refresh token", "refreshToken")]);
    let admin = visitor.with(login.json()["token"].as_str().unwrap());
    let refresh = json!({ "refreshToken": login.json()["refreshToken"] });
    let refreshed = visitor.post("/auth/refresh", refresh.clone()).await;
    trail.keep_shown(
        &refreshed,
        &[("a second login token", "token"), ("a second refresh token", "refreshToken")],
    );
    trail.keep(&visitor.post("/auth/refresh", refresh).await);
    trail.keep(&admin.get("/auth/me").await);

    let login = visitor.try_login("admin", &first).await;
    trail
        .keep_shown(&login, &[("a third login token", "token"), ("a third refresh token", "refreshToken")]);
    let admin = visitor.with(login.json()["token"].as_str().unwrap());
    let changed = json!({ "oldPassword": first, "newPassword": planted(trail, "a new password") });
    trail.keep(&admin.post("/auth/password", changed.clone()).await);
    trail.keep(&admin.post("/auth/password", changed).await);
    let ada = json!({ "name": "ada", "role": "user", "password": planted(trail, "a user's password") });
    trail.keep(&admin.post("/admin/users", ada.clone()).await);
    trail.keep(&admin.post("/admin/users", ada).await);
    let made = admin.post("/admin/users", json!({ "name": "bob", "role": "user" })).await;
    trail.keep_shown(&made, &[("a generated password", "password")]);
    let reset = root.post("/admin/users/bob/reset", json!({})).await;
    trail.keep_shown(&reset, &[("a second generated password", "password")]);

    let made = admin.post("/admin/keys", json!({ "scopes": ["llm.chat", "key:own"] })).await;
    trail.keep_shown(&made, &[("a key", "key")]);
    let key = visitor.with(made.json()["key"].as_str().unwrap());
    trail.keep(&key.get("/v1/models").await);
    trail.keep(&key.get("/admin/users").await);
    trail.keep(&key.get("/admin/keys").await);
    let path = format!("/admin/keys/{}", made.json()["id"].as_str().unwrap());
    let rotated = admin.post(&format!("{path}/rotate"), json!({ "graceSeconds": 60 })).await;
    trail.keep_shown(&rotated, &[("a rotated key", "key")]);
    trail.keep(&admin.delete(&path).await);
    trail.keep(&key.get("/v1/models").await);

    // In the wrong place, or in a form that nobody expects.
    let wrong = planted(trail, "a wrong password");
    for body in [
        json!({ "username": "admin", "password": wrong }),
        json!({ "username": "admin", "password": [wrong] }),
        json!({ "username": "admin", "password": { "text": wrong } }),
        json!({ "username": "admin", "passwort": wrong }),
        json!({ "username": "admin", "password": wrong.repeat(10) }),
        json!([wrong]),
        json!(wrong),
    ] {
        trail.keep(&visitor.post("/auth/login", body).await);
    }
    for body in [
        json!({ "newPassword": [wrong] }),
        json!({ "password": wrong }),
        json!({ "newPassword": wrong.repeat(5) }),
    ] {
        trail.keep(&admin.post("/admin/users/ada/password", body).await);
    }
    let half = format!("{{\"username\":\"admin\",\"password\":\"{wrong}");
    let request = visitor.request(Method::POST, "/auth/login").header("content-type", "application/json");
    let response = visitor.open(request.body(half.into()).unwrap()).await.unwrap();
    trail.keep(&Reply::read(response).await.unwrap());
    for credential in [wrong.clone(), format!("bkg_sk_{wrong}"), format!("bkg_root_{wrong}")] {
        trail.keep(&visitor.with(&credential).get("/admin/users").await);
    }
    let request =
        visitor.request(Method::GET, "/admin/users").header("cookie", format!("bkg_session={wrong}"));
    let response = visitor.open(complete(request, None)).await.unwrap();
    trail.keep(&Reply::read(response).await.unwrap());
    for path in [
        "/admin/users",
        "/admin/keys",
        "/admin/sessions",
        "/admin/audit",
        "/admin/requests",
        "/admin/plugins/apikeys/logs",
    ] {
        let reply = root.get(path).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        trail.keep(&reply);
    }
}

#[tokio::test]
async fn no_secret_is_where_it_need_not_be() {
    let planted = [
        ("ADMIN_PASSWORD", "canary-chosen-by-the-operator"),
        ("a new password", "canary-chosen-by-the-administrator"),
        ("a user's password", "canary-chosen-for-ada"),
        ("a wrong password", "canary-that-opens-nothing"),
    ];
    let secrets = planted.into_iter().map(|(what, secret)| (what, secret.to_owned())).collect();
    let mut trail = Trail { secrets, answers: Vec::new() };
    let mut place = Place::new();
    place.set("ADMIN_PASSWORD", &trail.secrets["ADMIN_PASSWORD"]);
    place.set("BKG_LOG", "trace");
    let mut daemon = place.start().await;
    use_secrets(&daemon, &mut trail).await;

    let shown = daemon.root().get("/admin/plugins/apikeys").await;
    let pid = shown.json()["instances"][0]["pid"].as_u64().unwrap();
    trail.keep(&shown);
    for file in ["environ", "cmdline"] {
        let content = fs::read(format!("/proc/{pid}/{file}")).unwrap();
        assert_eq!(trail.found_in(&content), [""; 0], "in the provider's {file}");
    }
    // While the databases are open, after a crash, and after an orderly stop.
    trail.check(&place);
    daemon.kill();
    trail.check(&place);
    place.start().await.stop().await;
    trail.check(&place);
}

#[test]
fn a_secret_is_found_in_every_form() {
    let secret = "canary-chosen-by-the-operator";
    let trail = Trail { secrets: [("it", format!("bkg_sk_id_{secret}"))].into(), answers: Vec::new() };
    for before in ["", "a", "ab", "abc"] {
        let text = format!("{before}{secret}{before}");
        let hex: String = text.bytes().map(|byte| format!("{byte:02X}")).collect();
        for form in [
            &text,
            &hex,
            &STANDARD_NO_PAD.encode(&text),
            &URL_SAFE_NO_PAD.encode(&text),
            &format!("{:?}", text.as_bytes()),
        ] {
            assert_eq!(trail.found_in(form.as_bytes()), ["it"], "{form}");
        }
    }
    assert_eq!(trail.found_in(b"canary-chosen-by-the-operato"), [""; 0]);
}
