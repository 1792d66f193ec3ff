//! TLS on listeners of the HTTP surface: the certificate, its renewal, and the handshake.
//!
//! Not what is spoken inside: `server` speaks HTTP over what comes out. The invariant: there is always
//! a pair of certificate and key that fit each other, since a pair that does not is never taken.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{Error as RustlsError, ServerConfig};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::TlsKeys;

/// How often the files are looked at. A change counts once two looks in a row see the same, so that
/// nobody reads a pair of which one half is new.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// More than any chain of certificates needs.
const LONGEST_FILE: u64 = 1 << 20;
/// The first byte of a TLS handshake (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;
/// What a client hears that speaks plain HTTP where TLS is spoken.
const PLAIN_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\
    content-length: 48\r\n\r\nthis port speaks TLS: use `https://` to reach it";

/// A certificate with its key, and what is asked of browsers that came over it.
#[derive(Debug, Clone)]
pub struct Tls {
    files: Files,
    /// The files as they were before they were read.
    loaded: Looks,
    current: Arc<ArcSwap<ServerConfig>>,
    pub(super) strict_transport: Option<HeaderValue>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read `{}`, the file of `{key}`: {source}", path.display())]
    Unreadable {
        /// The key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds something else, or is damaged.
    #[error("`{}`, the file of `{key}`, holds no {wanted} in PEM form: {reason}", path.display())]
    Malformed {
        /// The key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What should be in it.
        wanted: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The two do not belong together.
    #[error(
        "the key in `{}` does not belong to the certificate in `{}`: set `tls.key` and `tls.cert` to a pair, with the certificate of this daemon before those of its issuers",
        key.display(), cert.display()
    )]
    Mismatch {
        /// The file of the certificate.
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// The pair cannot be used.
    #[error("the certificate in `{}` cannot be used with the key in `{}`: {reason}", cert.display(), key.display())]
    Unusable {
        /// The file of the certificate.
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

#[derive(Debug, Clone)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
}

/// What tells one state of the two files from another without reading them; `None` for one that is
/// not there.
type Looks = [Option<(u64, u64, u64, i64, i64)>; 2];

/// The files as they were when they were last read, and when they were last looked at.
#[derive(Debug)]
struct Watched {
    used: Looks,
    seen: Looks,
}

impl Watched {
    /// Whether the files are to be read again, now that they look like this.
    fn changed(&mut self, now: Looks) -> bool {
        let is_settled = std::mem::replace(&mut self.seen, now) == now;
        let changed = is_settled && now != self.used;
        if changed {
            self.used = now;
        }
        changed
    }
}

impl Tls {
    /// Reads the pair. Blocks.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn load(keys: &TlsKeys) -> Result<Self, TlsError> {
        let files = Files { cert: keys.cert.clone(), key: keys.key.clone() };
        let loaded = files.look();
        let config = files.load()?;
        files.warn_if_others_read_the_key();
        let strict_transport = (keys.hsts_days > 0).then(|| {
            let seconds = keys.hsts_days as u64 * 24 * 60 * 60;
            HeaderValue::from_str(&format!("max-age={seconds}")).expect("digits are a header value")
        });
        Ok(Self { files, loaded, current: Arc::new(ArcSwap::new(config)), strict_transport })
    }

    /// Reads the pair again whenever its files change, until `stop` fires. One that cannot be used
    /// changes nothing.
    pub async fn renew(self, stop: CancellationToken) {
        let mut watched = Watched { used: self.loaded, seen: self.loaded };
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(LOOK_EVERY) => {}
            }
            let files = self.files.clone();
            let looking = tokio::task::spawn_blocking(move || files.look());
            if watched.changed(looking.await.expect("looking at a file does not panic")) {
                self.reload().await;
            }
        }
    }

    async fn reload(&self) {
        let files = self.files.clone();
        let loading = tokio::task::spawn_blocking(move || {
            files.warn_if_others_read_the_key();
            files.load()
        });
        let cert = self.files.cert.display();
        match loading.await.expect("reading a certificate does not panic") {
            Ok(config) => {
                self.current.store(config);
                info!(%cert, "the certificate was renewed");
            }
            Err(error) => warn!(%error, "the certificate was not renewed: the one before stays in use"),
        }
    }

    /// Shakes hands with a client whose first byte is there. `None` if that comes to nothing; the
    /// client has been told then, as far as it can be. Takes as long as the client likes.
    pub(super) async fn accept(&self, socket: TcpStream) -> Option<TlsStream<TcpStream>> {
        let mut first = [0];
        match socket.peek(&mut first).await {
            Ok(1..) if first[0] == HANDSHAKE => {}
            Ok(1..) if first[0].is_ascii_uppercase() => {
                answer_plain_http(socket).await;
                return None;
            }
            _ => return None,
        }
        let acceptor = TlsAcceptor::from(self.current.load_full());
        // A handshake that fails is the client's matter: a scanner would fill the log.
        acceptor.accept(socket).await.ok()
    }
}

