//! The simulated engine, in the foreground.

use std::time::Duration;

use fastwrap_engine::{Engine, Options};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use tokio::signal::unix::{SignalKind, signal};

#[pyfunction]
#[pyo3(signature = (*, host, port, flavor, ttft_ms, itl_ms, tokens, tokens_per_chunk, seed, model, on_ready))]
#[allow(clippy::too_many_arguments)] // keyword-only in Python
pub(crate) fn serve_engine(
    py: Python<'_>,
    host: &str,
    port: u16,
    flavor: &str,
    ttft_ms: f64,
    itl_ms: f64,
    tokens: u32,
    tokens_per_chunk: u32,
    seed: u64,
    model: String,
    on_ready: Py<PyAny>,
) -> PyResult<()> {
    let flavor = flavor.parse().map_err(|error| PyValueError::new_err(format!("{error}")))?;
    let duration = |ms: f64| {
        Duration::try_from_secs_f64(ms / 1e3)
            .map_err(|error| PyValueError::new_err(error.to_string()))
    };
    let options = Options {
        flavor,
        ttft: duration(ttft_ms)?,
        itl: duration(itl_ms)?,
        tokens,
        tokens_per_chunk,
        seed,
        model,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    py.detach(|| {
        runtime.block_on(async {
            let engine = Engine::bind(host, port, options).await?;
            let (mut interrupt, mut terminate) =
                (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
            let port = engine.local_addr().port();
            Python::attach(|py| on_ready.call1(py, (port,)))
                .map_err(|error| std::io::Error::other(error.to_string()))?;
            let stop = async {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            };
            engine.serve(stop).await
        })
    })
    .map_err(PyOSError::new_err)
}
