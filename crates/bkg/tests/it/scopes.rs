//! Scopes × routes × methods: a request reaches its handler exactly if its credential may what the route
//! declares.
//!
//! The rows come from the host's own table of routes, so a new route is in the matrix by being there. The
//! credentials come from `otherauth`, so this is also the proof that another auth provider can take the
//! place of the bundled one. The invariant: no request here has an effect, even if it is let through.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bkg::web::{Access, Endpoint};
use bkg_protocol::Scopes;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::host::{Reply, TestHost, header};

const PROVIDER: &str = "otherauth";
/// What requests name that may be let through: nothing is called so.
const NOTHING: &str = "no-such-thing";
/// The route that makes a backup of whoever is let through, unless it is asked wrongly.
const BACKUP: &str = "/admin/backup";
/// A capability that shows a number and changes nothing.
const HARMLESS: &str = "otherauth.count";
/// Scopes that are tried besides those that routes declare; the empty text is a key without any.
const SCOPES: [&str; 12] = [
    "admin",
    "llm.*",
    "llm.chat",
    "plugin:read",
    "plugin:manage",
    "key:own",
    "key:manage",
    "audit:read",
    "metrics",
    "otherauth.*",
    "nobody.knows-this",
    "",
];

/// Who sends a request.
#[derive(Debug, Clone)]
enum Sender {
    /// Somebody without a credential, or with one that opens nothing.
    Stranger(Option<String>),
    Key {
        secret: String,
        scopes: Scopes,
    },
    Session {
        token: String,
        scopes: Scopes,
    },
}

/// What becomes of a request at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// 401: nobody knows who asks.
    Unknown,
    /// 403: it is known, and that one may not.
    Refused,
    /// The handler decides.
    Admitted,
}

impl Sender {
    fn key(scope: &str) -> Self {
        let name: String = scope.chars().filter(char::is_ascii_alphanumeric).collect();
        Self::Key { secret: format!("test_key-{name}~{scope}"), scopes: scopes(scope) }
    }

    fn session(scope: &str) -> Self {
        let name: String = scope.chars().filter(char::is_ascii_alphanumeric).collect();
        Self::Session { token: format!("test_login-{name}~{scope};session"), scopes: scopes(scope) }
    }

    fn root(host: &TestHost) -> Self {
        Self::Key { secret: host.key().to_owned(), scopes: scopes("admin") }
    }

    fn credential(&self) -> Option<&str> {
        match self {
            Self::Stranger(credential) => credential.as_deref(),
            Self::Key { secret: text, .. } | Self::Session { token: text, .. } => Some(text),
        }
    }

    /// What must become of a request of this sender.
    fn fate(&self, access: Access) -> Fate {
        let (scopes, has_logged_in) = match (self, access) {
            (_, Access::Public) => return Fate::Admitted,
            (Self::Stranger(_), _) => return Fate::Unknown,
            (Self::Key { scopes, .. }, _) => (scopes, false),
            (Self::Session { scopes, .. }, _) => (scopes, true),
        };
        let may = match access {
            Access::Public | Access::AnyCaller | Access::Socket => true,
            Access::Login => has_logged_in,
            Access::Scope(wanted) => scopes.grant(wanted),
            Access::Capability => scopes.grant(HARMLESS),
        };
        if may { Fate::Admitted } else { Fate::Refused }
    }
}

fn scopes(scope: &str) -> Scopes {
    Scopes::lenient([scope])
}

/// What became of a request. A handler may refuse with 403 too, for reasons of its own: only a refusal
/// in the door's words is the door's. The answer to HEAD has no words, and no handler refuses one.
fn fate_of(reply: &Reply) -> Fate {
    let is_the_hosts = header(reply, "x-bkg-error-source") == Some("host");
    let is_the_doors = ["the scope `", "this is for users who have logged in"];
    match reply.status.as_u16() {
        401 => Fate::Unknown,
        403 if reply.text.is_empty() => Fate::Refused,
        403 if is_the_hosts && is_the_doors.iter().any(|words| reply.text.contains(words)) => Fate::Refused,
        _ => Fate::Admitted,
    }
}

