//! One SQLite file as the durable store of one process.
//!
//! Opening safely, writing durably, reading consistently, migrating, refusing; not any table, which
//! is its owner's. The invariants: what was acknowledged is on the disk, and a file that is damaged,
//! lost, newer or somebody else's is refused and stays as it is. The host's `store` and the plugins
//! with state of their own use it.
//!
//! # What is durable when
//!
//! - [`Database::write`] answers `Ok` after its commit was fsynced (`synchronous=FULL`): it survives
//!   the end of the process and of the machine at any later moment. An `Err` means that nothing of it
//!   was committed.
//! - [`Database::write_with_reserve`] is the same for what must not wait for an operator: where the disk
//!   is full, it gets a part of [`RESERVE_BYTES`] that lie beside the file. Everything else is refused
//!   then, until there is room again.
//! - After a write or an fsync that failed, nothing is answered `Ok` before the file was opened anew and
//!   checked; [`Database::condition`] says so, and it heals by itself.
//! - [`Database::post`] is written within [`POST_WITHIN`], and by [`Database::close`]. A process that
//!   is killed before loses it.
//! - A new file appears under its name when all of it is on the disk, with every migration. A later
//!   migration happens whole or not at all, after a copy (`<file>.before-<version>`) is on the
//!   disk; those of the last two migrations stay.
//!
//! # What is noticed
//!
//! After [`Database::close`] there is one file with its SHA-256 beside it (`<file>.seal`): the next
//! [`Database::open`] notices any change. After a crash there is no seal. `quick_check` then finds what
//! is wrong with the structure of pages and records, but neither a flipped byte inside of a value nor a
//! log that was cut.
//!
//! ```
//! use bkg_sqlite::{Database, DatabaseError, Definition, Presence};
//!
//! static NOTES: Definition = Definition {
//!     what: "the notes",
//!     application_id: 0x6e6f_7465,
//!     migrations: &["CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT"],
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("notes.db");
//! let notes = Database::open(&path, &NOTES, Presence::MayBeNew)?;
//! notes.write_blocking(|connection| {
//!     connection.execute("INSERT INTO note (text) VALUES (?1)", ["hello"])?;
//!     Ok::<_, DatabaseError>(())
//! })?;
//! let count: i64 = notes.read_blocking(|connection| {
//!     let count = connection.query_row("SELECT count(*) FROM note", [], |row| row.get(0))?;
//!     Ok::<_, DatabaseError>(count)
//! })?;
//! assert_eq!(count, 1);
//! notes.close()?;
//! # Ok(())
//! # }
//! ```

mod check;
mod condition;
mod connection;
mod copy;
mod database;
mod definition;
mod error;
mod files;
mod jobs;
mod migrate;
mod open;
mod queue;
mod readers;
mod reserve;
mod seal;
mod wait;
mod writer;

pub use condition::Condition;
pub use copy::{copy_database, examine, is_database};
pub use database::Database;
pub use definition::{Definition, Presence};
pub use error::{CopyError, DatabaseError, GoBack, OpenError, Restore};
pub use open::open_read_only;
pub use queue::POST_WITHIN;
pub use reserve::RESERVE_BYTES;
// So that owners use the same version.
pub use rusqlite;
