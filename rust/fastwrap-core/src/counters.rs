//! Counters and histograms: plain 64-bit cells, so that several processes can share them.
//!
//! The labels are a closed set: whatever clients send, the number of cells does not change.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::hooks::Hook;
use crate::performance::{Outcome, Performance};
use crate::route::Route;

/// OpenTelemetry's boundaries of `gen_ai.server.time_to_first_token`, in seconds.
pub const TIME_TO_FIRST_TOKEN: [f64; 16] =
    [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// OpenTelemetry's boundaries of `gen_ai.server.time_per_output_token`, in seconds.
pub const TIME_PER_OUTPUT_TOKEN: [f64; 13] =
    [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5];
/// OpenTelemetry's boundaries of `gen_ai.server.request.duration`, in seconds.
pub const REQUEST_DURATION: [f64; 14] =
    [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];

/// The histograms of one route, with their boundaries in seconds.
pub const HISTOGRAMS: [&[f64]; 3] =
    [&REQUEST_DURATION, &TIME_TO_FIRST_TOKEN, &TIME_PER_OUTPUT_TOKEN];

const ROUTES: usize = Route::ALL.len();
/// Measured routes, and everything else.
const KINDS: usize = ROUTES + 1;
const OUTCOMES: usize = Outcome::ALL.len();

const REQUESTS: usize = 0;
const IN_FLIGHT: usize = REQUESTS + KINDS * OUTCOMES;
const TOKENS: usize = IN_FLIGHT + 1;
const BUCKETS: usize = TOKENS + ROUTES * 2;
/// Cells of one histogram: its buckets, one above the last boundary, and the sum in nanoseconds.
const fn cells_of(histogram: &[f64]) -> usize {
    histogram.len() + 2
}
const CELLS_PER_ROUTE: usize =
    cells_of(&REQUEST_DURATION) + cells_of(&TIME_TO_FIRST_TOKEN) + cells_of(&TIME_PER_OUTPUT_TOKEN);
const INTERNAL_ERRORS: usize = BUCKETS + ROUTES * CELLS_PER_ROUTE;
const HOOK_ERRORS: usize = INTERNAL_ERRORS + 1;
const HOOK_DROPS: usize = HOOK_ERRORS + Hook::ALL.len();
/// How many cells there are.
pub const CELLS: usize = HOOK_DROPS + Hook::ALL.len();

/// Memory that holds cells, which processes may share.
pub trait Cells: Send + Sync {
    /// All of them: [`CELLS`], where they are counters.
    fn cells(&self) -> &[AtomicU64];
}

impl Cells for Box<[AtomicU64]> {
    fn cells(&self) -> &[AtomicU64] {
        self
    }
}

/// Cells of this process alone.
#[must_use]
pub fn private_cells() -> Box<dyn Cells> {
    Box::new((0..CELLS).map(|_| AtomicU64::new(0)).collect::<Box<[AtomicU64]>>())
}

/// One histogram, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// Count of each bucket, the last one above all boundaries; not cumulated.
    pub buckets: Vec<u64>,
    /// Sum of all values, in seconds.
    pub sum_seconds: f64,
}

/// The counters of one process.
pub struct Counters {
    cells: Box<dyn Cells>,
}

impl std::fmt::Debug for Counters {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Counters").finish_non_exhaustive()
    }
}

impl Counters {
    /// Counts in `cells`.
    #[must_use]
    pub fn new(cells: Box<dyn Cells>) -> Self {
        Self { cells }
    }

    fn add(&self, at: usize, value: u64) {
        if let Some(cell) = self.cells.cells().get(at) {
            cell.fetch_add(value, Ordering::Relaxed);
        }
    }

    /// A request began; returns how many are in flight, this one included.
    pub fn begin(&self) -> u64 {
        self.cells.cells().get(IN_FLIGHT).map_or(0, |cell| cell.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// A request ended. `performance` is given where it was measured.
    pub fn end(&self, route: Option<Route>, outcome: Outcome, performance: Option<&Performance>) {
        if let Some(cell) = self.cells.cells().get(IN_FLIGHT) {
            cell.fetch_sub(1, Ordering::Relaxed);
        }
        let kind = route.map_or(ROUTES, Route::index);
        self.add(REQUESTS + kind * OUTCOMES + outcome.index(), 1);
        if let (Some(route), Some(performance)) = (route, performance) {
            self.observe(route, performance);
        }
    }

    /// A panic or an exception, fastwrap's own fault, ended what was done for one client.
    pub fn internal_error(&self) {
        self.add(INTERNAL_ERRORS, 1);
    }

    /// A hook failed, or took too long.
    pub fn hook_error(&self, hook: Hook) {
        self.add(HOOK_ERRORS + hook.index(), 1);
    }

    /// A hook was not told: too much waited for it already.
    pub fn hook_drop(&self, hook: Hook) {
        self.add(HOOK_DROPS + hook.index(), 1);
    }

    fn observe(&self, route: Route, performance: &Performance) {
        let tokens = [performance.prompt_tokens, performance.completion_tokens];
        for (at, count) in tokens.into_iter().enumerate() {
            self.add(TOKENS + route.index() * 2 + at, count.unwrap_or(0));
        }
        let times = [performance.latency_ms, performance.ttft_ms, performance.tpot_ms];
        let mut start = BUCKETS + route.index() * CELLS_PER_ROUTE;
        for (boundaries, ms) in HISTOGRAMS.into_iter().zip(times) {
            if let Some(ms) = ms {
                let bucket = boundaries.partition_point(|bound| *bound < ms / 1e3);
                self.add(start + bucket, 1);
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                // a time, never negative
                self.add(start + boundaries.len() + 1, (ms * 1e6) as u64);
            }
            start += cells_of(boundaries);
        }
    }

    /// A copy of all cells, to be added to those of other processes.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.cells.cells().iter().map(|cell| cell.load(Ordering::Relaxed)).collect())
    }
}

/// All counters at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot(Vec<u64>);

impl Snapshot {
    /// The cells of another process.
    #[must_use]
    pub fn from_cells(cells: Vec<u64>) -> Self {
        Self(cells)
    }

