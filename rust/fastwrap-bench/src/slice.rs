//! What was seen of one target in one round.

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;

use crate::answer::Failure;

/// Digits of a histogram's values that are exact: 0.1 %, which is 50 ns of a time of 50 µs.
const DIGITS: u8 = 3;

/// Times in nanoseconds, as an HDR histogram once there is one.
#[derive(Clone, Default)]
pub(crate) struct Times(Option<Histogram<u64>>);

impl fmt::Debug for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let max_ns = self.0.as_ref().map_or(0, Histogram::max);
        write!(f, "{} times up to {max_ns} ns", self.count())
    }
}

impl Times {
    pub(crate) fn record(&mut self, time_ns: u64) {
        if self.0.is_none() {
            self.0 = Histogram::new(DIGITS).ok();
        }
        if let Some(histogram) = &mut self.0 {
            // It grows to any time.
            let _ = histogram.record(time_ns);
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        match (&mut self.0, &other.0) {
            (Some(own), Some(other)) => drop(own.add(other)),
            (None, Some(other)) => self.0 = Some(other.clone()),
            (_, None) => {}
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::len)
    }

    /// A quantile, if there are enough times to know it: 1,000 for the 99.9th percentile.
    pub(crate) fn quantile_ns(&self, quantile: f64) -> Option<u64> {
        // A hair less, for 1 - 0.999 is more than 0.001.
        let enough = self.count() as f64 * (1.0 - quantile) >= 1.0 - 1e-6;
        let histogram = self.0.as_ref().filter(|_| enough || quantile <= 0.5)?;
        Some(histogram.value_at_quantile(quantile))
    }

    /// The distribution as pairs of a fraction and the time that this fraction does not exceed, closer and closer to 1.
    pub(crate) fn distribution(&self) -> Vec<(f64, u64)> {
        let steps = self.0.iter().flat_map(|histogram| histogram.iter_quantiles(16));
        steps.map(|step| (step.quantile(), step.value_iterated_to())).collect()
    }
}

/// What was seen of one target in one round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slice {
    /// From the start, intended or real, to the answer's last byte.
    pub(crate) latency: Times,
    /// From the start to the first event with text.
    pub(crate) ttft: Times,
    /// Between one event with text and the next.
    pub(crate) icl: Times,
    /// Between an event's sending, as the engine stamped it, and its arrival.
    pub(crate) transit: Times,
    /// By how much later than intended a request was handed to a connection, or began to wait for one.
    pub(crate) late: Times,
    /// Right answers.
    pub(crate) requests: u64,
    /// Events with text in them.
    pub(crate) chunks: u64,
    /// All others, by kind.
    pub(crate) errors: BTreeMap<Failure, u64>,
    /// How often a client connected anew in the middle of a slice.
    pub(crate) reconnects: u64,
    /// From the slice's start to its last answer's end, at least what the slice was to last.
    pub(crate) elapsed_ns: u64,
    /// CPU time of the target's processes.
    pub(crate) cpu_ns: Option<u64>,
    /// The most memory that they had.
    pub(crate) rss_bytes: Option<u64>,
    /// The most requests that were open at once.
    pub(crate) open: u64,
    /// CPU time of the generator itself.
    pub(crate) own_cpu_ns: u64,
}

impl Slice {
    /// Counts a right answer to a request that started at `start_ns`; `transits_ns` are times of sending and arrival.
    pub(crate) fn record(
        &mut self,
        start_ns: u64,
        arrivals_ns: &[u64],
        transits_ns: &[(u64, u64)],
        end_ns: u64,
    ) {
        self.requests += 1;
        self.chunks += arrivals_ns.len() as u64;
        self.latency.record(end_ns.saturating_sub(start_ns));
        if let Some(first_ns) = arrivals_ns.first() {
            self.ttft.record(first_ns.saturating_sub(start_ns));
        }
        for (earlier_ns, later_ns) in arrivals_ns.iter().zip(arrivals_ns.iter().skip(1)) {
            self.icl.record(later_ns.saturating_sub(*earlier_ns));
        }
        for (sent_ns, at_ns) in transits_ns {
            // What was sent before it was asked for, or after it came, was stamped by another machine's clock.
            if start_ns <= *sent_ns
                && let Some(transit_ns) = at_ns.checked_sub(*sent_ns)
            {
                self.transit.record(transit_ns);
            }
        }
    }

    pub(crate) fn fail(&mut self, failure: Failure, count: u64) {
        *self.errors.entry(failure).or_default() += count;
    }

    /// How many requests failed.
    pub(crate) fn failed(&self) -> u64 {
        self.errors.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_exact_to_a_thousandth() {
        let mut times = Times::default();
        assert_eq!((times.count(), times.quantile_ns(0.5)), (0, None));
        (1..=1000).for_each(|us| times.record(us * 1000));
        for (quantile, ns) in [(0.5, 500_000), (0.9, 900_000), (0.99, 990_000), (0.999, 999_000)] {
            let found = times.quantile_ns(quantile).unwrap();
            assert!(found.abs_diff(ns) <= ns / 1000, "{quantile}: {found}");
        }
    }

    #[test]
    fn a_quantile_needs_enough_times() {
        let mut times = Times::default();
        times.record(5);
        assert_eq!(times.quantile_ns(0.5), Some(5));
        (1..99).for_each(|_| times.record(5));
        assert_eq!((times.quantile_ns(0.99), times.quantile_ns(0.9)), (None, Some(5)));
        times.record(5);
        assert_eq!((times.quantile_ns(0.99), times.quantile_ns(0.999)), (Some(5), None));
        let mut all = Times::default();
        (0..10).for_each(|_| all.merge(&times));
        assert_eq!((all.count(), all.quantile_ns(0.999)), (1000, Some(5)));
    }

    #[test]
    fn a_distribution_ends_at_the_slowest() {
        let mut times = Times::default();
        [10, 20, 30, 40_000].iter().for_each(|ns| times.record(*ns));
        let points = times.distribution();
        assert!(points.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1));
        let last = points.last().unwrap();
        assert_eq!(last.0, 1.0);
        assert!(last.1.abs_diff(40_000) <= 40, "{last:?}");
    }

    #[test]
    fn a_stream_gives_all_its_times() {
        let mut slice = Slice::default();
        slice.record(100, &[110, 110, 130], &[(105, 110), (109, 110), (99, 130), (131, 130)], 135);
        slice.record(200, &[], &[], 205);
        assert_eq!((slice.requests, slice.chunks), (2, 3));
        assert_eq!((slice.ttft.quantile_ns(0.5), slice.ttft.count()), (Some(10), 1));
        assert_eq!((slice.icl.count(), slice.icl.quantile_ns(0.5)), (2, Some(0)));
        assert_eq!((slice.transit.count(), slice.transit.quantile_ns(0.5)), (2, Some(1)));
        assert_eq!(slice.latency.quantile_ns(0.5), Some(5));
        slice.fail(Failure::Status(503), 2);
        slice.fail(Failure::Closed, 1);
        assert_eq!(slice.failed(), 3);
    }
}
