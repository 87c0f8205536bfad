//! Readings of one quantity of one device, and what they were since a request began.

use super::{Reading, STALLED_NS, WINDOW_TOO_SHORT};
use crate::peak::PeakSince;

/// Mean and highest of the readings in a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// The mean of all readings, each counting the same.
    pub mean: f64,
    /// The highest.
    pub peak: u64,
}

/// What is remembered of a request's start.
#[derive(Debug, Clone, Copy)]
pub(super) struct SeriesMark {
    sum: u64,
    count: u64,
}

/// All readings so far: a push is O(1) on the average, a question O(log n).
#[derive(Debug)]
pub(super) struct Series {
    peak: PeakSince,
    sum: u64,
    count: u64,
    last: Reading,
    /// When a value was last read.
    read_ns: u64,
}

impl Default for Series {
    fn default() -> Self {
        Self { peak: PeakSince::default(), sum: 0, count: 0, last: Err("not_sampled"), read_ns: 0 }
    }
}

impl Series {
    pub(super) fn push(&mut self, at_ns: u64, reading: Reading) {
        if let Ok(value) = reading {
            self.peak.push(at_ns, value);
            self.sum = self.sum.wrapping_add(value);
            self.count += 1;
            self.read_ns = at_ns;
        }
        self.last = reading;
    }

    pub(super) fn last(&self) -> Reading {
        self.last
    }

    /// The last value that was read: one that failed since may have failed for a moment only.
    pub(super) fn last_value(&self, now_ns: u64) -> Reading {
        let is_stale = now_ns.saturating_sub(self.read_ns) > STALLED_NS;
        self.last.or_else(|reason| self.peak.last().filter(|_| !is_stale).ok_or(reason))
    }

    pub(super) fn peak(&self, since_ns: u64) -> Option<u64> {
        self.peak.peak(since_ns)
    }

    pub(super) fn mark(&self) -> SeriesMark {
        SeriesMark { sum: self.sum, count: self.count }
    }

    pub(super) fn since(&self, mark: SeriesMark, since_ns: u64) -> Result<Summary, &'static str> {
        let count = self.count.saturating_sub(mark.count);
        let last = self.peak.last().filter(|_| count > 0);
        let Some(last) = last else {
            return Err(self.last.err().unwrap_or(WINDOW_TOO_SHORT));
        };
        // A reading that was begun before the request, and logged after, is in the mean alone.
        let peak = self.peak.peak(since_ns).unwrap_or(last);
        #[allow(clippy::cast_precision_loss)] // far below 2^53
        let mean = self.sum.wrapping_sub(mark.sum) as f64 / count as f64;
        Ok(Summary { mean, peak })
    }
}
