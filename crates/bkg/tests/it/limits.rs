//! Launches that are confined: nothing of them gets away, and what they use is bounded.
//!
//! The real thing on the machine that runs the tests. Where it has no cgroups that can be written, each
//! test checks that this is said, and does nothing that would then hurt.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bkg::config::SupervisorTimes;
use bkg::registry::State;
use bkg::supervisor::Cgroups;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::daemon::{Place, until};
use crate::host::{PATIENCE, TestHost};

/// Limits that make every wait of a stop short.
const QUICK: &str = "supervisor.drain_ms = 200\nsupervisor.grace_ms = 200";

/// A process that has left everything by which it could be found: session, parents and environment.
/// Its pid is in `stray` of the plugin's data directory.
const STRAY: &str = "#!/usr/bin/env python3\n\
    import os, signal, sys\n\
    data = os.environ['BKG_PLUGIN_DATA_DIR']\n\
    if os.fork() == 0:\n\
    \x20   os.setsid()\n\
    \x20   if os.fork() == 0:\n\
    \x20       with open(data + '/stray.new', 'w') as file: file.write(str(os.getpid()))\n\
    \x20       os.rename(data + '/stray.new', data + '/stray')\n\
    \x20       os.execve('/usr/bin/tail', ['tail', '-f', '/dev/null'], {})\n\
    \x20   os._exit(0)\n\
    os.wait()\n\
    signal.pause()\n";

/// What the machine has, as the daemon says it at its start, such as `group cgroup-v2, memory cgroup-v1`.
fn machine() -> String {
    Cgroups::find(&SupervisorTimes::default()).describe()
}

fn has(means: &str) -> bool {
    machine().split(", ").any(|part| part == means)
}

fn is_grouped() -> bool {
    !has("group process-group")
}

/// What enforces a limit here: `cgroup-v2`, `cgroup-v1` or what is left without them.
fn means(controller: &str, without: &'static str) -> String {
    let machine = machine();
    let found = machine
        .split(", ")
        .find_map(|part| part.strip_prefix(&format!("{controller} ")).map(str::to_owned));
    found.filter(|means| means != "none").unwrap_or_else(|| without.to_owned())
}

fn stray(data_dir: &Path, plugin: &str) -> Option<u32> {
    let file = data_dir.join("plugins").join(plugin).join("data/stray");
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn is_alive(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// The cgroups that the ledger of a data directory names.
fn ledgered(data_dir: &Path) -> BTreeSet<PathBuf> {
    let files = fs::read_dir(data_dir.join("ledger")).into_iter().flatten().flatten();
    let entries =
        files.filter_map(|file| serde_json::from_slice::<Value>(&fs::read(file.path()).ok()?).ok());
    let paths = entries.flat_map(|entry| entry["cgroups"].as_array().cloned().unwrap_or_default());
    paths.map(|path| PathBuf::from(path.as_str().unwrap())).collect()
}

async fn confinement(host: &TestHost, plugin: &str) -> Value {
    let object = host.get(&format!("/admin/plugins/{plugin}")).await.json();
    object["instances"][0]["confinement"].clone()
}

#[tokio::test]
async fn a_plugin_tells_what_confines_it_and_nothing_stays_of_that() {
    let limits = json!({ "memoryMb": 512, "cpuPercent": 200, "pids": 100, "files": 200 });
    let host =
        TestHost::builder().plugin_as("misbehave", "misbehave", json!({ "limits": limits })).config(QUICK);
    let host = host.start().await;
    host.start_plugin("misbehave").await;
    let shown = confinement(&host, "misbehave").await;
    let group = machine().split(", ").next().unwrap().strip_prefix("group ").unwrap().to_owned();
    assert_eq!(shown["group"], group);
    let expected = json!({
        "memory": means("memory", "rlimit"), "cpu": means("cpu", "none"), "pids": means("pids", "none"),
        "files": "rlimit",
    });
    assert_eq!(shown["limits"], expected);
    let is_whole = [means("memory", "rlimit"), means("cpu", "none"), means("pids", "none")]
        .iter()
        .all(|means| means.starts_with("cgroup"));
    assert_eq!(shown["notes"] == json!([]), is_whole && is_grouped(), "{shown}");

    let bounds = fs::read_to_string(format!("/proc/{}/limits", host.pid("misbehave"))).unwrap();
    let files = bounds.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().nth(3), Some("200"), "{files}");
    let cgroups = ledgered(&host.data_dir());
    assert_eq!(cgroups.is_empty(), !is_grouped());
    assert!(cgroups.iter().all(|cgroup| cgroup.is_dir()), "{cgroups:?}");

    host.host().supervisor.want_down("misbehave").unwrap();
    host.until_state("misbehave", State::Stopped).await;
    assert!(!cgroups.iter().any(|cgroup| cgroup.exists()), "{cgroups:?}");
    host.stop().await;
}

#[tokio::test]
async fn without_cgroups_a_plugin_runs_and_what_does_not_hold_is_said() {
    let limits = json!({ "memoryMb": 512, "cpuPercent": 50, "pids": 100 });
    let entry = json!({ "limits": limits });
    let host = TestHost::builder().plugin_as("misbehave", "misbehave", entry).config(QUICK);
    let host = host.config("supervisor.cgroups = 'off'").start().await;
    host.start_plugin("misbehave").await;
    let shown = confinement(&host, "misbehave").await;
    let limits = json!({ "memory": "rlimit", "cpu": "none", "pids": "none", "files": null });
    assert_eq!((&shown["group"], &shown["limits"]), (&json!("process-group"), &limits));
    assert_eq!(shown["notes"].as_array().unwrap().last(), Some(&json!("`supervisor.cgroups` is `off`")));
    let bounds = fs::read_to_string(format!("/proc/{}/limits", host.pid("misbehave"))).unwrap();
    let data = bounds.lines().find(|line| line.starts_with("Max data size")).unwrap();
    assert_eq!(data.split_whitespace().nth(3), Some((512 << 20).to_string().as_str()), "{data}");
    assert_eq!(ledgered(&host.data_dir()), BTreeSet::new());
    let log = host.get("/admin/plugins/misbehave/logs?limit=100").await.text;
    assert!(log.contains("its limits do not hold for the launch as a whole"), "{log}");
    host.stop().await;
}

#[tokio::test]
async fn what_left_session_parents_and_environment_ends_with_its_launch() {
    let host = TestHost::builder().script("stray", STRAY, json!({})).config(QUICK).start().await;
    host.host().supervisor.want_up("stray").unwrap();
    let pid = until(|| stray(&host.data_dir(), "stray")).await.unwrap();
    let is_bare =
        || fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| environment.is_empty());
    until(|| is_bare().then_some(())).await.expect("it has cleared its environment");
    host.host().supervisor.want_down("stray").unwrap();
    host.until_state("stray", State::Stopped).await;
    if is_grouped() {
        assert!(!is_alive(pid));
    } else {
        // The one process that this machine cannot tell from a stranger.
        assert!(is_alive(pid));
        kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
    }
    host.stop().await;
}

