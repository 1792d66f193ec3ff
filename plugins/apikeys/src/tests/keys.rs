//! API keys: made, used, narrowed, rotated, revoked.

use serde_json::{Value, json};

use super::*;

#[tokio::test]
async fn a_key_opens_what_it_says_and_shows_its_secret_once() {
    let setup = Setup::with_admin().await;
    let asked = json!({
        "user": "admin", "name": "build 'server'", "scopes": ["llm.chat", "llm.embed"],
        "models": ["stand-*"], "plugins": ["llmserver"], "limits": { "requestsPerMinute": 5 }
    });
    let made = setup.root().ask("auth.createKey", asked).await.unwrap();
    assert_eq!(made["key"], made["token"]);
    assert!(
        made["token"].as_str().unwrap().starts_with(&format!("bkg_sk_{}_", made["id"].as_str().unwrap()))
    );

    let verdict = setup.validate(&made["token"]).await;
    assert_eq!(
        verdict,
        json!({
            "active": true, "user": "admin", "userId": made["userId"], "keyId": made["id"],
            "scopes": ["llm.chat", "llm.embed"], "models": ["stand-*"], "plugins": ["llmserver"],
            "limits": { "requestsPerMinute": 5 }, "expiresAt": made["expiresAt"], "generation": 2
        })
    );

    let listed = setup.root().ask("auth.listKeys", json!({})).await.unwrap();
    let [shown] = listed["keys"].as_array().unwrap().as_slice() else { panic!("{listed}") };
    let members: Vec<&str> = shown.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        members,
        [
            "id",
            "name",
            "user",
            "userId",
            "scopes",
            "models",
            "plugins",
            "limits",
            "logBodies",
            "createdAt",
            "createdBy",
            "expiresAt",
            "lastUsedAt",
            "revokedAt",
            "status"
        ]
    );
    assert_eq!((&shown["status"], &shown["createdBy"]), (&json!("active"), &json!("root")));
    assert!(!listed.to_string().contains(made["token"].as_str().unwrap()));
}

#[tokio::test]
async fn no_secret_is_on_disk() {
    let setup = Setup::with_admin().await;
    let key = setup.key("admin", &["llm.chat"]).await;
    let login = setup.log_in("admin", ADMIN_PASSWORD).await.unwrap();
    let directory = setup.path().to_owned();
    let setup = setup.restart().await;
    let secrets = [&key["token"], &login["token"], &login["refreshToken"], &json!(ADMIN_PASSWORD)];
    for item in std::fs::read_dir(setup.path()).unwrap() {
        let bytes = std::fs::read(item.unwrap().path()).unwrap();
        for secret in secrets {
            // The end of a token is its secret; its beginning is its id.
            let text = secret.as_str().unwrap();
            let secret = text.rsplit('_').next().unwrap().as_bytes();
            assert!(!bytes.windows(secret.len()).any(|window| window == secret), "{text}");
        }
    }
    assert_eq!(directory, setup.path());
    assert!(setup.opens(&key["token"]).await && setup.opens(&login["token"]).await);
}

#[tokio::test]
async fn a_revoked_key_opens_nothing_also_after_a_restart() {
    let setup = Setup::with_admin().await;
    let key = setup.key("admin", &["llm.chat"]).await;
    assert!(setup.opens(&key["token"]).await);
    let revoked = setup.root().ask("auth.revokeKey", json!({ "id": key["id"] })).await.unwrap();
    assert_eq!(revoked["status"], "revoked");
    let verdict = setup.validate(&key["token"]).await;
    assert_eq!((&verdict["active"], &verdict["reason"]), (&json!(false), &json!("revoked")));
    let again = setup.root().ask("auth.revokeKey", json!({ "id": key["id"] })).await.unwrap();
    assert_eq!(again["revokedAt"], revoked["revokedAt"]);
    let setup = setup.restart().await;
    assert!(!setup.opens(&key["token"]).await);
    assert_eq!(setup.root().code("auth.rotateKey", json!({ "id": key["id"] })).await, "conflict");
}

#[tokio::test]
async fn an_expired_key_opens_nothing() {
    let setup = Setup::with_admin().await;
    let key = setup.key("admin", &["llm.chat"]).await;
    setup.sql(|connection| connection.execute("UPDATE keys SET expires_at = 1", [])).await;
    assert_eq!(setup.validate(&key["token"]).await["reason"], "expired");
    let listed = setup.root().ask("auth.listKeys", json!({ "user": "admin" })).await.unwrap();
    assert_eq!(listed["keys"][0]["status"], "expired");
}

#[tokio::test]
async fn a_key_of_a_disabled_user_opens_nothing_until_they_are_enabled() {
    let setup = Setup::with_admin().await;
    setup.user("ada", "user").await;
    let key = setup.key("ada", &["llm.chat"]).await;
    setup.root().ask("auth.users.update", json!({ "id": "ada", "disabled": true })).await.unwrap();
    assert_eq!(setup.validate(&key["token"]).await["reason"], "disabled");
    let listed = setup.root().ask("auth.listKeys", json!({ "user": "ada" })).await.unwrap();
    assert_eq!(listed["keys"][0]["status"], "disabled");
    setup.root().ask("auth.users.update", json!({ "id": "ada", "disabled": false })).await.unwrap();
    assert!(setup.opens(&key["token"]).await);
}

