//! What was acknowledged is there after a kill.
//!
//! The test runs itself again as a child, which makes and revokes keys until it is killed.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::json;

use super::*;

/// Names the directory to the child.
const DIRECTORY: &str = "BKG_TEST_SURVIVAL_DIRECTORY";
const ROUNDS: usize = 5;

#[tokio::test]
async fn acknowledged_changes_survive_a_kill() {
    if let Ok(directory) = std::env::var(DIRECTORY) {
        return make_and_revoke_keys(directory.as_ref()).await;
    }
    for round in 0..ROUNDS {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::survival::acknowledged_changes_survive_a_kill", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut acknowledged = Vec::new();
        // The child goes on while the kill is on its way, so it meets it anywhere.
        for line in lines {
            if let Some(said) = line.strip_prefix("acknowledged ") {
                acknowledged.push(said.to_owned());
            }
            if acknowledged.len() == 20 + 7 * round {
                child.kill().unwrap();
            }
        }
        assert!(!child.wait().unwrap().success());

        let setup = Setup::in_directory(directory, json!({ "bcryptCost": 4 })).await;
        let revoked = |token: &str| acknowledged.iter().any(|said| said == &format!("revoked {token}"));
        let made = acknowledged.iter().filter_map(|said| said.strip_prefix("made "));
        let mut count = 0;
        for token in made {
            count += 1;
            let is_open = setup.opens(&json!(token)).await;
            // A revocation that was not acknowledged may have happened, a making that was must have.
            let verdict = setup.validate(&json!(token)).await;
            assert_ne!(verdict["reason"], "unknown", "{verdict}");
            assert!(!(is_open && revoked(token)), "{verdict}");
        }
        assert!(count >= 10, "{acknowledged:?}");
        let generation = setup.validate(&json!("x")).await["generation"].as_u64().unwrap();
        assert!(generation as usize > acknowledged.len(), "{generation}");
    }
}

async fn make_and_revoke_keys(directory: &Path) {
    let opened = directory.to_owned();
    let accounts = tokio::task::spawn_blocking(move || Accounts::open(&opened).unwrap()).await.unwrap();
    let host = TestHost::builder()
        .name("apikeys")
        .settings(json!({ "bcryptCost": 4 }))
        .start(plugin(&accounts))
        .await;
    let setup = Setup { host, accounts, directory: tempfile::tempdir().unwrap() };
    setup.bootstrap().await;
    loop {
        let key = setup.key("admin", &["llm.chat"]).await;
        println!("acknowledged made {}", key["token"].as_str().unwrap());
        setup.root().ask("auth.revokeKey", json!({ "id": key["id"] })).await.unwrap();
        println!("acknowledged revoked {}", key["token"].as_str().unwrap());
    }
}
