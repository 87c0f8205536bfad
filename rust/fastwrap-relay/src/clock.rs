//! The one clock: `CLOCK_MONOTONIC`, the same as Python's `time.monotonic_ns()`.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of the monotonic clock.
#[must_use]
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or_default();
    seconds * 1_000_000_000 + nanoseconds
}

/// Runs for ever beside what a runtime serves.
///
/// tokio wakes its own reactor, by a write to an eventfd and one more turn, whenever a timer is set that is due before all
/// others: without this, each request's timeout. A timer that is always due within a second spares all of them that.
pub async fn tick() {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
