//! fastwrap's own routes, whoever answers them.

use std::pin::Pin;

use bytes::Bytes;
use http::{HeaderMap, Method, Response};

/// What stands before every own route.
pub(crate) const PREFIX: &str = "/-/";

/// Answers `/-/…`.
pub trait Own: Send + Sync {
    /// The answer to a request for `path`.
    fn answer(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Pin<Box<dyn Future<Output = Response<Bytes>> + Send>>;
}
