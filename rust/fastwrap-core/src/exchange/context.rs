//! All that a request's block is made of.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use http::StatusCode;

use super::assembled::AsStream;
use crate::enrich::Enrich;
use crate::gpu::Mark;
use crate::guard::Grant;
use crate::hooks::Asked;
use crate::meter::{EngineMarks, Meter};
use crate::performance::{EngineNumbers, Outcome, Performance, milliseconds};
use crate::profile::Profile;
use crate::request::Facts;
use crate::stream::Render;
use crate::timeline::Timeline;
use crate::upload::SharedReader;

/// Time that chunks spent in fastwrap before the server took them, and whether it failed; written by the server's side.
#[derive(Debug, Default)]
pub struct Transit {
    failed: AtomicBool,
    sum_ns: AtomicU64,
    count: AtomicU64,
}

impl Transit {
    /// Bytes that left the engine's socket at `read_ns` were handed to the server.
    pub fn handed_over(&self, read_ns: u64, now_ns: u64) {
        self.sum_ns.fetch_add(now_ns.saturating_sub(read_ns), Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// The server's side broke: an exchange that is dropped from now on was not cancelled by its client.
    pub fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    fn mean_ns(&self) -> Option<u64> {
        self.sum_ns.load(Ordering::Relaxed).checked_div(self.count.load(Ordering::Relaxed))
    }
}

/// All that the block is made of, beside the timeline.
pub(super) struct Context {
    pub(super) meter: Arc<Meter>,
    pub(super) profile: Arc<Profile>,
    pub(super) enrich: Enrich,
    /// What the page that asks may read, if that is fastwrap's to say.
    pub(super) grant: Option<Grant>,
    pub(super) began_ns: u64,
    pub(super) mark: Result<Mark, &'static str>,
    pub(super) engine_marks: EngineMarks,
    pub(super) facts: Facts,
    /// The body that is read as it passes.
    pub(super) upload: Option<Arc<SharedReader>>,
    pub(super) request_id: String,
    pub(super) transit: Arc<Transit>,
    pub(super) engine: Option<EngineNumbers>,
    pub(super) streamed: bool,
    pub(super) as_stream: AsStream,
    /// Why nothing in the answer could be read, if so.
    pub(super) unread: Option<&'static str>,
    pub(super) outcome: Outcome,
    /// What the error is called that was met.
    pub(super) error_type: Option<Cow<'static, str>>,
    /// What the client is answered with, as far as that is known.
    pub(super) status: Option<StatusCode>,
    /// What hooks are told; nothing where there are none.
    pub(super) asked: Option<Box<Asked>>,
    /// When the part of the answer that is being handled was taken up.
    pub(super) now_ns: u64,
    /// The block that the client got.
    pub(super) rendered: Option<Box<Performance>>,
}

/// OpenTelemetry's word for an error that has no name.
const UNNAMED_ERROR: &str = "_OTHER";

impl Context {
    /// The engine told an error of the type `name`, which may be empty.
    pub(super) fn met_error(&mut self, name: String) {
        self.error_type =
            Some(if name.is_empty() { UNNAMED_ERROR.into() } else { Cow::Owned(name) });
    }

    pub(super) fn performance(&mut self, timeline: &Timeline) -> Performance {
        let mut performance = Performance {
            backend: Arc::clone(&self.profile.backend),
            request_id: self.request_id.clone(),
            concurrent_requests: self.meter.peak_in_flight(self.began_ns),
            ..Performance::default()
        };
        performance.set_outcome(self.outcome, self.error_type.clone());
        performance.set_timeline(timeline, self.streamed, self.unread);
        performance.measured_as = if self.streamed { "stream" } else { "json" };
        if let (AsStream::LeftAlone(reason), false) = (self.as_stream, self.streamed) {
            performance.without("ttft_ms", reason);
        }
        let mark = self.mark.as_ref().map_err(|reason| *reason);
        let now_ns = self.now_ns;
        performance.set_gpu(mark.and_then(|mark| self.meter.gpu().window(mark, now_ns)));
        performance.set_engine(self.engine.take());
        let [gauges, host_memory] = self.meter.engine_windows(&self.engine_marks, now_ns);
        performance.set_gauges(gauges);
        performance.set_host_memory(host_memory);
        match self.overhead_ns(timeline) {
            #[allow(clippy::cast_precision_loss)] // 2^53 ns is 104 days
            Some(ns) => performance.proxy_overhead_ms = Some(milliseconds(ns as f64)),
            None => performance.without("proxy_overhead_ms", "not_sent"),
        }
        performance
    }

    /// The way in: received → written to the engine. The way out: a stream's chunks on the average from the socket to
    /// the server; a collected answer from its last read to here.
    fn overhead_ns(&self, timeline: &Timeline) -> Option<u64> {
        let inward = timeline.sent_ns?.saturating_sub(timeline.received_ns);
        let collected = || timeline.last_byte_ns.map(|read_ns| self.now_ns.saturating_sub(read_ns));
        let passes = self.streamed && self.as_stream != AsStream::Asked;
        let outward = if passes { self.transit.mean_ns() } else { None }.or_else(collected);
        Some(inward + outward.unwrap_or(0))
    }
}

impl Render for Context {
    fn render(&mut self, timeline: &Timeline) -> Option<Bytes> {
        if !self.enrich.any() {
            return None;
        }
        let mut performance = self.performance(timeline);
        self.add_extra(&mut performance);
        let json = performance.to_json();
        self.rendered = Some(Box::new(performance));
        Some(json)
    }

    fn engine_numbers(&mut self, data: &[u8]) {
        if let Some(numbers) = EngineNumbers::read(&self.profile, data) {
            self.engine = Some(numbers);
        }
    }

    fn first_text(&mut self, timeline: &Timeline) {
        self.tell_first_token(timeline);
    }

    fn comes_with_usage(&self) -> Option<&str> {
        let member = self.profile.engine_members.first()?.split('.').next();
        member.filter(|_| self.profile.engine_member_with_usage)
    }
}
