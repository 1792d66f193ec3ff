//! The apikeys plugin: the auth provider that comes with the host.
//!
//! It answers `auth.*` as `docs/auth-provider.md` has it: who a credential belongs to and what it opens,
//! and everything about users, roles, keys and logins. It decides nothing about routes, which the host
//! does. The invariant: it starts with the accounts that it had, or not at all.

mod accounts;
mod backup;
mod bounds;
mod change;
mod hasher;
mod hmac_key;
mod key;
mod key_changes;
mod limits;
mod login;
mod moment;
mod names;
mod opening;
mod operations;
mod outcome;
mod password;
mod payload;
mod refusal;
mod rights;
mod role;
mod session;
mod settings;
mod token;
mod user;
mod user_changes;
mod uses;
mod validate;
mod vitals;

#[cfg(test)]
mod tests;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use bkg_sdk::{Capability, Environment, IntoJson, Plugin, Request, WireError};

use crate::accounts::Accounts;
use crate::refusal::Refusal;

/// Something must be changed before another launch can work, as the SDK says it.
const CONFIGURATION: u8 = 78;

fn main() -> ExitCode {
    let environment = Environment::of_process();
    let data_dir = environment.as_ref().map_err(ToString::to_string).and_then(|environment| {
        environment.data_dir().map(Path::to_owned).map_err(|error| error.to_string())
    });
    let data_dir = match data_dir {
        Ok(data_dir) => data_dir,
        Err(error) => return give_up(&error, CONFIGURATION),
    };
    match Accounts::open(&data_dir) {
        Ok(accounts) => {
            let code = plugin(&accounts).run();
            accounts.close();
            code
        }
        Err(error) => give_up(&error.to_string(), error.exit_code()),
    }
}

/// The host reads what a launch writes, and shows it beside the plugin.
fn give_up(reason: &str, code: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "error: {reason}");
    ExitCode::from(code)
}

fn plugin(accounts: &Arc<Accounts>) -> Plugin {
    let looks = |name: &str, text: &str| Capability::new(name).description(text).idempotent();
    let changes = |name: &str, text: &str| Capability::new(name).description(text).side_effect();
    let (watched, finished, copied) = (accounts.clone(), accounts.clone(), accounts.clone());
    let plugin = Plugin::new()
        .version(env!("CARGO_PKG_VERSION"))
        .settings(&accounts.settings)
        .backup(move |directory| backup::copy(copied.clone(), directory))
        .background(move |host| vitals::watch_over(watched, host))
        .background(move |host| async move {
            host.stopping().cancelled().await;
            finished.finish().await;
        });
    let credentials = [
        answered(looks("auth.validate", "What a credential opens"), accounts, validate::validate),
        answered(changes("auth.login", "Begins a login with a password"), accounts, login::login),
        answered(changes("auth.refresh", "Renews a login"), accounts, login::refresh),
        answered(changes("auth.logout", "Ends a login"), accounts, session::logout),
        answered(looks("auth.me", "A user, for that user"), accounts, user_changes::me),
    ];
    let keys = [
        answered(changes("auth.createKey", "Makes an API key"), accounts, key_changes::create),
        answered(looks("auth.listKeys", "API keys without their secrets"), accounts, key_changes::list),
        answered(changes("auth.revokeKey", "Makes an API key worthless"), accounts, key_changes::revoke),
        answered(changes("auth.rotateKey", "Gives an API key a new secret"), accounts, key_changes::rotate),
    ];
    let users = [
        answered(changes("auth.bootstrap", "Makes the first user"), accounts, user_changes::bootstrap),
        answered(looks("auth.users.list", "All users"), accounts, user_changes::list),
        answered(changes("auth.users.create", "Makes a user"), accounts, user_changes::create),
        answered(changes("auth.users.update", "Changes a user"), accounts, user_changes::update),
        answered(changes("auth.users.password", "Sets a password"), accounts, user_changes::set_password),
        answered(changes("auth.users.delete", "Removes a user"), accounts, user_changes::delete),
        answered(changes("auth.users.reset", "Lets a user in again"), accounts, user_changes::reset),
    ];
    let others = [
        answered(looks("auth.roles.list", "All roles"), accounts, role::list),
        answered(changes("auth.roles.set", "Makes or changes a role"), accounts, role::set),
        answered(changes("auth.roles.delete", "Removes a role"), accounts, role::delete),
        answered(looks("auth.sessions.list", "Logins that have not ended"), accounts, session::list),
        answered(changes("auth.sessions.revoke", "Ends somebody's login"), accounts, session::revoke),
        answered(looks("auth.outcome", "Whether changes happened"), accounts, outcome::outcome),
    ];
    let all = credentials.into_iter().chain(keys).chain(users).chain(others);
    all.fold(plugin, Plugin::capability)
}

/// Answers a capability, and turns what was refused into the errors of the contract.
fn answered<H, F, A>(capability: Capability, accounts: &Arc<Accounts>, handler: H) -> Capability
where
    H: Fn(Arc<Accounts>, Request) -> F + Send + Sync + 'static,
    F: Future<Output = Result<A, Refusal>> + Send + 'static,
    A: IntoJson,
{
    let accounts = Arc::clone(accounts);
    capability.answer(move |request: Request| {
        let (host, accounts) = (request.host().clone(), Arc::clone(&accounts));
        let work = handler(Arc::clone(&accounts), request);
        async move {
            work.await.map_err(|refusal| {
                if let Refusal::Database(error) = &refusal {
                    accounts.vitals.failed(error, &host);
                }
                WireError::from(refusal)
            })
        }
    })
}
