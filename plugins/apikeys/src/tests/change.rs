//! Every change: durable, announced, answered, in this order, and once.

use bkg_protocol::message::CancelReason;
use bkg_sdk::AuthChanged;
use serde_json::json;

use super::*;

/// Asks for a change and answers what the host was told before the answer came.
async fn announced(
    asking: Asking<'_>,
    capability: &str,
    payload: Value,
) -> (AuthChanged, Result<Value, WireError>) {
    let before = asking.setup.host.seen();
    let outcome = asking.ask(capability, payload).await;
    let after = asking.setup.host.seen();
    assert_eq!(after.auth_changes.len(), before.auth_changes.len() + 1, "`{capability}`: {outcome:?}");
    let answers = *after.answers_before_auth_changes.last().unwrap();
    assert_eq!(answers, before.answers.len(), "`{capability}` was answered before it was announced");
    (after.auth_changes.last().unwrap().clone(), outcome)
}

#[tokio::test]
async fn every_change_is_announced_before_its_answer_and_says_whom_it_concerns() {
    let setup = Setup::empty().await;
    let mut generation = 0;
    let mut check = |changed: &AuthChanged, member: Option<&str>, id: &Value| {
        generation += 1;
        let mut expected = json!({ "generation": generation });
        if let Some(member) = member {
            expected[member] = id.clone();
        }
        assert_eq!(serde_json::to_value(changed).unwrap(), expected);
    };

    let first = json!({ "user": "admin", "password": ADMIN_PASSWORD, "mustChange": true });
    let (changed, admin) = announced(setup.by(Host), "auth.bootstrap", first).await;
    let admin = admin.unwrap()["id"].clone();
    check(&changed, Some("userId"), &admin);

    let password = json!({ "username": "admin", "password": ADMIN_PASSWORD });
    let (changed, login) = announced(setup.by(Host), "auth.login", password).await;
    let login = login.unwrap();
    check(&changed, Some("sessionId"), &login["sessionId"]);

    let spent = json!({ "refreshToken": login["refreshToken"] });
    let (changed, renewed) = announced(setup.by(Host), "auth.refresh", spent.clone()).await;
    assert_eq!(renewed.unwrap()["sessionId"], login["sessionId"]);
    check(&changed, Some("sessionId"), &login["sessionId"]);

    let (changed, reused) = announced(setup.by(Host), "auth.refresh", spent).await;
    assert_eq!(reused.unwrap_err().code, "reused");
    check(&changed, Some("sessionId"), &login["sessionId"]);

    let login = setup.log_in("admin", ADMIN_PASSWORD).await.unwrap();
    let over = json!({ "sessionId": login["sessionId"] });
    // The login before it was announced too.
    check(setup.host.seen().auth_changes.last().unwrap(), Some("sessionId"), &login["sessionId"]);
    let (changed, _) = announced(setup.by(Host), "auth.logout", over).await;
    check(&changed, Some("sessionId"), &login["sessionId"]);

    let ask = json!({ "user": "admin", "scopes": ["llm.chat"] });
    let (changed, key) = announced(setup.root(), "auth.createKey", ask).await;
    let id = key.unwrap()["id"].clone();
    check(&changed, Some("keyId"), &id);
    for capability in ["auth.rotateKey", "auth.revokeKey"] {
        let (changed, _) = announced(setup.root(), capability, json!({ "id": id })).await;
        check(&changed, Some("keyId"), &id);
    }

    let (changed, _) =
        announced(setup.root(), "auth.roles.set", json!({ "name": "guest", "scopes": ["metrics"] })).await;
    check(&changed, None, &Value::Null);
    let ask = json!({ "name": "ada", "role": "guest" });
    let (changed, ada) = announced(setup.root(), "auth.users.create", ask).await;
    let ada = ada.unwrap();
    check(&changed, Some("userId"), &ada["id"]);
    let login = setup.log_in("ada", ada["password"].as_str().unwrap()).await.unwrap();
    check(setup.host.seen().auth_changes.last().unwrap(), Some("sessionId"), &login["sessionId"]);
    let (changed, _) =
        announced(setup.root(), "auth.sessions.revoke", json!({ "id": login["sessionId"] })).await;
    check(&changed, Some("sessionId"), &login["sessionId"]);
    for (capability, payload) in [
        ("auth.users.update", json!({ "id": "ada", "role": "user" })),
        ("auth.users.password", json!({ "id": "ada", "newPassword": "another password" })),
        ("auth.users.reset", json!({ "name": "ada" })),
        ("auth.users.delete", json!({ "id": "ada" })),
    ] {
        let (changed, _) = announced(setup.root(), capability, payload).await;
        check(&changed, Some("userId"), &ada["id"]);
    }
    let (changed, _) = announced(setup.root(), "auth.roles.delete", json!({ "name": "guest" })).await;
    check(&changed, None, &Value::Null);
}

