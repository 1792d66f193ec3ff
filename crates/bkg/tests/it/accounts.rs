//! Who may do what with the provider that is shipped: keys, users, roles, logins of others, and what the
//! audit log says of all that.
//!
//! What holds for any provider is in `auth`, how people log in in `logins`.

use std::time::Duration;

use bkg::registry::State;
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::host::{TestHost, chat, keys};
use crate::logins::{PASSWORD, administrator, audit, guarded, root, stranger, user};
use crate::visitor::{Visitor, complete, refusal};

/// How long a stream may go on after its key was revoked.
const STREAMS_END_WITHIN: Duration = Duration::from_secs(5);

/// Whether somebody may show the models, and a chat with one of them.
async fn uses(visitor: &Visitor) -> (u16, u16) {
    let models = visitor.get("/v1/models").await;
    let answer = visitor.post("/v1/chat/completions", chat("test/frame", "hi")).await;
    (models.status.as_u16(), answer.status.as_u16())
}

#[tokio::test]
async fn the_secret_of_a_key_is_shown_once_and_opens_what_its_scopes_say() {
    let host = guarded().await;
    host.start_plugin("misbehave").await;
    let admin = administrator(&host).await;
    let made = admin.make_key(json!({ "name": "build server", "scopes": ["llm.chat"] })).await;
    assert_eq!(made["key"], made["token"]);
    let secret = made["key"].as_str().unwrap();
    assert!(secret.starts_with(&format!("bkg_sk_{}_", made["id"].as_str().unwrap())), "{made}");
    assert_eq!(made["status"], "active");
    let key = stranger(&host).with(secret);
    assert_eq!(uses(&key).await, (200, 200));
    for (path, due) in
        [("/admin/plugins", 403), ("/admin/keys", 403), ("/admin/users", 403), ("/auth/me", 200)]
    {
        assert_eq!(key.get(path).await.status, due, "{path}");
    }
    assert_eq!(key.post("/v1/embeddings", json!({ "model": "m", "input": "x" })).await.status, 403);

    let listed = admin.get("/admin/keys").await.json();
    let mut shown = made.clone();
    for secret in ["key", "token"] {
        shown.as_object_mut().unwrap().remove(secret);
    }
    let row = listed["keys"].as_array().unwrap().iter().find(|key| key["id"] == made["id"]).unwrap();
    assert!(keys(row).keys().eq(keys(&shown).keys()), "{row}");
    assert_eq!(
        (&row["name"], &row["user"], &row["scopes"]),
        (&json!("build server"), &json!("admin"), &json!(["llm.chat"]))
    );
    assert!(!listed.to_string().contains(&secret[secret.len() - 20..]), "a list shows no secret");
}

#[tokio::test]
async fn a_revoked_key_opens_nothing() {
    let host = guarded().await;
    let admin = administrator(&host).await;
    let made = admin.make_key(json!({ "scopes": ["admin"] })).await;
    let key = stranger(&host).with(made["key"].as_str().unwrap());
    assert_eq!(key.get("/admin/users").await.status, 200);
    let path = format!("/admin/keys/{}", made["id"].as_str().unwrap());
    let revoked = admin.delete(&path).await;
    assert_eq!((revoked.status.as_u16(), &revoked.json()["status"]), (200, &json!("revoked")));
    for path in ["/admin/users", "/v1/models", "/auth/me"] {
        assert_eq!(key.get(path).await.status, 401, "{path}");
    }
    assert_eq!(admin.delete("/admin/keys/0123456789abcdef").await.status, 404);
    // A key that is like one that exists is none.
    let other = admin.make_key(json!({ "scopes": ["admin"] })).await;
    let text = other["key"].as_str().unwrap();
    for wrong in
        [text.to_uppercase(), text[..text.len() - 1].to_owned(), text.replacen("bkg_sk_", "bkg_st_", 1)]
    {
        assert_eq!(stranger(&host).with(&wrong).get("/auth/me").await.status, 401, "{wrong}");
    }
}

