//! The `performance` block: what a client is told about its request.

mod block;
mod engine;
mod gpu;
mod samples;

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
    /// Tokens of the prompt.
    pub prompt_tokens: Option<u64>,
    /// Tokens generated.
    pub completion_tokens: Option<u64>,
    /// Of which reasoning.
    pub reasoning_tokens: Option<u64>,
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
    /// Why a field above is null.
    pub unavailable: Reasons,
}

/// Milliseconds with three decimals.
#[must_use]
pub fn milliseconds(ns: f64) -> f64 {
    (ns / 1e3).round() / 1e3
}

#[allow(clippy::cast_precision_loss)] // 2^53 ns is 104 days
fn ms(ns: u64) -> f64 {
    milliseconds(ns as f64)
}

/// Mebibytes with three decimals.
#[allow(clippy::cast_precision_loss)] // 2^53 bytes is 8 PiB
fn mib(bytes: u64) -> f64 {
    (bytes as f64 / f64::from(1 << 20) * 1e3).round() / 1e3
}

impl Performance {
    /// Fills in the times and counts. `streamed` says whether the answer was an event stream.
    pub fn set_timeline(&mut self, timeline: &Timeline, streamed: bool) {
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
        self.set_tokens(timeline);
        if !streamed {
            for field in [
                "ttft_ms",
                "tpot_ms",
                "first_chunk_ms",
                "first_answer_ms",
                "inter_chunk_ms",
                "chunks",
            ] {
                self.without(field, "not_streamed");
            }
            return;
        }
        self.ttft_ms = since(timeline.first_token_ns);
        self.first_chunk_ms = since(timeline.first_chunk_ns);
        self.first_answer_ms = since(timeline.first_answer_ns);
        self.chunks = Some(timeline.chunks);
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
    }

    fn set_gaps(&mut self, timeline: &Timeline) {
        let gaps = &timeline.gaps;
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

    fn set_tokens(&mut self, timeline: &Timeline) {
        let usage = timeline.usage.unwrap_or_default();
        self.prompt_tokens = usage.prompt;
        self.completion_tokens = usage.completion;
        self.reasoning_tokens = usage.reasoning;
        self.token_source = timeline.usage.map(|_| "usage");
        let missing = if timeline.usage.is_none() { "no_usage" } else { "not_reported" };
        if timeline.usage.is_none() {
            self.without("token_source", missing);
        }
        for (field, value) in [
            ("prompt_tokens", usage.prompt),
            ("completion_tokens", usage.completion),
            ("reasoning_tokens", usage.reasoning),
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

    /// Takes over what the engine said of itself.
    pub fn set_engine(&mut self, numbers: Option<EngineNumbers>) {
        if numbers.is_none() {
            self.without("engine", "not_reported");
        }
        self.engine.numbers = numbers;
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
