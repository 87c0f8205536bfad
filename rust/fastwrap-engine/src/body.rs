//! Answers that are not streamed.

use std::fmt::Write;

use crate::answer::{Answer, Endpoint};
use crate::choice::matched_stop;
use crate::event::{LLAMACPP_BUILD, OPENAI_FINGERPRINT, TGI_FINGERPRINT, VLLM_FINGERPRINT};
use crate::flavor::Flavor;
use crate::usage::{Place, push_timings, push_total};

/// Return the JSON body of an answer.
pub(crate) fn render_body(answer: &Answer) -> String {
    let mut choices =
        String::with_capacity(256 + answer.tokens as usize * 8 * answer.choices as usize);
    for choice in 0..answer.choices {
        if choice > 0 {
            choices.push(',');
        }
        match answer.endpoint {
            Endpoint::Chat => push_chat_choice(&mut choices, answer, choice),
            Endpoint::Completion => push_text_choice(&mut choices, answer, choice),
        }
    }
    envelope(answer, &choices)
}

fn envelope(answer: &Answer, choices: &str) -> String {
    let (id, model, created) = (&answer.id, &answer.model, answer.created);
    let chat = answer.endpoint == Endpoint::Chat;
    let object = if chat { "chat.completion" } else { "text_completion" };
    let mut usage = String::new();
    push_total(&mut usage, answer, Place::Body);
    match answer.flavor {
        Flavor::Openai if chat => format!(
            r#"{{"id":"{id}","object":"{object}","created":{created},"model":"{model}","choices":[{choices}],"usage":{usage},"service_tier":"default","system_fingerprint":"{OPENAI_FINGERPRINT}"}}"#
        ),
        Flavor::Openai => format!(
            r#"{{"id":"{id}","object":"{object}","created":{created},"model":"{model}","choices":[{choices}],"usage":{usage}}}"#
        ),
        Flavor::Vllm => {
            let prompt = if chat {
                r#""prompt_logprobs":null,"prompt_token_ids":null,"prompt_text":null,"#
            } else {
                ""
            };
            format!(
                r#"{{"id":"{id}","object":"{object}","created":{created},"model":"{model}","choices":[{choices}],"service_tier":null,"system_fingerprint":"{VLLM_FINGERPRINT}","usage":{usage},{prompt}"kv_transfer_params":null,"ec_transfer_params":null,"metrics":null}}"#
            )
        }
        Flavor::Sglang => format!(
            r#"{{"id":"{id}","object":"{object}","created":{created},"model":"{model}","choices":[{choices}],"usage":{usage},"metadata":{{"weight_version":"default"}}}}"#
        ),
        Flavor::Tgi => format!(
            r#"{{"object":"{object}","id":"{id}","created":{created},"model":"{model}","system_fingerprint":"{TGI_FINGERPRINT}","choices":[{choices}],"usage":{usage}}}"#
        ),
        Flavor::Transformers => format!(
            r#"{{"id":"{id}","choices":[{choices}],"created":{created},"model":"{model}","object":"{object}","usage":{usage}}}"#
        ),
        Flavor::Llamacpp => {
            let mut timings = String::new();
            push_timings(&mut timings, answer);
            format!(
                r#"{{"choices":[{choices}],"created":{created},"model":"{model}","system_fingerprint":"{LLAMACPP_BUILD}","object":"{object}","usage":{usage},"id":"{id}",{timings}}}"#
            )
        }
        Flavor::Ollama => format!(
            r#"{{"id":"{id}","object":"{object}","created":{created},"model":"{model}","system_fingerprint":"fp_ollama","choices":[{choices}],"usage":{usage}}}"#
        ),
    }
}

/// The parts of a message, each a JSON value or null.
struct Message {
    content: String,
    reasoning: Option<String>,
    tool_calls: Option<String>,
}

fn message(answer: &Answer, choice: u32) -> Message {
    if let Some(name) = &answer.tool {
        let content = match answer.flavor {
            Flavor::Ollama | Flavor::Transformers => "\"\"",
            _ => "null",
        };
        return Message {
            content: content.to_owned(),
            reasoning: None,
            tool_calls: Some(tool_calls(answer, name)),
        };
    }
    let text = |tokens: std::ops::Range<u32>| {
        let mut out = String::from("\"");
        answer.push_text(&mut out, choice, tokens);
        out.push('"');
        out
    };
    let split = answer.reasoning_tokens;
    Message {
        content: text(split..answer.tokens),
        reasoning: (split > 0).then(|| text(0..split)),
        tool_calls: None,
    }
}

