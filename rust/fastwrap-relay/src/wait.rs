//! The three deadlines of a request that has a connection: first byte, silence, total.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use fastwrap_core::error::Fault;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::relay::Timeouts;
use fastwrap_clock::now_ns;

/// One timer for all of them. It is set for the earliest and left alone while bytes flow: when it fires early, it is
/// set again, so that a chunk costs no timer.
pub(crate) struct Wait {
    timeouts: Timeouts,
    began_ns: u64,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Wait {
    pub(crate) fn new(timeouts: Timeouts, began_ns: u64) -> Self {
        Self { timeouts, began_ns, timer: None }
    }

    /// The engine has been waited for since `since_ns`. Ready when that is too long.
    pub(crate) fn poll_first_byte(&mut self, cx: &mut Context<'_>, since_ns: u64) -> Poll<Fault> {
        self.poll(cx, since_ns, self.timeouts.first_byte, Fault::FirstByteTimeout)
    }

    /// The engine has been silent since `since_ns`. Ready when that is too long.
    pub(crate) fn poll_idle(&mut self, cx: &mut Context<'_>, since_ns: u64) -> Poll<Fault> {
        self.poll(cx, since_ns, self.timeouts.idle, Fault::IdleTimeout)
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        since_ns: u64,
        limit: Option<Duration>,
        fault: Fault,
    ) -> Poll<Fault> {
        loop {
            let due = |start_ns: u64, limit: Option<Duration>| {
                limit.map(|limit| start_ns + nanoseconds(limit))
            };
            let limits = [
                (due(since_ns, limit), fault),
                (due(self.began_ns, self.timeouts.total), Fault::TotalTimeout),
            ];
            let earliest = limits
                .into_iter()
                .filter_map(|(due, fault)| Some((due?, fault)))
                .min_by_key(|due| due.0);
            let Some((due_ns, fault)) = earliest else {
                return Poll::Pending;
            };
            let now_ns = now_ns();
            let Some(left_ns) = due_ns.checked_sub(now_ns).filter(|left| *left > 0) else {
                return Poll::Ready(fault);
            };
            let at = Instant::now() + Duration::from_nanos(left_ns);
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
            if timer.deadline() > at {
                timer.as_mut().reset(at);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.timer = None;
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2)
}