#[tokio::test]
async fn whoever_uses_more_memory_than_it_may_dies_alone_and_is_told_why() {
    // Page by page, so that a limit on memory meets it and not one on addresses.
    let hog = "#!/usr/bin/env python3\n\
        import sys\n\
        hoard = []\n\
        while len(hoard) < 512: hoard.append(b'x' * (1 << 20))\n\
        sys.exit('it got 512 MB')\n";
    let entry = json!({ "limits": { "memoryMb": 64 }, "restart": "never" });
    let host =
        TestHost::builder().script("hog", hog, entry).plugin("misbehave").config(QUICK).start().await;
    host.start_plugin("misbehave").await;
    let bystander = host.pid("misbehave");
    host.host().supervisor.want_up("hog").unwrap();
    let record = host.until_state("hog", State::Failed).await;
    let reason = record.status.reason.clone().unwrap();
    if means("memory", "rlimit") == "rlimit" {
        assert!(reason.contains("MemoryError"), "{reason}");
    } else {
        assert_eq!(
            reason,
            "`start.sh` was killed because it used more than its memory limit of 64 MB before it registered"
        );
        let log = host.get("/admin/plugins/hog/logs?limit=100").await.json();
        let ended =
            log["lines"].as_array().unwrap().iter().find(|line| line["fields"]["event"] == "run-ended");
        let exit = &ended.unwrap_or_else(|| panic!("{log}"))["fields"]["exit"];
        assert_eq!((&exit["kind"], &exit["oom"]), (&json!("killed"), &json!({ "memoryMb": 64 })));
    }
    assert_eq!((host.pid("misbehave"), is_alive(bystander as u32)), (bystander, true));
    host.stop().await;
}

