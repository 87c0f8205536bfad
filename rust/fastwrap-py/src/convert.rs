//! HTTP's types to Python's and back: headers are lists of pairs of bytes, as in ASGI.

use bytes::Bytes;
use fastwrap_core::error::Fault;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    request,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyList, PyTuple};

pub(crate) type Headers = Vec<(PyBackedBytes, PyBackedBytes)>;

/// The head of a request, of which ASGI tells the version as `"1.1"`, say; malformed parts give [`Fault::BadRequest`].
pub(crate) fn request_head(
    method: &str,
    target: &[u8],
    headers: &Headers,
    version: &str,
) -> Result<request::Parts, Fault> {
    let bad = |_| Fault::BadRequest;
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(method.as_bytes()).map_err(|_| Fault::BadRequest)?;
    *request.uri_mut() = Uri::try_from(target).map_err(|_| Fault::BadRequest)?;
    // Granian leaves the 0 out.
    let is_http_10 = matches!(version, "1.0" | "1");
    *request.version_mut() = if is_http_10 { Version::HTTP_10 } else { Version::HTTP_11 };
    *request.headers_mut() = header_map(headers).map_err(bad)?;
    Ok(request.into_parts().0)
}

/// An application's headers: an iterable of pairs of any sort.
pub(crate) fn pairs(headers: &Bound<'_, PyAny>) -> PyResult<Headers> {
    headers
        .try_iter()?
        .map(|pair| pair?.extract::<[_; 2]>().map(|[name, value]| (name, value)))
        .collect()
}

pub(crate) fn header_map(headers: &Headers) -> Result<HeaderMap, http::Error> {
    let mut map = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        map.try_append(HeaderName::from_bytes(name)?, HeaderValue::from_bytes(value)?)?;
    }
    Ok(map)
}

pub(crate) fn header_list<'py>(
    py: Python<'py>,
    headers: &HeaderMap,
) -> PyResult<Bound<'py, PyList>> {
    let pairs = headers.iter().map(|(name, value)| {
        let pair = [PyBytes::new(py, name.as_str().as_bytes()), PyBytes::new(py, value.as_bytes())];
        PyTuple::new(py, pair)
    });
    PyList::new(py, pairs.collect::<PyResult<Vec<_>>>()?)
}

/// A whole answer, as Python gives it.
pub(crate) fn response(status: u16, headers: &Headers, body: &[u8]) -> PyResult<Response<Bytes>> {
    let bad = |error: &dyn std::fmt::Display| PyValueError::new_err(error.to_string());
    let mut response = Response::new(Bytes::copy_from_slice(body));
    *response.status_mut() = StatusCode::from_u16(status).map_err(|error| bad(&error))?;
    *response.headers_mut() = header_map(headers).map_err(|error| bad(&error))?;
    Ok(response)
}

/// All parts in one object.
pub(crate) fn joined<'py>(py: Python<'py>, parts: &[Bytes]) -> PyResult<Bound<'py, PyBytes>> {
    if let [only] = parts {
        return Ok(PyBytes::new(py, only));
    }
    let length = parts.iter().map(Bytes::len).sum();
    PyBytes::new_with(py, length, |mut target| {
        for part in parts {
            let (here, rest) = target.split_at_mut(part.len());
            here.copy_from_slice(part);
            target = rest;
        }
        Ok(())
    })
}
