//! Streamed answers keep to the credit, and end when nobody reads them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bkg_protocol::Limits;
use bkg_protocol::message::CancelReason;
use bkg_sdk::testing::TestHost;
use bkg_sdk::{Capability, ChunkSink, Plugin, RawJson, Request, Result, SendError};
use serde_json::json;
use tokio::sync::mpsc;

async fn count(request: Request, chunks: ChunkSink) -> Result<RawJson> {
    for number in 0..request.read::<u32>()? {
        chunks.send(json!(number)).await?;
    }
    Ok(json!("done").into())
}

async fn echo(request: Request) -> Result<RawJson> {
    Ok(request.payload().clone())
}

fn counter() -> Plugin {
    Plugin::new().stream("test.count", count).answer("test.echo", echo)
}

#[tokio::test]
async fn chunks_arrive_in_order_and_then_the_final_answer() {
    let host = TestHost::start(counter()).await;
    let (chunks, outcome) = host.stream("test.count", json!(1000)).collect().await;
    let numbers: Vec<u32> = chunks.iter().map(|chunk| chunk.read().unwrap()).collect();
    assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
    assert_eq!(outcome.unwrap().as_str(), r#""done""#);
    assert_eq!(host.seen().dropped, 0);
}

#[tokio::test]
async fn no_more_chunks_leave_than_there_is_credit() {
    let sent = Arc::new(AtomicU32::new(0));
    let counting = sent.clone();
    let endless = move |_, chunks: ChunkSink| {
        let sent = counting.clone();
        async move {
            loop {
                chunks.send(json!(0)).await?;
                sent.fetch_add(1, Ordering::Relaxed);
            }
            #[expect(unreachable_code, reason = "names the type")]
            Ok(())
        }
    };
    let host =
        TestHost::start(Plugin::new().stream("test.endless", endless).answer("test.echo", echo)).await;
    let mut stream = host.stream_with_credit("test.endless", (), 3);
    for _ in 0..3 {
        assert!(stream.next().await.is_some());
    }
    // A fourth chunk would have left before the answer to a later request.
    host.request("test.echo", ()).await.unwrap();
    assert_eq!((stream.next_now(), sent.load(Ordering::Relaxed)), (None, 3));
    stream.grant(2);
    assert!(stream.next().await.is_some() && stream.next().await.is_some());
    host.request("test.echo", ()).await.unwrap();
    assert_eq!((stream.next_now(), sent.load(Ordering::Relaxed)), (None, 5));
}

#[tokio::test]
async fn whoever_sends_for_a_caller_who_left_is_told() {
    let (tell, mut told) = mpsc::channel(1);
    let outlive = move |_, chunks: ChunkSink| {
        let tell = tell.clone();
        // A task of its own goes on when the handler is dropped.
        tokio::spawn(async move {
            loop {
                if let Err(error) = chunks.send(json!(0)).await {
                    return tell.send(error).await;
                }
            }
        });
        std::future::pending::<Result<()>>()
    };
    let host = TestHost::start(Plugin::new().stream("test.outlive", outlive)).await;
    let mut stream = host.stream_with_credit("test.outlive", (), 1);
    assert!(stream.next().await.is_some());
    stream.cancel(CancelReason::CallerGone);
    assert_eq!(told.recv().await, Some(SendError::Over));
    host.until("the stream is answered", |seen| seen.answers.len() == 1).await;
    assert_eq!(host.seen().answers[0].1.as_ref().unwrap_err().code, "cancelled");
}

#[tokio::test]
async fn a_chunk_that_is_too_large_is_refused_and_the_stream_goes_on() {
    async fn large(_: Request, chunks: ChunkSink) -> Result<()> {
        let refused = chunks.send(json!("x".repeat(2000))).await;
        assert_eq!(refused, Err(SendError::TooLarge { size: 2002, limit: 1000 }));
        Ok(chunks.send(json!("small")).await?)
    }
    let limits = Limits { chunk: 1000, ..Limits::default() };
    let host = TestHost::builder().limits(limits).start(Plugin::new().stream("test.large", large)).await;
    let (chunks, outcome) = host.stream("test.large", ()).collect().await;
    assert_eq!((chunks.len(), outcome.is_ok()), (1, true));
}

#[tokio::test]
async fn the_caller_chooses_between_one_answer_and_a_stream() {
    let both = Capability::new("test.both").answer(echo).stream(count);
    let host = TestHost::start(counter().capability(both)).await;
    assert_eq!(host.request("test.both", json!(2)).await.unwrap().as_str(), "2");
    assert_eq!(host.stream("test.both", json!(2)).collect().await.0.len(), 2);
    // What can only stream says so; what cannot answers at once.
    assert_eq!(host.request("test.count", json!(2)).await.unwrap_err().code, "invalid_request");
    let (chunks, outcome) = host.stream("test.echo", json!(2)).collect().await;
    assert_eq!((chunks, outcome.unwrap().as_str()), (vec![], "2"));
}

#[tokio::test]
async fn many_streams_share_the_socket_and_stay_apart() {
    async fn label(request: Request, chunks: ChunkSink) -> Result<()> {
        for _ in 0..200 {
            chunks.send(request.payload().clone()).await?;
        }
        Ok(())
    }
    let host = TestHost::start(Plugin::new().stream("test.label", label)).await;
    let streams: Vec<_> = (0..64).map(|number| host.stream("test.label", json!(number))).collect();
    for (number, stream) in streams.into_iter().enumerate() {
        let (chunks, outcome) = stream.collect().await;
        assert!(outcome.is_ok());
        assert_eq!(chunks.len(), 200);
        assert!(chunks.iter().all(|chunk| chunk.as_str() == number.to_string()));
    }
}
