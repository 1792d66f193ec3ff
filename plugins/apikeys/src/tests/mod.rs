//! The plugin as the host sees it, with a database on disk.
//!
//! Time passes by changing what the database says about it.

mod backup;
mod change;
mod keys;
mod logins;
mod opening;
mod rights;
mod survival;
mod users;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bkg_protocol::message;
use bkg_sdk::testing::{TestHost, TestRequest};
use bkg_sdk::{Caller, RawJson, WireError};
use bkg_sqlite::DatabaseError;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::accounts::Accounts;
use crate::plugin;

const ADMIN_PASSWORD: &str = "correct horse battery";

/// The plugin with its directory, on a host in memory.
struct Setup {
    host: TestHost,
    accounts: Arc<Accounts>,
    directory: TempDir,
}

impl Drop for Setup {
    fn drop(&mut self) {
        self.accounts.close();
    }
}

impl Setup {
    /// Without users.
    async fn empty() -> Self {
        Self::in_directory(tempfile::tempdir().unwrap(), json!({ "bcryptCost": 4 })).await
    }

    /// With the administrator `admin`.
    async fn with_admin() -> Self {
        let setup = Self::empty().await;
        setup.bootstrap().await;
        setup
    }

    async fn in_directory(directory: TempDir, settings: Value) -> Self {
        let path = directory.path().to_owned();
        let opening = tokio::task::spawn_blocking(move || Accounts::open(&path).unwrap());
        let accounts = opening.await.unwrap();
        let host = TestHost::builder().name("apikeys").settings(settings).start(plugin(&accounts)).await;
        Self { host, accounts, directory }
    }

    /// Ends the plugin in order and starts it again in the same directory.
    async fn restart(mut self) -> Self {
        self.host.signal();
        self.host.ended().await.unwrap();
        self.accounts.close();
        let directory = std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap());
        Self::in_directory(directory, json!({ "bcryptCost": 4 })).await
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    async fn bootstrap(&self) -> Value {
        let payload = json!({ "user": "admin", "password": ADMIN_PASSWORD, "mustChange": false });
        self.by(Host).ask("auth.bootstrap", payload).await.unwrap()
    }

    /// Asks on behalf of somebody.
    fn by(&self, who: impl Into<Option<Caller>>) -> Asking<'_> {
        Asking { setup: self, caller: who.into().map(Arc::new) }
    }

    /// Asks with the root key.
    fn root(&self) -> Asking<'_> {
        self.by(Root)
    }

    /// What a token opens.
    async fn validate(&self, token: &Value) -> Value {
        self.by(Host).ask("auth.validate", json!({ "token": token })).await.unwrap()
    }

    async fn opens(&self, token: &Value) -> bool {
        self.validate(token).await["active"] == true
    }

    /// Whoever a token belongs to, as the host passes that on.
    async fn caller(&self, token: &Value) -> Caller {
        let verdict = self.validate(token).await;
        assert_eq!(verdict["active"], true, "{verdict}");
        Caller {
            user: verdict["user"].as_str().unwrap().to_owned(),
            key_id: verdict["keyId"].as_str().map(str::to_owned),
            scopes: serde_json::from_value(verdict["scopes"].clone()).unwrap(),
        }
    }

    async fn log_in(&self, user: &str, password: &str) -> Result<Value, WireError> {
        self.by(Host).ask("auth.login", json!({ "username": user, "password": password })).await
    }

    async fn refresh(&self, token: &Value) -> Result<Value, WireError> {
        self.by(Host).ask("auth.refresh", json!({ "refreshToken": token })).await
    }

    /// A user with a password that need not be changed, and a login.
    async fn user(&self, name: &str, role: &str) -> Value {
        self.root().ask("auth.users.create", json!({ "name": name, "role": role })).await.unwrap();
        let password = format!("password of {name}");
        self.root()
            .ask("auth.users.password", json!({ "id": name, "newPassword": password }))
            .await
            .unwrap();
        let id = name.to_owned();
        self.sql(move |connection| {
            connection.execute("UPDATE users SET must_change_password = 0 WHERE name = ?1", [id])
        })
        .await;
        self.log_in(name, &password).await.unwrap()
    }

    /// A key of `user` with these scopes.
    async fn key(&self, user: &str, scopes: &[&str]) -> Value {
        self.root().ask("auth.createKey", json!({ "user": user, "scopes": scopes })).await.unwrap()
    }

    /// Changes the database behind the plugin's back.
    async fn sql<T: Send + 'static>(
        &self,
        job: impl FnOnce(&bkg_sqlite::rusqlite::Connection) -> bkg_sqlite::rusqlite::Result<T> + Send + 'static,
    ) -> T {
        self.accounts
            .database
            .write(move |connection| job(connection).map_err(DatabaseError::from))
            .await
            .unwrap()
    }
}

/// On nobody's behalf.
struct Host;
/// With the root key.
struct Root;

impl From<Host> for Option<Caller> {
    fn from(_: Host) -> Self {
        None
    }
}

impl From<Root> for Option<Caller> {
    fn from(_: Root) -> Self {
        Some(caller("root", &["admin"]))
    }
}

fn caller(user: &str, scopes: &[&str]) -> Caller {
    let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    Caller { user: user.to_owned(), key_id: None, scopes }
}

/// Somebody who asks.
struct Asking<'a> {
    setup: &'a Setup,
    caller: Option<Arc<Caller>>,
}

impl Asking<'_> {
    fn start(&self, capability: &str, mut payload: Value) -> TestRequest {
        static OPERATIONS: AtomicU64 = AtomicU64::new(0);
        let changes =
            ["createKey", "revoke", "rotateKey", "create", "update", "password", "delete", "reset", "set"];
        let last = capability.rsplit('.').next().unwrap();
        if changes.iter().any(|change| last == *change || last == "revokeKey")
            && let Some(members) = payload.as_object_mut()
            && !members.contains_key("operationId")
        {
            let number = OPERATIONS.fetch_add(1, Ordering::Relaxed);
            members.insert("operationId".to_owned(), json!(format!("operation-{number}")));
        }
        let mut request = message::Request::new(capability.parse().unwrap(), RawJson::of(&payload));
        request.caller = self.caller.clone();
        self.setup.host.send(request)
    }

    async fn ask(&self, capability: &str, payload: Value) -> Result<Value, WireError> {
        Ok(self.start(capability, payload).outcome().await?.read().unwrap())
    }

    /// The code and parameter of the refusal.
    async fn refused(&self, capability: &str, payload: Value) -> (String, Option<String>) {
        match self.ask(capability, payload.clone()).await {
            Err(error) => (error.code, error.param),
            Ok(answer) => panic!("`{capability}` {payload} was answered: {answer}"),
        }
    }

    async fn code(&self, capability: &str, payload: Value) -> String {
        self.refused(capability, payload).await.0
    }
}

fn refusal(code: &str, param: &str) -> (String, Option<String>) {
    (code.to_owned(), Some(param.to_owned()))
}
