//! `bkg role`: list roles, set what they grant, remove them.
//!
//! Who has a role is a matter of `user`. The invariant: a person at a terminal is asked before a role is
//! removed.

use bkg_protocol::RawJson;
use serde::Deserialize;
use serde_json::json;

use super::Verdict;
use super::access_arguments::RoleCommand;
use super::client::Client;
use super::error::CliError;
use super::input::Input;
use super::output::{Output, harmless};
use super::route;
use super::table::Table;
use super::target::Target;

/// Where roles are.
const ROLES: &str = "/admin/roles";

/// Carries out a command about roles.
pub(super) fn run(
    target: &Target,
    command: &RoleCommand,
    input: &mut Input,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    let client = Client::find(target)?;
    match command {
        RoleCommand::List => client.get(ROLES)?.show(output, |page: Page| list(&page.roles)),
        RoleCommand::Set { name, scopes } => {
            let answer =
                client.put(&route::item(ROLES, name), &RawJson::of(&json!({ "scopes": scopes })))?;
            answer.show(output, |role: Role| {
                harmless(&format!("the role {} grants {}", role.name, role.scopes.join(", ")))
            })
        }
        RoleCommand::Delete(deletion) => {
            let name = harmless(&deletion.name);
            let question = format!("delete the role {name}?");
            if !deletion.yes && input.is_terminal() && !input.agrees(&question)? {
                output.remark(&format!("the role {name} stays"));
                return Ok(Verdict::NotReached);
            }
            let answer = client.delete(&route::item(ROLES, &deletion.name))?;
            answer.show_done(output, &format!("the role {name} is deleted"))
        }
    }
}

/// A role as the daemon tells it: what is shown of it. Only the name must be there.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Role {
    name: String,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    built_in: bool,
    users: Option<u64>,
}

#[derive(Deserialize)]
struct Page {
    roles: Vec<Role>,
}

fn list(roles: &[Role]) -> String {
    let mut table = Table::new(["NAME", "USERS", "KIND", "SCOPES"]);
    for role in roles {
        table.row([
            role.name.clone(),
            role.users.map(|users| users.to_string()).unwrap_or_default(),
            if role.built_in { "built in" } else { "own" }.to_owned(),
            role.scopes.join(", "),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::super::access_arguments::Deletion;
    use super::super::client::tests::{ScriptedDaemon, answer};
    use super::*;

    fn run_against(body: &str, command: &RoleCommand) -> (String, String) {
        let daemon = ScriptedDaemon::start(vec![answer("200 OK", body)]);
        let mut output = Output::captured(false);
        let verdict = run(&daemon.target(), command, &mut Input::typed(["y"]), &mut output).unwrap();
        assert_eq!(verdict, Verdict::Reached);
        (output.written(), daemon.requests().remove(0))
    }

    #[test]
    fn a_list_has_one_line_per_role() {
        let body = r#"{"roles":[{"name":"admin","scopes":["admin"],"builtIn":true,"users":1},
            {"name":"writer","scopes":["llm.chat","repo.*"],"builtIn":false,"users":0}]}"#;
        let (text, request) = run_against(body, &RoleCommand::List);
        assert_eq!(
            text,
            "\
NAME    USERS  KIND      SCOPES
admin   1      built in  admin
writer  0      own       llm.chat, repo.*
"
        );
        assert!(request.starts_with("GET /admin/roles HTTP/1.1\r\n"), "{request}");
    }

    #[test]
    fn a_role_gets_exactly_the_scopes_that_were_given() {
        let scopes = vec!["llm.chat".parse().unwrap(), "repo.*".parse().unwrap()];
        let command = RoleCommand::Set { name: "writer".into(), scopes };
        let body = r#"{"name":"writer","scopes":["llm.chat","repo.*"],"builtIn":false,"users":0}"#;
        let (text, request) = run_against(body, &command);
        assert_eq!(text, "the role writer grants llm.chat, repo.*\n");
        assert!(request.starts_with("PUT /admin/roles/writer HTTP/1.1\r\n"), "{request}");
        assert!(request.ends_with(r#"{"scopes":["llm.chat","repo.*"]}"#), "{request}");
    }

    #[test]
    fn a_role_is_deleted_after_a_yes() {
        let command = RoleCommand::Delete(Deletion { name: "writer".into(), yes: false });
        let (text, request) = run_against("", &command);
        assert_eq!(text, "the role writer is deleted\n");
        assert!(request.starts_with("DELETE /admin/roles/writer HTTP/1.1\r\n"), "{request}");
    }

    #[test]
    fn without_a_yes_the_role_stays() {
        let daemon = ScriptedDaemon::start(vec![answer("200 OK", "{}")]);
        let command = RoleCommand::Delete(Deletion { name: "writer".into(), yes: false });
        let mut output = Output::captured(false);
        let verdict = run(&daemon.target(), &command, &mut Input::typed([""]), &mut output).unwrap();
        assert_eq!((verdict, output.remarked().as_str()), (Verdict::NotReached, "the role writer stays\n"));
        // The only request that the daemon gets is this one.
        Client::find(&daemon.target()).unwrap().get("/x").unwrap();
        assert!(daemon.requests()[0].starts_with("GET /x "));
    }
}
