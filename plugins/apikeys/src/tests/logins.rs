//! Logins: begun, renewed, ended, and what wrong ones cost.

use serde_json::json;

use super::*;

#[tokio::test]
async fn a_login_opens_what_the_role_grants() {
    let setup = Setup::with_admin().await;
    let login = setup.user("ada", "user").await;
    let members: Vec<&str> = login.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        members,
        [
            "token",
            "user",
            "userId",
            "role",
            "scopes",
            "sessionId",
            "expires_at",
            "refreshToken",
            "refresh_expires_at",
            "mustChangePassword"
        ]
    );
    assert_eq!((&login["role"], &login["scopes"]), (&json!("user"), &json!(["llm.*", "key:own"])));
    let day = 24 * 60 * 60 * 1_000;
    let now = crate::moment::Moment::now().as_milliseconds();
    assert!((now + day - login["expires_at"].as_i64().unwrap()).abs() < 60_000);
    assert!((now + 30 * day - login["refresh_expires_at"].as_i64().unwrap()).abs() < 60_000);

    let verdict = setup.validate(&login["token"]).await;
    assert_eq!(verdict["sessionId"], login["sessionId"]);
    assert_eq!((&verdict["user"], &verdict["scopes"]), (&json!("ada"), &login["scopes"]));
    assert_eq!(verdict.get("keyId"), None);
    let typed_at: jiff::Timestamp = verdict["authenticatedAt"].as_str().unwrap().parse().unwrap();
    assert!((now - typed_at.as_millisecond()).abs() < 60_000);
    let renewed = setup.refresh(&login["refreshToken"]).await.unwrap();
    let later = setup.validate(&renewed["token"]).await;
    assert_eq!(later["authenticatedAt"], verdict["authenticatedAt"], "renewing types no password");
}

#[tokio::test]
async fn every_wrong_login_looks_alike_and_costs_one_bcrypt() {
    let setup = Setup::with_admin().await;
    setup.user("ada", "user").await;
    setup.root().ask("auth.users.update", json!({ "id": "ada", "disabled": true })).await.unwrap();
    let expected = setup.log_in("admin", "wrong password").await.unwrap_err();
    assert_eq!(expected.code, "unauthorized");
    let long = "x".repeat(64 << 10);
    for (name, password) in [
        ("admin", ""),
        ("admin", "correct horse battery\0"),
        ("admin", "correct horse battery\0correct horse battery"),
        ("nobody", ADMIN_PASSWORD),
        ("root", ADMIN_PASSWORD),
        ("", ADMIN_PASSWORD),
        ("a'; DROP TABLE users; --", ADMIN_PASSWORD),
        ("\0", ADMIN_PASSWORD),
        ("ädmin", ADMIN_PASSWORD),
        (&long, ADMIN_PASSWORD),
        ("ada", "password of ada"),
        ("ada", "wrong"),
    ] {
        let before = setup.accounts.hasher.checks();
        assert_eq!(setup.log_in(name, password).await.unwrap_err(), expected, "{name:.20} {password:.40}");
        assert_eq!(setup.accounts.hasher.checks(), before + 1, "{name:.20} {password:.40}");
    }
    let before = setup.accounts.hasher.checks();
    setup.log_in("ADMIN", ADMIN_PASSWORD).await.unwrap();
    assert_eq!(setup.accounts.hasher.checks(), before + 1);
}

#[tokio::test]
async fn a_password_that_is_too_long_is_never_cut_off() {
    let setup = Setup::with_admin().await;
    let longest = "é".repeat(36);
    let change = |password: &str| json!({ "id": "admin", "newPassword": password });
    setup.root().ask("auth.users.password", change(&longest)).await.unwrap();
    setup.log_in("admin", &longest).await.unwrap();
    let error = setup.log_in("admin", &format!("{longest}x")).await.unwrap_err();
    assert_eq!((error.code.as_str(), error.param.as_deref()), ("invalid_request", Some("password")));
    assert!(error.message.contains("73 bytes"), "{error}");
    for wrong in
        [format!("{longest}x"), "x".repeat(64 << 10), "1234567".to_owned(), "nul\0inside".to_owned()]
    {
        let expected = refusal("invalid_request", "newPassword");
        assert_eq!(setup.root().refused("auth.users.password", change(&wrong)).await, expected);
    }
    for odd in ["'; DROP TABLE users; --", "\"quoted\\\"", "пароль-密码-🔑", "        "] {
        setup.root().ask("auth.users.password", change(odd)).await.unwrap();
        setup.log_in("admin", odd).await.unwrap();
    }
}

