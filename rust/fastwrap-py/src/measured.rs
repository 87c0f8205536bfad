//! One request measured by whoever does the I/O in Python: the httpx relay.

use std::sync::Arc;

use bytes::Bytes;
use fastwrap_core::error::Fault;
use fastwrap_core::exchange::{Broken, Exchange, Plan};
use fastwrap_core::head::is_acceptable;
use fastwrap_core::meter::Meter;
use fastwrap_relay::now_ns;
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode, request};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::convert::{Headers, header_list, header_map, joined, request_head, response};

/// Status, headers and body of a whole answer.
pub(crate) type Whole<'py> = (u16, Bound<'py, PyList>, Bound<'py, PyBytes>);

#[pyclass(module = "fastwrap._native")]
pub(crate) struct Measured {
    exchange: Option<Box<Exchange>>,
    /// fastwrap's own, where the request is not for the engine.
    answer: Option<Box<Response<Bytes>>>,
    request_headers: HeaderMap,
    response: Parts,
}

/// Admits a request; a malformed one is counted like any other.
pub(crate) fn begin(
    meter: &Arc<Meter>,
    head: Result<request::Parts, Fault>,
) -> Result<(Box<Exchange>, request::Parts), Box<Response<Bytes>>> {
    let malformed = !head.as_ref().is_ok_and(is_acceptable);
    let mut head = head.unwrap_or_else(|_| http::Request::new(()).into_parts().0);
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let mut exchange = Exchange::begin(meter, &head.method, &target, &mut head.headers, now_ns())?;
    if malformed {
        return Err(Box::new(exchange.refuse(Fault::BadRequest, now_ns())));
    }
    Ok((exchange, head))
}

impl Measured {
    pub(crate) fn begin(meter: &Arc<Meter>, head: Result<request::Parts, Fault>) -> Self {
        let (exchange, answer, request_headers) = match begin(meter, head) {
            Ok((exchange, head)) => (Some(exchange), None, head.headers),
            Err(answer) => (None, Some(answer), HeaderMap::new()),
        };
        Self { exchange, answer, request_headers, response: Response::new(()).into_parts().0 }
    }

    fn exchange(&mut self) -> PyResult<&mut Exchange> {
        self.exchange.as_deref_mut().ok_or_else(|| PyRuntimeError::new_err("the exchange is over"))
    }
}

pub(crate) fn whole<'py>(py: Python<'py>, response: Response<Bytes>) -> PyResult<Whole<'py>> {
    let (head, body) = response.into_parts();
    Ok((head.status.as_u16(), header_list(py, &head.headers)?, PyBytes::new(py, &body)))
}

/// The request's id, and whose key it carries.
pub(crate) fn owned((request_id, key_id): (&str, Option<&str>)) -> (String, Option<String>) {
    (request_id.to_owned(), key_id.map(str::to_owned))
}

