//! A copy of a running plugin is a directory in which the plugin starts, with all that was answered.

use serde_json::json;

use super::*;

#[tokio::test]
async fn a_copy_holds_what_was_answered_before_and_nothing_of_later() {
    let setup = Setup::with_admin().await;
    let before = setup.log_in("admin", ADMIN_PASSWORD).await.unwrap()["token"].clone();
    let copy = tempfile::tempdir().unwrap();
    let copied = setup.by(Host).ask("lifecycle.backup", json!({ "directory": copy.path() })).await.unwrap();
    assert_eq!(copied, json!({ "files": ["apikeys.db", "hmac.key"] }));
    let after = setup.log_in("admin", ADMIN_PASSWORD).await.unwrap()["token"].clone();
    assert!(setup.opens(&before).await && setup.opens(&after).await);

    let restored = Setup::in_directory(copy, json!({ "bcryptCost": 4 })).await;
    assert!(restored.opens(&before).await);
    assert!(!restored.opens(&after).await);
}

#[tokio::test]
async fn where_there_is_no_room_for_a_copy_the_reason_is_said() {
    let setup = Setup::with_admin().await;
    let nowhere = json!({ "directory": setup.path().join("nowhere") });
    let error = setup.by(Host).ask("lifecycle.backup", nowhere).await.unwrap_err();
    assert_eq!(error.code, "plugin_error");
    assert!(error.message.starts_with("the backup failed: "), "{error}");
}
