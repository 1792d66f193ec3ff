//! One look at the process table for all who want one at the same time.
//!
//! When fifty plugins stop, each wants to know who of it is left; a look costs some ten thousand system
//! calls on a busy machine. The invariant: whoever asks gets a table that was read after it asked, never
//! an older one. Called by `processes`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

use crate::registry::process_table::{ProcessTable, ProcessTableError};

/// How often somebody asked.
static ASKED: AtomicU64 = AtomicU64::new(0);
/// The last table, and how often somebody had asked when the reading of it began. Held while a table is
/// read, which is the point: who waits for the lock is served by the next reading, all at once.
static LAST: Mutex<Option<(u64, Arc<ProcessTable>)>> = Mutex::const_new(None);

/// The process table, read after this was called.
///
/// # Errors
/// It cannot be read.
pub(super) async fn table() -> Result<Arc<ProcessTable>, ProcessTableError> {
    let ticket = ASKED.fetch_add(1, Ordering::SeqCst);
    let mut last = LAST.lock().await;
    if let Some((asked, table)) = &*last
        && *asked > ticket
    {
        return Ok(Arc::clone(table));
    }
    let asked = ASKED.load(Ordering::SeqCst);
    let read = tokio::task::spawn_blocking(ProcessTable::read).await;
    let table = Arc::new(read.expect("reading the process table does not panic")?);
    *last = Some((asked, Arc::clone(&table)));
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_that_is_there_when_somebody_asks_is_in_the_table() {
        let child = || {
            let mut command = std::process::Command::new("tail");
            command.args(["-f", "/dev/null"]).spawn().unwrap()
        };
        let look = async || {
            let mut child = child();
            let table = table().await.unwrap();
            let is_there = table.entries().iter().any(|entry| entry.pid == child.id());
            child.kill().unwrap();
            child.wait().unwrap();
            is_there
        };
        let (one, two, three) = tokio::join!(look(), look(), look());
        assert_eq!([one, two, three], [true; 3]);
    }
}
