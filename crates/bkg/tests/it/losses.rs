//! Files that are lost, damaged, or of another program or version: each side refuses its own, says what
//! to do, and opens nothing to anybody meanwhile.
//!
//! With the real binary and the provider that is shipped. What a crash leaves is no damage: `durability`.

use std::fs;
use std::path::{Path, PathBuf};

use bkg_sqlite::rusqlite::Connection;
use serde_json::{Value, json};

use crate::daemon::{Place, until};
use crate::durability::check_audit;
use crate::logins::PASSWORD;
use crate::visitor::{Visitor, refusal};

/// A password that counted if anything began anew.
const INTRUDER: &str = "whoever deletes files becomes administrator";

/// A way to lose a database.
#[derive(Debug, Clone, Copy)]
enum Damage {
    /// It is gone, with everything beside it that begins with its name.
    Deleted,
    Emptied,
    Halved,
    ByteFlipped,
    Newer,
    Foreign,
}

impl Damage {
    const ALL: [Self; 6] =
        [Self::Deleted, Self::Emptied, Self::Halved, Self::ByteFlipped, Self::Newer, Self::Foreign];

    fn inflict(self, database: &Path) {
        let whole = fs::read(database).unwrap();
        let tamper = |sql: &str| {
            Connection::open(database).unwrap().execute_batch(sql).unwrap();
            fs::remove_file(seal(database)).unwrap();
        };
        match self {
            Self::Deleted => {
                for file in beside(database) {
                    fs::remove_file(file).unwrap();
                }
            }
            Self::Emptied => fs::write(database, "").unwrap(),
            Self::Halved => fs::write(database, &whole[..whole.len() / 2]).unwrap(),
            Self::ByteFlipped => {
                let mut flipped = whole;
                let middle = flipped.len() / 2;
                flipped[middle] ^= 1;
                fs::write(database, flipped).unwrap();
            }
            Self::Newer => tamper("PRAGMA user_version = 99"),
            Self::Foreign => tamper("PRAGMA application_id = 7"),
        }
    }

    /// What the message says besides the file, so that somebody can act on it.
    fn way_out(self) -> &'static str {
        match self {
            Self::Deleted | Self::Emptied | Self::Halved | Self::ByteFlipped => "restore",
            Self::Newer => "start the newer program",
            Self::Foreign => "put the right file there",
        }
    }
}

fn seal(database: &Path) -> PathBuf {
    let name = database.file_name().unwrap().to_str().unwrap();
    database.with_file_name(format!("{name}.seal"))
}

/// The files of a database.
fn beside(database: &Path) -> Vec<PathBuf> {
    let name = database.file_name().unwrap().to_str().unwrap();
    let all = fs::read_dir(database.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(name)).collect()
}

/// Files as they are, to be put back.
struct Backup(Vec<(PathBuf, Vec<u8>)>);

impl Backup {
    fn of(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self(files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect())
    }

    fn restore(&self) {
        for file in beside(&self.0[0].0) {
            fs::remove_file(file).unwrap();
        }
        for (path, content) in &self.0 {
            fs::write(path, content).unwrap();
        }
    }
}

/// A place whose administrator has chosen [`PASSWORD`], after a clean stop; with a key.
async fn used() -> (Place, String) {
    let mut place = Place::new();
    place.set("ADMIN_PASSWORD", PASSWORD);
    let daemon = place.start().await;
    let made = daemon.root().make_key(json!({ "user": "admin", "scopes": ["llm.chat"] })).await;
    daemon.stop().await;
    place.set("ADMIN_PASSWORD", INTRUDER);
    (place, made["key"].as_str().unwrap().to_owned())
}

/// Everything works that worked before.
async fn check_whole(place: &Place, key: &str) {
    let daemon = place.start().await;
    let visitor = Visitor::at(daemon.port());
    assert_eq!(visitor.with(key).get("/v1/models").await.status, 200);
    assert_eq!(visitor.try_login("admin", PASSWORD).await.status, 200);
    daemon.stop().await;
}

#[tokio::test]
async fn a_host_refuses_a_damaged_database_and_says_what_to_do() {
    let (place, key) = used().await;
    let database = place.file("bkg.db");
    let backup = Backup::of(beside(&database));
    for damage in Damage::ALL {
        damage.inflict(&database);
        let left = fs::read(&database).ok();
        let (status, said) = place.start_in_vain().await;
        assert_eq!(status.code(), Some(6), "{damage:?}: {said}");
        assert!(said.contains("bkg.db") && said.contains(damage.way_out()), "{damage:?}: {said}");
        assert_eq!(fs::read(&database).ok(), left, "{damage:?}: what is refused stays as it is");
        backup.restore();
    }
    check_whole(&place, &key).await;
}

#[tokio::test]
async fn a_host_refuses_to_go_on_without_its_keys() {
    let (place, key) = used().await;
    for name in ["audit.key", "root.key", "secrets.key"] {
        let file = place.file(name);
        let content = fs::read(&file).unwrap();
        fs::write(&file, "").unwrap();
        let (status, said) = place.start_in_vain().await;
        assert_eq!(status.code(), Some(6), "{name}: {said}");
        assert!(said.contains(name) && said.contains("restore it from a backup"), "{said}");
        fs::write(&file, content).unwrap();
    }
    let file = place.file("audit.key");
    let content = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let (status, said) = place.start_in_vain().await;
    assert_eq!(status.code(), Some(6), "{said}");
    assert!(said.contains("audit.key") && said.contains("backup") && !file.exists(), "{said}");
    fs::write(&file, content).unwrap();
    check_whole(&place, &key).await;
}

