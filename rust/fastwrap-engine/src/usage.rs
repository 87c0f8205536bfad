//! `usage` and `timings` objects.

use std::fmt::Write;

use crate::answer::Answer;
use crate::flavor::Flavor;

/// Where a usage object stands; engines leave out different members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a body that is not streamed.
    Body,
    /// In a stream's usage event.
    Event,
    /// In every chunk, with `continuous_usage_stats`.
    Chunk,
}

/// Append the usage of `completion` tokens, `reasoning` of them.
pub(crate) fn push_usage(
    out: &mut String,
    answer: &Answer,
    place: Place,
    completion: u32,
    reasoning: u32,
) {
    let prompt = answer.prompt_tokens;
    let total = prompt.saturating_add(completion);
    // Writing to a string cannot fail.
    let _ = match answer.flavor {
        Flavor::Vllm => {
            let rest = match place {
                Place::Body => ",\"prompt_tokens_details\":null,\"completion_tokens_details\":null",
                Place::Event => "",
                Place::Chunk => ",\"completion_tokens_details\":null",
            };
            write!(
                out,
                r#"{{"prompt_tokens":{prompt},"total_tokens":{total},"completion_tokens":{completion}{rest}}}"#
            )
        }
        Flavor::Sglang => write!(
            out,
            concat!(
                r#"{{"prompt_tokens":{},"total_tokens":{},"completion_tokens":{},"prompt_tokens_details":null,"#,
                r#""reasoning_tokens":{},"completion_tokens_details":null}}"#
            ),
            prompt, total, completion, reasoning
        ),
        Flavor::Openai => write!(
            out,
            concat!(
                r#"{{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{},"#,
                r#""prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":0}},"#,
                r#""completion_tokens_details":{{"reasoning_tokens":{},"audio_tokens":0,"#,
                r#""accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}}"#
            ),
            prompt, completion, total, reasoning
        ),
        Flavor::Tgi | Flavor::Ollama => {
            write!(
                out,
                r#"{{"prompt_tokens":{prompt},"completion_tokens":{completion},"total_tokens":{total}}}"#
            )
        }
        Flavor::Transformers | Flavor::Llamacpp => {
            write!(
                out,
                r#"{{"completion_tokens":{completion},"prompt_tokens":{prompt},"total_tokens":{total}}}"#
            )
        }
    };
}

/// Append the usage of a whole answer, all choices together.
pub(crate) fn push_total(out: &mut String, answer: &Answer, place: Place) {
    let completion = answer.tokens.saturating_mul(answer.choices);
    push_usage(
        out,
        answer,
        place,
        completion,
        answer.reasoning_tokens.saturating_mul(answer.choices),
    );
}

/// Append llama.cpp's `"timings":{…}` with the times that the engine was told to take.
pub(crate) fn push_timings(out: &mut String, answer: &Answer) {
    // Whole microseconds, as llama.cpp's clock counts them; never 0, so that rates stay finite.
    let millis = |duration: std::time::Duration| duration.as_micros().max(1) as f64 / 1e3;
    let (prompt_n, predicted_n) = (answer.prompt_tokens, answer.tokens);
    let prompt_ms = millis(answer.ttft);
    let predicted_ms = millis(answer.duration().saturating_sub(answer.ttft));
    let gaps = f64::from(predicted_n.saturating_sub(1).max(1));
    let _ = write!(
        out,
        concat!(
            r#""timings":{{"cache_n":0,"prompt_n":{},"prompt_ms":{:?},"prompt_per_token_ms":{:?},"#,
            r#""prompt_per_second":{:?},"predicted_n":{},"predicted_ms":{:?},"#,
            r#""predicted_per_token_ms":{:?},"predicted_per_second":{:?}}}"#
        ),
        prompt_n,
        prompt_ms,
        prompt_ms / f64::from(prompt_n),
        f64::from(prompt_n) * 1e3 / prompt_ms,
        predicted_n,
        predicted_ms,
        predicted_ms / gaps,
        gaps * 1e3 / predicted_ms,
    );
}
