//! Server-sent events: each step of a script as the engine writes it.

use std::fmt::Write;

use crate::answer::{Answer, Endpoint};
use crate::choice::{Part, push_choice};
use crate::failure::push_stream_error;
use crate::flavor::Flavor;
use crate::script::Step;
use crate::usage::{Place, push_timings, push_total, push_usage};
use fastwrap_clock::now_ns;

/// The build that llama.cpp names as its fingerprint.
pub(crate) const LLAMACPP_BUILD: &str = "b11434-0000fa57";
/// TGI's fingerprint: version and docker label.
pub(crate) const TGI_FINGERPRINT: &str = "3.3.7-native";
/// vLLM's fingerprint: version and configuration hash.
pub(crate) const VLLM_FINGERPRINT: &str = "vllm-0.32.0-0000fa57";
/// OpenAI's fingerprint.
pub(crate) const OPENAI_FINGERPRINT: &str = "fp_0000fa57";

/// Renders the events of one stream; what they have in common is rendered once.
#[derive(Debug)]
pub(crate) struct Renderer {
    /// From `data:` to the opening bracket of `choices`.
    before: String,
    /// From the closing bracket of `choices` to the members that every event has.
    after: String,
}

impl Renderer {
    pub(crate) fn new(answer: &Answer) -> Self {
        let (id, model, created) = (&answer.id, &answer.model, answer.created);
        let chat = answer.endpoint == Endpoint::Chat;
        let object = if chat { "chat.completion.chunk" } else { "text_completion" };
        let data = answer.flavor.data_prefix();
        let (before, after) = match answer.flavor {
            Flavor::Vllm | Flavor::Sglang => (
                format!(
                    r#"{data}{{"id":"{id}","object":"{object}","created":{created},"model":"{model}","choices":["#
                ),
                "]".to_owned(),
            ),
            Flavor::Openai if chat => (
                format!(
                    r#"{data}{{"id":"{id}","object":"{object}","created":{created},"model":"{model}","service_tier":"default","system_fingerprint":"{OPENAI_FINGERPRINT}","choices":["#
                ),
                "]".to_owned(),
            ),
            Flavor::Openai => (
                format!(
                    r#"{data}{{"id":"{id}","object":"{object}","created":{created},"choices":["#
                ),
                format!(r#"],"model":"{model}""#),
            ),
            Flavor::Tgi => (
                format!(
                    r#"{data}{{"object":"{object}","id":"{id}","created":{created},"model":"{model}","system_fingerprint":"{TGI_FINGERPRINT}","choices":["#
                ),
                "]".to_owned(),
            ),
            Flavor::Transformers => (
                format!(r#"{data}{{"id":"{id}","choices":["#),
                format!(r#"],"created":{created},"model":"{model}","object":"{object}""#),
            ),
            Flavor::Llamacpp if chat => (
                format!(r#"{data}{{"choices":["#),
                format!(
                    r#"],"created":{created},"id":"{id}","model":"{model}","system_fingerprint":"{LLAMACPP_BUILD}","object":"{object}""#
                ),
            ),
            Flavor::Llamacpp => (
                format!(r#"{data}{{"choices":["#),
                format!(
                    r#"],"created":{created},"model":"{model}","system_fingerprint":"{LLAMACPP_BUILD}","object":"{object}""#
                ),
            ),
            Flavor::Ollama if chat => (
                format!(
                    r#"{data}{{"id":"{id}","object":"{object}","created":{created},"model":"{model}","system_fingerprint":"fp_ollama","choices":["#
                ),
                "]".to_owned(),
            ),
            Flavor::Ollama => (
                format!(
                    r#"{data}{{"id":"{id}","object":"{object}","created":{created},"choices":["#
                ),
                format!(r#"],"model":"{model}","system_fingerprint":"fp_ollama""#),
            ),
        };
        Self { before, after }
    }

    /// Append one event with its framing.
    pub(crate) fn push(&self, out: &mut String, answer: &Answer, step: &Step) {
        match step {
            Step::Ping => return out.push_str(":\n\n"),
            Step::Done => {
                out.push_str(answer.flavor.data_prefix());
                return out.push_str("[DONE]\n\n");
            }
            Step::Failure => return push_stream_error(out, answer.flavor),
            Step::Role(choice) => {
                out.push_str(&self.before);
                push_choice(out, answer, *choice, &Part::Role, false);
                out.push_str(&self.after);
                push_extras(out, answer, Some(0), false);
                if answer.flavor == Flavor::Vllm {
                    out.push_str(",\"prompt_token_ids\":null,\"prompt_text\":null");
                }
            }
            Step::Piece { choice, tokens, last } => {
                out.push_str(&self.before);
                push_choice(out, answer, *choice, &Part::Tokens(tokens), *last);
                out.push_str(&self.after);
                push_extras(out, answer, Some(tokens.end), *last);
            }
            Step::Finish(choice) => {
                out.push_str(&self.before);
                push_choice(out, answer, *choice, &Part::Nothing, true);
                out.push_str(&self.after);
                push_extras(out, answer, None, true);
            }
            Step::Usage(choice) => {
                self.push_usage_event(out, answer, *choice);
            }
        }
        if answer.stamped {
            // The last thing before hyper writes the event.
            let _ = write!(out, ",\"sent_ns\":{}", now_ns());
        }
        out.push_str("}\n\n");
    }

    fn push_usage_event(&self, out: &mut String, answer: &Answer, choice: Option<u32>) {
        out.push_str(&self.before);
        out.push_str(&self.after);
        out.push_str(",\"usage\":");
        match choice {
            Some(_) => {
                push_usage(out, answer, Place::Event, answer.tokens, answer.reasoning_tokens)
            }
            None => push_total(out, answer, Place::Event),
        }
        match answer.flavor {
            Flavor::Vllm => push_vllm_fingerprint(out),
            Flavor::Llamacpp => {
                out.push(',');
                push_timings(out, answer);
            }
            _ => {}
        }
    }
}

/// Append what follows the choices of an event that has some; `tokens` is how many the choice has had so far.
fn push_extras(out: &mut String, answer: &Answer, tokens: Option<u32>, finishes: bool) {
    let chat = answer.endpoint == Endpoint::Chat;
    match answer.flavor {
        Flavor::Vllm | Flavor::Sglang => {
            if let Some(tokens) = tokens.filter(|_| answer.continuous_usage) {
                out.push_str(",\"usage\":");
                push_usage(out, answer, Place::Chunk, tokens, tokens.min(answer.reasoning_tokens));
            } else if answer.flavor == Flavor::Sglang && !chat {
                out.push_str(",\"usage\":null");
            }
            if answer.flavor == Flavor::Vllm && finishes && !answer.include_usage {
                push_vllm_fingerprint(out);
            }
        }
        Flavor::Tgi if chat => out.push_str(",\"usage\":null"),
        Flavor::Openai if answer.include_usage => out.push_str(",\"usage\":null"),
        Flavor::Transformers if finishes => {
            out.push_str(",\"usage\":");
            push_total(out, answer, Place::Event);
        }
        Flavor::Llamacpp => {
            if finishes && !chat {
                out.push_str(",\"usage\":");
                push_usage(out, answer, Place::Event, answer.tokens, 0);
            }
            if !chat {
                let _ = write!(out, ",\"id\":\"{}\"", answer.id);
            }
            if finishes && !(chat && answer.include_usage) {
                out.push(',');
                push_timings(out, answer);
            }
        }
        _ => {}
    }
}

fn push_vllm_fingerprint(out: &mut String) {
    let _ = write!(out, ",\"system_fingerprint\":\"{VLLM_FINGERPRINT}\"");
}
