//! Hooks in Python: what they are told off the requests' way, and what they add to a block or refuse on it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use fastwrap_core::hooks::{self, Asked, Hook, Hooks, Record, first_token_json, request_json};
use fastwrap_core::performance::Performance;
use fastwrap_server::{Check, Rejection};
use http::{StatusCode, request};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::convert::{Headers, header_list, response};

/// Events that may wait: some megabytes.
const MAX_EVENTS: usize = 8192;
/// Events that are handed over in one go.
const MAX_BATCH: usize = 512;
/// How long the first of a batch waits for others: no request wakes anybody meanwhile.
const GATHER: Duration = Duration::from_millis(10);
/// Requests that are looked at at the same time; more wait for their turn.
const MAX_CHECKS: usize = 64;

/// What happened.
enum Told {
    Json(Bytes),
    Record { asked: Box<Asked>, status: Option<StatusCode>, performance: Box<Performance> },
}

impl Told {
    fn into_json(self) -> Bytes {
        match self {
            Self::Json(json) => json,
            Self::Record { asked, status, performance } => {
                Record { asked: &asked, status, performance: &performance }.to_json()
            }
        }
    }
}

struct Event {
    hook: Hook,
    at: SystemTime,
    told: Told,
}

#[derive(Default)]
struct State {
    events: VecDeque<Event>,
    /// Somebody waits for the first: nobody else is worth a system call.
    waiting: bool,
    closed: bool,
}

/// What waits to be told, and what adds to blocks.
struct Queue {
    /// The hooks that want to be told.
    told: Vec<Hook>,
    enrich: Option<Py<PyAny>>,
    state: Mutex<State>,
    changed: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it was taken, or nobody wants it.
    fn push(&self, hook: Hook, told: impl FnOnce() -> Told) -> bool {
        if !self.told.contains(&hook) {
            return true;
        }
        let event = Event { hook, at: SystemTime::now(), told: told() };
        let mut state = self.lock();
        if state.events.len() >= MAX_EVENTS || state.closed {
            return false;
        }
        state.events.push_back(event);
        if std::mem::take(&mut state.waiting) {
            self.changed.notify_one();
        }
        true
    }

    /// Waits for events; none are left when it was closed.
    fn take(&self) -> Vec<Event> {
        let first = self.changed.wait_while(self.lock(), |state| {
            state.waiting = state.events.is_empty() && !state.closed;
            state.waiting
        });
        let first = first.unwrap_or_else(PoisonError::into_inner);
        let gathered = self.changed.wait_timeout_while(first, GATHER, |state| !state.closed);
        let mut state = gathered.unwrap_or_else(PoisonError::into_inner).0;
        let count = state.events.len().min(MAX_BATCH);
        state.events.drain(..count).collect()
    }
}

impl Hooks for Queue {
    fn request(&self, request_id: &str, asked: &Asked) -> bool {
        self.push(Hook::Request, || Told::Json(request_json(request_id, asked)))
    }

    fn first_token(&self, request_id: &str, asked: &Asked, ttft_ms: f64) -> bool {
        let told = || Told::Json(first_token_json(request_id, asked, ttft_ms));
        self.push(Hook::FirstToken, told)
    }

    fn record(
        &self,
        asked: Box<Asked>,
        status: Option<StatusCode>,
        performance: Box<Performance>,
    ) -> bool {
        self.push(Hook::Record, || Told::Record { asked, status, performance })
    }

    fn enrich(&self, record: &Record<'_>) -> Option<Bytes> {
        let Some(enrich) = &self.enrich else {
            return Some(Bytes::new());
        };
        let json = record.to_json();
        let added = Python::try_attach(|py| {
            let added = enrich.call1(py, (PyBytes::new(py, &json),)).ok()?;
            Some(Bytes::copy_from_slice(added.extract::<&[u8]>(py).ok()?))
        });
        added.flatten()
    }
}

/// What Python takes events from.
#[pyclass(frozen, module = "fastwrap._native")]
pub(crate) struct HookQueue {
    queue: Arc<Queue>,
}

