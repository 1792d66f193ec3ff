//! The same over TCP, with a host that is written out frame by frame.

use std::time::Duration;

use bkg_sdk::{Environment, Plugin, Request, RunError, Secret};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_async};

type Socket = WebSocketStream<TcpStream>;

async fn accept(listener: &TcpListener) -> Socket {
    let (stream, _) = timeout(Duration::from_secs(10), listener.accept()).await.unwrap().unwrap();
    accept_async(stream).await.unwrap()
}

/// The next text frame of a type; what comes before it is passed over.
async fn frame(socket: &mut Socket, kind: &str) -> Value {
    let next = async {
        loop {
            let text = match socket.next().await.unwrap().unwrap() {
                Message::Text(text) => text,
                _ => continue,
            };
            let frame: Value = serde_json::from_str(&text).unwrap();
            if frame["type"] == kind {
                return frame;
            }
        }
    };
    timeout(Duration::from_secs(10), next).await.unwrap()
}

async fn say(socket: &mut Socket, frame: Value) {
    socket.send(Message::text(frame.to_string())).await.unwrap();
}

async fn greet(socket: &mut Socket, resume: &str) -> Value {
    let register = frame(socket, "register").await;
    say(
        socket,
        json!({
            "type": "registered", "protocol": 1, "resume": resume, "heartbeatMs": 10_000,
            "instance": "01890a5d-ac96-774b-bcce-b302099a8057",
            "limits": { "maxFrameBytes": 1 << 24, "maxChunkBytes": 1 << 18, "streamCredit": 32 },
        }),
    )
    .await;
    register
}

#[tokio::test]
async fn a_plugin_dials_answers_pings_comes_back_and_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/bus", listener.local_addr().unwrap());
    let environment = Environment::new(url, "greeter".parse().unwrap(), Secret::new("launch"));
    let plugin = Plugin::new().version("1.0.0").answer("greeter.greet", |request: Request| async move {
        Ok(json!(format!("hello {}", request.read::<String>()?)))
    });
    let plugin = tokio::spawn(plugin.serve(environment, std::future::pending()));

    let mut socket = accept(&listener).await;
    let register = greet(&mut socket, "second").await;
    assert_eq!(
        register,
        json!({
            "type": "register", "plugin": "greeter", "port": "internal", "protocol": 1, "version": "1.0.0",
            "capabilities": [{ "id": "greeter.greet" }], "token": "launch",
        })
    );
    assert_eq!(
        frame(&mut socket, "health").await,
        json!({ "type": "health", "plugin": "greeter", "status": "up" })
    );
    say(&mut socket, json!({ "type": "tomorrow" })).await;
    say(
        &mut socket,
        json!({ "type": "request", "requestId": "r-1", "capability": "greeter.greet", "payload": "Ada" }),
    )
    .await;
    assert_eq!(
        frame(&mut socket, "response").await,
        json!({ "type": "response", "requestId": "r-1", "success": true, "data": "hello Ada" })
    );
    socket.send(Message::Ping("are you there".into())).await.unwrap();
    let pong = timeout(Duration::from_secs(10), socket.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(pong, Message::Pong("are you there".into()));

    // The host goes without a word, and is back.
    drop(socket);
    let mut socket = accept(&listener).await;
    let register = greet(&mut socket, "third").await;
    assert_eq!((&register["resume"], &register["token"]), (&json!("second"), &Value::Null));

    // It asks for an end.
    say(&mut socket, json!({ "type": "drain", "deadlineMs": 10_000 })).await;
    let closed = async {
        loop {
            if let Message::Close(frame) = socket.next().await.unwrap().unwrap() {
                return frame.unwrap().code;
            }
        }
    };
    assert_eq!(u16::from(timeout(Duration::from_secs(10), closed).await.unwrap()), 1000);
    let _ = socket.close(None).await;
    drop(socket);
    timeout(Duration::from_secs(10), plugin).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_close_with_1008_is_a_refusal() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let environment = Environment::new(url, "test".parse().unwrap(), Secret::new("launch"));
    let plugin = tokio::spawn(Plugin::new().serve(environment, std::future::pending()));
    let mut socket = accept(&listener).await;
    frame(&mut socket, "register").await;
    let close = CloseFrame { code: 1008.into(), reason: "this name is taken".into() };
    socket.close(Some(close)).await.unwrap();
    let ended = timeout(Duration::from_secs(10), plugin).await.unwrap().unwrap();
    assert!(
        matches!(&ended, Err(RunError::Rejected { message, .. }) if message == "this name is taken"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_close_of_the_host_is_answered() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let environment = Environment::new(url, "test".parse().unwrap(), Secret::new("launch"));
    let plugin = tokio::spawn(Plugin::new().serve(environment, std::future::pending()));
    let mut socket = accept(&listener).await;
    greet(&mut socket, "second").await;
    frame(&mut socket, "health").await;
    let close = CloseFrame { code: 1011.into(), reason: "a pong did not come in time".into() };
    socket.close(Some(close)).await.unwrap();
    let answered = async {
        loop {
            match socket.next().await.unwrap().unwrap() {
                Message::Close(_) => return,
                _ => continue,
            }
        }
    };
    timeout(Duration::from_secs(10), answered).await.unwrap();
    plugin.abort();
}
