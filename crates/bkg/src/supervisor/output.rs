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
            keep(&mut last_lines, line.text.trim());
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
    last_lines.iter().map(|line| printable(line, LAST_WORDS).0).collect()
}

/// Keeps a line as it is, and no more of it than can be shown: of a flood, all but the last are dropped
/// again, and what shows a line safely costs more than reading it.
fn keep(last_lines: &mut VecDeque<String>, line: &str) {
    let mut room =
        if last_lines.len() == LAST_LINES { last_lines.pop_front() } else { None }.unwrap_or_default();
    room.clear();
    room.push_str(&line[..line.floor_char_boundary(LAST_WORDS)]);
    last_lines.push_back(room);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::{LogSettings, Logs};

    async fn last_lines(output: &str) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let logs = Logs::open(directory.path(), LogSettings::default()).unwrap();
        let log = logs.plugin(&"a".parse().unwrap());
        drain(output.as_bytes(), LogStream::Stderr, log, InstanceId::new()).await
    }

    #[tokio::test]
    async fn the_last_lines_with_something_in_them_are_told_the_oldest_first() {
        let output: String = (0..50).map(|number| format!("  line {number} \n \n")).collect();
        let expected: Vec<String> = (30..50).map(|number| format!("line {number}")).collect();
        assert_eq!(last_lines(&output).await, expected);
    }

    #[tokio::test]
    async fn what_is_told_of_a_line_is_short_and_harmless() {
        let output = format!("\u{1b}[2J\n{}é\n{}", "x".repeat(499), "\u{1}".repeat(600));
        let told = last_lines(&output).await;
        assert_eq!(told, ["\\x1b[2J".to_owned(), "x".repeat(499), "\\x01".repeat(125)]);
    }
}
