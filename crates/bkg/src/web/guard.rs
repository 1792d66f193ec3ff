//! Who gets past the door: credentials from headers and cookies, and the rules for browsers.
//!
//! Not what a caller may do: the route says which scope it needs, and this asks for it. The
//! invariants: a cookie alone changes nothing unless the page that sent it is our own; and nobody
//! reaches anything under a name that is not ours, unless a valid key comes with the request.

use std::net::IpAddr;
use std::sync::Arc;

use bkg_protocol::ErrorCode;
use http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, Method};

use super::idempotency::Replays;
use super::proxy::{ForwardedHost, Scheme};
use super::routes::Access;
use super::upgrade::ticket;
use crate::auth::{AuthError, Authenticator, Caller};
use crate::config::HttpLimits;
use crate::error::{Dialect, Problem};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The door of the HTTP surface.
#[derive(Debug)]
pub struct Guard {
    authenticator: Arc<Authenticator>,
    /// Names besides those of this machine under which browsers may come, as [`plain_name`] has them.
    names: Vec<String>,
    /// What was answered to requests that may be sent twice.
    replays: Replays,
}

/// The cookie that carries a login in plain text.
pub const SESSION_COOKIE: &str = "bkg_session";

/// The name of the cookie that carries a login. Over TLS it is one that browsers take from nobody but
/// this very host over TLS: no neighbouring name, and nobody on the way, can plant it.
pub fn session_cookie(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Http => SESSION_COOKIE,
        Scheme::Https => "__Host-bkg_session",
    }
}