#[tokio::test]
async fn what_is_refused_changes_and_announces_nothing() {
    let setup = Setup::with_admin().await;
    let before = (setup.host.seen().auth_changes.len(), setup.validate(&json!("x")).await);
    for (capability, payload) in [
        ("auth.users.delete", json!({ "id": "admin" })),
        ("auth.users.update", json!({ "id": "admin", "disabled": true })),
        ("auth.roles.set", json!({ "name": "admin", "scopes": ["metrics"] })),
        ("auth.revokeKey", json!({ "id": "nothing" })),
    ] {
        setup.root().refused(capability, payload).await;
    }
    setup.log_in("admin", "wrong password").await.unwrap_err();
    let logout = json!({ "sessionId": "nothing" });
    assert_eq!(setup.by(Host).ask("auth.logout", logout).await.unwrap(), json!({}));
    assert_eq!((setup.host.seen().auth_changes.len(), setup.validate(&json!("x")).await), before);
}

#[tokio::test]
async fn generations_grow_over_restarts_and_many_changes_are_announced_in_order() {
    let setup = Setup::with_admin().await.restart().await;
    assert_eq!(setup.validate(&json!("x")).await["generation"], 1);
    let ask = json!({ "user": "admin", "scopes": ["llm.chat"] });
    let root = setup.root();
    let under_way: Vec<_> = (0..50).map(|_| root.start("auth.createKey", ask.clone())).collect();
    for request in under_way {
        request.outcome().await.unwrap();
    }
    let seen = setup.host.seen();
    let generations: Vec<u64> = seen.auth_changes.iter().map(|changed| changed.generation).collect();
    assert_eq!(generations, (2..=51).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_validation_beside_a_revocation_is_inactive_or_of_an_earlier_generation() {
    let setup = Setup::with_admin().await;
    for _ in 0..20 {
        let key = setup.key("admin", &["llm.chat"]).await;
        let (host, root) = (setup.by(Host), setup.root());
        let mut checks: Vec<_> =
            (0..4).map(|_| host.start("auth.validate", json!({ "token": key["token"] }))).collect();
        let revoking = root.start("auth.revokeKey", json!({ "id": key["id"] }));
        checks.extend((0..4).map(|_| host.start("auth.validate", json!({ "token": key["token"] }))));
        revoking.outcome().await.unwrap();
        let changed = setup.host.seen().auth_changes.last().unwrap().generation;
        for check in checks {
            let verdict: Value = check.outcome().await.unwrap().read().unwrap();
            let generation = verdict["generation"].as_u64().unwrap();
            assert_eq!(verdict["active"] == true, generation < changed, "{verdict} {changed}");
        }
    }
}

#[tokio::test]
async fn a_change_whose_caller_has_left_is_made_and_announced() {
    let setup = Setup::with_admin().await;
    let key = setup.key("admin", &["llm.chat"]).await;
    // The writer is busy, so that the caller leaves while the change waits for it.
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let (begun, beginning) = tokio::sync::oneshot::channel();
    let database = setup.accounts.database.clone();
    let busy = tokio::spawn(async move {
        database
            .write(move |_| {
                let _ = begun.send(());
                let _ = held.recv();
                Ok::<_, DatabaseError>(())
            })
            .await
    });
    beginning.await.unwrap();
    let revoking = setup.root().start("auth.revokeKey", json!({ "id": key["id"] }));
    // An answer to a later request shows that the plugin has read the one before.
    assert!(setup.opens(&key["token"]).await);
    let id = revoking.id().clone();
    revoking.cancel(CancelReason::CallerGone);
    setup
        .host
        .until("the plugin gave the request up", |seen| seen.answers.iter().any(|(of, _)| *of == id))
        .await;
    drop(hold);
    busy.await.unwrap().unwrap();
    let id = key["id"].as_str().map(str::to_owned);
    setup
        .host
        .until("the revocation is announced", |seen| {
            seen.auth_changes.last().is_some_and(|changed| changed.generation == 3 && changed.key_id == id)
        })
        .await;
    assert!(!setup.opens(&key["token"]).await);
}

#[tokio::test]
async fn an_operation_is_carried_out_once_and_is_known_afterwards() {
    let setup = Setup::with_admin().await;
    let ask = json!({ "user": "admin", "scopes": ["llm.chat"], "operationId": "one" });
    setup.root().ask("auth.createKey", ask.clone()).await.unwrap();
    assert_eq!(setup.root().code("auth.createKey", ask).await, "conflict");
    let refused = json!({ "id": "nobody", "operationId": "two" });
    assert_eq!(setup.root().code("auth.users.delete", refused).await, "not_found");
    let over = json!({ "sessionId": "nothing", "operationId": "three" });
    setup.by(Host).ask("auth.logout", over).await.unwrap();
    let listed = setup.root().ask("auth.listKeys", json!({})).await.unwrap();
    assert_eq!(listed["keys"].as_array().unwrap().len(), 1);

    let setup = setup.restart().await;
    let question = json!({ "operationIds": ["one", "two", "three", "never"] });
    let outcomes = setup.by(Host).ask("auth.outcome", question).await.unwrap();
    assert_eq!(
        outcomes,
        json!({ "outcomes": { "one": "done", "two": "unknown", "three": "done", "never": "unknown" } })
    );
}

#[tokio::test]
async fn an_operation_that_was_called_unknown_never_happens() {
    let setup = Setup::with_admin().await;
    let question = json!({ "operationIds": ["late"] });
    let outcomes = setup.by(Host).ask("auth.outcome", question.clone()).await.unwrap();
    assert_eq!(outcomes, json!({ "outcomes": { "late": "unknown" } }));
    let ask = json!({ "user": "admin", "scopes": ["llm.chat"], "operationId": "late" });
    assert_eq!(setup.root().code("auth.createKey", ask).await, "conflict");
    let listed = setup.root().ask("auth.listKeys", json!({})).await.unwrap();
    assert_eq!(listed["keys"], json!([]));
    assert_eq!(setup.by(Host).ask("auth.outcome", question).await.unwrap(), outcomes);
}

#[tokio::test]
async fn what_is_said_of_an_operation_under_way_is_what_becomes_of_it() {
    let setup = Setup::with_admin().await;
    let (host, root) = (setup.by(Host), setup.root());
    for number in 0..20 {
        let id = format!("u{number}");
        // Its password is hashed before it is written.
        let ask = json!({ "name": id, "role": "user", "operationId": id });
        let creating = root.start("auth.users.create", ask);
        let outcomes = host.ask("auth.outcome", json!({ "operationIds": [id] })).await.unwrap();
        let created = creating.outcome().await;
        assert_eq!(outcomes["outcomes"][&id] == "done", created.is_ok(), "{outcomes} {created:?}");
    }
}

#[tokio::test]
async fn a_change_needs_the_id_of_its_operation() {
    let setup = Setup::with_admin().await;
    let mut request =
        message::Request::new("auth.revokeKey".parse().unwrap(), RawJson::of(&json!({ "id": "x" })));
    request.caller = Option::<Caller>::from(Root).map(Arc::new);
    let error = setup.host.send(request).outcome().await.unwrap_err();
    assert_eq!((error.code.as_str(), error.param.as_deref()), ("invalid_request", Some("operationId")));
}

#[tokio::test]
async fn a_database_that_takes_no_writes_acknowledges_nothing_and_shows() {
    let setup = Setup::with_admin().await;
    let key = setup.key("admin", &["llm.chat"]).await;
    // As a full disk has it: not one page more.
    setup
        .sql(|connection| {
            let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
            connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
        })
        .await;
    let label = "x".repeat(128);
    let ask = json!({ "user": "admin", "scopes": ["llm.chat"], "name": label });
    let mut made = 1;
    let error = loop {
        match setup.root().ask("auth.createKey", ask.clone()).await {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.code, "insufficient_storage");
    let seen = setup.host.seen();
    assert_eq!(seen.auth_changes.last().unwrap().generation, made + 1, "nothing more was announced");
    setup
        .host
        .until("its health says so", |seen| {
            seen.health.last().is_some_and(|health| {
                health.status == "degraded" && health.detail.as_deref().unwrap_or_default().contains("full")
            })
        })
        .await;
    assert!(setup.opens(&key["token"]).await, "what is there is still checked");
    setup
        .host
        .until("its health is up again", |seen| {
            seen.health.last().is_some_and(|health| health.status == "up")
        })
        .await;
}

#[tokio::test]
async fn changes_that_fail_together_on_a_full_disk_leave_the_checking_of_keys_up() {
    let setup = Setup::with_admin().await;
    let key = setup.key("admin", &["llm.chat"]).await;
    setup
        .sql(|connection| {
            let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
            connection.query_row(&format!("PRAGMA max_page_count = {}", pages + 2), [], |_| Ok(()))
        })
        .await;
    let ask = json!({ "user": "admin", "scopes": ["llm.chat"], "name": "x".repeat(128) });
    let root = setup.root();
    // The writer is busy, so that all of them share a transaction, and the first fit.
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let database = setup.accounts.database.clone();
    let busy = tokio::spawn(async move {
        let wait = move |_: &bkg_sqlite::rusqlite::Connection| {
            let _ = held.recv();
            Ok::<_, DatabaseError>(())
        };
        database.write(wait).await
    });
    let under_way: Vec<_> = (0..200).map(|_| root.start("auth.createKey", ask.clone())).collect();
    assert!(setup.opens(&key["token"]).await);
    drop(hold);
    busy.await.unwrap().unwrap();
    let mut codes = std::collections::BTreeSet::new();
    for request in under_way {
        if let Err(error) = request.outcome().await {
            codes.insert(error.code.to_string());
        }
    }
    assert!(codes.contains("insufficient_storage"), "{codes:?}");
    let healths: Vec<String> =
        setup.host.seen().health.iter().map(|health| health.status.to_string()).collect();
    assert!(!healths.iter().any(|health| health == "down"), "{healths:?} {codes:?}");
}
