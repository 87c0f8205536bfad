//! Where the sampler writes.

use std::sync::Arc;

use fastwrap_core::memory::REASONS;
use fastwrap_core::meter::Meter;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::edges::Edges;

#[pyclass(frozen, module = "fastwrap._native")]
pub(crate) struct MemoryLog {
    meter: Arc<Meter>,
    edges: Edges,
}

impl MemoryLog {
    pub(crate) fn new(meter: Arc<Meter>, edges: Edges) -> Self {
        Self { meter, edges }
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
        self.edges.in_flight()
    }

    fn wait(&self, py: Python<'_>, timeout_ns: u64) -> bool {
        self.edges.wait(py, timeout_ns)
    }
}
