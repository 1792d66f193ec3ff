//! How the rows of the audit log hang together, and how one is added; `verify` is the other half.
//!
//! Each row carries a code over its content and over the code of the row before; the head carries number
//! and code of the newest. All codes need the key, so nothing can be changed, taken out or cut off
//! without a trace, except by putting back a whole earlier database, which only an export kept elsewhere
//! tells. The invariants: numbers have no gaps; the head changes in the transaction of its row.

use bkg_sqlite::rusqlite::types::{ToSqlOutput, ValueRef};
use bkg_sqlite::rusqlite::{self, Connection, OptionalExtension, Row, params};
use hmac::Mac;
use subtle::ConstantTimeEq;

use super::super::StoreError;
use super::key::AuditKey;

/// The code of a row or of the head.
pub(super) type Link = [u8; 32];

/// What row 1 has for the code of the row before.
pub(super) const FIRST: Link = [0; 32];

/// The columns of a row that hold text, in the order in which they are hashed.
pub(super) const TEXTS: [&str; 10] = [
    "kind",
    "intent",
    "user",
    "key_id",
    "session_id",
    "address",
    "action",
    "target",
    "detail",
    "request_id",
];

/// All that a row says, as it is stored: bytes, so that also a row that makes no sense can be hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) seq: i64,
    /// Microseconds since 1970.
    pub(super) at: i64,
    /// In the order of [`TEXTS`].
    pub(super) texts: [Option<Vec<u8>>; TEXTS.len()],
}

impl Content {
    /// The code of this content as row `seq`, after the row with the code `previous`. Every part is
    /// preceded by its length, so that no two contents are the same bytes.
    fn code(&self, key: &AuditKey, seq: i64, previous: &[u8]) -> Link {
        key.code(|mac| {
            mac.update(b"bkg audit row 1");
            mac.update(&(previous.len() as u64).to_le_bytes());
            mac.update(previous);
            mac.update(&seq.to_le_bytes());
            mac.update(&self.at.to_le_bytes());
            for text in &self.texts {
                match text {
                    None => mac.update(&[0]),
                    Some(text) => {
                        mac.update(&[1]);
                        mac.update(&(text.len() as u64).to_le_bytes());
                        mac.update(text);
                    }
                }
            }
        })
    }
}

/// A row as it is stored.
#[derive(Debug, Clone)]
pub(super) struct StoredRow {
    pub(super) content: Content,
    /// What it says is the code of the row before.
    pub(super) previous: Vec<u8>,
    /// What it says is its code.
    pub(super) mac: Vec<u8>,
}

impl StoredRow {
    /// The columns that [`StoredRow::read`] wants, in its order.
    pub(super) fn columns() -> String {
        format!("seq, at, previous, mac, {}", TEXTS.join(", "))
    }

    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let mut texts = [const { None }; TEXTS.len()];
        for (index, text) in texts.iter_mut().enumerate() {
            *text = bytes(row, index + 4)?;
        }
        Ok(Self {
            content: Content { seq: row.get(0)?, at: row.get(1)?, texts },
            previous: bytes(row, 2)?.unwrap_or_default(),
            mac: bytes(row, 3)?.unwrap_or_default(),
        })
    }

    /// Whether who wrote it had the key.
    pub(super) fn is_genuine(&self, key: &AuditKey) -> bool {
        self.was_genuine_at(self.content.seq, &self.previous, &self.mac, key)
    }

    /// Whether its content was row `seq`, with these codes.
    pub(super) fn was_genuine_at(&self, seq: i64, previous: &[u8], mac: &[u8], key: &AuditKey) -> bool {
        same(&self.content.code(key, seq, previous), mac)
    }
}

fn bytes(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<Vec<u8>>> {
    Ok(match row.get_ref(index)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(bytes.to_vec()),
        _ => None,
    })
}

/// The newest row, as the head names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// Its number; 0 while there is none.
    pub(super) seq: i64,
    pub(super) mac: Vec<u8>,
    seal: Vec<u8>,
}

impl Head {
    fn new(key: &AuditKey, seq: i64, mac: Link) -> Self {
        let seal = seal(key, seq, &mac).to_vec();
        Self { seq, mac: mac.to_vec(), seal }
    }

    /// The head as it is stored, if it is.
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Option<Self>> {
        connection
            .prepare_cached("SELECT seq, mac, seal FROM audit_head WHERE one = 1")?
            .query_row([], |row| {
                let blob = |index| Ok::<_, rusqlite::Error>(bytes(row, index)?.unwrap_or_default());
                Ok(Self { seq: row.get(0)?, mac: blob(1)?, seal: blob(2)? })
            })
            .optional()
    }

    /// Whether who wrote it had the key.
    pub(super) fn is_genuine(&self, key: &AuditKey) -> bool {
        same(&seal(key, self.seq, &self.mac), &self.seal)
    }

    fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO audit_head (one, seq, mac, seal) VALUES (1, ?1, ?2, ?3)",
            )?
            .execute(params![self.seq, self.mac, self.seal])?;
        Ok(())
    }
}

fn seal(key: &AuditKey, seq: i64, mac: &[u8]) -> Link {
    key.code(|code| {
        code.update(b"bkg audit head 1");
        code.update(&seq.to_le_bytes());
        code.update(mac);
    })
}

fn same(computed: &Link, stored: &[u8]) -> bool {
    computed.ct_eq(stored).into()
}

/// Puts the head of a log without rows into a new database.
pub(super) fn begin(connection: &Connection, key: &AuditKey) -> rusqlite::Result<()> {
    Head::new(key, 0, FIRST).write(connection)
}

/// The highest number of a row; 0 if there is none.
pub(super) fn highest(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("SELECT coalesce(max(seq), 0) FROM audit")?.query_row([], |row| row.get(0))
}

/// Adds a row, in the transaction of `connection`, and answers its number.
///
/// # Errors
/// The database's, or [`StoreError::AuditBroken`] if the head is not the host's: a new head would hide
/// what was done to the old one.
pub(super) fn append(
    connection: &Connection,
    key: &AuditKey,
    at: i64,
    texts: [Option<Vec<u8>>; TEXTS.len()],
) -> Result<i64, StoreError> {
    let broken = || StoreError::AuditBroken { path: connection.path().unwrap_or_default().into() };
    let head = Head::read(connection)?.filter(|head| head.is_genuine(key)).ok_or_else(broken)?;
    // A row beyond the head is nobody's. It keeps its number, so that it stays to be seen.
    let seq = head.seq.max(highest(connection)?).checked_add(1).ok_or_else(broken)?;
    let content = Content { seq, at, texts };
    let mac = content.code(key, seq, &head.mac);
    let mut insert = connection.prepare_cached(
        "INSERT INTO audit (seq, at, previous, mac, kind, intent, user, key_id, session_id, address, action, \
         target, detail, request_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )?;
    insert.raw_bind_parameter(1, seq)?;
    insert.raw_bind_parameter(2, at)?;
    insert.raw_bind_parameter(3, &head.mac)?;
    insert.raw_bind_parameter(4, mac.as_slice())?;
    for (index, text) in content.texts.iter().enumerate() {
        let text = text.as_deref().map(|text| ToSqlOutput::Borrowed(ValueRef::Text(text)));
        insert.raw_bind_parameter(index + 5, text)?;
    }
    insert.raw_execute()?;
    Head::new(key, seq, mac).write(connection)?;
    Ok(seq)
}
