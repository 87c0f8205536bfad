//! What was sampled of the engine in a request's window: its gauges, and its processes' memory.

use serde::Serialize;

use super::{Performance, mib};
use crate::samples::{Span, Window};

/// What a sample has of a gauge is its value in millionths.
const MILLION: u64 = 1_000_000;
/// The gauges in the order of a sample.
const GAUGES: [&str; 3] = ["engine.kv_cache_usage", "engine.running", "engine.waiting"];

/// One of the engine's gauges.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Gauge<N> {
    start: N,
    peak: N,
    end: N,
}

impl<N> Gauge<N> {
    fn of(span: Span, value: impl Fn(u64) -> N) -> Self {
        Self { start: value(span.start), peak: value(span.peak), end: value(span.end) }
    }
}

impl From<Span> for Gauge<f64> {
    #[allow(clippy::cast_precision_loss)] // a million and little more
    fn from(span: Span) -> Self {
        Self::of(span, |millionths| millionths as f64 / MILLION as f64)
    }
}

impl From<Span> for Gauge<u64> {
    fn from(span: Span) -> Self {
        Self::of(span, |millionths| millionths / MILLION)
    }
}

/// The engine's own gauges: they tell of all its requests, not of this one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Gauges {
    /// The part of its KV cache that is in use, 0 to 1.
    kv_cache_usage: Option<Gauge<f64>>,
    /// Requests that it works on.
    running: Option<Gauge<u64>>,
    /// Requests that wait for it.
    waiting: Option<Gauge<u64>>,
    /// How often they were read meanwhile.
    gauge_samples: u64,
}

/// The memory of the engine's processes, in MiB.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct HostMemory {
    rss_start_mb: f64,
    rss_end_mb: f64,
    rss_peak_mb: f64,
    rss_delta_mb: f64,
    processes: u64,
    samples: u64,
}

impl Performance {
    /// Fills in the engine's gauges, each or the reason why there is none.
    pub fn set_gauges(&mut self, window: Result<Window, &'static str>) {
        let (series, samples) = match window {
            Ok(window) => (window.series.map(|span| span.ok_or("not_offered")), window.samples),
            Err(reason) => ([Err(reason); 3], 0),
        };
        for (field, span) in GAUGES.into_iter().zip(series) {
            if let Err(reason) = span {
                self.without(field, reason);
            }
        }
        if series.iter().any(Result::is_ok) {
            let [kv_cache_usage, running, waiting] = series.map(Result::ok);
            self.engine.gauges = Some(Gauges {
                kv_cache_usage: kv_cache_usage.map(Gauge::from),
                running: running.map(Gauge::from),
                waiting: waiting.map(Gauge::from),
                gauge_samples: samples,
            });
            self.unavailable.remove("engine");
        }
    }

    /// Fills in the memory of the engine's processes, or the reason why there is none.
    pub fn set_host_memory(&mut self, window: Result<Window, &'static str>) {
        match window.map(|window| (window.series, window.samples)) {
            Ok(([Some(rss), Some(processes), _], samples)) => {
                let delta_mb = mib(rss.end) - mib(rss.start);
                self.host_memory = Some(HostMemory {
                    rss_start_mb: mib(rss.start),
                    rss_end_mb: mib(rss.end),
                    rss_peak_mb: mib(rss.peak),
                    rss_delta_mb: (delta_mb * 1e3).round() / 1e3,
                    processes: processes.peak,
                    samples,
                });
            }
            Ok(_) => self.without("host_memory", "not_sampled"),
            Err(reason) => self.without("host_memory", reason),
        }
    }
}
