//! Walks the audit log's chain and names what was done to it.
//!
//! Reads only. A row is genuine if its code fits its content and the code that it names as the one
//! before; so a changed row is one finding and not also all rows behind it. The invariant: a log
//! without findings is the log that the host wrote, or an earlier state of it as a whole.

use std::fmt;

use bkg_sqlite::rusqlite::{self, Connection, OptionalExtension};
use serde::Serialize;

use super::chain::{FIRST, Head, StoredRow};
use super::key::AuditKey;

/// How many rows that are not genuine are compared with each other to find out which were moved. Of
/// more, it is only said that they were changed.
const MOST_COMPARED: usize = 256;

/// What a walk along the chain found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// How many rows there are.
    pub entries: u64,
    /// How many intents have no outcome; no fault of the chain.
    pub open: u64,
    /// What is wrong, in the order of the rows; the head comes last.
    pub findings: Vec<Finding>,
}

/// Something that the host did not do to its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Finding {
    /// The key in `audit.key` fits neither a row nor the head.
    WrongKey,
    /// Rows say something else than the host wrote.
    Changed {
        /// The first of them.
        first: i64,
        /// The last of them.
        last: i64,
    },
    /// Rows are gone.
    Missing {
        /// The first of them.
        first: i64,
        /// The last of them.
        last: i64,
    },
    /// The newest rows are gone, which the head tells.
    NewestMissing {
        /// The first of them.
        first: i64,
        /// The newest, which the head names.
        last: i64,
    },
    /// Two rows have each other's place.
    Exchanged {
        /// One of them.
        one: i64,
        /// The other.
        other: i64,
    },
    /// A row of the host stands at another number than it was given.
    Moved {
        /// Its own number.
        from: i64,
        /// Where it stands.
        to: i64,
    },
    /// Rows that the host never wrote, and that nothing of it makes room for.
    Added {
        /// The first of them.
        first: i64,
        /// The last of them.
        last: i64,
    },
    /// A row of the host that does not follow the row before it.
    Unlinked {
        /// Its number.
        seq: i64,
    },
    /// The head is not what the host wrote.
    HeadChanged,
    /// There is no head.
    HeadMissing,
    /// The head names an older row than the newest of the host's.
    HeadOld {
        /// The row that it names.
        named: i64,
        /// The newest.
        newest: i64,
    },
    /// The head and the newest row have the same number and are not of the same log.
    HeadUnlinked {
        /// That number.
        seq: i64,
    },
}

impl Finding {
    /// The row at which it is, to sort by.
    fn place(self) -> i64 {
        match self {
            Self::WrongKey => i64::MIN,
            Self::Changed { first, .. }
            | Self::Missing { first, .. }
            | Self::NewestMissing { first, .. }
            | Self::Added { first, .. } => first,
            Self::Exchanged { one, .. } => one,
            Self::Moved { from, .. } => from,
            Self::Unlinked { seq } => seq,
            Self::HeadChanged | Self::HeadMissing | Self::HeadOld { .. } | Self::HeadUnlinked { .. } => {
                i64::MAX
            }
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::WrongKey => {
                out.write_str("the key in `audit.key` is not the one that this chain was written with")
            }
            Self::Changed { first, last } if first == last => write!(out, "row {first} was changed"),
            Self::Changed { first, last } => write!(out, "rows {first} to {last} were changed"),
            Self::Missing { first, last } if first == last => write!(out, "row {first} is missing"),
            Self::Missing { first, last } => write!(out, "rows {first} to {last} are missing"),
            Self::NewestMissing { first, last } if first == last => {
                write!(out, "the newest row is missing (the head names {last})")
            }
            Self::NewestMissing { first, last } => {
                write!(out, "the newest rows, {first} to {last}, are missing (the head names {last})")
            }
            Self::Exchanged { one, other } => write!(out, "rows {one} and {other} were exchanged"),
            Self::Moved { from, to } => write!(out, "row {from} was moved to {to}"),
            Self::Added { first, last } if first == last => write!(out, "row {first} was added"),
            Self::Added { first, last } => write!(out, "rows {first} to {last} were added"),
            Self::Unlinked { seq } => {
                write!(
                    out,
                    "row {seq} does not follow row {}: one of them is of another copy of this log",
                    seq - 1
                )
            }
            Self::HeadChanged => out.write_str("the head was changed"),
            Self::HeadMissing => out.write_str("the head is missing"),
            Self::HeadOld { named, newest } => {
                write!(out, "the head is an old one: it names row {named}, but row {newest} is genuine too")
            }
            Self::HeadUnlinked { seq } => {
                write!(
                    out,
                    "the head names another row {seq}: it or that row is of another copy of this log"
                )
            }
        }
    }
}

