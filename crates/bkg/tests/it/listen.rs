//! Reached from elsewhere: TLS of our own, and reverse proxies that are trusted or not.
//!
//! Everything happens on loopback, where `127.0.0.2` and its neighbours stand for other machines. The
//! rule for listeners off loopback is stated in `config`; here is that a daemon keeps it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{
    ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion, version,
};

use crate::daemon::Place;
use crate::host::{Builder, PATIENCE, Reply, TestHost, header, open_on};
use crate::logins::{PASSWORD, administrator, audit, root, stranger};
use crate::visitor::{Visitor, complete, cookie, refusal, retry_after};

/// The host's own deadlines, short.
const DEADLINES: &str = "limits.first_byte_timeout_ms = 100\nlimits.header_read_timeout_ms = 100";

/// Somebody who makes certificates, and whom clients believe.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    directory: TempDir,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), root, directory: tempfile::tempdir().unwrap() }
    }

    fn cert(&self) -> PathBuf {
        self.directory.path().join("cert.pem")
    }

    fn key(&self) -> PathBuf {
        self.directory.path().join("key.pem")
    }

    /// Writes a new pair to where the daemon looks for it, and answers the certificate.
    fn renew(&self) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.cert(), cert.pem()).unwrap();
        fs::write(self.key(), key.serialize_pem()).unwrap();
        cert.der().clone()
    }

    /// The lines of the configuration for one listener with TLS.
    fn config(&self) -> String {
        format!(
            "api.listen = ['127.0.0.1:0']\ntls.cert = '{}'\ntls.key = '{}'",
            self.cert().display(),
            self.key().display()
        )
    }

    /// Shakes hands with what listens there.
    async fn connect(
        &self,
        address: SocketAddr,
        versions: &[&'static SupportedProtocolVersion],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        let socket = TcpStream::connect(address).await?;
        connector.connect("localhost".try_into().unwrap(), socket).await
    }

    async fn send(&self, host: &TestHost, method: Method, path: &str, ask: Ask<'_>) -> Reply {
        let socket = self.connect(elsewhere(host), &[&version::TLS13]).await.unwrap();
        let mut request = Request::builder().method(method).uri(path);
        if !ask.headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "localhost");
        }
        for (name, value) in ask.headers {
            request = request.header(*name, *value);
        }
        let response = open_on(socket, complete(request, ask.body)).await.unwrap();
        Reply::read(response).await.unwrap()
    }
}

/// What goes into a request besides its target.
#[derive(Default)]
struct Ask<'a> {
    headers: &'a [(&'a str, &'a str)],
    body: Option<Value>,
}

/// The listener besides the one on loopback.
fn elsewhere(host: &TestHost) -> SocketAddr {
    host.host().elsewhere()[0]
}

fn guarded() -> Builder {
    TestHost::builder().bundled("apikeys", &json!({ "bcryptCost": 4 }))
}

fn credentials() -> Value {
    json!({ "username": "admin", "password": PASSWORD })
}

