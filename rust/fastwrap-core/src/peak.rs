//! The highest value since a moment, for questions that all end "now".

use std::collections::VecDeque;

/// Most values kept; beyond it the oldest are forgotten, so a question about them sees a later, lower peak.
const MAX_KEPT: usize = 65_536;

/// A stack of values that fall over time: the first one at or after a moment is the highest since.
///
/// A value is dropped when a later one is at least as high. A push is O(1) on the average, a question O(log n).
#[derive(Debug, Default)]
pub struct PeakSince {
    falling: VecDeque<(u64, u64)>,
}

impl PeakSince {
    /// Adds `value` at `at_ns`; a time before the last one's counts as the last one's.
    pub fn push(&mut self, at_ns: u64, value: u64) {
        let at_ns = self.falling.back().map_or(at_ns, |(last_ns, _)| at_ns.max(*last_ns));
        while self.falling.back().is_some_and(|(_, last)| *last <= value) {
            self.falling.pop_back();
        }
        if self.falling.len() == MAX_KEPT {
            self.falling.pop_front();
        }
        self.falling.push_back((at_ns, value));
    }

    /// The highest value pushed at or after `since_ns`, and when: the last time, if it was reached several times.
    #[must_use]
    pub fn highest(&self, since_ns: u64) -> Option<(u64, u64)> {
        let first = self.falling.partition_point(|(at_ns, _)| *at_ns < since_ns);
        self.falling.get(first).copied()
    }

    /// The highest value pushed at or after `since_ns`.
    #[must_use]
    pub fn peak(&self, since_ns: u64) -> Option<u64> {
        self.highest(since_ns).map(|(_, value)| value)
    }

    /// The last value pushed.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.falling.back().map(|(_, value)| *value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equals_the_naive_maximum(values in prop::collection::vec(0_u64..20, 1..200), since in 0_u64..200) {
            let mut peak = PeakSince::default();
            for (at, value) in values.iter().enumerate() {
                peak.push(at as u64, *value);
            }
            let naive = values.iter().skip(usize::try_from(since).unwrap()).max().copied();
            prop_assert_eq!(peak.peak(since), naive);
            prop_assert_eq!(peak.last(), values.last().copied());
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut peak = PeakSince::default();
        for at in 0..(MAX_KEPT as u64 + 10) {
            peak.push(at, u64::MAX - at);
        }
        assert_eq!(peak.falling.len(), MAX_KEPT);
        assert_eq!(peak.peak(0), Some(u64::MAX - 10));
    }
}
