//! What an event of the `choices` dialect, or of an engine's own API, says, read from a tree.

use std::collections::BTreeSet;

use serde_json::Value;

/// The choices of each sort, and the token counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// There is a list of choices.
    pub(crate) has_choices: bool,
    /// All choices.
    pub(crate) choices: BTreeSet<u64>,
    /// Those with answer text.
    pub(crate) answer: BTreeSet<u64>,
    /// Those with reasoning text.
    pub(crate) reasoning: BTreeSet<u64>,
    /// Those with tool-call text.
    pub(crate) tool_call: BTreeSet<u64>,
    /// Those that finish.
    pub(crate) finished: BTreeSet<u64>,
    /// Prompt and completion tokens, where `usage` is an object.
    pub(crate) usage: Option<[Option<u64>; 2]>,
    /// An error is told.
    pub(crate) error: bool,
}

/// Reads an event; `None` where something that must be an object is none.
pub(crate) fn read(event: &Value) -> Option<Facts> {
    let object = event.as_object()?;
    let mut facts = Facts {
        has_choices: object.get("choices").is_some_and(Value::is_array),
        error: object.get("error").is_some_and(|error| !error.is_null())
            || object.get("object").is_some_and(|name| name == "error"),
        usage: object.get("usage").filter(|usage| usage.is_object()).map(|usage| {
            let count = |names: [&str; 2]| {
                let present = usage.as_object().into_iter().flatten();
                let named = present.filter(|(key, _)| names.contains(&key.as_str()));
                named.filter_map(|(_, value)| value.as_u64()).next_back()
            };
            [
                count(["prompt_tokens", "input_tokens"]),
                count(["completion_tokens", "output_tokens"]),
            ]
        }),
        ..Facts::default()
    };
    for choice in object.get("choices").and_then(Value::as_array).into_iter().flatten() {
        read_choice(choice, &mut facts)?;
    }
    Some(facts)
}

/// Reads an event of an engine's own API.
pub(crate) fn read_own(event: &Value) -> Option<Facts> {
    let object = event.as_object()?;
    let at = |path: &str| event.pointer(path).filter(|value| !value.is_null());
    let text = |path: &str| at(path).is_some_and(is_text);
    let token = object.get("token").filter(|token| token.is_object());
    let count = |paths: &[&str]| {
        let found = paths.iter().filter_map(|path| at(path)?.as_u64());
        found.collect::<Vec<_>>()
    };
    let index = at("/index").and_then(Value::as_u64).unwrap_or(0);
    let choice = if token.is_some() { 0 } else { index.min(63) };
    let set = |member: bool| BTreeSet::from_iter(member.then_some(choice));
    let message = |name: &str| at("/message").filter(|one| one.is_object())?.get(name);
    let special = token.is_some_and(|token| token.get("special") == Some(&Value::Bool(true)));
    let prompt = count(&[
        "/tokens_evaluated",
        "/prompt_eval_count",
        "/input_length",
        "/meta_info/prompt_tokens",
        "/meta_info/input_tokens",
        "/details/tokens_evaluated",
        "/details/prompt_eval_count",
        "/details/input_length",
    ]);
    let mut completion = count(&[
        "/tokens_predicted",
        "/eval_count",
        "/generated_tokens",
        "/meta_info/completion_tokens",
        "/meta_info/output_tokens",
        "/details/tokens_predicted",
        "/details/eval_count",
        "/details/generated_tokens",
    ]);
    if completion.is_empty() && token.is_some() {
        completion.push(index);
    }
    let is_true = |path: &str| at(path) == Some(&Value::Bool(true));
    Some(Facts {
        has_choices: true,
        choices: set(true),
        answer: set(["/text", "/content", "/response"].iter().any(|path| text(path))
            || message("content").is_some_and(has_text)
            || (text("/token/text") && token.is_some() && !special)),
        reasoning: set(text("/thinking") || message("thinking").is_some_and(has_text)),
        tool_call: set(message("tool_calls").is_some_and(has_call)),
        finished: set(is_true("/stop")
            || is_true("/done")
            || at("/generated_text").is_some()
            || at("/meta_info").is_some_and(Value::is_object)
                && at("/meta_info/finish_reason").is_some()),
        usage: Some([prompt, completion].map(|counts| counts.last().copied())),
        error: object.get("error").is_some_and(|error| !error.is_null()),
    })
}

fn read_choice(choice: &Value, facts: &mut Facts) -> Option<()> {
    let choice = choice.as_object()?;
    let index = choice.get("index").and_then(Value::as_u64).unwrap_or(0).min(63);
    facts.choices.insert(index);
    if choice.get("text").is_some_and(is_text) {
        facts.answer.insert(index);
    }
    if choice.get("finish_reason").is_some_and(is_text) {
        facts.finished.insert(index);
    }
    for delta in ["delta", "message"].iter().filter_map(|name| choice.get(*name)?.as_object()) {
        for (key, value) in delta {
            match key.as_str() {
                "content" | "refusal" if has_text(value) => facts.answer.insert(index),
                "reasoning" | "reasoning_content" if has_text(value) => {
                    facts.reasoning.insert(index)
                }
                "tool_calls" | "function_call" if has_call(value) => facts.tool_call.insert(index),
                _ => false,
            };
        }
    }
    Some(())
}

fn is_text(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.is_empty())
}

fn has_text(value: &Value) -> bool {
    let part = |part: &Value| match part {
        Value::Object(members) => members
            .iter()
            .any(|(key, value)| key != "type" && *value != "" && value.to_string().contains('"')),
        other => is_text(other),
    };
    is_text(value) || value.as_array().is_some_and(|parts| parts.iter().any(part))
}

fn has_call(value: &Value) -> bool {
    let named =
        |call: &Value| ["name", "arguments"].iter().any(|key| call.get(*key).is_some_and(is_text));
    let one = |call: &Value| named(call) || call.get("function").is_some_and(named);
    value.as_array().map_or_else(|| one(value), |calls| calls.iter().any(one))
}