async fn answer_plain_http(mut socket: TcpStream) {
    // What stays unread would have the system take the answer back (RFC 9112, section 9.6).
    let mut read = [0; 4096];
    let _ = socket.try_read(&mut read);
    if socket.write_all(PLAIN_HTTP).await.is_ok() {
        let _ = socket.shutdown().await;
    }
}

impl Files {
    fn load(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let malformed = |key, path: &Path, wanted, reason: String| {
            let path = path.to_owned();
            TlsError::Malformed { key, path, wanted, reason }
        };
        let text = read("tls.cert", &self.cert)?;
        let chain = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
        let chain =
            chain.map_err(|error| malformed("tls.cert", &self.cert, "certificate", error.to_string()))?;
        if chain.is_empty() {
            let reason = "no section of it begins with `BEGIN CERTIFICATE`";
            return Err(malformed("tls.cert", &self.cert, "certificate", reason.to_owned()));
        }
        let text = read("tls.key", &self.key)?;
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
            let is_encrypted = text.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED);
            let reason = if is_encrypted {
                "it is encrypted, and there is nobody to type its password; write it without one".to_owned()
            } else {
                error.to_string()
            };
            malformed("tls.key", &self.key, "private key", reason)
        })?;
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for both versions");
        let (cert, key_file) = (self.cert.clone(), self.key.clone());
        let mut config =
            builder.with_no_client_auth().with_single_cert(chain, key).map_err(|error| match error {
                RustlsError::InconsistentKeys(_) => TlsError::Mismatch { cert, key: key_file },
                error => TlsError::Unusable { cert, key: key_file, reason: error.to_string() },
            })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn warn_if_others_read_the_key(&self) {
        if fs::metadata(&self.key).is_ok_and(|file| file.mode() & 0o004 != 0) {
            let key = self.key.display();
            warn!(%key, "everybody on this machine can read the private key: take that right away with `chmod o-r`");
        }
    }

    fn look(&self) -> Looks {
        let tell = |it: Metadata| (it.dev(), it.ino(), it.size(), it.mtime(), it.mtime_nsec());
        [&self.cert, &self.key].map(|path| fs::metadata(path).map(tell).ok())
    }
}

