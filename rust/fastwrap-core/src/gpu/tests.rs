use std::sync::Arc;

use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;
const S: u64 = 1_000 * MS;

/// A board, a log that reads it, and the slot of a process that serves requests.
struct Bench {
    board: Arc<Board>,
    log: GpuLog,
    slot: Slot,
}

impl Bench {
    fn new(uuids: &[&str]) -> Self {
        let board = Arc::new(Board::private());
        let mut log = GpuLog::default();
        log.follow(Arc::clone(&board));
        board.set_devices(&uuids.iter().map(|uuid| (*uuid).to_owned()).collect::<Vec<_>>());
        let slot = board.join(1, |_| true).unwrap();
        Self { board, log, slot }
    }

    /// Memory in use of each device.
    fn memory(&self, at_ns: u64, used: &[u64]) {
        let rows: Vec<_> = used.iter().map(|used| vec![Ok(*used), Ok(1), Ok(100)]).collect();
        self.board.push(Kind::Memory, at_ns, &rows);
    }

    /// Counter and power of the one device.
    fn power(&self, at_ns: u64, counter_mj: Reading, power_mw: Reading) {
        self.board.push(Kind::Power, at_ns, &[vec![counter_mj, power_mw, Ok(0)]]);
    }
}

#[test]
fn peak_of_the_sum_is_not_the_sum_of_the_peaks() {
    let mut bench = Bench::new(&["a", "b"]);
    assert_eq!(bench.log.mark(0).unwrap_err(), "not_sampled");
    bench.memory(10, &[5, 5]);
    let mark = bench.log.mark(15).unwrap();
    for (at, used) in [(20, [9, 5]), (30, [5, 8]), (40, [4, 5])] {
        bench.memory(at, &used);
    }
    let window = bench.log.window(&mark, 51).unwrap();
    let total = Memory { start_bytes: 10, peak_bytes: 14, end_bytes: 9 };
    assert_eq!(window.total, Ok(total));
    let peaks: Vec<_> =
        window.devices.iter().map(|d| (&*d.uuid, d.memory.unwrap().peak_bytes)).collect();
    assert_eq!(peaks, [("a", 9), ("b", 8)]);
    assert_eq!(window.devices[0].reserved_bytes, Ok(1));
    assert_eq!((window.samples, window.interval_ns, window.largest_gap_ns), (3, Some(12), 11));
}

#[test]
fn peak_is_never_below_start_or_end() {
    let mut bench = Bench::new(&["a"]);
    bench.memory(10, &[7]);
    let mark = bench.log.mark(15).unwrap();
    let window = bench.log.window(&mark, 50).unwrap();
    assert_eq!(
        (window.total.unwrap().peak_bytes, window.samples, window.interval_ns),
        (7, 0, None)
    );
    assert_eq!(window.largest_gap_ns, 35);
    bench.memory(20, &[3]);
    assert_eq!(bench.log.window(&mark, 50).unwrap().total.unwrap().peak_bytes, 7);
}

#[test]
fn a_sampler_that_hangs_is_said_with_its_reason() {
    let mut bench = Bench::new(&["a"]);
    bench.memory(10, &[7]);
    let mark = bench.log.mark(15).unwrap();
    assert!(bench.log.window(&mark, 10 + 5 * S).is_ok());
    assert_eq!(bench.log.window(&mark, 11 + 5 * S).unwrap_err(), "sampler_stalled");
    assert_eq!(bench.log.mark(11 + 5 * S).unwrap_err(), "sampler_stalled");
    assert!(bench.log.latest(11 + 5 * S).is_empty());
}

#[test]
fn a_lost_device_is_said_with_its_reason_until_another_sampler_begins() {
    let mut bench = Bench::new(&["a"]);
    bench.memory(10, &[7]);
    let mark = bench.log.mark(15).unwrap();
    for reason in REASONS {
        bench.board.set_unavailable(reason);
        assert_eq!(bench.log.window(&mark, 50).unwrap_err(), reason);
    }
    bench.board.begin();
    assert_eq!(bench.log.window(&mark, 50).unwrap_err(), "not_sampled");
    bench.memory(60, &[7]);
    assert!(bench.log.window(&mark, 70).is_ok());
    bench.log.set_unavailable("disabled");
    assert_eq!(bench.log.window(&mark, 70).unwrap_err(), "disabled");
}

