//! Where a request really comes from: what a trusted reverse proxy says of its client.
//!
//! Read are `X-Forwarded-For`, `-Proto` and `-Host`, the headers that every proxy writes; `Forwarded`
//! (RFC 7239) is not, since a proxy that passes a client's own one on would make two stories out of
//! one. The invariant: nothing that somebody says is believed unless their connection comes from a
//! trusted address. `server` asks once for each request, before anything else looks at it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::request::Parts;
use http::uri::Authority;
use http::{Extensions, HeaderMap, HeaderName};
use ipnet::IpNet;

use super::routes::Peer;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The addresses that are believed.
#[derive(Debug, Clone)]
pub struct TrustedProxies(Arc<[IpNet]>);

/// How the client speaks to us, or to the proxy before us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// In plain text.
    Http,
    /// Over TLS.
    Https,
}

/// The host for which a trusted proxy was asked; `None` if what it says is no host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ForwardedHost(pub(super) Option<Authority>);

impl TrustedProxies {
    /// Whoever connects from one of these networks.
    pub fn new(networks: &[IpNet]) -> Self {
        Self(networks.into())
    }

    /// Whether this address is believed. IPv4 in the dress of IPv6 is IPv4.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Notes where a request comes from, that came from `peer` over a connection of this scheme.
    pub(super) fn note(&self, peer: IpAddr, scheme: Scheme, headers: &HeaderMap, notes: &mut Extensions) {
        let peer = peer.to_canonical();
        if !self.trusts(peer) {
            notes.insert(Peer(peer));
            scheme.note(notes);
            return;
        }
        notes.insert(Peer(self.client(peer, headers)));
        forwarded_scheme(headers).unwrap_or(scheme).note(notes);
        if let Some(host) = last(headers, &FORWARDED_HOST) {
            notes.insert(ForwardedHost(host.parse().ok()));
        }
    }

    /// Each proxy adds, on the right, whom it was asked by. So the client is the first address from
    /// the right that is not trusted: what stands left of it is what that one claims.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let lines = headers.get_all(FORWARDED_FOR).iter().collect::<Vec<_>>();
        let mut client = peer;
        for hop in lines.iter().rev().flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')) {
            // Who is not named by an address came to the last one who is.
            let Some(address) = std::str::from_utf8(hop).ok().and_then(address) else { break };
            client = address;
            if !self.trusts(client) {
                break;
            }
        }
        client
    }
}

impl Scheme {
    /// How the client of this request speaks.
    pub fn of(parts: &Parts) -> Self {
        parts.extensions.get().copied().unwrap_or(Self::Http)
    }

    /// As it stands before `://`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that is meant where none is named.
    pub(super) fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    /// Plain text is not noted: that is what is meant without a note, and a note costs an allocation.
    fn note(self, notes: &mut Extensions) {
        if self == Self::Https {
            notes.insert(self);
        }
    }
}

/// The address in an element of `X-Forwarded-For`; some proxies add the port.
fn address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    let address = bare.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|socket| socket.ip()))?;
    Some(IpAddr::to_canonical(&address))
}

/// The scheme that a proxy names; a WebSocket's is that of the request that it began as.
fn forwarded_scheme(headers: &HeaderMap) -> Option<Scheme> {
    match last(headers, &FORWARDED_PROTO)?.to_ascii_lowercase().as_str() {
        "https" | "wss" => Some(Scheme::Https),
        "http" | "ws" => Some(Scheme::Http),
        _ => None,
    }
}

