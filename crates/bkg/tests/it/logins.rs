//! Logging in with the provider that is shipped: the first administrator, tokens, cookies, passwords.
//!
//! Keys, users and roles are in `accounts`, a provider that is away in `outages`.

use std::fs;
use std::net::Ipv4Addr;

use futures_util::future::join_all;
use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::daemon::{Place, mode};
use crate::host::{Reply, TestHost};
use crate::visitor::{Visitor, complete, cookie, refusal, retry_after};

/// What the first administrator chooses in tests.
pub const PASSWORD: &str = "a password of my own";

/// A daemon whose credentials `apikeys` checks, with a plugin to ask things of.
pub async fn guarded() -> TestHost {
    let settings = json!({ "bcryptCost": 4 });
    TestHost::builder().bundled("apikeys", &settings).plugin("misbehave").start().await
}

/// Somebody who is a stranger to this daemon.
pub fn stranger(host: &TestHost) -> Visitor {
    Visitor::at(host.api_port())
}

/// Somebody who has the root key.
pub fn root(host: &TestHost) -> Visitor {
    stranger(host).with(host.key())
}

fn initial_password(host: &TestHost) -> String {
    let text = fs::read_to_string(host.data_dir().join("initial-password")).unwrap();
    text.trim_end().to_owned()
}

/// The first administrator, who has chosen [`PASSWORD`].
pub async fn administrator(host: &TestHost) -> Visitor {
    let first = initial_password(host);
    let admin = stranger(host).log_in("admin", &first).await;
    let chosen = json!({ "oldPassword": first, "newPassword": PASSWORD });
    let changed = admin.post("/auth/password", chosen).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    admin
}

/// A new user with [`PASSWORD`], logged in.
pub async fn user(host: &TestHost, name: &str, role: &str) -> Visitor {
    let wanted = json!({ "name": name, "role": role, "password": "a first password" });
    let made = root(host).post("/admin/users", wanted).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let user = stranger(host).log_in(name, "a first password").await;
    let chosen = json!({ "oldPassword": "a first password", "newPassword": PASSWORD });
    let changed = user.post("/auth/password", chosen).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    user
}

/// The rows of the audit log whose action begins like this, the oldest first.
pub async fn audit(root: &Visitor, action: &str) -> Vec<Value> {
    let page = root.get(&format!("/admin/audit?limit=1000&action={action}")).await;
    assert_eq!(page.status, 200, "{}", page.text);
    let mut rows = page.json()["entries"].as_array().unwrap().clone();
    rows.reverse();
    rows
}

#[tokio::test]
async fn the_first_administrator_chooses_a_password_before_anything_else() {
    let host = guarded().await;
    let file = host.data_dir().join("initial-password");
    assert_eq!(mode(&file), 0o600);
    let first = initial_password(&host);
    assert!(first.len() >= 20, "nobody guesses it");
    let login = stranger(&host).try_login("admin", &first).await;
    assert_eq!((login.status.as_u16(), &login.json()["mustChangePassword"]), (200, &json!(true)));
    assert_eq!(login.json()["scopes"], json!([]));
    let admin = stranger(&host).with(login.json()["token"].as_str().unwrap());
    for path in ["/admin/plugins", "/admin/users", "/admin/keys", "/admin/audit"] {
        let refused = admin.get(path).await;
        assert_eq!(refusal(&refused), (403, "forbidden".to_owned()), "{path}");
        assert!(refused.text.contains("`admin` must choose a new password first"), "{}", refused.text);
    }
    assert_eq!(admin.get("/auth/me").await.json()["mustChangePassword"], json!(true));

    let change = async |old: &str, new: &str| {
        admin.post("/auth/password", json!({ "oldPassword": old, "newPassword": new })).await
    };
    let wrong = change("not the password", PASSWORD).await;
    assert_eq!(refusal(&wrong), (403, "forbidden".to_owned()), "{}", wrong.text);
    let long = change(&first, &"x".repeat(73)).await;
    assert_eq!(refusal(&long), (400, "invalid_request".to_owned()), "longer than what is hashed");
    assert!(file.is_file(), "it counts until it is changed");
    let changed = change(&first, PASSWORD).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert!(!file.exists());
    assert_eq!(admin.get("/admin/users").await.status, 200, "the same login goes on, with its rights");
    assert_eq!(stranger(&host).try_login("admin", &first).await.status, 401);

    let host = host.restart().await;
    assert!(!file.exists(), "the first start comes once");
    let login = stranger(&host).try_login("admin", PASSWORD).await.json();
    assert_eq!((&login["mustChangePassword"], &login["scopes"]), (&json!(false), &json!(["admin"])));
    host.stop().await;
}

