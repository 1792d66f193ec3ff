//! Paths and queries of requests that go on to a plugin: decoded once, and refused where two readers
//! could take them for different things.
//!
//! Not which route they mean. The invariant: a decoded path has no segment that leads elsewhere, and no
//! slash that was not one when it was sent.

use super::routes::decode;
use crate::error::Problem;

/// How many pairs a query or a form may have. In memory each is many times what it is on the wire.
const MOST_PAIRS: usize = 10_000;

/// The path of a request, decoded.
///
/// # Errors
/// `invalid_request` for `.`, `..` and empty segments, for slashes, backslashes, NUL and other control
/// characters, encoded or not, and for what is not percent-encoded UTF-8. A slash at the end may stand.
pub fn decoded_path(path: &str) -> Result<String, Problem> {
    let refuse = |what: &str| {
        Err(Problem::invalid(format!("the path has {what}: send it without, as the route is written")))
    };
    let mut decoded = String::with_capacity(path.len());
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = segments.next() {
        let text = decode(segment)?;
        if text.is_empty() && segments.peek().is_some() {
            return refuse("an empty segment (`//`)");
        }
        if text == "." || text == ".." {
            return refuse("a segment `.` or `..`");
        }
        if text.contains('/') {
            return refuse("an encoded slash");
        }
        if text.contains('\\') {
            return refuse("a backslash");
        }
        if text.chars().any(char::is_control) {
            return refuse("a control character");
        }
        decoded.push('/');
        decoded.push_str(&text);
    }
    Ok(decoded)
}

/// The pairs of a query or of a form, decoded, in their order.
///
/// # Errors
/// `invalid_request` for what is not percent-encoded UTF-8, and for more pairs than anybody needs.
pub fn decoded_pairs(text: &str) -> Result<Vec<(String, String)>, Problem> {
    if text.split('&').filter(|pair| !pair.is_empty()).nth(MOST_PAIRS).is_some() {
        return Err(Problem::invalid(format!(
            "there are more than {MOST_PAIRS} fields: send less at once, or send JSON"
        )));
    }
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(&name.replace('+', " "))?, decode(&value.replace('+', " "))?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_decoded_once() {
        for (path, decoded) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/", "/a/"),
            ("/a%20b/%C3%A9", "/a b/é"),
            ("/%2e%2ea", "/..a"),
            ("/%252e%252e/%252f", "/%2e%2e/%2f"),
            ("/...", "/..."),
            ("/a;b=c+d", "/a;b=c+d"),
        ] {
            assert_eq!(decoded_path(path).unwrap(), decoded, "{path}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for path in [
            "//a",
            "/a//b",
            "/a//",
            "/.",
            "/..",
            "/a/./b",
            "/a/../b",
            "/%2e",
            "/%2E%2e/a",
            "/.%2e/a",
            "/a%2fb",
            "/a%2Fb",
            "/%2f",
            "/a%5cb",
            "/a\\b",
            "/a%00",
            "/%00",
            "/a%0ab",
            "/a%0d%0ab",
            "/%7f",
            "/%c2%85",
            "/%1b",
            "/%",
            "/%4",
            "/%zz",
            "/%+1",
            "/%ff",
            "/%c0%ae%c0%ae/a",
        ] {
            let refused = decoded_path(path).map(|_| ()).unwrap_err();
            assert_eq!(refused.code.status(), 400, "{path}");
        }
    }

    #[test]
    fn pairs_keep_their_order_and_their_repetitions() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            decoded_pairs("b=1&a=x+y&b=%26%3D&&c&=d").unwrap(),
            [pair("b", "1"), pair("a", "x y"), pair("b", "&="), pair("c", ""), pair("", "d")]
        );
        assert!(decoded_pairs("a=%ff").is_err() && decoded_pairs("%=1").is_err());
        // Each costs much more memory than the two bytes that it takes to send.
        assert_eq!(decoded_pairs(&"a&".repeat(MOST_PAIRS)).unwrap().len(), MOST_PAIRS);
        assert!(decoded_pairs(&"a&".repeat(MOST_PAIRS + 1)).is_err());
    }
}
