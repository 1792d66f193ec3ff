//! Who may do what: nobody more than they should, and nobody gives more than they have.

use serde_json::json;

use super::*;

/// Every capability that needs a right, with a payload that is right otherwise.
fn guarded() -> Vec<(&'static str, Value)> {
    vec![
        ("auth.createKey", json!({ "user": "admin", "scopes": ["llm.chat"] })),
        ("auth.listKeys", json!({ "user": "admin" })),
        ("auth.users.list", json!({})),
        ("auth.users.create", json!({ "name": "eve", "role": "user" })),
        ("auth.users.update", json!({ "id": "admin", "displayName": "x" })),
        ("auth.users.password", json!({ "id": "admin", "newPassword": "12345678" })),
        ("auth.users.delete", json!({ "id": "admin" })),
        ("auth.users.reset", json!({ "name": "admin" })),
        ("auth.roles.list", json!({})),
        ("auth.roles.set", json!({ "name": "guest", "scopes": ["metrics"] })),
        ("auth.roles.delete", json!({ "name": "guest" })),
        ("auth.sessions.list", json!({ "userId": "admin" })),
        ("auth.me", json!({ "userId": "admin" })),
    ]
}

#[tokio::test]
async fn an_ordinary_user_deals_with_nobody_else() {
    let setup = Setup::with_admin().await;
    let admins = setup.log_in("admin", ADMIN_PASSWORD).await.unwrap();
    let key = setup.key("admin", &["llm.chat"]).await;
    let login = setup.user("ada", "user").await;
    let own_key = setup.key("ada", &["llm.*", "key:own"]).await;
    for token in [&login["token"], &own_key["token"]] {
        let ada = setup.caller(token).await;
        for (capability, payload) in guarded() {
            assert_eq!(setup.by(ada.clone()).code(capability, payload).await, "forbidden", "{capability}");
        }
        for capability in ["auth.revokeKey", "auth.rotateKey"] {
            assert_eq!(
                setup.by(ada.clone()).code(capability, json!({ "id": key["id"] })).await,
                "not_found"
            );
        }
        let session = json!({ "id": admins["sessionId"] });
        assert_eq!(setup.by(ada.clone()).code("auth.sessions.revoke", session).await, "not_found");
        let session = json!({ "sessionId": admins["sessionId"] });
        assert_eq!(setup.by(ada.clone()).code("auth.logout", session).await, "forbidden");
        for capability in ["auth.bootstrap", "auth.outcome"] {
            let payload = match capability {
                "auth.outcome" => json!({ "operationIds": [] }),
                _ => json!({ "user": "x", "password": "12345678" }),
            };
            assert_eq!(setup.by(ada.clone()).code(capability, payload).await, "forbidden");
        }
    }
    assert!(setup.opens(&key["token"]).await && setup.opens(&admins["token"]).await);
}

#[tokio::test]
async fn the_host_itself_does_nothing_for_which_somebody_has_to_answer() {
    let setup = Setup::with_admin().await;
    for (capability, payload) in guarded() {
        assert_eq!(setup.by(Host).code(capability, payload).await, "forbidden", "{capability}");
    }
}

#[tokio::test]
async fn users_deal_with_what_is_their_own() {
    let setup = Setup::with_admin().await;
    let login = setup.user("ada", "user").await;
    let other = setup.log_in("ada", "password of ada").await.unwrap();
    let ada = setup.caller(&login["token"]).await;
    let me = setup.by(ada.clone()).ask("auth.me", json!({ "userId": login["userId"] })).await.unwrap();
    assert_eq!(me["name"], "ada");
    let renamed = json!({ "id": login["userId"], "displayName": "Ada L." });
    let user = setup.by(ada.clone()).ask("auth.users.update", renamed).await.unwrap();
    assert_eq!(user["displayName"], "Ada L.");
    let more = json!({ "id": "ada", "displayName": "x", "role": "admin" });
    assert_eq!(setup.by(ada.clone()).code("auth.users.update", more).await, "forbidden");
    assert_eq!(
        setup.by(ada.clone()).code("auth.users.update", json!({ "id": "ada", "disabled": false })).await,
        "forbidden"
    );

    for payload in [json!({}), json!({ "userId": "ada" }), json!({ "userId": login["userId"] })] {
        let sessions = setup.by(ada.clone()).ask("auth.sessions.list", payload).await.unwrap();
        assert_eq!(sessions["sessions"].as_array().unwrap().len(), 2);
    }
    setup.by(ada.clone()).ask("auth.sessions.revoke", json!({ "id": other["sessionId"] })).await.unwrap();
    assert!(!setup.opens(&other["token"]).await);

    let key = setup.by(ada.clone()).ask("auth.createKey", json!({ "scopes": ["llm.chat"] })).await.unwrap();
    assert_eq!((&key["user"], &key["createdBy"]), (&json!("ada"), &json!("ada")));
    setup.key("admin", &["llm.chat"]).await;
    let listed = setup.by(ada.clone()).ask("auth.listKeys", json!({})).await.unwrap();
    assert_eq!(listed["keys"].as_array().unwrap().len(), 1);
    setup.by(ada.clone()).ask("auth.rotateKey", json!({ "id": key["id"] })).await.unwrap();
    setup.by(ada).ask("auth.revokeKey", json!({ "id": key["id"] })).await.unwrap();
}

