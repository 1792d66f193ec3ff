//! Users and roles: made, changed, removed, and the first of them.

use serde_json::json;

use super::*;

#[tokio::test]
async fn without_users_nothing_is_answered_but_the_ways_to_the_first_one() {
    let setup = Setup::empty().await;
    for (capability, payload) in [
        ("auth.login", json!({ "username": "admin", "password": ADMIN_PASSWORD })),
        ("auth.refresh", json!({ "refreshToken": "x" })),
        ("auth.logout", json!({ "sessionId": "x" })),
        ("auth.me", json!({ "userId": "x" })),
        ("auth.createKey", json!({ "user": "admin", "scopes": ["llm.chat"] })),
        ("auth.listKeys", json!({})),
        ("auth.revokeKey", json!({ "id": "x" })),
        ("auth.rotateKey", json!({ "id": "x" })),
        ("auth.users.list", json!({})),
        ("auth.users.create", json!({ "name": "ada", "role": "user" })),
        ("auth.users.update", json!({ "id": "x" })),
        ("auth.users.password", json!({ "id": "x", "newPassword": "12345678" })),
        ("auth.users.delete", json!({ "id": "x" })),
        ("auth.roles.list", json!({})),
        ("auth.roles.set", json!({ "name": "guest", "scopes": ["metrics"] })),
        ("auth.roles.delete", json!({ "name": "viewer" })),
        ("auth.sessions.list", json!({})),
        ("auth.sessions.revoke", json!({ "id": "x" })),
        ("auth.outcome", json!({ "operationIds": ["x"] })),
    ] {
        assert_eq!(setup.root().code(capability, payload).await, "not_initialised", "{capability}");
    }
    assert_eq!(setup.accounts.hasher.checks(), 0);
    let verdict = setup.validate(&json!("anything")).await;
    assert_eq!(verdict, json!({ "active": false, "reason": "unknown", "generation": 0 }));
    let made = setup.root().ask("auth.users.reset", json!({ "name": "ada" })).await.unwrap();
    assert_eq!((&made["role"], &made["mustChangePassword"]), (&json!("admin"), &json!(true)));
}

#[tokio::test]
async fn the_first_user_is_made_once() {
    let setup = Setup::empty().await;
    let payload = json!({ "user": "admin", "password": ADMIN_PASSWORD, "mustChange": true });
    let asking = setup.by(caller("somebody", &["admin"]));
    assert_eq!(asking.code("auth.bootstrap", payload.clone()).await, "forbidden");
    let (host, root) = (setup.by(Host), setup.root());
    let both =
        [host.start("auth.bootstrap", payload.clone()), root.start("auth.bootstrap", payload.clone())];
    let mut outcomes = Vec::new();
    for request in both {
        outcomes.push(request.outcome().await.map(|user| user.read::<Value>().unwrap()));
    }
    let made = outcomes.iter().find_map(|outcome| outcome.as_ref().ok()).unwrap();
    let refused = outcomes.iter().find_map(|outcome| outcome.as_ref().err()).unwrap();
    assert_eq!(refused.code, "conflict");
    let members: Vec<&str> = made.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        members,
        [
            "id",
            "name",
            "displayName",
            "role",
            "scopes",
            "disabled",
            "mustChangePassword",
            "createdAt",
            "lastLoginAt",
            "limits",
            "keys",
            "sessions"
        ]
    );
    let setup = setup.restart().await;
    assert_eq!(setup.by(Host).code("auth.bootstrap", payload).await, "conflict");
}

