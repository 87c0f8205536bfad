//! What wakes samplers when a request begins or ends.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastwrap_core::meter::{Meter, Onlooker};
use pyo3::prelude::*;

/// Requests' beginnings and ends, counted.
#[derive(Default)]
struct Count {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    edges: u64,
    /// A sampler waits: nobody else is worth a system call.
    waiting: bool,
}

impl Count {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there are more edges than `seen`; returns how many there are.
    fn wait(&self, seen: u64, timeout: Duration) -> u64 {
        let waited = self.changed.wait_timeout_while(self.lock(), timeout, |state| {
            state.waiting |= state.edges == seen;
            state.edges == seen
        });
        waited.unwrap_or_else(PoisonError::into_inner).0.edges
    }
}

impl Onlooker for Count {
    fn count(&self, _: u64) {}

    fn wake(&self) {
        let mut state = self.lock();
        state.edges += 1;
        if std::mem::take(&mut state.waiting) {
            self.changed.notify_all();
        }
    }
}

/// One sampler's view of them.
#[pyclass(frozen, module = "fastwrap._native")]
pub(crate) struct Edges {
    meter: Arc<Meter>,
    count: Arc<Count>,
    seen: AtomicU64,
}

impl Edges {
    /// Begins to count.
    pub(crate) fn of(meter: Arc<Meter>) -> Self {
        let count = Arc::new(Count::default());
        meter.add_onlooker(Arc::<Count>::clone(&count));
        Self { meter, count, seen: AtomicU64::default() }
    }
}

#[pymethods]
impl Edges {
    fn in_flight(&self) -> bool {
        self.meter.in_flight() > 0
    }

    fn wake(&self) {
        self.count.wake();
    }

    fn wait(&self, py: Python<'_>, timeout_ns: u64) -> bool {
        let seen = self.seen.load(Ordering::Relaxed);
        let edges = py.detach(|| self.count.wait(seen, Duration::from_nanos(timeout_ns)));
        self.seen.store(edges, Ordering::Relaxed);
        edges != seen
    }
}
