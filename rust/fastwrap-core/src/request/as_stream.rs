//! Makes a request for JSON one for a stream, where the stream tells all that the JSON would.

use bytes::Bytes;

use super::{USAGE_MEMBER, USAGE_OBJECT};
use crate::json::{Kind, Scanner, SyntaxError, is_key};

/// Members that decide what is generated, and not which form the answer has.
const HARMLESS: [&str; 34] = [
    "model",
    "messages",
    "max_tokens",
    "max_completion_tokens",
    "min_tokens",
    "n",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "typical_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "repeat_penalty",
    "repeat_last_n",
    "logit_bias",
    "seed",
    "stop",
    "stop_token_ids",
    "ignore_eos",
    "skip_special_tokens",
    "spaces_between_special_tokens",
    "response_format",
    "structured_outputs",
    "chat_template_kwargs",
    "reasoning_effort",
    "priority",
    "cache_salt",
    "cache_prompt",
    "prompt_cache_key",
    "safety_identifier",
    "user",
    "keep_alive",
];

/// Members that ask for something more, unless they are false.
const EXTRAS: [&str; 6] =
    ["logprobs", "echo", "store", "parallel_tool_calls", "use_beam_search", "return_token_ids"];

const STREAM_MEMBER: &[u8] = b"\"stream\":true";

/// What stands between `at` and `end` gives way to `insert`.
struct Edit {
    at: usize,
    end: usize,
    insert: [&'static [u8]; 2],
}

/// The body that asks for a stream, and with `usage` for token counts; every other byte is kept. `None` if the client asks
/// for what its engine's streams do not tell in the same way: `logprobs`, `tools`, several prompts, or any member that is
/// not known to be harmless.
///
/// # Errors
/// If it is not one JSON object.
pub fn ask_for_stream(body: &Bytes, usage: bool) -> Result<Option<Bytes>, SyntaxError> {
    let (mut stream, mut options) = (None, None);
    let mut scanner = Scanner::new(body);
    scanner.enter_object()?;
    let mut last = None;
    while let Some(key) = scanner.next_key()? {
        let kind = scanner.kind()?;
        let at = scanner.offset();
        let value = scanner.value()?;
        last = Some(scanner.offset());
        let is = |name: &&str| is_key(key, name);
        let span = || (at, at + value.len());
        let is_usual = match kind {
            _ if is(&"stream") => {
                matches!(kind, Kind::False | Kind::Null) && stream.replace(span()).is_none()
            }
            // Without a stream they are an error to most engines: only the engine knows its words.
            _ if is(&"stream_options") => kind == Kind::Null && options.replace(span()).is_none(),
            Kind::Null => true,
            Kind::False => HARMLESS.iter().chain(&EXTRAS).any(is),
            Kind::String if is(&"prompt") => true,
            _ => HARMLESS.iter().any(is),
        };
        if !is_usual {
            return Ok(None);
        }
    }
    scanner.end()?;
    let Some(last) = last else {
        return Ok(None);
    };
    let edit = |span: Option<(usize, usize)>, value: &'static [u8], member: &'static [u8]| {
        let absent = Edit { at: last, end: last, insert: [b",", member] };
        span.map_or(absent, |(at, end)| Edit { at, end, insert: [value, b""] })
    };
    let mut edits = vec![edit(stream, b"true", STREAM_MEMBER)];
    if usage {
        edits.push(edit(options, USAGE_OBJECT, USAGE_MEMBER));
    }
    Ok(Some(apply(body, edits)))
}

fn apply(body: &[u8], mut edits: Vec<Edit>) -> Bytes {
    edits.sort_by_key(|edit| edit.at);
    let mut out = Vec::with_capacity(body.len() + 64);
    let mut from = 0;
    for edit in edits {
        out.extend_from_slice(body.get(from..edit.at).unwrap_or_default());
        edit.insert.iter().for_each(|part| out.extend_from_slice(part));
        from = edit.end;
    }
    out.extend_from_slice(body.get(from..).unwrap_or_default());
    out.into()
}

#[cfg(test)]
mod tests;
