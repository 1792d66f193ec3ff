//! Where a handler puts the parts of a streamed answer.
//!
//! The invariant: no more chunks are under way than the caller gave credit for. Whoever sends faster
//! than the caller reads waits here; whoever sends for a caller who has left gets an error.

use std::sync::Arc;

use bkg_protocol::inbound::ChunkRefused;
use bkg_protocol::{ErrorCode, RequestId, WireError};

use crate::json::IntoJson;
use crate::session::{ChunkKept, Session, Ticket};

/// Why a chunk was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The request was cancelled, or its session is gone: stop working.
    #[error("nobody waits for this stream any more")]
    Over,
    /// The chunk is larger than the host takes.
    #[error("the chunk has {size} bytes, the limit is {limit}: send smaller chunks")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
}

impl From<SendError> for WireError {
    fn from(error: SendError) -> Self {
        let code = match error {
            SendError::Over => ErrorCode::Cancelled,
            SendError::TooLarge { .. } => ErrorCode::PayloadTooLarge,
        };
        Self::new(code, error.to_string())
    }
}

/// Where a handler puts the parts of a streamed answer.
///
/// ```
/// use bkg_sdk::{ChunkSink, Plugin, Request, Result};
///
/// async fn count(request: Request, chunks: ChunkSink) -> Result<()> {
///     for number in 0..request.read::<u32>()? {
///         chunks.send(serde_json::json!(number)).await?;
///     }
///     Ok(())
/// }
///
/// let plugin = Plugin::new().stream("counter.count", count);
/// ```
#[derive(Debug)]
pub struct ChunkSink {
    session: Arc<Session>,
    ticket: Arc<Ticket>,
    id: RequestId,
}

impl ChunkSink {
    pub(crate) fn new(session: Arc<Session>, ticket: Arc<Ticket>, id: RequestId) -> Self {
        Self { session, ticket, id }
    }

    /// Sends one part; waits while the caller has yet to read what it got.
    ///
    /// # Errors
    /// Why nothing was sent: the request is over, or the part is too large.
    pub async fn send(&self, chunk: impl IntoJson) -> Result<(), SendError> {
        let chunk = chunk.into_json();
        loop {
            let room = self.session.room();
            match self.session.chunk(&self.id, chunk.clone()) {
                Ok(()) => return Ok(()),
                Err(ChunkKept::Full) => self.unless_over(room).await?,
                Err(ChunkKept::Refused(ChunkRefused::NoCredit)) => {
                    self.unless_over(self.ticket.credit.notified()).await?;
                }
                Err(ChunkKept::Refused(ChunkRefused::TooLarge { size, limit })) => {
                    return Err(SendError::TooLarge { size, limit });
                }
                Err(ChunkKept::Refused(ChunkRefused::Over | ChunkRefused::NotStreaming)) => {
                    return Err(SendError::Over);
                }
            }
        }
    }

    async fn unless_over(&self, wait: impl Future<Output = ()>) -> Result<(), SendError> {
        tokio::select! {
            () = self.ticket.cancelled.cancelled() => Err(SendError::Over),
            () = wait => Ok(()),
        }
    }
}
