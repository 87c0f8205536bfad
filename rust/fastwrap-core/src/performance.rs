//! The `performance` block: what a client is told about its request.

mod block;
mod engine;
mod gpu;
mod samples;

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

pub use self::block::Reasons;
pub use self::engine::{Engine, EngineNumbers};
pub use self::gpu::Gpu;
pub use self::samples::{Gauges, HostMemory};
use crate::timeline::Timeline;

/// How a request ended. Every request has exactly one outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The whole answer was passed on.
    Complete,
    /// The engine, or fastwrap, answered with an error; also in the middle of a stream.
    Error,
    /// The client left.
    Cancelled,
    /// The stream ended without its proper end.
    Incomplete,
}

impl Outcome {
    /// Every outcome, in the order of [`Self::index`].
    pub const ALL: [Self; 4] = [Self::Complete, Self::Error, Self::Cancelled, Self::Incomplete];

    /// The word used in blocks and labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
            Self::Incomplete => "incomplete",
        }
    }

    /// Its place in [`Self::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }
}

/// Most choices that are told one by one: those with the lowest indices.
const MAX_CHOICES: usize = 16;

/// One of several choices.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Choice {
    index: usize,
    ttft_ms: f64,
    chunks: u64,
}

/// The distribution of the gaps between chunks, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct InterChunk {
    mean: Option<f64>,
    p50: Option<f64>,
    p90: Option<f64>,
    p99: Option<f64>,
    max: Option<f64>,
    stalls: u64,
}

/// The block, flat, in the order in which it is written. Times in ms, memory in MiB, both with three decimals.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Performance {
    /// Request received → last byte of the answer received from the engine.
    pub latency_ms: Option<f64>,
    /// → first text of any sort.
    pub ttft_ms: Option<f64>,
    /// Time per output token after the first.
    pub tpot_ms: Option<f64>,
    /// Device memory, end − start.
    pub memory_delta_mb: Option<f64>,
    /// Device memory, highest sample.
    pub peak_memory_mb: Option<f64>,
    /// Device memory at the start.
    pub memory_start_mb: Option<f64>,
    /// Device memory at the end.
    pub memory_end_mb: Option<f64>,
    /// → first byte of the answer's body.
    pub first_byte_ms: Option<f64>,
    /// → first event with data.
    pub first_chunk_ms: Option<f64>,
    /// → first text that is no reasoning.
    pub first_answer_ms: Option<f64>,
    /// Gaps between events with text.
    pub inter_chunk_ms: Option<InterChunk>,
    /// Events with text.
    pub chunks: Option<u64>,
    /// Each choice that had text, if there are several.
    pub choices: Option<Vec<Choice>>,
    /// Tokens of the prompt.
    pub prompt_tokens: Option<u64>,
    /// Tokens generated.
    pub completion_tokens: Option<u64>,
    /// Of which reasoning.
    pub reasoning_tokens: Option<u64>,
    /// Of the prompt's, those that the engine had in its cache.
    pub cached_tokens: Option<u64>,
    /// Of the generated ones, those that the client had predicted.
    pub accepted_prediction_tokens: Option<u64>,
    /// `usage`, or null.
    pub token_source: Option<&'static str>,
    /// Tokens generated over `latency_ms`.
    pub output_tokens_per_second: Option<f64>,
    /// Time inside fastwrap, both ways.
    pub proxy_overhead_ms: Option<f64>,
    /// What the engine said of this request, and of all meanwhile.
    pub engine: Engine,
    /// The memory of the engine's processes.
    pub host_memory: Option<HostMemory>,
    /// Energy of all devices in the window, in joules.
    pub energy_j: Option<f64>,
    /// The request's share of it, in joules.
    pub attributed_energy_j: Option<f64>,
    /// That share over the tokens generated.
    pub energy_per_output_token_j: Option<f64>,
    /// Each device.
    pub gpu: Option<Vec<Gpu>>,
    /// Highest number of requests in flight meanwhile.
    pub concurrent_requests: u64,
    /// What the engine was asked for and measured as: `stream` or `json`.
    pub measured_as: &'static str,
    /// The engine's adapter.
    pub backend: Arc<str>,
    /// The request's id.
    pub request_id: String,
    /// How it ended.
    pub outcome: &'static str,
    /// What the error is called, if it ended in one.
    pub error_type: Option<Cow<'static, str>>,
    /// Why a field above is null.
    pub unavailable: Reasons,
    /// Members that hooks have added, as `,"name":value…`.
    pub extra: Bytes,
}