#[tokio::test]
async fn an_address_has_as_many_connections_as_it_may_and_hears_it_when_it_wants_more() {
    let authority = Authority::new();
    authority.renew();
    let bounds = "limits.connections_per_address = 3\nlimits.unproven_per_address = 2";
    let host = TestHost::builder().config(&authority.config()).config(bounds).start().await;
    let connect = async || authority.connect(elsewhere(&host), &[&version::TLS13]).await;
    let get = |path| http_get(&host, path);
    let mut held = vec![connect().await.unwrap(), connect().await.unwrap()];
    let told = |reply: &Reply, key: &str| {
        assert_eq!((reply.status.as_u16(), reply.code()), (503, "overloaded".to_owned()));
        assert!(reply.text.contains(key), "{}", reply.text);
        assert!(header(reply, "x-request-id").is_some() && header(reply, "retry-after") == Some("1"));
        assert_eq!(header(reply, "connection"), Some("close"));
    };
    told(
        &authority.send(&host, Method::GET, "/health", Ask::default()).await,
        "limits.unproven_per_address",
    );
    assert_eq!(host.get("/health").await.status, 200, "this machine has places of its own");

    // Whoever shows a credential that opens something makes room for somebody who has not.
    for socket in &mut held {
        let answer = exchange(socket, &get("/v1/models")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    held.push(connect().await.unwrap());
    told(
        &authority.send(&host, Method::GET, "/health", Ask::default()).await,
        "limits.connections_per_address",
    );
    drop(held);
    let answered = async {
        while authority.send(&host, Method::GET, "/health", Ask::default()).await.status != 200 {}
    };
    timeout(PATIENCE, answered).await.expect("a place that was left is free");
}

#[tokio::test]
async fn a_trusted_proxy_may_have_any_number_of_connections() {
    let authority = Authority::new();
    authority.renew();
    let bounds = "limits.unproven_per_address = 1\napi.trusted_proxies = ['127.0.0.1']";
    let host = TestHost::builder().config(&authority.config()).config(bounds).start().await;
    let connect = async || authority.connect(elsewhere(&host), &[&version::TLS13]).await;
    let _held = (connect().await.unwrap(), connect().await.unwrap());
    assert_eq!(authority.send(&host, Method::GET, "/health", Ask::default()).await.status, 200);
}

/// A request with the root key, as it stands on the wire.
fn http_get(host: &TestHost, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\r\n", host.key())
}

/// What a connection that stays open answers, as far as it has come.
async fn exchange(socket: &mut TlsStream<TcpStream>, request: &str) -> String {
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4 << 10];
    let read = timeout(PATIENCE, socket.read(&mut answer)).await.expect("an answer in time").unwrap();
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

#[tokio::test]
async fn over_tls_everything_is_as_on_loopback() {
    let authority = Authority::new();
    authority.renew();
    let host = TestHost::builder().config(&authority.config()).start().await;
    for (versions, version) in
        [(&[&version::TLS12][..], ProtocolVersion::TLSv1_2), (&[&version::TLS13], ProtocolVersion::TLSv1_3)]
    {
        let socket = authority.connect(elsewhere(&host), versions).await.unwrap();
        assert_eq!(socket.get_ref().1.protocol_version(), Some(version));
        let request = host.request(Method::GET, "/admin/plugins", None);
        let reply = Reply::read(open_on(socket, request).await.unwrap()).await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert_eq!(header(&reply, "strict-transport-security"), None, "nobody asked for it");
    }
    let plain = host.get("/health").await;
    assert_eq!(plain.status, 200, "loopback stays plain HTTP");
    let ports = fs::read_to_string(host.data_dir().join("ports.json")).unwrap();
    let ports: Value = serde_json::from_str(&ports).unwrap();
    assert_eq!(ports["listen"], json!([elsewhere(&host).to_string()]));
    assert_eq!(host.get("/admin/ports").await.json()["listen"], ports["listen"]);
    host.stop().await;
}

#[tokio::test]
async fn over_tls_a_login_is_in_cookies_that_are_sent_over_tls_only() {
    let authority = Authority::new();
    authority.renew();
    let config = authority.config() + "\ntls.hsts_days = 1";
    let host = guarded().config(&config).start().await;
    administrator(&host).await;
    let login = Ask { body: Some(credentials()), ..Ask::default() };
    let login = authority.send(&host, Method::POST, "/auth/login", login).await;
    assert_eq!(login.status, 200, "{}", login.text);
    assert_eq!(header(&login, "strict-transport-security"), Some("max-age=86400"));
    assert!(cookie(&login, "bkg_session").is_none() && cookie(&login, "bkg_refresh").is_none());
    let flags = |name| {
        let (_, attributes) = cookie(&login, name).unwrap();
        attributes.into_iter().filter(|it| !it.starts_with("Max-Age=")).collect::<Vec<_>>()
    };
    assert_eq!(flags("__Host-bkg_session"), ["Path=/", "Secure", "HttpOnly", "SameSite=Strict"]);
    let refresh = ["Path=/auth/refresh", "Secure", "HttpOnly", "SameSite=Strict"];
    assert_eq!(flags("__Secure-bkg_refresh"), refresh);

    let (token, _) = cookie(&login, "__Host-bkg_session").unwrap();
    let named = |name: &str| format!("{name}={token}");
    let port = elsewhere(&host).port();
    let (ours, plain) = (format!("https://localhost:{port}"), format!("http://localhost:{port}"));
    let own_host = format!("localhost:{port}");
    for (method, name, origin, due) in [
        (Method::GET, "__Host-bkg_session", None, 200),
        (Method::GET, "bkg_session", None, 401),
        (Method::POST, "__Host-bkg_session", Some(&ours), 201),
        (Method::POST, "__Host-bkg_session", Some(&plain), 403),
        (Method::POST, "__Host-bkg_session", None, 403),
    ] {
        let cookie = named(name);
        let mut headers = vec![("host", own_host.as_str()), ("cookie", &cookie)];
        headers.extend(origin.map(|origin| ("origin", origin.as_str())));
        let body = (method == Method::POST).then(|| json!({ "scopes": ["llm.chat"] }));
        let reply =
            authority.send(&host, method.clone(), "/admin/keys", Ask { headers: &headers, body }).await;
        assert_eq!(reply.status, due, "{method} {headers:?}: {}", reply.text);
    }
    let loopback = stranger(&host).request(Method::GET, "/admin/keys");
    let loopback = loopback.header("cookie", named("__Host-bkg_session"));
    let reply = stranger(&host).open(complete(loopback, None)).await.unwrap();
    assert_eq!(reply.status(), 401, "on loopback it has its old name");

    let refresh = format!("__Secure-bkg_refresh={}", cookie(&login, "__Secure-bkg_refresh").unwrap().0);
    let headers = [("cookie", refresh.as_str())];
    let renewed = Ask { headers: &headers, body: None };
    let renewed = authority.send(&host, Method::POST, "/auth/refresh", renewed).await;
    assert_eq!(renewed.status, 200, "{}", renewed.text);
    host.stop().await;
}

#[tokio::test]
async fn a_renewed_certificate_is_used_without_a_restart_and_a_bad_one_is_not() {
    let authority = Authority::new();
    let first = authority.renew();
    let host = TestHost::builder().config(&authority.config()).start().await;
    let shown = async || {
        let socket = authority.connect(elsewhere(&host), &[&version::TLS13]).await.unwrap();
        socket.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    };
    assert_eq!(shown().await, first);
    let open = authority.connect(elsewhere(&host), &[&version::TLS13]).await.unwrap();
    fs::write(authority.key(), "no key").unwrap();
    assert_eq!(shown().await, first);
    let second = authority.renew();
    let renewed = async {
        while shown().await != second {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, renewed).await.expect("the new certificate is used");
    let request = host.request(Method::GET, "/health", None);
    let reply = open_on(open, request).await.unwrap();
    assert_eq!(reply.status(), 200, "connections that are open go on");
    host.stop().await;
}

#[tokio::test]
async fn who_speaks_plain_http_to_tls_is_told_and_nobody_else_notices() {
    let authority = Authority::new();
    authority.renew();
    let host = TestHost::builder().config(&authority.config()).start().await;
    for (bytes, beginning) in [
        (&b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"[..], "HTTP/1.1 400 Bad Request\r\n"),
        (b"\x00\x01\x02", ""),
        (b"hello\r\n", ""),
    ] {
        let mut socket = TcpStream::connect(elsewhere(&host)).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        let mut text = String::new();
        let closed = timeout(PATIENCE, socket.read_to_string(&mut text)).await.expect("it is closed");
        assert!(text.starts_with(beginning) && text.is_empty() == beginning.is_empty(), "{text}");
        assert!(closed.is_ok() || beginning.is_empty(), "the answer arrives whole: {closed:?}");
        assert!(beginning.is_empty() || text.ends_with("use `https://` to reach it"), "{text}");
    }
    let reply = authority.send(&host, Method::GET, "/health", Ask::default()).await;
    assert_eq!(reply.status, 200);
    host.stop().await;
}

#[tokio::test]
async fn a_client_that_stalls_before_during_or_after_the_handshake_is_closed() {
    let authority = Authority::new();
    authority.renew();
    let config = format!("{}\n{DEADLINES}", authority.config());
    let host = TestHost::builder().config(&config).start().await;
    // The beginning of a record with a handshake of 512 bytes, of which none come.
    for bytes in [&b""[..], &[22, 3, 1, 2, 0, 1]] {
        let mut socket = TcpStream::connect(elsewhere(&host)).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, socket.read_to_end(&mut rest)).await.expect("it is closed");
    }
    for bytes in [&b""[..], b"GET /health HTTP/1.1\r\nhost: loc"] {
        let mut socket = authority.connect(elsewhere(&host), &[&version::TLS13]).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, socket.read_to_end(&mut rest)).await.expect("it is closed");
        assert!(!String::from_utf8_lossy(&rest).contains("200"));
    }
    host.stop().await;
}

#[tokio::test]
async fn silent_connections_to_tls_keep_nobody_out() {
    let authority = Authority::new();
    authority.renew();
    let host = TestHost::builder().config(&authority.config()).start().await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(elsewhere(&host)).await.unwrap());
    }
    let reply = authority.send(&host, Method::GET, "/health", Ask::default()).await;
    assert_eq!(reply.status, 200);
    host.stop().await;
}

