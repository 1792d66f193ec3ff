//! The server that a benchmark compares with: it answers a chat completion at once, without a hop.
//!
//! Not part of the product. It replays bytes that the daemon itself answered, so that every row of
//! `scripts/bench` carries the same ones: `--answer FILE` for a whole answer, `--stream FILE` for the
//! server-sent events of a streamed one. A single-threaded runtime, like each of the daemon's own.

use std::convert::Infallible;
use std::io::Write as _;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use clap::Parser;
use futures_util::Stream;
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Answers chat completions at once.
#[derive(Parser)]
struct Arguments {
    /// The body of a whole answer.
    #[arg(long)]
    answer: PathBuf,
    /// The events of a streamed answer.
    #[arg(long)]
    stream: PathBuf,
}

struct Replies {
    answer: Bytes,
    events: Vec<Bytes>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let stream = Bytes::from(std::fs::read(&arguments.stream)?);
    let replies = Arc::new(Replies {
        answer: std::fs::read(&arguments.answer)?.into(),
        events: split_events(&stream),
    });
    let app = Router::new().route("/v1/chat/completions", post(chat)).with_state(replies);

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?.port())?;
    let listener = axum::serve::ListenerExt::tap_io(listener, |socket| {
        let _ = socket.set_nodelay(true); // Without it the figures are worse, not wrong.
    });
    axum::serve(listener, app).await?;
    Ok(())
}

/// Reads the body as a server must, and answers the form that it asks for.
async fn chat(State(replies): State<Arc<Replies>>, body: Bytes) -> Response {
    let streamed = serde_json::from_slice::<serde_json::Value>(&body)
        .is_ok_and(|request| request["stream"] == serde_json::Value::Bool(true));
    let (content_type, body) = if streamed {
        ("text/event-stream", Body::from_stream(Replay { replies, next: 0, yielded: false }))
    } else {
        ("application/json", Body::from(replies.answer.clone()))
    };
    ([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))], body).into_response()
}

/// One event at a time, each after a turn of the runtime: a server cannot hand out what its model has
/// not said yet, so no two events share a write.
struct Replay {
    replies: Arc<Replies>,
    next: usize,
    yielded: bool,
}

impl Stream for Replay {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.next > 0 && !self.yielded {
            self.yielded = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let event = self.replies.events.get(self.next).cloned();
        self.next += 1;
        self.yielded = false;
        Poll::Ready(event.map(Ok))
    }
}

fn split_events(stream: &Bytes) -> Vec<Bytes> {
    let mut events = Vec::new();
    let mut start = 0;
    for end in 2..=stream.len() {
        if &stream[end - 2..end] == b"\n\n" {
            events.push(stream.slice(start..end));
            start = end;
        }
    }
    events
}