#[pymethods]
impl Measured {
    fn answer<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Whole<'py>>> {
        self.answer.take().map(|answer| whole(py, *answer)).transpose()
    }

    #[getter]
    fn is_measured(&self) -> bool {
        self.exchange.as_ref().is_some_and(|exchange| exchange.is_measured())
    }

    fn request_headers<'py>(
        &mut self,
        py: Python<'py>,
        host: &str,
    ) -> PyResult<Bound<'py, PyList>> {
        let host = HeaderValue::from_str(host)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        let mut request_headers = std::mem::take(&mut self.request_headers);
        self.exchange()?.prepare(&mut request_headers, &host);
        header_list(py, &request_headers)
    }

    fn body<'py>(&mut self, py: Python<'py>, body: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let patched = self.exchange()?.body(Bytes::copy_from_slice(body), now_ns());
        Ok(PyBytes::new(py, &patched))
    }

    fn received(&mut self) -> PyResult<()> {
        self.exchange()?.received(now_ns());
        Ok(())
    }

    #[allow(clippy::needless_pass_by_value)] // PyO3 hands over what it converts
    fn response(&mut self, status: u16, headers: Headers, sent_ns: u64) -> PyResult<bool> {
        let bad = |error: &dyn std::fmt::Display| PyValueError::new_err(error.to_string());
        let status = StatusCode::from_u16(status).map_err(|error| bad(&error))?;
        let mut response_headers = header_map(&headers).map_err(|error| bad(&error))?;
        let exchange = self.exchange()?;
        exchange.sent(sent_ns);
        let plan = exchange.response(status, &mut response_headers);
        (self.response.status, self.response.headers) = (status, response_headers);
        Ok(plan == Plan::Collect)
    }

    #[getter]
    fn response_status(&self) -> u16 {
        self.response.status.as_u16()
    }

    fn response_headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        header_list(py, &self.response.headers)
    }

    #[getter]
    fn is_collecting(&self) -> bool {
        self.exchange.as_ref().is_some_and(|exchange| exchange.is_collecting())
    }

    fn data<'py>(
        &mut self,
        py: Python<'py>,
        chunk: &[u8],
        read_ns: u64,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let mut out = Vec::new();
        self.exchange()?.data(Bytes::copy_from_slice(chunk), read_ns, now_ns(), &mut out);
        joined(py, &out)
    }

    fn handed_over(&mut self, read_ns: u64) -> PyResult<()> {
        self.exchange()?.transit().handed_over(read_ns, now_ns());
        Ok(())
    }

    fn finish<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let mut out = Vec::new();
        if let Some(mut exchange) = self.exchange.take() {
            exchange.finish(now_ns(), Some(&mut self.response), &mut out);
        }
        joined(py, &out)
    }

    fn fail<'py>(&mut self, py: Python<'py>, fault: &str) -> PyResult<(Bound<'py, PyBytes>, bool)> {
        let fault = parse_fault(fault)?;
        let mut out = Vec::new();
        let broken =
            self.exchange.take().map(|mut exchange| exchange.fail(fault, now_ns(), &mut out));
        Ok((joined(py, &out)?, broken == Some(Broken::Abort)))
    }

    fn refuse<'py>(&mut self, py: Python<'py>, fault: &str) -> PyResult<Whole<'py>> {
        let fault = parse_fault(fault)?;
        let response = match self.exchange.take() {
            Some(mut exchange) => exchange.refuse(fault, now_ns()),
            None => fault.response(),
        };
        whole(py, response)
    }

    fn caller(&mut self) -> PyResult<(String, Option<String>)> {
        Ok(owned(self.exchange()?.caller()))
    }

    fn arrived(&mut self) -> PyResult<()> {
        self.exchange()?.arrived(now_ns());
        Ok(())
    }

    #[allow(clippy::needless_pass_by_value)] // PyO3 hands over what it converts
    fn reject<'py>(
        &mut self,
        py: Python<'py>,
        status: u16,
        headers: Headers,
        body: &[u8],
        code: String,
    ) -> PyResult<Whole<'py>> {
        let answer = response(status, &headers, body)?;
        let exchange = self.exchange.take();
        let mut exchange =
            exchange.ok_or_else(|| PyRuntimeError::new_err("the exchange is over"))?;
        whole(py, exchange.reject(answer, code, now_ns()))
    }

    fn cancel(&mut self) {
        self.exchange = None;
    }
}

#[pyfunction]
pub(crate) fn refusal<'py>(py: Python<'py>, fault: &str) -> PyResult<Whole<'py>> {
    whole(py, parse_fault(fault)?.response())
}

#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // PyO3 hands over what it converts
pub(crate) fn is_request_acceptable(
    method: &str,
    target: &[u8],
    headers: Headers,
    version: &str,
) -> bool {
    request_head(method, target, &headers, version).as_ref().is_ok_and(is_acceptable)
}

pub(crate) fn parse_fault(code: &str) -> PyResult<Fault> {
    let known = Fault::ALL.into_iter().find(|fault| fault.code() == code);
    known.ok_or_else(|| PyValueError::new_err(format!("no such fault: {code}")))
}