#[tokio::test]
async fn a_renewal_replaces_both_tokens_and_a_spent_one_ends_the_session() {
    let setup = Setup::with_admin().await;
    let first = setup.log_in("admin", ADMIN_PASSWORD).await.unwrap();
    let second = setup.refresh(&first["refreshToken"]).await.unwrap();
    assert_eq!(second["sessionId"], first["sessionId"]);
    assert!(!setup.opens(&first["token"]).await && setup.opens(&second["token"]).await);
    let third = setup.refresh(&second["refreshToken"]).await.unwrap();

    // Any earlier one is recognised, not only the last.
    assert_eq!(setup.refresh(&first["refreshToken"]).await.unwrap_err().code, "reused");
    assert!(!setup.opens(&third["token"]).await);
    for token in [&first, &second, &third] {
        assert_eq!(setup.refresh(&token["refreshToken"]).await.unwrap_err().code, "unauthorized");
    }
    let sessions = setup.root().ask("auth.sessions.list", json!({})).await.unwrap();
    assert_eq!(sessions, json!({ "sessions": [] }));
}

#[tokio::test]
async fn a_foreign_refresh_token_with_the_right_id_ends_nothing() {
    let setup = Setup::with_admin().await;
    let login = setup.log_in("admin", ADMIN_PASSWORD).await.unwrap();
    let kind = crate::token::Kind::Refresh;
    let foreign = crate::token::Token::make_for(kind, login["sessionId"].as_str().unwrap());
    for odd in [foreign.expose(), "", "\0", login["token"].as_str().unwrap()] {
        assert_eq!(setup.refresh(&json!(odd)).await.unwrap_err().code, "unauthorized", "{odd}");
    }
    assert!(setup.opens(&login["token"]).await);
}

#[tokio::test]
async fn a_session_ends_with_its_time() {
    let setup = Setup::with_admin().await;
    let login = setup.log_in("admin", ADMIN_PASSWORD).await.unwrap();
    setup.sql(|connection| connection.execute("UPDATE sessions SET expires_at = 1", [])).await;
    assert_eq!(setup.validate(&login["token"]).await["reason"], "expired");
    let renewed = setup.refresh(&login["refreshToken"]).await.unwrap();
    assert!(setup.opens(&renewed["token"]).await);
    setup.sql(|connection| connection.execute("UPDATE sessions SET refresh_expires_at = 1", [])).await;
    assert_eq!(setup.refresh(&renewed["refreshToken"]).await.unwrap_err().code, "unauthorized");
    setup.log_in("admin", ADMIN_PASSWORD).await.unwrap();
    let rows: i64 = setup
        .sql(|connection| connection.query_row("SELECT count(*) FROM sessions", [], |row| row.get(0)))
        .await;
    assert_eq!(rows, 1, "what is over is forgotten at the next login");
}

#[tokio::test]
async fn one_login_too_many_ends_the_oldest() {
    let setup = Setup::with_admin().await;
    let oldest = setup.log_in("admin", ADMIN_PASSWORD).await.unwrap();
    setup
        .sql(|connection| {
            connection.execute_batch(
                "UPDATE sessions SET created_at = created_at - 1000; \
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 99) \
                 INSERT INTO sessions SELECT 's' || i, user_id, digest, expires_at, refresh_digest, \
                 refresh_expires_at, created_at + i, NULL, NULL, NULL FROM sessions, n",
            )
        })
        .await;
    let last = setup.log_in("admin", ADMIN_PASSWORD).await.unwrap();
    assert!(!setup.opens(&oldest["token"]).await && setup.opens(&last["token"]).await);
    let sessions = setup.root().ask("auth.sessions.list", json!({ "userId": "admin" })).await.unwrap();
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 100);
    let changed = setup.host.seen().auth_changes.pop().unwrap();
    assert_eq!(changed.user_id.as_deref(), last["userId"].as_str(), "the ended login is meant as well");
}