/// How a request says who it is from.
#[derive(Clone, Copy)]
enum Presented<'a> {
    Nothing,
    Bearer(&'a str),
    Cookie(&'a str),
}

impl Guard {
    /// A door that knows these names besides those of this machine, and takes bodies within these bounds.
    pub fn new(authenticator: Arc<Authenticator>, names: &[String], limits: HttpLimits) -> Self {
        let names = names.iter().map(|name| plain_name(name)).collect();
        Self { authenticator, names, replays: Replays::new(limits) }
    }

    /// What was answered to requests that may be sent twice.
    pub(super) fn replays(&self) -> &Replays {
        &self.replays
    }

    /// Lets a request in, or says why not.
    pub(super) async fn admit(&self, access: Access, parts: &Parts) -> Result<Caller, Problem> {
        if access == Access::Public {
            self.check_public(parts).await?;
            return Ok(Caller::nobody());
        }
        let presented = presented(parts)?;
        if access == Access::Socket {
            self.check_socket(parts, presented)?;
            if let (Presented::Nothing | Presented::Cookie(_), Some(ticket)) = (presented, ticket(parts)) {
                return Ok(self.authenticator.redeem(ticket)?);
            }
        }
        let credential = match presented {
            Presented::Nothing => {
                self.check_host(parts)?;
                return Err(AuthError::Missing.into());
            }
            Presented::Bearer(credential) => credential,
            Presented::Cookie(credential) => {
                self.check_host(parts)?;
                check_same_origin(parts, NoWord::Refuses)?;
                credential
            }
        };
        let caller = self.authenticator.authenticate(credential).await?;
        // Only a login is ever put into a cookie by us.
        if matches!(presented, Presented::Cookie(_)) && caller.session_id().is_none() {
            return Err(AuthError::Invalid.into());
        }
        match access {
            Access::Scope(scope) => caller.require(scope)?,
            Access::Login if caller.session_id().is_none() => {
                let message = "this is for users who have logged in, not for keys: `POST /auth/login`";
                return Err(Problem::new(ErrorCode::Forbidden, message));
            }
            Access::Login | Access::Public | Access::AnyCaller | Access::Capability | Access::Socket => {}
        }
        Ok(caller)
    }

    /// Whether a socket may be opened from where this comes. A browser lets any page open one and sends
    /// the cookie along, so whatever comes with either of a browser's marks must come from our own page.
    fn check_socket(&self, parts: &Parts, presented: Presented<'_>) -> Result<(), Problem> {
        let is_of_a_browser = parts.headers.contains_key(ORIGIN) || parts.headers.contains_key(COOKIE);
        if is_of_a_browser || !matches!(presented, Presented::Bearer(_)) {
            self.check_host(parts)?;
        }
        if is_of_a_browser && !is_own_origin(parts) {
            let message = "a socket of a browser is for pages of this daemon alone: its `Origin` must be the address that it is opened at; a program sends `Authorization: Bearer <key>` and neither origin nor cookie";
            return Err(Problem::new(ErrorCode::Forbidden, message));
        }
        Ok(())
    }

    async fn check_public(&self, parts: &Parts) -> Result<(), Problem> {
        // Another site must not be able to log a browser in as somebody else.
        check_same_origin(parts, NoWord::Passes)?;
        let Err(misdirected) = self.check_host(parts) else { return Ok(()) };
        match presented(parts) {
            Ok(Presented::Bearer(key)) if self.authenticator.authenticate(key).await.is_ok() => Ok(()),
            _ => Err(misdirected),
        }
    }

    /// Whether the request came under one of our names. A page of another site can make a browser
    /// reach us under its own name (DNS rebinding), but not under ours. Where a trusted proxy says
    /// which host it was asked for, that counts as well as the `Host` and not instead of it: some
    /// proxies pass on what such a page wrote into the header.
    fn check_host(&self, parts: &Parts) -> Result<(), Problem> {
        let forwarded = parts.extensions.get::<ForwardedHost>().map(|host| host.0.clone());
        for host in [Some(host_of(parts)), forwarded].into_iter().flatten() {
            if host.as_ref().is_some_and(|host| self.is_ours(host)) {
                continue;
            }
            let named = host.as_ref().map_or("no host", Authority::as_str);
            let message = format!(
                "this daemon is not known as `{}`: use `localhost`, send a key, or add the name to `api.allowed_hosts`",
                named.escape_debug()
            );
            return Err(Problem::new(ErrorCode::MisdirectedRequest, message));
        }
        Ok(())
    }

    fn is_ours(&self, host: &Authority) -> bool {
        let name = plain_name(host.host());
        matches!(name.as_str(), "localhost" | "127.0.0.1" | "::1") || self.names.contains(&name)
    }
}

/// A name in lower case, an address in its shortest form and without brackets.
fn plain_name(host: &str) -> String {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => bare.to_ascii_lowercase(),
    }
}

/// The host that a request names: in its target if that is absolute, else in its one `Host` header
/// (RFC 9112, section 3.2).
fn host_of(parts: &Parts) -> Option<Authority> {
    if let Some(authority) = parts.uri.authority() {
        return Some(authority.clone());
    }
    only(&parts.headers, &HOST)?.parse().ok()
}

/// The value of a header that is there exactly once and is text.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn presented(parts: &Parts) -> Result<Presented<'_>, Problem> {
    let mut headers = parts.headers.get_all(AUTHORIZATION).iter();
    if let Some(header) = headers.next() {
        // A proxy in front may have looked at the other one.
        if headers.next().is_some() {
            let message = "there is more than one `Authorization` header: send one";
            return Err(Problem::new(ErrorCode::Unauthorized, message));
        }
        let credential = bearer(header.as_bytes()).ok_or(AuthError::Missing)?;
        let credential = std::str::from_utf8(credential).map_err(|_| AuthError::Invalid)?;
        if api_key(parts)?.is_some_and(|key| key != credential) {
            let message = "`Authorization` and `x-api-key` have different keys: send one of them";
            return Err(Problem::new(ErrorCode::Unauthorized, message));
        }
        return Ok(Presented::Bearer(credential));
    }
    if let Some(key) = api_key(parts)? {
        return Ok(Presented::Bearer(key));
    }
    if takes_no_cookie(parts.uri.path()) {
        return Ok(Presented::Nothing);
    }
    let name = session_cookie(Scheme::of(parts));
    Ok(cookie(&parts.headers, name).map_or(Presented::Nothing, Presented::Cookie))
}

