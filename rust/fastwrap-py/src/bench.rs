//! The load generator, in the foreground.

use std::time::Duration;

use fastwrap_bench::{Arrivals, BenchError, Check, Load, Mode, Progress, Settings, Target};
use http::{HeaderName, HeaderValue};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use serde_json::{Map, Value};

#[pyfunction]
pub(crate) fn bench_metrics() -> Vec<String> {
    fastwrap_bench::metric_names()
}

#[pyfunction]
#[pyo3(signature = (targets, *, reference, mode, concurrency, rate, arrivals, check, path, model, max_tokens, request_bytes, body, transit, headers, ramp, duration, rounds, warmup, timeout, seed, on_progress))]
#[allow(clippy::too_many_arguments)] // keyword-only in Python
pub(crate) fn run_bench(
    py: Python<'_>,
    targets: Vec<(String, String, Option<u32>)>,
    reference: Option<String>,
    mode: &str,
    concurrency: usize,
    rate: Option<f64>,
    arrivals: &str,
    check: &str,
    path: String,
    model: Option<String>,
    max_tokens: Option<u32>,
    request_bytes: Option<usize>,
    body: &str,
    transit: bool,
    headers: Vec<(String, String)>,
    ramp: f64,
    duration: f64,
    rounds: u32,
    warmup: u32,
    timeout: f64,
    seed: u64,
    on_progress: Py<PyAny>,
) -> PyResult<String> {
    let targets = targets.iter().map(|(name, url, pid)| Target::new(name, url, *pid));
    let settings = Settings {
        targets: targets.collect::<Result<_, _>>().map_err(|error| bad(&error))?,
        reference,
        mode: word(mode, &[("json", Mode::Json), ("sse", Mode::Sse)])?,
        load: match rate {
            None => Load::Closed { concurrency },
            Some(rate) => {
                let known = [("poisson", Arrivals::Poisson), ("constant", Arrivals::Constant)];
                Load::Open { rate, arrivals: word(arrivals, &known)?, concurrency }
            }
        },
        check: word(
            check,
            &[("status", Check::Status), ("content", Check::Content), ("events", Check::Events)],
        )?,
        path,
        model,
        max_tokens,
        request_bytes,
        members: members(body)?,
        transit,
        headers: headers.iter().map(header).collect::<PyResult<_>>()?,
        ramp: seconds(ramp)?,
        duration: seconds(duration)?,
        rounds,
        warmup,
        timeout: seconds(timeout)?,
        seed,
    };
    let mut failure = None;
    let mut tell = |progress: Progress<'_>| {
        let Progress { done, total, round, target } = progress;
        let told = Python::attach(|py| on_progress.call1(py, (done, total, round, target)));
        told.map_err(|error| failure = Some(error)).is_ok()
    };
    let result = py.detach(|| fastwrap_bench::run(settings, &mut tell));
    match (result, failure) {
        (_, Some(error)) => Err(error),
        (Ok(report), None) => Ok(report.to_json()),
        (Err(error @ BenchError::Settings(_)), None) => Err(bad(&error)),
        (Err(error), None) => Err(PyRuntimeError::new_err(error.to_string())),
    }
}

fn bad(error: &dyn std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

fn word<T: Copy>(given: &str, known: &[(&str, T)]) -> PyResult<T> {
    let found = known.iter().find(|(name, _)| *name == given);
    found.map(|found| found.1).ok_or_else(|| bad(&format!("{given:?} is unknown")))
}

fn members(body: &str) -> PyResult<Map<String, Value>> {
    serde_json::from_str(body).map_err(|error| bad(&format!("the body is no JSON object: {error}")))
}

fn header((name, value): &(String, String)) -> PyResult<(HeaderName, HeaderValue)> {
    let malformed = |error: &dyn std::fmt::Display| bad(&format!("the header {name:?}: {error}"));
    Ok((
        name.parse().map_err(|error: http::header::InvalidHeaderName| malformed(&error))?,
        value.parse().map_err(|error: http::header::InvalidHeaderValue| malformed(&error))?,
    ))
}

fn seconds(number: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(number).map_err(|error| bad(&error))
}
