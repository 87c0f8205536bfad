use std::sync::Arc;

use super::*;

mod energy;
mod histories;

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
