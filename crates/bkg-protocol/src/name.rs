//! Names that travel on the bus, parsed at the door so that the rest can trust them.
//!
//! None of these types can hold an invalid value. They are cheap to clone: names are shared text.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use bytestring::ByteString;
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

/// The longest plugin name, in bytes.
pub const MAX_PLUGIN_NAME: usize = 63;
/// The longest capability name, in bytes.
pub const MAX_CAPABILITY_NAME: usize = 96;
/// The longest name of a topic, in bytes.
pub const MAX_TOPIC_NAME: usize = 128;
/// Names that the HTTP surface needs for itself below `/api/plugins`.
pub const RESERVED_PLUGIN_NAMES: [&str; 4] = ["execute", "available", "telemetry", "routes"];

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not `[a-z0-9][a-z0-9_-]{0,62}`.
    #[error(
        "`{0}` is not a plugin name: use 1 to 63 of a-z, 0-9, `_`, `-`, starting with a letter or digit"
    )]
    Plugin(String),
    /// A plugin name that the HTTP surface keeps for itself.
    #[error("`{0}` cannot name a plugin: the path `/api/plugins/{0}` belongs to the host")]
    Reserved(String),
    /// Not a dotted capability name.
    #[error(
        "`{0}` is not a capability name: use dotted words such as `llm.chat`, starting with a-z, at most 96 bytes"
    )]
    Capability(String),
    /// Not the dotted name of a topic.
    #[error(
        "`{0}` is not a topic: use a plugin's name and dotted words such as `clock.tick`, at most 128 bytes"
    )]
    Topic(String),
    /// Neither a name nor a name with `*` at its end.
    #[error("`{0}` is not a pattern: use a name, or a prefix that ends in `*` such as `repo.*`")]
    Pattern(String),
    /// None of the forms of a scope.
    #[error(
        "`{0}` is not a scope: use a capability such as `llm.chat`, a family such as `llm.*`, an area such as `plugin:read`, or `admin`"
    )]
    Scope(String),
    /// Not a UUID.
    #[error("`{0}` is not an instance id: it is a UUID")]
    Instance(String),
}

macro_rules! text_name {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(ByteString);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                $check(text)?;
                Ok(Self(ByteString::from(text)))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                $check(&text)?;
                Ok(Self(ByteString::from(text)))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), out)
            }
        }
    };
}

text_name!(
    /// The name of a plugin: `[a-z0-9][a-z0-9_-]{0,62}`, and none of [`RESERVED_PLUGIN_NAMES`].
    PluginName,
    check_plugin
);

text_name!(
    /// The dotted name of something that an instance answers, such as `llm.chat`:
    /// `[a-z][a-z0-9_-]*(\.[A-Za-z0-9_-]+)+`, at most 96 bytes.
    CapabilityName,
    check_capability
);

text_name!(
    /// The dotted name of a topic of events, such as `clock.tick`, whose first word is the plugin that
    /// publishes it: `[a-z0-9][a-z0-9_-]*(\.[A-Za-z0-9_-]+)+`, at most 128 bytes.
    TopicName,
    check_topic
);

text_name!(
    /// Which names are meant: one exactly (`llm.chat`), or all that start alike (`repo.*`, `*`).
    ///
    /// Only the last byte may be a `*`. Used for capabilities, models and scopes alike, so any
    /// printable text without spaces can be the literal part.
    Pattern,
    check_pattern
);

impl CapabilityName {
    /// Whether nobody but the host itself may ask for it: `auth.*` and `lifecycle.*`.
    pub fn is_for_the_host_alone(&self) -> bool {
        ["auth.", "lifecycle."].iter().any(|family| self.0.starts_with(family))
    }
}

impl TopicName {
    /// Whose topic it is: the name of the plugin that may publish it, or `host`.
    pub fn owner(&self) -> &str {
        self.0.split('.').next().expect("a split text has a first part")
    }
}

impl Pattern {
    /// Whether `name` is one of those meant.
    pub fn matches(&self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => &*self.0 == name,
        }
    }
}

impl From<CapabilityName> for Pattern {
    fn from(name: CapabilityName) -> Self {
        Self(name.0)
    }
}

fn check_plugin(text: &str) -> Result<(), NameError> {
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let rest = bytes
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-');
    if !first || !rest || text.len() > MAX_PLUGIN_NAME {
        return Err(NameError::Plugin(shown(text)));
    }
    if RESERVED_PLUGIN_NAMES.contains(&text) {
        return Err(NameError::Reserved(text.to_owned()));
    }
    Ok(())
}