/// A daemon whose credentials `otherauth` checks.
async fn guarded() -> TestHost {
    let host =
        TestHost::builder().plugin(PROVIDER).config("[auth]\nprovider = \"otherauth\"").start().await;
    let reply = send(&host, &Method::GET, "/auth/me", &Sender::key(""), "").await;
    assert_eq!(reply.status, 200, "the provider knows its tokens: {}", reply.text);
    host
}

/// A route's path with a name in place of its parameters.
fn path_of(route: &Endpoint, name: &str) -> String {
    let segments =
        route.path.split('/').map(|segment| if segment.starts_with('{') { name } else { segment });
    segments.collect::<Vec<_>>().join("/")
}

/// The methods that reach a route: axum answers HEAD wherever there is a GET.
fn methods_of(route: &Endpoint) -> Vec<Method> {
    if route.method == Method::GET { vec![Method::GET, Method::HEAD] } else { vec![route.method.clone()] }
}

async fn send(host: &TestHost, method: &Method, path: &str, sender: &Sender, body: &str) -> Reply {
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
    if let Some(credential) = sender.credential() {
        request = request.header("authorization", format!("Bearer {credential}"));
    }
    host.send_request(request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()).await
}

/// Asks a route in a way that changes nothing: a body that every handler refuses, and a name that
/// nothing has, except where only a capability that exists shows whether the sender may use it.
async fn send_to_route(host: &TestHost, route: &Endpoint, method: &Method, sender: &Sender) -> Reply {
    if route.access == Access::Capability {
        // What it runs without being told which capability needs the same scope.
        let body = json!({ "capability": HARMLESS, "plugin": PROVIDER }).to_string();
        return send(host, method, &path_of(route, PROVIDER), sender, &body).await;
    }
    let body = if matches!(*method, Method::GET | Method::HEAD | Method::DELETE) { "" } else { "[]" };
    let path = path_of(route, NOTHING);
    // What needs neither a name nor a body has a parameter that it refuses.
    let path = if route.path == BACKUP { format!("{path}?keys={NOTHING}") } else { path };
    send(host, method, &path, sender, body).await
}

/// Sends the head of a request byte by byte as it is. Answers its status, 0 if there was none, and text.
async fn send_raw(host: &TestHost, target: &[u8], headers: &[u8]) -> (u16, String) {
    let mut socket = TcpStream::connect(("127.0.0.1", host.api_port())).await.unwrap();
    let head =
        [target, b" HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n", headers, b"\r\n"].concat();
    // The host may close before it has read all of a head that is too large; its answer is there anyway.
    let _ = socket.write_all(&head).await;
    let mut answer = Vec::new();
    let reading = timeout(Duration::from_secs(30), socket.read_to_end(&mut answer));
    let _ = reading.await.expect("the host closes the connection");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_default(), answer)
}

/// What an effect would show in: the process of the provider, its keys, and the log of changes.
async fn traces(host: &TestHost) -> (i32, Value, Value) {
    let keys = host.get("/admin/keys").await.json();
    (host.pid(PROVIDER), keys, host.get("/admin/audit?limit=1000").await.json())
}