#[tokio::test]
async fn a_rotated_key_has_a_new_secret_and_the_old_one_as_long_as_was_asked() {
    let host = guarded().await;
    let admin = administrator(&host).await;
    let made = admin.make_key(json!({ "scopes": ["llm.chat"] })).await;
    let id = made["id"].as_str().unwrap();
    let path = format!("/admin/keys/{id}/rotate");
    let opens = async |key: &Value| {
        stranger(&host).with(key["key"].as_str().unwrap()).get("/v1/models").await.status == 200
    };
    assert!(opens(&made).await);
    let second = admin.post(&path, json!({ "graceSeconds": 3_600 })).await.json();
    assert_eq!(second["id"], made["id"]);
    assert_ne!(second["key"], made["key"]);
    assert!(opens(&made).await && opens(&second).await, "both work within the time of grace");
    let third = admin.post(&path, json!({})).await.json();
    assert!(!opens(&made).await && !opens(&second).await, "without grace the others end at once");
    assert!(opens(&third).await);
    let refused = admin.post(&path, json!({ "graceSeconds": 86_401 })).await;
    assert_eq!(refusal(&refused), (400, "invalid_request".to_owned()));
    let revoked = admin.delete(&format!("/admin/keys/{id}")).await;
    assert_eq!(revoked.status, 200);
    assert!(!opens(&third).await);
}

#[tokio::test]
async fn a_user_makes_keys_only_for_itself_and_only_for_what_it_may() {
    let host = guarded().await;
    administrator(&host).await;
    let (ada, bob) = (user(&host, "ada", "user").await, user(&host, "bob", "user").await);
    let own = ada.make_key(json!({ "scopes": ["llm.chat"] })).await;
    assert_eq!((&own["user"], &own["createdBy"]), (&json!("ada"), &json!("ada")));
    for wanted in [
        json!({ "user": "bob", "scopes": ["llm.chat"] }),
        json!({ "user": "admin", "scopes": ["llm.chat"] }),
        json!({ "scopes": ["admin"] }),
        json!({ "scopes": ["llm.chat", "plugin:read"] }),
        json!({ "scopes": ["key:manage"] }),
        json!({ "scopes": ["test.echo"] }),
    ] {
        let refused = ada.post("/admin/keys", wanted.clone()).await;
        assert_eq!(refusal(&refused), (403, "forbidden".to_owned()), "{wanted}");
    }
    let theirs = bob.make_key(json!({ "scopes": ["llm.chat"] })).await;
    let listed = ada.get("/admin/keys").await.json();
    let owners: Vec<&Value> = listed["keys"].as_array().unwrap().iter().map(|key| &key["user"]).collect();
    assert_eq!(owners, ["ada"]);
    let path = format!("/admin/keys/{}", theirs["id"].as_str().unwrap());
    for refused in [
        ada.delete(&path).await,
        ada.post(&format!("{path}/rotate"), json!({})).await,
        ada.get("/admin/keys?user=bob").await,
    ] {
        assert!(matches!(refused.status.as_u16(), 403 | 404), "{}", refused.text);
    }
    assert_eq!(stranger(&host).with(theirs["key"].as_str().unwrap()).get("/v1/models").await.status, 200);
    assert_eq!(ada.delete(&format!("/admin/keys/{}", own["id"].as_str().unwrap())).await.status, 200);
}

#[tokio::test]
async fn a_key_that_a_key_made_is_bound_by_it() {
    let host = guarded().await;
    host.start_plugin("misbehave").await;
    let admin = administrator(&host).await;
    let maker = admin
        .key(json!({ "scopes": ["key:own", "llm.chat"], "models": ["test/f*"], "plugins": ["misbehave"], "expiresInDays": 2,
            "limits": { "requestsPerMinute": 100 } }))
        .await;
    let made = maker.make_key(json!({ "scopes": ["llm.chat"] })).await;
    let bound = |member: &str| made[member].clone();
    assert_eq!((bound("models"), bound("plugins")), (json!(["test/f*"]), json!(["misbehave"])));
    assert_eq!(made["limits"]["requestsPerMinute"], 100);
    let makers = admin.get("/admin/keys").await.json();
    let ends: Vec<&str> =
        makers["keys"].as_array().unwrap().iter().map(|key| key["expiresAt"].as_str().unwrap()).collect();
    assert_eq!(ends[0], ends[1], "it ends with its maker at the latest");
    let key = stranger(&host).with(made["key"].as_str().unwrap());
    assert_eq!(uses(&key).await, (200, 200));
    assert_eq!(key.post("/v1/chat/completions", chat("test/tools", "hi")).await.status, 404);
    for wanted in [
        json!({ "scopes": ["llm.embed"] }),
        json!({ "scopes": ["llm.chat"], "models": ["test/*"] }),
        json!({ "scopes": ["llm.chat"], "plugins": ["llmserver"] }),
        json!({ "scopes": ["llm.chat"], "expiresInDays": 3 }),
        json!({ "scopes": ["llm.chat"], "expiresAt": null }),
        json!({ "scopes": ["llm.chat"], "limits": { "requestsPerMinute": 101 } }),
    ] {
        let refused = maker.post("/admin/keys", wanted.clone()).await;
        assert_eq!(refusal(&refused), (403, "forbidden".to_owned()), "{wanted}");
    }
    assert_eq!(
        key.post("/admin/keys", json!({ "scopes": ["llm.chat"] })).await.status,
        403,
        "without `key:own`"
    );
}

