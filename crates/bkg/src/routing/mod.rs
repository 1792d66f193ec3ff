//! Which models answer for the name that a client asked for: the table of routes, who is fit, and the
//! decision.
//!
//! Not the attempts, which the gateway makes, and not which instance of a plugin answers, which the
//! dispatcher knows. The invariant: a request is decided by one table, the one that held when it began;
//! what was acknowledged as saved holds for every request that begins afterwards.

mod decide;
mod health;
mod safety;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bkg_protocol::CapabilityName;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;
use tracing::{error, info};

pub use decide::{Candidate, Circumstances, Decision, Part, Verdict, decide, route_for};
pub use health::{FAILURES, Health, Standing, Trial};
pub use safety::{Onward, onward, speaks_against};

use crate::config::{ModelName, RoutingDocument};
use crate::dispatcher::Dispatcher;
use crate::registry::ModelOwner;
use crate::store::{Action, Replaced, Settings, StoreError};

/// Under which name the store keeps the document.
const SETTING: &str = "routing";

/// The routes of a host, and the standing of the models behind them.
#[derive(Debug)]
pub struct Routing {
    table: ArcSwap<Table>,
    health: Arc<Health>,
    settings: Settings,
    /// Changes under way: they end also if whoever asked for them has left.
    changes: TaskTracker,
}

/// The routes at one moment.
#[derive(Debug)]
pub struct Table {
    /// How often routes were saved; 0 means never, and that the configuration file's hold.
    pub revision: u64,
    /// When they were saved.
    pub saved_at: Option<Timestamp>,
    /// The routes.
    pub document: RoutingDocument,
    /// How many requests each route has chosen for.
    turns: HashMap<ModelName, AtomicU64>,
}

/// The document as the store keeps it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    revision: u64,
    saved_at: Timestamp,
    document: Value,
}

/// Why routes were not saved.
#[derive(Debug, thiserror::Error)]
pub enum RoutingError {
    /// Somebody else saved meanwhile.
    #[error("the routes are at revision {actual}, not {expected}: read them again, then repeat the change")]
    Conflict {
        /// The revision that was expected.
        expected: u64,
        /// The one that holds.
        actual: u64,
    },
    /// They could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Table {
    fn new(revision: u64, saved_at: Option<Timestamp>, document: RoutingDocument) -> Self {
        let turns = document.routes.keys().map(|name| (name.clone(), AtomicU64::new(0))).collect();
        Self { revision, saved_at, document, turns }
    }
}

impl Routing {
    /// The routes that were saved, else those of the configuration file.
    ///
    /// # Errors
    /// The database's.
    pub async fn open(settings: Settings, configured: RoutingDocument) -> Result<Self, StoreError> {
        let table = match settings.read(SETTING).await? {
            None => Table::new(0, None, configured),
            Some(text) => restored(&text, configured),
        };
        let health = Health::new(rand::random);
        Ok(Self { table: ArcSwap::from_pointee(table), health, settings, changes: TaskTracker::new() })
    }

    /// The routes as they are now.
    pub fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// The standing of models.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Saves other routes and has them hold, to the end even if nobody waits for it. `expected`: only if
    /// this revision holds. `action` is written to the audit log with what changes.
    ///
    /// # Errors
    /// [`RoutingError::Conflict`] if another revision holds, or the database's; nothing is changed then.
    pub async fn save(
        self: &Arc<Self>,
        expected: Option<u64>,
        document: RoutingDocument,
        action: Action,
    ) -> Result<Arc<Table>, RoutingError> {
        let routing = Arc::clone(self);
        let change = self.changes.spawn(async move { routing.replace(expected, document, action).await });
        change.await.expect("a change does not panic, and nobody ends it")
    }

    async fn replace(
        &self,
        expected: Option<u64>,
        document: RoutingDocument,
        action: Action,
    ) -> Result<Arc<Table>, RoutingError> {
        loop {
            let before = self.table();
            if let Some(expected) = expected.filter(|expected| *expected != before.revision) {
                return Err(RoutingError::Conflict { expected, actual: before.revision });
            }
            let (revision, saved_at) = (before.revision + 1, Timestamp::now());
            let detail = differences(&before.document, &document, revision);
            let kept = Kept { revision, saved_at, document: document.to_json() };
            let text = serde_json::to_string(&kept).expect("what is kept has a JSON form");
            let stays = move |now: Option<&str>| now.map_or(0, revision_of) == revision - 1;
            let action = Action { detail, ..action.clone() };
            match self.settings.replace(SETTING, stays, text, action).await? {
                Replaced::Done => {
                    let after = Arc::new(Table::new(revision, Some(saved_at), document));
                    // Who saved the revision after this one may have been quicker here.
                    self.table.rcu(|now| {
                        if now.revision < revision { Arc::clone(&after) } else { Arc::clone(now) }
                    });
                    info!(revision, "the routes were changed");
                    return Ok(after);
                }
                // Somebody else has saved, and has them hold in a moment.
                Replaced::NotExpected => tokio::task::yield_now().await,
            }
        }
    }

