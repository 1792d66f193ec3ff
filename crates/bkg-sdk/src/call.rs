//! Asking for a capability, through the host, of whichever plugin has it.
//!
//! Every call has a deadline, and a call that is dropped before its answer is cancelled: nobody works
//! for someone who has left.

use std::sync::Arc;
use std::time::Duration;

use bkg_protocol::exchange::Refusal;
use bkg_protocol::message::CancelReason;
use bkg_protocol::{CapabilityName, ErrorCode, NameError, RawJson, RequestId, WireError, message};
use tokio::sync::{mpsc, oneshot};

use crate::session::{Session, Waiter};

/// How long a call may take that does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The capability's name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// There is no session with the host at this moment.
    #[error("there is no session with the host now: try again when it is back")]
    NotConnected,
    /// The payload is larger than the host takes.
    #[error("the payload is too large: {0}")]
    TooLarge(Refusal),
    /// The deadline passed. The host was told that nobody waits any more.
    #[error("`{capability}` did not answer within {} ms", .timeout.as_millis())]
    TimedOut {
        /// What was asked for.
        capability: CapabilityName,
        /// How long it was given.
        timeout: Duration,
    },
    /// The session ended before the answer: whether the work was done is unknown.
    #[error("the session with the host ended before the answer came")]
    Disconnected,
    /// Whoever answered reported a failure.
    #[error(transparent)]
    Failed(#[from] WireError),
}

impl From<CallError> for WireError {
    fn from(error: CallError) -> Self {
        let code = match error {
            CallError::Failed(error) => return error,
            CallError::TimedOut { .. } => ErrorCode::Timeout,
            _ => ErrorCode::PluginError,
        };
        Self::new(code, error.to_string())
    }
}

/// A request of the plugin's own that has not been sent yet.
#[derive(Debug)]
#[must_use = "a call does nothing until `answer` or `stream`"]
pub struct Call {
    session: Option<Arc<Session>>,
    capability: Result<CapabilityName, NameError>,
    payload: RawJson,
    parent: Option<RequestId>,
    traceparent: Option<String>,
    timeout: Duration,
}

impl Call {
    pub(crate) fn new(session: Option<Arc<Session>>, capability: &str, payload: RawJson) -> Self {
        let (parent, traceparent) = (None, None);
        let capability = capability.parse();
        Self { session, capability, payload, parent, traceparent, timeout: DEFAULT_TIMEOUT }
    }

    pub(crate) fn on_behalf_of(mut self, parent: &message::Request) -> Self {
        self.parent = Some(parent.request_id.clone());
        self.traceparent.clone_from(&parent.traceparent);
        self
    }

    /// How long it may take: to the answer, or to the next chunk of a stream. 60 s unless said. The
    /// host allows no more than is left of the request that is being answered.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// Why there is none; a failure of whoever answers is [`CallError::Failed`].
    pub async fn answer(self) -> Result<RawJson, CallError> {
        let (asked, _, answer) = self.start(false).await?;
        asked.outcome(answer).await
    }

    /// Asks for an answer in chunks.
    ///
    /// # Errors
    /// Why it was not asked for; what happens later comes out of the stream.
    pub async fn stream(self) -> Result<CallStream, CallError> {
        let (asked, chunks, answer) = self.start(true).await?;
        let batch = (asked.session.stream_credit() / 2).max(1);
        Ok(CallStream { asked, chunks, answer: Some(answer), taken: 0, batch })
    }

    async fn start(self, stream: bool) -> Result<(Asked, mpsc::Receiver<RawJson>, Answer), CallError> {
        let capability = self.capability?;
        let session = self.session.ok_or(CallError::NotConnected)?;
        let credit = session.stream_credit();
        let (chunks, taken) = mpsc::channel(credit.max(1) as usize);
        let (answer, awaited) = oneshot::channel();
        let request = message::Request {
            stream,
            credit: stream.then_some(credit),
            // Less than a millisecond must not read as none at all.
            timeout_ms: Some(self.timeout.as_millis().max(1) as u64),
            parent_request_id: self.parent,
            traceparent: self.traceparent,
            ..message::Request::new(capability.clone(), self.payload)
        };
        let waiter = Waiter { chunks: stream.then_some(chunks), answer: Some(answer) };
        let wait_for_room = async {
            loop {
                let room = session.room();
                if session.has_room() {
                    return;
                }
                room.await;
            }
        };
        let timed_out = || CallError::TimedOut { capability: capability.clone(), timeout: self.timeout };
        tokio::time::timeout(self.timeout, wait_for_room).await.map_err(|_| timed_out())?;
        let id = session.start(request, waiter).map_err(|refusal| match refusal {
            Refusal::NotOpen => CallError::NotConnected,
            Refusal::TooLarge { .. } => CallError::TooLarge(refusal),
        })?;
        Ok((Asked { session, id, capability, timeout: self.timeout, over: false }, taken, awaited))
    }
}

type Answer = oneshot::Receiver<Result<RawJson, WireError>>;

/// A request that is out; dropped before its end, it is cancelled.
#[derive(Debug)]
struct Asked {
    session: Arc<Session>,
    id: RequestId,
    capability: CapabilityName,
    timeout: Duration,
    over: bool,
}

impl Asked {
    async fn outcome(mut self, answer: Answer) -> Result<RawJson, CallError> {
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(answer) => {
                self.over = true;
                Ok(answer.map_err(|_| CallError::Disconnected)??)
            }
            Err(_) => Err(self.timed_out()),
        }
    }

    fn timed_out(&mut self) -> CallError {
        self.over = true;
        self.session.give_up(&self.id, CancelReason::Deadline);
        CallError::TimedOut { capability: self.capability.clone(), timeout: self.timeout }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if !self.over {
            self.session.give_up(&self.id, CancelReason::CallerGone);
        }
    }
}

/// An answer in chunks. Dropped before its end, the request is cancelled.
///
/// ```
/// # use bkg_sdk::{Call, CallError};
/// async fn read_all(call: Call) -> Result<(), CallError> {
///     let mut stream = call.stream().await?;
///     while let Some(chunk) = stream.next().await? {
///         println!("{}", chunk.as_str());
///     }
///     stream.outcome().await?;
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct CallStream {
    asked: Asked,
    chunks: mpsc::Receiver<RawJson>,
    answer: Option<Answer>,
    /// How many chunks were taken that the sender has no new credit for yet.
    taken: u32,
    /// How many chunks are worth a `credit` message.
    batch: u32,
}

impl CallStream {
    /// The next chunk; `None` after the last one: whether that is a good end, [`CallStream::outcome`]
    /// says.
    ///
    /// # Errors
    /// [`CallError::TimedOut`] where no chunk came within the call's timeout; the stream is over then.
    pub async fn next(&mut self) -> Result<Option<RawJson>, CallError> {
        let next = tokio::time::timeout(self.asked.timeout, self.chunks.recv()).await;
        let Ok(chunk) = next else {
            self.chunks.close();
            return Err(self.asked.timed_out());
        };
        if chunk.is_some() {
            self.taken += 1;
            if self.taken == self.batch {
                self.asked.session.grant(&self.asked.id, self.taken);
                self.taken = 0;
            }
        }
        Ok(chunk)
    }

    /// The final answer, after the last chunk.
    ///
    /// # Errors
    /// Why the stream is not complete. Chunks that were not taken make it [`CallError::TimedOut`] once
    /// the sender is out of credit, so take them all first.
    pub async fn outcome(mut self) -> Result<RawJson, CallError> {
        let answer = self.answer.take().expect("`outcome` takes the stream, so it is asked for once");
        self.asked.outcome(answer).await
    }
}
