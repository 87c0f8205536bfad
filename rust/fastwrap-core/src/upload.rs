//! A request's body that is too large to wait for: it is read, and asked for usage, while it passes.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use crate::hooks::model_name;
use crate::json::{Scanner, is_key, plain_bytes};
use crate::request::{Facts, USAGE_MEMBER};

/// Longest key, or value of a member that is looked at, in bytes.
const MAX_TEXT: usize = 64 << 10;

/// Members that are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    Stream,
    Choices,
    StreamOptions,
    Model,
}

/// What the bytes at hand belong to, and whether they are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Key,
    Value(Member),
    Other,
}

/// Reads a body piece by piece. It does not check that the body is JSON: the engine does.
#[derive(Debug)]
pub struct Reader {
    ask: bool,
    facts: Facts,
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// Directly inside the outermost object, the next string is a key.
    expects_key: bool,
    part: Part,
    /// The key or value that is being read.
    text: Vec<u8>,
    has_members: bool,
    has_options: bool,
    /// All since the value of `stream_options`, while it is not known whether to change it.
    held: Option<Vec<u8>>,
    over: bool,
}

impl Reader {
    /// Starts before the first byte. `ask` says whether the engine is to be asked for usage, if the client streams.
    #[must_use]
    pub fn new(ask: bool) -> Self {
        Self {
            ask,
            facts: Facts::new(),
            depth: 0,
            in_string: false,
            escaped: false,
            expects_key: false,
            part: Part::Other,
            text: Vec::new(),
            has_members: false,
            has_options: false,
            held: None,
            over: false,
        }
    }

    /// What has been seen so far.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Takes a piece; puts into `out` what the engine is to get.
    pub fn data(&mut self, chunk: &Bytes, out: &mut Vec<Bytes>) {
        let mut piece = Piece { chunk, sent: 0 };
        let mut at = 0;
        while let Some(byte) = chunk.get(at).filter(|_| !self.over) {
            if self.in_string {
                at += self.string(chunk.get(at..).unwrap_or_default());
            } else {
                self.structure(*byte, at, &mut piece, out);
                at += 1;
            }
            if self.text.len() > MAX_TEXT {
                self.part = Part::Other;
                self.text = Vec::new();
                piece.send(at, &mut self.held, out);
                self.release(out);
            }
        }
        piece.send(chunk.len(), &mut self.held, out);
    }

    /// The body has ended.
    pub fn finish(&mut self, out: &mut Vec<Bytes>) {
        self.release(out);
    }

    /// Reads on inside a string; returns how far.
    fn string(&mut self, rest: &[u8]) -> usize {
        let escaped = std::mem::take(&mut self.escaped);
        let plain = if escaped { 0 } else { plain_bytes(rest).0 };
        let Some(byte) = rest.get(plain) else {
            self.keep(rest);
            return rest.len();
        };
        self.escaped = *byte == b'\\' && !escaped;
        self.in_string = *byte != b'"' || escaped;
        let is_key_end = self.part == Part::Key && !self.in_string;
        self.expects_key &= !is_key_end;
        // A key is kept without its quotes, a value with them.
        let kept = plain + usize::from(!is_key_end);
        self.keep(rest.get(..kept).unwrap_or_default());
        plain + 1
    }

    fn structure(&mut self, byte: u8, at: usize, piece: &mut Piece<'_>, out: &mut Vec<Bytes>) {
        let outermost = self.depth == 1;
        match byte {
            b'"' => {
                self.in_string = true;
                if outermost && self.expects_key {
                    self.part = Part::Key;
                    self.text.clear();
                    return;
                }
            }
            b'{' | b'[' => {
                self.depth += 1;
                if self.depth == 1 {
                    self.expects_key = true;
                    self.over = byte == b'[';
                }
            }
            b':' if outermost && self.part == Part::Key => {
                return self.value_starts(at, piece, out);
            }
            b',' if outermost => {
                self.value_ends(at, piece, out);
                self.expects_key = true;
            }
            b'}' | b']' => {
                if outermost {
                    self.value_ends(at, piece, out);
                    self.end(at, piece, out);
                }
                self.depth = self.depth.saturating_sub(1);
                self.over |= self.depth == 0;
            }
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => self.over = self.depth == 0,
        }
        if self.part != Part::Key {
            self.keep(&[byte]);
        }
    }

