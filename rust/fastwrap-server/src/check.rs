//! What looks at requests before they go to the engine, where there is anything.

use std::pin::Pin;

use bytes::Bytes;
use http::{Response, request};

/// What a client gets in the engine's place, and what that error is called.
#[derive(Debug)]
pub struct Rejection {
    /// Status, headers and body.
    pub answer: Response<Bytes>,
    /// A word for it.
    pub code: String,
}

/// Looks at whole requests. It answers in time, whatever it calls.
pub trait Check: Send + Sync {
    /// Why this one is refused, if it is.
    fn check(
        &self,
        request_id: String,
        key_id: Option<String>,
        head: request::Parts,
        body: Bytes,
    ) -> Pin<Box<dyn Future<Output = Option<Rejection>> + Send>>;
}
