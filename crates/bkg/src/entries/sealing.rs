//! Secrets on their way into the store and out of it, and the ids by which masks name them.
//!
//! The invariant: a secret is sealed for its plugin and its place, so it opens nowhere else.

use std::collections::BTreeSet;
use std::convert::Infallible;

use bkg_protocol::PluginName;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Map, Value, json};
use sha2::Sha256;

use crate::config::secrets::{SEALED, replace};
use crate::store::{Vault, VaultError};

/// The overlay with what is at `secret` places sealed, and which places those are.
pub(super) fn seal(
    vault: &Vault,
    plugin: &PluginName,
    overlay: Map<String, Value>,
    secret: &BTreeSet<String>,
) -> (Map<String, Value>, BTreeSet<String>) {
    let mut places = BTreeSet::new();
    let mut visit = |at: &str, value: &Value| {
        // `null` takes a member away; there is nothing to hide in that.
        let is_secret = secret.contains(at) && !value.is_null();
        Ok::<_, Infallible>(is_secret.then(|| {
            places.insert(at.to_owned());
            json!({ SEALED: vault.seal(plugin, at, value) })
        }))
    };
    let Ok(sealed) = replace(Value::Object(overlay), "", &mut visit);
    (members(sealed), places)
}

/// The overlay with everything opened, and the places that were sealed.
pub(super) fn open(
    vault: &Vault,
    plugin: &PluginName,
    overlay: Map<String, Value>,
) -> Result<(Map<String, Value>, BTreeSet<String>), VaultError> {
    with_others(overlay, |at, sealed| vault.open(plugin, at, sealed))
}

/// The same, for who only shows it: what cannot be opened stays as it is, at a place that is told.
pub(super) fn open_what_opens(
    vault: &Vault,
    plugin: &PluginName,
    overlay: Map<String, Value>,
) -> (Map<String, Value>, BTreeSet<String>) {
    // Not as an object: merging would take it apart.
    let open = |at: &str, sealed: &str| {
        Ok::<_, Infallible>(vault.open(plugin, at, sealed).unwrap_or_else(|_| Value::from(sealed)))
    };
    let Ok(opened) = with_others(overlay, open);
    opened
}

/// The overlay without what is sealed.
pub(super) fn without_sealed(overlay: Map<String, Value>) -> Map<String, Value> {
    let Ok((rest, _)) = with_others(overlay, |_, _| Ok::<_, Infallible>(Value::Null));
    rest
}

/// The overlay with another value in each place that is sealed, and which places those are.
fn with_others<E>(
    overlay: Map<String, Value>,
    other: impl Fn(&str, &str) -> Result<Value, E>,
) -> Result<(Map<String, Value>, BTreeSet<String>), E> {
    let mut places = BTreeSet::new();
    let mut visit = |at: &str, value: &Value| {
        let Some(sealed) = sealed_text(value) else { return Ok(None) };
        places.insert(at.to_owned());
        other(at, sealed).map(Some)
    };
    let replaced = replace(Value::Object(overlay), "", &mut visit)?;
    Ok((members(replaced), places))
}

/// What is sealed in a value, if it stands for something sealed.
fn sealed_text(value: &Value) -> Option<&str> {
    value.as_object()?.get(SEALED)?.as_str()
}

fn members(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        other => unreachable!("an overlay is an object, not {other}"),
    }
}

/// Gives secrets ids that say nothing about them and hold until the host ends.
pub(super) struct Masks([u8; 32]);

impl std::fmt::Debug for Masks {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Masks(***)")
    }
}

impl Masks {
    pub(super) fn random() -> Self {
        Self(rand::random())
    }

    /// The id of a secret of a plugin: equal secrets have equal ids.
    pub(super) fn id(&self, plugin: &PluginName, value: &Value) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("any length of key will do");
        mac.update(plugin.as_str().as_bytes());
        mac.update(&[0]);
        mac.update(value.to_string().as_bytes());
        let digest = mac.finalize().into_bytes();
        digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