fn check_capability(text: &str) -> Result<(), NameError> {
    let starts_right = text.starts_with(|c: char| c.is_ascii_lowercase());
    if starts_right && is_dotted(text) && text.len() <= MAX_CAPABILITY_NAME {
        Ok(())
    } else {
        Err(NameError::Capability(shown(text)))
    }
}

fn check_topic(text: &str) -> Result<(), NameError> {
    let starts_right = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if starts_right && is_dotted(text) && text.len() <= MAX_TOPIC_NAME {
        Ok(())
    } else {
        Err(NameError::Topic(shown(text)))
    }
}

/// Whether these are two words or more with dots between them, the first in small letters.
fn is_dotted(text: &str) -> bool {
    let mut words = text.split('.');
    let area = words.next().unwrap_or_default();
    let area_is_right =
        area.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
    let mut count = 0;
    let words_are_right = words.all(|word| {
        count += 1;
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    });
    area_is_right && words_are_right && count > 0
}

fn check_pattern(text: &str) -> Result<(), NameError> {
    let literal = text.strip_suffix('*').unwrap_or(text);
    let literal_is_right = literal.chars().all(|c| !c.is_whitespace() && !c.is_control() && c != '*');
    if text.is_empty() || text.len() > 256 || !literal_is_right {
        return Err(NameError::Pattern(shown(text)));
    }
    Ok(())
}

/// What an error message shows of a hostile text: its start, without control characters.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(MAX_CAPABILITY_NAME).flat_map(char::escape_debug).collect()
}

/// The id of one launch of a plugin: a UUIDv7, so ids sort by time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct InstanceId(Uuid);

impl InstanceId {
    /// A new id, never given before.
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl Default for InstanceId {
    fn default() -> Self {
        Self::new()
    }
}

impl FromStr for InstanceId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Uuid::parse_str(text).map(Self).map_err(|_| NameError::Instance(shown(text)))
    }
}

impl<'de> Deserialize<'de> for InstanceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Uuid::deserialize(deserializer).map(Self)
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, out)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, out)
    }
}

/// The id of one request: a text that the sender chose and the answers carry back unchanged.
///
/// Ids made by this crate are UUIDs (version 8: 60 bits of the session's seed, then a counter), which
/// keeps them unique across sessions and hosts and lets the sender find its entry by the counter.
/// Ids made by others may be any text: see [`crate::inbound`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct RequestId(ByteString);

/// The longest request id that is accepted from the other side, in bytes.
pub const MAX_REQUEST_ID: usize = 128;

/// The bits of a UUID that say its version (8) and variant, which the number must not touch.
const VERSION_AND_VARIANT: u128 = 0x8000 << 64 | 0x8000 << 48;
const SEED_MASK: u64 = 0xffff_ffff_ffff_0fff;
const NUMBER_MASK: u64 = 0x0000_ffff_ffff_ffff;

impl RequestId {
    /// The id of the `number`th request of the session with this `seed`.
    pub(crate) fn numbered(seed: u64, number: u64) -> Self {
        let bits =
            (u128::from(seed & SEED_MASK) << 64) | VERSION_AND_VARIANT | u128::from(number & NUMBER_MASK);
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        let text: &str = Uuid::from_u128(bits).hyphenated().encode_lower(&mut text);
        Self(ByteString::from(text))
    }

    /// Which request of the session with this `seed` the text names; `None` for any other text.
    pub(crate) fn number(seed: u64, text: &str) -> Option<u64> {
        // Only the exact form that `numbered` writes: a second spelling of an id is a foreign id.
        if text.len() != uuid::fmt::Hyphenated::LENGTH || text.bytes().any(|b| b.is_ascii_uppercase()) {
            return None;
        }
        let bits = Uuid::try_parse_ascii(text.as_bytes()).ok()?.as_u128();
        let number = bits as u64 & NUMBER_MASK;
        let expected = (u128::from(seed & SEED_MASK) << 64) | VERSION_AND_VARIANT | u128::from(number);
        (bits == expected).then_some(number)
    }

    /// The place of an id that a half of the conversation has yet to assign.
    pub(crate) fn unassigned() -> Self {
        Self(ByteString::new())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        if text.is_empty() || text.len() > MAX_REQUEST_ID {
            return Err(serde::de::Error::custom("a requestId is a text of 1 to 128 bytes"));
        }
        Ok(Self(ByteString::from(&*text)))
    }
}