/// Milliseconds with three decimals.
#[must_use]
pub fn milliseconds(ns: f64) -> f64 {
    (ns / 1e3).round() / 1e3
}

#[allow(clippy::cast_precision_loss)] // 2^53 ns is 104 days
pub(crate) fn ms(ns: u64) -> f64 {
    milliseconds(ns as f64)
}

/// Mebibytes with three decimals.
#[allow(clippy::cast_precision_loss)] // 2^53 bytes is 8 PiB
fn mib(bytes: u64) -> f64 {
    (bytes as f64 / f64::from(1 << 20) * 1e3).round() / 1e3
}

impl Performance {
    /// Fills in the times and counts. `streamed` says whether the answer was an event stream, `unread` why nothing in
    /// it could be read.
    pub fn set_timeline(
        &mut self,
        timeline: &Timeline,
        streamed: bool,
        unread: Option<&'static str>,
    ) {
        let since = |ns: Option<u64>| ns.map(|ns| ms(ns.saturating_sub(timeline.received_ns)));
        self.latency_ms = since(timeline.last_byte_ns);
        self.first_byte_ms = since(timeline.first_byte_ns);
        for (field, missing) in [
            ("latency_ms", self.latency_ms.is_none()),
            ("first_byte_ms", self.first_byte_ms.is_none()),
        ] {
            if missing {
                self.without(field, "no_answer");
            }
        }
        self.set_tokens(timeline, unread);
        if let Some(reason) = unread.or((!streamed).then_some("not_streamed")) {
            for field in [
                "ttft_ms",
                "tpot_ms",
                "first_chunk_ms",
                "first_answer_ms",
                "inter_chunk_ms",
                "chunks",
                "choices",
            ] {
                self.without(field, reason);
            }
            return;
        }
        self.ttft_ms = timeline.ttft_ms();
        self.first_chunk_ms = since(timeline.first_chunk_ns);
        self.first_answer_ms = since(timeline.first_answer_ns);
        self.chunks = Some(timeline.text.chunks);
        for (field, missing, reason) in [
            ("ttft_ms", self.ttft_ms.is_none(), "no_text"),
            ("first_chunk_ms", self.first_chunk_ms.is_none(), "no_event"),
            ("first_answer_ms", self.first_answer_ms.is_none(), "no_text"),
        ] {
            if missing {
                self.without(field, reason);
            }
        }
        match timeline.time_per_output_token_ns() {
            Ok(ns) => self.tpot_ms = Some(milliseconds(ns)),
            Err(reason) => self.without("tpot_ms", reason),
        }
        self.set_gaps(timeline);
        self.set_choices(timeline);
    }

    fn set_choices(&mut self, timeline: &Timeline) {
        if timeline.text.first_ns.is_none() {
            return self.without("choices", "no_text");
        }
        if timeline.choices.len() < 2 {
            return self.without("choices", "single_choice");
        }
        let choices = timeline.several_choices().filter_map(|(index, choice)| {
            let ttft_ns = choice.first_ns?.saturating_sub(timeline.received_ns);
            Some(Choice { index, ttft_ms: ms(ttft_ns), chunks: choice.chunks })
        });
        self.choices = Some(choices.take(MAX_CHOICES).collect());
    }