#[tokio::test]
async fn a_fork_bomb_stays_within_its_number_and_is_ended() {
    const MOST: usize = 64;
    let bomb = "#!/usr/bin/env python3\n\
        import os, time\n\
        ended = time.monotonic() + 60\n\
        while time.monotonic() < ended:\n\
        \x20   try: os.fork()\n\
        \x20   except OSError: time.sleep(0.001)\n";
    let entry = json!({ "limits": { "pids": MOST }, "restart": "never" });
    let host =
        TestHost::builder().script("bomb", bomb, entry).config(QUICK).plugin("misbehave").start().await;
    if means("pids", "none") == "none" {
        // Not to be let loose here: nothing would hold it. That nothing would is what is said.
        host.host().supervisor.want_up("misbehave").unwrap();
        host.until_state("misbehave", State::Running).await;
        assert_ne!(confinement(&host, "misbehave").await["notes"], json!([]));
        return host.stop().await;
    }
    host.start_plugin("misbehave").await;
    host.host().supervisor.want_up("bomb").unwrap();
    let counter = || {
        let cgroups = ledgered(&host.data_dir());
        let mut counts = cgroups.iter().filter_map(|cgroup| {
            let most = fs::read_to_string(cgroup.join("pids.max")).ok()?;
            (most.trim() == MOST.to_string()).then(|| cgroup.clone())
        });
        counts.next_back()
    };
    let cgroup = until(counter).await.expect("its number is bounded");
    let number =
        |file: &str| -> usize { fs::read_to_string(cgroup.join(file)).unwrap().trim().parse().unwrap() };
    until(|| (number("pids.current") >= MOST).then_some(())).await.expect("it fills its bound");
    // Others are served meanwhile.
    host.ask("test.echo", json!({ "text": "x" })).await;
    assert!(number("pids.current") <= MOST);

    host.host().supervisor.want_down("bomb").unwrap();
    host.until_state("bomb", State::Stopped).await;
    assert!(!cgroup.exists(), "nothing of it is left");
    host.stop().await;
}

#[tokio::test]
async fn a_hog_of_the_processor_is_held_back() {
    let hog = "#!/usr/bin/env python3\nwhile True: pass\n";
    let entry = json!({ "limits": { "cpuPercent": 10 } });
    let host = TestHost::builder().script("hog", hog, entry).config(QUICK).start().await;
    host.host().supervisor.want_up("hog").unwrap();
    if means("cpu", "none") == "none" {
        let log = async || host.get("/admin/plugins/hog/logs?limit=100").await.text;
        let said = async {
            while !log().await.contains("`cpuPercent` is not enforced") {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, said).await.expect("it is said");
        return host.stop().await;
    }
    let throttled = || {
        let stat = |cgroup: &PathBuf| fs::read_to_string(cgroup.join("cpu.stat")).ok();
        ledgered(&host.data_dir()).iter().filter_map(stat).find_map(|text| {
            let count = text.lines().find_map(|line| line.strip_prefix("nr_throttled "))?;
            (count.parse::<u64>().unwrap() >= 3).then_some(())
        })
    };
    until(throttled).await.expect("it is held back in one period after the other");
    host.stop().await;
}

#[tokio::test]
async fn what_a_killed_host_left_is_gone_before_the_next_one_is_ready() {
    const PLUGINS: usize = 10;
    let place = Place::new();
    for number in 0..PLUGINS {
        let folder = place.data_dir().parent().unwrap().join("plugins").join(format!("stray-{number}"));
        fs::create_dir_all(&folder).unwrap();
        let entry = json!({ "name": format!("stray-{number}"), "autostart": true });
        fs::write(folder.join("plugin.json"), entry.to_string()).unwrap();
        fs::write(folder.join("start.sh"), STRAY).unwrap();
        fs::set_permissions(folder.join("start.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let daemon = place.start().await;
    let strays =
        || (0..PLUGINS).map(|number| stray(&place.data_dir(), &format!("stray-{number}"))).collect();
    let strays: Vec<u32> = until(strays).await.expect("each has left");
    let mut bystander = std::process::Command::new("tail").args(["-f", "/dev/null"]).spawn().unwrap();
    let cgroups = ledgered(&place.data_dir());
    daemon.kill_alone();

    for number in 0..PLUGINS {
        // The next host starts each again, and its stray writes the file anew.
        fs::remove_file(place.data_dir().join(format!("plugins/stray-{number}/data/stray"))).unwrap();
    }
    let daemon = place.start().await;
    let alive: Vec<_> = strays.iter().copied().filter(|&pid| is_alive(pid)).collect();
    if is_grouped() {
        assert_eq!(alive, [] as [u32; 0]);
        assert!(!cgroups.iter().any(|cgroup| cgroup.exists()), "{cgroups:?}");
    } else {
        for pid in alive {
            kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
        }
    }
    assert!(bystander.try_wait().unwrap().is_none(), "a stranger was killed");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    daemon.stop().await;
    if is_grouped() {
        let left = || ledgered(&place.data_dir()).is_empty().then_some(());
        until(left).await.expect("nothing is in the ledger");
    }
}
