//! What is to be measured, and how.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::BenchError;
use crate::target::Target;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// One JSON answer.
    Json,
    /// A stream of events.
    Sse,
}

/// When the requests of an open loop start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// Independent of one another, as users are.
    Poisson,
    /// All with the same distance.
    Constant,
}

/// Who decides when a request starts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "loop", rename_all = "lowercase")]
pub enum Load {
    /// The answers: each of so many clients sends its next request when it has read its last answer.
    Closed {
        /// Clients, each with a connection.
        concurrency: usize,
    },
    /// A clock.
    Open {
        /// Requests a second.
        rate: f64,
        /// How they are spread.
        arrivals: Arrivals,
        /// The most connections; what has to wait for one waits on the clock.
        concurrency: usize,
    },
}

/// What makes an answer right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// Its status, and that it comes to its proper end.
    Status,
    /// Also its text.
    Content,
    /// Also the number of events that the text comes in.
    Events,
}

/// What is to be measured, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is driven; the first one is the baseline.
    pub targets: Vec<Target>,
    /// Whose added latencies the others' are divided by.
    pub reference: Option<String>,
    /// What is asked for.
    pub mode: Mode,
    /// Who decides when a request starts.
    pub load: Load,
    /// What makes an answer right.
    pub check: Check,
    /// The requests' path.
    pub path: String,
    /// The model; the baseline is asked for one if there is none.
    pub model: Option<String>,
    /// The most tokens of an answer.
    pub max_tokens: Option<u32>,
    /// The size that a request's body is padded to.
    pub request_bytes: Option<usize>,
    /// Members of a request's body, over those that it has anyway.
    pub members: Map<String, Value>,
    /// Whether the engine, if it is a simulated one, is to stamp events, so that their way can be timed.
    pub transit: bool,
    /// Headers of every request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Over how long the clients of a closed loop start, before the slice's own time begins.
    pub ramp: Duration,
    /// Length of a slice: what a target gets in a round.
    pub duration: Duration,
    /// Rounds that count.
    pub rounds: u32,
    /// Rounds before them that do not.
    pub warmup: u32,
    /// How long an answer may take after its slice has ended.
    pub timeout: Duration,
    /// Decides orders, arrivals and resampling.
    pub seed: u64,
}

impl Settings {
    pub(crate) fn validate(&self) -> Result<(), BenchError> {
        let bad = |problem: &str| Err(BenchError::Settings(problem.to_owned()));
        let names: Vec<_> = self.targets.iter().map(|target| target.name.as_str()).collect();
        let Some(baseline) = names.first() else { return bad("there is no target") };
        for (index, name) in names.iter().enumerate() {
            if names.iter().take(index).any(|earlier| earlier == name) {
                return bad(&format!("two targets are called {name}"));
            }
        }
        if let Some(reference) = &self.reference {
            if !names.contains(&reference.as_str()) {
                return bad(&format!(
                    "the reference {reference} is no target; they are {}",
                    names.join(", ")
                ));
            }
            if reference == baseline {
                return bad(
                    "the reference is the baseline, which adds nothing: name another target",
                );
            }
        }
        if self.rounds == 0 || self.duration.is_zero() {
            return bad("there must be a round, and it must last");
        }
        if self.members.contains_key("stream") {
            return bad("whether answers are streamed is for the mode to say, not for the body");
        }
        if self.transit && self.mode == Mode::Json {
            return bad(
                "one answer in JSON has no events whose way could be timed: choose the mode sse",
            );
        }
        match self.load {
            Load::Open { .. } if !self.ramp.is_zero() => {
                bad("the rate says when requests start: a ramp is of the closed loop")
            }
            Load::Closed { concurrency: 0 } | Load::Open { concurrency: 0, .. } => {
                bad("there must be a connection")
            }
            Load::Open { rate, .. } if !(rate.is_finite() && rate > 0.0) => {
                bad("the rate must be above 0")
            }
            _ => Ok(()),
        }
    }
}