#[tokio::test]
async fn a_new_user_must_change_the_password_before_anything_else() {
    let setup = Setup::with_admin().await;
    let ask = json!({ "name": "Ada", "role": "operator", "displayName": "Ada L." });
    let made = setup.root().ask("auth.users.create", ask).await.unwrap();
    assert_eq!((&made["name"], &made["displayName"]), (&json!("ada"), &json!("Ada L.")));
    let password = made["password"].as_str().unwrap();
    let login = setup.log_in("ada", password).await.unwrap();
    assert_eq!((&login["scopes"], &login["mustChangePassword"]), (&json!([]), &json!(true)));
    let verdict = setup.validate(&login["token"]).await;
    assert_eq!((&verdict["scopes"], &verdict["mustChangePassword"]), (&json!([]), &json!(true)));

    let ada = setup.caller(&login["token"]).await;
    let id = json!({ "id": "ada", "displayName": "x" });
    assert_eq!(setup.by(ada.clone()).code("auth.users.update", id).await, "forbidden");
    assert_eq!(setup.by(ada.clone()).code("auth.sessions.list", json!({})).await, "forbidden");
    let change = json!({
        "id": login["userId"], "oldPassword": password, "newPassword": "chosen by ada", "keepSession": login["sessionId"]
    });
    setup.by(ada).ask("auth.users.password", change).await.unwrap();
    let verdict = setup.validate(&login["token"]).await;
    assert_eq!(verdict.get("mustChangePassword"), None);
    assert_eq!(verdict["scopes"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn ones_own_password_needs_the_old_one_and_ends_all_other_sessions() {
    let setup = Setup::with_admin().await;
    let login = setup.user("ada", "user").await;
    let other = setup.log_in("ada", "password of ada").await.unwrap();
    let ada = setup.caller(&login["token"]).await;
    let change = |old: Value| json!({ "id": "ada", "oldPassword": old, "newPassword": "another one", "keepSession": login["sessionId"] });
    let missing = setup.by(ada.clone()).refused("auth.users.password", change(Value::Null)).await;
    assert_eq!(missing, refusal("invalid_request", "oldPassword"));
    for wrong in [json!("wrong"), json!("x".repeat(1_000)), json!("nul\0inside")] {
        assert_eq!(setup.by(ada.clone()).code("auth.users.password", change(wrong)).await, "unauthorized");
    }
    assert!(setup.opens(&other["token"]).await);
    setup.by(ada).ask("auth.users.password", change(json!("password of ada"))).await.unwrap();
    assert!(setup.opens(&login["token"]).await && !setup.opens(&other["token"]).await);
    assert_eq!(setup.log_in("ada", "password of ada").await.unwrap_err().code, "unauthorized");
    setup.log_in("ada", "another one").await.unwrap();

    setup
        .root()
        .ask("auth.users.password", json!({ "id": "ada", "newPassword": "by the admin" }))
        .await
        .unwrap();
    assert!(!setup.opens(&login["token"]).await);
}

#[tokio::test]
async fn a_disabled_users_sessions_do_not_come_back() {
    let setup = Setup::with_admin().await;
    let login = setup.user("ada", "user").await;
    setup.root().ask("auth.users.update", json!({ "id": "ada", "disabled": true })).await.unwrap();
    assert!(!setup.opens(&login["token"]).await);
    assert_eq!(setup.refresh(&login["refreshToken"]).await.unwrap_err().code, "unauthorized");
    setup.root().ask("auth.users.update", json!({ "id": "ada", "disabled": false })).await.unwrap();
    assert!(!setup.opens(&login["token"]).await);
}

#[tokio::test]
async fn keys_and_sessions_go_with_their_user() {
    let setup = Setup::with_admin().await;
    let login = setup.user("ada", "user").await;
    let key = setup.key("ada", &["llm.chat"]).await;
    let ada = setup.root().ask("auth.me", json!({ "userId": "ada" })).await.unwrap();
    assert_eq!((&ada["keys"], &ada["sessions"]), (&json!(1), &json!(1)));
    setup.root().ask("auth.users.delete", json!({ "id": login["userId"] })).await.unwrap();
    assert!(!setup.opens(&login["token"]).await && !setup.opens(&key["token"]).await);
    let keys = setup.root().ask("auth.listKeys", json!({})).await.unwrap();
    assert_eq!(keys, json!({ "keys": [] }));
    assert_eq!(setup.root().code("auth.users.delete", json!({ "id": "ada" })).await, "not_found");
}

#[tokio::test]
async fn the_last_administrator_stays_one() {
    let setup = Setup::with_admin().await;
    let disable = json!({ "id": "admin", "disabled": true });
    let demote = json!({ "id": "admin", "role": "operator" });
    let all = [
        ("auth.users.update", disable.clone()),
        ("auth.users.update", demote),
        ("auth.users.delete", json!({ "id": "admin" })),
    ];
    for (capability, payload) in all.clone() {
        assert_eq!(setup.root().code(capability, payload).await, "conflict");
    }
    setup.user("ada", "admin").await;
    setup.root().ask("auth.users.update", json!({ "id": "ada", "disabled": true })).await.unwrap();
    for (capability, payload) in all {
        assert_eq!(
            setup.root().code(capability, payload).await,
            "conflict",
            "a disabled one does not count"
        );
    }
    setup.root().ask("auth.users.update", json!({ "id": "ada", "disabled": false })).await.unwrap();
    setup.root().ask("auth.users.update", disable).await.unwrap();
}

#[tokio::test]
async fn a_reset_lets_an_administrator_in_whatever_was_before() {
    let setup = Setup::with_admin().await;
    let login = setup.user("ada", "viewer").await;
    setup.root().ask("auth.users.update", json!({ "id": "ada", "disabled": true })).await.unwrap();
    let asking = setup.by(caller("admin", &["admin"]));
    assert_eq!(asking.code("auth.users.reset", json!({ "name": "ada" })).await, "forbidden");
    assert_eq!(setup.by(Host).code("auth.users.reset", json!({ "name": "ada" })).await, "forbidden");

    let reset = json!({ "name": "ada", "password": "a new password" });
    let user = setup.root().ask("auth.users.reset", reset).await.unwrap();
    assert_eq!((&user["role"], &user["disabled"]), (&json!("admin"), &json!(false)));
    assert_eq!((user.get("password"), &user["scopes"]), (None, &json!(["admin"])));
    assert!(!setup.opens(&login["token"]).await);
    assert_eq!(setup.log_in("ada", "a new password").await.unwrap()["scopes"], json!(["admin"]));

    let made = setup.root().ask("auth.users.reset", json!({ "name": "ada" })).await.unwrap();
    let login = setup.log_in("ada", made["password"].as_str().unwrap()).await.unwrap();
    assert_eq!(login["mustChangePassword"], true);
}

#[tokio::test]
async fn roles_are_made_changed_and_removed() {
    let setup = Setup::with_admin().await;
    let roles = setup.root().ask("auth.roles.list", json!({})).await.unwrap();
    assert_eq!(
        roles,
        json!({ "roles": [
            { "name": "admin", "scopes": ["admin"], "builtIn": true, "users": 1 },
            { "name": "operator", "scopes": ["llm.*", "plugin:manage", "key:manage", "audit:read", "metrics"], "builtIn": true, "users": 0 },
            { "name": "user", "scopes": ["llm.*", "key:own"], "builtIn": true, "users": 0 },
            { "name": "viewer", "scopes": ["plugin:read", "metrics"], "builtIn": true, "users": 0 }
        ] })
    );
    let set = json!({ "name": "guest", "scopes": ["metrics", "llm.chat", "metrics"] });
    let guest = setup.root().ask("auth.roles.set", set).await.unwrap();
    assert_eq!(
        guest,
        json!({ "name": "guest", "scopes": ["llm.chat", "metrics"], "builtIn": false, "users": 0 })
    );
    let changed = json!({ "name": "viewer", "scopes": ["metrics"] });
    assert_eq!(setup.root().ask("auth.roles.set", changed).await.unwrap()["builtIn"], true);
    setup.user("ada", "guest").await;
    for (name, code) in
        [("guest", "conflict"), ("viewer", "conflict"), ("admin", "conflict"), ("nothing", "not_found")]
    {
        assert_eq!(setup.root().code("auth.roles.delete", json!({ "name": name })).await, code, "{name}");
    }
    setup.root().ask("auth.users.update", json!({ "id": "ada", "role": "user" })).await.unwrap();
    setup.root().ask("auth.roles.delete", json!({ "name": "guest" })).await.unwrap();
    let gone = json!({ "id": "ada", "role": "guest" });
    assert_eq!(setup.root().refused("auth.users.update", gone).await, refusal("invalid_request", "role"));
}

#[tokio::test]
async fn odd_names_are_refused_and_taken_ones_too() {
    let setup = Setup::with_admin().await;
    let long = "a".repeat(64 << 10);
    for name in ["", "root", "ROOT", "a b", "'", "a\0", "é", "../x", &long] {
        let ask = json!({ "name": name, "role": "user" });
        let expected = refusal("invalid_request", "name");
        assert_eq!(setup.root().refused("auth.users.create", ask).await, expected, "{name:.20}");
    }
    let taken = json!({ "name": "Admin", "role": "user" });
    assert_eq!(setup.root().code("auth.users.create", taken).await, "conflict");
    let users = setup.root().ask("auth.users.list", json!({})).await.unwrap();
    assert_eq!(users["users"].as_array().unwrap().len(), 1);
}
