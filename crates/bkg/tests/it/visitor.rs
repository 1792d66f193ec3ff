//! Somebody who talks to a daemon over HTTP: from an address, with a credential or without one.
//!
//! Not the daemon, which may run in this process or in one of its own. Every request has a connection
//! of its own.

use std::net::{Ipv4Addr, SocketAddrV4};

use bytes::Bytes;
use http::request;
use http::{Method, Request, Response};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::net::TcpSocket;

use crate::host::{Connected, Reply, header, open_on};

/// Somebody who talks to a daemon.
#[derive(Debug, Clone)]
pub struct Visitor {
    port: u16,
    address: Ipv4Addr,
    credential: Option<String>,
}

impl Visitor {
    /// Somebody without a credential, from this machine.
    pub fn at(port: u16) -> Self {
        Self { port, address: Ipv4Addr::LOCALHOST, credential: None }
    }

    /// The same with another credential.
    pub fn with(&self, credential: &str) -> Self {
        Self { credential: Some(credential.to_owned()), ..self.clone() }
    }

    /// The same from another address of this machine.
    pub fn from(&self, address: Ipv4Addr) -> Self {
        Self { address, ..self.clone() }
    }

    pub fn credential(&self) -> &str {
        self.credential.as_deref().expect("this visitor has a credential")
    }

    /// A request that is not complete yet.
    pub fn request(&self, method: Method, path: &str) -> request::Builder {
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        match &self.credential {
            Some(credential) => request.header("authorization", format!("Bearer {credential}")),
            None => request,
        }
    }

    /// Sends a request, and answers when the headers are there. What fails is the connection.
    pub async fn open(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Connected>> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddrV4::new(self.address, 0).into())?;
        let socket = socket.connect(SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.port).into()).await?;
        Ok(open_on(socket, request).await?)
    }

    /// Sends a request, and reads the whole answer. What fails is the connection.
    pub async fn try_send(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<Reply> {
        let request = self.request(method, path);
        Ok(Reply::read(self.open(complete(request, body)).await?).await?)
    }

    pub async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Reply {
        self.try_send(method, path, body).await.unwrap()
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, None).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.send(Method::DELETE, path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.send(Method::POST, path, Some(body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Reply {
        self.send(Method::PATCH, path, Some(body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Reply {
        self.send(Method::PUT, path, Some(body)).await
    }

    /// Tries to log in.
    pub async fn try_login(&self, user: &str, password: &str) -> Reply {
        self.post("/auth/login", json!({ "username": user, "password": password })).await
    }

    /// Logs in, and answers the same visitor as that user.
    pub async fn log_in(&self, user: &str, password: &str) -> Self {
        let login = self.try_login(user, password).await;
        assert_eq!(login.status, 200, "{}", login.text);
        self.with(login.json()["token"].as_str().unwrap())
    }

    /// Makes a key, and answers what is shown of it.
    pub async fn make_key(&self, wanted: Value) -> Value {
        let made = self.post("/admin/keys", wanted).await;
        assert_eq!(made.status, 201, "{}", made.text);
        made.json()
    }

    /// Makes a key, and answers somebody who has it.
    pub async fn key(&self, wanted: Value) -> Self {
        self.with(self.make_key(wanted).await["key"].as_str().unwrap())
    }
}

/// A request with a JSON body, if it has one.
pub fn complete(request: request::Builder, body: Option<Value>) -> Request<Full<Bytes>> {
    let Some(body) = body else { return request.body(Full::default()).unwrap() };
    let request = request.header("content-type", "application/json");
    request.body(Full::new(Bytes::from(body.to_string()))).unwrap()
}

/// The cookie of this name that an answer sets: its value, and what follows.
pub fn cookie(reply: &Reply, name: &str) -> Option<(String, Vec<String>)> {
    let all = reply.headers.get_all("set-cookie").iter();
    all.map(|cookie| cookie.to_str().unwrap()).find_map(|cookie| {
        let mut parts = cookie.split("; ").map(str::to_owned);
        let value = parts.next()?.strip_prefix(&format!("{name}="))?.to_owned();
        Some((value, parts.collect()))
    })
}

/// Status and code of a refusal.
pub fn refusal(reply: &Reply) -> (u16, String) {
    (reply.status.as_u16(), reply.code())
}

/// After how many seconds an answer wants to be asked again.
pub fn retry_after(reply: &Reply) -> Option<u64> {
    header(reply, "retry-after").map(|seconds| seconds.parse().unwrap())
}