#[tokio::test]
async fn whoever_takes_all_places_from_elsewhere_does_not_keep_the_operator_out() {
    let authority = Authority::new();
    authority.renew();
    let config = authority.config() + "\nlimits.connections = 8";
    let host = TestHost::builder().config(&config).start().await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(elsewhere(&host)).await.unwrap());
    }
    assert_eq!(host.get("/health").await.status, 200);
    host.stop().await;
}

#[tokio::test]
async fn a_daemon_does_not_start_where_everybody_could_read_along() {
    for address in ["0.0.0.0:0", "[::]:0"] {
        let mut place = Place::new();
        place.serve_with(&["--listen", address]);
        let (status, said) = place.start_in_vain().await;
        assert_eq!(status.code(), Some(5), "{said}");
        for way_out in ["`tls.cert` and `tls.key`", "`api.trusted_proxies`"] {
            assert!(said.contains(way_out), "{said}");
        }
        assert!(!place.data_dir().exists(), "nothing was begun");
    }
}

#[tokio::test]
async fn a_daemon_does_not_start_with_a_certificate_that_it_cannot_use() {
    let authority = Authority::new();
    authority.renew();
    fs::write(authority.key(), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let config = authority.directory.path().join("bkg.toml");
    fs::write(&config, authority.config()).unwrap();
    let mut place = Place::new();
    place.serve_with(&["--config", config.to_str().unwrap()]);
    let (status, said) = place.start_in_vain().await;
    assert_eq!(status.code(), Some(5), "{said}");
    assert!(said.contains("does not belong to the certificate"), "{said}");
    assert!(!place.file("ports.json").exists());
}

/// Somebody at `address` who sends these headers along with a login.
async fn try_login(visitor: &Visitor, password: &str, headers: &[(&str, &str)]) -> Reply {
    let mut request = visitor.request(Method::POST, "/auth/login");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = json!({ "username": "admin", "password": password });
    Reply::read(visitor.open(complete(request, Some(body))).await.unwrap()).await.unwrap()
}

#[tokio::test]
async fn only_a_trusted_proxy_says_who_its_client_is() {
    let host = guarded().config("api.trusted_proxies = ['127.0.0.2', '10.0.0.0/8']").start().await;
    administrator(&host).await;
    let proxy = stranger(&host).from(Ipv4Addr::new(127, 0, 0, 2));
    let other = stranger(&host).from(Ipv4Addr::new(127, 0, 0, 3));
    let chain = [("x-forwarded-for", "1.1.1.1, 198.51.100.9, 10.0.0.4")];
    for visitor in [&proxy, &other] {
        let reply = try_login(visitor, "wrong", &chain).await;
        assert_eq!(reply.status, 401, "{}", reply.text);
    }
    let rows = audit(&root(&host), "login").await;
    let failed = rows.iter().filter(|row| row["kind"] == "failed");
    let addresses: Vec<_> = failed.map(|row| row["address"].as_str().unwrap().to_owned()).collect();
    assert_eq!(addresses, ["198.51.100.9", "127.0.0.3"]);

    // Who guesses through the proxy is slowed down, and the owner who comes the same way is not.
    for _ in 0..4 {
        assert_eq!(try_login(&proxy, "wrong", &chain).await.status, 401);
    }
    let slowed = try_login(&proxy, PASSWORD, &chain).await;
    assert_eq!((slowed.status.as_u16(), retry_after(&slowed).is_some()), (429, true));
    let owner = [("x-forwarded-for", "198.51.100.7")];
    assert_eq!(try_login(&proxy, PASSWORD, &owner).await.status, 200);
    // Nobody else escapes by telling a story.
    for number in 0..5 {
        let story = format!("198.51.100.{number}");
        try_login(&other, "wrong", &[("x-forwarded-for", &story)]).await;
    }
    let slowed = try_login(&other, PASSWORD, &[("x-forwarded-for", "198.51.100.99")]).await;
    assert_eq!(slowed.status, 429);
    host.stop().await;
}

#[tokio::test]
async fn scheme_and_host_are_a_trusted_proxys_to_say() {
    let lines = "api.trusted_proxies = ['127.0.0.2']\napi.allowed_hosts = ['bkg.example.org']";
    let host = guarded().config(lines).start().await;
    administrator(&host).await;
    let proxy = stranger(&host).from(Ipv4Addr::new(127, 0, 0, 2));
    let other = stranger(&host).from(Ipv4Addr::new(127, 0, 0, 3));
    let public = [("x-forwarded-proto", "https"), ("x-forwarded-host", "bkg.example.org")];
    let login = try_login(&proxy, PASSWORD, &public).await;
    assert_eq!(login.status, 200, "{}", login.text);
    let (token, attributes) = cookie(&login, "__Host-bkg_session").unwrap();
    assert!(attributes.contains(&"Secure".to_owned()), "{attributes:?}");
    let untrusted = try_login(&other, PASSWORD, &public).await;
    assert!(cookie(&untrusted, "bkg_session").is_some(), "it says nothing that counts");

    let cookie = format!("__Host-bkg_session={token}");
    let foreign = [("x-forwarded-proto", "https"), ("x-forwarded-host", "evil.example")];
    for (host, headers, origin, due) in [
        ("localhost", &public, "https://bkg.example.org", 201),
        ("localhost", &public, "http://bkg.example.org", 403),
        ("localhost", &public, "https://localhost", 403),
        ("localhost", &foreign, "https://evil.example", 421),
        // A page of another site wrote our name into the header, and the proxy passed it on.
        ("evil.example", &public, "https://bkg.example.org", 421),
    ] {
        let request = Request::post("/admin/keys").header("host", host);
        let mut request = request.header("cookie", &cookie).header("origin", origin);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = json!({ "scopes": ["llm.chat"] });
        let reply = Reply::read(proxy.open(complete(request, Some(body))).await.unwrap()).await.unwrap();
        assert_eq!(reply.status, due, "{host} {headers:?} {origin}: {}", reply.text);
        if due == 421 {
            assert_eq!(refusal(&reply), (421, "misdirected_request".to_owned()));
            assert!(reply.text.contains("`api.allowed_hosts`"), "{}", reply.text);
        }
    }
    host.stop().await;
}
