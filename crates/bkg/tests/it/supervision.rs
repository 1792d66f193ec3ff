//! Plugins that are started, stopped, killed and silenced: the state that is shown is the state that
//! is, the last word wins, and nothing of a launch outlives it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bkg::registry::{PluginRecord, State};
use bkg_protocol::message::Condition;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::host::{Builder, TestHost, is_alone, processes_with};

/// Limits that make every wait of a stop short.
const QUICK: &str = "supervisor.drain_ms = 200\nsupervisor.grace_ms = 200";
/// Missed beats are noticed after a second: soon, yet later than a busy machine makes them.
const BEATS: &str = "limits.heartbeat_ms = 400";

fn misbehave(settings: Value) -> Builder {
    let mut all = json!({ "register": "once" });
    for (name, value) in settings.as_object().unwrap() {
        all[name] = value.clone();
    }
    TestHost::builder().plugin_as("misbehave", "misbehave", json!({ "settings": all })).config(QUICK)
}

fn want_up(host: &TestHost, name: &str) {
    host.host().supervisor.want_up(name).unwrap();
}

fn want_down(host: &TestHost, name: &str) {
    host.host().supervisor.want_down(name).unwrap();
}

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

fn pids(record: &PluginRecord) -> BTreeSet<u32> {
    record.instances.iter().map(|instance| instance.pid.unwrap()).collect()
}

/// The processes of a plugin's launches, in whatever state they are.
fn processes(host: &TestHost, name: &str) -> Vec<u32> {
    let data = host.data_dir().canonicalize().unwrap().join("plugins").join(name).join("data");
    processes_with("BKG_PLUGIN_DATA_DIR", data.to_str().unwrap())
}

fn files(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|file| file.unwrap().file_name());
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

/// Nothing of a plugin's launches is left: no process, no ledger entry, no runtime configuration.
fn assert_gone(host: &TestHost, name: &str) {
    assert_eq!(processes(host, name), Vec::<u32>::new(), "processes");
    assert_eq!(files(&host.data_dir().join("ledger")), Vec::<String>::new(), "ledger");
    let run = host.data_dir().join("plugins").join(name).join("run");
    assert_eq!(files(&run), Vec::<String>::new(), "runtime configurations");
}

async fn until_instances(host: &TestHost, name: &str, count: usize) -> BTreeSet<u32> {
    let all = |record: &PluginRecord| {
        (record.instances.len() == count && record.state() == State::Running).then(|| pids(record))
    };
    host.until(|view| all(view.plugin(name)?)).await
}

#[tokio::test]
async fn a_start_that_comes_while_it_drains_is_heard() {
    let host = misbehave(json!({ "ignoreDrain": true })).start().await;
    host.start_plugin("misbehave").await;
    let before = host.pid("misbehave");
    want_down(&host, "misbehave");
    host.until_state("misbehave", State::Draining).await;
    want_up(&host, "misbehave");
    let after = until_instances(&host, "misbehave", 1).await;
    assert!(!after.contains(&(before as u32)));
    host.stop().await;
}

#[tokio::test]
async fn a_stop_that_meets_a_crash_ends_as_stopped() {
    let host = misbehave(json!({})).start().await;
    for _ in 0..10 {
        host.start_plugin("misbehave").await;
        signal(host.pid("misbehave"), Signal::SIGKILL);
        host.until(|view| view.plugin("misbehave")?.instances.is_empty().then_some(())).await;
        want_down(&host, "misbehave");
        host.until_state("misbehave", State::Stopped).await;
        assert_gone(&host, "misbehave");
    }
    host.stop().await;
}

