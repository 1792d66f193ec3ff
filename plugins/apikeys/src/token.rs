//! The form of keys, session tokens and refresh tokens: `bkg_sk_<id>_<secret><checksum>`.
//!
//! Not whether one opens anything. The invariants: a [`Token`] has the right length, letters and
//! checksum, whatever was parsed, so that nothing else is ever looked up; and its text is shown by
//! [`Token::expose`] alone.

use std::fmt;

use rand::TryRng;
use rand::rngs::SysRng;

const BASE_62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// How many letters an id has: 95 bits.
const ID_LETTERS: usize = 16;
/// How many letters 256 bits need.
const SECRET_LETTERS: usize = 43;
/// How many letters 32 bits need.
const CHECKSUM_LETTERS: usize = 6;
const PREFIX_LETTERS: usize = 7;
const LETTERS: usize = PREFIX_LETTERS + ID_LETTERS + 1 + SECRET_LETTERS + CHECKSUM_LETTERS;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An API key.
    Key,
    /// The token of a login.
    Session,
    /// What a login is renewed with.
    Refresh,
}

/// A text that has the form of a token.
#[derive(Clone)]
pub(crate) struct Token {
    kind: Kind,
    text: String,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Key, Self::Session, Self::Refresh];

    fn prefix(self) -> &'static str {
        match self {
            Self::Key => "bkg_sk_",
            Self::Session => "bkg_st_",
            Self::Refresh => "bkg_sr_",
        }
    }
}

impl Token {
    /// A new token with an id of its own.
    pub(crate) fn make(kind: Kind) -> Self {
        Self::make_for(kind, &random_id())
    }

    /// A new token for what has this id already.
    pub(crate) fn make_for(kind: Kind, id: &str) -> Self {
        debug_assert_eq!(id.len(), ID_LETTERS);
        let mut text = format!("{}{id}_{}", kind.prefix(), base_62_of(random_bytes(), SECRET_LETTERS));
        let checksum = checksum_of(&text);
        text.push_str(&checksum);
        Self { kind, text }
    }

    /// Takes a text for what it is; `None` if it has no token's form.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() != LETTERS || !text.is_ascii() {
            return None;
        }
        let kind = Kind::ALL.into_iter().find(|kind| text.starts_with(kind.prefix()))?;
        let (begin, checksum) = text.split_at(LETTERS - CHECKSUM_LETTERS);
        let (id, secret) = begin[PREFIX_LETTERS..].split_at(ID_LETTERS);
        let is_base_62 = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let has_form = is_base_62(id) && secret.strip_prefix('_').is_some_and(is_base_62);
        (has_form && checksum_of(begin) == checksum).then(|| Self { kind, text: text.to_owned() })
    }

    /// What it is for.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The id of the key or login.
    pub(crate) fn id(&self) -> &str {
        &self.text[PREFIX_LETTERS..PREFIX_LETTERS + ID_LETTERS]
    }

    /// The whole text: for the one answer that shows it, and to hash it.
    pub(crate) fn expose(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}{}_***", self.kind.prefix(), self.id())
    }
}

/// An id that nothing else has: 16 letters and digits.
pub(crate) fn random_id() -> String {
    let mut bytes = [0; 32];
    bytes[16..].copy_from_slice(&random_bytes::<16>());
    // 128 bits in 16 letters: the highest ones are cut off, which leaves all ids equally likely to 2⁻³².
    base_62_of(bytes, ID_LETTERS)
}

/// Bits of the operating system's generator.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes).expect("the operating system has a source of random numbers");
    bytes
}

/// The lowest `letters` digits of a number, highest first.
fn base_62_of(mut number: [u8; 32], letters: usize) -> String {
    let mut digits = vec![b'0'; letters];
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0_u32;
        for byte in &mut number {
            let value = remainder << 8 | u32::from(*byte);
            *byte = (value / 62) as u8;
            remainder = value % 62;
        }
        *digit = BASE_62[remainder as usize];
    }
    digits.into_iter().map(char::from).collect()
}

/// CRC-32 tells a mistyped or cut-off token from a wrong one without any lookup; it is no protection.
fn checksum_of(text: &str) -> String {
    let mut number = [0; 32];
    number[28..].copy_from_slice(&crc32fast::hash(text.as_bytes()).to_be_bytes());
    base_62_of(number, CHECKSUM_LETTERS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_new_token_is_read_as_what_it_is() {
        for kind in Kind::ALL {
            let token = Token::make(kind);
            let read = Token::parse(token.expose()).unwrap();
            assert_eq!((read.kind(), read.id(), read.expose()), (kind, token.id(), token.expose()));
            assert_eq!(token.expose().len(), LETTERS);
        }
    }

    #[test]
    fn base_62_is_written_highest_digit_first_and_holds_256_bits() {
        let mut number = [0; 32];
        number[31] = 62;
        assert_eq!(base_62_of(number, 3), "010");
        assert_eq!(base_62_of([0xff; 32], 44).find(|c| c != '0'), Some(1), "43 digits are enough");
    }

    #[test]
    fn any_other_letter_anywhere_is_noticed() {
        let token = Token::make(Kind::Key);
        for place in 0..LETTERS {
            for letter in ["0", "z", "_", " ", "\0", "é"] {
                let mut text = token.expose().to_owned();
                if &text[place..=place] == letter {
                    continue;
                }
                text.replace_range(place..=place, letter);
                assert!(Token::parse(&text).is_none(), "{text:?}");
            }
        }
    }

    #[test]
    fn a_token_shows_its_id_and_nothing_of_its_secret() {
        let token = Token::make_for(Kind::Key, "0123456789abcdef");
        assert_eq!(format!("{token:?}"), "bkg_sk_0123456789abcdef_***");
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd_to_be_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Token::parse(&String::from_utf8_lossy(&bytes)).is_none());
        }

        #[test]
        fn what_looks_like_a_token_but_for_its_checksum_is_none(
            text in "bkg_s[krt]_[0-9A-Za-z]{16}_[0-9A-Za-z]{49}"
        ) {
            let (begin, checksum) = text.split_at(LETTERS - CHECKSUM_LETTERS);
            prop_assert_eq!(Token::parse(&text).is_some(), checksum_of(begin) == checksum);
        }
    }
}
