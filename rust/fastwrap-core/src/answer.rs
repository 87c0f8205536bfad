//! Reads a whole JSON answer in one pass: what it says, and where the block fits in.

use crate::event::{Dialect, ErrorType};
use crate::json::{Scanner, is_key};
use crate::performance::EngineNumbers;
use crate::profile::Profile;
use crate::splice::{Layout, Refusal};
use crate::stream::BLOCK_NAMES;
use crate::usage::Usage;

/// What a whole answer says, of whichever API.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Where the block fits in.
    pub layout: Layout,
    /// Its token counts.
    pub usage: Option<Usage>,
    /// The engine's own numbers.
    pub engine: Option<EngineNumbers>,
    /// It is an error, though its status was a success: its `type`, or else its `code`, empty if it has neither.
    pub error: Option<String>,
}

impl Answer {
    /// Reads `text`, an answer of the API `dialect`.
    ///
    /// # Errors
    /// If it is not the UTF-8 text of one JSON object.
    pub fn read(text: &[u8], profile: &Profile, dialect: Dialect) -> Result<Self, Refusal> {
        let is_own = dialect == Dialect::Generate;
        let mut own = Usage::default();
        let mut usage = None;
        let mut engine = None;
        let mut error = None;
        let mut flat = ErrorType::default();
        let mut is_flat_error = false;
        let layout = Layout::read(text, &BLOCK_NAMES, |key, value| {
            if is_own {
                let _ = own.take_own(key, value);
            }
            if is_key(key, "usage") {
                usage = Usage::read(&mut Scanner::new(value)).ok().flatten();
            } else if is_key(key, "error") {
                error = ErrorType::read(&mut Scanner::new(value)).ok().flatten();
            } else if (is_key(key, "object") || is_key(key, "type")) && value == b"\"error\"" {
                // SGLang's errors are flat, with `object`; those of the Messages API have `type`.
                is_flat_error = true;
            } else if let Some(numbers) = EngineNumbers::read_member(profile, key, value) {
                engine = Some(numbers);
            } else {
                flat.member(key, value);
            }
        })?;
        let error = error.or_else(|| is_flat_error.then_some(flat)).map(ErrorType::text);
        let usage = usage.or_else(|| (own != Usage::default()).then_some(own));
        // Ollama's own numbers stand among the members of its answer.
        let engine = engine.or_else(|| EngineNumbers::read(profile, text).filter(|_| is_own));
        Ok(Self { layout, usage, engine, error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Answer {
        Answer::read(text.as_bytes(), &Profile::default(), Dialect::Choices).unwrap()
    }

    #[test]
    fn errors_of_every_shape_are_seen() {
        for (text, wanted) in [
            (r#"{"error":{"message":"m"}}"#, Some("")),
            (r#"{"error":{"message":"m","code":7}}"#, Some("7")),
            (r#"{"error":"m"}"#, Some("")),
            (
                r#"{"object":"error","message":"m","type":"BadRequest","code":400}"#,
                Some("BadRequest"),
            ),
            (r#"{"type":"error","error":{"type":"t"}}"#, Some("t")),
            (r#"{"type":"error","message":"m"}"#, Some("")),
            (r#"{"\u0065rror":1}"#, Some("")),
            (r#"{"error":null}"#, None),
            (r#"{"object":"chat.completion","type":"t"}"#, None),
            (r#"{"choices":[{"error":1}]}"#, None),
        ] {
            assert_eq!(read(text).error.as_deref(), wanted, "{text}");
        }
    }

    #[test]
    fn the_last_usage_counts() {
        assert_eq!(read(r#"{"usage":null}"#).usage, None);
        let usage = read(r#"{"usage":{"prompt_tokens":1},"usage":{"prompt_tokens":5}}"#).usage;
        assert_eq!(usage.unwrap().prompt, Some(5));
    }
}