    fn keep(&mut self, text: &[u8]) {
        if self.part != Part::Other {
            self.text.extend_from_slice(text);
        }
    }

    fn value_starts(&mut self, at: usize, piece: &mut Piece<'_>, out: &mut Vec<Bytes>) {
        self.has_members = true;
        self.part = [
            ("stream", Member::Stream),
            ("n", Member::Choices),
            ("stream_options", Member::StreamOptions),
            ("model", Member::Model),
        ]
        .into_iter()
        .find(|(name, _)| is_key(&self.text, name))
        .map_or(Part::Other, |(_, member)| Part::Value(member));
        self.text.clear();
        let is_options = self.part == Part::Value(Member::StreamOptions);
        self.has_options |= is_options;
        if self.ask && is_options {
            piece.send(at + 1, &mut self.held, out);
            // Of double keys the last one counts: the one before goes as it is.
            self.release(out);
            self.held = Some(Vec::new());
        }
    }

    fn value_ends(&mut self, at: usize, piece: &mut Piece<'_>, out: &mut Vec<Bytes>) {
        let Part::Value(member) = std::mem::replace(&mut self.part, Part::Other) else {
            return;
        };
        let mut scanner = Scanner::new(&self.text);
        match member {
            Member::Stream => self.facts.stream = self.text.trim_ascii() == b"true",
            Member::Choices => {
                self.facts.choices = scanner.integer().ok().flatten().unwrap_or(1);
            }
            Member::StreamOptions => {
                self.facts.read_options(&mut scanner);
                piece.send(at, &mut self.held, out);
            }
            Member::Model => self.facts.model = model_name(&self.text),
        }
        let settled = self.facts.stream || !self.facts.has_edit();
        if self.held.is_some() && !matches!(member, Member::Choices | Member::Model) && settled {
            piece.send(at, &mut self.held, out);
            if let Some(held) = self.held.take() {
                out.push(self.facts.ask_for_usage(held.into()));
            }
        }
    }

    /// The outermost object ends at `at`.
    fn end(&mut self, at: usize, piece: &mut Piece<'_>, out: &mut Vec<Bytes>) {
        piece.send(at, &mut self.held, out);
        self.release(out);
        if self.ask && self.facts.stream && !self.has_options {
            out.push(Bytes::from_static(if self.has_members { b"," } else { b"" }));
            out.push(Bytes::from_static(USAGE_MEMBER));
            self.facts.set_asked();
        }
    }

    fn release(&mut self, out: &mut Vec<Bytes>) {
        out.extend(self.held.take().map(Bytes::from));
    }
}

/// A piece of the body, and how far it has been handed on.
struct Piece<'a> {
    chunk: &'a Bytes,
    sent: usize,
}

impl Piece<'_> {
    /// Hands on what lies before `end`: to the engine, or to what is held.
    fn send(&mut self, end: usize, held: &mut Option<Vec<u8>>, out: &mut Vec<Bytes>) {
        if self.sent >= end {
            return;
        }
        match held {
            Some(held) => {
                held.extend_from_slice(self.chunk.get(self.sent..end).unwrap_or_default())
            }
            None => out.push(self.chunk.slice(self.sent..end)),
        }
        self.sent = end;
    }
}

/// A reader that whoever passes the body on shares with the exchange.
#[derive(Debug)]
pub struct SharedReader(Mutex<(Reader, Option<u64>)>);

impl SharedReader {
    pub(crate) fn new(ask: bool) -> Self {
        Self(Mutex::new((Reader::new(ask), None)))
    }

    /// A piece has arrived; puts into `out` what the engine is to get.
    pub fn data(&self, chunk: &Bytes, out: &mut Vec<Bytes>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.data(chunk, out);
    }

    /// The last piece has arrived.
    pub fn finish(&self, now_ns: u64, out: &mut Vec<Bytes>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.0.finish(out);
        state.1 = Some(now_ns);
    }

    /// What is known, and when the last piece arrived, if it has.
    pub(crate) fn known(&self) -> (Facts, Option<u64>) {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (state.0.facts.clone(), state.1)
    }
}

#[cfg(test)]
mod tests;
