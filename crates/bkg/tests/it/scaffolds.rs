//! What `bkg new` makes, and what it leaves alone.
//!
//! That the folders run, pass their own tests and keep the rules of the bus is shown with the real
//! daemon in `../clients/python/test_scaffolds.py`. Here it is what can be said of the files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use bkg::config::PluginEntry;
use bkg::config::check::violations;
use bkg::scaffold::{Kind, Language, ScaffoldError, WrappedFile, make};
use serde_json::Value;
use tempfile::TempDir;

/// A file to wrap, and all kinds of plugins that there are.
struct Kinds {
    folder: TempDir,
}

impl Kinds {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let class = "class CalculatorPlugin:\n    def execute(self, data):\n        return data\n";
        fs::write(folder.path().join("calculator_plugin.py"), class).unwrap();
        Self { folder }
    }

    fn wrapped(&self) -> Kind {
        Kind::Wrap(WrappedFile::read(&self.folder.path().join("calculator_plugin.py")).unwrap())
    }

    fn all(&self) -> Vec<Kind> {
        Language::ALL.map(Kind::Example).into_iter().chain([self.wrapped()]).collect()
    }

    /// One folder of each kind, with its files.
    fn made(&self) -> Vec<(Kind, PathBuf, Vec<PathBuf>)> {
        let place = self.folder.path();
        let named = |index: usize| format!("plugin-{index}").parse().unwrap();
        let made = self.all().into_iter().enumerate().map(|(index, kind)| {
            let (folder, files) = make(place, &named(index), &kind).unwrap();
            (kind, folder, files)
        });
        made.collect()
    }
}

fn bash() -> Kind {
    Kind::Example(Language::Bash)
}

/// What lies in a folder, by name.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn bkg(place: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bkg"))
        .args(arguments)
        .current_dir(place)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn nothing_that_is_there_is_touched() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    fs::create_dir(at("empty")).unwrap();
    fs::create_dir(at("full")).unwrap();
    fs::write(at("full/mine"), "mine").unwrap();
    fs::write(at("file"), "mine").unwrap();
    symlink("nowhere", at("link")).unwrap();
    let before = names(place.path());
    for name in ["empty", "full", "file", "link"] {
        let error = make(place.path(), &name.parse().unwrap(), &bash()).unwrap_err();
        assert!(matches!(&error, ScaffoldError::Taken(path) if *path == at(name)), "{error:?}");
    }
    assert_eq!(names(place.path()), before);
    assert!(names(&at("empty")).is_empty());
    assert_eq!(names(&at("full")), BTreeSet::from(["mine".to_owned()]));
    assert_eq!(fs::read_to_string(at("file")).unwrap(), "mine");
}

#[test]
fn a_folder_that_cannot_be_written_whole_is_not_there_at_all() {
    // So deep that the folder still has a path, and the files in it have none: 4096 bytes are the
    // longest that Linux takes.
    let root = tempfile::tempdir().unwrap();
    let mut place = root.path().to_owned();
    while place.as_os_str().len() < 3800 {
        place.push("d".repeat(200));
    }
    place.push("d".repeat(4050 - place.as_os_str().len()));
    fs::create_dir_all(&place).unwrap();
    let error = make(&place, &"deep".parse().unwrap(), &Kind::Example(Language::Rust)).unwrap_err();
    assert!(matches!(error, ScaffoldError::Write { .. }), "{error:?}");
    assert_eq!(names(&place), BTreeSet::new());
}

#[test]
fn a_name_whose_capabilities_could_never_be_registered_is_refused() {
    let place = tempfile::tempdir().unwrap();
    for name in ["1st", "auth", "host", "lifecycle"] {
        make(place.path(), &name.parse().unwrap(), &bash()).unwrap_err();
    }
    for name in ["a", "authority", "a-", "my_plugin-2"] {
        make(place.path(), &name.parse().unwrap(), &bash()).unwrap();
    }
    assert_eq!(names(place.path()).len(), 4);
}

#[test]
fn a_place_that_is_none_is_not_made() {
    let place = tempfile::tempdir().unwrap();
    let error = make(&place.path().join("x"), &"a".parse().unwrap(), &bash()).unwrap_err();
    assert!(matches!(error, ScaffoldError::NoPlace(_)), "{error:?}");
    assert_eq!(names(place.path()), BTreeSet::new());
}