fn tool_calls(answer: &Answer, name: &str) -> String {
    let mut arguments = String::new();
    answer.push_arguments(&mut arguments, &(0..answer.tokens));
    let id = &answer.tool_id;
    match answer.flavor {
        Flavor::Sglang | Flavor::Ollama => format!(
            r#"[{{"id":"{id}","index":0,"type":"function","function":{{"name":"{name}","arguments":"{arguments}"}}}}]"#
        ),
        Flavor::Llamacpp => {
            format!(
                r#"[{{"type":"function","function":{{"name":"{name}","arguments":"{arguments}"}},"id":"{id}"}}]"#
            )
        }
        Flavor::Tgi => format!(
            r#"[{{"id":"{id}","type":"function","function":{{"description":null,"name":"{name}","arguments":"{arguments}"}}}}]"#
        ),
        Flavor::Transformers => {
            format!(
                r#"[{{"id":"{id}","function":{{"arguments":"{arguments}","name":"{name}"}},"type":"function"}}]"#
            )
        }
        Flavor::Openai | Flavor::Vllm => {
            format!(
                r#"[{{"id":"{id}","type":"function","function":{{"name":"{name}","arguments":"{arguments}"}}}}]"#
            )
        }
    }
}

fn push_chat_choice(out: &mut String, answer: &Answer, choice: u32) {
    let Message { content, reasoning, tool_calls } = message(answer, choice);
    let finish = answer.finish;
    let given = |name: &str, value: Option<String>| {
        value.map_or(String::new(), |value| format!(r#","{name}":{value}"#))
    };
    let nullable = |value: Option<String>| value.unwrap_or_else(|| "null".to_owned());
    // Writing to a string cannot fail.
    let _ = match answer.flavor {
        Flavor::Openai => write!(
            out,
            r#"{{"index":{choice},"message":{{"role":"assistant","content":{content}{},"refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"{finish}"}}"#,
            given("tool_calls", tool_calls)
        ),
        Flavor::Vllm => write!(
            out,
            r#"{{"index":{choice},"message":{{"role":"assistant","content":{content},"refusal":null,"annotations":null,"audio":null,"function_call":null{},"reasoning":{}}},"logprobs":null,"finish_reason":"{finish}","stop_reason":null,"token_ids":null,"routed_experts":null}}"#,
            given("tool_calls", tool_calls),
            nullable(reasoning)
        ),
        Flavor::Sglang => write!(
            out,
            r#"{{"index":{choice},"message":{{"role":"assistant","content":{content},"reasoning_content":{}{}}},"logprobs":null,"finish_reason":"{finish}","matched_stop":{}}}"#,
            nullable(reasoning),
            given("tool_calls", tool_calls),
            matched_stop(answer, true)
        ),
        Flavor::Tgi => {
            let content = if tool_calls.is_some() {
                String::new()
            } else {
                format!(r#","content":{content}"#)
            };
            write!(
                out,
                r#"{{"index":{choice},"message":{{"role":"assistant"{content}{}}},"logprobs":null,"finish_reason":"{finish}"}}"#,
                given("tool_calls", tool_calls)
            )
        }
        Flavor::Transformers => write!(
            out,
            r#"{{"finish_reason":"{finish}","index":{choice},"message":{{"content":{content},"role":"assistant"{}{}}}}}"#,
            given("tool_calls", tool_calls),
            given("reasoning_content", reasoning)
        ),
        Flavor::Llamacpp => write!(
            out,
            r#"{{"finish_reason":"{finish}","index":{choice},"message":{{"role":"assistant","content":{content}{}{}}}}}"#,
            given("reasoning_content", reasoning),
            given("tool_calls", tool_calls)
        ),
        Flavor::Ollama => write!(
            out,
            r#"{{"index":{choice},"message":{{"role":"assistant","content":{content}{}{}}},"finish_reason":"{finish}"}}"#,
            given("reasoning", reasoning),
            given("tool_calls", tool_calls)
        ),
    };
}

fn push_text_choice(out: &mut String, answer: &Answer, choice: u32) {
    let mut text = String::new();
    answer.push_text(&mut text, choice, 0..answer.tokens);
    let finish = answer.finish;
    let _ = match answer.flavor {
        Flavor::Vllm => write!(
            out,
            r#"{{"index":{choice},"text":"{text}","logprobs":null,"finish_reason":"{finish}","stop_reason":null,"token_ids":null,"prompt_logprobs":null,"prompt_token_ids":null,"routed_experts":null}}"#
        ),
        Flavor::Sglang => write!(
            out,
            r#"{{"index":{choice},"text":"{text}","logprobs":null,"finish_reason":"{finish}","matched_stop":{}}}"#,
            matched_stop(answer, true)
        ),
        Flavor::Tgi => {
            write!(
                out,
                r#"{{"index":{choice},"text":"{text}","logprobs":null,"finish_reason":"{finish}"}}"#
            )
        }
        Flavor::Transformers => {
            write!(out, r#"{{"finish_reason":"{finish}","index":{choice},"text":"{text}"}}"#)
        }
        Flavor::Openai | Flavor::Llamacpp => {
            write!(
                out,
                r#"{{"text":"{text}","index":{choice},"logprobs":null,"finish_reason":"{finish}"}}"#
            )
        }
        Flavor::Ollama => {
            write!(out, r#"{{"text":"{text}","index":{choice},"finish_reason":"{finish}"}}"#)
        }
    };
}