#[tokio::test]
async fn a_password_that_the_operator_chose_is_in_no_file_and_need_not_be_changed() {
    let mut place = Place::new();
    place.set("ADMIN_PASSWORD", PASSWORD);
    let daemon = place.start().await;
    assert!(!place.file("initial-password").exists());
    let login = Visitor::at(daemon.port()).try_login("admin", PASSWORD).await;
    assert_eq!(login.status, 200, "{}", login.text);
    assert_eq!(login.json()["mustChangePassword"], json!(false));
    let admin = Visitor::at(daemon.port()).with(login.json()["token"].as_str().unwrap());
    assert_eq!(admin.get("/admin/users").await.status, 200);
    daemon.stop().await;

    // Later starts do not look at it: it would be a way to become administrator.
    place.set("ADMIN_PASSWORD", "another password");
    let daemon = place.start().await;
    assert_eq!(Visitor::at(daemon.port()).try_login("admin", "another password").await.status, 401);
    assert_eq!(Visitor::at(daemon.port()).try_login("admin", PASSWORD).await.status, 200);
    daemon.stop().await;
}

#[tokio::test]
async fn a_login_answers_what_clients_have_always_read() {
    let host = guarded().await;
    administrator(&host).await;
    let before = Timestamp::now().as_millisecond();
    let login = stranger(&host).try_login("ADMIN", PASSWORD).await;
    let body = login.json();
    assert!(body["token"].as_str().unwrap().starts_with("bkg_st_"));
    assert_eq!(
        (&body["user"], &body["role"], &body["scopes"]),
        (&json!("admin"), &json!("admin"), &json!(["admin"]))
    );
    let lasts = |member: &str| {
        let milliseconds = body[member].as_i64().unwrap() - before;
        // As whole hours, and up to an hour more if the machine was slow.
        milliseconds / 3_600_000
    };
    assert_eq!((lasts("expires_at"), lasts("refresh_expires_at")), (24, 30 * 24));
    let (token, attributes) = cookie(&login, "bkg_session").unwrap();
    assert_eq!(token, body["token"].as_str().unwrap());
    let flags = |attributes: &[String]| {
        let (age, rest): (Vec<_>, Vec<_>) =
            attributes.iter().cloned().partition(|attribute| attribute.starts_with("Max-Age="));
        assert_eq!(age.len(), 1);
        rest
    };
    assert_eq!(flags(&attributes), ["Path=/", "HttpOnly", "SameSite=Strict"]);
    let (token, attributes) = cookie(&login, "bkg_refresh").unwrap();
    assert_eq!(token, body["refreshToken"].as_str().unwrap());
    assert_eq!(flags(&attributes), ["Path=/auth/refresh", "HttpOnly", "SameSite=Strict"]);
    assert_eq!(login.headers["cache-control"], "no-store");
}