/// The key where Anthropic's clients send it, which is heard on their routes alone.
fn api_key(parts: &Parts) -> Result<Option<&str>, Problem> {
    if Dialect::of_path(parts.uri.path()) != Dialect::Anthropic || !parts.headers.contains_key(API_KEY) {
        return Ok(None);
    }
    let key = only(&parts.headers, &API_KEY).map(str::trim).filter(|key| !key.is_empty());
    Ok(Some(key.ok_or(AuthError::Invalid)?))
}

/// Where applications come with keys, a browser's cookie opens nothing.
fn takes_no_cookie(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    matches!(first, "v1" | "mcp")
}

/// The credential in a `Bearer` header; the scheme's case does not matter (RFC 9110, section 11.1).
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = header.split_at_checked(7)?;
    let key = key.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !key.is_empty()).then_some(key)
}

/// The value of a cookie, if it was sent exactly once: of two, nobody knows which is ours.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let pairs = headers.get_all(COOKIE).iter().filter_map(|header| header.to_str().ok());
    let mut values = pairs
        .flat_map(|header| header.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value);
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

/// What it means that a request says nothing of the page that it comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NoWord {
    /// It is no browser.
    Passes,
    /// It cannot be told from another site's.
    Refuses,
}

/// Whether a request that may change something comes from a page of our own.
fn check_same_origin(parts: &Parts, no_word: NoWord) -> Result<(), Problem> {
    if matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    let is_own = if parts.headers.contains_key(FETCH_SITE) {
        only(&parts.headers, &FETCH_SITE) == Some("same-origin")
    } else if parts.headers.contains_key(ORIGIN) {
        is_own_origin(parts)
    } else {
        no_word == NoWord::Passes
    };
    if is_own {
        return Ok(());
    }
    let message = "a browser sent this from a page that is not the control centre, or did not say from which: use the control centre, or send a key as `Authorization: Bearer <key>`";
    Err(Problem::new(ErrorCode::Forbidden, message))
}

