//! Every route for operators has a command, or a reason why it has none.
//!
//! The rows come from the host's own table of routes, so a new route has to be thought of here. That each
//! command exists is asked of the real program; what the commands do is in `../clients/python`.

use std::collections::BTreeSet;
use std::process::Command;

use crate::host::TestHost;

/// Which command asks a route, or why none does.
enum Use {
    /// This one, without its arguments.
    By(&'static str),
    /// None does.
    Never(&'static str),
}

use Use::{By, Never};

/// Routes that applications use, and browsers.
const NOT_FOR_OPERATORS: [&str; 5] = ["/v1/", "/health", "/ws", "/docs", "/openapi"];

const USES: &[(&str, &str, Use)] = &[
    ("GET", "/admin/audit", By("audit list")),
    ("POST", "/admin/backup", By("backup")),
    ("GET", "/admin/backup/preview", By("backup")),
    ("GET", "/admin/keys", By("key list")),
    ("POST", "/admin/keys", By("key create")),
    ("DELETE", "/admin/keys/{id}", By("key revoke")),
    ("POST", "/admin/keys/{id}/rotate", By("key rotate")),
    ("GET", "/admin/logs", By("logs")),
    ("GET", "/admin/mirror", By("config mirror")),
    ("POST", "/admin/mirror/discard", By("config mirror discard")),
    ("POST", "/admin/mirror/import", By("config mirror import")),
    ("GET", "/admin/plugins", By("plugin list")),
    ("GET", "/admin/plugins/{name}", By("plugin show")),
    ("GET", "/admin/plugins/{name}/config", By("config get")),
    ("POST", "/admin/plugins/{name}/config", By("config set")),
    ("PUT", "/admin/plugins/{name}/config", By("config edit")),
    ("GET", "/admin/plugins/{name}/config/diff", By("config diff")),
    ("POST", "/admin/plugins/{name}/config/reset", By("config reset")),
    ("POST", "/admin/plugins/{name}/config/return", By("config return")),
    ("GET", "/admin/plugins/{name}/config/revisions", By("config revisions")),
    ("GET", "/admin/plugins/{name}/config/revisions/{revision}", By("config get")),
    ("GET", "/admin/plugins/{name}/events", By("plugin events")),
    ("GET", "/admin/plugins/{name}/logs", By("plugin logs")),
    ("GET", "/admin/plugins/{name}/logs/download", By("logs")),
    ("POST", "/admin/plugins/{name}/restart", By("plugin restart")),
    ("POST", "/admin/plugins/{name}/start", By("plugin start")),
    ("POST", "/admin/plugins/{name}/stop", By("plugin stop")),
    ("POST", "/admin/plugins/{name}/swap", By("plugin swap")),
    ("GET", "/admin/plugins/{name}/routes", Never("`plugin routes` lists them for all plugins")),
    ("GET", "/admin/plugins/{name}/runs", By("plugin runs")),
    ("GET", "/admin/plugins/{name}/runs/{id}", By("plugin runs")),
    ("GET", "/admin/plugins/{name}/telemetry", By("plugin telemetry")),
    ("GET", "/admin/ports", By("ports")),
    ("GET", "/admin/requests", By("requests")),
    ("GET", "/admin/requests/{id}", By("requests")),
    ("GET", "/admin/routing", By("route")),
    ("PUT", "/admin/routing", By("route set")),
    ("GET", "/admin/routing/decision", By("route")),
    ("GET", "/admin/roles", By("role list")),
    ("DELETE", "/admin/roles/{name}", By("role delete")),
    ("PUT", "/admin/roles/{name}", By("role set")),
    ("GET", "/admin/sessions", By("session list")),
    ("DELETE", "/admin/sessions/{id}", By("session revoke")),
    ("GET", "/admin/system", By("system")),
    ("GET", "/admin/usage", By("usage")),
    ("GET", "/metrics", Never("it is for programs that scrape; `top` and `system` show figures")),
    ("GET", "/admin/users", By("user list")),
    ("POST", "/admin/users", By("user create")),
    ("DELETE", "/admin/users/{id}", By("user delete")),
    ("PATCH", "/admin/users/{id}", By("user update")),
    ("POST", "/admin/users/{id}/password", By("user password")),
    ("POST", "/admin/users/{id}/reset", By("user reset")),
    ("GET", "/api/plugins", Never("`plugin list` asks for what operators see of plugins")),
    ("POST", "/api/plugins/execute", By("run")),
    ("GET", "/api/plugins/routes", By("plugin routes")),
    ("GET", "/api/plugins/telemetry", Never("`top` asks for the figures of each plugin that runs")),
    ("GET", "/api/plugins/{name}", Never("`plugin show` asks for what operators see of a plugin")),
    ("GET", "/api/plugins/{name}/capabilities", Never("`plugin show` has the capabilities")),
    ("POST", "/api/plugins/{name}/invoke", By("plugin invoke")),
    ("GET", "/api/plugins/{name}/logs", Never("`logs` asks for what operators see of a log")),
    ("GET", "/api/plugins/{name}/status", Never("`plugin show` has the status")),
    ("GET", "/api/plugins/{name}/telemetry", Never("`plugin telemetry` asks as an operator")),
    ("GET", "/api/usage", By("usage")),
    ("POST", "/auth/login", By("login")),
    ("POST", "/auth/logout", By("logout")),
    ("GET", "/auth/me", By("whoami")),
    (
        "PATCH",
        "/auth/me",
        Never("a name for oneself is the control centre's; `user update` sets anybody's"),
    ),
    ("POST", "/auth/password", By("user password")),
    ("POST", "/auth/refresh", By("whoami")),
    ("GET", "/auth/sessions", By("session list")),
    ("DELETE", "/auth/sessions/{id}", By("session revoke")),
    ("POST", "/auth/ticket", Never("a ticket opens the live feed of a browser")),
];

#[tokio::test]
async fn every_route_for_operators_has_a_command_or_a_reason_why_it_has_none() {
    let host = TestHost::builder().start().await;
    let unknown: Vec<String> = host
        .host()
        .routes()
        .iter()
        .filter(|route| !NOT_FOR_OPERATORS.iter().any(|start| route.path.starts_with(start)))
        // Routes of plugins are whatever plugins make of them.
        .filter(|route| !route.catches_all)
        .filter(|route| {
            !USES.iter().any(|(method, path, _)| route.method == *method && route.path == *path)
        })
        .map(|route| format!("{} {}", route.method, route.path))
        .collect();
    assert!(unknown.is_empty(), "no command asks these, and no reason says why: {unknown:#?}");
    let gone: Vec<String> = USES
        .iter()
        .filter(|(method, path, _)| {
            !host.host().routes().iter().any(|route| route.method == *method && route.path == *path)
        })
        .map(|(method, path, _)| format!("{method} {path}"))
        .collect();
    assert!(gone.is_empty(), "the host has no such routes any more: {gone:#?}");
}

#[test]
fn the_commands_that_ask_routes_exist() {
    let commands: BTreeSet<&str> = USES
        .iter()
        .filter_map(|(_, path, used)| match used {
            By(command) => Some(*command),
            Never(reason) => {
                assert!(!reason.is_empty(), "{path}");
                None
            }
        })
        .collect();
    for command in commands {
        let words = command.split(' ').chain(["--help"]);
        let help = Command::new(env!("CARGO_BIN_EXE_bkg")).args(words).output().unwrap();
        let text = String::from_utf8_lossy(&help.stdout);
        assert!(help.status.success(), "bkg {command}");
        assert!(text.contains(&format!("Usage: bkg {command}")), "bkg {command}: {text}");
    }
}
