//! What is going to be said to one request, decided before anything is rendered.

use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::flavor::Flavor;
use crate::lexicon::{escape, mix, push_tokens};
use crate::options::Options;
use crate::request::Request;

/// The most choices that one request gets.
const MAX_CHOICES: i64 = 128;

/// The arguments of every tool call, one token each, escaped for a JSON string inside JSON.
const ARGUMENTS: [&str; 5] = [r#"{\""#, "location", r#"\": \""#, "Paris", r#"\"}"#];

/// The arguments as Go's encoder writes them, without the space.
const COMPACT_ARGUMENTS: [&str; 5] = [r#"{\""#, "location", r#"\":\""#, "Paris", r#"\"}"#];

/// Which of the two APIs is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Chat,
    Completion,
}

/// What a piece of an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Content,
    Reasoning,
    Tool,
}

/// The plan of an answer; strings are escaped for JSON.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) flavor: Flavor,
    pub(crate) endpoint: Endpoint,
    pub(crate) id: String,
    pub(crate) tool_id: String,
    pub(crate) model: String,
    pub(crate) created: u64,
    pub(crate) choices: u32,
    pub(crate) prompt_tokens: u32,
    /// Tokens in each choice, reasoning included.
    pub(crate) tokens: u32,
    /// How many of them, from the first, are reasoning.
    pub(crate) reasoning_tokens: u32,
    pub(crate) tool: Option<String>,
    pub(crate) finish: &'static str,
    pub(crate) include_usage: bool,
    pub(crate) continuous_usage: bool,
    /// Whether each event says when it was sent.
    pub(crate) stamped: bool,
    pub(crate) ttft: Duration,
    pub(crate) itl: Duration,
    tokens_per_chunk: u32,
    seed: u64,
}

impl Answer {
    /// Plan the answer to `request`, the `serial`-th of this engine.
    pub(crate) fn new(
        options: &Options,
        endpoint: Endpoint,
        request: &Request,
        serial: u64,
        request_id: Option<&str>,
    ) -> Self {
        let flavor = options.flavor;
        let tool = request.tool().filter(|_| endpoint == Endpoint::Chat);
        let available =
            if tool.is_some() { 1 + ARGUMENTS.len() as u32 } else { options.tokens.max(1) };
        let limit = request.limit();
        let tokens = limit.map_or(available, |limit| limit.min(available));
        let finish = match (limit, tool) {
            // A model that was to stop after the last token has not said so when the limit is reached.
            (Some(limit), None) if limit <= available => "length",
            (Some(limit), Some(_)) if limit < available => "length",
            (_, Some(_)) => "tool_calls",
            _ => "stop",
        };
        let reasons = endpoint == Endpoint::Chat
            && tool.is_none()
            && request.reasons()
            && flavor.reasoning_field().is_some();
        let asked = request.stream_options.unwrap_or_default();
        let words = if endpoint == Endpoint::Chat { request.messages } else { request.prompt };
        Self {
            flavor,
            endpoint,
            id: answer_id(flavor, endpoint, options.seed, serial, request_id),
            tool_id: tool_id(flavor, options.seed, serial),
            model: escape(
                request.model.as_deref().unwrap_or(&options.model),
                flavor.escapes_html(),
            ),
            created: unix_seconds(),
            choices: if flavor.has_choices() {
                request.n.unwrap_or(1).clamp(1, MAX_CHOICES) as u32
            } else {
                1
            },
            prompt_tokens: words.unwrap_or_default().0.max(1),
            tokens,
            reasoning_tokens: if reasons { tokens / 2 } else { 0 },
            tool: tool.map(|name| escape(name, flavor.escapes_html())),
            finish,
            include_usage: asked.include_usage.unwrap_or(false),
            continuous_usage: flavor.has_continuous_usage()
                && asked.include_usage.unwrap_or(false)
                && asked.continuous_usage_stats.unwrap_or(false),
            stamped: request.fastwrap_sim.unwrap_or_default().stamp,
            ttft: options.ttft,
            itl: options.itl,
            tokens_per_chunk: options.tokens_per_chunk.max(1),
            seed: options.seed,
        }
    }

