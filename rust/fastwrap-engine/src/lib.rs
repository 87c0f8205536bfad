//! A simulated inference engine that speaks OpenAI's API with the wire quirks of real engines.
//!
//! It generates no text: it says words of a fixed [lexicon](Options::seed), as many, as fast and in as many events as it
//! was told. What differs between engines on the wire is imitated: framing, key order, role and usage events, the end of
//! a stream, errors. So a proxy can be tested and measured against every engine without running one.
//!
//! A request may ask for a fault in its member `fastwrap_sim`: `{"die_after_chunks": 3}` closes the connection after
//! three events (with `"die_in_event": true` inside the fourth), `{"error_after_chunks": 3}` sends the engine's error
//! event, `{"stall_after_chunks": 3}` goes silent, `{"status": 500}` answers an error at once.
//!
//! `{"stamp": true}` lets each event of a stream say in a member `sent_ns` when it was sent: nanoseconds of the machine's
//! monotonic clock, so that whoever reads it on the same machine knows how long it was on its way.

mod answer;
mod body;
mod choice;
mod embedding;
mod event;
mod failure;
mod flavor;
mod lexicon;
mod options;
mod pages;
mod reply;
mod request;
mod route;
mod script;
mod server;
mod socket;
mod stream;
mod usage;

pub use flavor::{Flavor, UnknownFlavor};
pub use options::Options;
pub use server::Engine;
