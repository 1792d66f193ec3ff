//! The body of an upstream's answer: in pieces, decoded, and never longer awaited than allowed.
//!
//! No more of a compressed body is unpacked than is about to be read: a bomb costs its bound and no more.
//! Dropping this closes the upstream's socket. Status and headers were judged before.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use flate2::write::{MultiGzDecoder, ZlibDecoder};
use reqwest::Response;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE};
use tokio::time::{Instant, timeout_at};

use crate::failure::{Failure, Wait};

/// The largest answer that is read whole, in bytes: what a frame to the host holds, less its envelope.
pub(crate) const MOST_WHOLE: usize = (16 << 20) - (64 << 10);
/// How much of a compressed body is unpacked at a time: it holds a thousand times as much at most.
const PACKED: usize = 1 << 10;

/// A body that is being read.
#[derive(Debug)]
pub(crate) struct Reply {
    response: Response,
    coding: Coding,
    /// What of the packed body has come and is not unpacked.
    packed: Bytes,
    first_byte: Option<(Instant, Duration)>,
    idle: Duration,
}

#[derive(Debug)]
enum Coding {
    Plain,
    Gzip(MultiGzDecoder<Vec<u8>>),
    Deflate(ZlibDecoder<Vec<u8>>),
    /// The body is unpacked to its end.
    Ended,
}

impl Reply {
    /// The body of a response; its first byte must come before `first_byte`.
    pub(crate) fn new(
        response: Response,
        first_byte: Instant,
        first_byte_timeout: Duration,
        idle: Duration,
    ) -> Result<Self, Failure> {
        let codings: Vec<&[u8]> = response
            .headers()
            .get_all(CONTENT_ENCODING)
            .iter()
            .map(|value| value.as_bytes().trim_ascii())
            .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))
            .collect();
        let coding = match codings[..] {
            [] => Coding::Plain,
            [coding] if coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip") => {
                Coding::Gzip(MultiGzDecoder::new(Vec::new()))
            }
            [coding] if coding.eq_ignore_ascii_case(b"deflate") => {
                Coding::Deflate(ZlibDecoder::new(Vec::new()))
            }
            _ => {
                let codings = String::from_utf8_lossy(&codings.join(&b", "[..])).into_owned();
                return Err(Failure::Unreadable(format!(
                    "it is coded as `{codings}`, which nobody asked for"
                )));
            }
        };
        let first_byte = Some((first_byte, first_byte_timeout));
        Ok(Self { response, coding, packed: Bytes::new(), first_byte, idle })
    }

    /// The media type that it says it has, in lower case and without parameters.
    pub(crate) fn media_type(&self) -> String {
        let kinds = self.response.headers().get_all(CONTENT_TYPE);
        // Of two that differ the last one was added by what stands nearer.
        let kind = kinds.iter().next_back().and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    /// Refuses what is for people: the login wall that stands before some upstreams.
    pub(crate) fn refuse_page(&self) -> Result<(), Failure> {
        match self.media_type().as_str() {
            "text/html" => Err(Failure::Unreadable("it is a page: look at the `baseUrl`".to_owned())),
            _ => Ok(()),
        }
    }

    /// The next bytes; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            if !self.packed.is_empty() {
                let piece = self.packed.split_to(self.packed.len().min(PACKED));
                let unpacked = self.unpack(&piece)?;
                if unpacked.is_empty() {
                    continue;
                }
                return Ok(Some(unpacked));
            }
            match self.receive().await? {
                Some(bytes) if matches!(self.coding, Coding::Plain) => return Ok(Some(bytes)),
                Some(bytes) => self.packed = bytes,
                None => {
                    let rest = self.finish()?;
                    return Ok(Some(rest).filter(|rest| !rest.is_empty()));
                }
            }
        }
    }

    /// The whole body.
    pub(crate) async fn whole(mut self) -> Result<Vec<u8>, Failure> {
        self.refuse_page()?;
        let mut whole = Vec::new();
        while let Some(bytes) = self.next().await? {
            if whole.len() + bytes.len() > MOST_WHOLE {
                return Err(too_large());
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(whole)
    }

    /// As much of the body as an error message needs.
    pub(crate) async fn beginning(mut self) -> Vec<u8> {
        const ENOUGH: usize = 64 << 10;
        let mut beginning = Vec::new();
        while let Ok(Some(bytes)) = self.next().await {
            beginning.extend_from_slice(&bytes);
            if beginning.len() > ENOUGH {
                break;
            }
        }
        beginning
    }

    async fn receive(&mut self) -> Result<Option<Bytes>, Failure> {
        let (until, wait, within) = match self.first_byte {
            Some((until, within)) => (until, Wait::FirstByte, within),
            None => (Instant::now() + self.idle, Wait::NextByte, self.idle),
        };
        match timeout_at(until, self.response.chunk()).await {
            Ok(Ok(bytes)) => {
                self.first_byte = None;
                Ok(bytes)
            }
            Ok(Err(error)) => Err(Failure::of_body(&error)),
            Err(_) => Err(Failure::TimedOut(wait, within)),
        }
    }

    fn unpack(&mut self, piece: &[u8]) -> Result<Bytes, Failure> {
        let unpacked = match &mut self.coding {
            Coding::Gzip(decoder) => decoder.write_all(piece).map(|()| std::mem::take(decoder.get_mut())),
            Coding::Deflate(decoder) => {
                decoder.write_all(piece).map(|()| std::mem::take(decoder.get_mut()))
            }
            Coding::Plain | Coding::Ended => Ok(piece.to_vec()),
        };
        unpacked.map(Bytes::from).map_err(corrupt)
    }

    fn finish(&mut self) -> Result<Bytes, Failure> {
        let rest = match std::mem::replace(&mut self.coding, Coding::Ended) {
            Coding::Gzip(decoder) => decoder.finish(),
            Coding::Deflate(decoder) => decoder.finish(),
            Coding::Plain | Coding::Ended => Ok(Vec::new()),
        };
        rest.map(Bytes::from).map_err(corrupt)
    }
}

/// The answer does not fit into a frame.
pub(crate) fn too_large() -> Failure {
    let most = MOST_WHOLE >> 10;
    Failure::Unreadable(format!(
        "it has more than {most} KiB, which is too much for one piece: ask for a stream"
    ))
}

fn corrupt(error: std::io::Error) -> Failure {
    Failure::Unreadable(format!("it is compressed, and cannot be unpacked: {error}"))
}
