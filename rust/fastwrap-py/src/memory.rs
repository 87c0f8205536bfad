//! Where the sampler writes.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use fastwrap_core::meter::Meter;
use pyo3::prelude::*;

/// Wakes the sampler when a request begins or ends.
#[derive(Default)]
struct Edge {
    seen: Mutex<bool>,
    changed: Condvar,
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
        meter.on_edge(Box::new(move || {
            *wake.seen.lock().unwrap_or_else(PoisonError::into_inner) = true;
            wake.changed.notify_one();
        }));
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

    fn unavailable(&self, reason: String) {
        self.meter.memory().set_unavailable(reason);
    }

    fn in_flight(&self) -> bool {
        self.meter.in_flight() > 0
    }

    fn wait(&self, py: Python<'_>, timeout_ns: u64) -> bool {
        py.detach(|| {
            let seen = self.edge.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let timeout = Duration::from_nanos(timeout_ns);
            let waited = self.edge.changed.wait_timeout_while(seen, timeout, |seen| !*seen);
            let (mut seen, _) = waited.unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *seen)
        })
    }
}
