//! fastwrap's measuring core.
//!
//! Bytes and `now_ns` go in; bytes and numbers come out. There is no Python, no I/O and no clock here, so that every
//! promise about bytes and numbers can be tested by `cargo test` alone.
//!
//! The way of one request: [`exchange::Exchange`] patches its body ([`request`]), reads the answer ([`sse`],
//! [`event`]), keeps the times ([`timeline`]), and adds the `performance` block ([`performance`], [`splice`]).

pub mod answer;
pub mod assemble;
pub mod counters;
pub mod enrich;
pub mod error;
pub mod event;
pub mod exchange;
pub mod framing;
pub mod gpu;
pub mod guard;
pub mod head;
pub mod headers;
pub mod hooks;
pub mod json;
pub mod meter;
pub mod peak;
pub mod performance;
pub mod profile;
pub mod request;
pub mod route;
pub mod samples;
pub mod splice;
pub mod sse;
pub mod stream;
pub mod timeline;
pub mod upload;
pub mod usage;
