use proptest::prelude::*;

use super::*;

const STALE_NS: u64 = 1_000;

/// A step of a history: some time passes, then a sample comes, or a request begins.
#[derive(Debug, Clone)]
enum Step {
    Sample(u64, Values),
    Begin(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let value = || prop::option::weighted(0.9, 0_u64..20);
    prop_oneof![
        3 => (1_u64..50, [value(), value(), value()]).prop_map(|(after, values)| Step::Sample(after, values)),
        1 => (0_u64..50).prop_map(Step::Begin),
    ]
}

/// The naive twin of [`SampleLog::window`]: looks at all samples.
fn naive(samples: &[(u64, Values)], before: usize, since_ns: u64, series: usize) -> Option<Span> {
    let value = |sample: &(u64, Values)| sample.1[series];
    let start = samples[..before].last().and_then(value)?;
    let end = samples.last().and_then(value)?;
    let inside = samples.iter().filter(|(at_ns, _)| *at_ns >= since_ns).filter_map(value);
    Some(Span { start, peak: inside.chain([start, end]).max()?, end })
}

proptest! {
    #[test]
    fn windows_equal_those_of_a_naive_twin(steps in prop::collection::vec(step(), 1..60)) {
        let mut log = SampleLog::new(u64::MAX);
        let (mut now_ns, mut samples, mut begun) = (0, Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Sample(after, values) => {
                    now_ns += after;
                    samples.push((now_ns, values));
                    log.board().write(now_ns, Ok(values));
                    log.refresh();
                }
                Step::Begin(after) => {
                    now_ns += after;
                    begun.push((now_ns, samples.len(), log.mark(now_ns)));
                }
            }
            for (since_ns, before, mark) in &begun {
                let Ok(mark) = mark else {
                    prop_assert_eq!((*before, mark.as_ref().err()), (0, Some(&"not_sampled")));
                    continue;
                };
                let window = log.window(mark, now_ns).unwrap();
                for (series, span) in window.series.into_iter().enumerate() {
                    prop_assert_eq!(span, naive(&samples, *before, *since_ns, series));
                }
                prop_assert_eq!(window.samples, (samples.len() - before) as u64);
            }
        }
    }
}

fn sampled(log: &mut SampleLog, at_ns: u64, value: u64) {
    log.board().write(at_ns, Ok([Some(value), None, None]));
    log.refresh();
}

#[test]
fn an_old_sample_is_no_start() {
    let mut log = SampleLog::new(STALE_NS);
    assert_eq!(log.mark(0).unwrap_err(), "not_sampled");
    sampled(&mut log, 10, 7);
    let mark = log.mark(10 + STALE_NS).unwrap();
    assert_eq!(log.mark(11 + STALE_NS).unwrap_err(), "stale");
    assert_eq!(log.window(&mark, 11 + STALE_NS).unwrap_err(), "stale");
    sampled(&mut log, 12 + STALE_NS, 9);
    let window = log.window(&mark, 13 + STALE_NS).unwrap();
    assert_eq!(window.series, [Some(Span { start: 7, peak: 9, end: 9 }), None, None]);
    assert_eq!(window.samples, 1);
}

#[test]
fn a_reason_stays_until_there_is_a_sample() {
    let mut log = SampleLog::new(STALE_NS);
    for reason in REASONS {
        log.board().write(1, Err(reason));
        log.refresh();
        assert_eq!(log.mark(2).unwrap_err(), reason);
    }
    sampled(&mut log, 3, 7);
    assert!(log.mark(4).is_ok());
}

#[test]
fn workers_see_each_others_samples() {
    let cells: Arc<[std::sync::atomic::AtomicU64]> = (0..CELLS).map(|_| 0.into()).collect();
    struct Shared(Arc<[std::sync::atomic::AtomicU64]>);
    impl crate::counters::Cells for Shared {
        fn cells(&self) -> &[std::sync::atomic::AtomicU64] {
            &self.0
        }
    }
    let mut workers = [(); 2].map(|()| {
        let mut log = SampleLog::new(STALE_NS);
        log.share(Board::new(Box::new(Shared(Arc::clone(&cells)))));
        log
    });
    let mark = |log: &SampleLog, at_ns| log.mark(at_ns).unwrap();
    sampled(&mut workers[0], 10, 5);
    workers[1].refresh();
    let marks = workers.each_ref().map(|log| mark(log, 11));
    for (at_ns, value) in [(20, 9), (30, 6)] {
        sampled(&mut workers[0], at_ns, value);
    }
    workers[1].refresh();
    for (log, mark) in workers.iter().zip(marks) {
        let window = log.window(&mark, 31).unwrap();
        assert_eq!(
            (window.series[0], window.samples),
            (Some(Span { start: 5, peak: 9, end: 6 }), 2)
        );
    }
    // Who has not looked for long gets what is left.
    for at_ns in 40..440 {
        sampled(&mut workers[0], at_ns, at_ns);
    }
    workers[1].refresh();
    assert_eq!(workers[1].last(440).unwrap(), workers[0].last(440).unwrap());
    assert!(workers[1].samples < workers[0].samples);
}

#[test]
fn one_at_a_time_takes_a_sample() {
    let board = Board::default();
    assert!(board.claim(100, 600));
    assert!(!board.claim(599, 999), "somebody is at it");
    assert!(board.claim(600, 1_100), "who has not come back is taken for dead");
    board.release(700);
    assert!(!board.claim(699, 999), "it is too early");
    assert!(board.claim(700, 999));
}
