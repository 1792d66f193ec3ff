//! What a database is, as the program that owns it says.
//!
//! Not what is in one file. The invariant: versions are counted from 1, one for each migration.
//! Owners write one constant of it; opening checks a file against it.

/// What a database is: fixed by the program that owns it.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    /// Says in an error message what the file is: "the host's database".
    pub what: &'static str,
    /// `PRAGMA application_id`, which tells the files of this kind from all others. Not 0, which is
    /// every database's that says nothing.
    pub application_id: i32,
    /// The SQL that leads to each version of the schema, in order: version N is reached by the Nth.
    /// There is at least one; none is edited once it was released. They run in one transaction, with
    /// foreign keys checked at its end, so they hold no `BEGIN` and no `COMMIT`.
    pub migrations: &'static [&'static str],
}

impl Definition {
    /// The version that this program works with.
    pub(crate) fn newest(&self) -> usize {
        self.migrations.len()
    }
}

/// Whether a database may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// If it is not there, it is made.
    MayBeNew,
    /// It was there before; if it is not, it was lost.
    MustExist,
}
