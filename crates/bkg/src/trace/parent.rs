//! `traceparent` and `tracestate` as W3C Trace Context (Recommendation of 2021-11-23) writes them.
//!
//! Pure: text in, identity out. The invariant: what is here is valid and goes out as version `00`; text
//! that breaks a rule is as good as absent, and no reason to refuse a request.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Where a request stands in a trace: the trace, and the span that everything below it is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    trace: [u8; 16],
    span: [u8; 8],
    flags: u8,
}

/// The text is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no `traceparent` of W3C Trace Context")]
pub struct NoTraceParent;

/// The flag that says that the trace is recorded.
const SAMPLED: u8 = 1;
/// How long a text of version `00` is; later versions may go on after it.
const LENGTH: usize = 55;

impl TraceParent {
    /// The begin of a new trace.
    pub(super) fn begin(is_sampled: bool) -> Self {
        Self { trace: not_zero(), span: not_zero(), flags: if is_sampled { SAMPLED } else { 0 } }
    }

    /// Another span of the same trace.
    pub(super) fn next(self) -> Self {
        Self { span: not_zero(), ..self }
    }

    /// Whether somebody records the trace.
    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The trace.
    pub(super) fn trace(self) -> [u8; 16] {
        self.trace
    }

    /// The span.
    pub(super) fn span(self) -> [u8; 8] {
        self.span
    }
}

/// A random number; zero means nothing.
fn not_zero<const N: usize>() -> [u8; N] {
    loop {
        let mut number = [0; N];
        rand::fill(&mut number);
        if number != [0; N] {
            return number;
        }
    }
}

impl FromStr for TraceParent {
    type Err = NoTraceParent;

    fn from_str(text: &str) -> Result<Self, NoTraceParent> {
        let text = text.as_bytes();
        if text.len() < LENGTH || [2, 35, 52].iter().any(|at| text[*at] != b'-') {
            return Err(NoTraceParent);
        }
        let [version] = bytes(&text[..2])?;
        let is_whole = text.len() == LENGTH || (version != 0 && text[LENGTH] == b'-');
        let [flags] = bytes(&text[53..LENGTH])?;
        let (trace, span) = (bytes(&text[3..35])?, bytes(&text[36..52])?);
        if version == 0xff || !is_whole || trace == [0; 16] || span == [0; 8] {
            return Err(NoTraceParent);
        }
        // Of the flags only those are passed on that are known.
        Ok(Self { trace, span, flags: flags & SAMPLED })
    }
}

/// Hexadecimal digits in lower case, as bytes.
fn bytes<const N: usize>(digits: &[u8]) -> Result<[u8; N], NoTraceParent> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(NoTraceParent),
    };
    let mut number = [0; N];
    for (byte, pair) in number.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(number)
}

impl fmt::Display for TraceParent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace, span, flags } = *self;
        write!(out, "00-{:032x}-{:016x}-{flags:02x}", u128::from_be_bytes(trace), u64::from_be_bytes(span))
    }
}

/// What systems on the way say of a trace, each for itself; passed on unread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceState(Arc<str>);

/// How many members a list has at most.
const MOST_MEMBERS: usize = 32;
/// How long a list is at most, in bytes: what everybody must pass on.
const LONGEST_STATE: usize = 512;

impl TraceState {
    /// The list of one header, or of several that belong together; `None` if it breaks a rule or is empty.
    pub fn of<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut members: Vec<&str> = Vec::new();
        for member in headers.flat_map(|header| header.split(',')) {
            let member = member.trim_matches([' ', '\t']);
            if member.is_empty() {
                continue;
            }
            let (key, value) = member.split_once('=')?;
            let is_known = members.iter().any(|other| other.split('=').next() == Some(key));
            if !is_key(key) || !is_value(value) || is_known || members.len() == MOST_MEMBERS {
                return None;
            }
            members.push(member);
        }
        let list = members.join(",");
        (!list.is_empty() && list.len() <= LONGEST_STATE).then(|| Self(list.into()))
    }

    /// The list.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_key(key: &str) -> bool {
    let mut parts = key.splitn(2, '@');
    let is_part = |part: &str, most: usize, may_begin_with_digit: bool| {
        let begins =
            |byte: u8| byte.is_ascii_lowercase() || (may_begin_with_digit && byte.is_ascii_digit());
        let goes_on =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/".contains(&byte);
        part.len() <= most && part.bytes().next().is_some_and(begins) && part.bytes().all(goes_on)
    };
    match (parts.next(), parts.next()) {
        (Some(key), None) => is_part(key, 256, false),
        (Some(tenant), Some(system)) => is_part(tenant, 241, true) && is_part(system, 14, false),
        _ => false,
    }
}

fn is_value(value: &str) -> bool {
    (1..=256).contains(&value.len())
        && value.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_read_and_written_as_it_was() {
        for text in [TRACE, "00-0af7651916cd43dd8448eb211c80319c-00ad6b7169203331-00"] {
            assert_eq!(text.parse::<TraceParent>().unwrap().to_string(), text);
        }
        assert!(TRACE.parse::<TraceParent>().unwrap().is_sampled());
    }

    #[test]
    fn of_a_later_version_only_what_is_known_is_passed_on() {
        for text in [
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-09",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff-what-comes-later",
        ] {
            assert_eq!(text.parse::<TraceParent>().unwrap().to_string(), TRACE);
        }
    }

    #[test]
    fn text_that_breaks_a_rule_is_none() {
        for text in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 ",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01more",
            "0g-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
            "00-ä0af7651916cd43dd8448eb211c8031-b7ad6b7169203331-01",
        ] {
            assert_eq!(text.parse::<TraceParent>(), Err(NoTraceParent), "{text}");
        }
    }

    #[test]
    fn a_tracestate_is_passed_on_whole_or_not_at_all() {
        let of = |headers: &[&str]| {
            TraceState::of(headers.iter().copied()).map(|state| state.as_str().to_owned())
        };
        for (headers, state) in [
            (&["a=1"][..], Some("a=1")),
            (&["a=1, b=2", " ,c@d=x y!"][..], Some("a=1,b=2,c@d=x y!")),
            (&[][..], None),
            (&[" , "][..], None),
            (&["a=1,a=2"][..], None),
            (&["a"][..], None),
            (&["A=1"][..], None),
            (&["1a=1"][..], None),
            (&["1a@b=1"][..], Some("1a@b=1")),
            (&["a=1=2"][..], None),
            (&["a="][..], None),
            (&["a=ä"][..], None),
        ] {
            assert_eq!(of(headers).as_deref(), state, "{headers:?}");
        }
        let many: Vec<String> = (0..33).map(|number| format!("k{number}=1")).collect();
        assert_eq!(of(&[&many.join(",")]), None);
        assert!(of(&[&many[1..].join(",")]).is_some());
        assert_eq!(of(&[&format!("a={},b={}", "x".repeat(256), "x".repeat(256))]), None);
    }
}
