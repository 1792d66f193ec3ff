//! New rows of the audit log as events, read once for all sockets.
//!
//! Nothing of it is ever left out: a socket that is behind what is kept here reads from the store. The
//! invariant: rows come in the order of their numbers, without a hole and without a repetition.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::message::{ServerMessage, Text, Topic};
use crate::store::{Audit, AuditRow, StoreError};

/// How many rows stay here, for sockets that keep up.
const KEPT: usize = 256;
/// How many rows are read at once.
const PAGE: usize = 64;

/// The newest rows of the audit log.
#[derive(Debug)]
pub(super) struct Trail {
    audit: Audit,
    /// Oldest first, with their numbers, which have no hole.
    kept: Mutex<VecDeque<(u64, Text)>>,
    /// The number of the newest row; wakes who follows.
    newest: watch::Sender<u64>,
}

impl Trail {
    /// A trail that begins with the next row.
    ///
    /// # Errors
    /// The database's.
    pub(super) async fn new(audit: Audit) -> Result<Self, StoreError> {
        let newest = audit.newest().await?;
        Ok(Self { audit, kept: Mutex::default(), newest: watch::Sender::new(newest) })
    }

    /// Makes an event of every new row, until the stop.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut follow = self.audit.follow();
        loop {
            if let Err(error) = self.read().await {
                warn!(%error, "new entries of the audit log cannot be shown as they come");
            }
            match stop.run_until_cancelled(follow.changed()).await {
                Some(Ok(())) => {}
                _ => return,
            }
        }
    }

    /// Reads what is new.
    async fn read(&self) -> Result<(), StoreError> {
        loop {
            let rows = self.audit.after(self.newest(), PAGE).await?;
            let Some(last) = rows.last().map(number) else { return Ok(()) };
            {
                let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend(rows.into_iter().map(event));
                let surplus = kept.len().saturating_sub(KEPT);
                kept.drain(..surplus);
            }
            self.newest.send_replace(last);
        }
    }

    /// The number of the newest row.
    pub(super) fn newest(&self) -> u64 {
        *self.newest.borrow()
    }

    /// The row after a number, if it is kept here.
    fn kept_after(&self, position: u64) -> Option<(u64, Text)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let first = kept.front()?.0;
        let index = (position + 1).checked_sub(first)?;
        kept.get(usize::try_from(index).ok()?).cloned()
    }
}

fn number(row: &AuditRow) -> u64 {
    row.seq.unsigned_abs()
}

fn event(row: AuditRow) -> (u64, Text) {
    let seq = number(&row);
    let message =
        ServerMessage::Audit { topic: Topic::Audit, plugin_id: None, seq, payload: Box::new(row) };
    (seq, message.text())
}

/// One socket's place in the audit log.
#[derive(Debug)]
pub(super) struct AuditFeed {
    trail: Arc<Trail>,
    newest: watch::Receiver<u64>,
    /// The number of the last row that was taken.
    position: u64,
    /// Read from the store and not yet taken; at most a page.
    ready: VecDeque<(u64, Text)>,
}

impl AuditFeed {
    /// What comes after a row; from now on, if there is none. A number that the log has not reached is
    /// that of its newest row. Answers the number too that it goes on from.
    pub(super) fn new(trail: &Arc<Trail>, after: Option<u64>) -> (Self, u64) {
        let (trail, newest) = (Arc::clone(trail), trail.newest.subscribe());
        let position = after.unwrap_or(u64::MAX).min(trail.newest());
        (Self { trail, newest, position, ready: VecDeque::new() }, position)
    }

    /// The next row.
    ///
    /// # Errors
    /// The database's.
    pub(super) async fn next(&mut self) -> Result<Text, StoreError> {
        loop {
            let newest = *self.newest.borrow_and_update();
            if let Some((seq, text)) =
                self.ready.pop_front().or_else(|| self.trail.kept_after(self.position))
            {
                self.position = seq;
                return Ok(text);
            }
            if self.position < newest {
                let rows = self.trail.audit.after(self.position, PAGE).await?;
                // Only somebody else's hand can have removed what is not there.
                if rows.is_empty() {
                    self.position = newest;
                }
                self.ready.extend(rows.into_iter().map(event));
                continue;
            }
            if self.newest.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
