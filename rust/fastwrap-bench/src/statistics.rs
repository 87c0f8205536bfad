//! Medians over rounds, and how far they can be trusted.

use serde::Serialize;

use crate::random::Random;

/// Resamples of an interval: enough for two digits of its ends.
const RESAMPLES: usize = 1000;
/// Below this many rounds an interval would be a guess.
const MIN_ROUNDS: usize = 3;
/// What lies outside of an interval, on each side: 2.5 %.
const TAIL: f64 = 0.025;

/// A number and its 95 % confidence interval over rounds, if there are enough of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Estimate {
    pub(crate) value: f64,
    pub(crate) low: Option<f64>,
    pub(crate) high: Option<f64>,
}

impl Estimate {
    /// A number without an interval.
    pub(crate) fn exact(value: f64) -> Self {
        Self { value, low: None, high: None }
    }
}

/// One number a round; `None` where a round has none.
pub(crate) type Series = Vec<Option<f64>>;

/// Combines two series round by round: what drifts from round to round drifts for both of a pair.
pub(crate) fn paired(a: &Series, b: &Series, combine: fn(f64, f64) -> f64) -> Series {
    let pairs = a.iter().zip(b);
    pairs.map(|(a, b)| Some(combine((*a)?, (*b)?)).filter(|number| number.is_finite())).collect()
}

/// The median; the mean of the two in the middle of an even number.
pub(crate) fn median(numbers: &mut [f64]) -> Option<f64> {
    let last = numbers.len().checked_sub(1)?;
    numbers.sort_unstable_by(f64::total_cmp);
    Some((numbers.get(last / 2)? + numbers.get(last.div_ceil(2))?) / 2.0)
}

/// Gives what `combine` makes of the medians of some series, if at least half of the rounds have the numbers for it.
///
/// The interval is the percentile bootstrap's (Efron 1979): rounds are drawn with replacement, the same ones for every
/// series.
pub(crate) fn estimate(
    series: &[&Series],
    combine: impl Fn(&[f64]) -> Option<f64>,
    seed: u64,
) -> Option<Estimate> {
    let rounds = series.iter().map(|series| series.len()).min()?;
    let whole: Vec<usize> = (0..rounds)
        .filter(|round| series.iter().all(|series| matches!(series.get(*round), Some(Some(_)))))
        .collect();
    if whole.is_empty() || whole.len() * 2 < rounds {
        return None;
    }
    let of = |rounds: &[usize]| {
        let medians = series.iter().map(|series| {
            let numbers = rounds.iter().filter_map(|round| *series.get(*round)?);
            median(&mut numbers.collect::<Vec<_>>())
        });
        combine(&medians.collect::<Option<Vec<_>>>()?).filter(|value| value.is_finite())
    };
    let value = of(&whole)?;
    if whole.len() < MIN_ROUNDS {
        return Some(Estimate::exact(value));
    }
    let mut random = Random::new(seed, 0xb007);
    let mut drawn = vec![0; whole.len()];
    let mut values = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        for round in &mut drawn {
            *round = whole.get(random.below(whole.len())).copied().unwrap_or_default();
        }
        values.extend(of(&drawn));
    }
    values.sort_unstable_by(f64::total_cmp);
    // A statistic that many resamples do not have has no interval.
    let sure = values.len() * 10 >= RESAMPLES * 9;
    let at = |share: f64| {
        let index = (share * values.len().saturating_sub(1) as f64).round() as usize;
        values.get(index).copied().filter(|_| sure)
    };
    Some(Estimate { value, low: at(TAIL), high: at(1.0 - TAIL) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(medians: &[f64]) -> Option<f64> {
        medians.first().copied()
    }

    fn series(numbers: &[f64]) -> Series {
        numbers.iter().map(|number| Some(*number)).collect()
    }

    #[test]
    fn medians() {
        assert_eq!(median(&mut []), None);
        assert_eq!(median(&mut [3.0]), Some(3.0));
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn drift_cancels_out_of_paired_differences() {
        // Every round is slower than the one before; the target adds 5 in each.
        let baseline = series(&[10.0, 20.0, 40.0, 80.0, 160.0]);
        let target = series(&[15.0, 25.0, 45.0, 85.0, 165.0]);
        let added = paired(&target, &baseline, |a, b| a - b);
        let found = estimate(&[&added], first, 0).unwrap();
        assert_eq!(found, Estimate { value: 5.0, low: Some(5.0), high: Some(5.0) });
    }

    #[test]
    fn an_interval_holds_the_median_and_ignores_one_bad_round() {
        let found =
            estimate(&[&series(&[10.0, 11.0, 9.0, 10.0, 12.0, 9.0, 500.0])], first, 1).unwrap();
        assert_eq!(found.value, 10.0);
        assert!(found.low.unwrap() >= 9.0 && found.high.unwrap() <= 12.0, "{found:?}");
        assert_eq!(
            found,
            estimate(&[&series(&[10.0, 11.0, 9.0, 10.0, 12.0, 9.0, 500.0])], first, 1).unwrap()
        );
    }

    #[test]
    fn the_interval_covers_as_often_as_it_says() {
        let mut random = Random::new(5, 0);
        let covered = (0..400).filter(|trial| {
            let numbers = (0..15).map(|_| Some(random.exponential())).collect();
            let found = estimate(&[&numbers], first, *trial).unwrap();
            let truth = std::f64::consts::LN_2;
            found.low.unwrap() <= truth && truth <= found.high.unwrap()
        });
        let covered = covered.count();
        assert!((360..=400).contains(&covered), "{covered} of 400");
    }

    #[test]
    fn what_cannot_be_known_is_not_given() {
        assert_eq!(estimate(&[], first, 0), None);
        assert_eq!(estimate(&[&vec![None, None, Some(1.0)]], first, 0), None);
        assert_eq!(
            estimate(&[&vec![None, Some(1.0), Some(1.0)]], first, 0),
            Some(Estimate::exact(1.0))
        );
        let ratio = |medians: &[f64]| Some(medians[0] / medians[1]).filter(|_| medians[1] > 0.0);
        let (some, zero) = (series(&[1.0, 2.0, 3.0]), series(&[0.0, 0.0, 0.0]));
        assert_eq!(estimate(&[&some, &zero], ratio, 0), None);
        let noise = series(&[1.0, 1.0, -1.0]);
        let found = estimate(&[&some, &noise], ratio, 0).unwrap();
        assert_eq!((found.value, found.low), (2.0, None));
        assert_eq!(paired(&some, &zero, |a, b| a / b), vec![None; 3]);
    }
}