#[tokio::test]
async fn a_key_does_what_both_it_and_its_users_role_grant() {
    let setup = Setup::with_admin().await;
    setup.user("ada", "operator").await;
    let key = setup.key("ada", &["llm.*", "plugin:read", "admin"]).await;
    let scopes = async || setup.validate(&key["token"]).await["scopes"].clone();
    assert_eq!(
        scopes().await,
        json!(["audit:read", "key:manage", "llm.*", "metrics", "plugin:manage", "plugin:read"])
    );
    setup.root().ask("auth.users.update", json!({ "id": "ada", "role": "viewer" })).await.unwrap();
    assert_eq!(scopes().await, json!(["metrics", "plugin:read"]));
    setup.root().ask("auth.roles.set", json!({ "name": "viewer", "scopes": ["llm.chat"] })).await.unwrap();
    assert_eq!(scopes().await, json!(["llm.chat"]));
}

#[tokio::test]
async fn a_rotated_key_has_a_new_secret_and_the_old_one_its_grace() {
    let setup = Setup::with_admin().await;
    let first = setup.key("admin", &["llm.chat"]).await;
    let id = json!({ "id": first["id"] });
    let second = setup.root().ask("auth.rotateKey", id).await.unwrap();
    assert_eq!(second["id"], first["id"]);
    assert!(!setup.opens(&first["token"]).await && setup.opens(&second["token"]).await);

    let graceful = json!({ "id": first["id"], "graceSeconds": 3600 });
    let third = setup.root().ask("auth.rotateKey", graceful).await.unwrap();
    let old = setup.validate(&second["token"]).await;
    assert_eq!(old["active"], true);
    assert!(
        old["expiresAt"].as_str() < third["expiresAt"].as_str(),
        "the host must not keep it for longer"
    );
    assert!(setup.opens(&third["token"]).await);
    setup.sql(|connection| connection.execute("UPDATE keys SET previous_until = 1", [])).await;
    assert!(!setup.opens(&second["token"]).await && setup.opens(&third["token"]).await);

    let too_long = json!({ "id": first["id"], "graceSeconds": 86_401 });
    assert_eq!(
        setup.root().refused("auth.rotateKey", too_long).await,
        refusal("invalid_request", "graceSeconds")
    );
}

#[tokio::test]
async fn a_revocation_ends_the_grace_of_a_rotation() {
    let setup = Setup::with_admin().await;
    let key = setup.key("admin", &["llm.chat"]).await;
    setup.root().ask("auth.rotateKey", json!({ "id": key["id"], "graceSeconds": 3600 })).await.unwrap();
    setup.root().ask("auth.revokeKey", json!({ "id": key["id"] })).await.unwrap();
    assert!(!setup.opens(&key["token"]).await);
}

#[tokio::test]
async fn texts_that_are_no_token_open_nothing() {
    let setup = Setup::with_admin().await;
    let key = setup.key("admin", &["llm.chat"]).await;
    let login = setup.log_in("admin", ADMIN_PASSWORD).await.unwrap();
    let foreign = crate::token::Token::make_for(crate::token::Kind::Key, key["id"].as_str().unwrap());
    let long = "x".repeat(64 << 10);
    for odd in ["", "'", "\0", "é", "bkg_sk_", "\" OR 1=1 --", &long, foreign.expose()] {
        let verdict = setup.validate(&json!(odd)).await;
        assert_eq!(verdict, json!({ "active": false, "reason": "unknown", "generation": 3 }), "{odd:.20}");
    }
    assert!(!setup.opens(&login["refreshToken"]).await, "it renews and does nothing else");
    assert_eq!(setup.by(Host).code("auth.validate", json!({ "token": 5 })).await, "invalid_request");
}

#[tokio::test]
async fn the_last_use_is_noted_without_a_new_generation() {
    let setup = Setup::with_admin().await;
    let key = setup.key("admin", &["llm.chat"]).await;
    let before = setup.validate(&key["token"]).await["generation"].clone();
    // A write carries along what was noted before it.
    setup.sql(|_| Ok(())).await;
    let listed = setup.root().ask("auth.listKeys", json!({})).await.unwrap();
    assert!(listed["keys"][0]["lastUsedAt"].is_string(), "{listed}");
    assert_eq!(setup.validate(&key["token"]).await["generation"], before);
}

