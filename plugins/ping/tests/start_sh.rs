//! What `start.sh` runs, in folders laid out as a checkout and as an installation.
//!
//! The binaries are scripts that say where they lie, and `cargo` is a script that makes one: the claim
//! is about the choice. The script of every bundled Rust plugin is tried.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

const PLUGINS: [&str; 3] = ["apikeys", "ping", "llmserver"];

struct Layout {
    root: TempDir,
    plugin: &'static str,
}

impl Layout {
    /// A folder `plugins/<name>` with nothing but the plugin's `start.sh`.
    fn new(plugin: &'static str) -> Self {
        let layout = Self { root: tempfile::tempdir().unwrap(), plugin };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(plugin).join("start.sh");
        fs::create_dir_all(layout.folder()).unwrap();
        fs::copy(script, layout.folder().join("start.sh")).unwrap();
        layout
    }

    /// The same with sources that were last changed so long ago, and with a `cargo`.
    fn checkout(plugin: &'static str, age: Duration) -> Self {
        let layout = Self::new(plugin);
        fs::write(layout.root.path().join("Cargo.toml"), "").unwrap();
        for name in ["bkg-sdk", "bkg-protocol", "bkg-sqlite"] {
            let source = format!("crates/{name}/src/lib.rs");
            layout.file(&layout.root.path().join(source), "", age);
        }
        layout.file(&layout.folder().join("src/main.rs"), "", age);
        // `cargo build … --package NAME` leaves the program in target/debug, or target/release.
        let cargo = "#!/bin/sh\n\
            profile=debug; for word in \"$@\"; do [ \"$word\" = --release ] && profile=release; program=$word; done\n\
            mkdir -p \"$ROOT/target/$profile\"\n\
            printf '#!/bin/sh\\necho built %s\\n' \"$profile\" > \"$ROOT/target/$profile/$program\"\n\
            chmod +x \"$ROOT/target/$profile/$program\"\n";
        layout.file(&layout.root.path().join("tools/cargo"), cargo, Duration::ZERO);
        layout
    }

    fn folder(&self) -> PathBuf {
        self.root.path().join("plugins").join(self.plugin)
    }

    fn program(&self) -> String {
        format!("bkg-plugin-{}", self.plugin)
    }

    fn file(&self, path: &Path, text: &str, age: Duration) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    }

    fn built(&self, profile: &str, age: Duration) {
        let path = self.root.path().join("target").join(profile).join(self.program());
        self.file(&path, &format!("#!/bin/sh\necho found {profile} in $PWD\n"), age);
    }

    /// What the chosen program says; the script is started from another directory.
    fn run(&self) -> (i32, String) {
        let path = format!("{}:/usr/bin:/bin", self.root.path().join("tools").display());
        let output = Command::new("/bin/sh")
            .arg(self.folder().join("start.sh"))
            .current_dir("/")
            .env_clear()
            .env("PATH", path)
            .env("ROOT", self.root.path())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), said.trim().to_owned())
    }
}

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn an_installed_folder_runs_its_own_program() {
    for plugin in PLUGINS {
        let layout = Layout::new(plugin);
        let program = layout.folder().join("bin").join(layout.program());
        layout.file(&program, "#!/bin/sh\necho installed\n", HOUR);
        assert_eq!(layout.run(), (0, "installed".to_owned()));
    }
}

#[test]
fn a_build_that_is_newer_than_its_sources_runs_in_the_plugins_folder() {
    for plugin in PLUGINS {
        let layout = Layout::checkout(plugin, HOUR);
        layout.built("debug", MINUTE);
        let folder = layout.folder().canonicalize().unwrap();
        assert_eq!(layout.run(), (0, format!("found debug in {}", folder.display())));
    }
}

#[test]
fn the_latest_of_two_builds_runs() {
    for plugin in PLUGINS {
        for (release, debug, expected) in [(MINUTE, 2 * MINUTE, "release"), (2 * MINUTE, MINUTE, "debug")] {
            let layout = Layout::checkout(plugin, HOUR);
            layout.built("release", release);
            layout.built("debug", debug);
            assert!(layout.run().1.starts_with(&format!("found {expected}")), "{:?}", layout.run());
        }
    }
}

#[test]
fn a_build_that_is_older_than_a_source_is_made_again() {
    for plugin in PLUGINS {
        let layout = Layout::checkout(plugin, MINUTE);
        layout.built("debug", HOUR);
        assert_eq!(layout.run(), (0, "built debug".to_owned()));
    }
}

#[test]
fn a_checkout_without_a_build_makes_one_like_the_hosts() {
    for plugin in PLUGINS {
        assert_eq!(Layout::checkout(plugin, HOUR).run(), (0, "built debug".to_owned()));
        let layout = Layout::checkout(plugin, HOUR);
        layout.file(&layout.root.path().join("target/release/bkg"), "", HOUR);
        assert_eq!(layout.run(), (0, "built release".to_owned()));
    }
}

#[test]
fn a_folder_with_nothing_to_run_or_build_says_so() {
    for plugin in PLUGINS {
        let (code, said) = Layout::new(plugin).run();
        assert_eq!(code, 78);
        assert!(said.contains("install the plugin again"), "{said}");
    }
}
