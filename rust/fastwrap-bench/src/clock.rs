//! Times of the generator, on the clock that engines on the same machine stamp with, too.

use std::future::poll_fn;
use std::time::Duration;

use fastwrap_clock::{Alarm, now_ns};
use tokio::time::Instant;

/// Returns at `due_ns`, or soon if that is past; everybody else gets a turn meanwhile.
pub(crate) async fn wait_until(alarm: &mut Alarm, due_ns: u64) {
    let wait = Duration::from_nanos(due_ns.saturating_sub(now_ns()));
    if wait.is_zero() {
        return tokio::task::yield_now().await;
    }
    let deadline = Instant::now() + wait;
    poll_fn(|cx| alarm.poll_until(deadline, cx)).await;
}

pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
