//! Where the sampler writes.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use fastwrap_core::memory::REASONS;
use fastwrap_core::meter::Meter;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Wakes the sampler when a request begins or ends.
#[derive(Default)]
struct Edge {
    state: Mutex<EdgeState>,
    changed: Condvar,
}

#[derive(Default)]
struct EdgeState {
    /// Something began or ended since the sampler looked.
    seen: bool,
    /// The sampler waits: nobody else is worth a system call.
    waiting: bool,
}

impl Edge {
    fn wake(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let first = !std::mem::replace(&mut state.seen, true);
        if first && state.waiting {
            self.changed.notify_one();
        }
    }

    fn wait(&self, timeout: Duration) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting = true;
        let waited = self.changed.wait_timeout_while(state, timeout, |state| !state.seen);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *state).seen
    }
}

#[pyclass(frozen, module = "fastwrap._native")]
pub(crate) struct MemoryLog {
    meter: Arc<Meter>,
    edge: Arc<Edge>,
}

impl MemoryLog {
    pub(crate) fn new(meter: Arc<Meter>) -> Self {
        let edge = Arc::new(Edge::default());
        let wake = Arc::clone(&edge);
        meter.on_edge(Box::new(move || wake.wake()));
        Self { meter, edge }
    }
}

#[pymethods]
impl MemoryLog {
    fn devices(&self, uuids: Vec<String>) {
        self.meter.memory().set_devices(uuids);
    }

    #[allow(clippy::needless_pass_by_value)] // PyO3 hands over what it converts
    fn push(&self, at_ns: u64, used_bytes: Vec<u64>) {
        self.meter.memory().push(at_ns, &used_bytes);
    }

    fn unavailable(&self, reason: &str) -> PyResult<()> {
        let known = REASONS.into_iter().find(|known| *known == reason);
        let unknown = || PyValueError::new_err(format!("no such reason: {reason}"));
        self.meter.memory().set_unavailable(known.ok_or_else(unknown)?);
        Ok(())
    }

    fn in_flight(&self) -> bool {
        self.meter.in_flight() > 0
    }

    fn wait(&self, py: Python<'_>, timeout_ns: u64) -> bool {
        py.detach(|| self.edge.wait(Duration::from_nanos(timeout_ns)))
    }
}