#[tokio::test]
async fn whoever_is_demoted_or_disabled_has_weaker_keys_at_once() {
    let host = guarded().await;
    host.start_plugin("misbehave").await;
    let admin = administrator(&host).await;
    let ada = user(&host, "ada", "operator").await;
    let key = ada.key(json!({ "scopes": ["llm.chat", "plugin:read"] })).await;
    assert_eq!((uses(&key).await, key.get("/admin/plugins").await.status.as_u16()), ((200, 200), 200));
    let set = async |change: Value| {
        let reply = admin.patch("/admin/users/ada", change).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
    };
    set(json!({ "role": "user" })).await;
    assert_eq!((uses(&key).await, key.get("/admin/plugins").await.status.as_u16()), ((200, 200), 403));
    assert_eq!(ada.get("/admin/plugins").await.status, 403, "and so is the login");
    set(json!({ "role": "viewer" })).await;
    assert_eq!((uses(&key).await, key.get("/admin/plugins").await.status.as_u16()), ((200, 403), 200));
    set(json!({ "disabled": true })).await;
    assert_eq!(uses(&key).await, (401, 401));
    assert_eq!(ada.get("/auth/me").await.status, 401);
    assert_eq!(stranger(&host).try_login("ada", PASSWORD).await.status, 401);
    set(json!({ "disabled": false, "role": "operator" })).await;
    assert_eq!((uses(&key).await, key.get("/admin/plugins").await.status.as_u16()), ((200, 200), 200));
}

#[tokio::test]
async fn administrators_make_change_and_remove_users() {
    let host = guarded().await;
    let admin = administrator(&host).await;
    let made =
        admin.post("/admin/users", json!({ "name": "Ada", "role": "user", "displayName": "Ada L." })).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let ada = made.json();
    assert_eq!((&ada["name"], &ada["mustChangePassword"]), (&json!("ada"), &json!(true)));
    let login = stranger(&host).try_login("ada", ada["password"].as_str().unwrap()).await;
    assert_eq!(login.json()["mustChangePassword"], json!(true));
    let again = admin.post("/admin/users", json!({ "name": "ADA", "role": "user" })).await;
    assert_eq!(refusal(&again), (409, "conflict".to_owned()));
    for wrong in [
        json!({ "name": "root", "role": "user" }),
        json!({ "name": "a b", "role": "user" }),
        json!({ "name": "eve" }),
        json!({ "name": "eve", "role": "user", "password": "x".repeat(73) }),
    ] {
        assert_eq!(admin.post("/admin/users", wrong.clone()).await.status, 400, "{wrong}");
    }
    let strange = admin.post("/admin/users", json!({ "name": "eve", "role": "nobody-has-this" })).await;
    assert!(matches!(strange.status.as_u16(), 400 | 404), "{}", strange.text);

    let listed = admin.get("/admin/users").await.json();
    let names: Vec<&Value> = listed["users"].as_array().unwrap().iter().map(|user| &user["name"]).collect();
    assert_eq!(names, ["ada", "admin"]);
    assert!(listed["users"].as_array().unwrap().iter().all(|user| user.get("password").is_none()));
    let path = format!("/admin/users/{}", ada["id"].as_str().unwrap());
    let changed = admin.patch(&path, json!({ "role": "viewer", "displayName": "A." })).await.json();
    assert_eq!((&changed["role"], &changed["displayName"]), (&json!("viewer"), &json!("A.")));

    // Somebody stays who can undo all this.
    for refused in [
        admin.patch("/admin/users/admin", json!({ "role": "user" })).await,
        admin.patch("/admin/users/admin", json!({ "disabled": true })).await,
        admin.delete("/admin/users/admin").await,
    ] {
        assert_eq!(refusal(&refused), (409, "conflict".to_owned()), "{}", refused.text);
    }
    let key = admin.key(json!({ "user": "ada", "scopes": ["plugin:read"] })).await;
    let session = stranger(&host).with(login.json()["token"].as_str().unwrap());
    assert_eq!(
        (key.get("/admin/plugins").await.status, session.get("/auth/me").await.status.as_u16()),
        (http::StatusCode::OK, 200)
    );
    assert_eq!(admin.delete("/admin/users/ada").await.status, 200);
    for gone in [&key, &session] {
        assert_eq!(gone.get("/auth/me").await.status, 401, "keys and logins go with the user");
    }
    assert_eq!(admin.delete("/admin/users/ada").await.status, 404);
}

