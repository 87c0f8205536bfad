//! The relay's thread, and how it wakes the event loop.
//!
//! One thread runs a tokio runtime for all requests of a worker. What became ready in one turn of it is handed over
//! together, when the runtime is about to sleep, by one byte in a pipe that the event loop watches: the relay's thread
//! never waits for the interpreter, so that no time it stamps depends on it.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::mem;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use fastwrap_relay::{Relay, vital};
use pyo3::prelude::*;
use rustix::io::ioctl_fionbio;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::unconstrained;

use crate::exchange::Shared;
use crate::task::{Queue, Task};

/// More exchanges than this are not kept waiting for the end of the turn.
const MAX_READY: usize = 96;

/// Exchanges for whom something is ready.
pub(crate) struct Ready {
    exchanges: Mutex<Vec<Arc<Shared>>>,
    /// The event loop has been woken and has not come yet.
    woken: AtomicBool,
    bell: PipeWriter,
}

impl Ready {
    pub(crate) fn add(&self, exchange: Arc<Shared>) {
        let count = {
            let mut exchanges = self.exchanges.lock().unwrap_or_else(PoisonError::into_inner);
            exchanges.push(exchange);
            exchanges.len()
        };
        if count >= MAX_READY {
            self.wake();
        }
    }

    /// Wakes the event loop if something is ready and it has not been woken.
    pub(crate) fn wake(&self) {
        if self.exchanges.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            return;
        }
        if !self.woken.swap(true, Ordering::AcqRel) {
            // An error means that the loop is closed: nobody waits any more.
            let _ = (&self.bell).write(&[0]);
        }
    }

    fn take(&self) -> Vec<Arc<Shared>> {
        self.woken.store(false, Ordering::Release);
        mem::take(&mut *self.exchanges.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What the event loop calls: resolves the futures of whoever has something to take.
#[pyclass(frozen)]
struct Deliver {
    ready: Arc<Ready>,
    bell: PipeReader,
}

#[pymethods]
impl Deliver {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        // There is one byte at most, or none when this is the last call.
        let _ = (&self.bell).read(&mut [0; 8]);
        for exchange in self.ready.take() {
            for future in exchange.due() {
                if !future.call_method0(py, "done")?.is_truthy(py)? {
                    future.call_method1(py, "set_result", (py.None(),))?;
                }
            }
        }
        Ok(())
    }
}

/// The thread.
pub(crate) struct Reactor {
    handle: Handle,
    pub(crate) ready: Arc<Ready>,
    queue: Arc<Queue>,
    event_loop: Py<PyAny>,
    deliver: Py<Deliver>,
    stop: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

impl Reactor {
    /// Starts the thread for one relay; answers are handed over on `event_loop`.
    pub(crate) fn start(relay: Arc<Relay>, event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        let (heard, bell) = bell()?;
        let ready =
            Arc::new(Ready { exchanges: Mutex::default(), woken: AtomicBool::new(false), bell });
        let socket = heard.as_raw_fd();
        let deliver = Py::new(event_loop.py(), Deliver { ready: Arc::clone(&ready), bell: heard })?;
        let parked = Arc::clone(&ready);
        let runtime = Builder::new_current_thread()
            .enable_all()
            .on_thread_park(move || parked.wake())
            .build()?;
        let handle = runtime.handle().clone();
        let queue = Arc::new(Queue::default());
        let served = Arc::clone(&queue);
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("fastwrap-relay".to_owned()).spawn(move || {
            vital(|| {
                // A task of its own, for the runtime wakes such without a system call; its budget would be that of all requests.
                let serving = runtime.spawn(unconstrained(async move { served.serve().await }));
                runtime.block_on(async {
                    tokio::select! { _ = stopped => true, () = relay.tend() => false, _ = serving => false }
                })
            });
        })?;
        event_loop.call_method1("add_reader", (socket, &deliver))?;
        let stop = Mutex::new(Some((stop, thread)));
        Ok(Self { handle, ready, queue, event_loop: event_loop.clone().unbind(), deliver, stop })
    }

    /// Starts a request here and now, and leaves the rest to the relay's thread.
    pub(crate) fn start_task(&self, work: impl Future<Output = ()> + Send + 'static) -> Arc<Task> {
        let task = Task::new(work, &self.queue);
        let _context = self.handle.enter();
        task.poll();
        task
    }

    /// Ends the thread; whatever is in flight is dropped.
    pub(crate) fn stop(&self, py: Python<'_>) -> PyResult<()> {
        let stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((stop, thread)) = stop {
            let _ = stop.send(());
            // The end of the runtime wakes all that waited for it.
            let _ = py.detach(|| thread.join());
            self.queue.abandon();
            let deliver = self.deliver.get();
            self.event_loop.call_method1(py, "remove_reader", (deliver.bell.as_raw_fd(),))?;
            deliver.__call__(py)?;
        }
        Ok(())
    }
}

/// The two ends of a pipe that nobody waits for.
fn bell() -> io::Result<(PipeReader, PipeWriter)> {
    let (heard, bell) = io::pipe()?;
    ioctl_fionbio(&heard, true)?;
    ioctl_fionbio(&bell, true)?;
    Ok((heard, bell))
}
