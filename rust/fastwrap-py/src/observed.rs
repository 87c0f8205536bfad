//! One request to an application in this process, measured as its messages pass: the ASGI middleware.

use std::sync::Arc;

use bytes::Bytes;
use fastwrap_core::exchange::{Exchange, Plan};
use fastwrap_core::meter::Meter;
use fastwrap_core::route::Route;
use fastwrap_relay::now_ns;
use http::response::Parts;
use http::{Method, Response, StatusCode};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyList};

use crate::convert::{header_list, header_map, joined, pairs};
use crate::measured::parse_fault;

#[pyclass(module = "fastwrap._native")]
pub(crate) struct Observed {
    exchange: Option<Box<Exchange>>,
    response: Parts,
}

impl Observed {
    /// `None` if such a request is not measured.
    pub(crate) fn begin(
        meter: &Arc<Meter>,
        method: &str,
        path: &str,
        headers: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Self>> {
        let method = Method::from_bytes(method.as_bytes()).unwrap_or_default();
        if Route::of(&method, path).is_none() {
            return Ok(None);
        }
        let mut headers = header_map(&pairs(headers)?).map_err(unusable)?;
        let exchange = Exchange::begin(meter, &method, path, &mut headers, now_ns()).ok();
        let response = Response::new(()).into_parts().0;
        Ok(exchange.map(|exchange| Self { exchange: Some(exchange), response }))
    }

    fn exchange(&mut self) -> PyResult<&mut Exchange> {
        self.exchange.as_deref_mut().ok_or_else(|| PyRuntimeError::new_err("the exchange is over"))
    }
}

fn unusable(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// Python's own bytes, without a copy.
fn shared(given: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    let given: PyBackedBytes = match given.extract() {
        Ok(given) => given,
        // A memoryview, which ASGI does not speak of and Starlette sends.
        Err(_) => given.py().get_type::<PyBytes>().call1((given,))?.extract()?,
    };
    Ok(Bytes::from_owner(given))
}

fn is_same(one: &Bytes, other: &Bytes) -> bool {
    std::ptr::eq(&raw const **one, &raw const **other)
}

#[pymethods]
impl Observed {
    fn request<'py>(&mut self, body: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let given = shared(body)?;
        let exchange = self.exchange()?;
        let asked = exchange.body(given.clone(), now_ns());
        exchange.sent(now_ns());
        if is_same(&given, &asked) {
            return Ok(body.clone());
        }
        Ok(PyBytes::new(body.py(), &asked).into_any())
    }

    fn head<'py>(
        &mut self,
        status: u16,
        headers: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let status = StatusCode::from_u16(status).map_err(unusable)?;
        let given = pairs(headers)?;
        let mut response_headers = header_map(&given).map_err(unusable)?;
        let plan = self.exchange()?.response_here(status, &mut response_headers);
        let is_changed = response_headers.len() != given.len();
        (self.response.status, self.response.headers) = (status, response_headers);
        match plan {
            Plan::Collect => Ok(None),
            Plan::Forward if is_changed => Ok(Some(self.headers(headers.py())?.into_any())),
            Plan::Forward => Ok(Some(headers.clone())),
        }
    }

    fn body<'py>(
        &mut self,
        chunk: &Bound<'py, PyAny>,
        more: bool,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let read_ns = now_ns();
        let given = shared(chunk)?;
        let mut out = Vec::new();
        let exchange = self.exchange()?;
        if !given.is_empty() {
            exchange.data(given.clone(), read_ns, read_ns, &mut out);
        }
        if !more {
            let mut exchange = self.exchange.take();
            if let Some(exchange) = &mut exchange {
                exchange.finish(now_ns(), Some(&mut self.response), &mut out);
            }
        } else if !out.is_empty() {
            exchange.transit().handed_over(read_ns, now_ns());
        }
        match out.as_slice() {
            [only] if is_same(only, &given) => Ok(Some(chunk.clone())),
            [] if given.is_empty() => Ok(Some(chunk.clone())),
            [] if more => Ok(None),
            parts => Ok(Some(joined(chunk.py(), parts)?.into_any())),
        }
    }

    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        header_list(py, &self.response.headers)
    }

    #[pyo3(signature = (fault=None))]
    fn end<'py>(&mut self, py: Python<'py>, fault: Option<&str>) -> PyResult<Bound<'py, PyBytes>> {
        let fault = fault.map(parse_fault).transpose()?;
        let mut out = Vec::new();
        if let Some(mut exchange) = self.exchange.take() {
            exchange.let_go(&mut out);
            if let Some(fault) = fault {
                exchange.fail(fault, now_ns(), &mut Vec::new());
            }
        }
        joined(py, &out)
    }
}
