//! The generator's clock: monotonic nanoseconds since its first use.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now)
}

/// Nanoseconds since the clock was first asked.
pub(crate) fn now_ns() -> u64 {
    nanoseconds(origin().elapsed())
}

/// The instant of a time of this clock.
pub(crate) fn instant(at_ns: u64) -> Instant {
    origin() + Duration::from_nanos(at_ns)
}

pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