#[tokio::test]
async fn a_key_is_no_login_it_changes_nothing_about_its_user() {
    let setup = Setup::with_admin().await;
    let login = setup.user("ada", "user").await;
    let key = setup.key("ada", &["llm.*", "key:own"]).await;
    let ada = setup.caller(&key["token"]).await;
    for (capability, payload) in [
        ("auth.users.update", json!({ "id": "ada", "displayName": "x" })),
        (
            "auth.users.password",
            json!({ "id": "ada", "oldPassword": "password of ada", "newPassword": "12345678" }),
        ),
        ("auth.sessions.list", json!({})),
        ("auth.logout", json!({ "sessionId": login["sessionId"] })),
    ] {
        assert_eq!(setup.by(ada.clone()).code(capability, payload).await, "forbidden", "{capability}");
    }
    let session = json!({ "id": login["sessionId"] });
    assert_eq!(setup.by(ada).code("auth.sessions.revoke", session).await, "not_found");
}

#[tokio::test]
async fn a_key_gives_no_more_than_it_has() {
    let setup = Setup::with_admin().await;
    setup.user("ada", "operator").await;
    let maker = json!({
        "user": "ada", "scopes": ["key:own", "llm.chat"], "models": ["gpt-*"], "plugins": ["llmserver"],
        "limits": { "requestsPerMinute": 10 }, "expiresInDays": 10
    });
    let maker = setup.root().ask("auth.createKey", maker).await.unwrap();
    let key = setup.caller(&maker["token"]).await;
    let ask = |change: Value| {
        let mut payload = json!({ "scopes": ["llm.chat"] });
        payload.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        payload
    };
    for (change, param) in [
        (json!({ "scopes": ["llm.*"] }), "scopes"),
        (json!({ "scopes": ["llm.chat", "admin"] }), "scopes"),
        (json!({ "scopes": ["key:manage"] }), "scopes"),
        (json!({ "models": ["*"] }), "models"),
        (json!({ "plugins": ["ping"] }), "plugins"),
        (json!({ "limits": { "requestsPerMinute": 11 } }), "limits.requestsPerMinute"),
        (json!({ "expiresAt": null }), "expiresAt"),
        (json!({ "expiresInDays": 11 }), "expiresAt"),
    ] {
        let refused = setup.by(key.clone()).refused("auth.createKey", ask(change.clone())).await;
        assert_eq!(refused, refusal("forbidden", param), "{change}");
    }
    let others = ask(json!({ "user": "admin" }));
    assert_eq!(setup.by(key.clone()).code("auth.createKey", others).await, "forbidden");
    let child = setup.by(key.clone()).ask("auth.createKey", ask(json!({}))).await.unwrap();
    for member in ["models", "plugins", "limits", "expiresAt"] {
        assert_eq!(child[member], maker[member], "{member}");
    }

    // A wider key of the same user must not be taken over by giving it a new secret.
    let wider = setup.key("ada", &["llm.chat"]).await;
    let rotate = json!({ "id": wider["id"] });
    assert_eq!(
        setup.by(key.clone()).refused("auth.rotateKey", rotate).await,
        refusal("forbidden", "models")
    );
    setup.by(key.clone()).ask("auth.rotateKey", json!({ "id": child["id"] })).await.unwrap();
    setup.by(key).ask("auth.rotateKey", json!({ "id": maker["id"] })).await.unwrap();
}

