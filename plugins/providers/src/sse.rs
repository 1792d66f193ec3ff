//! Server-sent events out of bytes that come in any pieces, as the HTML standard reads them.
//!
//! Pure: no I/O. Lines end in LF, CR or both; a byte order mark, comments and unknown fields are left
//! out; several `data` lines are one text. Beyond the standard, an event that the end of the stream cuts
//! off is given out too ([`Events::end`]), since some upstreams forget the empty line, and a field `error`
//! counts as an event of that name. The invariant: no event and no line grows past its bound.

/// How large one event may be, in bytes.
pub(crate) const MOST: usize = 16 << 20;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its name; empty where it has none.
    pub(crate) name: String,
    /// Its data: lines joined with LF.
    pub(crate) data: Vec<u8>,
}

/// The event has more than [`MOST`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// Takes bytes and gives events.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// What has come and is not read yet.
    bytes: Vec<u8>,
    /// How much of it is read.
    read: usize,
    /// How much of the rest is known to hold no end of a line.
    searched: usize,
    /// The last line ended in CR: an LF that follows belongs to it.
    after_cr: bool,
    /// The first line was read.
    begun: bool,
    name: String,
    data: Option<Vec<u8>>,
}

impl Events {
    /// Takes the next bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.read);
        self.read = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next event that is whole.
    pub(crate) fn next(&mut self) -> Result<Option<Event>, TooLarge> {
        while let Some((start, end)) = self.line() {
            if let Some(event) = self.field(start, end) {
                return Ok(Some(event));
            }
            self.check()?;
        }
        self.check().map(|()| None)
    }

    /// What is left when no more bytes come: an event that lacks its empty line, if any.
    pub(crate) fn end(&mut self) -> Option<Event> {
        let (start, end) = (self.read, self.bytes.len());
        self.read = end;
        self.searched = 0;
        if start < end
            && let Some(event) = self.field(start, end)
        {
            return Some(event);
        }
        self.dispatch()
    }

    fn check(&self) -> Result<(), TooLarge> {
        let gathered = self.data.as_ref().map_or(0, Vec::len);
        if self.searched > MOST || gathered > MOST { Err(TooLarge) } else { Ok(()) }
    }

    /// Where the next line begins and ends.
    fn line(&mut self) -> Option<(usize, usize)> {
        if self.after_cr && self.bytes.get(self.read) == Some(&b'\n') {
            self.read += 1;
            self.after_cr = false;
        }
        if self.read < self.bytes.len() {
            self.after_cr = false;
        }
        let from = self.read + self.searched;
        let found = self.bytes[from..].iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let Some(found) = found else {
            self.searched = self.bytes.len() - self.read;
            return None;
        };
        let (start, end) = (self.read, from + found);
        self.after_cr = self.bytes[end] == b'\r';
        self.read = end + 1;
        self.searched = 0;
        Some((start, end))
    }

    /// Takes one line in; the event that it ends, if any.
    fn field(&mut self, start: usize, end: usize) -> Option<Event> {
        let mut line = &self.bytes[start..end];
        if !std::mem::replace(&mut self.begun, true) {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        if line.is_empty() {
            return self.dispatch();
        }
        let colon = line.iter().position(|&byte| byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match &line[..colon] {
            b"data" => append(&mut self.data, value),
            b"event" => self.name = String::from_utf8_lossy(value).into_owned(),
            b"error" => {
                append(&mut self.data, value);
                self.name = "error".to_owned();
            }
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Event> {
        let name = std::mem::take(&mut self.name);
        self.data.take().map(|data| Event { name, data })
    }
}

fn append(data: &mut Option<Vec<u8>>, value: &[u8]) {
    match data {
        Some(data) => {
            data.push(b'\n');
            data.extend_from_slice(value);
        }
        None => *data = Some(value.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events of a text that comes in pieces of that many bytes, and what its end gives.
    fn read(text: &[u8], size: usize) -> (Vec<(String, String)>, Option<String>) {
        let mut events = Events::default();
        let mut found = Vec::new();
        for piece in text.chunks(size) {
            events.push(piece);
            while let Some(event) = events.next().unwrap() {
                found.push((event.name, String::from_utf8(event.data).unwrap()));
            }
        }
        (found, events.end().map(|event| String::from_utf8(event.data).unwrap()))
    }

    #[test]
    fn events_are_the_same_however_they_are_cut() {
        let owned = |name: &str, data: &str| (name.to_owned(), data.to_owned());
        for (text, expected, rest) in [
            ("data: a\n\ndata: b\n\n", vec![owned("", "a"), owned("", "b")], None),
            ("data: a\r\n\r\ndata: b\r\n\r\n", vec![owned("", "a"), owned("", "b")], None),
            ("data: a\r\rdata: b\r\r", vec![owned("", "a"), owned("", "b")], None),
            ("data: a\r\n\ndata: b\n\r\n", vec![owned("", "a"), owned("", "b")], None),
            ("\u{feff}data: a\n\n", vec![owned("", "a")], None),
            ("data: \u{feff}a\n\n", vec![owned("", "\u{feff}a")], None),
            (": hello\n\n: again\ndata: a\n\n", vec![owned("", "a")], None),
            ("data:a\ndata:  b\ndata\n\n", vec![owned("", "a\n b\n")], None),
            ("event: ping\ndata: 1\n\ndata: 2\n\n", vec![owned("ping", "1"), owned("", "2")], None),
            ("event: nothing\n\ndata: 2\n\n", vec![owned("", "2")], None),
            ("id: 1\nretry: 5\nother: x\ndata: a\n\n", vec![owned("", "a")], None),
            ("data: Gr\u{fc}\u{df}e \u{1f3d4}\n\n", vec![owned("", "Gr\u{fc}\u{df}e \u{1f3d4}")], None),
            ("error: {}\n\n", vec![owned("error", "{}")], None),
            ("data:\n\n", vec![owned("", "")], None),
            ("data: a\n\ndata: b", vec![owned("", "a")], Some("b")),
            ("data: a\n\ndata: b\n", vec![owned("", "a")], Some("b")),
            ("data: a\r\n\r", vec![owned("", "a")], None),
            ("", vec![], None),
        ] {
            for size in 1..=text.len().max(1) {
                let found = read(text.as_bytes(), size);
                assert_eq!(found, (expected.clone(), rest.map(str::to_owned)), "{text:?} by {size}");
            }
        }
    }

    #[test]
    fn neither_a_line_nor_an_event_grows_without_bound() {
        let piece = vec![b'x'; 1 << 20];
        for start in [&b"data: "[..], b": comment "] {
            let mut events = Events::default();
            events.push(start);
            let pushed = (0..=MOST >> 20).take_while(|_| {
                events.push(&piece);
                events.next().is_ok()
            });
            assert_eq!(pushed.count(), (MOST >> 20) - 1, "{start:?}");
        }
        let mut events = Events::default();
        let line = [b"data: ".as_slice(), &piece, b"\n"].concat();
        let pushed = (0..=MOST >> 20).take_while(|_| {
            events.push(&line);
            events.next().is_ok()
        });
        assert_eq!(pushed.count(), (MOST >> 20) - 1);
    }
}
