//! Choices of a stream: the delta, and what each engine puts around it.

use std::fmt::Write;
use std::ops::Range;

use crate::answer::{Answer, Endpoint, Kind};
use crate::flavor::Flavor;

/// What a choice of a stream holds.
pub(crate) enum Part<'a> {
    Role,
    Tokens(&'a Range<u32>),
    Nothing,
}

/// Append a choice; `finishes` gives it the answer's finish reason.
pub(crate) fn push_choice(
    out: &mut String,
    answer: &Answer,
    choice: u32,
    part: &Part<'_>,
    finishes: bool,
) {
    match answer.endpoint {
        Endpoint::Chat => push_chat(out, answer, choice, part, finishes),
        Endpoint::Completion => push_text_choice(out, answer, choice, part, finishes),
    }
}

fn push_chat(out: &mut String, answer: &Answer, choice: u32, part: &Part<'_>, finishes: bool) {
    match answer.flavor {
        Flavor::Transformers => out.push_str("{\"delta\":{"),
        Flavor::Llamacpp => {
            out.push_str("{\"finish_reason\":");
            push_finish(out, answer, finishes);
            let _ = write!(out, ",\"index\":{choice},\"delta\":{{");
        }
        _ => {
            let _ = write!(out, "{{\"index\":{choice},\"delta\":{{");
        }
    }
    match part {
        Part::Role => out.push_str(role(answer.flavor)),
        Part::Tokens(tokens) => push_delta(out, answer, choice, tokens),
        Part::Nothing => out.push_str(nothing(answer.flavor)),
    }
    out.push('}');
    match answer.flavor {
        Flavor::Llamacpp => {}
        Flavor::Transformers => {
            if finishes {
                let _ = write!(out, ",\"finish_reason\":\"{}\"", answer.finish);
            }
            let _ = write!(out, ",\"index\":{choice}");
        }
        flavor => {
            out.push_str(if flavor == Flavor::Ollama {
                ",\"finish_reason\":"
            } else {
                ",\"logprobs\":null,\"finish_reason\":"
            });
            push_finish(out, answer, finishes);
            push_stop(out, answer, finishes, !matches!(part, Part::Role));
        }
    }
    out.push('}');
}

/// Append a text completion's choice.
fn push_text_choice(
    out: &mut String,
    answer: &Answer,
    choice: u32,
    part: &Part<'_>,
    finishes: bool,
) {
    let push_text = |out: &mut String| {
        out.push_str("\"text\":\"");
        if let Part::Tokens(tokens) = part {
            answer.push_text(out, choice, (*tokens).clone());
        }
        out.push('"');
    };
    out.push('{');
    match answer.flavor {
        Flavor::Vllm | Flavor::Sglang | Flavor::Tgi => {
            let _ = write!(out, "\"index\":{choice},");
            push_text(out);
            out.push_str(",\"logprobs\":null,\"finish_reason\":");
            if answer.flavor == Flavor::Tgi && !finishes {
                out.push_str("\"\"");
            } else {
                push_finish(out, answer, finishes);
            }
            match answer.flavor {
                Flavor::Vllm => out
                    .push_str(",\"stop_reason\":null,\"prompt_token_ids\":null,\"token_ids\":null"),
                _ => push_stop(out, answer, finishes, false),
            }
        }
        Flavor::Transformers => {
            if finishes {
                let _ = write!(out, "\"finish_reason\":\"{}\",", answer.finish);
            }
            let _ = write!(out, "\"index\":{choice},");
            push_text(out);
        }
        Flavor::Openai | Flavor::Llamacpp | Flavor::Ollama => {
            push_text(out);
            let logprobs = if answer.flavor == Flavor::Ollama { "" } else { ",\"logprobs\":null" };
            let _ = write!(out, ",\"index\":{choice}{logprobs},\"finish_reason\":");
            push_finish(out, answer, finishes);
        }
    }
    out.push('}');
}

/// Append the finish reason or null.
pub(crate) fn push_finish(out: &mut String, answer: &Answer, finishes: bool) {
    if finishes {
        let _ = write!(out, "\"{}\"", answer.finish);
    } else {
        out.push_str("null");
    }
}

/// Append the members that vLLM and SGLang put after the finish reason.
fn push_stop(out: &mut String, answer: &Answer, finishes: bool, token_ids: bool) {
    match answer.flavor {
        Flavor::Vllm => {
            out.push_str(if finishes { ",\"stop_reason\":null" } else { "" });
            out.push_str(if token_ids { ",\"token_ids\":null" } else { "" });
        }
        Flavor::Sglang => {
            out.push_str(",\"matched_stop\":");
            out.push_str(matched_stop(answer, finishes));
        }
        _ => {}
    }
}