#[tokio::test]
async fn an_operator_gets_no_hold_of_an_administrators_key() {
    let setup = Setup::with_admin().await;
    let key = setup.key("admin", &["admin"]).await;
    let login = setup.user("olga", "operator").await;
    let olga = setup.caller(&login["token"]).await;
    let ask = json!({ "user": "admin", "scopes": ["admin"] });
    assert_eq!(setup.by(olga.clone()).refused("auth.createKey", ask).await, refusal("forbidden", "scopes"));
    let rotate = json!({ "id": key["id"] });
    assert_eq!(setup.by(olga.clone()).refused("auth.rotateKey", rotate).await, refusal("forbidden", "id"));
    let listed = setup.by(olga.clone()).ask("auth.listKeys", json!({})).await.unwrap();
    assert_eq!(listed["keys"].as_array().unwrap().len(), 1);
    setup.by(olga).ask("auth.revokeKey", json!({ "id": key["id"] })).await.unwrap();
}

#[tokio::test]
async fn what_the_host_remembers_of_a_right_does_not_outlive_the_right() {
    let setup = Setup::with_admin().await;
    let login = setup.user("ada", "admin").await;
    let key = setup.key("ada", &["admin"]).await;
    let (by_login, by_key) = (setup.caller(&login["token"]).await, setup.caller(&key["token"]).await);
    let ask = json!({ "user": "ada", "scopes": ["admin"] });
    setup.by(by_login.clone()).ask("auth.createKey", ask.clone()).await.unwrap();

    setup.root().ask("auth.revokeKey", json!({ "id": key["id"] })).await.unwrap();
    assert_eq!(setup.by(by_key).code("auth.createKey", ask.clone()).await, "forbidden");
    setup.root().ask("auth.users.update", json!({ "id": "ada", "role": "user" })).await.unwrap();
    assert_eq!(setup.by(by_login.clone()).code("auth.createKey", ask.clone()).await, "forbidden");
    assert_eq!(setup.by(by_login.clone()).code("auth.users.list", json!({})).await, "forbidden");
    setup.root().ask("auth.users.delete", json!({ "id": "ada" })).await.unwrap();
    assert_eq!(setup.by(by_login).code("auth.listKeys", json!({})).await, "forbidden");
}

#[tokio::test]
async fn nobody_is_root_by_a_key() {
    let setup = Setup::with_admin().await;
    let false_root = Caller { key_id: Some("x".to_owned()), ..caller("root", &["admin"]) };
    assert_eq!(
        setup.by(false_root).code("auth.users.reset", json!({ "name": "admin" })).await,
        "forbidden"
    );
    let bogus = caller("admin", &["*", "llm.chat admin", "ADMIN"]);
    assert_eq!(setup.by(bogus).code("auth.users.list", json!({})).await, "forbidden");
}

#[tokio::test]
async fn a_secret_that_was_rotated_away_gets_nothing_that_outlives_it() {
    let setup = Setup::with_admin().await;
    let key = setup.key("admin", &["llm.chat", "key:own"]).await;
    let rotation = json!({ "id": key["id"], "graceSeconds": 60 });
    let new = setup.root().ask("auth.rotateKey", rotation).await.unwrap();
    let old_ends = setup.validate(&key["token"]).await["expiresAt"].clone();
    let old = setup.by(setup.caller(&key["token"]).await);

    assert_eq!(old.code("auth.rotateKey", json!({ "id": key["id"] })).await, "forbidden");
    assert!(setup.opens(&new["token"]).await, "the new secret is its owner's");
    let for_ever = json!({ "scopes": ["llm.chat"], "expiresAt": null });
    assert_eq!(old.code("auth.createKey", for_ever).await, "forbidden");
    let made = old.ask("auth.createKey", json!({ "scopes": ["llm.chat"] })).await.unwrap();
    assert_eq!(made["expiresAt"], old_ends);

    // When the old secret is over, the key is what it was.
    setup.sql(|connection| connection.execute("UPDATE keys SET previous_until = 0", [])).await;
    let owner = setup.by(setup.caller(&new["token"]).await);
    let made = owner.ask("auth.createKey", json!({ "scopes": ["llm.chat"] })).await.unwrap();
    assert_eq!(made["expiresAt"], key["expiresAt"]);
    owner.ask("auth.rotateKey", json!({ "id": key["id"] })).await.unwrap();
}
