//! What the hot path has to know of an engine: data, handed over by its adapter.

use std::sync::Arc;

use crate::assemble::JsonForm;

/// One of the engine's own numbers, and how it is normalised.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineField {
    /// Its name within the engine's member, or that of a header; with dots between the names if it lies deeper.
    pub from: String,
    /// Its name under `engine` in the `performance` block.
    pub to: Arc<str>,
    /// What it is multiplied by.
    pub scale: f64,
}

/// One engine's habits.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// The adapter's name: `vllm`, `sglang`, …
    pub backend: Arc<str>,
    /// The engine understands `stream_options.include_usage`.
    pub stream_usage: bool,
    /// A stream ends with `[DONE]`.
    pub done: bool,
    /// Every choice gets usage of its own.
    pub usage_per_choice: bool,
    /// Who asks for usage gets it in every chunk, not only in one of its own.
    pub usage_in_chunks: bool,
    /// It closes the connection after a stream, though it promised to keep it.
    pub closes_after_stream: bool,
    /// The member of an answer, or of a chunk, that holds the engine's own numbers, by route; with dots between the names
    /// if it lies deeper, empty for the answer itself.
    pub engine_members: Vec<String>,
    /// In a stream that member comes only to those who ask for usage.
    pub engine_member_with_usage: bool,
    /// Which of them are taken over.
    pub engine_fields: Vec<EngineField>,
    /// Those that stand in the headers of an answer.
    pub engine_headers: Vec<EngineField>,
    /// How its JSON answers are made of its streams, if they can be.
    pub json_form: Option<JsonForm>,
}

impl Default for Profile {
    /// OpenAI's own behaviour: what is assumed of an engine that has not been recognised.
    fn default() -> Self {
        Self {
            backend: "openai".into(),
            stream_usage: true,
            done: true,
            usage_per_choice: false,
            usage_in_chunks: false,
            closes_after_stream: false,
            engine_members: Vec::new(),
            engine_member_with_usage: false,
            engine_fields: Vec::new(),
            engine_headers: Vec::new(),
            json_form: None,
        }
    }
}
