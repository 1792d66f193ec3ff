//! Where the HTTP surface listens besides loopback, and what it demands there.
//!
//! Not the sockets: `app` binds them. The invariant: nothing that leaves this machine is readable on
//! the way, so off loopback there is TLS of our own or a trusted proxy that has it, or no start.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::host::{ConfigError, HostConfig};

/// How HTTP is spoken at one address of `api.listen`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// Over TLS, to everybody.
    Tls,
    /// In plain text, to this machine alone.
    ThisMachine,
    /// In plain text, to trusted proxies alone.
    Proxies,
}

/// What `api.listen` proves who it is with. Both paths are set, or neither is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsKeys {
    /// The certificate and its chain, a PEM file; empty for none.
    pub cert: PathBuf,
    /// The private key, a PEM file; empty for none.
    pub key: PathBuf,
    /// For how many days a browser is asked to use nothing but TLS; 0 for not at all.
    pub hsts_days: usize,
}

impl TlsKeys {
    /// Whether there is a certificate.
    pub fn is_set(&self) -> bool {
        !self.cert.as_os_str().is_empty()
    }
}

/// How HTTP may be spoken at this address; `None` if it may not. An address for all interfaces is off
/// loopback.
fn exposure(address: SocketAddr, has_tls: bool, has_proxies: bool) -> Option<Exposure> {
    if has_tls {
        Some(Exposure::Tls)
    } else if address.ip().to_canonical().is_loopback() {
        Some(Exposure::ThisMachine)
    } else {
        has_proxies.then_some(Exposure::Proxies)
    }
}

impl HostConfig {
    /// The addresses of `api.listen`, and how HTTP is spoken there.
    pub fn exposures(&self) -> impl Iterator<Item = (SocketAddr, Exposure)> {
        let (has_tls, has_proxies) = (self.tls.is_set(), !self.trusted_proxies.is_empty());
        // `check_listeners` has refused whatever would be left out here.
        self.listen
            .iter()
            .filter_map(move |&address| Some((address, exposure(address, has_tls, has_proxies)?)))
    }

    /// The names under which browsers may come: what the operator listed, and the addresses that are
    /// listened on. An address for all interfaces is no name.
    pub fn host_names(&self) -> Vec<String> {
        let bound = self.listen.iter().map(|address| address.ip().to_canonical());
        let bound = bound.filter(|address| !address.is_unspecified()).map(|address| address.to_string());
        self.allowed_hosts.iter().cloned().chain(bound).collect()
    }

    pub(super) fn check_listeners(&self) -> Result<(), ConfigError> {
        let conflict = |key, value: String, reason| Err(ConfigError::Conflict { key, value, reason });
        let (cert, key) = (&self.tls.cert, &self.tls.key);
        match (cert.as_os_str().is_empty(), key.as_os_str().is_empty()) {
            (false, true) => {
                let reason = "`tls.key` is not set: a certificate is worth nothing without its key";
                return conflict("tls.cert", format!("`{}`", cert.display()), reason.to_owned());
            }
            (true, false) => {
                let reason = "`tls.cert` is not set: a key is worth nothing without its certificate";
                return conflict("tls.key", format!("`{}`", key.display()), reason.to_owned());
            }
            _ => {}
        }
        for (index, &address) in self.listen.iter().enumerate() {
            let refuse = |reason: &str| conflict("api.listen", address.to_string(), reason.to_owned());
            if exposure(address, self.tls.is_set(), !self.trusted_proxies.is_empty()).is_none() {
                return refuse(
                    "passwords and keys could be read on the way to it: set `tls.cert` and `tls.key`, or name \
                     the proxy that speaks TLS before it in `api.trusted_proxies`",
                );
            }
            if address.port() == 0 {
                continue;
            }
            if self.listen[..index].contains(&address) {
                return refuse("it is there twice");
            }
            if address.port() == self.api_port && takes(address, true) {
                return refuse("the loopback listener has this port: choose another one for `api.port`");
            }
            if address.port() == self.bus_port && takes(address, false) {
                return refuse("the plugin bus has this port: choose another one for `bus.port`");
            }
        }
        Ok(())
    }
}