#[test]
fn another_sampler_on_the_same_devices_goes_on_and_on_others_begins_anew() {
    let mut bench = Bench::new(&["a"]);
    bench.board.count(bench.slot, 1);
    bench.memory(10, &[7]);
    bench.power(10, Ok(1000), Ok(1));
    let mark = bench.log.mark(15).unwrap();
    bench.board.begin();
    bench.board.set_devices(&["a".to_owned()]);
    bench.memory(S, &[9]);
    bench.power(S, Ok(1400), Ok(1));
    let window = bench.log.window(&mark, S).unwrap();
    assert_eq!(window.total.unwrap().peak_bytes, 9);
    assert_eq!(window.devices[0].energy.unwrap().device_uj, 400_000);
    bench.board.set_devices(&["GPU-0123456789abcdef".to_owned(), "b".to_owned()]);
    assert_eq!(bench.log.window(&mark, S).unwrap_err(), "not_sampled");
    bench.memory(S + 1, &[1, 2]);
    assert_eq!(bench.log.window(&mark, 2 * S).unwrap_err(), "devices_changed");
    let latest = bench.log.latest(2 * S);
    let memory: Vec<_> = latest.iter().map(|l| (&*l.uuid, l.memory_bytes)).collect();
    assert_eq!(memory, [("GPU-0123456789abcdef", Some(1)), ("b", Some(2))]);
}

#[test]
fn whoever_comes_too_late_sees_the_rest_and_its_gap() {
    let mut bench = Bench::new(&["a"]);
    bench.memory(0, &[1]);
    let mark = bench.log.mark(0).unwrap();
    let count = board::RING + 10;
    for at in 1..=count {
        bench.memory(at, &[if at < 5 { 99 } else { 2 }]);
    }
    let window = bench.log.window(&mark, count).unwrap();
    assert_eq!((window.samples, window.largest_gap_ns), (board::RING, 11));
    assert_eq!(window.total.unwrap().peak_bytes, 2);
}

#[test]
fn what_stands_on_the_board_already_is_of_another_day() {
    let bench = Bench::new(&["a"]);
    bench.memory(u64::MAX / 2, &[7]);
    let mut log = GpuLog::default();
    log.follow(Arc::clone(&bench.board));
    assert_eq!(log.mark(5).unwrap_err(), "not_sampled");
    bench.memory(10, &[3]);
    let mark = log.mark(15).unwrap();
    assert_eq!(log.window(&mark, 20).unwrap().total.unwrap().peak_bytes, 3);
}

#[test]
fn a_device_without_memory_leaves_the_others_theirs() {
    let mut bench = Bench::new(&["a", "b"]);
    let row = |memory| vec![memory, Err("version_mismatch"), Ok(1)];
    bench.board.push(Kind::Memory, 10, &[row(Ok(5)), row(Err("not_supported"))]);
    let mark = bench.log.mark(15).unwrap();
    let window = bench.log.window(&mark, 20).unwrap();
    assert_eq!(window.total, Err("not_supported"));
    assert_eq!(window.devices[0].memory.unwrap().end_bytes, 5);
    assert_eq!(window.devices[0].reserved_bytes, Err("version_mismatch"));
    assert_eq!(window.devices[1].memory, Err("not_supported"));
    assert_eq!(window.samples, 0);
}

#[test]
fn a_round_that_failed_for_a_moment_is_a_gap() {
    let mut bench = Bench::new(&["a"]);
    bench.memory(10, &[5]);
    let mark = bench.log.mark(10).unwrap();
    bench.board.push(Kind::Memory, 20, &[vec![Err("unknown_error"); 3]]);
    bench.memory(40, &[4]);
    bench.board.push(Kind::Memory, 45, &[vec![Err("unknown_error"); 3]]);
    let window = bench.log.window(&mark, 50).unwrap();
    assert_eq!(window.total, Ok(Memory { start_bytes: 5, end_bytes: 4, peak_bytes: 5 }));
    assert_eq!((window.samples, window.largest_gap_ns), (1, 30));
    bench.board.push(Kind::Memory, 6 * S, &[vec![Err("unknown_error"); 3]]);
    let late = bench.log.window(&mark, 6 * S).unwrap();
    assert_eq!(late.total, Err("unknown_error"), "what was read long ago is not the end");
}

