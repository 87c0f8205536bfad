//! An incremental decoder of Server-Sent Events (WHATWG HTML, "Parsing an event stream").
//!
//! The decoder owns no bytes. It is shown a buffer that starts where the current event starts, and again with more
//! bytes behind when it has asked for more; it reads every byte once, however the stream is cut.

use std::borrow::Cow;
use std::ops::Range;

/// One event with the bytes it came in, as offsets into the buffer that was shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    /// Offset behind the blank line that ends the event.
    pub end: usize,
    /// The value of `event:`, empty if there was none.
    pub name: Range<usize>,
    /// The value of the first `data:` line; `None` if there was none: a comment, or a keep-alive.
    pub data: Option<Range<usize>>,
    /// The values of further `data:` lines.
    pub more_data: Vec<Range<usize>>,
    /// A line starts with `{`: raw JSON, which no event stream should hold.
    pub raw_json: bool,
}

impl Frame {
    /// The event's data: its lines joined by LF, borrowed where there is one only.
    #[must_use]
    pub fn data<'b>(&self, buffer: &'b [u8]) -> Option<Cow<'b, [u8]>> {
        let part = |range: &Range<usize>| buffer.get(range.clone()).unwrap_or_default();
        let first = part(self.data.as_ref()?);
        if self.more_data.is_empty() {
            return Some(Cow::Borrowed(first));
        }
        let mut joined = first.to_vec();
        for range in &self.more_data {
            joined.push(b'\n');
            joined.extend_from_slice(part(range));
        }
        Some(Cow::Owned(joined))
    }

    /// The event's type, empty if it did not name one.
    #[must_use]
    pub fn name<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        buffer.get(self.name.clone()).unwrap_or_default()
    }
}

/// The state between two looks at an event that is not whole yet.
#[derive(Debug, Default)]
pub struct Decoder {
    frame: Frame,
    /// How far the buffer has been searched for line ends.
    searched: usize,
    /// Where the current line starts.
    line: usize,
    /// No byte follows the buffer.
    closed: bool,
    /// The stream's first bytes have been looked at for a byte order mark.
    started: bool,
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl Decoder {
    /// Gives the first whole event of `buffer`, or `None` if more bytes are needed.
    ///
    /// After an event the next look starts at `buffer[frame.end..]`; after `None` at the same byte, with more behind.
    pub fn next_event(&mut self, buffer: &[u8]) -> Option<Frame> {
        if !self.started && !self.skip_byte_order_mark(buffer) {
            return None;
        }
        loop {
            let rest = buffer.get(self.searched..)?;
            let found = match rest {
                // A blank line: not worth a search.
                [b'\n' | b'\r', ..] => Some(0),
                _ => memchr::memchr2(b'\n', b'\r', rest),
            };
            let Some(found) = found else {
                self.searched = buffer.len();
                return None;
            };
            let end = self.searched + found;
            let terminator = match buffer.get(end..) {
                Some([b'\r', b'\n', ..]) => 2,
                // A CR at the very end may be half of a CRLF. To wait costs a stream whose lines end in CR alone one
                // event's delay; not to wait would make the events depend on how the stream is cut.
                Some([b'\r']) if !self.closed => {
                    self.searched = end;
                    return None;
                }
                _ => 1,
            };
            let blank = end == self.line;
            if !blank {
                self.read_line(buffer, self.line..end);
            }
            self.line = end + terminator;
            self.searched = self.line;
            if blank {
                return Some(self.take());
            }
        }
    }

    /// The stream has ended: a CR at the end of the buffer ends a line by itself.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Gives what is left when the stream has ended without a blank line; `None` if nothing is.
    pub fn finish(&mut self, buffer: &[u8]) -> Option<Frame> {
        if buffer.is_empty() {
            return None;
        }
        let tail = buffer.get(self.line..).unwrap_or_default();
        let length = tail.len() - usize::from(tail.ends_with(b"\r"));
        if length > 0 {
            self.read_line(buffer, self.line..self.line + length);
        }
        self.line = buffer.len();
        Some(self.take())
    }

    fn take(&mut self) -> Frame {
        let mut frame = std::mem::take(&mut self.frame);
        frame.end = self.line;
        self.line = 0;
        self.searched = 0;
        frame
    }

    /// Returns whether enough bytes were there to tell.
    fn skip_byte_order_mark(&mut self, buffer: &[u8]) -> bool {
        if buffer.starts_with(BYTE_ORDER_MARK) {
            self.line = BYTE_ORDER_MARK.len();
            self.searched = self.line;
        } else if BYTE_ORDER_MARK.starts_with(buffer) {
            return false;
        }
        self.started = true;
        true
    }

    fn read_line(&mut self, buffer: &[u8], line: Range<usize>) {
        let text = buffer.get(line.clone()).unwrap_or_default();
        let value = |field: usize| {
            let space = text.get(field + 1) == Some(&b' ');
            line.start + (field + 1 + usize::from(space)).min(text.len())..line.end
        };
        match text {
            [b'd', b'a', b't', b'a', b':', ..] | b"data" => self.add_data(value(4)),
            [b'e', b'v', b'e', b'n', b't', b':', ..] | b"event" => self.frame.name = value(5),
            [b'{', ..] => self.frame.raw_json = true,
            _ => {}
        }
    }

    fn add_data(&mut self, value: Range<usize>) {
        if self.frame.data.is_none() {
            self.frame.data = Some(value);
        } else {
            self.frame.more_data.push(value);
        }
    }
}

#[cfg(test)]
mod tests;
