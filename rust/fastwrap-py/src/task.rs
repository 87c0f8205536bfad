//! Requests as tasks that two threads poll: the event loop's starts one, so that the engine has it without anybody having
//! been woken; the relay's goes on when something has arrived.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};

use tokio::sync::Notify;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Those that the relay's thread is to poll.
#[derive(Default)]
pub(crate) struct Queue {
    tasks: Mutex<Vec<Arc<Task>>>,
    /// A wake on the relay's own thread, which is where sockets become ready, costs no system call.
    filled: Notify,
}

impl Queue {
    fn take(&self) -> Vec<Arc<Task>> {
        mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Polls whatever is ready, for ever.
    pub(crate) async fn serve(&self) {
        loop {
            self.filled.notified().await;
            for task in self.take() {
                task.poll();
            }
        }
    }

    /// Drops whatever is ready: at the end of the runtime all that still wait on it.
    pub(crate) fn abandon(&self) {
        for task in self.take() {
            task.cancel();
        }
    }
}

/// Nobody has it.
const IDLE: u8 = 0;
/// It is in the queue.
const QUEUED: u8 = 1;
/// A thread polls it.
const POLLED: u8 = 2;
/// A thread polls it, and is to do so once more.
const POLLED_AGAIN: u8 = 3;

/// One request on its way.
pub(crate) struct Task {
    /// Gone when it is over.
    work: Mutex<Option<Work>>,
    state: AtomicU8,
    queue: Arc<Queue>,
}

impl Task {
    pub(crate) fn new(
        work: impl Future<Output = ()> + Send + 'static,
        queue: &Arc<Queue>,
    ) -> Arc<Self> {
        Arc::new(Self {
            work: Mutex::new(Some(Box::pin(work))),
            state: AtomicU8::new(IDLE),
            queue: Arc::clone(queue),
        })
    }

    /// Lets it make progress. Whoever wakes it meanwhile leaves it to this thread, for it would only have to wait.
    pub(crate) fn poll(self: &Arc<Self>) {
        let waker = Waker::from(Arc::clone(self));
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            self.state.store(POLLED, Ordering::Release);
            *work = polled(work.take(), &mut Context::from_waker(&waker));
            if work.is_none() {
                return;
            }
            if self
                .state
                .compare_exchange(POLLED, IDLE, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
            {
                return;
            }
        }
    }

    /// Drops what it holds.
    pub(crate) fn cancel(&self) {
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(work);
    }
}

/// Polls, and gives it back unless it is over. A panic ends this request, which is dropped while it unwinds and so knows,
/// and nothing else.
fn polled(work: Option<Work>, cx: &mut Context<'_>) -> Option<Work> {
    let poll = || work.and_then(|mut work| work.as_mut().poll(cx).is_pending().then_some(work));
    catch_unwind(AssertUnwindSafe(poll)).unwrap_or_default()
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        let next = |state| match state {
            IDLE => Some(QUEUED),
            POLLED => Some(POLLED_AGAIN),
            _ => None,
        };
        if self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, next) == Ok(IDLE) {
            let queue = Arc::clone(&self.queue);
            queue.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(self);
            queue.filled.notify_one();
        }
    }
}
