//! fastwrap's load generator: what a way to an engine adds, measured so that it can be trusted.
//!
//! - Targets are driven **interleaved**: in every round each gets one short slice, in an order that the seed shuffles,
//!   so that what drifts (clock rates, neighbours, caches) drifts for all of them.
//! - An answer counts only once it is read to its end and was **right**: its status, its events, its end, and a digest
//!   of its text are those of the first target, the baseline.
//! - In the open loop a latency begins at the **intended** start: a stalled server delays what should have been sent
//!   meanwhile, and that delay is counted (no coordinated omission).
//! - Uncertainty is that **between rounds**: intervals come from resampling rounds, pairs of rounds for differences.
//!
//! One thread, one runtime. A connection is polled by the task whose request it carries, and a time is taken where bytes
//! leave the socket.

mod answer;
mod client;
mod clock;
mod digest;
mod error;
mod load;
mod process;
mod prompt;
mod random;
mod report;
mod run;
mod settings;
mod slice;
mod socket;
mod statistics;
mod target;

pub use error::BenchError;
pub use report::{Report, metric_names};
pub use run::{Progress, run};
pub use settings::{Arrivals, Check, Load, Mode, Settings};
pub use target::Target;