const ENCRYPTED: &[u8] = b"ENCRYPTED";

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut text = Vec::new();
    match File::open(path).and_then(|file| file.take(LONGEST_FILE).read_to_end(&mut text)) {
        Ok(_) => Ok(text),
        Err(source) => Err(TlsError::Unreadable { key, path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
    use tempfile::TempDir;

    use super::*;

    struct Pair {
        directory: TempDir,
        keys: TlsKeys,
    }

    fn generated() -> CertifiedKey<KeyPair> {
        generate_simple_self_signed(["localhost".to_owned()]).unwrap()
    }

    impl Pair {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let keys = TlsKeys {
                cert: directory.path().join("cert.pem"),
                key: directory.path().join("key.pem"),
                hsts_days: 0,
            };
            let pair = Self { directory, keys };
            pair.write(&generated());
            pair
        }

        fn write(&self, pair: &CertifiedKey<KeyPair>) {
            fs::write(&self.keys.cert, pair.cert.pem()).unwrap();
            fs::write(&self.keys.key, pair.signing_key.serialize_pem()).unwrap();
        }

        fn error(&self) -> String {
            let error = Tls::load(&self.keys).unwrap_err().to_string();
            error.replace(&self.directory.path().display().to_string(), "DIR")
        }
    }

    #[test]
    fn a_pair_that_cannot_be_used_is_one_clear_error() {
        let pair = Pair::new();
        Tls::load(&pair.keys).unwrap();
        let good = fs::read(&pair.keys.key).unwrap();

        fs::write(&pair.keys.key, generated().signing_key.serialize_pem()).unwrap();
        assert_eq!(
            pair.error(),
            "the key in `DIR/key.pem` does not belong to the certificate in `DIR/cert.pem`: set `tls.key` and \
             `tls.cert` to a pair, with the certificate of this daemon before those of its issuers"
        );
        fs::write(&pair.keys.key, "nothing").unwrap();
        let malformed = "`DIR/key.pem`, the file of `tls.key`, holds no private key in PEM form: ";
        assert!(pair.error().starts_with(malformed), "{}", pair.error());
        let encrypted =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        fs::write(&pair.keys.key, encrypted).unwrap();
        assert!(pair.error().contains("it is encrypted"), "{}", pair.error());
        fs::remove_file(&pair.keys.key).unwrap();
        assert_eq!(
            pair.error(),
            "cannot read `DIR/key.pem`, the file of `tls.key`: No such file or directory (os error 2)"
        );

        fs::write(&pair.keys.key, good).unwrap();
        for text in ["", "-----BEGIN CERTIFICATE-----\nAAAA"] {
            fs::write(&pair.keys.cert, text).unwrap();
            let malformed = "`DIR/cert.pem`, the file of `tls.cert`, holds no certificate in PEM form: ";
            assert!(pair.error().starts_with(malformed), "{}", pair.error());
        }
        fs::write(&pair.keys.cert, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
            .unwrap();
        assert!(pair.error().contains("cannot be used"), "{}", pair.error());
    }

    #[tokio::test]
    async fn a_new_pair_is_taken_and_a_bad_one_is_not() {
        let pair = Pair::new();
        let tls = Tls::load(&pair.keys).unwrap();
        let first = tls.current.load_full();
        fs::write(&pair.keys.cert, generated().cert.pem()).unwrap();
        tls.reload().await;
        assert!(Arc::ptr_eq(&first, &tls.current.load_full()), "the key is still that of the old one");
        fs::remove_file(&pair.keys.cert).unwrap();
        tls.reload().await;
        assert!(Arc::ptr_eq(&first, &tls.current.load_full()));
        pair.write(&generated());
        tls.reload().await;
        assert!(!Arc::ptr_eq(&first, &tls.current.load_full()));
    }

    #[test]
    fn files_are_read_again_once_they_have_settled() {
        let pair = Pair::new();
        let tls = Tls::load(&pair.keys).unwrap();
        let mut watched = Watched { used: tls.loaded, seen: tls.loaded };
        let mut look = || watched.changed(tls.files.look());
        assert_eq!([look(), look()], [false, false], "nothing has changed");
        fs::write(&pair.keys.cert, "half").unwrap();
        assert!(!look());
        fs::remove_file(&pair.keys.cert).unwrap();
        assert!(!look(), "it goes on changing");
        pair.write(&generated());
        assert_eq!([look(), look(), look()], [false, true, false]);
        fs::remove_file(&pair.keys.key).unwrap();
        assert_eq!([look(), look(), look()], [false, true, false], "a bad pair is tried once");
    }

    #[test]
    fn hsts_is_asked_for_by_whoever_wants_it() {
        let mut pair = Pair::new();
        assert_eq!(Tls::load(&pair.keys).unwrap().strict_transport, None);
        pair.keys.hsts_days = 30;
        assert_eq!(Tls::load(&pair.keys).unwrap().strict_transport.unwrap(), "max-age=2592000");
    }

    #[test]
    fn a_key_that_everybody_reads_is_used_all_the_same() {
        let pair = Pair::new();
        fs::set_permissions(&pair.keys.key, fs::Permissions::from_mode(0o644)).unwrap();
        Tls::load(&pair.keys).unwrap();
    }

    #[test]
    fn what_is_said_in_plain_text_is_as_long_as_it_says() {
        let text = std::str::from_utf8(PLAIN_HTTP).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{}", body.len());
    }
}
