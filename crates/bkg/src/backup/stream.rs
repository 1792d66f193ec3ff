//! A backup that is staged, on its way to whoever wanted it.
//!
//! Not how it is put together. The invariant: what is sent is as long as was said, or it breaks off; a
//! reader that takes nothing for a minute is given up, and nothing is left staged afterwards.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::archive;
use super::manifest::Manifest;
use super::staging::Staging;

/// How many bytes travel at once.
const PIECE: usize = 256 << 10;
/// How many pieces may wait; then the disk is not read on.
const PIECES: usize = 4;
/// How long a reader may take nothing.
const STALLS: Duration = Duration::from_secs(60);

/// A backup that can be sent.
#[derive(Debug)]
pub struct Ready {
    /// What is in it.
    pub manifest: Manifest,
    staging: Arc<Staging>,
    turn: OwnedSemaphorePermit,
}

impl Ready {
    pub(super) fn new(manifest: Manifest, staging: Arc<Staging>, turn: OwnedSemaphorePermit) -> Self {
        Self { manifest, staging, turn }
    }

    /// How many bytes the archive has.
    pub fn length(&self) -> u64 {
        archive::length(&self.manifest)
    }

    /// The archive, piece by piece. A stream that ends with an error is no archive.
    pub fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let (pieces, taken) = mpsc::channel(PIECES);
        let runtime = Handle::current();
        spawn_blocking(move || {
            let Self { manifest, staging, turn } = self;
            let sender =
                Sender { pieces: pieces.clone(), buffer: BytesMut::new(), runtime: runtime.clone() };
            let open = |file: &super::FileOf| File::open(staging.path(&file.path));
            let sent = archive::write(sender, &manifest, open).and_then(|mut sender| sender.flush());
            if let Err(error) = sent {
                // Who has left hears nothing, and who stalls has been given up.
                let _ = runtime.block_on(timeout(STALLS, pieces.send(Err(error))));
            }
            drop((staging, turn));
        });
        stream::unfold(taken, async |mut taken| taken.recv().await.map(|piece| (piece, taken)))
    }
}

/// Hands what is written to whoever takes it.
struct Sender {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    buffer: BytesMut,
    runtime: Handle,
}

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = self.buffer.split().freeze();
        match self.runtime.block_on(timeout(STALLS, self.pieces.send(Ok(piece)))) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}