#[test]
fn conditions_are_those_of_the_window() {
    let mut bench = Bench::new(&["a"]);
    let condition = |at_ns, celsius, mhz, bits| {
        bench.board.push(Kind::Condition, at_ns, &[vec![Ok(celsius), Ok(mhz), Ok(bits)]]);
    };
    condition(10, 90, 300, 1);
    let mark = bench.log.mark(15).unwrap();
    let before = bench.log.window(&mark, 20).unwrap();
    assert_eq!(before.devices[0].temperature_c, Err("window_too_short"));
    assert_eq!(before.devices[0].throttle_reasons, Err("window_too_short"));
    assert_eq!(before.devices[0].utilization_percent, Err("not_sampled"));
    condition(20, 60, 1000, 1 << 2);
    condition(30, 70, 2000, 1 << 6 | 1 << 63);
    for (at_ns, percent) in [(20, 10), (30, 40)] {
        bench.board.push(Kind::Utilization, at_ns, &[vec![Ok(percent)]]);
    }
    let window = bench.log.window(&mark, 40).unwrap();
    let device = &window.devices[0];
    assert_eq!(device.temperature_c, Ok(Summary { mean: 65.0, peak: 70 }));
    assert_eq!(device.sm_clock_mhz.unwrap().mean, 1500.0);
    assert_eq!(device.utilization_percent.unwrap().mean, 25.0);
    assert_eq!(device.throttle_reasons, Ok(vec!["sw_power_cap", "hw_thermal_slowdown"]));
    assert_eq!(device.memory, Err("not_sampled"));
}

#[test]
fn power_has_mean_peak_and_method() {
    let mut bench = Bench::new(&["a"]);
    bench.power(10, Ok(1), Ok(900));
    let mark = bench.log.mark(15).unwrap();
    bench.power(20, Ok(1), Ok(100));
    bench.board.push(Kind::Power, 30, &[vec![Ok(1), Ok(300), Ok(1)]]);
    let window = bench.log.window(&mark, 40).unwrap();
    assert_eq!(window.devices[0].power_mw, Ok(Summary { mean: 200.0, peak: 300 }));
    assert_eq!(window.devices[0].power_method, Ok("average_1s"));
}

#[test]
fn energy_needs_two_periods_of_the_counter() {
    let mut bench = Bench::new(&["a"]);
    bench.power(0, Ok(1000), Ok(1));
    let mark = bench.log.mark(0).unwrap();
    bench.board.count(bench.slot, 2);
    bench.power(MS, Ok(1000), Ok(1)); // it was idle until then
    for at in [101, 200] {
        bench.power(at * MS, Ok(1000 + at), Ok(1));
    }
    let energy = |log: &mut GpuLog, at| log.window(&mark, at).unwrap().devices[0].energy;
    assert_eq!(energy(&mut bench.log, 200 * MS), Err("window_too_short"));
    bench.power(201 * MS, Ok(1201), Ok(1));
    let found = energy(&mut bench.log, 210 * MS).unwrap();
    assert_eq!((found.device_uj, found.attributed_uj), (201_000, 100_500));
    assert_eq!((found.window_ns, found.method.name()), (200 * MS, "counter"));
}

#[test]
fn a_slow_counter_needs_a_longer_window() {
    let mut bench = Bench::new(&["a"]);
    bench.board.count(bench.slot, 1);
    let board = Arc::clone(&bench.board);
    let step = |at: u64| {
        board.push(Kind::Power, at * 100 * MS, &[vec![Ok(at / 10), Ok(1), Ok(0)]]);
    };
    (1..=50).for_each(step);
    let mark = bench.log.mark(5 * S).unwrap();
    (51..=65).for_each(step);
    let short = bench.log.window(&mark, 65 * 100 * MS).unwrap();
    assert_eq!(short.devices[0].energy, Err("window_too_short"));
    (66..=70).for_each(step);
    let long = bench.log.window(&mark, 7 * S).unwrap();
    assert_eq!(long.devices[0].energy.unwrap().device_uj, 2000);
}