/// Return SGLang's `matched_stop`: the end-of-sequence token where the model stopped by itself.
pub(crate) fn matched_stop(answer: &Answer, finishes: bool) -> &'static str {
    if finishes && answer.finish != "length" { "2" } else { "null" }
}

const fn role(flavor: Flavor) -> &'static str {
    match flavor {
        Flavor::Openai => r#""role":"assistant","content":"","refusal":null"#,
        Flavor::Sglang => r#""reasoning_content":null,"role":"assistant","content":"""#,
        Flavor::Transformers => r#""role":"assistant""#,
        Flavor::Llamacpp => r#""role":"assistant","content":null"#,
        Flavor::Vllm | Flavor::Tgi | Flavor::Ollama => r#""role":"assistant","content":"""#,
    }
}

const fn nothing(flavor: Flavor) -> &'static str {
    match flavor {
        Flavor::Tgi | Flavor::Ollama => r#""role":"assistant","content":"""#,
        Flavor::Sglang => r#""reasoning_content":null"#,
        Flavor::Openai | Flavor::Vllm | Flavor::Transformers | Flavor::Llamacpp => "",
    }
}

fn push_delta(out: &mut String, answer: &Answer, choice: u32, tokens: &Range<u32>) {
    let kind = answer.kind(tokens.start);
    out.push_str(match (answer.flavor, kind) {
        (_, Kind::Tool) => return push_tool(out, answer, tokens),
        (Flavor::Ollama, Kind::Reasoning) => r#""role":"assistant","content":"","reasoning":""#,
        (Flavor::Vllm, Kind::Reasoning) => r#""reasoning":""#,
        (_, Kind::Reasoning) => r#""reasoning_content":""#,
        (Flavor::Tgi | Flavor::Ollama, Kind::Content) => r#""role":"assistant","content":""#,
        (Flavor::Sglang, Kind::Content) => r#""reasoning_content":null,"content":""#,
        (_, Kind::Content) => r#""content":""#,
    });
    answer.push_text(out, choice, tokens.clone());
    out.push('"');
}

/// Append the `tool_calls` of a delta: id and name with the first token, then arguments.
fn push_tool(out: &mut String, answer: &Answer, tokens: &Range<u32>) {
    let name = answer.tool.as_deref().filter(|_| tokens.start == 0);
    let id = &answer.tool_id;
    let mut arguments = String::new();
    answer.push_arguments(&mut arguments, tokens);
    let _ = match (answer.flavor, name) {
        (Flavor::Vllm, Some(name)) => write!(
            out,
            r#""tool_calls":[{{"id":"{id}","type":"function","index":0,"function":{{"name":"{name}","arguments":"{arguments}"}}}}]"#
        ),
        (Flavor::Sglang, Some(name)) => write!(
            out,
            r#""role":null,"content":null,"reasoning_content":null,"tool_calls":[{{"id":"{id}","index":0,"type":"function","function":{{"name":"{name}","arguments":"{arguments}"}}}}]"#
        ),
        (Flavor::Sglang, None) => write!(
            out,
            r#""role":null,"content":null,"reasoning_content":null,"tool_calls":[{{"id":null,"index":0,"type":"function","function":{{"name":null,"arguments":"{arguments}"}}}}]"#
        ),
        (Flavor::Tgi, Some(name)) => write!(
            out,
            r#""role":"assistant","tool_calls":[{{"index":0,"id":"{id}","type":"function","function":{{"name":"{name}","arguments":"{arguments}"}}}}]"#
        ),
        (Flavor::Tgi, None) => write!(
            out,
            r#""role":"assistant","tool_calls":[{{"index":0,"id":"{id}","type":"function","function":{{"name":null,"arguments":"{arguments}"}}}}]"#
        ),
        (Flavor::Transformers, Some(name)) => write!(
            out,
            r#""tool_calls":[{{"index":0,"id":"{id}","function":{{"arguments":"{arguments}","name":"{name}"}},"type":"function"}}]"#
        ),
        (Flavor::Ollama, Some(name)) => write!(
            out,
            r#""role":"assistant","content":"","tool_calls":[{{"id":"{id}","index":0,"type":"function","function":{{"name":"{name}","arguments":"{arguments}"}}}}]"#
        ),
        (Flavor::Openai | Flavor::Llamacpp, Some(name)) => write!(
            out,
            r#""tool_calls":[{{"index":0,"id":"{id}","type":"function","function":{{"name":"{name}","arguments":"{arguments}"}}}}]"#
        ),
        (_, None) => {
            write!(out, r#""tool_calls":[{{"index":0,"function":{{"arguments":"{arguments}"}}}}]"#)
        }
    };
}