#[tokio::test]
async fn the_last_of_a_hundred_words_wins() {
    let host = misbehave(json!({})).start().await;
    for is_last_up in [true, false] {
        for number in 0..100_u32 {
            match rand::random_range(0..3) {
                0 => want_up(&host, "misbehave"),
                1 => want_down(&host, "misbehave"),
                _ => host.host().supervisor.want_again("misbehave").unwrap(),
            }
            // Some words come in one go, others are acted upon before the next.
            for _ in 0..number % 7 * 20 {
                tokio::task::yield_now().await;
            }
        }
        if is_last_up {
            want_up(&host, "misbehave");
            let all = until_instances(&host, "misbehave", 1).await;
            assert_eq!(processes(&host, "misbehave"), Vec::from_iter(all));
        } else {
            want_down(&host, "misbehave");
            host.until_state("misbehave", State::Stopped).await;
            assert_gone(&host, "misbehave");
        }
    }
    host.stop().await;
}

#[tokio::test]
async fn a_start_leaves_what_runs_alone_and_ends_a_backoff() {
    let host = TestHost::builder().script("fails", "#!/bin/sh\nexit 3\n", json!({})).start().await;
    want_up(&host, "fails");
    let first = host.until_state("fails", State::Backoff).await;
    assert_eq!(first.status.restarts, 1);
    let reason = first.status.reason.clone().unwrap();
    assert!(reason.starts_with("`start.sh` exited with code 3 before it registered; starts again in "));
    want_up(&host, "fails");
    let again = |record: &PluginRecord| record.state() == State::Backoff && record.status != first.status;
    let second = host.until(|view| view.plugin("fails").filter(|record| again(record)).cloned()).await;
    assert_eq!(second.status.restarts, 1, "an explicit start forgets earlier failures");
    want_down(&host, "fails");
    host.until_state("fails", State::Stopped).await;
    assert_gone(&host, "fails");
    host.stop().await;
}

fn three() -> Builder {
    TestHost::builder().plugin_as("misbehave", "misbehave", json!({ "instances": 3 })).config(QUICK)
}

#[tokio::test]
async fn of_three_instances_one_is_killed_and_comes_back() {
    let host = three().start().await;
    want_up(&host, "misbehave");
    let before = until_instances(&host, "misbehave", 3).await;
    signal(host.pid("misbehave"), Signal::SIGKILL);
    let reason = host
        .until(|view| {
            let record = view.plugin("misbehave")?;
            (record.status.state == State::Running).then(|| record.status.reason.clone())?
        })
        .await;
    assert_eq!(reason, "2 of 3 instances run");
    let after = host.until(|view| {
        let record = view.plugin("misbehave")?;
        (record.instances.len() == 3 && pids(record) != before && record.status.reason.is_none())
            .then(|| record.status.restarts)
    });
    assert_eq!(after.await, 1);
    host.stop().await;
}

#[tokio::test]
async fn three_instances_are_stopped_when_the_slowest_is() {
    let host = three().start().await;
    for _ in 0..3 {
        want_up(&host, "misbehave");
        let all = until_instances(&host, "misbehave", 3).await;
        let slow = *all.last().unwrap() as i32;
        signal(slow, Signal::SIGSTOP);
        want_down(&host, "misbehave");
        host.until_state("misbehave", State::Stopped).await;
        assert_gone(&host, "misbehave");
    }
    host.stop().await;
}

#[tokio::test]
async fn who_waits_for_a_restart_of_three_instances_gets_three_new_ones() {
    let host = three().start().await;
    let reply = host.post("/admin/plugins/misbehave/start?wait=20", json!({})).await;
    assert_eq!(reply.json()["instances"].as_array().unwrap().len(), 3, "{}", reply.text);
    let before = until_instances(&host, "misbehave", 3).await;
    let reply = host.post("/admin/plugins/misbehave/restart?wait=20", json!({})).await;
    assert_eq!((reply.status.as_u16(), reply.json()["status"].clone()), (200, json!("running")));
    let body = reply.json();
    let after: BTreeSet<u32> = body["instances"]
        .as_array()
        .unwrap()
        .iter()
        .map(|instance| instance["pid"].as_u64().unwrap() as u32)
        .collect();
    assert_eq!((after.len(), after.is_disjoint(&before)), (3, true), "{before:?} {after:?}");
    host.stop().await;
}