/// Whether the page that a request comes from has scheme, host and port of the address that it came
/// under.
fn is_own_origin(parts: &Parts) -> bool {
    let forwarded = parts.extensions.get::<ForwardedHost>().map(|host| host.0.clone());
    let scheme = Scheme::of(parts);
    let origin = only(&parts.headers, &ORIGIN).and_then(|origin| origin.split_once("://"));
    let Some((its_scheme, its_host)) = origin else { return false };
    let (Ok(its_host), Some(host)) = (its_host.parse(), forwarded.unwrap_or_else(|| host_of(parts))) else {
        return false;
    };
    // Browsers leave the default port out, but not every proxy does.
    let port = |host: &Authority| host.port_u16().unwrap_or_else(|| scheme.default_port());
    let is_same_host = |its_host: Authority| {
        its_host.host().eq_ignore_ascii_case(host.host()) && port(&its_host) == port(&host)
    };
    its_scheme == scheme.as_str() && is_same_host(its_host)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    /// What a request of these headers presents.
    fn kind(uri: &str, headers: &[(&str, &str)]) -> String {
        match presented(&parts("GET", uri, headers)) {
            Ok(Presented::Nothing) => "nothing".to_owned(),
            Ok(Presented::Bearer(key)) => format!("bearer {key}"),
            Ok(Presented::Cookie(key)) => format!("cookie {key}"),
            Err(_) => "refused".to_owned(),
        }
    }

    fn parts(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn only_a_bearer_header_carries_a_key() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bEARER  abc "), Some(&b"abc"[..]));
        for wrong in [&b""[..], b"Bearer", b"Bearer ", b"Basic abc", b"abc", b"Bearerabc"] {
            assert_eq!(bearer(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_cookie_counts_where_browsers_come_and_only_if_it_is_alone() {
        let cookie = ("cookie", "a=1; bkg_session=s; b=2");
        assert_eq!(kind("/admin/plugins", &[cookie]), "cookie s");
        assert_eq!(kind("/v1/models", &[cookie]), "nothing");
        assert_eq!(kind("//v1/models", &[cookie]), "nothing");
        assert_eq!(kind("/mcp", &[cookie]), "nothing");
        assert_eq!(kind("/admin/plugins", &[cookie, ("authorization", "Bearer k")]), "bearer k");
        assert_eq!(kind("/admin/plugins", &[cookie, ("authorization", "Basic k")]), "refused");
        assert_eq!(kind("/admin/plugins", &[("cookie", "bkg_session=a; bkg_session=b")]), "nothing");
        assert_eq!(kind("/admin/plugins", &[("cookie", "xbkg_session=a")]), "nothing");
        let two = [("authorization", "Bearer k"), ("authorization", "Bearer l")];
        assert_eq!(kind("/admin/plugins", &two), "refused");
    }

    #[test]
    fn anthropics_header_counts_on_its_routes_and_only_if_it_says_one_thing() {
        let key = ("x-api-key", "k");
        assert_eq!(kind("/v1/messages", &[key]), "bearer k");
        assert_eq!(kind("/v1/messages/count_tokens", &[key]), "bearer k");
        assert_eq!(kind("/v1/messages", &[key, ("authorization", "Bearer k")]), "bearer k");
        assert_eq!(kind("/v1/messages", &[key, ("authorization", "Bearer l")]), "refused");
        assert_eq!(kind("/v1/messages", &[key, ("x-api-key", "l")]), "refused");
        assert_eq!(kind("/v1/messages", &[("x-api-key", " ")]), "refused");
        for elsewhere in ["/v1/chat/completions", "/v1/responses", "/v1/messagesx", "/admin/plugins"] {
            assert_eq!(kind(elsewhere, &[key]), "nothing");
        }
    }

    /// The same request, as it comes over TLS.
    fn over_tls(mut parts: Parts) -> Parts {
        parts.extensions.insert(Scheme::Https);
        parts
    }

    #[test]
    fn over_tls_a_login_is_in_the_cookie_that_nobody_else_can_set() {
        let kind = |parts: Parts| match presented(&parts) {
            Ok(Presented::Cookie(key)) => key.to_owned(),
            _ => "nothing".to_owned(),
        };
        let both = [("cookie", "bkg_session=plain; __Host-bkg_session=prefixed")];
        assert_eq!(kind(parts("GET", "/admin/plugins", &both)), "plain");
        assert_eq!(kind(over_tls(parts("GET", "/admin/plugins", &both))), "prefixed");
        let plain = [("cookie", "bkg_session=plain")];
        assert_eq!(kind(over_tls(parts("GET", "/admin/plugins", &plain))), "nothing");
        let prefixed = [("cookie", "__Host-bkg_session=prefixed")];
        assert_eq!(kind(parts("GET", "/admin/plugins", &prefixed)), "nothing");
    }

    #[test]
    fn an_origin_is_scheme_and_host_and_port() {
        let http = |host, origin| parts("POST", "/x", &[("host", host), ("origin", origin)]);
        for (parts, expected) in [
            (http("localhost:43119", "http://localhost:43119"), true),
            (http("localhost:43119", "https://localhost:43119"), false),
            (http("localhost", "http://localhost:80"), true),
            (http("localhost:80", "http://LOCALHOST"), true),
            (http("localhost:443", "http://localhost"), false),
            (http("[::1]:43119", "http://[::1]:43119"), true),
            (over_tls(http("bkg.example.org", "https://bkg.example.org")), true),
            (over_tls(http("bkg.example.org:443", "https://bkg.example.org")), true),
            (over_tls(http("bkg.example.org", "http://bkg.example.org")), false),
            (over_tls(http("bkg.example.org:80", "https://bkg.example.org")), false),
            (over_tls(http("bkg.example.org", "https://bkg.example.org:8443")), false),
            (http("localhost", "null"), false),
            (http("localhost", "http://"), false),
            (parts("POST", "/x", &[("host", "localhost")]), false),
        ] {
            assert_eq!(is_own_origin(&parts), expected, "{:?}", parts.headers);
        }
        let forwarded = |origin, host: Option<&str>| {
            let mut parts = over_tls(http("127.0.0.1:43119", origin));
            parts.extensions.insert(ForwardedHost(host.map(|host| host.parse().unwrap())));
            is_own_origin(&parts)
        };
        assert!(forwarded("https://bkg.example.org", Some("bkg.example.org")));
        assert!(!forwarded("https://127.0.0.1:43119", Some("bkg.example.org")));
        assert!(!forwarded("https://127.0.0.1:43119", None));
    }

    #[test]
    fn names_are_compared_without_regard_to_how_they_are_written() {
        for (written, plain) in [
            ("BKG.Example.org", "bkg.example.org"),
            ("[0:0:0:0:0:0:0:1]", "::1"),
            ("FD00::0001", "fd00::1"),
            ("10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(plain_name(written), plain);
        }
    }

    #[test]
    fn a_change_by_cookie_comes_from_our_own_page() {
        let host = ("host", "localhost:43119");
        for (headers, with_cookie, public) in [
            (&[host][..], false, true),
            (&[host, ("sec-fetch-site", "same-origin")], true, true),
            (&[host, ("sec-fetch-site", "same-site")], false, false),
            (&[host, ("sec-fetch-site", "cross-site")], false, false),
            (&[host, ("sec-fetch-site", "none")], false, false),
            (&[host, ("origin", "http://localhost:43119")], true, true),
            (&[host, ("origin", "http://localhost:1")], false, false),
            (&[host, ("origin", "http://evil.example")], false, false),
            (&[host, ("origin", "null")], false, false),
            (&[host, ("origin", "http://localhost:43119"), ("sec-fetch-site", "cross-site")], false, false),
            (&[("origin", "http://localhost:43119")], false, false),
        ] {
            let parts = parts("POST", "/x", headers);
            assert_eq!(check_same_origin(&parts, NoWord::Refuses).is_ok(), with_cookie, "{headers:?}");
            assert_eq!(check_same_origin(&parts, NoWord::Passes).is_ok(), public, "{headers:?}");
        }
        assert!(check_same_origin(&parts("GET", "/x", &[]), NoWord::Refuses).is_ok());
    }

    #[test]
    fn an_origin_is_our_own_only_with_scheme_host_and_port() {
        for (host, origin, is_own) in [
            ("localhost:43119", "http://localhost:43119", true),
            ("LocalHost:43119", "http://localhost:43119", true),
            ("localhost", "http://localhost", true),
            ("[::1]:43119", "http://[::1]:43119", true),
            ("localhost:43119", "https://localhost:43119", false),
            ("localhost:43119", "ws://localhost:43119", false),
            ("localhost:43119", "http://localhost", false),
            ("localhost:43119", "http://localhost:43118", false),
            ("localhost:43119", "http://127.0.0.1:43119", false),
            ("localhost:43119", "http://localhost:43119.evil.example", false),
            ("localhost:43119", "null", false),
            ("localhost:43119", "", false),
        ] {
            let parts = parts("GET", "/ws", &[("host", host), ("origin", origin)]);
            assert_eq!(is_own_origin(&parts), is_own, "{origin} under {host}");
        }
        let twice = [("host", "a"), ("origin", "http://a"), ("origin", "http://a")];
        assert!(!is_own_origin(&parts("GET", "/ws", &twice)));
        assert!(!is_own_origin(&parts("GET", "/ws", &[("host", "a")])));
    }
}
