//! How long a client is waited for.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// What each byte adds to the time for all: nobody keeps a place for ever by one byte now and then.
const MS_PER_BYTE: u64 = 2;

/// The time that a client has for its next piece, and for all of them. Only waiting for the client counts.
pub(crate) struct Patience {
    timeout: Option<Duration>,
    /// What is left for all pieces.
    left: Duration,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Patience {
    pub(crate) fn new(timeout: Option<Duration>) -> Self {
        Self { timeout, left: timeout.unwrap_or_default(), waiting: None }
    }

    /// The client has sent nothing yet; ready when that takes too long.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(timeout) = self.timeout else {
            return Poll::Pending;
        };
        let left = self.left.min(timeout);
        let start = || (Instant::now(), Box::pin(sleep(left)));
        self.waiting.get_or_insert_with(start).1.as_mut().poll(cx)
    }

    /// The client has sent so many bytes.
    pub(crate) fn restore(&mut self, bytes: usize) {
        if let Some((since, _)) = self.waiting.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        }
        let more = Duration::from_millis((bytes as u64).saturating_mul(MS_PER_BYTE));
        self.left = self.left.saturating_add(more);
    }
}