#[tokio::test]
async fn who_stops_beating_is_unresponsive_and_then_replaced() {
    let host = misbehave(json!({})).config(BEATS).start().await;
    host.start_plugin("misbehave").await;
    let before = host.pid("misbehave");
    host.ask("test.silent", json!({})).await;
    host.until_state("misbehave", State::Unresponsive).await;
    let record = host.until(|view| {
        let record = view.plugin("misbehave")?;
        (record.state() == State::Running && !pids(record).contains(&(before as u32)))
            .then(|| record.status.restarts)
    });
    assert_eq!(record.await, 1);
    host.stop().await;
}

#[tokio::test]
async fn an_unresponsive_plugin_that_dials_again_runs() {
    let host = misbehave(json!({})).config(BEATS).start().await;
    host.start_plugin("misbehave").await;
    let before = host.pid("misbehave");
    host.ask("test.silent", json!({})).await;
    let drop = host.invoke("misbehave", "test.drop", json!({ "afterMs": 1400 }));
    let back = async {
        host.until_state("misbehave", State::Unresponsive).await;
        host.until_state("misbehave", State::Running).await
    };
    let (_, record) = tokio::join!(drop, back);
    assert_eq!(pids(&record), BTreeSet::from([before as u32]), "the same process");
    host.stop().await;
}

#[tokio::test]
async fn a_process_without_a_session_does_not_run() {
    let host = three().start().await;
    want_up(&host, "misbehave");
    let before = until_instances(&host, "misbehave", 3).await;
    let dropped = host.invoke("misbehave", "test.drop", json!({})).await;
    assert_eq!(dropped.status, 502, "{}", dropped.text);
    let reason = host.until(|view| view.plugin("misbehave")?.status.reason.clone()).await;
    assert_eq!(reason, "2 of 3 instances run");
    assert_eq!(until_instances(&host, "misbehave", 3).await, before);
    host.until(|view| view.plugin("misbehave")?.status.reason.is_none().then_some(())).await;
    host.stop().await;
}

#[tokio::test]
async fn who_owes_an_answer_is_degraded_and_then_replaced() {
    let host = misbehave(json!({}))
        .config("limits.cancel_degrades_after_ms = 200\nlimits.cancel_replaces_after_ms = 600")
        .config(BEATS)
        .start()
        .await;
    host.start_plugin("misbehave").await;
    let before = host.pid("misbehave") as u32;
    let body = json!({ "capability": "test.stall", "payload": {} }).to_string();
    let request = host.request(http::Method::POST, "/api/plugins/misbehave/invoke", Some(body));
    {
        let asking = std::pin::pin!(host.open(request));
        let handed_over = std::pin::pin!(host.until_in_flight("misbehave", 1));
        futures_util::future::select(asking, handed_over).await;
        // Here the client leaves.
    }
    let conditions = host.until(|view| {
        let instance = view.plugin("misbehave")?.instances.first()?;
        (instance.condition() == Condition::Degraded).then_some(instance.pid)
    });
    assert_eq!(conditions.await, Some(before));
    let ending = host.until_state("misbehave", State::Unresponsive).await;
    let reason = ending.status.reason.clone().unwrap();
    assert!(reason.starts_with("it did not answer a cancelled request"), "{reason}");
    let after = host.until(|view| {
        let record = view.plugin("misbehave")?;
        (record.state() == State::Running && !pids(record).contains(&before)).then(|| pids(record).len())
    });
    assert_eq!(after.await, 1);
    host.stop().await;
}

