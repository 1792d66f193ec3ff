//! The secret under which tokens are hashed, and those hashes.
//!
//! A copy of the database alone lets nobody check a guess. The invariants: neither the key nor a digest
//! is ever shown, and digests are compared in a time that says nothing about where they differ.

use std::fmt;

use bkg_sqlite::rusqlite;
use hmac::{Hmac, KeyInit, Mac};
use rand::TryRng;
use rand::rngs::SysRng;
use rusqlite::ToSql;
use rusqlite::types::{FromSql, FromSqlResult, ToSqlOutput, ValueRef};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::token::Token;

/// 256 random bits.
#[derive(Clone)]
pub(crate) struct HmacKey([u8; 32]);

/// What is kept of a token.
#[derive(Clone, Copy)]
pub(crate) struct Digest([u8; 32]);

impl HmacKey {
    /// A new key.
    ///
    /// # Errors
    /// The operating system's generator, which does not fail on a working machine.
    pub(crate) fn make() -> std::io::Result<Self> {
        let mut bytes = [0; 32];
        SysRng.try_fill_bytes(&mut bytes).map_err(std::io::Error::other)?;
        Ok(Self(bytes))
    }

    /// Reads the content of the key's file; `None` if it is not one.
    pub(crate) fn from_file(content: &[u8]) -> Option<Self> {
        let digits = content.strip_suffix(b"\n").unwrap_or(content);
        let digits = std::str::from_utf8(digits).ok().filter(|text| text.len() == 64 && text.is_ascii())?;
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            let pair = digits[2 * index..].get(..2)?;
            let is_hex = pair.bytes().all(|digit| digit.is_ascii_hexdigit());
            *byte = u8::from_str_radix(pair, 16).ok().filter(|_| is_hex)?;
        }
        Some(Self(bytes))
    }

    /// The content of the key's file.
    pub(crate) fn to_file(&self) -> String {
        let mut content: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        content.push('\n');
        content
    }

    /// What is kept of a token.
    pub(crate) fn digest(&self, token: &Token) -> Digest {
        self.digest_of(token.expose().as_bytes())
    }

    /// Tells this key from others. No token can have this text.
    pub(crate) fn fingerprint(&self) -> Digest {
        self.digest_of(b"the fingerprint of this key")
    }

    fn digest_of(&self, bytes: &[u8]) -> Digest {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("a key of any length is right for HMAC");
        mac.update(bytes);
        Digest(mac.finalize().into_bytes().into())
    }
}

impl Digest {
    /// Whether both are of the same token.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for HmacKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("HmacKey(***)")
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Digest(***)")
    }
}

impl ToSql for Digest {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Blob(&self.0)))
    }
}

impl FromSql for Digest {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        FromSql::column_result(value).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Kind;

    #[test]
    fn a_key_survives_its_file_and_nothing_else_is_one() {
        let key = HmacKey::make().unwrap();
        let file = key.to_file();
        let read = HmacKey::from_file(file.as_bytes()).unwrap();
        assert!(read.fingerprint().is(&key.fingerprint()));
        assert!(HmacKey::from_file(file.trim().as_bytes()).is_some());
        for wrong in ["", "\n", &file[1..], &file.replacen(|_: char| true, "+", 1), &"é".repeat(32)] {
            assert!(HmacKey::from_file(wrong.as_bytes()).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn a_digest_depends_on_the_key_and_on_the_token() {
        let (one, other) = (HmacKey::make().unwrap(), HmacKey::make().unwrap());
        let (token, second) = (Token::make(Kind::Key), Token::make(Kind::Key));
        assert!(one.digest(&token).is(&one.digest(&token)));
        assert!(!one.digest(&token).is(&other.digest(&token)));
        assert!(!one.digest(&token).is(&one.digest(&second)));
    }

    #[test]
    fn neither_key_nor_digest_is_shown() {
        let key = HmacKey::make().unwrap();
        let shown = format!("{key:?} {:?}", key.fingerprint());
        assert_eq!(shown, "HmacKey(***) Digest(***)");
    }
}
