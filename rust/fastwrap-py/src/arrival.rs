//! What a coroutine awaits until something of its answer has arrived.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::asyncio::CancelledError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::exchange::Shared;

/// An asyncio future, as far as a task needs one. When it is done it calls the task back at once, where a future of asyncio's
/// would do so in the event loop's next turn.
#[pyclass(frozen, module = "fastwrap._native")]
pub(crate) struct Arrival {
    shared: Arc<Shared>,
    event_loop: Py<PyAny>,
    yielded: AtomicBool,
    blocking: AtomicBool,
    cancelled: AtomicBool,
}

/// Whoever awaits an arrival: what to call, where, and with what.
pub(crate) struct Waiter {
    callback: Py<PyAny>,
    context: Py<PyAny>,
    arrival: Py<Arrival>,
}

impl Waiter {
    /// Lets the coroutine go on. To be called in the event loop.
    pub(crate) fn resume(self, py: Python<'_>) {
        if let Err(error) = self.context.call_method1(py, "run", (&self.callback, &self.arrival)) {
            error.write_unraisable(py, Some(self.callback.bind(py)));
        }
    }

    /// Lets it go on in the event loop's next turn.
    fn resume_soon(self, py: Python<'_>) -> PyResult<()> {
        let keywords = PyDict::new(py);
        keywords.set_item("context", self.context)?;
        let event_loop = self.arrival.get().event_loop.bind(py);
        event_loop.call_method("call_soon", (self.callback, &self.arrival), Some(&keywords))?;
        Ok(())
    }
}

impl Arrival {
    pub(crate) fn new(shared: &Arc<Shared>, event_loop: Py<PyAny>) -> Self {
        Self {
            shared: Arc::clone(shared),
            event_loop,
            yielded: AtomicBool::new(false),
            blocking: AtomicBool::new(true),
            cancelled: AtomicBool::new(false),
        }
    }
}

#[pymethods]
impl Arrival {
    fn __await__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__(this: Py<Self>) -> Option<Py<Self>> {
        let yielded = this.get().yielded.swap(true, Ordering::Relaxed);
        Some(this).filter(|_| !yielded)
    }

    #[getter(_asyncio_future_blocking)]
    fn is_blocking(&self) -> bool {
        self.blocking.load(Ordering::Relaxed)
    }

    #[setter(_asyncio_future_blocking)]
    fn set_blocking(&self, blocking: bool) {
        self.blocking.store(blocking, Ordering::Relaxed);
    }

    fn get_loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.event_loop.clone_ref(py)
    }

    #[pyo3(signature = (callback, *, context))]
    fn add_done_callback(
        this: Py<Self>,
        py: Python<'_>,
        callback: Py<PyAny>,
        context: Py<PyAny>,
    ) -> PyResult<()> {
        let shared = Arc::clone(&this.get().shared);
        let waiter = Waiter { callback, context, arrival: this };
        shared.wait(waiter).map_or(Ok(()), |waiter| waiter.resume_soon(py))
    }

    #[pyo3(signature = (msg=None))]
    fn cancel(&self, py: Python<'_>, msg: Option<Py<PyAny>>) -> PyResult<bool> {
        // The task remembers it.
        drop(msg);
        let Some(waiter) = self.shared.take_waiter() else {
            return Ok(false);
        };
        self.cancelled.store(true, Ordering::Relaxed);
        waiter.resume_soon(py)?;
        Ok(true)
    }

    fn result(&self) -> PyResult<()> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(CancelledError::new_err(()));
        }
        Ok(())
    }
}