impl Borrow<str> for RequestId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(feature = "schema")]
mod schema {
    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
    use std::borrow::Cow;

    use super::{CapabilityName, InstanceId, MAX_REQUEST_ID, Pattern, PluginName, RequestId};

    macro_rules! inline_schema {
        ($name:ident, $($schema:tt)+) => {
            impl JsonSchema for $name {
                fn inline_schema() -> bool {
                    true
                }
                fn schema_name() -> Cow<'static, str> {
                    stringify!($name).into()
                }
                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    json_schema!($($schema)+)
                }
            }
        };
    }

    inline_schema!(PluginName, { "type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,62}$" });
    inline_schema!(CapabilityName, {
        "type": "string",
        "pattern": r"^[a-z][a-z0-9_-]*(\.[A-Za-z0-9_-]+)+$",
        "maxLength": 96
    });
    inline_schema!(Pattern, { "type": "string", "minLength": 1, "maxLength": 256 });
    inline_schema!(InstanceId, { "type": "string", "format": "uuid" });
    inline_schema!(RequestId, { "type": "string", "minLength": 1, "maxLength": MAX_REQUEST_ID });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugin_names_keep_their_form() {
        for right in ["a", "0", "ping-python", "a_b", &"x".repeat(63)] {
            assert!(right.parse::<PluginName>().is_ok(), "{right}");
        }
        for wrong in ["", "-a", "_a", "A", "a.b", "a b", "é", "execute", &"x".repeat(64)] {
            assert!(wrong.parse::<PluginName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn capability_names_contain_a_dot() {
        for right in ["llm.chat", "repo.file.read", "a.B", "a-b_c.d-e_F"] {
            assert!(right.parse::<CapabilityName>().is_ok(), "{right}");
        }
        let long = format!("a.{}", "b".repeat(95));
        for wrong in ["", "llm", ".chat", "llm.", "llm..chat", "Llm.chat", "1.a", "llm.ch at", &long] {
            assert!(wrong.parse::<CapabilityName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn topics_begin_with_the_name_of_their_owner() {
        for (right, owner) in [("clock.tick", "clock"), ("0-a_b.c.D", "0-a_b"), ("host.x", "host")] {
            assert_eq!(right.parse::<TopicName>().unwrap().owner(), owner);
        }
        let long = format!("a.{}", "b".repeat(127));
        for wrong in ["", "clock", ".tick", "clock.", "a..b", "Clock.tick", "-a.b", "a.b c", "a.*", &long] {
            assert!(wrong.parse::<TopicName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn two_families_are_for_the_host_alone() {
        let host_alone = |name: &str| name.parse::<CapabilityName>().unwrap().is_for_the_host_alone();
        assert!(host_alone("auth.validate") && host_alone("lifecycle.install"));
        assert!(!host_alone("llm.chat") && !host_alone("authority.ask"));
    }

    #[test]
    fn a_pattern_matches_one_name_or_a_prefix() {
        let matches = |pattern: &str, name: &str| pattern.parse::<Pattern>().unwrap().matches(name);
        assert!(matches("llm.chat", "llm.chat"));
        assert!(!matches("llm.chat", "llm.chats"));
        assert!(matches("repo.*", "repo.file.read"));
        assert!(!matches("repo.*", "repository.x"));
        assert!(matches("*", "anything"));
        assert!("a*b".parse::<Pattern>().is_err());
    }

    #[test]
    fn a_request_id_is_a_uuid_and_knows_its_number_only_in_its_own_session() {
        let seed = 0xdead_beef_dead_beef;
        for number in [0, 1, 255, 1 << 40, NUMBER_MASK] {
            let id = RequestId::numbered(seed, number);
            assert_eq!(Uuid::parse_str(id.as_str()).unwrap().get_version_num(), 8);
            assert_eq!(RequestId::number(seed, id.as_str()), Some(number));
            assert_eq!(RequestId::number(seed ^ 0x1000_0000, id.as_str()), None);
            assert_eq!(
                RequestId::number(seed, &id.as_str().to_uppercase()).is_some(),
                id.as_str() == id.as_str().to_uppercase()
            );
        }
        for foreign in ["", "x", "00000000-0000-0000-0000-000000000000", "\u{1f600}"] {
            assert_eq!(RequestId::number(seed, foreign), None, "{foreign}");
        }
    }
}
