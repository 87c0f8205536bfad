//! The relay's thread, and how it wakes the event loop.
//!
//! One thread runs a tokio runtime for all requests of a worker. What became ready in one turn of it is handed over
//! together, when the runtime is about to sleep: one attach to the interpreter and one wake of the event loop.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use fastwrap_relay::tick;
use pyo3::prelude::*;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::exchange::Shared;

/// More exchanges than this are not kept waiting for the end of the turn.
const MAX_READY: usize = 96;

/// Exchanges for whom something is ready.
pub(crate) struct Ready {
    exchanges: Mutex<Vec<Arc<Shared>>>,
    /// The event loop has been woken and has not come yet.
    woken: AtomicBool,
    /// The event loop's `call_soon_threadsafe`, and what it is to call.
    call_soon: Py<PyAny>,
    deliver: Py<PyAny>,
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
        if self.woken.swap(true, Ordering::AcqRel) {
            return;
        }
        // An error means that the loop is closed: nobody waits any more.
        let _ = Python::try_attach(|py| self.call_soon.call1(py, (&self.deliver,)).is_ok());
    }

    fn take(&self) -> Vec<Arc<Shared>> {
        self.woken.store(false, Ordering::Release);
        mem::take(&mut *self.exchanges.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What the event loop calls: resolves the futures of whoever has something to take.
#[pyclass(frozen)]
struct Deliver {
    ready: Mutex<Option<Arc<Ready>>>,
}

#[pymethods]
impl Deliver {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for exchange in ready.map(|ready| ready.take()).unwrap_or_default() {
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
    pub(crate) handle: Handle,
    pub(crate) ready: Arc<Ready>,
    stop: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

impl Reactor {
    /// Starts the thread; answers are handed over on `event_loop`.
    pub(crate) fn start(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = event_loop.py();
        let deliver = Py::new(py, Deliver { ready: Mutex::new(None) })?;
        let ready = Arc::new(Ready {
            exchanges: Mutex::default(),
            woken: AtomicBool::new(false),
            call_soon: event_loop.getattr("call_soon_threadsafe")?.unbind(),
            deliver: deliver.clone_ref(py).into_any(),
        });
        *deliver.get().ready.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Arc::clone(&ready));
        let parked = Arc::clone(&ready);
        let runtime = Builder::new_current_thread()
            .enable_all()
            .on_thread_park(move || parked.wake())
            .build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("fastwrap-relay".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! { _ = stopped => {}, () = tick() => {} }
            });
        })?;
        Ok(Self { handle, ready, stop: Mutex::new(Some((stop, thread))) })
    }

    /// Ends the thread; whatever is in flight is dropped.
    pub(crate) fn stop(&self, py: Python<'_>) {
        let stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((stop, thread)) = stop {
            let _ = stop.send(());
            // The thread may be waiting to attach.
            let _ = py.detach(|| thread.join());
        }
    }
}