/// The row with the highest number.
pub(super) fn newest(connection: &Connection) -> rusqlite::Result<Option<StoredRow>> {
    let select = format!("SELECT {} FROM audit ORDER BY seq DESC LIMIT 1", StoredRow::columns());
    connection.query_row(&select, [], StoredRow::read).optional()
}

/// Walks the whole chain, in the snapshot that `connection` sees.
pub(super) fn verify(connection: &Connection, key: &AuditKey) -> rusqlite::Result<Verification> {
    let head = Head::read(connection)?;
    let trusted = head.as_ref().filter(|head| head.is_genuine(key));
    let mut walk = Walk::default();
    let mut select =
        connection.prepare(&format!("SELECT {} FROM audit ORDER BY seq", StoredRow::columns()))?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        walk.step(key, StoredRow::read(row)?);
    }
    let open = super::entry::count_open(connection)?;
    let (entries, findings) = (walk.entries, walk.conclude(key, head.is_some(), trusted));
    Ok(Verification { entries, open, findings })
}

#[derive(Default)]
struct Walk {
    entries: u64,
    genuine: u64,
    /// The number of the row before, whatever it is worth.
    last: i64,
    /// The number and code of the newest genuine row.
    newest: Option<(i64, Vec<u8>)>,
    /// Rows that are not genuine: the first few whole, all by their numbers.
    suspects: Vec<StoredRow>,
    changed: Vec<i64>,
    added: Vec<i64>,
    missing: Vec<(i64, i64)>,
    findings: Vec<Finding>,
}

impl Walk {
    fn step(&mut self, key: &AuditKey, row: StoredRow) {
        let seq = row.content.seq;
        self.entries += 1;
        if seq > self.last + 1 {
            self.missing.push((self.last + 1, seq - 1));
        }
        self.last = self.last.max(seq);
        if !row.is_genuine(key) {
            // Numbers begin at 1.
            if seq < 1 {
                self.added.push(seq);
            } else {
                self.changed.push(seq);
            }
            if self.suspects.len() < MOST_COMPARED {
                self.suspects.push(row);
            }
            return;
        }
        self.genuine += 1;
        let (before, code) = self.newest.as_ref().map_or((0, FIRST.as_slice()), |(seq, mac)| (*seq, mac));
        if row.previous == code {
            self.never_were(before);
        } else if before == seq - 1 {
            self.findings.push(Finding::Unlinked { seq });
        }
        // Else what lies between is missing or changed, and told as that.
        self.newest = Some((seq, row.mac));
    }

    /// When the host wrote the row that comes now, it knew of nothing behind row `before`.
    fn never_were(&mut self, before: i64) {
        let first = self.changed.partition_point(|seq| *seq <= before);
        self.added.extend(self.changed.drain(first..));
        self.missing.retain(|(first, _)| *first <= before);
    }

    fn conclude(mut self, key: &AuditKey, has_head: bool, trusted: Option<&Head>) -> Vec<Finding> {
        if trusted.is_none() && self.entries > 0 && self.genuine == 0 {
            return vec![Finding::WrongKey];
        }
        let newest = self.newest.as_ref().map_or(0, |(seq, _)| *seq);
        // Behind this, nothing is known to be the host's.
        let end = trusted.map_or(newest, |head| head.seq.max(newest));
        if self.last < end {
            self.missing.push((self.last + 1, end));
        }
        if trusted.is_some() {
            // Without a head, a row at the end may as well be the host's and changed.
            let first = self.changed.partition_point(|seq| *seq <= end);
            self.added.extend(self.changed.drain(first..));
        }
        self.find_moved(key);
        for (first, last) in std::mem::take(&mut self.missing) {
            let last = last.min(end);
            if first > last {
                continue;
            }
            self.findings.push(match trusted {
                Some(head) if head.seq == last => Finding::NewestMissing { first, last },
                _ => Finding::Missing { first, last },
            });
        }
        self.findings.extend(runs(&self.changed).map(|(first, last)| Finding::Changed { first, last }));
        self.findings.extend(runs(&self.added).map(|(first, last)| Finding::Added { first, last }));
        match trusted {
            None if has_head => self.findings.push(Finding::HeadChanged),
            None => self.findings.push(Finding::HeadMissing),
            Some(head) => self.check_head(head, newest),
        }
        self.findings.sort_by_key(|finding| finding.place());
        self.findings
    }

