//! A stream whose writes end when the other side takes nothing of them for too long.
//!
//! Not how long a request may take: a client that reads slowly is waited for, one that has stopped is not.
//! The invariant: whoever writes hears of it within the bound, so nothing that the connection holds, an
//! open call at a plugin above all, outlives a client that is only pretending to be there. `server` puts
//! every connection into one.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// A stream with a bound on how long a write may wait.
#[derive(Debug)]
pub(super) struct Patient<S> {
    stream: S,
    within: Duration,
    /// Made when something waits for the first time: most connections never need one.
    alarm: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
}

impl<S> Patient<S> {
    /// `within`: how long a write may wait until some of it is taken.
    pub(super) fn new(stream: S, within: Duration) -> Self {
        Self { stream, within, alarm: None, is_waiting: false }
    }

    /// What came of a write, or that it has waited for too long.
    fn judge<T>(&mut self, cx: &mut Context<'_>, written: Poll<Result<T>>) -> Poll<Result<T>> {
        if written.is_ready() {
            self.is_waiting = false;
            return written;
        }
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep(self.within)));
        if !std::mem::replace(&mut self.is_waiting, true) {
            alarm.as_mut().reset(Instant::now() + self.within);
        }
        match alarm.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                let why = format!("the client took nothing for {} ms", self.within.as_millis());
                Poll::Ready(Err(Error::new(ErrorKind::TimedOut, why)))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.judge(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.judge(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.judge(cx, shut)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const WITHIN: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_write_that_nobody_takes_ends_and_one_that_is_taken_slowly_does_not() {
        let (ours, mut theirs) = tokio::io::duplex(10);
        let mut ours = Patient::new(ours, WITHIN);
        let begun = Instant::now();
        let reading = async {
            // A byte just in time, ten times over.
            for _ in 0..10 {
                sleep(WITHIN - Duration::from_secs(1)).await;
                theirs.read_u8().await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(ours.write_all(&[0; 20]), reading);
        written.unwrap();
        assert!(begun.elapsed() > WITHIN * 9);
        let stopped = Instant::now();
        let error = ours.write_all(&[0; 20]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(stopped.elapsed(), WITHIN);
    }
}
