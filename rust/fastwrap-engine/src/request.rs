//! The members of a request that the engine honours.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A request for a chat or text completion.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Request {
    pub(crate) model: Option<String>,
    pub(crate) messages: Option<Words>,
    pub(crate) prompt: Option<Words>,
    pub(crate) stream: Option<bool>,
    pub(crate) stream_options: Option<StreamOptions>,
    pub(crate) max_tokens: Option<i64>,
    pub(crate) max_completion_tokens: Option<i64>,
    pub(crate) n: Option<i64>,
    pub(crate) tools: Option<Vec<Tool>>,
    pub(crate) tool_choice: Option<Choice>,
    pub(crate) reasoning_effort: Option<Choice>,
    pub(crate) fastwrap_sim: Option<Simulation>,
}

impl Request {
    /// Return the most tokens the client wants; a number below 1 sets no limit.
    pub(crate) fn limit(&self) -> Option<u32> {
        let asked = self.max_completion_tokens.or(self.max_tokens).filter(|&limit| limit > 0)?;
        u32::try_from(asked).ok()
    }

    /// Return the name of the function that the answer calls, if it is a tool call.
    pub(crate) fn tool(&self) -> Option<&str> {
        if matches!(&self.tool_choice, Some(Choice::Word(word)) if word == "none") {
            return None;
        }
        self.tools.as_deref()?.first().map(|tool| tool.function.name.as_str())
    }

    /// Whether the answer begins with reasoning.
    pub(crate) fn reasons(&self) -> bool {
        matches!(&self.reasoning_effort, Some(Choice::Word(word)) if word != "none")
    }
}

/// `stream_options` of a request.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct StreamOptions {
    pub(crate) include_usage: Option<bool>,
    pub(crate) continuous_usage_stats: Option<bool>,
}

/// One of `tools`.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Tool {
    function: Function,
}

#[derive(Debug, serde::Deserialize)]
struct Function {
    name: String,
}

/// A member that is a word, or something else that does not matter.
#[derive(Debug, serde::Deserialize)]
#[serde(untagged)]
pub(crate) enum Choice {
    Word(String),
    Other(IgnoredAny),
}

/// What is asked of the simulation itself.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Simulation {
    /// Whether each event of a stream says when it was sent.
    pub(crate) stamp: bool,
    #[serde(flatten)]
    pub(crate) faults: Faults,
}

/// What shall go wrong; counts are events of the stream, pings not counted.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Faults {
    pub(crate) die_after_chunks: Option<u32>,
    pub(crate) die_in_event: bool,
    pub(crate) error_after_chunks: Option<u32>,
    pub(crate) stall_after_chunks: Option<u32>,
    pub(crate) status: Option<u16>,
}

/// The number of whitespace-separated words in `messages`, `prompt` or `input`, or of token ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Words(pub(crate) u32);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WordCounter)
    }
}

struct WordCounter;

impl<'de> Visitor<'de> for WordCounter {
    type Value = Words;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, token ids, content parts or messages")
    }

    fn visit_str<E>(self, text: &str) -> Result<Words, E> {
        Ok(Words(text.split_whitespace().count().try_into().unwrap_or(u32::MAX)))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Words, E> {
        Ok(Words(1))
    }

    fn visit_unit<E>(self) -> Result<Words, E> {
        Ok(Words(0))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Words, A::Error> {
        let mut sum = 0u32;
        while let Some(Words(count)) = items.next_element()? {
            sum = sum.saturating_add(count);
        }
        Ok(Words(sum))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Words, A::Error> {
        let mut sum = 0u32;
        while let Some(key) = members.next_key::<Member>()? {
            match key {
                Member::Text | Member::Content => {
                    sum = sum.saturating_add(members.next_value::<Words>()?.0)
                }
                Member::Other => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Words(sum))
    }
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Member {
    Text,
    Content,
    #[serde(other)]
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_every_form_of_content_are_counted() {
        for (json, words) in [
            (r#""""#, 0),
            (r#"" two  words ""#, 2),
            ("[1, 2, 3]", 3),
            (r#"["a b", "c"]"#, 3),
            (r#"[{"role": "user", "content": "a b"}, {"role": "assistant", "content": null}]"#, 2),
            (
                r#"[{"content": [{"type": "text", "text": "a b c"}, {"type": "image_url", "image_url": {}}]}]"#,
                3,
            ),
        ] {
            assert_eq!(serde_json::from_str::<Words>(json).unwrap(), Words(words), "{json}");
        }
    }

    #[test]
    fn a_tool_is_named_unless_the_choice_is_none() {
        let tools = r#""tools": [{"type": "function", "function": {"name": "f"}}]"#;
        let parse = |json: String| serde_json::from_str::<Request>(&json).unwrap();
        assert_eq!(parse(format!("{{{tools}}}")).tool(), Some("f"));
        assert_eq!(
            parse(format!(r#"{{{tools}, "tool_choice": {{"type": "function"}}}}"#)).tool(),
            Some("f")
        );
        assert_eq!(parse(format!(r#"{{{tools}, "tool_choice": "none"}}"#)).tool(), None);
        assert_eq!(parse(r#"{"tools": []}"#.to_owned()).tool(), None);
    }
}