    fn check_head(&mut self, head: &Head, newest: i64) {
        if newest > head.seq {
            self.findings.push(Finding::HeadOld { named: head.seq, newest });
        }
        if self.newest.as_ref().is_some_and(|(seq, mac)| *seq == head.seq && *mac != head.mac) {
            self.findings.push(Finding::HeadUnlinked { seq: head.seq });
        }
    }

    /// Takes out of the rows that are not genuine those that are genuine at another number.
    fn find_moved(&mut self, key: &AuditKey) {
        let suspects = std::mem::take(&mut self.suspects);
        let mut free: Vec<i64> = suspects.iter().map(|row| row.content.seq).collect();
        let gaps = self.missing.iter().flat_map(|(first, last)| *first..=*last);
        free.extend(gaps.take(MOST_COMPARED));
        let moves: Vec<(i64, i64)> = suspects
            .iter()
            .filter_map(|row| {
                let to = row.content.seq;
                let from = free.iter().copied().filter(|from| *from != to);
                from.map(|from| (from, to)).find(|(from, _)| is_of(key, row, *from, &suspects))
            })
            .collect();
        for (from, to) in &moves {
            self.changed.retain(|seq| seq != to);
            self.added.retain(|seq| seq != to);
            let is_exchange = moves.contains(&(*to, *from));
            if is_exchange && from < to {
                self.findings.push(Finding::Exchanged { one: *from, other: *to });
            } else if !is_exchange {
                self.findings.push(Finding::Moved { from: *from, to: *to });
                self.fill(*from);
            }
        }
    }

    /// A row that was found elsewhere is not missing.
    fn fill(&mut self, seq: i64) {
        let Some(index) = self.missing.iter().position(|(first, last)| (*first..=*last).contains(&seq))
        else {
            return;
        };
        let (first, last) = self.missing[index];
        let rest = [(first, seq - 1), (seq + 1, last)];
        self.missing.splice(index..=index, rest.into_iter().filter(|(first, last)| first <= last));
    }
}

/// Whether this row was once row `from`: with the codes that it has, or, if only the contents changed
/// places, with those that stand there now.
fn is_of(key: &AuditKey, row: &StoredRow, from: i64, suspects: &[StoredRow]) -> bool {
    if row.was_genuine_at(from, &row.previous, &row.mac, key) {
        return true;
    }
    let there = suspects.iter().find(|suspect| suspect.content.seq == from);
    there.is_some_and(|there| row.was_genuine_at(from, &there.previous, &there.mac, key))
}

/// Numbers in ascending order as runs of neighbours.
fn runs(numbers: &[i64]) -> impl Iterator<Item = (i64, i64)> {
    numbers.chunk_by(|one, next| one + 1 == *next).map(|run| (run[0], run[run.len() - 1]))
}

#[cfg(test)]
mod tests {
    use super::super::super::database::tests::TestStore;
    use super::super::AuditFile;
    use super::*;

    /// A log of twenty entries to which somebody did `sql`.
    fn log(sql: &str) -> TestStore {
        let host = TestStore::new();
        host.note(20);
        host.tamper(sql);
        host
    }

    fn findings(host: &TestStore) -> Vec<String> {
        let verification = AuditFile::open(host.directory.path()).unwrap().verify().unwrap();
        verification.findings.iter().map(ToString::to_string).collect()
    }

    const EXCHANGE: &str =
        "UPDATE audit SET seq = -1 WHERE seq = 14; UPDATE audit SET seq = 14 WHERE seq = 15;
         UPDATE audit SET seq = 15 WHERE seq = -1;";
    const EXCHANGE_CONTENTS: &str = "CREATE TEMP TABLE other AS SELECT * FROM audit WHERE seq IN (4, 9);
         UPDATE audit SET (at, target) = (SELECT at, target FROM other WHERE other.seq = 13 - audit.seq)
         WHERE seq IN (4, 9);";

    #[test]
    fn a_log_that_nobody_touched_is_unbroken() {
        assert!(findings(&log("")).is_empty());
        assert!(findings(&TestStore::new()).is_empty());
    }

