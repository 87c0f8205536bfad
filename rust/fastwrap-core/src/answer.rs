//! Reads a whole JSON answer in one pass: what it says, and where the block fits in.

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
    /// It is an error, though its status was a success.
    pub is_error: bool,
}

impl Answer {
    /// Reads `text`.
    ///
    /// # Errors
    /// If it is not the UTF-8 text of one JSON object.
    pub fn read(text: &[u8], profile: &Profile) -> Result<Self, Refusal> {
        let mut usage = None;
        let mut engine = None;
        let mut is_error = false;
        let layout = Layout::read(text, &BLOCK_NAMES, |key, value| {
            if is_key(key, "usage") {
                usage = Usage::read(&mut Scanner::new(value)).ok().flatten();
            } else if is_key(key, "error") {
                is_error |= value != b"null";
            } else if is_key(key, "object") || is_key(key, "type") {
                // SGLang's errors are flat, with `object`; those of the Messages API have `type`.
                is_error |= value == b"\"error\"";
            } else if profile.engine_member.as_deref().is_some_and(|member| is_key(key, member)) {
                engine = EngineNumbers::of(profile, value);
            }
        })?;
        Ok(Self { layout, usage, engine, is_error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Answer {
        Answer::read(text.as_bytes(), &Profile::default()).unwrap()
    }

    #[test]
    fn errors_of_every_shape_are_seen() {
        for text in [
            r#"{"error":{"message":"m"}}"#,
            r#"{"error":"m"}"#,
            r#"{"object":"error","message":"m"}"#,
            r#"{"type":"error","error":{"type":"t"}}"#,
            r#"{"\u0065rror":1}"#,
        ] {
            assert!(read(text).is_error, "{text}");
        }
        for text in
            [r#"{"error":null}"#, r#"{"object":"chat.completion"}"#, r#"{"choices":[{"error":1}]}"#]
        {
            assert!(!read(text).is_error, "{text}");
        }
    }

    #[test]
    fn the_last_usage_counts() {
        assert_eq!(read(r#"{"usage":null}"#).usage, None);
        let usage = read(r#"{"usage":{"prompt_tokens":1},"usage":{"prompt_tokens":5}}"#).usage;
        assert_eq!(usage.unwrap().prompt, Some(5));
    }
}
