//! Whom a client talks to, and what went wrong where nobody answered.
//!
//! Not the requests: `client` makes them. The invariant: a failure names what the person has to look at,
//! the daemon's own machine, the address, or the certificate.

use super::address::Remote;
use super::daemon::Daemon;
use super::error::CliError;

/// Who answers.
#[derive(Debug)]
pub(super) enum Peer {
    /// The daemon of a data directory.
    Local(Daemon),
    /// The daemon at an address.
    Elsewhere(Remote),
}

impl Peer {
    /// Where its HTTP surface is.
    pub(super) fn address(&self) -> String {
        match self {
            Self::Local(daemon) => daemon.address(),
            Self::Elsewhere(remote) => remote.address.to_string(),
        }
    }

    /// What went wrong beyond the daemon's being away.
    pub(super) fn failure(&self, request: String, error: ureq::Error) -> CliError {
        let reason = error.to_string();
        let Self::Elsewhere(remote) = self else { return CliError::Broken { request, reason } };
        let address = remote.address.clone();
        if let Some(fault) = certificate_fault(&error) {
            return CliError::untrusted(address, fault);
        }
        match error {
            ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => {
                CliError::Unreachable { address, reason }
            }
            _ => CliError::Broken { request, reason },
        }
    }
}

/// What is wrong with the certificate, if that is what ended the handshake.
fn certificate_fault(error: &ureq::Error) -> Option<&rustls::CertificateError> {
    let error = match error {
        ureq::Error::Rustls(error) => error,
        // The handshake is driven by reading and writing, which carry its errors inside of theirs.
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref::<rustls::Error>()?,
        _ => return None,
    };
    match error {
        rustls::Error::InvalidCertificate(fault) => Some(fault),
        _ => None,
    }
}
