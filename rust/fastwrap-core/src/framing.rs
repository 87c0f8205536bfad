//! How the events of a stream are told apart.

use crate::sse::{self, Frame};

/// The form of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Server-Sent Events.
    Events,
    /// A JSON text a line: NDJSON.
    Lines,
}

/// Finds one event after the other; as [`sse::Decoder`] does.
#[derive(Debug)]
pub(crate) enum Decoder {
    Events(sse::Decoder),
    Lines {
        /// How far the buffer has been searched for a line's end.
        searched: usize,
    },
}

impl Decoder {
    pub(crate) fn new(framing: Framing) -> Self {
        match framing {
            Framing::Events => Self::Events(sse::Decoder::default()),
            Framing::Lines => Self::Lines { searched: 0 },
        }
    }

    /// The first whole event of `buffer`, or `None` if more bytes are needed.
    pub(crate) fn next_event(&mut self, buffer: &[u8]) -> Option<Frame> {
        match self {
            Self::Events(decoder) => decoder.next_event(buffer),
            Self::Lines { searched } => {
                let rest = buffer.get(*searched..)?;
                let Some(found) = memchr::memchr(b'\n', rest) else {
                    *searched = buffer.len();
                    return None;
                };
                let end = std::mem::take(searched) + found;
                Some(line(buffer.get(..end)?, end + 1))
            }
        }
    }

    /// The stream has ended.
    pub(crate) fn close(&mut self) {
        if let Self::Events(decoder) = self {
            decoder.close();
        }
    }

    /// What is left when the stream has ended; `None` if nothing is.
    pub(crate) fn finish(&mut self, buffer: &[u8]) -> Option<Frame> {
        match self {
            Self::Events(decoder) => decoder.finish(buffer),
            Self::Lines { .. } => (!buffer.is_empty()).then(|| line(buffer, buffer.len())),
        }
    }
}

fn line(text: &[u8], end: usize) -> Frame {
    let length = text.trim_ascii_end().len();
    Frame { end, data: (length > 0).then_some(0..length), ..Frame::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let mut decoder = Decoder::new(Framing::Lines);
        let (mut buffer, mut found) = (Vec::new(), Vec::new());
        let mut take = |frame: Frame, buffer: &[u8]| {
            found.push(String::from_utf8(frame.data(buffer).unwrap_or_default().into()).unwrap());
        };
        for piece in pieces {
            buffer.extend_from_slice(piece);
            while let Some(frame) = decoder.next_event(&buffer) {
                let end = frame.end;
                take(frame, &buffer);
                buffer.drain(..end);
            }
        }
        if let Some(frame) = decoder.finish(&buffer) {
            take(frame, &buffer);
        }
        found
    }

    #[test]
    fn lines_are_the_same_however_they_are_cut() {
        let text = b"{\"a\":1}\r\n\n{\"b\":\"\xc3\xa9\"} \n{\"c\":3}";
        let wanted = [r#"{"a":1}"#, "", r#"{"b":"é"}"#, r#"{"c":3}"#];
        assert_eq!(lines(&[text]), wanted);
        assert_eq!(lines(&text.chunks(1).collect::<Vec<_>>()), wanted);
        for at in 0..text.len() {
            assert_eq!(lines(&[&text[..at], &text[at..]]), wanted, "cut at {at}");
        }
    }
}
