//! Deterministic embeddings.

use std::fmt::Write;

use crate::flavor::Flavor;
use crate::lexicon::{escape, mix};
use crate::options::Options;
use crate::request::Words;

/// Length of a vector if the request does not say.
const DIMENSIONS: u32 = 8;
/// Longest vector; larger requests are cut to this.
const MAX_DIMENSIONS: u32 = 16_384;

/// A request for embeddings.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct EmbeddingRequest {
    pub(crate) model: Option<String>,
    input: Input,
    dimensions: Option<u32>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(untagged)]
enum Input {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u64>),
}

/// Return the JSON body for a request; the same text always has the same vector.
pub(crate) fn render_embeddings(options: &Options, request: &EmbeddingRequest) -> String {
    let dimensions = request.dimensions.unwrap_or(DIMENSIONS).clamp(1, MAX_DIMENSIONS);
    let mut data = String::new();
    let mut words = 0u32;
    let mut push = |index: usize, hash: u64, Words(count): Words| {
        words = words.saturating_add(count);
        data.push_str(if index == 0 { "" } else { "," });
        push_vector(&mut data, index, options.seed ^ hash, dimensions, options.flavor);
    };
    match &request.input {
        Input::Text(text) => push(0, hash(text), count(text)),
        Input::Texts(texts) => {
            for (index, text) in texts.iter().enumerate() {
                push(index, hash(text), count(text));
            }
        }
        Input::Tokens(tokens) => {
            let hash = tokens.iter().fold(0, |hash, &token| mix(hash, token));
            push(0, hash, Words(tokens.len().try_into().unwrap_or(u32::MAX)));
        }
    }
    let model =
        escape(request.model.as_deref().unwrap_or(&options.model), options.flavor.escapes_html());
    let tokens = words.max(1);
    format!(
        r#"{{"object":"list","data":[{data}],"model":"{model}","usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}}}"#
    )
}

fn count(text: &str) -> Words {
    Words(text.split_whitespace().count().try_into().unwrap_or(u32::MAX))
}

fn hash(text: &str) -> u64 {
    text.bytes().fold(0, |hash, byte| mix(hash, u64::from(byte)))
}

fn push_vector(out: &mut String, index: usize, seed: u64, dimensions: u32, flavor: Flavor) {
    let index_first = matches!(flavor, Flavor::Vllm);
    if index_first {
        let _ = write!(out, r#"{{"index":{index},"object":"embedding","embedding":["#);
    } else {
        out.push_str(r#"{"object":"embedding","embedding":["#);
    }
    for position in 0..dimensions {
        // Six decimals between -1 and 1.
        let value = (mix(seed, u64::from(position)) % 2_000_001) as f64 / 1e6 - 1.0;
        let comma = if position == 0 { "" } else { "," };
        let _ = write!(out, "{comma}{value:.6}");
    }
    if index_first {
        out.push_str("]}");
    } else {
        let _ = write!(out, r#"],"index":{index}}}"#);
    }
}
