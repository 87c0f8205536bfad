//! What happens in any order, beside what is plainly true of it.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Happening {
    Begin,
    End(prop::sample::Index),
    Memory(u64),
    Power(u64),
}

fn happenings() -> impl Strategy<Value = Vec<(u64, Happening)>> {
    let one = prop_oneof![
        2 => Just(Happening::Begin),
        2 => any::<prop::sample::Index>().prop_map(Happening::End),
        4 => (0_u64..1000).prop_map(Happening::Memory),
        4 => (0_u64..90_000).prop_map(Happening::Power),
    ];
    prop::collection::vec((1_u64..150, one), 1..if cfg!(miri) { 10 } else { 150 })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 3 } else { 300 }))]

    /// A naive twin keeps every reading, and looks at all of them.
    #[test]
    fn histories_equal_a_naive_twin(history in happenings()) {
        let mut bench = Bench::new(&["a"]);
        let mut now_ns = S;
        bench.memory(now_ns, &[500]);
        let mut memory = vec![(now_ns, 500)];
        let mut power: Vec<(u64, u64)> = Vec::new();
        let mut counter_mj = 0;
        let mut marks: Vec<(u64, Mark)> = Vec::new();
        for (step_ms, happening) in history {
            now_ns += step_ms * MS;
            match happening {
                Happening::Begin => marks.push((now_ns, bench.log.mark(now_ns).unwrap())),
                Happening::Memory(used) => {
                    bench.memory(now_ns, &[used]);
                    memory.push((now_ns, used));
                }
                Happening::Power(power_mw) => {
                    counter_mj += power_mw;
                    bench.power(now_ns, Ok(counter_mj), Ok(power_mw));
                    power.push((now_ns, power_mw));
                }
                Happening::End(which) if !marks.is_empty() => {
                    let (since_ns, mark) = marks.remove(which.index(marks.len()));
                    let Ok(window) = bench.log.window(&mark, now_ns) else { continue };
                    let start = memory.iter().rfind(|(at, _)| *at < since_ns).unwrap().1;
                    let inside: Vec<_> = memory.iter().filter(|(at, _)| *at >= since_ns).collect();
                    let peak = inside.iter().map(|(_, used)| *used).max().unwrap_or(start);
                    let total = window.total.unwrap();
                    prop_assert_eq!(total.peak_bytes, peak.max(start));
                    prop_assert_eq!((total.start_bytes, total.end_bytes), (start, memory.last().unwrap().1));
                    prop_assert_eq!(window.samples, inside.len() as u64);
                    let edges: Vec<u64> =
                        [since_ns].into_iter().chain(inside.iter().map(|(at, _)| *at)).chain([now_ns]).collect();
                    let gap_ns = edges.windows(2).map(|pair| pair[1] - pair[0]).max();
                    prop_assert_eq!(Some(window.largest_gap_ns), gap_ns);
                    let drawn: Vec<u64> =
                        power.iter().filter(|(at, _)| *at >= since_ns).map(|(_, mw)| *mw).collect();
                    match window.devices[0].power_mw {
                        Ok(found) => {
                            let mean = drawn.iter().sum::<u64>() as f64 / drawn.len() as f64;
                            prop_assert_eq!(found, Summary { mean, peak: *drawn.iter().max().unwrap() });
                        }
                        Err(_) => prop_assert!(drawn.is_empty()),
                    }
                }
                Happening::End(_) => {}
            }
        }
    }

    /// Whatever begins and ends whenever, in whichever process: what requests were given, what nobody was, and a rest
    /// of less than a microjoule a request are the device's energy; and each is given what a naive twin gives it.
    #[test]
    fn attributed_energies_sum_to_the_devices(history in happenings(), other in 0_u64..3) {
        let mut bench = Bench::new(&["a"]);
        let elsewhere = bench.board.join(2, |_| true).unwrap();
        let mut now_ns = S;
        bench.memory(now_ns, &[0]);
        bench.power(now_ns, Ok(77), Ok(0));
        let mut counter_mj = 77;
        let mut was_busy = false;
        // Of each request: its mark, and what the twin gave it, in uJ; what was given to the others.
        let mut requests: Vec<(Mark, f64)> = Vec::new();
        let (mut given, mut idle) = (0.0, 0.0);
        for (step_ms, happening) in history {
            now_ns += step_ms * MS;
            let last_ns = now_ns;
            match happening {
                Happening::Begin => requests.push((bench.log.mark(now_ns).unwrap(), 0.0)),
                Happening::End(which) if !requests.is_empty() => {
                    let (mark, naive_uj) = requests.remove(which.index(requests.len()));
                    given += naive_uj;
                    if let Ok(energy) = bench.log.window(&mark, last_ns).unwrap().devices[0].energy {
                        prop_assert!((energy.attributed_uj as f64 - naive_uj).abs() < 200.0);
                        prop_assert!(energy.attributed_uj <= energy.device_uj + 200);
                    }
                }
                Happening::Power(used_mj) => {
                    counter_mj += used_mj;
                    bench.board.count(elsewhere, other);
                    bench.power(now_ns, Ok(counter_mj), Ok(0));
                    let among = requests.len() as u64 + other;
                    if was_busy && among > 0 {
                        let part = used_mj as f64 * 1e3 / among as f64;
                        requests.iter_mut().for_each(|(_, share)| *share += part);
                        given += part * other as f64;
                    } else {
                        idle += used_mj as f64 * 1e3;
                    }
                    was_busy = among > 0;
                }
                _ => {}
            }
            bench.board.count(bench.slot, requests.len() as u64);
        }
        given += requests.iter().map(|(_, share)| share).sum::<f64>();
        let [total_uj, given_uj, idle_uj, rest_uj] = bench.board.account_uj(0);
        prop_assert_eq!(total_uj, (counter_mj - 77) * 1000);
        prop_assert_eq!(given_uj + idle_uj + rest_uj, total_uj);
        prop_assert!(rest_uj < 200);
        prop_assert!((given_uj as f64 - given).abs() < 200.0, "{} {}", given_uj, given);
        prop_assert!((idle_uj as f64 - idle).abs() < 1.0);
    }

    /// A spike that lasts longer than the largest gap is seen.
    #[test]
    fn a_spike_longer_than_the_largest_gap_is_seen(
        gaps_ms in prop::collection::vec(1_u64..200, 3..40), from in 0_u64..1000, extra_ns in 1_u64..1000,
    ) {
        let mut bench = Bench::new(&["a"]);
        bench.memory(S, &[1]);
        let mark = bench.log.mark(S).unwrap();
        let end_ns = S + gaps_ms.iter().sum::<u64>() * MS;
        let largest_ns = gaps_ms.iter().max().unwrap() * MS;
        let spike_ns = largest_ns + extra_ns;
        prop_assume!(end_ns - S > spike_ns);
        let from_ns = S + (end_ns - S - spike_ns) * from / 1000;
        let mut at_ns = S;
        for gap_ms in gaps_ms {
            at_ns += gap_ms * MS;
            let inside = (from_ns..from_ns + spike_ns).contains(&at_ns);
            bench.memory(at_ns, &[if inside { 9 } else { 1 }]);
        }
        let window = bench.log.window(&mark, end_ns).unwrap();
        prop_assert_eq!(window.largest_gap_ns, largest_ns);
        prop_assert_eq!(window.total.unwrap().peak_bytes, 9);
    }

    #[test]
    fn readings_and_reasons_fit_into_a_cell(value in 0_u64..u64::MAX - 100, which in 0..REASONS.len()) {
        prop_assert_eq!(decoded(encoded(Ok(value))), Ok(value));
        prop_assert_eq!(decoded(encoded(Err(REASONS[which]))), Err(REASONS[which]));
    }
}