#[tokio::test]
async fn nobody_but_administrators_touches_users_roles_and_logins_of_others() {
    let host = guarded().await;
    administrator(&host).await;
    let ada = user(&host, "ada", "operator").await;
    for (method, path, body) in [
        (Method::GET, "/admin/users", None),
        (Method::POST, "/admin/users", Some(json!({ "name": "eve", "role": "admin" }))),
        (Method::PATCH, "/admin/users/ada", Some(json!({ "role": "admin" }))),
        (Method::DELETE, "/admin/users/admin", None),
        (Method::POST, "/admin/users/admin/password", Some(json!({ "newPassword": "taken over" }))),
        (Method::POST, "/admin/users/admin/reset", Some(json!({ "password": "taken over" }))),
        (Method::PUT, "/admin/roles/operator", Some(json!({ "scopes": ["admin"] }))),
        (Method::DELETE, "/admin/roles/viewer", None),
        (Method::GET, "/admin/sessions", None),
    ] {
        let refused = ada.send(method.clone(), path, body).await;
        assert_eq!(refusal(&refused), (403, "forbidden".to_owned()), "{method} {path}");
    }
    // Everybody changes the name that is shown, and nothing else, of themselves.
    let renamed = ada.patch("/auth/me", json!({ "displayName": "Ada", "role": "admin" })).await;
    assert!(matches!(renamed.status.as_u16(), 200 | 400), "{}", renamed.text);
    let me = ada.get("/auth/me").await.json();
    assert_eq!((&me["role"], &me["user"]), (&json!("operator"), &json!("ada")));
    assert_eq!(stranger(&host).try_login("admin", "taken over").await.status, 401);
}