/// Whether an address takes its port away from the listener on loopback; `both` for one that is on
/// `[::1]` as well as on `127.0.0.1`.
fn takes(address: SocketAddr, both: bool) -> bool {
    match address {
        SocketAddr::V4(v4) => v4.ip().is_unspecified() || *v4.ip() == Ipv4Addr::LOCALHOST,
        SocketAddr::V6(v6) => both && (v6.ip().is_unspecified() || *v6.ip() == Ipv6Addr::LOCALHOST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(listen: &[&str], change: impl FnOnce(&mut HostConfig)) -> HostConfig {
        let mut config = HostConfig::unresolved_defaults();
        config.listen = listen.iter().map(|address| address.parse().unwrap()).collect();
        change(&mut config);
        config
    }

    fn with_tls(config: &mut HostConfig) {
        config.tls = TlsKeys { cert: "/c.pem".into(), key: "/k.pem".into(), hsts_days: 0 };
    }

    fn with_proxies(config: &mut HostConfig) {
        config.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
    }

    #[test]
    fn what_is_off_loopback_has_tls_or_a_trusted_proxy() {
        let own = Some(Exposure::ThisMachine);
        for (address, alone, behind_a_proxy) in [
            ("127.0.0.1:1", own, own),
            ("127.8.9.1:1", own, own),
            ("[::1]:1", own, own),
            ("[::ffff:127.0.0.1]:1", own, own),
            ("0.0.0.0:1", None, Some(Exposure::Proxies)),
            ("[::]:1", None, Some(Exposure::Proxies)),
            ("[::ffff:0.0.0.0]:1", None, Some(Exposure::Proxies)),
            ("10.0.0.1:1", None, Some(Exposure::Proxies)),
            ("[fe80::1]:1", None, Some(Exposure::Proxies)),
        ] {
            let parsed = address.parse().unwrap();
            assert_eq!(exposure(parsed, false, false), alone, "{address}");
            assert_eq!(exposure(parsed, false, true), behind_a_proxy, "{address}");
            assert_eq!(exposure(parsed, true, true), Some(Exposure::Tls), "{address}");
        }
    }

    #[test]
    fn a_refusal_names_both_ways_out() {
        let error = config(&["0.0.0.0:443"], |_| {}).check_listeners().unwrap_err();
        assert_eq!(
            error.to_string(),
            "`api.listen` is 0.0.0.0:443, but passwords and keys could be read on the way to it: set \
             `tls.cert` and `tls.key`, or name the proxy that speaks TLS before it in `api.trusted_proxies`"
        );
        config(&["0.0.0.0:443"], with_tls).check_listeners().unwrap();
        config(&["0.0.0.0:443"], with_proxies).check_listeners().unwrap();
    }

    #[test]
    fn half_a_pair_is_refused() {
        let error =
            |change: fn(&mut HostConfig)| config(&[], change).check_listeners().unwrap_err().to_string();
        assert_eq!(
            error(|config| config.tls.cert = "/c.pem".into()),
            "`tls.cert` is `/c.pem`, but `tls.key` is not set: a certificate is worth nothing without its key"
        );
        assert!(error(|config| config.tls.key = "/k.pem".into()).starts_with("`tls.key` is `/k.pem`, but"));
    }

    #[test]
    fn two_listeners_do_not_share_a_port() {
        let refused = |listen: &[&str]| config(listen, with_tls).check_listeners().is_err();
        for (listen, expected) in [
            (&["0.0.0.0:43119"][..], true),
            (&["[::]:43119"], true),
            (&["127.0.0.1:43119"], true),
            (&["[::1]:43119"], true),
            (&["10.0.0.1:43119"], false),
            (&["127.0.0.2:43119"], false),
            (&["0.0.0.0:43121"], true),
            (&["[::]:43121"], false),
            (&["10.0.0.1:443", "10.0.0.1:443"], true),
            (&["10.0.0.1:0", "10.0.0.1:0"], false),
        ] {
            assert_eq!(refused(listen), expected, "{listen:?}");
        }
    }

    #[test]
    fn a_bound_address_is_a_name_and_all_interfaces_are_none() {
        let config = config(&["0.0.0.0:443", "[::]:443", "10.0.0.1:443", "[fd00::1]:443"], |config| {
            config.allowed_hosts = vec!["bkg.example.org".to_owned()];
        });
        assert_eq!(config.host_names(), ["bkg.example.org", "10.0.0.1", "fd00::1"]);
    }
}
