//! What a process prints becomes log lines.
//!
//! Both pipes are read for as long as anyone holds them, however fast and whatever comes: a process
//! must never block because nobody reads. The log itself bounds what is kept.

use bkg_protocol::InstanceId;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::logs::{LineSplitter, LogStream, NewLine, PluginLog};

/// Reads a pipe to its end.
pub(super) async fn drain(
    mut pipe: impl AsyncRead + Unpin,
    stream: LogStream,
    log: PluginLog,
    instance: InstanceId,
) {
    let mut splitter = LineSplitter::default();
    let mut buffer = vec![0; 16 << 10];
    loop {
        match pipe.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => splitter.push(&buffer[..count], |line| {
                log.append(NewLine::raw(stream, line).instance(instance));
            }),
        }
        // A flood must not keep the other tasks of this thread from their turn.
        tokio::task::yield_now().await;
    }
    splitter.finish(|line| log.append(NewLine::raw(stream, line).instance(instance)));
}