#[tokio::test]
async fn a_process_that_hangs_is_shown_as_such_until_it_is_replaced() {
    let host = misbehave(json!({ "leaveChild": true })).config(BEATS).start().await;
    host.start_plugin("misbehave").await;
    let before = processes(&host, "misbehave");
    signal(host.pid("misbehave"), Signal::SIGSTOP);
    host.until_state("misbehave", State::Unresponsive).await;
    // While the old one is being ended, nothing says that it runs or starts.
    let next = host.until(|view| {
        let record = view.plugin("misbehave")?;
        (record.state() != State::Unresponsive).then(|| (record.state(), record.status.restarts))
    });
    let (state, restarts) = next.await;
    assert_eq!((matches!(state, State::Preparing | State::Starting), restarts), (true, 1), "{state:?}");
    let after = processes(&host, "misbehave");
    assert!(before.iter().all(|pid| !after.contains(pid)), "the whole tree went: {before:?} {after:?}");
    until_instances(&host, "misbehave", 1).await;
    host.stop().await;
}

#[tokio::test]
async fn a_refused_registration_is_said_long_before_a_first_build_may_end() {
    let entry = json!({ "restart": "never", "settings": { "register": "unlisted-capability" } });
    let host = TestHost::builder()
        .plugin_as("misbehave", "misbehave", entry)
        .config("supervisor.register_timeout_ms = 500")
        // It stays although it was refused.
        .start()
        .await;
    let folder = host.host().registry.plugin("misbehave").unwrap().root.clone();
    fs::write(folder.join("start.sh"), "#!/bin/sh\npython3 -uB misbehave.py\nexec sleep 1000\n").unwrap();
    want_up(&host, "misbehave");
    let record = host.until_state("misbehave", State::Failed).await;
    let reason = record.status.reason.clone().unwrap();
    assert!(reason.starts_with("its registration was refused: "), "{reason}");
    assert_gone(&host, "misbehave");
    host.stop().await;
}

#[tokio::test]
async fn no_more_start_at_once_than_may() {
    let hangs = "#!/bin/sh\nexec sleep 1000\n";
    let host = TestHost::builder()
        .script("first", hangs, json!({}))
        .plugin("misbehave")
        .config("supervisor.parallel_starts = 1")
        .start()
        .await;
    want_up(&host, "first");
    host.until(|view| (view.plugin("first")?.state() == State::Preparing).then_some(())).await;
    want_up(&host, "misbehave");
    let waits = host.until(|view| {
        view.plugin("misbehave")?.status.reason.clone().filter(|reason| reason.contains("waits"))
    });
    assert_eq!(waits.await, "it waits for its turn: others are starting");
    assert_eq!(processes(&host, "misbehave"), Vec::<u32>::new());
    want_down(&host, "first");
    host.until_state("misbehave", State::Running).await;
    host.stop().await;
}