pub(crate) fn parse_hook(name: &str) -> PyResult<Hook> {
    let known = Hook::ALL.into_iter().find(|hook| hook.name() == name);
    known.ok_or_else(|| PyValueError::new_err(format!("no such hook: {name}")))
}

#[pyfunction]
pub(crate) fn model_of(body: &[u8]) -> Option<String> {
    hooks::model(body)
}

impl HookQueue {
    pub(crate) fn new(told: &[String], enrich: Option<Py<PyAny>>) -> PyResult<Self> {
        let told = told.iter().map(|name| parse_hook(name)).collect::<PyResult<_>>()?;
        let (state, changed) = (Mutex::default(), Condvar::new());
        Ok(Self { queue: Arc::new(Queue { told, enrich, state, changed }) })
    }

    pub(crate) fn hooks(&self) -> Arc<dyn Hooks> {
        Arc::<Queue>::clone(&self.queue)
    }
}

#[pymethods]
impl HookQueue {
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        let events = py.detach(|| {
            let events = self.queue.take().into_iter();
            events.map(|event| (event.hook, event.at, event.told.into_json())).collect::<Vec<_>>()
        });
        let events = events.into_iter().map(|(hook, at, json)| {
            let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
            (hook.name(), seconds, PyBytes::new(py, &json)).into_pyobject(py)
        });
        events.collect()
    }

    fn close(&self) {
        self.queue.lock().closed = true;
        self.queue.changed.notify_one();
    }
}

/// Status, headers, body, and what the error is called.
type RejectionRow = (u16, Headers, Vec<u8>, String);

fn rejection(row: RejectionRow) -> PyResult<Rejection> {
    let (status, headers, body, code) = row;
    Ok(Rejection { answer: response(status, &headers, &body)?, code })
}

/// Hooks that may refuse a request: `validate(request_id, key_id, method, target, headers, body)`, called in a thread
/// that may hang; and `late()`, which says what is to be done if it does.
pub(crate) struct PythonCheck {
    validate: Arc<Py<PyAny>>,
    late: Arc<Py<PyAny>>,
    limit: Option<Duration>,
    turns: Arc<Semaphore>,
}

impl PythonCheck {
    pub(crate) fn new(validate: Py<PyAny>, late: Py<PyAny>, limit: Option<Duration>) -> Self {
        let turns = Arc::new(Semaphore::new(MAX_CHECKS));
        Self { validate: Arc::new(validate), late: Arc::new(late), limit, turns }
    }
}

type Arguments = (String, Option<String>, request::Parts, Bytes);

/// What the function says; a failure of its own is no reason to refuse anybody.
fn call(function: &Py<PyAny>, arguments: Option<&Arguments>) -> Option<Rejection> {
    Python::try_attach(|py| {
        let said = match arguments {
            None => function.call0(py)?,
            Some((request_id, key_id, head, body)) => {
                let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
                let headers = header_list(py, &head.headers)?;
                let body = PyBytes::new(py, body);
                let method = head.method.as_str();
                function
                    .call1(py, (request_id, key_id, method, target.as_bytes(), headers, body))?
            }
        };
        said.extract::<Option<RejectionRow>>(py)?.map(rejection).transpose()
    })?
    .ok()?
}

impl Check for PythonCheck {
    fn check(
        &self,
        request_id: String,
        key_id: Option<String>,
        head: request::Parts,
        body: Bytes,
    ) -> Pin<Box<dyn Future<Output = Option<Rejection>> + Send>> {
        let (validate, late) = (Arc::clone(&self.validate), Arc::clone(&self.late));
        let (turns, limit) = (Arc::clone(&self.turns), self.limit);
        let arguments = (request_id, key_id, head, body);
        let work = async move {
            let turn = turns.acquire_owned().await.ok();
            let work = spawn_blocking(move || {
                let said = call(&validate, Some(&arguments));
                drop(turn);
                said
            });
            work.await.unwrap_or_default()
        };
        Box::pin(async move {
            match limit {
                None => work.await,
                Some(limit) => match timeout(limit, work).await {
                    Ok(said) => said,
                    Err(_) => spawn_blocking(move || call(&late, None)).await.unwrap_or_default(),
                },
            }
        })
    }
}
