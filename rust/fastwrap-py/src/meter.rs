//! What all requests of a worker share.

use std::path::PathBuf;
use std::sync::Arc;

use fastwrap_core::assemble::{JsonForm, Template};
use fastwrap_core::counters::{Counters, HISTOGRAMS, Snapshot, private_cells};
use fastwrap_core::guard::{Cors, Keys};
use fastwrap_core::hooks::Hook;
use fastwrap_core::meter::{Meter as CoreMeter, Settings};
use fastwrap_core::performance::Outcome;
use fastwrap_core::profile::{EngineField, Profile};
use fastwrap_core::route::Route;
use http::HeaderMap;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::PyList;

use crate::cells;
use crate::convert::{Headers, header_list, request_head};
use crate::edges::Edges;
use crate::gpu::GpuLog;
use crate::hooks::{HookQueue, parse_hook};
use crate::measured::{Measured, Whole, whole};
use crate::observed::Observed;
use crate::samples::Samples;

#[pyclass(frozen, module = "fastwrap._native")]
pub(crate) struct Meter {
    pub(crate) core: Arc<CoreMeter>,
    gpu: Py<GpuLog>,
    counters_directory: Option<PathBuf>,
}

/// Its name, the name under `engine`, and a factor.
type EngineFieldRow = (String, String, f64);
/// Bounds in seconds, counts that are not cumulated, and the sum in seconds.
type HistogramRow = (Vec<f64>, Vec<u64>, f64);
/// Operation, `[prompt, completion]` tokens, and the histograms of duration, TTFT and TPOT.
type RouteRow = (&'static str, [u64; 2], Vec<HistogramRow>);

/// Templates of chat completions and completions, `fingerprint` and `parted_by`.
type JsonFormRow = (String, String, String, Option<String>);

fn to_json_form(row: JsonFormRow) -> PyResult<JsonForm> {
    let (chat, completions, fingerprint, parted_by) = row;
    let template =
        |text: &str| Template::new(text).map_err(|error| PyValueError::new_err(error.to_string()));
    Ok(JsonForm {
        chat: template(&chat)?,
        completions: template(&completions)?,
        fingerprint,
        parted_by,
    })
}

#[pymethods]
impl Meter {
    #[new]
    #[pyo3(signature = (*, enrich, stall_ns, json_as_stream, max_body_bytes, max_header_bytes, max_inflight, counters_directory=None, gate=None))]
    #[allow(clippy::too_many_arguments)] // keyword-only in Python
    fn new(
        py: Python<'_>,
        enrich: &str,
        stall_ns: u64,
        json_as_stream: bool,
        max_body_bytes: u64,
        max_header_bytes: u64,
        max_inflight: u64,
        counters_directory: Option<PathBuf>,
        gate: Option<PathBuf>,
    ) -> PyResult<Self> {
        let enrich = enrich.parse().map_err(PyValueError::new_err)?;
        let settings = Settings {
            enrich,
            stall_ns,
            json_as_stream,
            max_body_bytes,
            max_header_bytes,
            max_inflight,
        };
        let cells = match &counters_directory {
            Some(directory) => cells::open(directory)?,
            None => private_cells(),
        };
        let mut core = CoreMeter::new(settings, Counters::new(cells));
        if let Some(path) = gate {
            core = core.behind(cells::map(&path, 1)?);
        }
        let core = Arc::new(core);
        if let Some(directory) = &counters_directory {
            core.gauges().share(cells::open_board(directory, "gauges")?);
            core.host_memory().share(cells::open_board(directory, "host_memory")?);
        }
        let gpu = Py::new(py, GpuLog::new(Arc::clone(&core)))?;
        Ok(Self { core, gpu, counters_directory })
    }

    #[getter]
    fn gpu(&self, py: Python<'_>) -> Py<GpuLog> {
        self.gpu.clone_ref(py)
    }

    #[getter]
    fn gauges(&self) -> Samples {
        Samples::new(Arc::clone(&self.core), CoreMeter::gauges)
    }

    #[getter]
    fn host_memory(&self) -> Samples {
        Samples::new(Arc::clone(&self.core), CoreMeter::host_memory)
    }

    #[getter]
    fn is_open(&self) -> bool {
        self.core.is_open()
    }

    fn edges(&self) -> Edges {
        Edges::of(Arc::clone(&self.core))
    }

    #[getter]
    fn backend(&self) -> String {
        self.core.profile().backend.as_ref().to_owned()
    }

    #[pyo3(signature = (*, backend, stream_usage, done, usage_per_choice, usage_in_chunks, closes_after_stream, engine_members, engine_member_with_usage, engine_fields, engine_headers, json_form))]
    #[allow(clippy::too_many_arguments)] // keyword-only in Python
    fn set_profile(
        &self,
        backend: String,
        stream_usage: bool,
        done: bool,
        usage_per_choice: bool,
        usage_in_chunks: bool,
        closes_after_stream: bool,
        engine_members: Vec<String>,
        engine_member_with_usage: bool,
        engine_fields: Vec<EngineFieldRow>,
        engine_headers: Vec<EngineFieldRow>,
        json_form: Option<JsonFormRow>,
    ) -> PyResult<()> {
        self.core.set_profile(Profile {
            backend: backend.into(),
            stream_usage,
            done,
            usage_per_choice,
            usage_in_chunks,
            closes_after_stream,
            engine_members,
            engine_member_with_usage,
            engine_fields: engine_fields.into_iter().map(engine_field).collect(),
            engine_headers: engine_headers.into_iter().map(engine_field).collect(),
            json_form: json_form.map(to_json_form).transpose()?,
        });
        Ok(())
    }

    #[allow(clippy::needless_pass_by_value)] // PyO3 hands over what it converts
    fn set_keys(&self, keys: Vec<PyBackedStr>) -> PyResult<()> {
        let keys = keys.iter().map(|key| key.as_bytes());
        let keys = Keys::new(keys).map_err(|error| PyOSError::new_err(error.to_string()))?;
        self.core.guard.set_keys(keys);
        Ok(())
    }

    fn set_engine_key(&self, key: &str) -> PyResult<()> {
        let set = self.core.guard.set_engine_key(key);
        set.map_err(|error| PyValueError::new_err(error.to_string()))
    }

    fn set_cors(&self, origins: &str) -> PyResult<()> {
        self.core.guard.set_cors(parse_origins(origins)?);
        Ok(())
    }

    /// The answer in the place of an own route's, or else headers that go with it.
    #[allow(clippy::needless_pass_by_value)] // PyO3 hands over what it converts
    #[pyo3(signature = (method, headers, *, is_open))]
    fn guard_own<'py>(
        &self,
        py: Python<'py>,
        method: &str,
        headers: Headers,
        is_open: bool,
    ) -> PyResult<(Option<Whole<'py>>, Bound<'py, PyList>)> {
        let mut added = HeaderMap::new();
        let checked = match request_head(method, b"/", &headers, "1.1") {
            Ok(mut head) => self.core.guard.own(&head.method, &mut head.headers, is_open),
            Err(fault) => Err(Box::new(fault.response())),
        };
        let answer = match checked {
            Ok(grant) => {
                grant.inspect(|grant| grant.apply(&mut added));
                None
            }
            Err(answer) => Some(whole(py, *answer)?),
        };
        Ok((answer, header_list(py, &added)?))
    }

    #[allow(clippy::needless_pass_by_value)] // PyO3 hands over what it converts
    fn begin(&self, method: &str, target: &[u8], headers: Headers, version: &str) -> Measured {
        Measured::begin(&self.core, request_head(method, target, &headers, version))
    }

    fn observe(
        &self,
        method: &str,
        path: &str,
        headers: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Observed>> {
        Observed::begin(&self.core, method, path, headers)
    }

    fn in_flight(&self) -> PyResult<u64> {
        Ok(self.snapshot()?.in_flight())
    }

    fn internal_error(&self) {
        self.core.counters.internal_error();
    }

    fn internal_errors(&self) -> PyResult<u64> {
        Ok(self.snapshot()?.internal_errors())
    }

    #[pyo3(signature = (told, enrich))]
    fn set_hooks(&self, told: Vec<String>, enrich: Option<Py<PyAny>>) -> PyResult<HookQueue> {
        let queue = HookQueue::new(&told, enrich)?;
        self.core.set_hooks(queue.hooks());
        Ok(queue)
    }

    fn hook_error(&self, hook: &str) -> PyResult<()> {
        self.core.counters.hook_error(parse_hook(hook)?);
        Ok(())
    }

    fn hooks(&self) -> PyResult<Vec<(&'static str, [u64; 2])>> {
        let snapshot = self.snapshot()?;
        Ok(Hook::ALL.into_iter().map(|hook| (hook.name(), snapshot.hook(hook))).collect())
    }

    fn requests(&self) -> PyResult<Vec<(&'static str, &'static str, u64)>> {
        let snapshot = self.snapshot()?;
        let routes = Route::ALL.into_iter().map(Some).chain([None]);
        Ok(routes
            .flat_map(|route| Outcome::ALL.map(|outcome| (route, outcome)))
            .map(|(route, outcome)| {
                let operation = route.map_or("other", Route::operation);
                (operation, outcome.name(), snapshot.requests(route, outcome))
            })
            .collect())
    }

    fn routes(&self) -> PyResult<Vec<RouteRow>> {
        let snapshot = self.snapshot()?;
        Ok(Route::ALL
            .into_iter()
            .map(|route| {
                let histograms = snapshot.histograms(route).into_iter().zip(HISTOGRAMS);
                let rows = histograms.map(|(histogram, bounds)| {
                    (bounds.to_vec(), histogram.buckets, histogram.sum_seconds)
                });
                (route.operation(), snapshot.tokens(route), rows.collect())
            })
            .collect())
    }
}

fn engine_field((from, to, scale): EngineFieldRow) -> EngineField {
    EngineField { from, to: to.into(), scale }
}

impl Meter {
    fn snapshot(&self) -> PyResult<Snapshot> {
        let mut total = self.core.counters.snapshot();
        if let Some(directory) = &self.counters_directory {
            cells::add_others(directory, &mut total)?;
        }
        Ok(total)
    }
}

fn parse_origins(text: &str) -> PyResult<Cors> {
    text.parse().map_err(|error: String| PyValueError::new_err(error))
}

#[pyfunction]
pub(crate) fn check_origins(origins: &str) -> PyResult<()> {
    parse_origins(origins).map(drop)
}

#[pyfunction]
pub(crate) fn now_ns() -> u64 {
    fastwrap_relay::now_ns()
}
