//! A validating pull scanner: walks JSON text (RFC 8259) without building a tree and without allocating.
//!
//! Strings are handed out raw, between their quotes, escapes untouched. UTF-8 is not checked here: whoever is about
//! to change a text that is not ASCII checks it once, as a whole.

mod words;

use std::borrow::Cow;

pub(crate) use self::words::plain_bytes;
use self::words::{is_ascii, leading_digits};

/// Deepest nesting that is followed; what lies deeper is refused, so that hostile input cannot cost more.
pub const MAX_DEPTH: usize = 1024;

/// The text is not JSON, or nested deeper than [`MAX_DEPTH`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyntaxError {
    /// Offset of the byte that does not fit.
    pub offset: usize,
}

/// What a value is, told by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `{…}`
    Object,
    /// `[…]`
    Array,
    /// `"…"`
    String,
    /// A number.
    Number,
    /// `true`
    True,
    /// `false`
    False,
    /// `null`
    Null,
}

type Result<T> = std::result::Result<T, SyntaxError>;

/// A cursor in a JSON text.
#[derive(Debug, Clone)]
pub struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Just behind `{` or `[`: the next member has no comma before it.
    fresh: bool,
    /// The strings' bytes, one upon the other.
    seen: u64,
}

impl<'a> Scanner<'a> {
    /// Starts before the first byte of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, fresh: false, seen: 0 }
    }

    /// Offset of the next byte to be read.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.at
    }

    /// Whether all that has been read is ASCII. It may say no because of what comes next.
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        is_ascii(self.seen)
    }

    fn error<T>(&self) -> Result<T> {
        Err(SyntaxError { offset: self.at })
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    fn next_token(&mut self) -> Option<u8> {
        match self.peek() {
            // Engines write no white space: this is how nearly all of it is read.
            Some(byte) if byte > b' ' => Some(byte),
            _ => self.skip_space(),
        }
    }

    #[cold]
    fn skip_space(&mut self) -> Option<u8> {
        while let Some(byte) = self.peek() {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    #[inline]
    fn expect(&mut self, wanted: u8) -> Result<()> {
        if self.next_token() == Some(wanted) {
            self.at += 1;
            return Ok(());
        }
        self.error()
    }

    /// Tells what the next value is, without moving past it.
    ///
    /// # Errors
    /// If no value starts here.
    #[inline]
    pub fn kind(&mut self) -> Result<Kind> {
        match self.next_token() {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'"') => Ok(Kind::String),
            Some(b't') => Ok(Kind::True),
            Some(b'f') => Ok(Kind::False),
            Some(b'n') => Ok(Kind::Null),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            _ => self.error(),
        }
    }

    /// Moves behind the `{` of an object.
    ///
    /// # Errors
    /// If no object starts here.
    #[inline]
    pub fn enter_object(&mut self) -> Result<()> {
        self.expect(b'{')?;
        self.fresh = true;
        Ok(())
    }

    /// Moves behind the `[` of an array.
    ///
    /// # Errors
    /// If no array starts here.
    pub fn enter_array(&mut self) -> Result<()> {
        self.expect(b'[')?;
        self.fresh = true;
        Ok(())
    }

    /// Moves to the value of the next member and gives its raw key, or moves behind the `}`.
    ///
    /// # Errors
    /// If neither a member nor the end of the object stands here.
    #[inline]
    pub fn next_key(&mut self) -> Result<Option<&'a [u8]>> {
        if !self.more(b'}')? {
            return Ok(None);
        }
        let key = self.string()?;
        self.expect(b':')?;
        Ok(Some(key))
    }

    /// Moves to the next item of an array, or behind the `]`.
    ///
    /// # Errors
    /// If neither an item nor the end of the array stands here.
    #[inline]
    pub fn next_item(&mut self) -> Result<bool> {
        self.more(b']')
    }

    #[inline]
    fn more(&mut self, close: u8) -> Result<bool> {
        let fresh = std::mem::take(&mut self.fresh);
        match self.next_token() {
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            Some(b',') if !fresh => {
                self.at += 1;
                Ok(true)
            }
            Some(_) if fresh => Ok(true),
            _ => self.error(),
        }
    }

    /// Reads a string and gives what stands between its quotes, raw.
    ///
    /// # Errors
    /// If no well-formed string starts here.
    #[inline]
    pub fn string(&mut self) -> Result<&'a [u8]> {
        self.expect(b'"')?;
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let (plain, seen) = plain_bytes(rest);
        self.seen |= seen;
        if rest.get(plain) == Some(&b'"') {
            self.at += plain + 1;
            return Ok(rest.get(..plain).unwrap_or_default());
        }
        self.string_with_escapes(plain)
    }

    /// Reads on from the first byte that is not plain, `plain` bytes behind the quote.
    #[inline(never)]
    fn string_with_escapes(&mut self, plain: usize) -> Result<&'a [u8]> {
        let start = self.at;
        self.at += plain;
        loop {
            match self.peek() {
                Some(b'"') => {
                    let text = self.bytes.get(start..self.at).unwrap_or_default();
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => self.escape()?,
                _ => return self.error(),
            }
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let (plain, seen) = plain_bytes(rest);
            self.at += plain;
            self.seen |= seen;
        }
    }

    fn escape(&mut self) -> Result<()> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return self.error();
                    }
                    self.at += 1;
                }
            }
            _ => return self.error(),
        }
        Ok(())
    }

    #[inline]
    fn digits(&mut self) -> Result<()> {
        let digits = leading_digits(self.bytes.get(self.at..).unwrap_or_default());
        self.at += digits;
        if digits == 0 { self.error() } else { Ok(()) }
    }

    fn number(&mut self) -> Result<()> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn literal(&mut self, word: &[u8]) -> Result<()> {
        if self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            self.at += word.len();
            return Ok(());
        }
        self.error()
    }

    #[inline]
    fn scalar(&mut self, kind: Kind) -> Result<()> {
        match kind {
            Kind::String => self.string().map(|_| ()),
            Kind::Number => self.number(),
            Kind::True => self.literal(b"true"),
            Kind::False => self.literal(b"false"),
            Kind::Null => self.literal(b"null"),
            Kind::Object | Kind::Array => self.error(),
        }
    }

    /// Moves behind the next value and gives its text.
    ///
    /// # Errors
    /// If no well-formed value starts here, or it is nested deeper than [`MAX_DEPTH`].
    #[inline]
    pub fn value(&mut self) -> Result<&'a [u8]> {
        let kind = self.kind()?;
        let start = self.at;
        match kind {
            Kind::Object | Kind::Array => self.container()?,
            scalar => self.scalar(scalar)?,
        }
        Ok(self.bytes.get(start..self.at).unwrap_or_default())
    }

    fn container(&mut self) -> Result<()> {
        let mut open = Nesting::default();
        let mut kind = self.kind()?;
        loop {
            match kind {
                Kind::Object | Kind::Array => {
                    open.push(kind == Kind::Object).or_else(|()| self.error())?;
                    self.at += 1;
                    self.fresh = true;
                }
                scalar => self.scalar(scalar)?,
            }
            // Behind a value, or just inside a container: close what ends here, then stand before the next value.
            loop {
                let more = match open.in_object() {
                    None => return Ok(()),
                    Some(true) => self.next_key()?.is_some(),
                    Some(false) => self.next_item()?,
                };
                if more {
                    break;
                }
                open.pop();
            }
            kind = self.kind()?;
        }
    }

    /// Reads an unsigned integer; any other value is skipped and gives `None`.
    ///
    /// # Errors
    /// If no well-formed value starts here.
    pub fn integer(&mut self) -> Result<Option<u64>> {
        let digit = |byte: &u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
        let add = |sum: u64, byte| sum.checked_mul(10)?.checked_add(digit(byte)?);
        Ok(self.value()?.iter().try_fold(0, add))
    }

    /// Checks that nothing but white space follows.
    ///
    /// # Errors
    /// If something does.
    pub fn end(&mut self) -> Result<()> {
        if self.next_token().is_none() { Ok(()) } else { self.error() }
    }
}

