//! Reads one answer as it arrives, and judges it.

use std::fmt;

use fastwrap_core::sse::{Decoder, Frame};

use crate::digest::Digest;
use crate::settings::{Check, Mode};

/// Why an answer does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    /// There was no connection.
    Connect,
    /// The connection ended before the answer did.
    Closed,
    /// The slice had long ended.
    Timeout,
    /// The status was not 200.
    Status(u16),
    /// It was no JSON object, or an event was none.
    Malformed,
    /// The engine reported an error in it.
    Error,
    /// The stream ended without the `[DONE]` that the baseline sends.
    NoEnd,
    /// It said something else than the baseline.
    Content,
    /// Its text came in more events, or fewer, than the baseline's.
    Events,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status_{status}"),
            Self::Connect => f.write_str("connect"),
            Self::Closed => f.write_str("closed"),
            Self::Timeout => f.write_str("timeout"),
            Self::Malformed => f.write_str("malformed"),
            Self::Error => f.write_str("error_answer"),
            Self::NoEnd => f.write_str("no_done"),
            Self::Content => f.write_str("wrong_content"),
            Self::Events => f.write_str("wrong_events"),
        }
    }
}

/// What is compared between answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Of its texts.
    pub(crate) digest: u64,
    /// Events with text in them.
    pub(crate) chunks: u64,
    /// Whether the stream ended with `[DONE]`.
    pub(crate) done: bool,
}

impl Answer {
    /// Compares an answer with the one that is `expected`.
    pub(crate) fn verify(&self, expected: &Self, check: Check) -> Result<(), Failure> {
        if self.done != expected.done {
            return Err(Failure::NoEnd);
        }
        if check >= Check::Content && self.digest != expected.digest {
            return Err(Failure::Content);
        }
        if check >= Check::Events && self.chunks != expected.chunks {
            return Err(Failure::Events);
        }
        Ok(())
    }
}

/// Reads one answer after another.
pub(crate) struct Reader {
    mode: Mode,
    pub(crate) digest: Digest,
    decoder: Decoder,
    /// What has not been read yet: an event that is not whole, or a JSON answer.
    rest: Vec<u8>,
    done: bool,
    malformed: bool,
    /// When each event with text arrived.
    pub(crate) arrivals_ns: Vec<u64>,
    /// When each stamped event was sent, and when it arrived.
    pub(crate) transits_ns: Vec<(u64, u64)>,
}

impl Reader {
    pub(crate) fn new(mode: Mode) -> Self {
        Self {
            mode,
            digest: Digest::default(),
            decoder: Decoder::default(),
            rest: Vec::new(),
            done: false,
            malformed: false,
            arrivals_ns: Vec::new(),
            transits_ns: Vec::new(),
        }
    }

    /// Begins with the next answer.
    pub(crate) fn clear(&mut self) {
        self.digest.clear();
        self.decoder = Decoder::default();
        self.rest.clear();
        self.arrivals_ns.clear();
        self.transits_ns.clear();
        self.done = false;
        self.malformed = false;
    }

    /// Takes what arrived at `at_ns`.
    pub(crate) fn push(&mut self, bytes: &[u8], at_ns: u64) {
        if self.mode == Mode::Json {
            self.rest.extend_from_slice(bytes);
        } else if self.rest.is_empty() {
            // As a rule an event arrives whole: read where it lies.
            let used = self.read_events(bytes, at_ns);
            self.rest.extend_from_slice(bytes.get(used..).unwrap_or_default());
        } else {
            let mut buffer = std::mem::take(&mut self.rest);
            buffer.extend_from_slice(bytes);
            let used = self.read_events(&buffer, at_ns);
            buffer.drain(..used);
            self.rest = buffer;
        }
    }

    /// Returns what is compared, or why the answer is none.
    pub(crate) fn finish(&mut self, status: u16, at_ns: u64) -> Result<Answer, Failure> {
        if status != 200 {
            return Err(Failure::Status(status));
        }
        let mut rest = std::mem::take(&mut self.rest);
        match self.mode {
            Mode::Json => self.malformed |= self.digest.read(&rest).is_err(),
            Mode::Sse => {
                self.decoder.close();
                let used = self.read_events(&rest, at_ns);
                let tail = rest.get(used..).unwrap_or_default();
                if let Some(frame) = self.decoder.finish(tail) {
                    self.read_event(&frame, tail, at_ns);
                }
            }
        }
        rest.clear();
        self.rest = rest;
        if self.malformed {
            return Err(Failure::Malformed);
        }
        if self.digest.error {
            return Err(Failure::Error);
        }
        let chunks = self.arrivals_ns.len() as u64;
        Ok(Answer { digest: self.digest.value(), chunks, done: self.done })
    }

