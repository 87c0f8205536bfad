//! What an event of the `choices` dialect says, read from a tree.

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
