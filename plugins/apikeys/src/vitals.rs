//! Whether the database still takes writes, and what the host is told about it.
//!
//! The invariant: a failed write shows in the plugin's health at once, and so does its end, for which
//! nobody has to ask again. A disk that is full, or fails at a write, leaves reading alone, so credentials are still checked then.

use std::sync::Arc;
use std::time::Duration;

use bkg_sdk::{Health, Host};
use bkg_sqlite::DatabaseError;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::accounts::Accounts;

/// How often a database that fails is tried again.
const TRY_EVERY: Duration = Duration::from_secs(2);

/// Whether the database fails.
#[derive(Debug)]
pub(crate) struct Vitals {
    failing: watch::Sender<bool>,
}

impl Default for Vitals {
    fn default() -> Self {
        Self { failing: watch::Sender::new(false) }
    }
}

impl Vitals {
    /// Tells the host that the database failed.
    pub(crate) fn failed(&self, error: &DatabaseError, host: &Host) {
        if matches!(error, DatabaseError::Closed) {
            // The plugin is about to end, which the host knows.
            return;
        }
        let (health, detail) = match error {
            DatabaseError::Full => (
                Health::Degraded,
                "the disk is full: keys are checked, and can be revoked, but nothing else can be changed"
                    .to_owned(),
            ),
            // What was read before is read still, so nobody is kept out.
            DatabaseError::Failing { reason } => (
                Health::Degraded,
                format!("the disk fails ({reason}): keys are checked, but nothing can be changed"),
            ),
            // Among others what shared its transaction with a change for which the disk was too full: that
            // says nothing against reading, and `down` would keep everybody out.
            DatabaseError::Lost => (
                Health::Degraded,
                "a change broke off, and the log says why: keys are checked, but changes may fail"
                    .to_owned(),
            ),
            _ => (Health::Down, error.to_string()),
        };
        if !self.failing.send_replace(true) {
            tracing::error!(%error, "the database of users and keys fails");
        }
        host.set_health(health, detail);
    }
}

/// Tries a database that failed until it works again, as long as the plugin runs.
pub(crate) async fn watch_over(accounts: Arc<Accounts>, host: Host) {
    let mut failing = accounts.vitals.failing.subscribe();
    let watching = async {
        while failing.wait_for(|failing| *failing).await.is_ok() {
            sleep(TRY_EVERY).await;
            // A row that is written as it was is a write all the same.
            let trying = accounts.database.write(|connection| {
                connection.execute("UPDATE generation SET number = number", [])?;
                Ok::<_, DatabaseError>(())
            });
            match trying.await {
                Ok(()) => {
                    accounts.vitals.failing.send_replace(false);
                    tracing::info!("the database of users and keys works again");
                    host.set_health(Health::Up, "");
                }
                Err(error) => accounts.vitals.failed(&error, &host),
            }
        }
    };
    host.stopping().run_until_cancelled(watching).await;
}
