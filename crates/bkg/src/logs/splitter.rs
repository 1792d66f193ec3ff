//! Cuts the output of a process into lines.
//!
//! It holds at most [`MAX_MESSAGE_BYTES`] of a line, however long the line is, and takes any bytes:
//! what is not UTF-8 becomes replacement characters. Not a judge of what the text means, and no I/O.

use super::line::MAX_MESSAGE_BYTES;

/// Puts pieces of output together to lines.
#[derive(Debug, Default)]
pub struct LineSplitter {
    /// The beginning of the present line.
    held: Vec<u8>,
    /// How many bytes of the present line came after what is held.
    left_out: u64,
}

/// One line of output, without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitLine {
    /// The text.
    pub text: String,
    /// How many bytes at its end were left out because it was too long.
    pub left_out: u64,
}

impl SplitLine {
    /// A whole line.
    pub fn of(text: impl Into<String>) -> Self {
        Self { text: text.into(), left_out: 0 }
    }
}

impl LineSplitter {
    /// Takes the next piece and hands every line that it completes to `emit`.
    pub fn push(&mut self, mut bytes: &[u8], mut emit: impl FnMut(SplitLine)) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            if self.is_empty() && line.len() <= MAX_MESSAGE_BYTES {
                emit(split_line(line, 0));
            } else {
                self.hold(line);
                self.emit_held(&mut emit);
            }
            bytes = rest;
        }
        self.hold(bytes);
    }

    /// The output has ended: hands a last line without an end to `emit`.
    pub fn finish(&mut self, emit: impl FnMut(SplitLine)) {
        if !self.is_empty() {
            self.emit_held(emit);
        }
    }

    fn is_empty(&self) -> bool {
        self.held.is_empty() && self.left_out == 0
    }

    fn hold(&mut self, bytes: &[u8]) {
        let room = MAX_MESSAGE_BYTES - self.held.len();
        let (kept, rest) = bytes.split_at(room.min(bytes.len()));
        self.held.extend_from_slice(kept);
        self.left_out += rest.len() as u64;
    }

    fn emit_held(&mut self, mut emit: impl FnMut(SplitLine)) {
        emit(split_line(&self.held, self.left_out));
        // The memory goes too: most output has no long lines, and there are two of these a process.
        *self = Self::default();
    }
}

fn split_line(mut bytes: &[u8], mut left_out: u64) -> SplitLine {
    if left_out == 0 {
        bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    } else if let Some(tail) = bytes.utf8_chunks().last()
        && let cut_character = tail.invalid().len()
        && bytes.len() > cut_character
        && std::str::from_utf8(tail.invalid()).is_err_and(|error| error.error_len().is_none())
    {
        // The cut went through a character.
        bytes = &bytes[..bytes.len() - cut_character];
        left_out += cut_character as u64;
    }
    SplitLine { text: String::from_utf8_lossy(bytes).into_owned(), left_out }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<SplitLine> {
        let (mut splitter, mut lines) = (LineSplitter::default(), Vec::new());
        for piece in pieces {
            splitter.push(piece, |line| lines.push(line));
            assert!(splitter.held.len() <= MAX_MESSAGE_BYTES);
        }
        splitter.finish(|line| lines.push(line));
        splitter.finish(|line| lines.push(line));
        lines
    }

    fn texts<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        split(pieces).into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn lines_end_with_either_line_end_or_with_the_output() {
        assert_eq!(texts([&b"a\nb\r\n\nc"[..]]), ["a", "b", "", "c"]);
        assert_eq!(texts([&b"a"[..], b"b\nc", b"", b"\r", b"\n"]), ["ab", "c"]);
        assert_eq!(texts([&b"1%\r2%\r\n"[..]]), ["1%\r2%"]);
        assert!(texts([]).is_empty());
    }

    #[test]
    fn what_is_not_utf8_is_replaced() {
        assert_eq!(texts([&b"a\xff\xfeb\n\x80"[..]]), ["a\u{fffd}\u{fffd}b", "\u{fffd}"]);
        let split_character = "ü\n".as_bytes();
        assert_eq!(texts([&split_character[..1], &split_character[1..]]), ["ü"]);
    }

    #[test]
    fn a_line_of_64_mib_costs_64_kib_and_the_next_one_is_whole() {
        let piece = [b'x'; 64 << 10];
        let pieces = std::iter::repeat_n(&piece[..], 1024).chain([&b"\nnext\n"[..]]);
        let lines = split(pieces);
        assert_eq!(lines.len(), 2);
        assert_eq!((lines[0].text.len(), lines[0].left_out), (MAX_MESSAGE_BYTES, (64 << 20) - (64 << 10)));
        assert_eq!(lines[1], SplitLine::of("next"));
    }

    #[test]
    fn the_cut_does_not_break_a_character() {
        let mut line = vec![b'x'; MAX_MESSAGE_BYTES - 1];
        line.extend("üü\n".as_bytes());
        let lines = split([&line[..]]);
        assert_eq!((lines[0].text.len(), lines[0].left_out), (MAX_MESSAGE_BYTES - 1, 4));
        let binary = vec![0xffu8; MAX_MESSAGE_BYTES + 3];
        assert_eq!(split([&binary[..]])[0].left_out, 3);
    }

    proptest! {
        #[test]
        fn how_the_output_is_cut_into_pieces_changes_nothing(
            bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..200),
            size in 1usize..20,
        ) {
            prop_assert_eq!(split(bytes.chunks(size)), split([&bytes[..]]));
        }
    }
}
