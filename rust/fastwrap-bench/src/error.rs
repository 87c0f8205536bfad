//! Why a measurement could not be made; the texts say what to do.

use std::fmt;
use std::io;

/// Why a measurement could not be made.
#[derive(Debug)]
pub enum BenchError {
    /// A setting cannot be used.
    Settings(String),
    /// A target, or a process to be watched, did not do its part before the first round.
    Target {
        /// The target's name.
        name: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The machine failed the generator itself.
    Io(io::Error),
    /// Whoever watches the progress wants no more.
    Stopped,
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings(problem) => f.write_str(problem),
            Self::Target { name, problem } => write!(f, "{name}: {problem}"),
            Self::Io(error) => write!(f, "the load generator failed: {error}"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

impl std::error::Error for BenchError {}

impl From<io::Error> for BenchError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