    #[test]
    fn what_was_done_to_the_log_is_named() {
        for (sql, expected) in [
            // One changed column is one finding, whichever it is.
            ("UPDATE audit SET target = 'key k_x' WHERE seq = 12", vec!["row 12 was changed"]),
            ("UPDATE audit SET user = 'eve' WHERE seq = 1", vec!["row 1 was changed"]),
            ("UPDATE audit SET at = at + 1 WHERE seq = 20", vec!["row 20 was changed"]),
            ("UPDATE audit SET kind = 'failed' WHERE seq = 3", vec!["row 3 was changed"]),
            ("UPDATE audit SET detail = detail || ' ' WHERE seq = 3", vec!["row 3 was changed"]),
            ("UPDATE audit SET key_id = NULL WHERE seq = 3", vec!["row 3 was changed"]),
            ("UPDATE audit SET session_id = '' WHERE seq = 3", vec!["row 3 was changed"]),
            ("UPDATE audit SET address = key_id, key_id = address WHERE seq = 3", vec!["row 3 was changed"]),
            ("UPDATE audit SET previous = zeroblob(32) WHERE seq = 3", vec!["row 3 was changed"]),
            ("UPDATE audit SET mac = zeroblob(32) WHERE seq = 3", vec!["row 3 was changed"]),
            ("UPDATE audit SET mac = x'' WHERE seq = 3", vec!["row 3 was changed"]),
            // Text moved from one column into the next.
            (
                "UPDATE audit SET action = action || substr(target, 1, 1), target = substr(target, 2) WHERE seq = 3",
                vec!["row 3 was changed"],
            ),
            ("UPDATE audit SET user = 'eve' WHERE seq IN (5, 6, 7, 9)", vec![
                "rows 5 to 7 were changed",
                "row 9 was changed",
            ]),
            ("DELETE FROM audit WHERE seq = 13", vec!["row 13 is missing"]),
            ("DELETE FROM audit WHERE seq = 1", vec!["row 1 is missing"]),
            ("DELETE FROM audit WHERE seq IN (3, 4, 17)", vec!["rows 3 to 4 are missing", "row 17 is missing"]),
            ("DELETE FROM audit WHERE seq = 20", vec!["the newest row is missing (the head names 20)"]),
            ("DELETE FROM audit WHERE seq > 17", vec![
                "the newest rows, 18 to 20, are missing (the head names 20)",
            ]),
            ("DELETE FROM audit", vec!["the newest rows, 1 to 20, are missing (the head names 20)"]),
            (EXCHANGE, vec!["rows 14 and 15 were exchanged"]),
            (EXCHANGE_CONTENTS, vec!["rows 4 and 9 were exchanged"]),
            ("UPDATE audit SET seq = 21 WHERE seq = 12", vec!["row 12 was moved to 21"]),
            (
                "INSERT INTO audit SELECT 21, at, kind, intent, user, key_id, session_id, address, action, target,
                 detail, request_id, previous, mac FROM audit WHERE seq = 20",
                vec!["row 21 was added"],
            ),
            (
                "INSERT INTO audit SELECT seq + 9223372036854775787, at, kind, intent, user, key_id, session_id,
                 address, action, target, detail, request_id, previous, mac FROM audit WHERE seq = 20",
                vec!["row 9223372036854775807 was added"],
            ),
            ("UPDATE audit SET seq = -9223372036854775807 WHERE seq = 20", vec![
                "row 20 was moved to -9223372036854775807",
            ]),
            (
                "CREATE TEMP TABLE kept AS SELECT * FROM audit WHERE seq = 20; DELETE FROM audit WHERE seq = 20;
                 UPDATE kept SET user = 'eve'; INSERT INTO audit SELECT * FROM kept;",
                vec!["row 20 was changed"],
            ),
            (
                "CREATE TEMP TABLE kept AS SELECT * FROM audit WHERE seq = 9; DELETE FROM audit WHERE seq = 9;
                 INSERT INTO audit SELECT * FROM kept;",
                vec![],
            ),
            ("UPDATE audit_head SET seq = 19", vec!["the head was changed"]),
            ("UPDATE audit_head SET mac = (SELECT mac FROM audit WHERE seq = 19)", vec!["the head was changed"]),
            ("UPDATE audit_head SET seal = zeroblob(32)", vec!["the head was changed"]),
            ("DELETE FROM audit_head", vec!["the head is missing"]),
            // Whoever cuts off the end and adapts the head has no key to seal it with.
            (
                "DELETE FROM audit WHERE seq > 18;
                 UPDATE audit_head SET seq = 18, mac = (SELECT mac FROM audit WHERE seq = 18);",
                vec!["the head was changed"],
            ),
            (
                "UPDATE audit SET user = 'eve' WHERE seq = 2; DELETE FROM audit WHERE seq = 5;
                 UPDATE audit SET seq = -1 WHERE seq = 14; UPDATE audit SET seq = 14 WHERE seq = 15;
                 UPDATE audit SET seq = 15 WHERE seq = -1; DELETE FROM audit WHERE seq = 20;",
                vec![
                    "row 2 was changed",
                    "row 5 is missing",
                    "rows 14 and 15 were exchanged",
                    "the newest row is missing (the head names 20)",
                ],
            ),
        ] {
            assert_eq!(findings(&log(sql)), expected, "{sql}");
        }
    }

