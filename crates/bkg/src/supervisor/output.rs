//! What a process prints becomes log lines.
//!
//! Both pipes are read for as long as anyone holds them, however fast and whatever comes: a process
//! must never block because nobody reads. The log itself bounds what is kept.

use std::collections::VecDeque;

use bkg_protocol::InstanceId;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::logs::{LineSplitter, LogStream, NewLine, PluginLog, SplitLine, printable};

/// How much of each of the last lines is kept, in bytes.
const LAST_WORDS: usize = 500;
/// How many of the last lines are kept.
const LAST_LINES: usize = 20;

/// Reads a pipe to its end, and answers the last lines in which something stands, the oldest first.
pub(super) async fn drain(
    mut pipe: impl AsyncRead + Unpin,
    stream: LogStream,
    log: PluginLog,
    instance: InstanceId,
) -> Vec<String> {
    let mut splitter = LineSplitter::default();
    let mut buffer = vec![0; 16 << 10];
    let mut last_lines = VecDeque::with_capacity(LAST_LINES);
    let mut take = |line: SplitLine| {
        if !line.text.trim().is_empty() {
            last_lines.truncate(LAST_LINES - 1);
            last_lines.push_front(printable(line.text.trim(), LAST_WORDS).0);
        }
        log.append(NewLine::raw(stream, line).instance(instance));
    };
    loop {
        match pipe.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => splitter.push(&buffer[..count], &mut take),
        }
        // A flood must not keep the other tasks of this thread from their turn.
        tokio::task::yield_now().await;
    }
    splitter.finish(&mut take);
    last_lines.into_iter().rev().collect()
}