    fn set_gaps(&mut self, timeline: &Timeline) {
        let gaps = &timeline.gaps;
        if timeline.choices.is_crowded() {
            return self.without("inter_chunk_ms", "too_many_choices");
        }
        if gaps.max_ns().is_none() {
            return self.without("inter_chunk_ms", "fewer_than_2_chunks");
        }
        self.inter_chunk_ms = Some(InterChunk {
            mean: gaps.mean_ns().map(ms),
            p50: gaps.quantile_ns(0.5).map(ms),
            p90: gaps.quantile_ns(0.9).map(ms),
            p99: gaps.quantile_ns(0.99).map(ms),
            max: gaps.max_ns().map(ms),
            stalls: gaps.stalls,
        });
    }

    fn set_tokens(&mut self, timeline: &Timeline, unread: Option<&'static str>) {
        let usage = timeline.usage.unwrap_or_default();
        self.prompt_tokens = usage.prompt;
        self.completion_tokens = usage.completion;
        self.reasoning_tokens = usage.reasoning;
        self.cached_tokens = usage.cached;
        self.accepted_prediction_tokens = usage.accepted_prediction;
        self.token_source = timeline.usage.map(|_| "usage");
        let missing = match timeline.usage {
            Some(_) => "not_reported",
            None => unread.unwrap_or("no_usage"),
        };
        if timeline.usage.is_none() {
            self.without("token_source", missing);
        }
        for (field, value) in [
            ("prompt_tokens", usage.prompt),
            ("completion_tokens", usage.completion),
            ("reasoning_tokens", usage.reasoning),
            ("cached_tokens", usage.cached),
            ("accepted_prediction_tokens", usage.accepted_prediction),
        ] {
            if value.is_none() {
                self.without(field, missing);
            }
        }
        let elapsed_ns = timeline.last_byte_ns.map(|ns| ns.saturating_sub(timeline.received_ns));
        match (usage.completion, elapsed_ns) {
            #[allow(clippy::cast_precision_loss)] // both far below 2^53
            (Some(tokens), Some(ns)) if ns > 0 => {
                self.output_tokens_per_second =
                    Some((tokens as f64 / ns as f64 * 1e12).round() / 1e3);
            }
            (Some(_), _) => self.without("output_tokens_per_second", "no_answer"),
            _ => self.without("output_tokens_per_second", missing),
        }
    }

    /// Takes over what the engine said of itself, and compares it with the times that are known by now.
    pub fn set_engine(&mut self, numbers: Option<EngineNumbers>) {
        self.engine.numbers = numbers;
        let Some(numbers) = &mut self.engine.numbers else {
            return self.without("engine", "not_reported");
        };
        numbers.compare("ttft_ms", self.ttft_ms, "ttft_difference_ms");
        numbers.compare("latency_ms", self.latency_ms, "latency_difference_ms");
    }

    /// Says how the request ended; `error_type` is what its error is called, if it ended in one.
    pub fn set_outcome(&mut self, outcome: Outcome, error_type: Option<Cow<'static, str>>) {
        self.outcome = outcome.name();
        self.error_type = error_type.filter(|_| outcome == Outcome::Error);
        self.unavailable.remove("error_type");
        if self.error_type.is_none() {
            self.without("error_type", "no_error");
        }
    }

    /// Says why a field is null.
    pub fn without(&mut self, field: &'static str, reason: &'static str) {
        self.unavailable.insert(field, reason);
    }

    /// The block as compact JSON.
    #[must_use]
    pub fn to_json(&self) -> Bytes {
        block::write(self).map_or_else(|_| Bytes::from_static(b"{}"), Bytes::from)
    }

    /// The block as a value of the `Server-Timing` header (W3C): the times that are known.
    #[must_use]
    pub fn to_server_timing(&self) -> String {
        let times = [
            ("total", self.latency_ms),
            ("ttft", self.ttft_ms),
            ("tpot", self.tpot_ms),
            ("proxy", self.proxy_overhead_ms),
        ];
        let known = times.iter().filter_map(|(name, ms)| ms.map(|ms| format!("{name};dur={ms}")));
        known.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests;