#[tokio::test]
async fn no_more_prepare_at_once_than_may_and_who_prepares_keeps_nobody_from_starting() {
    let builder = TestHost::builder()
        .script("first", "#!/bin/sh\nexec sleep 1000\n", json!({}))
        .script("second", "#!/bin/sh\nexec sleep 1000\n", json!({}))
        .plugin("misbehave")
        .config("supervisor.parallel_starts = 1");
    let host = builder.start().await;
    for name in ["first", "second"] {
        let script = host.plugins_dir().join(name).join("prepare.sh");
        fs::write(&script, "#!/bin/sh\nexec sleep 1000\n").unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let reason = async |name: &str, expected: &str| {
        host.until(|view| (view.plugin(name)?.status.reason.as_deref() == Some(expected)).then_some(()))
            .await;
    };
    want_up(&host, "first");
    reason("first", "`prepare.sh` runs").await;
    want_up(&host, "second");
    reason("second", "it waits for its turn: others are preparing").await;
    assert_eq!(processes(&host, "second"), Vec::<u32>::new());
    host.start_plugin("misbehave").await;
    want_down(&host, "first");
    reason("second", "`prepare.sh` runs").await;
    host.stop().await;
}

#[tokio::test]
async fn the_restart_policy_decides_what_follows_an_exit() {
    // Registered or not, exit code, policy, and where it comes to rest.
    let again = State::Backoff;
    let cases = [
        (false, 0, "always", again),
        (false, 0, "on-failure", again),
        (false, 0, "never", State::Failed),
        (false, 3, "never", State::Failed),
        (true, 0, "on-failure", State::Stopped),
        (true, 0, "never", State::Stopped),
        (true, 3, "never", State::Failed),
        (true, 3, "on-failure", again),
        (true, 0, "always", again),
    ];
    for (registers, code, policy, expected) in cases {
        let host = TestHost::builder()
            .plugin_as("misbehave", "misbehave", json!({ "restart": policy }))
            .config(QUICK)
            .start()
            .await;
        if !registers {
            let folder = host.host().registry.plugin("misbehave").unwrap().root.clone();
            fs::write(folder.join("start.sh"), format!("exit {code}")).unwrap();
        }
        want_up(&host, "misbehave");
        // The second failure in a row is the one that waits.
        for _ in 0..if registers { 1 + u32::from(expected == again) } else { 0 } {
            host.until_state("misbehave", State::Running).await;
            host.invoke("misbehave", "test.crash", json!({ "code": code })).await;
        }
        let record = host.until_state("misbehave", expected).await;
        assert!(record.status.reason.is_some(), "{registers} {code} {policy}");
        assert_gone(&host, "misbehave");
        host.stop().await;
    }
}

#[tokio::test]
async fn prepare_that_fails_hangs_or_leaves_children_is_said_and_ended() {
    let cases = [
        ("exit 5", "`prepare.sh` ended with exit status: 5: its output is in the log"),
        ("exec sleep 1000", "`prepare.sh` took longer than 300 ms"),
        ("setsid sleep 1000 & exit 6", "`prepare.sh` ended with exit status: 6: its output is in the log"),
    ];
    for (script, expected) in cases {
        let host = TestHost::builder()
            .script("prepared", "exit 4", json!({ "restart": "never" }))
            .config("supervisor.prepare_timeout_ms = 300")
            .start()
            .await;
        let folder = host.host().registry.plugin("prepared").unwrap().root.clone();
        fs::write(folder.join("prepare.sh"), format!("#!/bin/sh\n{script}\n")).unwrap();
        want_up(&host, "prepared");
        let record = host.until_state("prepared", State::Failed).await;
        assert_eq!(record.status.reason.as_deref(), Some(expected));
        assert_gone(&host, "prepared");
        host.stop().await;
    }
}

#[tokio::test]
async fn a_stop_ends_prepare() {
    let host = TestHost::builder().script("prepared", "exit 4", json!({ "instances": 2 })).start().await;
    let folder = host.host().registry.plugin("prepared").unwrap().root.clone();
    let count = host.data_dir().join("count");
    let script = format!("#!/bin/sh\necho run >> {}\nsleep 1000\n", count.display());
    fs::write(folder.join("prepare.sh"), script).unwrap();
    want_up(&host, "prepared");
    let begun = async {
        while processes(&host, "prepared").len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), begun).await.expect("`prepare.sh` runs");
    want_down(&host, "prepared");
    host.until_state("prepared", State::Stopped).await;
    assert_gone(&host, "prepared");
    assert_eq!(fs::read_to_string(count).unwrap(), "run\n", "the other seat did not begin once more");
    host.stop().await;
}

#[tokio::test]
async fn a_stop_that_cannot_see_processes_is_not_called_stopped() {
    if !is_alone("supervision::a_stop_that_cannot_see_processes_is_not_called_stopped") {
        return;
    }
    let host = misbehave(json!({ "ignoreDrain": true, "ignoreTerm": true })).start().await;
    host.start_plugin("misbehave").await;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // No descriptor is left: the process table cannot be read.
    setrlimit(Resource::RLIMIT_NOFILE, 0, hard).unwrap();
    want_down(&host, "misbehave");
    let reason = host
        .until(|view| {
            let status = &view.plugin("misbehave")?.status;
            assert_ne!(status.state, State::Stopped);
            status.reason.clone()
        })
        .await;
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    assert!(reason.starts_with("its processes cannot be listed: "), "{reason}");
    host.until_state("misbehave", State::Stopped).await;
    assert_gone(&host, "misbehave");
    host.stop().await;
}