#[tokio::test]
async fn another_key_for_the_secrets_is_refused_until_its_owner_gives_the_old_one_up() {
    let (place, key) = used().await;
    let file = place.file("secrets.key");
    let content = fs::read(&file).unwrap();
    let other: Vec<u8> = content.iter().rev().copied().collect();
    // Backwards it may be no key: its last character holds four bits only.
    let other = [&other[1..], b"A"].concat();
    fs::write(&file, &other).unwrap();
    let (status, said) = place.start_in_vain().await;
    assert_eq!(status.code(), Some(6), "{said}");
    assert!(said.contains("secrets.key") && said.contains("write `new` into the file"), "{said}");
    assert_eq!(fs::read(&file).unwrap(), other, "what is refused stays as it is");
    fs::write(&file, "new\n").unwrap();
    check_whole(&place, &key).await;
    let made = fs::read(&file).unwrap();
    assert!(made.len() == content.len() && made != content && made != other);
    let export = String::from_utf8(place.run(&["audit", "export"]).stdout).unwrap();
    assert!(export.contains("secrets.give_up"), "{export}");
}

/// A command about the provider says all these words, as soon as it has written them.
async fn check_says(place: &Place, command: &str, words: &[&str]) {
    let say = || String::from_utf8(place.run(&["plugin", command, "apikeys"]).stdout).unwrap();
    let said = until(|| {
        let said = say();
        words.iter().all(|word| said.contains(word)).then_some(())
    });
    assert_eq!(said.await, Some(()), "`plugin {command}` does not say {words:?}: {}", say());
}

/// The daemon runs, the root key opens it, nothing else does, and the operator is told why.
async fn check_refused(place: &Place, key: &str, words: &[&str]) {
    let daemon = place.start().await;
    assert_eq!(daemon.root().get("/admin/plugins").await.status, 200);
    check_says(place, "logs", words).await;
    let visitor = Visitor::at(daemon.port());
    let holder = visitor.with(key);
    // Each waits a little for a provider that might be on its way back.
    let (refused, owner, intruder) = tokio::join!(
        holder.get("/v1/models"),
        visitor.try_login("admin", PASSWORD),
        visitor.try_login("admin", INTRUDER)
    );
    assert_eq!(refusal(&refused), (503, "plugin_unavailable".to_owned()), "{}", refused.text);
    assert_eq!((owner.status.as_u16(), intruder.status.as_u16()), (503, 503));
    assert!(!place.file("initial-password").exists(), "nothing begins anew");
    daemon.stop().await;
}

#[tokio::test]
async fn the_provider_refuses_a_damaged_database_and_says_what_to_do() {
    let (place, key) = used().await;
    let database = place.file("plugins/apikeys/data/apikeys.db");
    let backup = Backup::of(beside(&database));
    for damage in Damage::ALL {
        damage.inflict(&database);
        let left = fs::read(&database).ok();
        check_refused(&place, &key, &["apikeys.db", damage.way_out()]).await;
        assert_eq!(fs::read(&database).ok(), left, "{damage:?}: what is refused stays as it is");
        backup.restore();
    }
    check_whole(&place, &key).await;
}

#[tokio::test]
async fn whoever_looks_at_the_provider_is_told_why_it_refuses() {
    let (place, _) = used().await;
    Damage::Deleted.inflict(&place.file("plugins/apikeys/data/apikeys.db"));
    let daemon = place.start().await;
    check_says(&place, "show", &["apikeys.db", "is lost", "restore it from a backup"]).await;
    daemon.stop().await;
}

#[tokio::test]
async fn the_provider_refuses_to_go_on_without_its_key() {
    let (place, key) = used().await;
    let file = place.file("plugins/apikeys/data/hmac.key");
    let content = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    check_refused(&place, &key, &["hmac.key", "restore"]).await;
    assert!(!file.exists());
    let other: Vec<u8> = content.iter().rev().copied().skip_while(|byte| *byte == b'\n').collect();
    for wrong in [Vec::new(), b"no key".to_vec(), other] {
        fs::write(&file, &wrong).unwrap();
        check_refused(&place, &key, &["hmac.key"]).await;
        assert_eq!(fs::read(&file).unwrap(), wrong);
    }
    fs::write(&file, content).unwrap();
    check_whole(&place, &key).await;
}

#[tokio::test]
async fn who_has_no_backup_of_the_users_begins_anew_with_the_root_key_alone() {
    let (place, key) = used().await;
    let database = place.file("plugins/apikeys/data/apikeys.db");
    Damage::Deleted.inflict(&database);
    check_refused(&place, &key, &["apikeys.db", "hmac.key"]).await;
    // The way out that the message names.
    fs::remove_file(place.file("plugins/apikeys/data/hmac.key")).unwrap();
    let daemon = place.start().await;
    let visitor = Visitor::at(daemon.port());
    assert!(!place.file("initial-password").exists());
    for password in [PASSWORD, INTRUDER] {
        let refused = visitor.try_login("admin", password).await;
        assert_eq!(refused.status, 503, "{}", refused.text);
        assert!(refused.text.contains("user reset admin"), "{}", refused.text);
    }
    assert_eq!(
        visitor.with(&key).get("/v1/models").await.status,
        401,
        "the key was lost with its database"
    );
    let reset = place.run(&["--json", "user", "reset", "admin"]);
    assert!(reset.status.success(), "{}", String::from_utf8_lossy(&reset.stderr));
    let reset: Value = serde_json::from_slice(&reset.stdout).unwrap();
    let admin = visitor.log_in("admin", reset["password"].as_str().unwrap()).await;
    let me = admin.get("/auth/me").await.json();
    assert_eq!(me["user"], "admin");
    daemon.stop().await;
    check_audit(&place);
}
