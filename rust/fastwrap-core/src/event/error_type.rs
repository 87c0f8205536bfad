//! What an engine calls an error: OpenTelemetry's `error.type`.

use crate::json::{Kind, Scanner, SyntaxError, unescape};

/// Longest error type that is kept: it ends up in records.
const MAX_ERROR_TYPE: usize = 64;

/// The texts of the members that may name an error, as they stand in JSON.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ErrorType<'a> {
    name: &'a [u8],
    code: &'a [u8],
}

impl<'a> ErrorType<'a> {
    /// Reads the value of a member `error`; `None` if it is null.
    ///
    /// # Errors
    /// If no well-formed value starts here.
    pub(crate) fn read(scanner: &mut Scanner<'a>) -> Result<Option<Self>, SyntaxError> {
        let mut error = Self::default();
        if scanner.kind()? != Kind::Object {
            return Ok((scanner.value()? != b"null").then_some(error));
        }
        scanner.enter_object()?;
        while let Some(key) = scanner.next_key()? {
            error.member(key, scanner.value()?);
        }
        Ok(Some(error))
    }

    /// Looks at a member of an error.
    pub(crate) fn member(&mut self, key: &[u8], value: &'a [u8]) {
        match key {
            b"type" => self.name = value,
            // TGI's errors have no code but `http_status_code`.
            b"code" | b"http_status_code" => self.code = value,
            _ => {}
        }
    }

    /// Its type, or else its code; empty if it has neither. At most [`MAX_ERROR_TYPE`] characters.
    pub(crate) fn text(self) -> String {
        [self.name, self.code].into_iter().find_map(word).unwrap_or_default()
    }
}

/// A string that is not empty, or a number.
fn word(value: &[u8]) -> Option<String> {
    let text = match value {
        [b'"', raw @ .., b'"'] => unescape(raw)?,
        [b'-' | b'0'..=b'9', ..] => String::from_utf8_lossy(value),
        _ => return None,
    };
    (!text.is_empty()).then(|| text.chars().take(MAX_ERROR_TYPE).collect())
}
