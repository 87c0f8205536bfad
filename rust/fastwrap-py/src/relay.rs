//! The way to the engine, from Python.

use std::sync::Arc;
use std::time::Duration;

use fastwrap_relay::{Relay as CoreRelay, Timeouts, Upstream};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::convert::{Headers, request_head};
use crate::exchange::Exchange;
use crate::measured::begin;
use crate::meter::Meter;
use crate::reactor::Reactor;

fn parse(upstream: &str) -> PyResult<Upstream> {
    Upstream::parse(upstream).map_err(|error| PyValueError::new_err(error.to_string()))
}

#[pyfunction]
pub(crate) fn check_upstream(upstream: &str) -> PyResult<()> {
    parse(upstream).map(drop)
}

#[pyfunction]
pub(crate) fn check_certificate(chain: &[u8], key: &[u8]) -> PyResult<()> {
    fastwrap_relay::check_certificate(chain, key).map_err(PyValueError::new_err)
}

#[pyclass(frozen, module = "fastwrap._native")]
pub(crate) struct Relay {
    core: Arc<CoreRelay>,
    reactor: Arc<Reactor>,
}

pub(crate) fn timeout(seconds: f64) -> PyResult<Option<Duration>> {
    let duration = Duration::try_from_secs_f64(seconds);
    let duration =
        duration.map_err(|error| PyValueError::new_err(format!("{seconds} s: {error}")))?;
    Ok(Some(duration).filter(|duration| !duration.is_zero()))
}

/// The way to the engine; timeouts in seconds: connect, first byte, idle, total.
pub(crate) fn prepare(meter: &Meter, upstream: &str, timeouts: [f64; 4]) -> PyResult<CoreRelay> {
    let [connect, first_byte, idle, total] = timeouts;
    let timeouts = Timeouts {
        connect: timeout(connect)?,
        first_byte: timeout(first_byte)?,
        idle: timeout(idle)?,
        total: timeout(total)?,
    };
    CoreRelay::new(parse(upstream)?, timeouts, Arc::clone(&meter.core))
        .map_err(|error| PyValueError::new_err(error.to_string()))
}

#[pymethods]
impl Relay {
    #[new]
    #[pyo3(signature = (meter, upstream, event_loop, *, connect_timeout, first_byte_timeout, idle_timeout, total_timeout))]
    #[allow(clippy::too_many_arguments)] // keyword-only in Python
    fn new(
        meter: &Meter,
        upstream: &str,
        event_loop: &Bound<'_, PyAny>,
        connect_timeout: f64,
        first_byte_timeout: f64,
        idle_timeout: f64,
        total_timeout: f64,
    ) -> PyResult<Self> {
        let timeouts = [connect_timeout, first_byte_timeout, idle_timeout, total_timeout];
        let core = Arc::new(prepare(meter, upstream, timeouts)?);
        let reactor = Arc::new(Reactor::start(Arc::clone(&core), event_loop)?);
        Ok(Self { core, reactor })
    }

    #[allow(clippy::needless_pass_by_value)] // PyO3 hands over what it converts
    fn open(&self, method: &str, target: &[u8], headers: Headers, version: &str) -> Exchange {
        let begun = begin(&self.core.meter, request_head(method, target, &headers, version));
        Exchange::new(&self.core, &self.reactor, begun)
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.reactor.stop(py)
    }
}