#[tokio::test]
async fn a_logout_ends_a_session_by_id_or_by_token_and_never_fails() {
    let setup = Setup::with_admin().await;
    for by_token in [true, false] {
        let login = setup.log_in("admin", ADMIN_PASSWORD).await.unwrap();
        let payload = match by_token {
            true => json!({ "token": login["token"] }),
            false => json!({ "sessionId": login["sessionId"] }),
        };
        for _ in 0..2 {
            assert_eq!(setup.by(Host).ask("auth.logout", payload.clone()).await.unwrap(), json!({}));
            assert!(!setup.opens(&login["token"]).await);
        }
        assert_eq!(setup.refresh(&login["refreshToken"]).await.unwrap_err().code, "unauthorized");
    }
    let login = setup.log_in("admin", ADMIN_PASSWORD).await.unwrap();
    let foreign =
        crate::token::Token::make_for(crate::token::Kind::Session, login["sessionId"].as_str().unwrap());
    setup.by(Host).ask("auth.logout", json!({ "token": foreign.expose() })).await.unwrap();
    assert!(setup.opens(&login["token"]).await, "an id alone is no token");
}

#[tokio::test]
async fn the_client_is_kept_for_the_list_and_cut_to_size() {
    let setup = Setup::with_admin().await;
    let client = json!({ "address": "192.0.2.7", "userAgent": "é".repeat(10_000) });
    let payload = json!({ "username": "admin", "password": ADMIN_PASSWORD, "client": client });
    let login = setup.by(Host).ask("auth.login", payload).await.unwrap();
    let listed = setup.root().ask("auth.sessions.list", json!({})).await.unwrap();
    let [session] = listed["sessions"].as_array().unwrap().as_slice() else { panic!("{listed}") };
    let members: Vec<&str> = session.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["id", "user", "userId", "createdAt", "lastUsedAt", "expiresAt", "client"]);
    assert_eq!(session["id"], login["sessionId"]);
    assert_eq!(session["client"], json!({ "address": "192.0.2.7", "userAgent": "é".repeat(256) }));
}

#[tokio::test]
async fn a_password_of_another_cost_is_hashed_anew_at_its_login() {
    let setup = Setup::with_admin().await;
    let cost = async || {
        let read = |connection: &bkg_sqlite::rusqlite::Connection| {
            connection
                .query_row("SELECT substr(password, 5, 2) FROM users", [], |row| row.get::<_, String>(0))
        };
        setup.sql(read).await
    };
    assert_eq!(cost().await, "04");
    setup.host.configure(json!({ "bcryptCost": 5 })).await.unwrap();
    setup.log_in("admin", "wrong password").await.unwrap_err();
    assert_eq!(cost().await, "04");
    setup.log_in("admin", ADMIN_PASSWORD).await.unwrap();
    assert_eq!(cost().await, "05");
    setup.log_in("admin", ADMIN_PASSWORD).await.unwrap();
}

#[tokio::test]
async fn a_login_under_way_during_a_password_change_is_refused_or_ended() {
    let setup = Setup::with_admin().await;
    for round in 0..10 {
        let password = |round: i32| format!("password number {round}");
        let set = |round: i32| json!({ "id": "admin", "newPassword": password(round) });
        setup.root().ask("auth.users.password", set(round)).await.unwrap();
        let (host, root) = (setup.by(Host), setup.root());
        let login = host.start("auth.login", json!({ "username": "admin", "password": password(round) }));
        let change = root.start("auth.users.password", set(round + 1));
        let login = login.outcome().await;
        change.outcome().await.unwrap();
        if let Ok(login) = login {
            let login: Value = login.read().unwrap();
            assert!(!setup.opens(&login["token"]).await);
        }
    }
}
