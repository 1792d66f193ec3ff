//! Everything that the capabilities work with: the database, the secret, the thread for passwords.
//!
//! It decides nothing. The invariants: everything is read in one state of the database, and changed
//! through [`Accounts::change`] and [`Accounts::take_away`] alone, which go on when whoever asked has left.

use std::path::Path;
use std::sync::Arc;

use bkg_sdk::{Host, Settings};
use bkg_sqlite::rusqlite::Connection;
use bkg_sqlite::{Database, DatabaseError};
use tokio_util::task::TaskTracker;

use crate::change::{Announcements, Changed, Written};
use crate::hasher::Hasher;
use crate::hmac_key::HmacKey;
use crate::moment::Moment;
use crate::opening::{self, OpeningError};
use crate::operations::Operations;
use crate::payload::OperationId;
use crate::refusal::Refusal;
use crate::settings::AccountSettings;
use crate::user::require_users;
use crate::uses::Uses;
use crate::vitals::Vitals;

/// What the capabilities work with.
#[derive(Debug)]
pub(crate) struct Accounts {
    pub(crate) database: Database,
    pub(crate) hmac_key: HmacKey,
    pub(crate) hasher: Hasher,
    pub(crate) settings: Settings<AccountSettings>,
    pub(crate) uses: Uses,
    pub(crate) vitals: Vitals,
    announcements: Arc<Announcements>,
    operations: Arc<Operations>,
    changes: TaskTracker,
}

impl Accounts {
    /// Opens what lies in the plugin's directory, or makes it at the very first start. Blocks.
    ///
    /// # Errors
    /// What is lost or damaged, and the ways out.
    pub(crate) fn open(data_dir: &Path) -> Result<Arc<Self>, OpeningError> {
        let (database, hmac_key) = opening::open(data_dir)?;
        Ok(Arc::new(Self {
            database,
            hmac_key,
            hasher: Hasher::start().map_err(OpeningError::Thread)?,
            settings: Settings::default()
                .check(|offered: Arc<AccountSettings>| async move { offered.check() }),
            uses: Uses::default(),
            vitals: Vitals::default(),
            announcements: Arc::default(),
            operations: Arc::default(),
            changes: TaskTracker::new(),
        }))
    }

    /// Reads one state of the database.
    ///
    /// # Errors
    /// The job's, or the database's.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection, Moment) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        self.database.read(move |connection| job(connection, Moment::now())).await
    }

    /// Carries a change out: the job's rows, the next generation and the operation are on disk and
    /// announced to the host when this answers. Dropping the future does not stop it.
    ///
    /// # Errors
    /// The job's, or the database's; nothing is changed then.
    pub(crate) async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        host: &Host,
        operation: Option<OperationId>,
        job: impl FnOnce(&Connection, Moment) -> Result<Changed<T>, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let (announcements, operations) = (Arc::clone(&self.announcements), Arc::clone(&self.operations));
        let database = self.database.clone();
        let writing = async move {
            let writing = database.write(move |connection| {
                let now = Moment::now();
                if let Some(operation) = &operation {
                    operations.note(connection, operation, now)?;
                }
                announcements.carry_out(connection, now, job)
            });
            writing.await
        };
        self.see_through(host, writing).await
    }

    /// [`Accounts::change`] for what takes a right away: on a full disk it is written out of the reserve.
    /// `job` may run several times.
    ///
    /// # Errors
    /// Those of [`Accounts::change`].
    pub(crate) async fn take_away<T: Send + 'static>(
        self: &Arc<Self>,
        host: &Host,
        operation: Option<OperationId>,
        mut job: impl FnMut(&Connection, Moment) -> Result<Changed<T>, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let (announcements, operations) = (Arc::clone(&self.announcements), Arc::clone(&self.operations));
        let database = self.database.clone();
        let writing = async move {
            let writing = database.write_with_reserve(move |connection| {
                let now = Moment::now();
                if let Some(operation) = &operation {
                    operations.note(connection, operation, now)?;
                }
                announcements.carry_out(connection, now, &mut job)
            });
            writing.await
        };
        self.see_through(host, writing).await
    }

    /// Announces what was written, in a task of its own: also if the caller leaves meanwhile.
    async fn see_through<T: Send + 'static>(
        self: &Arc<Self>,
        host: &Host,
        writing: impl Future<Output = Result<Written<T>, Refusal>> + Send + 'static,
    ) -> Result<T, Refusal> {
        let (accounts, host) = (Arc::clone(self), host.clone());
        let changing = self.changes.spawn(async move {
            let written = writing.await?;
            if let Some(generation) = written.generation {
                accounts.announcements.announce(generation, &host);
            }
            Ok(written.answer)
        });
        changing.await.unwrap_or_else(|panic| {
            tracing::error!(%panic, "a change broke off");
            Err(DatabaseError::Lost.into())
        })
    }

    /// Which of these operations were carried out; those that were not never will be.
    ///
    /// # Errors
    /// There are no users, or the database's.
    pub(crate) async fn settle(&self, ids: Vec<String>) -> Result<Vec<(String, bool)>, Refusal> {
        let operations = Arc::clone(&self.operations);
        let settling = self.database.write(move |connection| {
            require_users(connection)?;
            let settle = |id: String| {
                let is_done = operations.settle(connection, &id)?;
                Ok((id, is_done))
            };
            ids.into_iter().map(settle).collect()
        });
        settling.await
    }

    /// Waits for the changes under way; no more may be begun.
    pub(crate) async fn finish(&self) {
        self.changes.close();
        self.changes.wait().await;
    }

    /// Ends the threads, and closes and seals the database. Blocks; a second call does nothing.
    pub(crate) fn close(&self) {
        self.hasher.stop();
        if let Err(error) = self.database.close() {
            tracing::error!(%error, "the database could not be closed; it opens again");
        }
    }
}
