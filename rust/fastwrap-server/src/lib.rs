//! The native server: hyper's HTTP/1 server in front of the relay.
//!
//! A connection is one task: it reads the request, polls the engine's connection inside the answer, and writes. There is
//! no channel and no second thread on a request's way, so back-pressure is TCP's, and a client that leaves drops
//! everything that was done for it. Workers are threads with a runtime and a listener each.

mod body;
mod check;
mod connection;
mod drain;
mod listener;
mod own;
mod patience;
mod service;
mod worker;

pub use check::{Check, Rejection};
pub use listener::{Listener, bind, bind_unix};
pub use own::Own;
pub use worker::{Options, Server};
