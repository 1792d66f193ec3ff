//! Hashes passwords and checks them, one at a time, in one thread of low priority.
//!
//! Whoever floods the daemon with logins slows logins down and nothing else. The invariant: the check
//! of a password costs one bcrypt, whether there is a user or not. Called by logins and by changes of
//! passwords.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bkg_sqlite::rusqlite;
use rusqlite::ToSql;
use rusqlite::types::{FromSql, FromSqlResult, ToSqlOutput, ValueRef};
use tokio::sync::{mpsc, oneshot};

use crate::password::Password;
use crate::refusal::Refusal;

/// How many passwords may wait; one more is refused as `overloaded`, so that whoever is let in to wait is
/// through in about two seconds where a check takes a quarter of one.
const QUEUE: usize = 8;
/// How much the thread yields to others, in steps of `nice`.
#[cfg(target_os = "linux")]
const NICER_BY: i32 = 10;

/// A bcrypt hash, as the database keeps it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PasswordHash(String);

/// The thread that hashes.
#[derive(Debug)]
pub(crate) struct Hasher {
    queue: Mutex<Option<mpsc::Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    checks: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Job {
    Hash { password: Password, cost: u32, answer: oneshot::Sender<PasswordHash> },
    Check { password: Option<Password>, hash: PasswordHash, answer: oneshot::Sender<bool> },
}

impl Hasher {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn start() -> std::io::Result<Self> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let checks = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&checks);
        let thread = std::thread::Builder::new()
            .name("passwords".to_owned())
            .spawn(move || work(receiver, &counted))?;
        Ok(Self { queue: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)), checks })
    }

    /// Hashes a password.
    ///
    /// # Errors
    /// [`Refusal::Overloaded`].
    pub(crate) async fn hash(&self, password: Password, cost: u32) -> Result<PasswordHash, Refusal> {
        let (answer, hash) = oneshot::channel();
        self.queue(Job::Hash { password, cost, answer })?;
        hash.await.map_err(|_| Refusal::Overloaded)
    }

    /// Whether the password is the one of this hash. Without a password, or without a hash, it is not,
    /// which takes as long to find out.
    ///
    /// # Errors
    /// [`Refusal::Overloaded`].
    pub(crate) async fn check(
        &self,
        password: Option<Password>,
        hash: Option<PasswordHash>,
        cost: u32,
    ) -> Result<bool, Refusal> {
        let (answer, outcome) = oneshot::channel();
        let hash = hash.unwrap_or_else(|| PasswordHash::of_nobody(cost));
        self.queue(Job::Check { password, hash, answer })?;
        outcome.await.map_err(|_| Refusal::Overloaded)
    }

    fn queue(&self, job: Job) -> Result<(), Refusal> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queue.as_ref().ok_or(Refusal::Overloaded)?;
        queue.try_send(job).map_err(|_| Refusal::Overloaded)
    }

    /// How many passwords have been checked since the start.
    pub(crate) fn checks(&self) -> u64 {
        self.checks.load(Ordering::Relaxed)
    }

    /// Ends the thread after the password that it has in hand. Blocks; a second call does nothing.
    pub(crate) fn stop(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that hashes passwords panicked");
        }
    }
}

impl PasswordHash {
    /// The cost that it was made with; `None` if it is no hash.
    pub(crate) fn cost(&self) -> Option<u32> {
        self.0.get(4..6)?.parse().ok()
    }

    /// A hash that no password has: its check takes the time of any other.
    fn of_nobody(cost: u32) -> Self {
        Self(format!("$2b${cost:02}$abcdefghijklmnopqrstuuabcdefghijklmnopqrstuvwxyzabcde"))
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("PasswordHash(***)")
    }
}

impl ToSql for PasswordHash {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.0.to_sql()
    }
}

impl FromSql for PasswordHash {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        String::column_result(value).map(Self)
    }
}

fn work(mut jobs: mpsc::Receiver<Job>, checks: &AtomicU64) {
    yield_to_others();
    while let Some(job) = jobs.blocking_recv() {
        match job {
            // Whoever asked may have left while it waited; then there is nothing to spend time on.
            Job::Hash { answer, .. } if answer.is_closed() => {}
            Job::Check { answer, .. } if answer.is_closed() => {}
            Job::Hash { password, cost, answer } => match bcrypt::hash(password.expose(), cost) {
                Ok(hash) => drop(answer.send(PasswordHash(hash))),
                Err(error) => tracing::error!(%error, "a password cannot be hashed"),
            },
            Job::Check { password, hash, answer } => {
                checks.fetch_add(1, Ordering::Relaxed);
                let typed = password.as_ref().map_or("", Password::expose);
                let fits = bcrypt::verify(typed, &hash.0).unwrap_or_else(|error| {
                    tracing::error!(%error, "a password hash in the database is none: set the password anew");
                    false
                });
                // Whoever asked may have left.
                let _ = answer.send(fits && password.is_some());
            }
        }
    }
}

/// On Linux, priority belongs to the thread; elsewhere it belongs to the process, which must not yield.
fn yield_to_others() {
    #[cfg(target_os = "linux")]
    if let Ok(nice) = rustix::process::getpriority_process(None)
        && let Err(error) = rustix::process::setpriority_process(None, (nice + NICER_BY).min(19))
    {
        tracing::warn!(%error, "passwords are hashed with the priority of everything else");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Payload;

    fn password(text: &str) -> Password {
        let mut payload = Payload::from(serde_json::json!({ "password": text }));
        Password::typed(&mut payload, "password").unwrap().unwrap()
    }

    #[tokio::test]
    async fn a_password_fits_its_own_hash_only() {
        let hasher = Hasher::start().unwrap();
        for text in ["correct horse", "pä\u{df}wörd'\"", &"x".repeat(72), ""] {
            let hash = hasher.hash(password(text), 4).await.unwrap();
            assert_eq!(hash.cost(), Some(4));
            assert!(hasher.check(Some(password(text)), Some(hash.clone()), 4).await.unwrap());
            assert!(!hasher.check(Some(password("another")), Some(hash.clone()), 4).await.unwrap());
            assert!(!hasher.check(None, Some(hash), 4).await.unwrap());
        }
        hasher.stop();
    }

    #[tokio::test]
    async fn every_check_costs_one_bcrypt() {
        let hasher = Hasher::start().unwrap();
        assert!(!hasher.check(Some(password("anything")), None, 4).await.unwrap());
        assert!(!hasher.check(None, None, 4).await.unwrap());
        assert_eq!(hasher.checks(), 2);
        assert!(bcrypt::verify("", &PasswordHash::of_nobody(4).0).is_ok(), "it is a hash by its form");
        hasher.stop();
    }

    #[tokio::test]
    async fn more_than_the_queue_holds_is_refused_at_once() {
        let hasher = Hasher::start().unwrap();
        let mut waiting: Vec<_> = Vec::new();
        let refused = (0..QUEUE + 8).any(|_| {
            let (answer, outcome) = oneshot::channel();
            waiting.push(outcome);
            hasher.queue(Job::Hash { password: password("x"), cost: 10, answer }).is_err()
        });
        assert!(refused);
        drop(waiting);
        hasher.stop();
        assert!(matches!(hasher.hash(password("x"), 4).await, Err(Refusal::Overloaded)));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_thread_yields_and_the_process_does_not() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let before = nice();
        let inside = std::thread::spawn(move || {
            yield_to_others();
            nice()
        });
        assert_eq!(inside.join().unwrap(), (before + NICER_BY).min(19));
        assert_eq!(nice(), before);
    }
}