#[test]
fn every_file_is_filled_in_and_no_other_is_there() {
    let kinds = Kinds::new();
    for (kind, folder, files) in kinds.made() {
        let own = files.iter().filter(|file| !file.starts_with("vendor")).count();
        assert!(own >= 8, "{kind:?}: {files:?}");
        let mut seen = 0;
        for file in &files {
            let text = fs::read_to_string(folder.join(file)).unwrap();
            for placeholder in ["my-plugin", "my_class_plugin"] {
                assert!(!text.contains(placeholder), "{kind:?}: {file:?} has `{placeholder}`");
            }
            assert!(text.is_empty() || text.ends_with('\n'), "{file:?}");
            seen += 1;
        }
        assert_eq!(seen, walked(&folder).len(), "{kind:?}");
    }
}

fn walked(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(walked(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn scripts_can_be_executed_and_nothing_else_can() {
    let kinds = Kinds::new();
    for (_, folder, files) in kinds.made() {
        for file in files {
            let mode = fs::metadata(folder.join(&file)).unwrap().permissions().mode();
            let is_script = file.extension().is_some_and(|extension| extension == "sh");
            assert_eq!(mode & 0o100 != 0, is_script, "{file:?} has mode {mode:o}");
        }
        // As a folder that was made by hand.
        let by_hand = kinds.folder.path().join("by-hand");
        fs::create_dir_all(&by_hand).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&folder), mode(&by_hand));
    }
}

#[test]
fn every_file_is_one_of_its_language() {
    let kinds = Kinds::new();
    for (_, folder, files) in kinds.made() {
        for file in files {
            let path = folder.join(&file);
            let text = fs::read_to_string(&path).unwrap();
            // The sources of the SDKs are tried where they are developed.
            let is_own = !file.starts_with("vendor");
            match file.extension().and_then(|extension| extension.to_str()).unwrap_or_default() {
                "json" => drop(serde_json::from_str::<Value>(&text).unwrap()),
                "toml" | "lock" => drop(toml::from_str::<toml::Table>(&text).unwrap()),
                "sh" if is_own => accepts("bash", &["-n"], &path),
                "py" if is_own => {
                    let parse = "import ast, sys; ast.parse(open(sys.argv[1]).read())";
                    accepts("python3", &["-c", parse], &path);
                }
                // The form that a new user's own `cargo fmt` gives it.
                "rs" if is_own => accepts("rustfmt", &["--check", "--edition", "2024"], &path),
                _ => {}
            }
        }
    }
}

fn accepts(program: &str, arguments: &[&str], file: &Path) {
    let output = Command::new(program).args(arguments).arg(file).output().unwrap();
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{program} {file:?}: {said}");
}

#[test]
fn the_host_reads_every_folder_as_a_plugin() {
    let kinds = Kinds::new();
    for (kind, folder, files) in kinds.made() {
        let entry = PluginEntry::load(&folder, None).unwrap();
        assert_eq!(entry.name.as_str(), folder.file_name().unwrap());
        assert_eq!(entry.kind, kind.language().word());
        assert!(entry.autostart);
        assert!(files.contains(&entry.entrypoint));
        let (capability, _) = kind.first_capability();
        assert!(entry.grants(&format!("{}.{capability}", entry.name).parse().unwrap()));
        assert!(files.contains(&kind.first_file().into()), "{kind:?}");
        // What is prepared for is there, or a change of it would go unseen.
        for input in entry.prepare.iter().flat_map(|prepare| &prepare.inputs) {
            assert!(folder.join(input).exists(), "{kind:?}: {input}");
        }
        assert_eq!(entry.prepare.is_some(), folder.join("prepare.sh").exists());

        let schema = entry.config_schema.as_ref().unwrap();
        let settings = Value::Object(entry.settings.0.clone());
        assert_eq!(violations(schema, &settings).unwrap(), [], "{kind:?}");
        let asked: Value =
            serde_json::from_str(&fs::read_to_string(folder.join("check.json")).unwrap()).unwrap();
        if let Some(good) = asked.get("goodSettings") {
            assert_eq!(violations(schema, good).unwrap(), [], "{kind:?}");
        }
        for question in ["answer", "stream", "slow"] {
            let Some(capability) = asked[question]["capability"].as_str() else { continue };
            assert!(entry.grants(&capability.parse().unwrap()), "{capability}");
        }
    }
}

#[test]
fn a_readme_names_every_file_of_its_folder() {
    let kinds = Kinds::new();
    for (kind, folder, files) in kinds.made() {
        if matches!(kind, Kind::Wrap(_)) {
            continue;
        }
        let readme = fs::read_to_string(folder.join("README.md")).unwrap();
        let unnamed: Vec<&str> = files
            .iter()
            .filter_map(|file| file.components().next()?.as_os_str().to_str())
            .filter(|name| !name.starts_with('.') && !["README.md", "src"].contains(name))
            .filter(|name| !readme.contains(&format!("`{name}")))
            .collect();
        assert!(unnamed.is_empty(), "{kind:?}: {unnamed:?}");
    }
}

/// The dependencies of a manifest by table, each with its version and whether it has its default
/// features; what it inherits is looked up in the workspace.
fn dependencies(manifest: &toml::Table, workspace: &toml::Table) -> BTreeMap<String, (String, bool)> {
    let linux = manifest.get("target").and_then(|target| target.get("cfg(target_os = \"linux\")"));
    let tables = [Some(manifest), linux.and_then(toml::Value::as_table)];
    let entries = tables.into_iter().flatten().filter_map(|table| table.get("dependencies")?.as_table());
    let mut found = BTreeMap::new();
    for (name, wanted) in entries.flatten() {
        // Those of a feature that a plugin does not use.
        if wanted.get("optional").is_some() {
            continue;
        }
        let inherited = wanted.get("workspace").is_some();
        let stated = if inherited { &workspace[name] } else { wanted };
        let version = stated.as_str().or_else(|| stated.get("version")?.as_str()).unwrap_or("path");
        let default = stated.get("default-features").and_then(toml::Value::as_bool).unwrap_or(true);
        found.insert(name.clone(), (version.to_owned(), default));
    }
    found
}

#[test]
fn the_vendored_rust_crates_stand_on_what_the_repositorys_stand_on() {
    let place = tempfile::tempdir().unwrap();
    let (folder, _) = make(place.path(), &"a".parse().unwrap(), &Kind::Example(Language::Rust)).unwrap();
    let read = |path: PathBuf| fs::read_to_string(path).unwrap().parse::<toml::Table>().unwrap();
    let workspace = read(repository().join("Cargo.toml"));
    let shared = workspace["workspace"]["dependencies"].as_table().unwrap();
    for name in ["bkg-sdk", "bkg-protocol"] {
        let ours = read(repository().join("crates").join(name).join("Cargo.toml"));
        let copy = read(folder.join("vendor").join(name).join("Cargo.toml"));
        let versions = |manifest| -> BTreeMap<String, String> {
            let found = dependencies(manifest, shared).into_iter();
            found.map(|(dependency, (version, _))| (dependency, version)).collect()
        };
        assert_eq!(versions(&copy), versions(&ours), "templates/rust/vendor/{name}/Cargo.toml");
        assert_eq!(copy["package"]["version"], workspace["workspace"]["package"]["version"]);
        assert_eq!(copy["package"]["rust-version"], workspace["workspace"]["package"]["rust-version"]);
    }
}

#[test]
fn a_rust_plugin_is_pinned_to_what_the_repository_is_built_with() {
    let pins = |path: &str| -> BTreeSet<(String, String, Option<String>)> {
        let lock: toml::Table = fs::read_to_string(repository().join(path)).unwrap().parse().unwrap();
        let packages = lock["package"].as_array().unwrap();
        let text = |package: &toml::Value, key: &str| package.get(key)?.as_str().map(str::to_owned);
        let pin = |package| {
            (text(package, "name").unwrap(), text(package, "version").unwrap(), text(package, "checksum"))
        };
        packages.iter().map(pin).collect()
    };
    let ours = pins("Cargo.lock");
    let theirs = pins("crates/bkg/templates/rust/Cargo.lock");
    let foreign: Vec<_> =
        theirs.difference(&ours).filter(|(name, ..)| name != "bkg-plugin-my-plugin").collect();
    assert!(
        foreign.is_empty(),
        "the pins of a new Rust plugin are not those of Cargo.lock, `scripts/generate` writes them anew: {foreign:?}"
    );
}

/// The scripts differ in what they say of themselves and in where the environment lies, and in nothing else.
#[test]
fn every_python_plugin_is_prepared_in_the_same_way() {
    let script = |path: &str| -> Vec<String> {
        let text = fs::read_to_string(repository().join(path).join("prepare.sh")).unwrap();
        let differs = |line: &&str| line.starts_with("# ") || line.starts_with("cache=");
        text.lines().filter(|line| !differs(line)).map(str::to_owned).collect()
    };
    let first = script("plugins/ping-python");
    for other in ["plugins/repoagent", "crates/bkg/templates/python", "crates/bkg/templates/wrap"] {
        assert_eq!(script(other), first, "{other}/prepare.sh");
    }
}

#[test]
fn a_file_that_would_hide_a_module_of_python_or_of_the_sdk_is_refused() {
    let place = tempfile::tempdir().unwrap();
    for name in ["email", "json", "asyncio", "msgspec", "bkg_sdk"] {
        let path = place.path().join(format!("{name}.py"));
        fs::write(&path, "class A:\n    def execute(self, data):\n        return data\n").unwrap();
        let refused = WrappedFile::read(&path).unwrap_err().to_string();
        assert!(refused.contains(&format!("`{name}_plugin.py`")), "{refused}");
    }
}

#[test]
fn a_class_is_wrapped_as_it_is() {
    let kinds = Kinds::new();
    let (folder, _) = make(kinds.folder.path(), &"calc".parse().unwrap(), &kinds.wrapped()).unwrap();
    assert_eq!(
        fs::read(folder.join("calculator_plugin.py")).unwrap(),
        fs::read(kinds.folder.path().join("calculator_plugin.py")).unwrap()
    );
    let runner = fs::read_to_string(folder.join("plugin.py")).unwrap();
    assert!(runner.contains(r#"run("calculator_plugin.py", "calc.execute")"#), "{runner}");
}

#[test]
fn what_cannot_be_wrapped_is_told_apart() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str, bytes: &[u8]| {
        fs::write(place.path().join(name), bytes).unwrap();
        WrappedFile::read(&place.path().join(name)).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(at("good-plugin.v2.py", b"x"), Ok(()));
    for (name, reason) in [
        ("class.txt", "does not end in `.py`"),
        (".py", "does not end in `.py`"),
        ("plugin.py", "has a file of that name"),
        ("test_plugin.py", "has a file of that name"),
        ("a \"quoted\".py", "rename it"),
    ] {
        let error = at(name, b"x").unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
    assert!(at("large.py", &vec![b'x'; (1 << 20) + 1]).unwrap_err().contains("larger"));
    let error = WrappedFile::read(&place.path().join("absent.py")).unwrap_err();
    assert!(error.to_string().contains("cannot be wrapped: No such file"), "{error}");
}

#[test]
fn the_command_says_what_it_made_and_what_to_type_next() {
    let place = tempfile::tempdir().unwrap();
    let made = bkg(place.path(), &["new", "greeter", "--lang", "bash"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let said = text(&made.stdout);
    for line in [
        "  bkg serve --dev --plugin greeter ",
        "  bkg plugin invoke greeter greeter.greet '{\"name\": \"Ada\"}' ",
        "  (cd greeter && ./test.sh) ",
        "  bkg check greeter ",
    ] {
        assert!(said.contains(line), "{line} is not in:\n{said}");
    }
    fs::create_dir(place.path().join("some where")).unwrap();
    let made = bkg(place.path(), &["new", "greeter", "--lang", "bash", "--in", "some where", "--json"]);
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!(made["folder"], "some where/greeter");
    assert_eq!(made["next"][2], "(cd 'some where/greeter' && ./test.sh)");
    assert!(made["files"].as_array().unwrap().contains(&"capabilities.sh".into()));
}

#[test]
fn what_cannot_be_made_is_refused_with_its_exit_code() {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("taken")).unwrap();
    fs::write(place.path().join("some_plugin.py"), "").unwrap();
    for (arguments, code, reason) in [
        (&["new", "taken", "--lang", "bash"][..], 1, "is there already and was not touched"),
        (&["new", "a", "--lang", "bash", "--in", "nowhere"], 1, "is no directory"),
        (&["new", "a"], 2, "use `--lang rust`"),
        (&["new", "a", "--lang", "cobol"], 2, "possible values: rust, python, typescript, bash"),
        (&["new", "A", "--lang", "bash"], 2, "is not a plugin name"),
        (&["new", "routes", "--lang", "bash"], 2, "belongs to the host"),
        (&["new", "auth", "--lang", "bash"], 2, "`auth.*` are not for every plugin"),
        (&["new", "ping", "--lang", "bash"], 2, "comes with the host"),
        (&["new", "a", "--wrap", "some_plugin.py", "--lang", "rust"], 2, "leave `--lang` out"),
        (&["new", "a", "--wrap", "absent.py"], 1, "cannot be wrapped"),
    ] {
        let output = bkg(place.path(), arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(reason), "{arguments:?}: {said}");
    }
    assert_eq!(names(place.path()), ["some_plugin.py", "taken"].map(str::to_owned).into());
}
