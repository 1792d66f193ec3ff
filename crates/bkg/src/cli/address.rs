//! The address of a daemon elsewhere, and who vouches for it: `--url` and `--ca`.
//!
//! Not a connection. The invariant: an address never makes a credential readable on the way: beyond
//! this machine it is `https`, and the certificate is checked, always.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use http::Uri;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use super::error::CliError;

/// A daemon that is reached by its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remote {
    /// Where it is.
    pub(super) address: Address,
    /// The file with the certificates that vouch for it; without one, those of the system do.
    pub(super) authorities: Option<PathBuf>,
}

/// Scheme, host and port, without anything behind them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address(String);

/// The text cannot be the address of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoAddress {
    /// It is something else.
    #[error("use an address such as `https://bkg.example.org` or `http://127.0.0.1:43119`")]
    Form,
    /// There is more in it than a place.
    #[error("leave out what stands behind host and port")]
    Path,
    /// It has a name and a password in it.
    #[error("leave out the name and the password: `BKG_API_KEY` or `bkg login` say who you are")]
    Credential,
    /// Everybody on the way could read the credential.
    #[error("use `https`: over `http` everybody on the way could read your credential")]
    Readable,
}

impl FromStr for Address {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Self, NoAddress> {
        let uri: Uri = text.parse().map_err(|_| NoAddress::Form)?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(NoAddress::Form);
        };
        if authority.as_str().contains('@') {
            return Err(NoAddress::Credential);
        }
        if !matches!(scheme, "http" | "https") || authority.host().is_empty() {
            return Err(NoAddress::Form);
        }
        if uri.path_and_query().is_some_and(|rest| rest.as_str() != "/") || text.contains('#') {
            return Err(NoAddress::Path);
        }
        if scheme == "http" && !is_this_machine(authority.host()) {
            return Err(NoAddress::Readable);
        }
        Ok(Self(format!("{scheme}://{}", authority.as_str().to_ascii_lowercase())))
    }
}

fn is_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let by_number = bare.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    by_number || bare.eq_ignore_ascii_case("localhost")
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl Remote {
    /// How the daemon's certificate is checked, where it has one.
    ///
    /// # Errors
    /// The certificates that were named cannot be read, or are none.
    pub(super) fn tls(&self) -> Result<Option<TlsConfig>, CliError> {
        if !self.address.0.starts_with("https:") {
            return Ok(None);
        }
        let authorities = match &self.authorities {
            Some(file) => certificates_in(file)?,
            None => certificates_of_the_system(),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(authorities)))
            .unversioned_rustls_crypto_provider(provider)
            .build();
        Ok(Some(tls))
    }
}

fn certificates_in(file: &Path) -> Result<Vec<Certificate<'static>>, CliError> {
    let unusable = |reason: String| CliError::Authorities { path: file.to_owned(), reason };
    let text = fs::read(file).map_err(|error| unusable(error.to_string()))?;
    let mut certificates = Vec::new();
    for item in parse_pem(&text) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| unusable(error.to_string()))? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err(unusable("it holds no certificate in PEM form".to_owned()));
    }
    Ok(certificates)
}

/// A certificate that the system has and nobody can read vouches for nothing; the others still do.
fn certificates_of_the_system() -> Vec<Certificate<'static>> {
    let found = rustls_native_certs::load_native_certs();
    found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_scheme_host_and_port() {
        for (text, address) in [
            ("https://bkg.example.org", "https://bkg.example.org"),
            ("https://BKG.example.org:8443/", "https://bkg.example.org:8443"),
            ("http://127.0.0.1:43119", "http://127.0.0.1:43119"),
            ("http://localhost:1", "http://localhost:1"),
            ("http://[::1]:1", "http://[::1]:1"),
        ] {
            assert_eq!(text.parse::<Address>().map(|address| address.to_string()), Ok(address.to_owned()));
        }
    }

    #[test]
    fn what_is_no_address_says_what_to_write_instead() {
        for (text, why) in [
            ("", NoAddress::Form),
            ("bkg.example.org", NoAddress::Form),
            ("ftp://bkg.example.org", NoAddress::Form),
            ("https://bkg.example.org/admin", NoAddress::Path),
            ("https://bkg.example.org/?a=b", NoAddress::Path),
            ("https://ada:secret@bkg.example.org", NoAddress::Credential),
            ("http://bkg.example.org", NoAddress::Readable),
            ("http://10.0.0.1:43119", NoAddress::Readable),
            ("http://localhost.example.org", NoAddress::Readable),
        ] {
            assert_eq!(text.parse::<Address>(), Err(why), "{text}");
        }
    }

    #[test]
    fn a_file_without_certificates_vouches_for_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        let remote =
            Remote { address: "https://localhost:1".parse().unwrap(), authorities: Some(file.clone()) };
        assert!(matches!(remote.tls(), Err(CliError::Authorities { .. })));
        fs::write(&file, "no certificate").unwrap();
        let error = remote.tls().err().unwrap();
        assert!(error.to_string().contains("holds no certificate"), "{error}");
    }

    #[test]
    fn what_is_not_encrypted_needs_no_certificates() {
        let remote =
            Remote { address: "http://localhost:1".parse().unwrap(), authorities: Some("/nowhere".into()) };
        assert!(remote.tls().unwrap().is_none());
    }
}