    /// Returns how many bytes whole events took.
    fn read_events(&mut self, buffer: &[u8], at_ns: u64) -> usize {
        let mut start = 0;
        while let Some(frame) = self.decoder.next_event(buffer.get(start..).unwrap_or_default()) {
            self.read_event(&frame, buffer.get(start..).unwrap_or_default(), at_ns);
            start += frame.end;
        }
        start
    }

    fn read_event(&mut self, frame: &Frame, buffer: &[u8], at_ns: u64) {
        self.malformed |= frame.raw_json;
        let Some(data) = frame.data(buffer) else { return };
        if data.as_ref() == b"[DONE]" {
            self.done = true;
            return;
        }
        match self.digest.read(&data) {
            Ok(true) => self.arrivals_ns.push(at_ns),
            Ok(false) => {}
            Err(_) => self.malformed = true,
        }
        self.transits_ns.extend(self.digest.sent_ns.map(|sent_ns| (sent_ns, at_ns)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = concat!(
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
        ": keep-alive\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"one\"}}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" two\"}}]}\r\n\r\n",
        "data: {\"choices\":[],\"usage\":{\"total_tokens\":2}}\n\n",
        "data: [DONE]\n\n",
    );

    fn read(pieces: &[&[u8]]) -> (Result<Answer, Failure>, Vec<u64>) {
        let mut reader = Reader::new(Mode::Sse);
        for (at_ns, piece) in (1..).zip(pieces) {
            reader.push(piece, at_ns);
        }
        (reader.finish(200, 99), reader.arrivals_ns)
    }

    #[test]
    fn a_stream_is_the_same_wherever_it_is_cut() {
        let (whole, arrivals) = read(&[STREAM.as_bytes()]);
        let whole = whole.unwrap();
        assert_eq!((whole.chunks, whole.done, arrivals), (2, true, vec![1, 1]));
        for cut in 0..STREAM.len() {
            let (start, end) = STREAM.as_bytes().split_at(cut);
            assert_eq!(read(&[start, end]).0.unwrap(), whole, "{cut}");
        }
        let bytes: Vec<&[u8]> = STREAM.as_bytes().chunks(1).collect();
        let (answer, arrivals) = read(&bytes);
        assert_eq!(answer.unwrap(), whole);
        // At the last byte of its blank line.
        let second = STREAM.find("two").unwrap() + "two\"}}]}\r\n\r\n".len();
        assert_eq!(arrivals[1], second as u64);
    }

    #[test]
    fn what_is_no_right_answer_is_named() {
        let of = |text: &str| read(&[text.as_bytes()]).0;
        assert_eq!(of("data: {\n\n"), Err(Failure::Malformed));
        assert_eq!(of("{\"choices\":[]}"), Err(Failure::Malformed));
        assert_eq!(of("data: {\"error\":{\"message\":\"no\"}}\n\n"), Err(Failure::Error));
        assert_eq!(Reader::new(Mode::Sse).finish(503, 0), Err(Failure::Status(503)));
        assert_eq!(Reader::new(Mode::Json).finish(200, 0), Err(Failure::Malformed));
        let right = of(STREAM).unwrap();
        let compared = |text: &str, check| of(text).unwrap().verify(&right, check);
        let merged = STREAM.replace("one", "one two").replace("\" two\"", "\"\"");
        assert_eq!(compared(&merged, Check::Events), Err(Failure::Events));
        assert_eq!(compared(&merged, Check::Content), Ok(()));
        let other = STREAM.replace("one", "two");
        assert_eq!(compared(&other, Check::Events), Err(Failure::Content));
        assert_eq!(compared(&other, Check::Status), Ok(()));
        let endless = STREAM.replace("data: [DONE]\n\n", "");
        assert_eq!(compared(&endless, Check::Status), Err(Failure::NoEnd));
    }

    #[test]
    fn a_reader_forgets() {
        let mut reader = Reader::new(Mode::Sse);
        reader.push(b"data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\ndata: {\"er", 1);
        reader.clear();
        reader.push(STREAM.as_bytes(), 2);
        assert_eq!(reader.finish(200, 3), read(&[STREAM.as_bytes()]).0);
    }
}
