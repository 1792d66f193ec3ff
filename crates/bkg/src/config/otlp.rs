//! Where traces go: the collector, how it is spoken to, and how much of everything it gets.
//!
//! Not the spans. The invariant: what was read here can be sent as it is, and headers, which may hold a
//! credential, are shown by name only.

use std::fmt;

use http::{HeaderName, HeaderValue, Uri};

/// The collector of traces.
#[derive(Debug, Clone, PartialEq)]
pub struct OtlpKeys {
    /// The collector's address, such as `http://127.0.0.1:4318`; empty for no traces.
    pub endpoint: String,
    /// What is sent along.
    pub headers: OtlpHeaders,
    /// Which share of the traces that begin at the host is recorded, from 0 to 1.
    pub sample_ratio: f64,
    /// What the host is called there.
    pub service_name: String,
}

/// Headers for the collector, which may hold a credential.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct OtlpHeaders(pub(super) Vec<(String, String)>);

impl Default for OtlpKeys {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            headers: OtlpHeaders::default(),
            sample_ratio: 1.0,
            service_name: "backplane".to_owned(),
        }
    }
}

impl OtlpKeys {
    /// Where spans are posted to; `None` if nothing is to be traced.
    pub fn traces_url(&self) -> Option<String> {
        (!self.endpoint.is_empty()).then(|| format!("{}/v1/traces", self.endpoint.trim_end_matches('/')))
    }
}

impl OtlpHeaders {
    /// Names and values.
    pub fn as_pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// Takes headers, if they can be sent; else says which cannot. Of a value nothing is said.
    pub(super) fn of<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, String> {
        let mut headers = Vec::new();
        for (name, value) in pairs {
            if name.parse::<HeaderName>().is_err() {
                return Err(format!("`{}` is no name of a header", name.escape_debug()));
            }
            if value.parse::<HeaderValue>().is_err() {
                return Err(format!("the value of the header `{name}` cannot be sent"));
            }
            headers.push((name.to_owned(), value.to_owned()));
        }
        Ok(Self(headers))
    }
}

impl fmt::Debug for OtlpHeaders {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_map().entries(self.0.iter().map(|(name, _)| (name, "***"))).finish()
    }
}

/// Whether a text is the address of a collector: `http` or `https`, a host, and nothing that is secret or
/// that the path of traces could not follow.
pub(super) fn is_endpoint(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else { return false };
    let has_scheme = matches!(uri.scheme_str(), Some("http" | "https"));
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    has_scheme
        && uri.host().is_some_and(|host| !host.is_empty())
        && !authority.contains('@')
        && uri.query().is_none()
}

/// The headers of a text as OpenTelemetry's variable has them: `name=value,name=value`, percent-encoded.
pub(super) fn headers_in(text: &str) -> Result<Vec<(String, String)>, String> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) =
                pair.split_once('=').ok_or("use `name=value,name=value`, values percent-encoded")?;
            let value = percent_decoded(value.trim()).ok_or("a value is not percent-encoded UTF-8")?;
            Ok((name.trim().to_owned(), value))
        })
        .collect()
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        let digits = part.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_address_without_secrets() {
        for right in ["http://127.0.0.1:4318", "https://otel.example.org/tenant/", "http://[::1]:1"] {
            assert!(is_endpoint(right), "{right}");
        }
        for wrong in
            ["127.0.0.1:4318", "ftp://x", "http://", "http://a:b@c", "http://c?x=1", "/x", "h ttp://x"]
        {
            assert!(!is_endpoint(wrong), "{wrong}");
        }
        let keys = |endpoint: &str| OtlpKeys { endpoint: endpoint.to_owned(), ..OtlpKeys::default() };
        assert_eq!(keys("http://a/b/").traces_url().as_deref(), Some("http://a/b/v1/traces"));
        assert_eq!(keys("").traces_url(), None);
    }

    #[test]
    fn headers_come_percent_encoded_and_are_never_shown() {
        let pairs = headers_in(" authorization = Bearer%20abc==,x-tenant=7, ").unwrap();
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("authorization", "Bearer abc=="), ("x-tenant", "7")]);
        let headers = OtlpHeaders::of(pairs.into_iter()).unwrap();
        assert_eq!(format!("{headers:?}"), r#"{"authorization": "***", "x-tenant": "***"}"#);
        assert!(headers_in("authorization").is_err());
        assert!(headers_in("a=%ff").is_err());
        assert!(headers_in("a=%2").is_err());
        for (name, value) in [("a b", "1"), ("a", "x\ny"), ("", "1")] {
            let refused = OtlpHeaders::of([(name, value)].into_iter()).unwrap_err();
            assert!(!refused.contains("x\n"), "{refused}");
        }
    }
}