    #[test]
    fn what_was_done_stays_to_be_seen_when_the_host_goes_on() {
        for (sql, expected) in [
            ("DELETE FROM audit WHERE seq > 17", vec!["rows 18 to 20 are missing"]),
            ("UPDATE audit SET user = 'eve' WHERE seq = 20", vec!["row 20 was changed"]),
            (
                "INSERT INTO audit SELECT 21, at, kind, intent, user, key_id, session_id, address, action, target,
                 detail, request_id, previous, mac FROM audit WHERE seq = 20",
                vec!["row 21 was added"],
            ),
            (
                "INSERT INTO audit SELECT 25, at, kind, intent, user, key_id, session_id, address, action, target,
                 detail, request_id, previous, mac FROM audit WHERE seq = 20",
                vec!["row 25 was added"],
            ),
            ("UPDATE audit SET seq = 25 WHERE seq = 7", vec!["row 7 was moved to 25"]),
        ] {
            let host = log(sql);
            host.note(2);
            assert_eq!(findings(&host), expected, "{sql}");
        }
    }

    #[test]
    fn an_older_head_or_row_that_was_put_back_is_seen() {
        let host = TestStore::new();
        host.note(3);
        let copy = host.directory.path().join("copy");
        let keep = format!("VACUUM INTO '{}'", copy.display());
        host.tamper(&keep);
        host.note(1);
        let attach = format!("ATTACH '{}' AS copy;", copy.display());
        host.tamper(&format!("{attach} REPLACE INTO audit_head SELECT * FROM copy.audit_head;"));
        assert_eq!(findings(&host), ["the head is an old one: it names row 3, but row 4 is genuine too"]);
        // The host goes on from the old head, behind the row that it does not name.
        host.note(1);
        assert_eq!(
            findings(&host),
            ["row 5 does not follow row 4: one of them is of another copy of this log"]
        );
    }

    #[test]
    fn rows_of_two_copies_do_not_make_one_log() {
        let host = TestStore::new();
        host.note(3);
        let copy = host.directory.path().join("copy");
        host.tamper(&format!("VACUUM INTO '{}'", copy.display()));
        host.note(2);
        let other = host.directory.path().join("other");
        host.tamper(&format!("VACUUM INTO '{}'", other.display()));
        // The same host, put back to the copy, writes other rows 4 and 5.
        host.tamper(&format!(
            "ATTACH '{}' AS copy; DELETE FROM audit WHERE seq > 3;
             REPLACE INTO audit_head SELECT * FROM copy.audit_head;",
            copy.display()
        ));
        host.note(2);
        assert_eq!(findings(&host), Vec::<String>::new());
        let put = |seq: i64| {
            host.tamper(&format!(
                "ATTACH '{}' AS other; DELETE FROM audit WHERE seq = {seq};
                 INSERT INTO audit SELECT * FROM other.audit WHERE seq = {seq};",
                other.display()
            ));
        };
        put(4);
        assert_eq!(
            findings(&host),
            ["row 5 does not follow row 4: one of them is of another copy of this log"]
        );
        put(5);
        assert_eq!(
            findings(&host),
            ["the head names another row 5: it or that row is of another copy of this log"]
        );
    }

    #[test]
    fn a_wrong_key_is_told_from_a_broken_log() {
        let host = log("");
        AuditKey::random().save(host.directory.path()).unwrap();
        assert_eq!(
            findings(&host),
            ["the key in `audit.key` is not the one that this chain was written with"]
        );
        std::fs::remove_file(host.directory.path().join("audit.key")).unwrap();
        let error = AuditFile::open(host.directory.path()).unwrap().verify().unwrap_err();
        assert!(matches!(error, super::super::StoreError::AuditKeyLost { .. }), "{error}");
    }
}
