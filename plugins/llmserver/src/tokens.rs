//! What counts as a token here.
//!
//! A token is a run of up to 16 letters and digits, or one other character, with the one space before
//! it; a space before another space, or at the end, is a token of its own. Not what any model does,
//! but plain to recount, and every byte of a text is in exactly one token.

/// The most letters of one token, so that tokens are small whatever the text.
const LONGEST_WORD: usize = 16;

/// How many tokens a text has.
pub(crate) fn count(text: &str) -> usize {
    tokens(text).count()
}

/// The tokens of a text; put together they are the text.
pub(crate) fn tokens(text: &str) -> Tokens<'_> {
    Tokens { rest: text }
}

#[derive(Debug, Clone)]
pub(crate) struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let (token, rest) = self.rest.split_at(first_token(self.rest));
        self.rest = rest;
        Some(token)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Space,
    Letter,
    Other,
}

/// The kind and size in bytes of the character at `at`; `None` at the end.
fn kind_at(text: &str, at: usize) -> Option<(Kind, usize)> {
    let &byte = text.as_bytes().get(at)?;
    // Nearly all text is ASCII, and this runs over every byte of every prompt.
    if byte.is_ascii() {
        return Some((ASCII[byte as usize], 1));
    }
    let character = text[at..].chars().next()?;
    let kind = if character.is_whitespace() {
        Kind::Space
    } else if character.is_alphanumeric() {
        Kind::Letter
    } else {
        Kind::Other
    };
    Some((kind, character.len_utf8()))
}

const ASCII: [Kind; 128] = {
    let mut kinds = [Kind::Other; 128];
    let mut byte = 0;
    while byte < 128 {
        let character = byte as u8;
        if character.is_ascii_alphanumeric() {
            kinds[byte] = Kind::Letter;
        } else if character.is_ascii_whitespace() {
            kinds[byte] = Kind::Space;
        }
        byte += 1;
    }
    kinds
};

/// Where the first token of a text that is not empty ends.
fn first_token(text: &str) -> usize {
    let mut at = 0;
    let Some((mut kind, mut size)) = kind_at(text, at) else { return 0 };
    if kind == Kind::Space {
        at += size;
        match kind_at(text, at) {
            None | Some((Kind::Space, _)) => return at,
            Some(next) => (kind, size) = next,
        }
    }
    at += size;
    if kind == Kind::Letter {
        let mut letters = 1;
        while letters < LONGEST_WORD
            && let Some((Kind::Letter, size)) = kind_at(text, at)
        {
            at += size;
            letters += 1;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_punctuation_are_tokens_and_take_the_space_before_them() {
        let cases: [(&str, &[&str]); 7] = [
            ("", &[]),
            ("hello", &["hello"]),
            ("hello, world!", &["hello", ",", " world", "!"]),
            ("  a  b ", &[" ", " a", " ", " b", " "]),
            ("line\nnext", &["line", "\nnext"]),
            ("Zürich 東京 🙂", &["Zürich", " 東京", " 🙂"]),
            ("abcdefghijklmnopqrs", &["abcdefghijklmnop", "qrs"]),
        ];
        for (text, expected) in cases {
            assert_eq!(tokens(text).collect::<Vec<_>>(), expected, "{text:?}");
            assert_eq!(count(text), expected.len());
        }
    }

    #[test]
    fn every_text_is_the_sum_of_its_tokens() {
        let awkward = "\u{a0}\u{3000}é\u{301} \t\r\n1.5e3—“x”\u{200b}\0end ";
        for end in (0..=awkward.len()).filter(|&end| awkward.is_char_boundary(end)) {
            assert_eq!(tokens(&awkward[..end]).collect::<String>(), awkward[..end]);
        }
        assert!(tokens(&" x".repeat(1000)).all(|token| token == " x"));
    }
}