#[tokio::test]
async fn a_cookie_opens_what_browsers_need_and_nothing_that_another_page_sends() {
    let host = guarded().await;
    administrator(&host).await;
    let login = stranger(&host).try_login("admin", PASSWORD).await;
    let (token, _) = cookie(&login, "bkg_session").unwrap();
    let ask = async |method: Method, path: &str, headers: &[(&str, &str)]| {
        let body = (method == Method::POST).then(|| json!({ "scopes": ["llm.chat"] }));
        let mut request = stranger(&host).request(method, path);
        request = request.header("cookie", format!("theme=dark; bkg_session={token}"));
        for (name, value) in headers {
            if *name == "host" {
                request.headers_mut().unwrap().remove("host");
            }
            request = request.header(*name, *value);
        }
        let response = stranger(&host).open(complete(request, body)).await.unwrap();
        Reply::read(response).await.unwrap().status.as_u16()
    };
    let own_origin = format!("http://localhost:{}", host.api_port());
    let own_host = format!("localhost:{}", host.api_port());
    assert_eq!(ask(Method::GET, "/admin/plugins", &[]).await, 200);
    assert_eq!(ask(Method::GET, "/v1/models", &[]).await, 401, "applications come with keys");
    assert_eq!(ask(Method::GET, "/admin/plugins", &[("host", "evil.example")]).await, 421);
    for (headers, due) in [
        (&[("sec-fetch-site", "same-origin")][..], 201),
        (&[("origin", &own_origin), ("host", &own_host)], 201),
        (&[], 403),
        (&[("sec-fetch-site", "cross-site")], 403),
        (&[("sec-fetch-site", "same-site")], 403),
        (&[("sec-fetch-site", "none")], 403),
        (&[("origin", "http://evil.example")], 403),
        (&[("origin", "null")], 403),
        (&[("sec-fetch-site", "same-origin"), ("host", "evil.example")], 421),
    ] {
        assert_eq!(ask(Method::POST, "/admin/keys", headers).await, due, "{headers:?}");
    }
    let keys = root(&host).get("/admin/keys").await.json();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 2, "what was refused was not done");
    // Nor can another page log a browser in as somebody else.
    let request =
        stranger(&host).request(Method::POST, "/auth/login").header("sec-fetch-site", "cross-site");
    let credentials = json!({ "username": "admin", "password": PASSWORD });
    let response = stranger(&host).open(complete(request, Some(credentials))).await.unwrap();
    assert_eq!(response.status(), 403);
}

#[tokio::test]
async fn a_refresh_gives_new_tokens_and_a_token_used_twice_ends_the_login() {
    let host = guarded().await;
    administrator(&host).await;
    let refresh =
        async |token: &Value| stranger(&host).post("/auth/refresh", json!({ "refreshToken": token })).await;
    let first = stranger(&host).try_login("admin", PASSWORD).await.json();
    let opens = async |login: &Value| {
        stranger(&host).with(login["token"].as_str().unwrap()).get("/admin/users").await.status == 200
    };
    assert!(opens(&first).await);
    let second = refresh(&first["refreshToken"]).await;
    assert_eq!(second.status, 200, "{}", second.text);
    assert!(cookie(&second, "bkg_session").is_some() && cookie(&second, "bkg_refresh").is_some());
    let second = second.json();
    assert_eq!(second["sessionId"], first["sessionId"], "it is the same login");
    assert!(opens(&second).await && !opens(&first).await);

    // A browser sends the token as a cookie.
    let token = second["refreshToken"].as_str().unwrap();
    let request = stranger(&host).request(Method::POST, "/auth/refresh");
    let request = request.header("cookie", format!("bkg_refresh={token}"));
    let response = stranger(&host).open(complete(request, None)).await.unwrap();
    let third = Reply::read(response).await.unwrap();
    assert_eq!(third.status, 200, "{}", third.text);
    let third = third.json();

    let other = stranger(&host).try_login("admin", PASSWORD).await.json();
    let reused = refresh(&first["refreshToken"]).await;
    assert_eq!(refusal(&reused), (401, "unauthorized".to_owned()));
    assert!(!opens(&third).await, "one of the two who had the token was not its owner");
    assert_eq!(refresh(&third["refreshToken"]).await.status, 401);
    assert!(opens(&other).await, "other logins of the same user are not meant");
    let rows = audit(&root(&host), "session.reused").await;
    assert_eq!((rows.len(), &rows[0]["kind"]), (1, &json!("done")));
    assert_eq!(refresh(&json!("bkg_sr_nonsense")).await.status, 401);
}

