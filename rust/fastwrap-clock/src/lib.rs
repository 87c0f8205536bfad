//! The one clock, and waiting for a time to the microsecond.

mod alarm;

use rustix::time::{ClockId, clock_gettime};

pub use alarm::Alarm;

/// Nanoseconds of `CLOCK_MONOTONIC`, which all processes of a machine share: the same as Python's `time.monotonic_ns()`.
#[must_use]
pub fn now_ns() -> u64 {
    read_ns(ClockId::Monotonic)
}

/// Nanoseconds of CPU that this thread has used.
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    read_ns(ClockId::ThreadCPUTime)
}

fn read_ns(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or_default();
    seconds * 1_000_000_000 + nanoseconds
}
