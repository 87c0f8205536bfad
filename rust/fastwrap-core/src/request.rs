//! Reads a request's body and asks the engine for usage, with every other byte kept.

mod as_stream;

use bytes::Bytes;

pub use self::as_stream::ask_for_stream;
use crate::json::{Kind, Scanner, SyntaxError, is_key};

pub(crate) const USAGE_MEMBER: &[u8] = b"\"stream_options\":{\"include_usage\":true}";
const USAGE_OBJECT: &[u8] = b"{\"include_usage\":true}";
const INCLUDE_USAGE: &[u8] = b"\"include_usage\":true";

/// How the body must change for the engine to send usage: `remove..` bytes at `at` give way to `insert`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Edit {
    at: usize,
    remove: usize,
    comma: bool,
    insert: &'static [u8],
}

/// What a request's body says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// `stream` is true.
    pub stream: bool,
    /// The client asked for usage itself.
    pub include_usage: bool,
    /// `n`, 1 if absent.
    pub choices: u64,
    /// The model's name; read only for hooks, or where the body is read as it passes.
    pub model: Option<String>,
    edit: Option<Edit>,
}

impl Facts {
    /// Nothing is known yet.
    pub(crate) fn new() -> Self {
        Self { choices: 1, ..Self::default() }
    }

    /// Reads the value of `stream_options` alone; the edit's offsets start there.
    pub(crate) fn read_options(&mut self, scanner: &mut Scanner<'_>) {
        (self.include_usage, self.edit) = read_options(scanner).unwrap_or_default();
    }

    pub(crate) fn has_edit(&self) -> bool {
        self.edit.is_some()
    }

    /// [`USAGE_MEMBER`] was added by other hands.
    pub(crate) fn set_asked(&mut self) {
        self.edit = Some(Edit { at: 0, remove: 0, comma: false, insert: USAGE_MEMBER });
    }

    /// Reads a JSON body.
    ///
    /// # Errors
    /// If it is not one JSON object; the engine will say so to the client.
    pub fn read(body: &[u8]) -> Result<Self, SyntaxError> {
        let mut facts = Self::new();
        let mut scanner = Scanner::new(body);
        scanner.enter_object()?;
        let mut end = (scanner.offset(), false);
        let mut options = None;
        while let Some(key) = scanner.next_key()? {
            if is_key(key, "stream") {
                facts.stream = scanner.value()? == b"true";
            } else if is_key(key, "n") {
                facts.choices = scanner.integer()?.unwrap_or(1);
            } else if is_key(key, "stream_options") {
                options = Some(read_options(&mut scanner)?);
            } else {
                scanner.value()?;
            }
            end = (scanner.offset(), true);
        }
        scanner.end()?;
        let absent = Edit { at: end.0, remove: 0, comma: end.1, insert: USAGE_MEMBER };
        (facts.include_usage, facts.edit) = options.unwrap_or((false, Some(absent)));
        Ok(facts)
    }

    /// Whether [`Self::ask_for_usage`] would change the body.
    #[must_use]
    pub fn can_ask_for_usage(&self) -> bool {
        self.stream && !self.include_usage && self.edit.is_some()
    }

    /// The body that asks for usage; as it is if it does already, does not stream, or has unusable `stream_options`.
    #[must_use]
    pub fn ask_for_usage(&self, body: Bytes) -> Bytes {
        let Some(edit) = self.edit.filter(|_| self.can_ask_for_usage()) else {
            return body;
        };
        let before = body.get(..edit.at).unwrap_or_default();
        let after = body.get(edit.at + edit.remove..).unwrap_or_default();
        let comma: &[u8] = if edit.comma { b"," } else { b"" };
        Bytes::from([before, comma, edit.insert, after].concat())
    }
}

/// Whether `include_usage` is true, and else the edit that makes it so.
fn read_options(scanner: &mut Scanner<'_>) -> Result<(bool, Option<Edit>), SyntaxError> {
    match scanner.kind()? {
        Kind::Null => {
            let at = scanner.offset();
            scanner.value()?;
            Ok((false, Some(Edit { at, remove: 4, comma: false, insert: USAGE_OBJECT })))
        }
        Kind::Object => {
            scanner.enter_object()?;
            let mut edit =
                Edit { at: scanner.offset(), remove: 0, comma: false, insert: INCLUDE_USAGE };
            let mut present = None;
            let mut continuous = false;
            while let Some(key) = scanner.next_key()? {
                scanner.kind()?;
                let at = scanner.offset();
                let text = scanner.value()?;
                if is_key(key, "include_usage") {
                    present = Some((text, at));
                }
                if is_key(key, "continuous_usage_stats") {
                    continuous = text == b"true";
                }
                edit.at = scanner.offset();
                edit.comma = true;
            }
            Ok(match present {
                Some((b"true", _)) => (true, None),
                // With include_usage these would appear in chunks that cannot be taken out.
                _ if continuous => (false, None),
                Some((text @ (b"false" | b"null"), at)) => {
                    let remove = text.len();
                    (false, Some(Edit { at, remove, comma: false, insert: b"true" }))
                }
                // Nonsense, or a truth of its own to a lenient engine: only the engine knows.
                Some(_) => (false, None),
                None => (false, Some(edit)),
            })
        }
        _ => {
            scanner.value()?;
            Ok((false, None))
        }
    }
}

#[cfg(test)]
mod tests;
