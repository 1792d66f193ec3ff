//! Secrets at rest: a value becomes a text that opens only with `DATA/secrets.key`, for the same plugin
//! and at the same place.
//!
//! Not where the texts are kept, which the callers decide, and not who may read what was opened. The
//! invariants: no text is the same twice, none can be moved to another plugin or place, and a key that
//! does not fit the database is refused at the start. `database` opens it.

mod key;
mod open;

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bkg_protocol::PluginName;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use serde_json::Value;
use zeroize::Zeroizing;

pub(super) use open::open;

use key::SecretsKey;

/// What seals and opens the secrets of one data directory; cheap to clone.
#[derive(Clone)]
pub struct Vault {
    /// XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03): its nonces are long enough to be random. It
    /// overwrites its key when it is dropped.
    cipher: Arc<XChaCha20Poly1305>,
}

/// Why a sealed text cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// It is not what [`Vault::seal`] makes.
    #[error(
        "the secret at `{path}` of `{plugin}` is sealed in a form that this version does not know: set it again, or \
         start the newer version that saved it"
    )]
    Form {
        /// Whose secret.
        plugin: PluginName,
        /// Where it is in the entry, as a JSON Pointer.
        path: String,
    },
    /// It was sealed with another key, for another plugin or place, or was changed since.
    #[error(
        "the secret at `{path}` of `{plugin}` was sealed with another `secrets.key` or for another place, or was \
         changed: set it again"
    )]
    Refused {
        /// Whose secret.
        plugin: PluginName,
        /// Where it is in the entry, as a JSON Pointer.
        path: String,
    },
}

impl Vault {
    fn new(key: &SecretsKey) -> Self {
        Self { cipher: Arc::new(XChaCha20Poly1305::new(key.bytes().into())) }
    }

    /// Seals a value that belongs to `path`, a JSON Pointer into the entry of `plugin`. The text says
    /// how long the value is, and nothing else.
    pub fn seal(&self, plugin: &PluginName, path: &str, value: &Value) -> String {
        let plain = Zeroizing::new(serde_json::to_vec(value).expect("a value has a JSON form"));
        self.encrypt(&place(plugin, path), &plain)
    }

    /// Opens what was sealed for the same plugin and path.
    ///
    /// # Errors
    /// Why it cannot be opened; nothing of it is known then.
    pub fn open(&self, plugin: &PluginName, path: &str, sealed: &str) -> Result<Value, VaultError> {
        let (named, at) = (plugin.clone(), path.to_owned());
        let plain = match self.decrypt(&place(plugin, path), sealed) {
            Ok(plain) => plain,
            Err(Closed::Form) => return Err(VaultError::Form { plugin: named, path: at }),
            Err(Closed::Refused) => return Err(VaultError::Refused { plugin: named, path: at }),
        };
        serde_json::from_slice(&plain).map_err(|_| VaultError::Form { plugin: named, path: at })
    }

    /// A text that only this vault's key opens, to tell by it whether a key is the right one.
    fn proof(&self) -> String {
        self.encrypt(PROOF, &[])
    }

    /// Whether a vault with the same key made this proof.
    fn made(&self, proof: &str) -> bool {
        self.decrypt(PROOF, proof).is_ok()
    }

    fn encrypt(&self, place: &[u8], plain: &[u8]) -> String {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let payload = Payload { msg: plain, aad: place };
        let closed = self.cipher.encrypt(&XNonce::from(nonce), payload).expect("a value is below 256 GB");
        format!("{FORM}{}", URL_SAFE_NO_PAD.encode([&nonce[..], &closed].concat()))
    }

    fn decrypt(&self, place: &[u8], sealed: &str) -> Result<Zeroizing<Vec<u8>>, Closed> {
        let bytes = sealed.strip_prefix(FORM).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        let bytes = bytes.ok_or(Closed::Form)?;
        let (nonce, closed) = bytes.split_first_chunk::<NONCE_BYTES>().ok_or(Closed::Form)?;
        let payload = Payload { msg: closed, aad: place };
        let plain = self.cipher.decrypt(&XNonce::from(*nonce), payload).map_err(|_| Closed::Refused)?;
        Ok(Zeroizing::new(plain))
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Vault(***)")
    }
}

/// Why nothing came out.
enum Closed {
    Form,
    Refused,
}

