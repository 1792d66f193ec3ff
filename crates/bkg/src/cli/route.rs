//! Addresses below the daemon's that have names from the command line in them.
//!
//! The invariant: a name is one segment or one value, whatever is in it; it never becomes another
//! route or another parameter.

use std::fmt::Write;

/// `collection` and one thing in it.
pub(super) fn item(collection: &str, name: &str) -> String {
    format!("{collection}/{}", encoded(name))
}

/// `collection`, or what of it belongs to a user.
pub(super) fn of_user(collection: &str, user: Option<&str>) -> String {
    match user {
        Some(user) => format!("{collection}?user={}", encoded(user)),
        None => collection.to_owned(),
    }
}

/// `path` with those parameters that have a value.
pub(super) fn asking<const N: usize>(path: &str, parameters: [(&str, Option<String>); N]) -> String {
    let parameters: Vec<String> = parameters
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| format!("{name}={}", encoded(&value))))
        .collect();
    let question = if parameters.is_empty() { "" } else { "?" };
    format!("{path}{question}{}", parameters.join("&"))
}

/// Percent-encoding (RFC 3986, section 2.1) of all that is not a letter, digit, `-` or `_`. A dot has a
/// meaning of its own as a segment.
fn encoded(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            text.push(char::from(byte));
        } else {
            write!(text, "%{byte:02X}").expect("a string takes all text");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_one_segment_or_one_value() {
        assert_eq!(item("/admin/users", "ada-1_x"), "/admin/users/ada-1_x");
        assert_eq!(item("/admin/users", "../keys?a=b#ä"), "/admin/users/%2E%2E%2Fkeys%3Fa%3Db%23%C3%A4");
        assert_eq!(of_user("/admin/keys", Some("a&b")), "/admin/keys?user=a%26b");
        assert_eq!(of_user("/admin/keys", None), "/admin/keys");
        let parameters = [("a", Some("x y&".to_owned())), ("b", None), ("c", Some("7".to_owned()))];
        assert_eq!(asking("/x", parameters), "/x?a=x%20y%26&c=7");
        assert_eq!(asking("/x", [("a", None)]), "/x");
    }
}