    /// Nothing is in flight any more: the process has ended.
    pub fn forget_in_flight(&mut self) {
        if let Some(cell) = self.0.get_mut(IN_FLIGHT) {
            *cell = 0;
        }
    }

    fn cell(&self, at: usize) -> u64 {
        self.0.get(at).copied().unwrap_or(0)
    }

    /// Adds the cells of another process.
    pub fn add(&mut self, other: &Self) {
        self.0.resize(CELLS, 0);
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = mine.wrapping_add(*theirs);
        }
    }

    /// Requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.cell(IN_FLIGHT)
    }

    /// Panics and exceptions.
    #[must_use]
    pub fn internal_errors(&self) -> u64 {
        self.cell(INTERNAL_ERRORS)
    }

    /// How often a hook failed, and how often it was not told.
    #[must_use]
    pub fn hook(&self, hook: Hook) -> [u64; 2] {
        [self.cell(HOOK_ERRORS + hook.index()), self.cell(HOOK_DROPS + hook.index())]
    }

    /// Requests that ended; `None` is everything that is not measured.
    #[must_use]
    pub fn requests(&self, route: Option<Route>, outcome: Outcome) -> u64 {
        self.cell(REQUESTS + route.map_or(ROUTES, Route::index) * OUTCOMES + outcome.index())
    }

    /// Prompt and completion tokens.
    #[must_use]
    pub fn tokens(&self, route: Route) -> [u64; 2] {
        let at = TOKENS + route.index() * 2;
        [self.cell(at), self.cell(at + 1)]
    }

    /// The histograms of a route, in the order of [`HISTOGRAMS`].
    #[must_use]
    pub fn histograms(&self, route: Route) -> Vec<Histogram> {
        let mut start = BUCKETS + route.index() * CELLS_PER_ROUTE;
        let mut histograms = Vec::with_capacity(HISTOGRAMS.len());
        for boundaries in HISTOGRAMS {
            let buckets = (0..=boundaries.len()).map(|bucket| self.cell(start + bucket)).collect();
            #[allow(clippy::cast_precision_loss)] // a sum of 2^53 ns is 104 days
            let sum_seconds = self.cell(start + boundaries.len() + 1) as f64 / 1e9;
            histograms.push(Histogram { buckets, sum_seconds });
            start += cells_of(boundaries);
        }
        histograms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_once_and_in_the_right_buckets() {
        let counters = Counters::new(private_cells());
        assert_eq!((counters.begin(), counters.begin()), (1, 2));
        let performance = Performance {
            latency_ms: Some(20.0),
            ttft_ms: Some(0.5),
            tpot_ms: Some(9999.0),
            prompt_tokens: Some(3),
            completion_tokens: Some(5),
            ..Performance::default()
        };
        counters.end(Some(Route::Chat), Outcome::Complete, Some(&performance));
        counters.end(None, Outcome::Cancelled, None);
        let snapshot = counters.snapshot();
        assert_eq!(snapshot.in_flight(), 0);
        assert_eq!(snapshot.requests(Some(Route::Chat), Outcome::Complete), 1);
        assert_eq!(snapshot.requests(None, Outcome::Cancelled), 1);
        assert_eq!(snapshot.tokens(Route::Chat), [3, 5]);
        let histograms = snapshot.histograms(Route::Chat);
        // A value on a boundary belongs to the bucket below it: Prometheus' `le`.
        assert_eq!(histograms[0].buckets[1], 1);
        assert_eq!(histograms[1].buckets[0], 1);
        assert_eq!(histograms[2].buckets[TIME_PER_OUTPUT_TOKEN.len()], 1);
        assert!((histograms[0].sum_seconds - 0.02).abs() < 1e-9);
        let all: u64 =
            Route::ALL.iter().flat_map(|r| snapshot.histograms(*r)).flat_map(|h| h.buckets).sum();
        assert_eq!(all, 3);
    }

    #[test]
    fn snapshots_add_up() {
        let counters = [Counters::new(private_cells()), Counters::new(private_cells())];
        let mut total = Snapshot::default();
        for one in &counters {
            one.begin();
            one.end(Some(Route::Scores), Outcome::Error, Some(&Performance::default()));
            total.add(&one.snapshot());
        }
        assert_eq!(total.requests(Some(Route::Scores), Outcome::Error), 2);
    }
}