    /// Return the tokens of the chunk that starts at token `start`; a chunk never mixes reasoning and content.
    pub(crate) fn chunk(&self, start: u32) -> Range<u32> {
        if self.tool.is_some() && self.flavor.sends_whole_tool_call() {
            return start..self.tokens;
        }
        let end = start.saturating_add(self.tokens_per_chunk).min(self.tokens);
        if start < self.reasoning_tokens {
            start..end.min(self.reasoning_tokens)
        } else {
            start..end
        }
    }

    /// Return when the chunk with these tokens is due, counted from the request.
    pub(crate) fn due(&self, chunk: &Range<u32>) -> Duration {
        let whole = self.tool.is_some() && self.flavor.sends_whole_tool_call();
        let token = if whole { chunk.end.saturating_sub(1) } else { chunk.start };
        self.ttft.saturating_add(self.itl.saturating_mul(token))
    }

    /// Return when the last token is generated, counted from the request.
    pub(crate) fn duration(&self) -> Duration {
        self.ttft.saturating_add(self.itl.saturating_mul(self.tokens.saturating_sub(1)))
    }

    /// Return what the tokens from `start` on are.
    pub(crate) fn kind(&self, start: u32) -> Kind {
        if self.tool.is_some() {
            Kind::Tool
        } else if start < self.reasoning_tokens {
            Kind::Reasoning
        } else {
            Kind::Content
        }
    }

    /// Append text tokens of a choice, escaped for JSON.
    pub(crate) fn push_text(&self, out: &mut String, choice: u32, tokens: Range<u32>) {
        push_tokens(out, mix(self.seed, u64::from(choice)), tokens, self.flavor.escapes_html());
    }

    /// Append what the tokens of a tool call add to its arguments; token 0 is the function's name.
    pub(crate) fn push_arguments(&self, out: &mut String, tokens: &Range<u32>) {
        let pieces = if self.flavor.escapes_html() { COMPACT_ARGUMENTS } else { ARGUMENTS };
        for (token, piece) in (1..).zip(pieces) {
            if tokens.contains(&token) {
                out.push_str(piece);
            }
        }
    }
}

fn answer_id(
    flavor: Flavor,
    endpoint: Endpoint,
    seed: u64,
    serial: u64,
    request_id: Option<&str>,
) -> String {
    let prefix = if endpoint == Endpoint::Chat { "chatcmpl" } else { "cmpl" };
    let (high, low) = (mix(seed, serial), mix(!seed, serial));
    match (flavor, request_id) {
        (Flavor::Vllm, Some(given)) => format!("{prefix}-{}", escape(given, false)),
        (Flavor::Transformers, Some(given)) => escape(given, false),
        (Flavor::Vllm, None) => format!("{prefix}-{low:016x}"),
        (Flavor::Openai, _) => format!("{prefix}-{high:016x}{low:016x}"),
        (Flavor::Llamacpp, _) => format!("chatcmpl-{high:016x}{low:016x}"),
        (Flavor::Sglang | Flavor::Transformers, _) => format!("{high:016x}{low:016x}"),
        (Flavor::Ollama, _) => format!("{prefix}-{}", low % 1000),
        (Flavor::Tgi, _) => String::new(),
    }
}

fn tool_id(flavor: Flavor, seed: u64, serial: u64) -> String {
    let number = mix(seed ^ 1, serial);
    match flavor {
        Flavor::Vllm => format!("chatcmpl-tool-{number:016x}"),
        Flavor::Transformers => format!("{number:016x}_tool_call_0"),
        Flavor::Llamacpp => format!("{number:016x}"),
        Flavor::Tgi => "0".to_owned(),
        Flavor::Openai | Flavor::Sglang | Flavor::Ollama => format!("call_{number:016x}"),
    }
}

/// Return the time that `created` members state.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}