#[tokio::test]
async fn a_role_is_what_its_scopes_say_for_whoever_has_it() {
    let host = guarded().await;
    let admin = administrator(&host).await;
    let set = admin.put("/admin/roles/writer", json!({ "scopes": ["llm.chat", "key:own"] })).await;
    assert_eq!(set.status, 200, "{}", set.text);
    let ada = user(&host, "ada", "writer").await;
    let key = ada.key(json!({ "scopes": ["llm.chat", "key:own"] })).await;
    assert_eq!(key.get("/admin/keys").await.status, 200);
    let roles = admin.get("/admin/roles").await.json();
    let names: Vec<&str> =
        roles["roles"].as_array().unwrap().iter().map(|role| role["name"].as_str().unwrap()).collect();
    for name in ["admin", "operator", "user", "viewer", "writer"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let narrowed = admin.put("/admin/roles/writer", json!({ "scopes": ["llm.chat"] })).await;
    assert_eq!(narrowed.status, 200, "{}", narrowed.text);
    assert_eq!(key.get("/admin/keys").await.status, 403, "keys of the role's users are narrower at once");
    assert_eq!(key.get("/v1/models").await.status, 200);
    for refused in [
        admin.delete("/admin/roles/writer").await,
        admin.delete("/admin/roles/viewer").await,
        admin.put("/admin/roles/admin", json!({ "scopes": ["llm.chat"] })).await,
    ] {
        assert_eq!(refusal(&refused), (409, "conflict".to_owned()), "{}", refused.text);
    }
    assert_eq!(admin.put("/admin/roles/writer", json!({ "scopes": ["*"] })).await.status, 400);
    assert_eq!(admin.delete("/admin/users/ada").await.status, 200);
    assert_eq!(admin.delete("/admin/roles/writer").await.status, 200);
}

#[tokio::test]
async fn administrators_see_and_end_everybodys_logins() {
    let host = guarded().await;
    let admin = administrator(&host).await;
    let ada = user(&host, "ada", "user").await;
    let of_ada = admin.get("/admin/sessions?user=ada").await.json();
    assert_eq!(of_ada["sessions"].as_array().unwrap().len(), 1, "{of_ada}");
    let all = admin.get("/admin/sessions").await.json();
    assert_eq!(all["sessions"].as_array().unwrap().len(), 2, "{all}");
    let id = of_ada["sessions"][0]["id"].as_str().unwrap();
    assert_eq!(admin.delete(&format!("/admin/sessions/{id}")).await.status, 200);
    assert_eq!(ada.get("/auth/me").await.status, 401);
    assert_eq!(admin.delete("/admin/sessions/0123456789abcdef").await.status, 404);
}

#[tokio::test]
async fn the_root_key_alone_resets_users() {
    let host = guarded().await;
    let admin = administrator(&host).await;
    let ada = user(&host, "ada", "user").await;
    let key = admin.key(json!({ "scopes": ["admin"] })).await;
    for refused in [
        admin.post("/admin/users/ada/reset", json!({})).await,
        key.post("/admin/users/ada/reset", json!({})).await,
    ] {
        assert_eq!(refusal(&refused), (403, "forbidden".to_owned()));
        assert!(refused.text.contains("only the root key resets users"), "{}", refused.text);
    }
    assert_eq!(admin.patch("/admin/users/ada", json!({ "disabled": true })).await.status, 200);
    let reset = root(&host).post("/admin/users/ada/reset", json!({})).await;
    assert_eq!(reset.status, 200, "{}", reset.text);
    let reset = reset.json();
    assert_eq!((&reset["role"], &reset["disabled"]), (&json!("admin"), &json!(false)));
    assert_eq!(ada.get("/auth/me").await.status, 401, "all logins ended");
    let login = stranger(&host).try_login("ada", reset["password"].as_str().unwrap()).await;
    assert_eq!(login.status, 200, "{}", login.text);
    // It also makes a user who was not there.
    let made = root(&host).post("/admin/users/grace/reset", json!({ "password": PASSWORD })).await;
    assert_eq!((made.status.as_u16(), made.json().get("password")), (200, None));
    assert_eq!(stranger(&host).try_login("grace", PASSWORD).await.status, 200);
}

#[tokio::test]
async fn every_change_is_announced_and_confirmed_in_the_audit_log_without_any_secret() {
    let host = guarded().await;
    let admin = administrator(&host).await;
    let ada = user(&host, "ada", "user").await;
    let made = ada.make_key(json!({ "name": "mine", "scopes": ["llm.chat"] })).await;
    let path = format!("/admin/keys/{}", made["id"].as_str().unwrap());
    let rotated = ada.post(&format!("{path}/rotate"), json!({})).await.json();
    ada.delete(&path).await;
    ada.post("/admin/keys", json!({ "scopes": ["admin"] })).await;
    admin.put("/admin/roles/writer", json!({ "scopes": ["llm.chat"] })).await;
    admin.delete("/admin/roles/writer").await;
    admin.patch("/admin/users/ada", json!({ "displayName": "Ada" })).await;
    let reset = root(&host).post("/admin/users/ada/reset", json!({})).await.json();
    let session = admin.get("/admin/sessions?user=admin").await.json()["sessions"][0]["id"].clone();
    admin.delete("/admin/users/ada").await;
    stranger(&host).try_login("admin", "a wrong password").await;
    admin.delete(&format!("/admin/sessions/{}", session.as_str().unwrap())).await;

    let rows = audit(&root(&host), "").await;
    let told = |action: &str| {
        let of_action: Vec<(&str, &str)> = rows
            .iter()
            .filter(|row| row["action"] == action)
            .map(|row| (row["user"].as_str().unwrap(), row["kind"].as_str().unwrap()))
            .collect();
        of_action
    };
    let once = |user| vec![(user, "intended"), (user, "done")];
    assert_eq!(told("auth.bootstrap"), once("host"));
    assert_eq!(told("auth.initialise"), [("host", "done")]);
    assert_eq!(told("user.create"), once("root"));
    assert_eq!(told("user.password"), [once("admin"), once("ada")].concat());
    assert_eq!(told("key.create"), [once("ada"), vec![("ada", "intended"), ("ada", "failed")]].concat());
    assert_eq!(told("key.rotate"), once("ada"));
    assert_eq!(told("key.revoke"), once("ada"));
    assert_eq!(told("role.set"), once("admin"));
    assert_eq!(told("role.delete"), once("admin"));
    assert_eq!(told("user.update"), once("admin"));
    assert_eq!(told("user.reset"), once("root"));
    assert_eq!(told("user.delete"), once("admin"));
    assert_eq!(told("session.revoke"), once("admin"));
    assert_eq!(told("login"), [("admin", "done"), ("ada", "done"), ("nobody", "failed")]);
    let created = rows.iter().find(|row| row["action"] == "key.create").unwrap();
    assert_eq!(
        (&created["detail"]["scopes"], &created["address"]),
        (&json!(["llm.chat"]), &json!("127.0.0.1"))
    );
    let done = rows.iter().find(|row| row["action"] == "key.create" && row["kind"] == "done").unwrap();
    assert_eq!(done["detail"]["id"], made["id"]);

    let whole = serde_json::to_string(&rows).unwrap();
    let secrets =
        [&made["key"], &rotated["key"], &reset["password"]].map(|secret| secret.as_str().unwrap());
    for secret in
        secrets.into_iter().chain([PASSWORD, "a first password", "a wrong password", ada.credential()])
    {
        assert!(!whole.contains(secret), "the audit log holds a secret");
    }
}

#[tokio::test]
async fn a_revocation_ends_open_streams_and_holds_after_a_restart() {
    let host = guarded().await;
    host.start_plugin("misbehave").await;
    let admin = administrator(&host).await;
    let made = admin.make_key(json!({ "scopes": ["llm.chat"] })).await;
    let key = stranger(&host).with(made["key"].as_str().unwrap());
    let other = admin.key(json!({ "scopes": ["llm.chat"] })).await;
    let open = async |visitor: &Visitor| {
        let mut body = chat("test/slow", "hi");
        body["stream"] = json!(true);
        let request = visitor.request(Method::POST, "/v1/chat/completions");
        let mut stream = visitor.open(complete(request, Some(body))).await.unwrap().into_body();
        let first = stream.body.frame().await.unwrap().unwrap();
        assert!(first.data_ref().unwrap().starts_with(b"data: {"));
        stream
    };
    let (mut stream, mut unharmed) = (open(&key).await, open(&other).await);
    assert_eq!(admin.delete(&format!("/admin/keys/{}", made["id"].as_str().unwrap())).await.status, 200);
    assert_eq!(key.get("/v1/models").await.status, 401, "the next call is refused at once");
    let mut rest = String::new();
    let reading = async {
        while let Some(Ok(frame)) = stream.body.frame().await {
            rest.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    };
    timeout(STREAMS_END_WITHIN, reading).await.expect("the stream ends in time");
    assert!(rest.contains("\"code\":\"invalid_api_key\"") && !rest.contains("[DONE]"), "{rest}");
    assert!(unharmed.body.frame().await.unwrap().is_ok());
    unharmed.leave();

    let host = host.restart().await;
    let key = stranger(&host).with(key.credential());
    assert_eq!(key.get("/v1/models").await.status, 401);
    let other = stranger(&host).with(other.credential());
    assert_eq!(other.get("/v1/models").await.status, 200);
    assert_eq!(host.until_state("apikeys", State::Running).await.instances.len(), 1);
}

/// How much processor time a plugin has used, in ticks.
fn work_of(host: &TestHost, plugin: &str) -> u64 {
    let stat = procfs::process::Process::new(host.pid(plugin)).unwrap().stat().unwrap();
    stat.utime + stat.stime
}

#[tokio::test]
async fn a_login_is_as_much_work_for_users_who_do_not_exist() {
    const TIMES: u8 = 4;
    let costly = json!({ "bcryptCost": 10 });
    let host = TestHost::builder().bundled("apikeys", &costly).start().await;
    administrator(&host).await;
    let work = async |user: &str, network: u8| {
        let before = work_of(&host, "apikeys");
        for number in 1..=TIMES {
            let elsewhere = stranger(&host).from([127, 0, network, number].into());
            assert_eq!(elsewhere.try_login(user, "wrong").await.status, 401);
        }
        work_of(&host, "apikeys") - before
    };
    let (known, unknown) = (work("admin", 1).await, work("nobody", 2).await);
    assert!(known > u64::from(TIMES), "a password of this cost is work: {known} ticks");
    assert!((known / 2..=known * 2).contains(&unknown), "{known} ticks and {unknown}");
}
