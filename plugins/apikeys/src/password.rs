//! Passwords: which may be chosen, and which are made.
//!
//! Not their hashing, which `hasher` does in a thread of its own. The invariants: a [`Password`] can be
//! hashed whole, without anything being cut off; and it shows as stars.

use std::fmt;

use crate::payload::Payload;
use crate::refusal::Refusal;
use crate::token::random_bytes;

/// The longest password, in bytes: bcrypt does not look any further.
const LONGEST: usize = 72;
/// The shortest password that may be chosen, in characters.
const SHORTEST: usize = 8;
/// Letters that nobody takes for another.
const CLEAR_LETTERS: &[u8; 31] = b"abcdefghjkmnpqrstuvwxyz23456789";

/// A password that somebody chose or typed.
pub(crate) struct Password(String);

impl Password {
    /// Reads a password that somebody chooses, if the payload has one.
    pub(crate) fn optional_chosen(payload: &mut Payload, name: &str) -> Result<Option<Self>, Refusal> {
        let Some(text) = payload.optional_long_text(name)? else { return Ok(None) };
        let refuse = |message: String| Err(Refusal::invalid(name, message));
        if text.len() > LONGEST {
            let length = text.len();
            return refuse(format!(
                "`{name}` has {length} bytes: use at most {LONGEST}, which is all that counts"
            ));
        }
        if text.chars().count() < SHORTEST {
            return refuse(format!("`{name}` is too short: use at least {SHORTEST} characters"));
        }
        if text.contains('\0') {
            // bcrypt ends a password with a NUL and then repeats it: one inside would make others fit.
            return refuse(format!("`{name}` contains a NUL character: leave it out"));
        }
        Ok(Some(Self(text)))
    }

    /// Reads a password that somebody chooses.
    pub(crate) fn chosen(payload: &mut Payload, name: &str) -> Result<Self, Refusal> {
        let missing = || Refusal::invalid(name, format!("`{name}` is missing"));
        Self::optional_chosen(payload, name)?.ok_or_else(missing)
    }

    /// Reads a password that somebody typed; `None` if nobody can have it.
    pub(crate) fn typed(payload: &mut Payload, name: &str) -> Result<Option<Self>, Refusal> {
        let text = payload.long_text(name)?;
        if text.len() > LONGEST {
            let length = text.len();
            let message = format!("`{name}` has {length} bytes: no password has more than {LONGEST}");
            return Err(Refusal::invalid(name, message));
        }
        Ok(Self::typed_as(text))
    }

    /// Takes what somebody typed; `None` if nobody can have it as a password.
    pub(crate) fn typed_as(text: String) -> Option<Self> {
        let could_be = text.len() <= LONGEST && !text.contains('\0');
        could_be.then_some(Self(text))
    }

    /// The same once more, for another hash of it.
    pub(crate) fn again(&self) -> Self {
        Self(self.0.clone())
    }

    /// Makes one of 99 random bits that can be read out.
    pub(crate) fn make() -> Self {
        let mut number = u128::from_be_bytes(random_bytes());
        let mut text = String::with_capacity(23);
        for place in 0..20 {
            if place > 0 && place % 5 == 0 {
                text.push('-');
            }
            text.push(char::from(CLEAR_LETTERS[(number % 31) as usize]));
            number /= 31;
        }
        Self(text)
    }

    /// The text: to hash it, and for the one answer that shows a password that was made.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Password(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_is_made_can_be_read_out_and_is_never_the_same() {
        let (one, other) = (Password::make(), Password::make());
        assert_ne!(one.expose(), other.expose());
        assert_eq!(one.expose().len(), 23);
        assert!(one.expose().bytes().all(|byte| byte == b'-' || CLEAR_LETTERS.contains(&byte)));
        assert_eq!(format!("{one:?}"), "Password(***)");
    }
}
