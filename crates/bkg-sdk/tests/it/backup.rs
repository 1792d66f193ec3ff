//! A backup lists what the plugin wrote, and says so where it could not.

use std::path::Path;

use bkg_sdk::Plugin;
use bkg_sdk::testing::TestHost;
use serde_json::{Value, json};

#[tokio::test]
async fn what_the_handler_leaves_in_the_directory_is_what_the_host_is_told() {
    let plugin = Plugin::new().backup(|directory| async move {
        std::fs::create_dir_all(directory.join("deep/er"))?;
        std::fs::write(directory.join("deep/er/notes.txt"), "b")?;
        std::fs::write(directory.join("a.db"), "a")?;
        std::os::unix::fs::symlink("/etc/passwd", directory.join("link"))
    });
    let host = TestHost::start(plugin).await;
    assert_eq!(host.seen().registrations[0].capabilities[0].id.as_str(), "lifecycle.backup");
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("a-backup");
    std::fs::remove_dir_all(&place).ok();
    std::fs::create_dir(&place).unwrap();
    let copied = host.request("lifecycle.backup", json!({ "directory": place })).await.unwrap();
    assert_eq!(copied.read::<Value>().unwrap(), json!({ "files": ["a.db", "deep/er/notes.txt"] }));
}

#[tokio::test]
async fn what_the_handler_cannot_do_is_a_reason() {
    let plugin = Plugin::new().backup(|_| async { std::fs::read("/nowhere/notes.txt").map(drop) });
    let host = TestHost::start(plugin).await;
    let error = host.request("lifecycle.backup", json!({ "directory": "/nowhere" })).await.unwrap_err();
    assert_eq!(error.code, "plugin_error");
    assert!(error.message.starts_with("the backup failed: "), "{error}");
    let error = host.request("lifecycle.backup", json!({})).await.unwrap_err();
    assert_eq!(error.code, "invalid_request");
}