#[tokio::test]
async fn a_request_reaches_its_handler_exactly_if_it_may_what_the_route_declares() {
    let host = guarded().await;
    let table = host.host().routes().to_vec();
    let declared = table.iter().filter_map(|route| match route.access {
        Access::Scope(scope) => Some(scope),
        Access::Capability => Some(HARMLESS),
        Access::Public | Access::AnyCaller | Access::Login | Access::Socket => None,
    });
    let tried: BTreeSet<&str> = declared.chain(SCOPES).collect();
    let mut senders: Vec<Sender> =
        tried.iter().flat_map(|scope| [Sender::key(scope), Sender::session(scope)]).collect();
    senders.push(Sender::root(&host));
    senders.push(Sender::Stranger(None));
    senders.push(Sender::Stranger(Some("sk-nobody-has-this-key".to_owned())));
    senders.push(Sender::Stranger(Some("test_expired~admin;expires=1".to_owned())));

    let mut wrong = Vec::new();
    for route in &table {
        for method in methods_of(route) {
            for sender in &senders {
                let reply = send_to_route(&host, route, &method, sender).await;
                let (due, fate) = (sender.fate(route.access), fate_of(&reply));
                let is_answered = fate != Fate::Admitted || is_a_handlers(&reply);
                if due != fate || !is_answered {
                    wrong.push(format!(
                        "{method} {} as {sender:?}: {due:?} was due, but {} {}",
                        route.path, reply.status, reply.text
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} cells are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Whether an answer can be that of a handler which was asked for nothing that exists.
fn is_a_handlers(reply: &Reply) -> bool {
    !matches!(reply.status.as_u16(), 405 | 415 | 421 | 429 | 500..)
}

#[tokio::test]
async fn some_cells_of_the_matrix_are_as_a_person_wrote_them() {
    let host = guarded().await;
    for (scope, method, path, due) in [
        ("plugin:read", Method::GET, "/admin/plugins", Fate::Admitted),
        ("plugin:read", Method::POST, "/admin/plugins/no-such-thing/restart", Fate::Refused),
        ("plugin:manage", Method::POST, "/admin/plugins/no-such-thing/restart", Fate::Admitted),
        ("plugin:manage", Method::GET, "/admin/plugins", Fate::Admitted),
        ("plugin:manage", Method::GET, "/admin/keys", Fate::Refused),
        ("key:own", Method::GET, "/admin/keys", Fate::Admitted),
        ("key:manage", Method::GET, "/admin/keys", Fate::Admitted),
        ("key:manage", Method::GET, "/admin/users", Fate::Refused),
        ("llm.chat", Method::POST, "/v1/chat/completions", Fate::Admitted),
        ("llm.chat", Method::POST, "/v1/embeddings", Fate::Refused),
        ("llm.*", Method::POST, "/v1/embeddings", Fate::Admitted),
        ("llm.*", Method::GET, "/admin/audit", Fate::Refused),
        ("audit:read", Method::GET, "/admin/audit", Fate::Admitted),
        ("metrics", Method::GET, "/admin/plugins", Fate::Refused),
        ("", Method::GET, "/v1/models", Fate::Admitted),
        ("", Method::GET, "/api/plugins", Fate::Admitted),
        ("", Method::GET, "/api/plugins/telemetry", Fate::Refused),
        ("llm.chat", Method::GET, "/api/plugins/otherauth/logs", Fate::Refused),
        ("plugin:read", Method::GET, "/admin/system", Fate::Admitted),
        ("key:own", Method::GET, "/admin/system", Fate::Refused),
        ("", Method::GET, "/admin/plugins", Fate::Refused),
        ("", Method::GET, "/ws", Fate::Admitted),
        ("", Method::POST, "/auth/ticket", Fate::Admitted),
        ("admin", Method::GET, "/admin/users", Fate::Admitted),
        ("admin", Method::POST, "/auth/logout", Fate::Refused),
    ] {
        let reply = send(&host, &method, path, &Sender::key(scope), "[]").await;
        assert_eq!(fate_of(&reply), due, "{method} {path} with `{scope}`: {}", reply.text);
    }
}

#[tokio::test]
async fn a_credential_that_was_revoked_opens_nothing() {
    let host = guarded().await;
    for (sender, whom) in [
        (Sender::key("admin"), json!({ "keyId": "test_key-admin" })),
        (Sender::session("admin"), json!({ "sessionId": "test_login-admin" })),
    ] {
        let before = send(&host, &Method::GET, "/admin/plugins", &sender, "").await;
        assert_eq!(before.status, 200, "{}", before.text);
        let revoked = host.invoke(PROVIDER, "otherauth.revoke", whom).await;
        assert_eq!(revoked.status, 200, "{}", revoked.text);
        for route in host.host().routes().to_vec() {
            for method in methods_of(&route) {
                let reply = send_to_route(&host, &route, &method, &sender).await;
                let due = Sender::Stranger(None).fate(route.access);
                assert_eq!(fate_of(&reply), due, "{method} {} as {sender:?}: {}", route.path, reply.text);
            }
        }
    }
}

#[tokio::test]
async fn a_method_that_a_path_does_not_declare_is_405_and_does_nothing() {
    let host = guarded().await;
    // Names of what exists, so that a handler which ran by mistake would find something to do.
    let made = host.post("/admin/keys", json!({ "user": "admin", "scopes": ["llm.chat"] })).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let key = made.json()["id"].as_str().unwrap().to_owned();
    let mut paths: BTreeMap<String, BTreeSet<Method>> = BTreeMap::new();
    for route in host.host().routes() {
        let name = if route.path.starts_with("/admin/keys/") { &key } else { PROVIDER };
        paths.entry(path_of(route, name)).or_default().extend(methods_of(route));
    }
    let before = traces(&host).await;
    let tried =
        ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "post", "GETS"];
    for (path, declared) in &paths {
        for method in tried.map(|method| Method::from_bytes(method.as_bytes()).unwrap()) {
            if declared.contains(&method) {
                continue;
            }
            for sender in [Sender::root(&host), Sender::Stranger(None)] {
                let reply = send(&host, &method, path, &sender, "{}").await;
                assert_eq!(reply.status, 405, "{method} {path}: {}", reply.text);
                let allowed = header(&reply, "allow").unwrap_or_default().split(',');
                let allowed: BTreeSet<Method> =
                    allowed.map(|method| method.trim().parse().unwrap()).collect();
                assert_eq!(&allowed, declared, "{method} {path}");
            }
        }
    }
    assert_eq!(traces(&host).await, before);
}

#[tokio::test]
async fn an_odd_credential_is_a_401_or_no_request_at_all() {
    let host = guarded().await;
    let good = "test_odd~plugin:read";
    let header = |value: &[u8]| [b"authorization: ", value, b"\r\n"].concat();
    let bearer = |key: &[u8]| header(&[b"Bearer ", key].concat());
    let twice = |first: &str, second: &str| {
        format!("authorization: Bearer {first}\r\nauthorization: Bearer {second}\r\n").into_bytes()
    };
    let asked = |headers: Vec<u8>| {
        let host = &host;
        async move { send_raw(host, b"GET /admin/plugins", &headers).await }
    };
    let long = "x".repeat(64 << 10);
    let cases: [(&str, Vec<u8>, &[u16]); 24] = [
        ("nothing at all", Vec::new(), &[401]),
        ("an empty header", header(b""), &[401]),
        ("`Bearer` alone", header(b"Bearer"), &[401]),
        ("`Bearer` and blanks", header(b"Bearer    "), &[401]),
        ("no scheme", header(good.as_bytes()), &[401]),
        ("another scheme", header(format!("Basic {good}").as_bytes()), &[401]),
        ("a tab after the scheme", header(format!("Bearer\t{good}").as_bytes()), &[401]),
        ("the scheme twice", header(format!("Bearer Bearer {good}").as_bytes()), &[401]),
        ("quotes", bearer(br#"'"`';--abcdefgh"#), &[401]),
        ("quotes around a good key", bearer(format!("\"{good}\"").as_bytes()), &[401]),
        ("a blank in the key", bearer(b"' OR '1'='1"), &[401]),
        ("a good key and more", bearer(format!("{good} {good}").as_bytes()), &[401]),
        ("two good keys in one header", bearer(format!("{good}, Bearer {good}").as_bytes()), &[401]),
        ("the same good key twice", twice(good, good), &[401]),
        ("a good key, then a bad one", twice(good, "sk-nobody-has-this-key"), &[401]),
        ("a bad key, then a good one", twice("sk-nobody-has-this-key", good), &[401]),
        ("a NUL at the end", bearer(format!("{good}\0").as_bytes()), &[400, 401]),
        ("a NUL at the start", bearer(format!("\0{good}").as_bytes()), &[400, 401]),
        ("UTF-8", bearer("test_schlüssel~plugin:read".as_bytes()), &[401]),
        ("no UTF-8", bearer(b"test_\xff\xfe~plugin:read"), &[401]),
        ("a header that goes on in the next line", bearer(b"test_odd\r\n ~plugin:read"), &[400, 401]),
        ("too short", bearer(b"short"), &[401]),
        ("513 bytes", bearer(&[b'x'; 513]), &[401]),
        ("64 KiB", bearer(long.as_bytes()), &[400, 401, 431]),
    ];
    for (what, headers, due) in cases {
        let (status, answer) = asked(headers).await;
        assert!(due.contains(&status), "{what}: {due:?} was due, but {answer}");
        assert!(!answer.contains(PROVIDER) && !answer.contains("~plugin:read"), "{what}: {answer}");
    }
    let root = host.key();
    for almost in [format!("{root}x"), root[..root.len() - 1].to_owned(), root.to_uppercase()] {
        assert_eq!(asked(bearer(almost.as_bytes())).await.0, 401, "a key that is almost the root key");
    }
    for place in ["?token=", "?api_key=", "?access_token=", "?authorization=Bearer%20"] {
        let (status, _) = send_raw(&host, format!("GET /admin/plugins{place}{good}").as_bytes(), b"").await;
        assert_eq!(status, 401, "a key in `{place}`");
    }
    assert_eq!(asked(bearer(good.as_bytes())).await.0, 200, "and the host still knows a good key");
}

/// Other ways to write a path, which a lenient server might take for the same.
fn variants(path: &str) -> BTreeSet<String> {
    let (first, rest) = path[1..].split_once('/').map_or((&path[1..], ""), |(first, rest)| (first, rest));
    let rest = if rest.is_empty() { String::new() } else { format!("/{rest}") };
    let all = [
        format!("/{path}"),
        format!("//{path}"),
        format!("/./{first}{rest}"),
        format!("/{first}/.{rest}"),
        format!("/{first}/../{first}{rest}"),
        format!("/health/..{path}"),
        format!("/%2e%2e{path}"),
        format!("/health/%2e%2e{path}"),
        format!("/health/..%2f{first}{rest}"),
        format!("/{first}/{rest}"),
        format!("/{first}{}", rest.replace('/', "%2f")),
        format!("/{first}{}", rest.replace('/', "%5c")),
        format!("/{first}{}", rest.replace('/', "\\")),
        path.replace('/', "\\"),
        format!("/%{:02x}{}{rest}", first.as_bytes()[0], &first[1..]),
        format!("/{}{rest}", first.to_uppercase()),
        format!("/{first};x=1{rest}"),
        format!("/{first}%00{rest}"),
        format!("/{first}%20{rest}"),
        format!("{path}/"),
        first.to_owned() + &rest,
    ];
    all.into_iter().filter(|variant| variant != path).collect()
}

#[tokio::test]
async fn another_way_to_write_a_path_reaches_no_handler() {
    let host = guarded().await;
    let before = traces(&host).await;
    let credential = |sender: &Sender| {
        sender.credential().map(|key| format!("authorization: Bearer {key}\r\n")).unwrap_or_default()
    };
    let senders = [Sender::Stranger(None), Sender::key(""), Sender::key("admin")];
    // With a slash at its end, the path of a plugin is that of the plugin's own first route.
    let others: BTreeSet<String> =
        host.host().routes().iter().map(|route| path_of(route, PROVIDER)).collect();
    for route in host.host().routes() {
        let path = path_of(route, PROVIDER);
        for sender in &senders {
            for variant in variants(&path).difference(&others) {
                let target = format!("{} {variant}", route.method);
                let (status, answer) =
                    send_raw(&host, target.as_bytes(), credential(sender).as_bytes()).await;
                assert!((400..500).contains(&status), "`{target}` as {sender:?}: {answer}");
            }
            // The same path in another form of request: it is the same route, and needs the same scope. A
            // capability's handler asks for the scope itself, and only of a body that names one.
            if sender.fate(route.access) != Fate::Admitted && route.access != Access::Capability {
                for same in [format!("http://localhost{path}"), format!("{path}?x=/../health")] {
                    let target = format!("{} {same}", route.method);
                    let (status, answer) =
                        send_raw(&host, target.as_bytes(), credential(sender).as_bytes()).await;
                    assert!(matches!(status, 401 | 403), "`{target}` as {sender:?}: {answer}");
                }
            }
        }
    }
    assert_eq!(traces(&host).await, before);
}