/// What a sealed text begins with; another form gets another number.
const FORM: &str = "v1.";
const NONCE_BYTES: usize = 24;
/// What a proof is bound to: no place begins like this.
const PROOF: &[u8] = b"bkg vault proof 1";

/// What a sealed value is bound to. The name's length comes first, so that no two places are the same
/// bytes.
fn place(plugin: &PluginName, path: &str) -> Vec<u8> {
    let name = plugin.as_str().as_bytes();
    [b"bkg sealed value 1", &(name.len() as u64).to_le_bytes()[..], name, path.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn vault() -> Vault {
        Vault::new(&SecretsKey::random())
    }

    fn plugin(name: &str) -> PluginName {
        name.parse().unwrap()
    }

    const PATH: &str = "/settings/apiKey";

    #[test]
    fn what_was_sealed_opens_in_its_place() {
        let vault = vault();
        for value in [
            json!("sk-ä€😀\0"),
            json!(""),
            Value::Null,
            json!({ "z": [1.5, u64::MAX], "a": "x".repeat(100_000) }),
        ] {
            let sealed = vault.seal(&plugin("ping"), PATH, &value);
            assert_eq!(vault.clone().open(&plugin("ping"), PATH, &sealed), Ok(value));
            assert!(sealed.starts_with("v1."));
        }
        // What is in it shows neither as it is nor after decoding.
        let sealed = vault.seal(&plugin("ping"), PATH, &json!("the plain secret"));
        let bytes = URL_SAFE_NO_PAD.decode(&sealed[3..]).unwrap();
        assert!(!bytes.windows(5).any(|part| part == b"plain"));
        let twice = [(); 2].map(|()| vault.seal(&plugin("ping"), PATH, &json!("same")));
        assert_ne!(twice[0], twice[1]);
    }

    #[test]
    fn nothing_opens_for_another_plugin_or_at_another_place_or_with_another_key() {
        let (vault, other) = (vault(), vault());
        let sealed = vault.seal(&plugin("ping"), PATH, &json!("secret"));
        let refused = |vault: &Vault, name: &str, path: &str| {
            let error = vault.open(&plugin(name), path, &sealed).unwrap_err();
            assert_eq!(error, VaultError::Refused { plugin: plugin(name), path: path.to_owned() });
        };
        refused(&vault, "echo", PATH);
        refused(&vault, "ping2", PATH);
        for path in ["", "/", "/settings", "/settings/apiKey/0", "/settings/apikey", "settings/apiKey"] {
            refused(&vault, "ping", path);
        }
        refused(&other, "ping", PATH);
        // Where the name ends and the path begins is part of the place.
        let sealed = vault.seal(&plugin("ab"), "c", &json!("secret"));
        vault.open(&plugin("a"), "bc", &sealed).unwrap_err();
        // A proof is no secret, and a secret no proof.
        assert!(vault.made(&vault.proof()) && !vault.made(&sealed) && !other.made(&vault.proof()));
        vault.open(&plugin("ping"), PATH, &vault.proof()).unwrap_err();
    }

    #[test]
    fn what_was_changed_anywhere_does_not_open() {
        let vault = vault();
        let sealed = vault.seal(&plugin("ping"), PATH, &json!("secret"));
        let open = |text: &str| vault.open(&plugin("ping"), PATH, text);
        for length in 0..sealed.len() {
            open(&sealed[..length]).unwrap_err();
        }
        let bytes = URL_SAFE_NO_PAD.decode(&sealed[3..]).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let changed = format!("v1.{}", URL_SAFE_NO_PAD.encode(changed));
            assert!(matches!(open(&changed), Err(VaultError::Refused { .. })), "{changed}");
        }
        let other_form = sealed.replace("v1.", "v2.");
        for text in ["", "v1", "v1.", "secret", "v1.????", "v1.AAAA", &other_form, &format!("{sealed}=")] {
            assert!(matches!(open(text), Err(VaultError::Form { .. })), "{text}");
        }
    }

    #[test]
    fn an_error_names_the_place_and_the_next_step_and_not_the_secret() {
        let sealed = vault().seal(&plugin("ping"), PATH, &json!("secret"));
        let error = vault().open(&plugin("ping"), PATH, &sealed).unwrap_err().to_string();
        assert_eq!(
            error,
            "the secret at `/settings/apiKey` of `ping` was sealed with another `secrets.key` or for another \
             place, or was changed: set it again"
        );
        assert_eq!(format!("{:?} {:#?}", vault(), vault()), "Vault(***) Vault(***)");
    }
}