/// Which containers are open: a bit each, set for an object.
struct Nesting {
    bits: [u64; MAX_DEPTH / 64],
    depth: usize,
}

impl Default for Nesting {
    fn default() -> Self {
        Self { bits: [0; MAX_DEPTH / 64], depth: 0 }
    }
}

impl Nesting {
    fn push(&mut self, object: bool) -> std::result::Result<(), ()> {
        let word = self.bits.get_mut(self.depth / 64).ok_or(())?;
        let bit = 1 << (self.depth % 64);
        *word = if object { *word | bit } else { *word & !bit };
        self.depth += 1;
        Ok(())
    }

    fn pop(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    fn in_object(&self) -> Option<bool> {
        let top = self.depth.checked_sub(1)?;
        self.bits.get(top / 64).map(|word| word & (1 << (top % 64)) != 0)
    }
}

/// Decodes a raw string of [`Scanner::string`]; `None` where it is no Unicode text (a lone surrogate).
#[must_use]
pub fn unescape(raw: &[u8]) -> Option<Cow<'_, str>> {
    if memchr::memchr(b'\\', raw).is_none() {
        return std::str::from_utf8(raw).ok().map(Cow::Borrowed);
    }
    let quoted = [b"\"", raw, b"\""].concat();
    serde_json::from_slice(&quoted).ok().map(Cow::Owned)
}

/// Whether a raw key of [`Scanner::next_key`] names `name`, escapes considered.
#[must_use]
pub fn is_key(raw: &[u8], name: &str) -> bool {
    // What is escaped takes more room than what it stands for.
    raw == name.as_bytes() || (raw.len() > name.len() && is_escaped_key(raw, name))
}

fn is_escaped_key(raw: &[u8], name: &str) -> bool {
    // Nearly all keys differ in their first byte already.
    let may_begin = |byte: &u8| *byte == b'\\' || name.as_bytes().first() == Some(byte);
    raw.first().is_some_and(may_begin)
        && memchr::memchr(b'\\', raw).is_some()
        && unescape(raw).is_some_and(|key| key == name)
}

#[cfg(test)]
pub(crate) mod tests;