#[tokio::test]
async fn a_user_has_so_many_keys_and_dead_ones_make_room() {
    let setup = Setup::with_admin().await;
    setup.key("admin", &["llm.chat"]).await;
    setup
        .sql(|connection| {
            connection.execute_batch(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 999) \
                 INSERT INTO keys SELECT 'key' || i, user_id, name, digest, NULL, NULL, scopes, NULL, NULL, \
                 created_at, created_by, NULL, NULL, NULL, limits, log_bodies FROM keys, n",
            )
        })
        .await;
    let ask = json!({ "user": "admin", "scopes": ["llm.chat"] });
    assert_eq!(setup.root().code("auth.createKey", ask.clone()).await, "conflict");
    setup.root().ask("auth.revokeKey", json!({ "id": "key7" })).await.unwrap();
    setup.root().ask("auth.createKey", ask).await.unwrap();
    assert_eq!(setup.root().code("auth.revokeKey", json!({ "id": "key7" })).await, "not_found");
}

#[tokio::test]
async fn a_payload_that_is_wrong_names_what_is_wrong() {
    let setup = Setup::with_admin().await;
    let many: Vec<String> = (0..65).map(|number| format!("llm.m{number}")).collect();
    for (payload, param) in [
        (json!({ "user": "admin" }), "scopes"),
        (json!({ "user": "admin", "scopes": [] }), "scopes"),
        (json!({ "user": "admin", "scopes": many }), "scopes"),
        (json!({ "user": "admin", "scopes": ["llm.chat", "*"] }), "scopes[1]"),
        (json!({ "user": "admin", "scopes": ["llm.chat"], "model": ["x"] }), "model"),
        (json!({ "user": "admin", "scopes": ["llm.chat"], "name": "a\nb" }), "name"),
        (json!({ "user": "admin", "scopes": ["llm.chat"], "operationId": "" }), "operationId"),
        (json!({ "scopes": ["llm.chat"] }), "user"),
    ] {
        let expected = refusal("invalid_request", param);
        assert_eq!(setup.root().refused("auth.createKey", payload.clone()).await, expected, "{payload}");
    }
    for payload in [json!([]), json!("hunter2"), json!(5)] {
        let error = setup.root().ask("auth.createKey", payload).await.unwrap_err();
        assert!(error.code == "invalid_request" && !error.message.contains("hunter2"), "{error}");
    }
    let nobody = json!({ "user": "nobody", "scopes": ["llm.chat"] });
    assert_eq!(setup.root().code("auth.createKey", nobody).await, "not_found");
}

#[tokio::test]
async fn a_key_lasts_as_long_as_asked_or_as_the_settings_say() {
    let setup = Setup::with_admin().await;
    let days = |key: &Value| {
        let moment = |name: &str| crate::moment::Moment::parse(key[name].as_str().unwrap()).unwrap();
        (moment("expiresAt").as_milliseconds() - moment("createdAt").as_milliseconds() + 60_000)
            / 86_400_000
    };
    assert_eq!(days(&setup.key("admin", &["llm.chat"]).await), 90);
    setup.host.configure(json!({ "bcryptCost": 4, "keyDays": 7 })).await.unwrap();
    assert_eq!(days(&setup.key("admin", &["llm.chat"]).await), 7);
    let asked = json!({ "user": "admin", "scopes": ["llm.chat"], "expiresInDays": 3 });
    assert_eq!(days(&setup.root().ask("auth.createKey", asked).await.unwrap()), 3);
    let asked = json!({ "user": "admin", "scopes": ["llm.chat"], "expiresAt": null });
    let eternal = setup.root().ask("auth.createKey", asked).await.unwrap();
    assert_eq!(eternal["expiresAt"], Value::Null);
    assert_eq!(setup.validate(&eternal["token"]).await.get("expiresAt"), None);
    assert!(setup.host.configure(json!({ "keyDays": 0 })).await.is_err());
}

#[tokio::test]
async fn a_verdict_carries_the_limits_of_the_key_and_of_its_user() {
    let setup = Setup::with_admin().await;
    let limits = json!({ "tokensPerMinute": 7, "budget": { "amount": 2.5, "per": "month" } });
    let asked = json!({ "user": "admin", "scopes": ["llm.chat"], "limits": limits, "logBodies": true });
    let made = setup.root().ask("auth.createKey", asked).await.unwrap();
    let verdict = setup.validate(&made["token"]).await;
    assert_eq!((&verdict["limits"], &verdict["logBodies"]), (&limits, &json!(true)));
    assert_eq!(verdict["userLimits"], Value::Null);

    let of_user = json!({ "concurrentRequests": 3 });
    let change = json!({ "id": "admin", "limits": of_user });
    let user = setup.root().ask("auth.users.update", change).await.unwrap();
    assert_eq!(user["limits"], of_user);
    assert_eq!(setup.validate(&made["token"]).await["userLimits"], of_user);
    let setup = setup.restart().await;
    assert_eq!(setup.validate(&made["token"]).await["userLimits"], of_user);
    let lifted = json!({ "id": "admin", "limits": null });
    assert_eq!(setup.root().ask("auth.users.update", lifted).await.unwrap()["limits"], json!({}));
    assert_eq!(setup.validate(&made["token"]).await["userLimits"], Value::Null);
}