/// The last element of a list: the one that the nearest proxy wrote.
fn last<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let line = headers.get_all(name).iter().next_back()?.to_str().unwrap_or_default();
    line.rsplit(',').next().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies() -> TrustedProxies {
        let networks = ["10.0.0.0/8", "192.0.2.7/32", "fd00::/8"];
        TrustedProxies::new(&networks.map(|network| network.parse().unwrap()))
    }

    fn noted(
        peer: &str,
        scheme: Scheme,
        headers: &[(&'static str, &str)],
    ) -> (String, Scheme, Option<String>) {
        let mut request = http::Request::new(());
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        let mut notes = Extensions::new();
        proxies().note(peer.parse().unwrap(), scheme, request.headers(), &mut notes);
        *request.extensions_mut() = notes;
        let parts = request.into_parts().0;
        let host = parts.extensions.get::<ForwardedHost>();
        let host = host.map(|host| host.0.as_ref().map_or("none".to_owned(), ToString::to_string));
        (parts.extensions.get::<Peer>().unwrap().0.to_string(), Scheme::of(&parts), host)
    }

    #[test]
    fn a_network_contains_its_addresses_in_either_form() {
        for (address, expected) in [
            ("10.0.0.0", true),
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("::ffff:10.1.2.3", true),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("fd12::1", true),
            ("fe80::1", false),
            ("::10.1.2.3", false),
        ] {
            assert_eq!(proxies().trusts(address.parse().unwrap()), expected, "{address}");
        }
        assert!(!TrustedProxies::new(&[]).trusts("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn the_client_is_the_first_from_the_right_who_is_not_trusted() {
        for (peer, lines, expected) in [
            ("203.0.113.1", &["198.51.100.9"][..], "203.0.113.1"),
            ("::ffff:203.0.113.1", &[], "203.0.113.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.9"], "198.51.100.9"),
            ("::ffff:10.0.0.1", &["198.51.100.9"], "198.51.100.9"),
            ("10.0.0.1", &["1.1.1.1, 198.51.100.9"], "198.51.100.9"),
            ("10.0.0.1", &["1.1.1.1, 198.51.100.9 ,10.2.2.2,192.0.2.7"], "198.51.100.9"),
            ("10.0.0.1", &["1.1.1.1", "198.51.100.9", "10.2.2.2"], "198.51.100.9"),
            ("10.0.0.1", &["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
            ("10.0.0.1", &["198.51.100.9:4711"], "198.51.100.9"),
            ("fd00::1", &["[2001:db8::9]:4711"], "2001:db8::9"),
            ("fd00::1", &["[2001:db8::9]"], "2001:db8::9"),
            ("fd00::1", &["2001:db8::9"], "2001:db8::9"),
            ("fd00::1", &["::ffff:198.51.100.9"], "198.51.100.9"),
            ("10.0.0.1", &["198.51.100.9, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.9, _hidden, 10.2.2.2"], "10.2.2.2"),
            ("10.0.0.1", &["198.51.100.9,"], "10.0.0.1"),
            ("10.0.0.1", &[""], "10.0.0.1"),
        ] {
            let headers: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
            assert_eq!(noted(peer, Scheme::Http, &headers).0, expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn the_scheme_is_the_nearest_trusted_ones_and_else_the_connections() {
        for (peer, own, lines, expected) in [
            ("203.0.113.1", Scheme::Http, &["https"][..], Scheme::Http),
            ("203.0.113.1", Scheme::Https, &["http"], Scheme::Https),
            ("10.0.0.1", Scheme::Http, &[], Scheme::Http),
            ("10.0.0.1", Scheme::Https, &[], Scheme::Https),
            ("10.0.0.1", Scheme::Http, &["https"], Scheme::Https),
            ("10.0.0.1", Scheme::Https, &["http"], Scheme::Http),
            ("10.0.0.1", Scheme::Http, &["WSS"], Scheme::Https),
            ("10.0.0.1", Scheme::Http, &["https, http"], Scheme::Http),
            ("10.0.0.1", Scheme::Http, &["http", "https"], Scheme::Https),
            ("10.0.0.1", Scheme::Http, &["ftp"], Scheme::Http),
            ("10.0.0.1", Scheme::Https, &["on"], Scheme::Https),
        ] {
            let headers: Vec<_> = lines.iter().map(|line| ("x-forwarded-proto", *line)).collect();
            assert_eq!(noted(peer, own, &headers).1, expected, "{peer} {own:?} {lines:?}");
        }
    }

    #[test]
    fn the_host_is_a_trusted_proxys_only_and_may_be_nonsense() {
        let host = |peer, value| noted(peer, Scheme::Http, &[("x-forwarded-host", value)]).2;
        assert_eq!(host("203.0.113.1", "bkg.example.org"), None);
        assert_eq!(host("10.0.0.1", "bkg.example.org:8443").as_deref(), Some("bkg.example.org:8443"));
        assert_eq!(host("10.0.0.1", "evil.example, bkg.example.org").as_deref(), Some("bkg.example.org"));
        assert_eq!(host("10.0.0.1", "a b").as_deref(), Some("none"));
        assert_eq!(noted("10.0.0.1", Scheme::Http, &[]).2, None);
    }

    #[test]
    fn what_forwarded_says_is_not_read() {
        let headers = [("forwarded", "for=198.51.100.9;proto=https;host=bkg.example.org")];
        assert_eq!(noted("10.0.0.1", Scheme::Http, &headers), ("10.0.0.1".to_owned(), Scheme::Http, None));
    }
}
