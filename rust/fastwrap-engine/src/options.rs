//! What an engine is started with.

use std::time::Duration;

use crate::Flavor;

/// How the engine answers; [`Options::default`] is an engine without delays.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whose wire format is spoken.
    pub flavor: Flavor,
    /// Time from the last byte of the request to the first token.
    pub ttft: Duration,
    /// Time between two tokens.
    pub itl: Duration,
    /// Tokens in each choice, unless the request asks for fewer; at least 1.
    pub tokens: u32,
    /// Tokens in each event of a stream; at least 1.
    pub tokens_per_chunk: u32,
    /// Decides the text, the ids and the embeddings.
    pub seed: u64,
    /// The one model that is served.
    pub model: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            flavor: Flavor::default(),
            ttft: Duration::ZERO,
            itl: Duration::ZERO,
            tokens: 16,
            tokens_per_chunk: 1,
            seed: 0,
            model: "tiny".to_owned(),
        }
    }
}