#[tokio::test]
async fn a_logout_ends_the_login_for_good() {
    let host = guarded().await;
    administrator(&host).await;
    let login = stranger(&host).try_login("admin", PASSWORD).await.json();
    let admin = stranger(&host).with(login["token"].as_str().unwrap());
    let reply = admin.post("/auth/logout", json!({})).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    for name in ["bkg_session", "bkg_refresh"] {
        let (value, attributes) = cookie(&reply, name).unwrap();
        assert_eq!(value, "");
        assert!(attributes.contains(&"Max-Age=0".to_owned()), "{attributes:?}");
    }
    assert_eq!(admin.get("/auth/me").await.status, 401);
    let refresh = json!({ "refreshToken": login["refreshToken"] });
    assert_eq!(stranger(&host).post("/auth/refresh", refresh).await.status, 401);
    let host = host.restart().await;
    assert_eq!(stranger(&host).with(admin.credential()).get("/auth/me").await.status, 401);
}

#[tokio::test]
async fn people_see_and_end_their_own_logins_and_nobody_elses() {
    let host = guarded().await;
    let admin = administrator(&host).await;
    let ada = user(&host, "ada", "user").await;
    let second = stranger(&host).log_in("ada", PASSWORD).await;
    let page = ada.get("/auth/sessions").await.json();
    let sessions = page["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 2);
    assert!(
        sessions
            .iter()
            .all(|session| session["user"] == "ada" && session["client"]["address"] == "127.0.0.1")
    );
    assert!(!page.to_string().contains(ada.credential()));
    let id = second.get("/auth/me").await.json()["sessionId"].as_str().unwrap().to_owned();
    assert_eq!(ada.delete(&format!("/auth/sessions/{id}")).await.status, 200);
    assert_eq!(second.get("/auth/me").await.status, 401);
    assert_eq!(ada.get("/auth/me").await.status, 200);
    let id = admin.get("/auth/me").await.json()["sessionId"].as_str().unwrap().to_owned();
    let refused = ada.delete(&format!("/auth/sessions/{id}")).await;
    assert!(matches!(refused.status.as_u16(), 403 | 404), "{}", refused.text);
    assert_eq!(admin.get("/auth/me").await.status, 200);
    // A key is no login.
    let key = ada.key(json!({ "scopes": ["llm.chat"] })).await;
    assert_eq!(key.get("/auth/sessions").await.status, 403);
}

#[tokio::test]
async fn a_new_password_ends_all_other_logins_of_the_user() {
    let host = guarded().await;
    let admin = administrator(&host).await;
    let ada = user(&host, "ada", "user").await;
    let second = stranger(&host).log_in("ada", PASSWORD).await;
    assert_eq!(second.get("/auth/me").await.status, 200);
    let change = json!({ "oldPassword": PASSWORD, "newPassword": "yet another one" });
    assert_eq!(ada.post("/auth/password", change).await.status, 200);
    assert_eq!(second.get("/auth/me").await.status, 401);
    assert_eq!(ada.get("/auth/me").await.status, 200, "the login that changed it goes on");
    assert_eq!(admin.get("/auth/me").await.status, 200, "other users are not meant");
    assert_eq!(stranger(&host).try_login("ada", PASSWORD).await.status, 401);
    // An administrator sets one without the old one; that ends every login.
    let set = admin.post("/admin/users/ada/password", json!({ "newPassword": "set by another" })).await;
    assert_eq!(set.status, 200, "{}", set.text);
    assert_eq!(ada.get("/auth/me").await.status, 401);
    assert_eq!(stranger(&host).try_login("ada", "set by another").await.status, 200);
}

#[tokio::test]
async fn a_failed_login_does_not_say_whether_the_user_exists() {
    let host = guarded().await;
    let admin = administrator(&host).await;
    user(&host, "ada", "user").await;
    user(&host, "bob", "user").await;
    assert_eq!(admin.patch("/admin/users/bob", json!({ "disabled": true })).await.status, 200);
    let mut answers = Vec::new();
    for (name, password) in
        [("ada", "wrong"), ("nobody", "wrong"), ("bob", "wrong"), ("bob", PASSWORD), ("a b'\"", "wrong")]
    {
        let reply = stranger(&host).try_login(name, password).await;
        let headers: Vec<String> =
            reply.headers.keys().map(ToString::to_string).filter(|name| name != "date").collect();
        answers.push((reply.status.as_u16(), reply.text, headers));
    }
    assert_eq!(answers[0].0, 401);
    for answer in &answers {
        assert_eq!(answer, &answers[0]);
    }
}

#[tokio::test]
async fn a_flood_of_wrong_passwords_slows_down_nobody_but_its_sender() {
    let costly = json!({ "bcryptCost": 8 });
    let host = TestHost::builder().bundled("apikeys", &costly).plugin("misbehave").start().await;
    let admin = administrator(&host).await;
    let key = admin.key(json!({ "scopes": ["llm.chat"] })).await;
    let visitor = stranger(&host);
    let flood = join_all((0..300).map(|number| {
        let (visitor, password) = (visitor.clone(), format!("guess {number}"));
        async move { visitor.try_login("admin", &password).await }
    }));
    let owner = async {
        let elsewhere = stranger(&host).from(Ipv4Addr::new(127, 0, 0, 2));
        elsewhere.try_login("admin", PASSWORD).await
    };
    let work = async {
        let mut statuses = Vec::new();
        for _ in 0..50 {
            statuses.push(key.get("/v1/models").await.status.as_u16());
        }
        statuses
    };
    let (guesses, owner, work) = tokio::join!(flood, owner, work);
    let statuses: Vec<u16> = guesses.iter().map(|reply| reply.status.as_u16()).collect();
    assert!(statuses.iter().all(|status| matches!(status, 401 | 429)), "{statuses:?}");
    assert!(statuses.contains(&401) && statuses.contains(&429));
    for reply in guesses.iter().filter(|reply| reply.status == 429) {
        assert!(retry_after(reply).is_some_and(|seconds| (1..=300).contains(&seconds)), "{}", reply.text);
    }
    assert_eq!(owner.status, 200, "nobody locks the owner out: {}", owner.text);
    assert_eq!(work, [200; 50]);
    // The guesses are in the audit log as what they are.
    let failed = audit(&root(&host), "login").await.iter().filter(|row| row["kind"] == "failed").count();
    assert_eq!(failed, statuses.iter().filter(|status| **status == 401).count());
    // Whoever guesses is held up also with the right password, and told for how long.
    for number in 0..10 {
        stranger(&host).try_login("admin", &format!("more {number}")).await;
    }
    let held_up = stranger(&host).try_login("admin", PASSWORD).await;
    assert_eq!(held_up.status, 429, "{}", held_up.text);
}

#[tokio::test]
async fn an_administrators_own_password_is_not_found_out_by_trying_at_the_other_route() {
    let host = TestHost::builder().bundled("apikeys", &json!({ "bcryptCost": 4 })).start().await;
    let admin = administrator(&host).await;
    let mut statuses = Vec::new();
    for number in 0..10 {
        let guess = json!({ "oldPassword": format!("guess {number}"), "newPassword": "taken over" });
        let reply = admin.post("/admin/users/admin/password", guess).await;
        statuses.push((reply.status.as_u16(), reply.code()));
    }
    let refused = |code: &str| statuses.iter().filter(|(_, found)| found == code).count();
    assert_eq!((refused("forbidden"), refused("rate_limited")), (5, 5), "{statuses:?}");
    assert_eq!(admin.get("/auth/me").await.status, 200, "the login is as valid as before");
}
