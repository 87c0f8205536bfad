//! What browsers must be told before a page of another origin may read an answer (Fetch standard, "CORS protocol").

use std::str::FromStr;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};

use super::only;

/// What a page may read beside the body and the few headers that are always readable.
const EXPOSED: HeaderValue = HeaderValue::from_static("X-Performance-Metrics, Server-Timing");
/// Seconds for which a browser need not ask again; what Starlette says, and so most engines.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// The origins whose pages may read answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cors {
    /// All.
    Any,
    /// These.
    Of(Vec<HeaderValue>),
}

impl FromStr for Cors {
    type Err = String;

    /// Reads `https://app.example,http://localhost:3000`, or `*`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "*" {
            return Ok(Self::Any);
        }
        text.split(',')
            .map(|origin| read_origin(origin.trim()))
            .collect::<Result<_, _>>()
            .map(Self::Of)
    }
}

/// An origin, if it is written as browsers write it: they are compared byte for byte.
fn read_origin(text: &str) -> Result<HeaderValue, String> {
    let example = "an origin is SCHEME://HOST or SCHEME://HOST:PORT, as in https://app.example";
    let wrong = |reason: &str| format!("{text:?} {reason}: {example}");
    if text.is_empty() {
        return Err(format!("an origin is missing: {example}"));
    }
    if text == "*" {
        return Err("* is all origins: give it alone".to_owned());
    }
    let uri: Uri = text.parse().map_err(|_| wrong("is no origin"))?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(wrong("has no scheme"));
    };
    if text.len() != scheme.len() + "://".len() + authority.as_str().len() {
        return Err(wrong("has a path, or a slash at its end"));
    }
    if authority.as_str().contains(['@', '*']) {
        return Err(wrong("names a user, or is a pattern"));
    }
    let default =
        matches!((scheme, authority.port_u16()), ("http", Some(80)) | ("https", Some(443)));
    if default || authority.as_str().ends_with(':') {
        return Err(wrong("has a port that browsers leave out"));
    }
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(wrong("is not in lower case, as browsers send it"));
    }
    HeaderValue::from_str(text).map_err(|_| wrong("is no origin"))
}

impl Cors {
    /// What the page that sent this request may read.
    pub(crate) fn grant(&self, headers: &HeaderMap) -> Grant {
        match self {
            Self::Any => Grant { origin: Some(HeaderValue::from_static("*")), varies: false },
            Self::Of(origins) => {
                let origin = only(headers, &ORIGIN).filter(|origin| origins.contains(origin));
                Grant { origin: origin.cloned(), varies: true }
            }
        }
    }
}

/// What one page may read.
#[derive(Debug)]
pub struct Grant {
    /// `Access-Control-Allow-Origin`; `None` for a page of another origin, and for what is no page.
    origin: Option<HeaderValue>,
    /// Others would be told otherwise, which caches must know.
    varies: bool,
}

impl Grant {
    /// Says so in an answer, in the place of what the engine says: the operator has decided.
    pub fn apply(&self, headers: &mut HeaderMap) {
        headers.remove(ACCESS_CONTROL_ALLOW_ORIGIN);
        headers.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
        if self.varies && !varies_by_origin(headers) {
            headers.append(VARY, HeaderValue::from_static("Origin"));
        }
        if let Some(origin) = &self.origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.append(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
    }

    /// The answer to what a browser asks before a page's request, if this is that.
    pub(crate) fn preflight(
        &self,
        method: &Method,
        headers: &HeaderMap,
    ) -> Option<Response<Bytes>> {
        let wanted = headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
        if method != Method::OPTIONS || !headers.contains_key(ORIGIN) {
            return None;
        }
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let granted = response.headers_mut();
        self.apply(granted);
        if self.origin.is_some() {
            granted.remove(ACCESS_CONTROL_EXPOSE_HEADERS);
            granted.insert(ACCESS_CONTROL_ALLOW_METHODS, wanted.clone());
            // By name, for `*` would leave out `Authorization`.
            if let Some(names) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
                granted.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
            }
            granted.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        }
        Some(response)
    }
}

fn varies_by_origin(headers: &HeaderMap) -> bool {
    let values = headers.get_all(VARY).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|name| name.trim().eq_ignore_ascii_case("origin"))
}