#[test]
fn a_counter_that_goes_backwards_is_said() {
    let mut bench = Bench::new(&["a"]);
    bench.board.count(bench.slot, 1);
    bench.power(1, Ok(5000), Ok(1));
    let mark = bench.log.mark(0).unwrap();
    bench.power(S, Ok(10), Ok(1));
    let later = bench.log.mark(S).unwrap();
    bench.power(2 * S, Ok(30), Ok(1));
    let energy = |log: &mut GpuLog, mark| log.window(mark, 2 * S).unwrap().devices[0].energy;
    assert_eq!(energy(&mut bench.log, &mark), Err("counter_reset"));
    assert_eq!(energy(&mut bench.log, &later).unwrap().device_uj, 20_000);
}

#[test]
fn without_a_counter_power_is_integrated_and_a_failing_one_is_waited_for() {
    let mut bench = Bench::new(&["a"]);
    bench.board.count(bench.slot, 1);
    bench.power(0, Err("not_supported"), Ok(100_000));
    bench.power(1, Err("not_supported"), Ok(100_000));
    let mark = bench.log.mark(1).unwrap();
    bench.power(S + 1, Err("not_supported"), Ok(300_000));
    let energy = |log: &mut GpuLog, at| log.window(&mark, at).unwrap().devices[0].energy;
    let found = energy(&mut bench.log, S + 1).unwrap();
    assert_eq!((found.device_uj, found.attributed_uj), (200_000_000, 200_000_000));
    assert_eq!(found.method.name(), "power_integral");
    bench.power(S + 2, Err("unknown_error"), Ok(300_000));
    assert_eq!(energy(&mut bench.log, S + 2).unwrap(), found, "the last reading counts");
    bench.power(9 * S, Err("not_supported"), Ok(1));
    assert_eq!(energy(&mut bench.log, 9 * S), Err("counter_reset"), "nobody knows the hole");
}

#[test]
fn what_is_not_supported_says_so() {
    let mut bench = Bench::new(&["MIG-1"]);
    bench.memory(10, &[7]);
    let mark = bench.log.mark(15).unwrap();
    bench.power(20, Err("mig_unsupported"), Err("mig_unsupported"));
    bench.board.push(Kind::Utilization, 20, &[vec![Err("mig_unsupported")]]);
    let window = bench.log.window(&mark, 30).unwrap();
    assert_eq!(window.devices[0].energy, Err("mig_unsupported"));
    assert_eq!(window.devices[0].power_mw, Err("mig_unsupported"));
    assert_eq!(window.devices[0].utilization_percent, Err("mig_unsupported"));
    assert_eq!(window.energy_uj(|energy| energy.device_uj), Err("mig_unsupported"));
}

#[test]
fn requests_in_flight_are_those_of_all_living_processes() {
    let board = Board::private();
    let alive = |pid| pid != 13;
    let slots = [7, 13, 9].map(|pid| board.join(pid, |_| true).unwrap());
    for (slot, count) in slots.iter().zip([1, 20, 300]) {
        board.count(*slot, count);
    }
    assert_eq!(board.in_flight(), 321);
    board.forget_dead(alive);
    assert_eq!(board.in_flight(), 301);
    assert_eq!(board.join(11, alive), Some(slots[1]), "a dead one's place is taken");
    board.leave(slots[2]);
    assert_eq!(board.in_flight(), 1);
    let taken = (0..300).filter_map(|pid| board.join(100 + pid, alive)).count();
    assert_eq!(taken, board::MAX_SLOTS - 2, "and then there is none left");
}

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

#[test]
fn readers_in_other_threads_see_whole_records_only() {
    const RECORDS: u64 = if cfg!(miri) { 100 } else { 200_000 };
    let board = Arc::new(Board::private());
    board.set_devices(&["a".to_owned()]);
    let writer = {
        let board = Arc::clone(&board);
        std::thread::spawn(move || {
            for at in 1..=RECORDS {
                board.push(Kind::Memory, at, &[vec![Ok(at), Ok(at), Ok(at)]]);
            }
        })
    };
    let mut next = 0;
    let mut seen = 0;
    while next < RECORDS {
        let head = board.head();
        next = next.max(head.saturating_sub(board::RING));
        while next < head {
            if let Some(record) = board.read(next) {
                let values: Vec<_> = (0..3).map(|at| record.reading(at)).collect();
                assert_eq!(values, [Ok(next + 1); 3]);
                assert_eq!(record.at_ns, next + 1);
                seen += 1;
            }
            next += 1;
        }
    }
    writer.join().unwrap();
    assert!(seen > 0);
}