    /// Waits for the changes that are under way.
    pub async fn finish(&self) {
        self.changes.close();
        self.changes.wait().await;
    }

    /// How things are for requests of a capability, seen by somebody who may use what `permits` says.
    pub fn now<'a, P>(
        &'a self,
        table: &'a Table,
        dispatcher: &'a Dispatcher,
        capability: &'a CapabilityName,
        permits: P,
    ) -> Now<'a, P> {
        Now { routing: self, table, dispatcher, capability, permits, takes_turns: true }
    }
}

/// How things are at this moment.
#[derive(Debug)]
pub struct Now<'a, P> {
    routing: &'a Routing,
    table: &'a Table,
    dispatcher: &'a Dispatcher,
    capability: &'a CapabilityName,
    permits: P,
    takes_turns: bool,
}

impl<P> Now<'_, P> {
    /// The same for somebody who only looks: no turn is used up.
    #[must_use]
    pub fn looked_at(self) -> Self {
        Self { takes_turns: false, ..self }
    }
}

impl<P: Fn(&ModelOwner) -> bool> Circumstances for Now<'_, P> {
    fn owners(&self, model: &str) -> Vec<Arc<ModelOwner>> {
        self.dispatcher.owners_of(self.capability, model)
    }

    fn takes(&self, owner: &ModelOwner) -> Result<(), String> {
        self.dispatcher.takes(&owner.plugin, self.capability)
    }

    fn standing(&self, owner: &ModelOwner) -> Standing {
        self.routing.health.standing(&owner.plugin, &owner.model.id).0
    }

    fn permits(&self, owner: &ModelOwner) -> bool {
        (self.permits)(owner)
    }

    fn turn(&self, route: &ModelName) -> f64 {
        let Some(turns) = self.table.turns.get(route) else { return 0.0 };
        let taken = match self.takes_turns {
            true => turns.fetch_add(1, Ordering::Relaxed),
            false => turns.load(Ordering::Relaxed),
        };
        decide::turn_of(taken)
    }
}

/// The table that was saved. One that this version cannot read does not keep the host from starting.
fn restored(text: &str, configured: RoutingDocument) -> Table {
    let revision = revision_of(text);
    let unreadable = |why: String| {
        error!(why, "the saved routes cannot be read: those of the configuration file hold");
        Table::new(revision, None, configured)
    };
    let kept: Kept = match serde_json::from_str(text) {
        Ok(kept) => kept,
        Err(error) => return unreadable(error.to_string()),
    };
    match RoutingDocument::read(&kept.document) {
        Ok(document) => Table::new(kept.revision, Some(kept.saved_at), document),
        Err(found) => {
            let found: Vec<String> =
                found.iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect();
            unreadable(found.join("; "))
        }
    }
}

/// The revision of what is kept; 0 if it says none.
fn revision_of(text: &str) -> u64 {
    #[derive(Deserialize)]
    struct Revision {
        revision: u64,
    }
    serde_json::from_str::<Revision>(text).map_or(0, |kept| kept.revision)
}

/// What the audit log says of a change.
fn differences(before: &RoutingDocument, after: &RoutingDocument, revision: u64) -> Value {
    let (old, new) = (&before.routes, &after.routes);
    let added: Vec<&ModelName> = new.keys().filter(|name| !old.contains_key(*name)).collect();
    let removed: Vec<&ModelName> = old.keys().filter(|name| !new.contains_key(*name)).collect();
    let is_changed = |name: &&ModelName| old.get(*name).is_some_and(|route| Some(route) != new.get(*name));
    let changed: Vec<&ModelName> = new.keys().filter(is_changed).collect();
    json!({ "revision": revision, "added": added, "changed": changed, "removed": removed })
}
