//! What strangers send before anybody knows who they are: paths, queries, routes and keys.

use bkg::registry::read_routes;
use bkg::web::{decoded_pairs, decoded_path};
use bkg_protocol::message::Route;

use crate::token::{Kind, Token};

/// A path, or a query, or the template of a route.
pub(crate) fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    if let Ok(decoded) = decoded_path(path) {
        check_path(path, &decoded);
    }
    if let Ok(pairs) = decoded_pairs(query) {
        let encoded: Vec<String> =
            pairs.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        // A pair of nothing is written as `=`.
        assert_eq!(decoded_pairs(&encoded.join("&")).ok(), Some(pairs), "{query:?}");
    }
    check_route(path);
}

/// A decoded path leads nowhere else, and means the same to who decodes it again.
fn check_path(path: &str, decoded: &str) {
    assert!(decoded.starts_with('/'), "{path:?} became {decoded:?}");
    let segments: Vec<&str> = decoded[1..].split('/').collect();
    for (at, segment) in segments.iter().enumerate() {
        assert!(!matches!(*segment, "." | ".."), "{path:?} became {decoded:?}");
        assert!(!segment.is_empty() || at + 1 == segments.len(), "{path:?} became {decoded:?}");
        assert!(!segment.contains(|letter: char| letter == '\\' || letter.is_control()), "{decoded:?}");
    }
    let slashes = |text: &str| text.bytes().filter(|byte| *byte == b'/').count();
    let sent = slashes(path) + usize::from(!path.starts_with('/'));
    assert_eq!(slashes(decoded), sent, "no slash came of something else: {path:?}");
    let encoded: Vec<String> = segments.iter().map(|segment| encode(segment)).collect();
    assert_eq!(decoded_path(&format!("/{}", encoded.join("/"))).ok().as_deref(), Some(decoded));
}

/// The template of a route that is accepted is written so that it is read as the same.
fn check_route(path: &str) {
    let route = |path: &str| Route {
        method: "GET".to_owned(),
        path: path.to_owned(),
        capability: "a.b".parse().expect("the name is one"),
        streaming: false,
    };
    let Ok(read) = read_routes(&[route(path)]) else { return };
    let again = read_routes(&[route(&read[0].template.to_string())]);
    assert_eq!(again.ok().as_ref(), Some(&read), "{path:?}");
    assert!(read_routes(&[route(path), route(path)]).is_err(), "{path:?} twice means one thing");
}

/// Percent-encodes all that is not a letter or a digit.
fn encode(text: &str) -> String {
    let encoded = text.bytes().map(|byte| match byte {
        b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    });
    encoded.collect()
}

/// What may be a key: nothing else is ever looked up.
pub(crate) fn key(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(token) = Token::parse(text) {
        assert_eq!(token.expose(), text);
        assert!(matches!(token.kind(), Kind::Key | Kind::Session | Kind::Refresh));
        assert!(token.id().bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert!(!format!("{token:?}").contains(&text[text.len() - 20..]), "a secret is not shown");
        // The checksum finds a slip of the pen in every place.
        for at in 0..text.len() {
            let slipped = if text.as_bytes()[at] == b'x' { "y" } else { "x" };
            let slip = [&text[..at], slipped, &text[at + 1..]].concat();
            assert!(Token::parse(&slip).is_none(), "{slip:?} has the form of a key");
        }
    }
}
