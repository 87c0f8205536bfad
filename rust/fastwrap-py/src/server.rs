//! The native server, started and stopped from Python.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use fastwrap_core::error::Fault;
use fastwrap_relay::Relay;
use fastwrap_server::{Check, Options, Own, Server as CoreServer, bind, bind_unix};
use http::{HeaderMap, Method, Response};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::sync::oneshot;

use crate::convert::{Headers, header_list, response};
use crate::hooks::PythonCheck;
use crate::meter::Meter;
use crate::relay::{prepare, timeout};

/// fastwrap's own routes, answered in Python: `call(method, path, headers, reply)`.
struct PythonOwn {
    call: Py<PyAny>,
}

/// Takes the answer to one request for an own route.
#[pyclass(module = "fastwrap._native")]
pub(crate) struct Reply {
    sender: Option<oneshot::Sender<Response<Bytes>>>,
}

#[pymethods]
impl Reply {
    #[allow(clippy::needless_pass_by_value)] // PyO3 hands over what it converts
    fn __call__(&mut self, status: u16, headers: Headers, body: &[u8]) -> PyResult<()> {
        let response = response(status, &headers, body)?;
        let sender =
            self.sender.take().ok_or_else(|| PyRuntimeError::new_err("it was answered already"))?;
        // The client may have left meanwhile.
        let _ = sender.send(response);
        Ok(())
    }
}

impl Own for PythonOwn {
    fn answer(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Pin<Box<dyn Future<Output = Response<Bytes>> + Send>> {
        let (sender, receiver) = oneshot::channel();
        // A failure, in there or later, drops the sender.
        let _ = Python::try_attach(|py| {
            let headers = header_list(py, headers)?;
            self.call.call1(py, (method.as_str(), path, headers, Reply { sender: Some(sender) }))
        });
        Box::pin(async move { receiver.await.unwrap_or_else(|_| Fault::Internal.response()) })
    }
}

#[pyclass(frozen, module = "fastwrap._native")]
pub(crate) struct Server {
    core: CoreServer,
}

#[pymethods]
impl Server {
    #[new]
    #[pyo3(signature = (meter, upstream, own, *, check, host, port, uds, workers, grace, header_timeout, body_timeout, connect_timeout, first_byte_timeout, idle_timeout, total_timeout))]
    #[allow(clippy::too_many_arguments)] // keyword-only in Python
    fn new(
        meter: &Meter,
        upstream: &str,
        own: Py<PyAny>,
        check: Option<(Py<PyAny>, Py<PyAny>, f64)>,
        host: &str,
        port: u16,
        uds: Option<PathBuf>,
        workers: usize,
        grace: f64,
        header_timeout: f64,
        body_timeout: f64,
        connect_timeout: f64,
        first_byte_timeout: f64,
        idle_timeout: f64,
        total_timeout: f64,
    ) -> PyResult<Self> {
        let timeouts = [connect_timeout, first_byte_timeout, idle_timeout, total_timeout];
        let relays = (0..workers)
            .map(|_| prepare(meter, upstream, timeouts))
            .collect::<PyResult<Vec<Relay>>>()?;
        let own: Arc<dyn Own> = Arc::new(PythonOwn { call: own });
        let check = check.map(|(validate, late, seconds)| {
            let check = PythonCheck::new(validate, late, timeout(seconds)?);
            PyResult::Ok(Arc::new(check) as Arc<dyn Check>)
        });
        let check = check.transpose()?;
        let options = Options {
            header_timeout: timeout(header_timeout)?,
            body_timeout: timeout(body_timeout)?,
            grace: timeout(grace)?.unwrap_or_default(),
        };
        let listeners = match uds {
            Some(path) => bind_unix(&path, workers)?,
            None => bind(host, port, workers)?,
        };
        let relays = relays.into_iter().map(Arc::new).collect();
        Ok(Self { core: CoreServer::start(listeners, relays, &own, check.as_ref(), options)? })
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.core.stop());
    }
}