#[tokio::test]
async fn runtime_configurations_of_a_killed_host_go_even_if_the_plugin_did() {
    let builder = TestHost::builder();
    let run = builder.load().config.data_dir.join("plugins/removed/run");
    fs::create_dir_all(&run).unwrap();
    for name in ["1.config.runtime.json", ".1.config.runtime.json.77-0.tmp"] {
        fs::write(run.join(name), "{}").unwrap();
    }
    let host = builder.start().await;
    assert_eq!(files(&run), Vec::<String>::new());
    host.stop().await;
}

#[tokio::test]
async fn a_runtime_configuration_is_for_the_plugin_alone_and_goes_with_it() {
    let host = misbehave(json!({})).start().await;
    host.start_plugin("misbehave").await;
    let run = host.data_dir().join("plugins/misbehave/run");
    let names = files(&run);
    assert_eq!(names.len(), 1, "{names:?}");
    assert_eq!(fs::metadata(run.join(&names[0])).unwrap().permissions().mode() & 0o777, 0o600);
    want_down(&host, "misbehave");
    host.until_state("misbehave", State::Stopped).await;
    assert_gone(&host, "misbehave");
    host.stop().await;
}

#[tokio::test]
async fn a_folder_that_vanishes_is_said_and_the_plugin_still_stops() {
    let host = misbehave(json!({})).start().await;
    host.start_plugin("misbehave").await;
    fs::remove_dir_all(&host.host().registry.plugin("misbehave").unwrap().root).unwrap();
    signal(host.pid("misbehave"), Signal::SIGKILL);
    let record = host.until_state("misbehave", State::Backoff).await;
    let reason = record.status.reason.clone().unwrap();
    assert!(reason.contains("cannot be read: No such file or directory"), "{reason}");
    want_down(&host, "misbehave");
    host.until_state("misbehave", State::Stopped).await;
    assert_gone(&host, "misbehave");
    host.stop().await;
}

#[tokio::test]
async fn restarts_leave_no_descriptor_and_no_task() {
    if !is_alone("supervision::restarts_leave_no_descriptor_and_no_task") {
        return;
    }
    let host = misbehave(json!({})).start().await;
    host.start_plugin("misbehave").await;
    let open = || files(Path::new("/proc/self/fd")).len();
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    // Log files and the like come and go; what leaks does so at every restart.
    let most = (open() + 5, tasks() + 5);
    for _ in 0..20 {
        let old = pids(&host.host().registry.plugin("misbehave").unwrap());
        host.host().supervisor.want_again("misbehave").unwrap();
        host.until(|view| {
            let record = view.plugin("misbehave")?;
            (record.state() == State::Running && pids(record).is_disjoint(&old)).then_some(())
        })
        .await;
    }
    let settled = async {
        while open() > most.0 || tasks() > most.1 {
            tokio::task::yield_now().await;
        }
    };
    let settled = tokio::time::timeout(std::time::Duration::from_secs(10), settled).await;
    assert!(settled.is_ok(), "at most {most:?}, now {:?}", (open(), tasks()));
    host.stop().await;
}

#[tokio::test]
async fn a_flood_of_output_costs_no_memory_and_does_not_block_the_child() {
    if !is_alone("supervision::a_flood_of_output_costs_no_memory_and_does_not_block_the_child") {
        return;
    }
    let host = TestHost::builder().plugin("floods").start().await;
    let resident = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = resident();
    want_up(&host, "floods");
    let flooded = async {
        while host.host().logs.counters().left_out < 500_000 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), flooded).await.expect("the child goes on");
    let grown = resident().saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} KiB");
    want_down(&host, "floods");
    host.until_state("floods", State::Stopped).await;
    host.stop().await;
}
