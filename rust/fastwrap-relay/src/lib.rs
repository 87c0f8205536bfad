//! The measured hop to the engine: pooled HTTP/1.1 connections over TCP, TLS and Unix sockets.
//!
//! A [`Relay`] takes a request that [`fastwrap_core::exchange::Exchange`] has admitted and gives an answer whose body
//! is an [`http_body::Body`]. It does not know which server stands before it. The connection to the engine is polled
//! inside the answer: there is no task and no channel of its own, so back-pressure is TCP's, and dropping the answer
//! closes the connection.

mod answer;
mod certificate;
mod connection;
mod pool;
mod relay;
mod stream;
mod upstream;
mod vital;
mod wait;

pub use answer::{Aborted, Answer};
pub use certificate::check_certificate;
pub use connection::Payload;
pub use fastwrap_clock::now_ns;
pub use relay::{Relay, RelayError, Timeouts};
pub use upstream::{Upstream, UpstreamError};
pub use vital::vital;
