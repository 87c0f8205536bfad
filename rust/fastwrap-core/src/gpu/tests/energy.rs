//! Energy: its windows, its counter, and what takes its place.

use super::*;

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
