//! What is sampled of the engine from outside, its gauges and its processes' memory: read at a request's start and end.

mod board;

use std::sync::Arc;

pub use self::board::{Board, CELLS};
use crate::peak::PeakSince;

/// Why there may be no samples, beside `not_sampled` (not yet) and `stale` (none for too long).
pub const REASONS: [&str; 9] = [
    "disabled",
    "not_offered",
    "unauthorized",
    "unreadable",
    "engine_remote",
    "process_not_found",
    "no_permission",
    "not_supported",
    "unknown_error",
];

/// Most values in a sample: the engine's gauges are three.
pub const SERIES: usize = 3;

/// One sample; what it does not say is `None`.
pub type Values = [Option<u64>; SERIES];

/// One value in a request's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The last sample before the window.
    pub start: u64,
    /// The highest, both ends included.
    pub peak: u64,
    /// The last sample.
    pub end: u64,
}

/// All values in a request's window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Each value; `None` where a sample at the window's start or end does not say it.
    pub series: [Option<Span>; SERIES],
    /// Samples taken in the window.
    pub samples: u64,
}

/// What is remembered of a request's start.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    at_ns: u64,
    values: Values,
    samples: u64,
}

/// The log of all samples: those of this process's sampler, and those that other workers leave on the board.
#[derive(Debug)]
pub struct SampleLog {
    board: Arc<Board>,
    /// Samples of the board that are in the log.
    read: u64,
    stale_ns: u64,
    peaks: [PeakSince; SERIES],
    values: Values,
    samples: u64,
    last_ns: u64,
    unavailable: Option<&'static str>,
}

impl SampleLog {
    /// An empty log. A last sample older than `stale_ns` says nothing of the present.
    #[must_use]
    pub fn new(stale_ns: u64) -> Self {
        Self {
            board: Arc::default(),
            read: 0,
            stale_ns,
            peaks: Default::default(),
            values: [None; SERIES],
            samples: 0,
            last_ns: 0,
            unavailable: Some("not_sampled"),
        }
    }

    /// Shares its samples with all who have this board.
    pub fn share(&mut self, board: Board) {
        self.board = Arc::new(board);
    }

    /// Where the samples of all workers are.
    #[must_use]
    pub fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// Takes over what is new on the board.
    pub fn refresh(&mut self) {
        let board = Arc::clone(&self.board);
        self.read = board.read(self.read, |at_ns, sample| match sample {
            Ok(values) => self.push(at_ns, values),
            Err(reason) => self.unavailable = Some(reason),
        });
    }

    fn push(&mut self, at_ns: u64, values: Values) {
        for (peak, value) in self.peaks.iter_mut().zip(values) {
            if let Some(value) = value {
                peak.push(at_ns, value);
            }
        }
        self.values = values;
        self.samples += 1;
        self.last_ns = at_ns;
        self.unavailable = None;
    }

    /// When the last sample was taken, and what it says.
    ///
    /// # Errors
    /// The reason why there is none.
    pub fn last(&self, now_ns: u64) -> Result<(u64, Values), &'static str> {
        match self.unavailable {
            Some(reason) => Err(reason),
            None if now_ns.saturating_sub(self.last_ns) > self.stale_ns => Err("stale"),
            None => Ok((self.last_ns, self.values)),
        }
    }

    /// Remembers the present for a request that starts.
    ///
    /// # Errors
    /// The reason why there are no samples.
    pub fn mark(&self, now_ns: u64) -> Result<Mark, &'static str> {
        let (_, values) = self.last(now_ns)?;
        Ok(Mark { at_ns: now_ns, values, samples: self.samples })
    }

    /// Gives the window from `mark` to the last sample.
    ///
    /// # Errors
    /// The reason why there are no samples.
    pub fn window(&self, mark: &Mark, now_ns: u64) -> Result<Window, &'static str> {
        let (_, values) = self.last(now_ns)?;
        let mut series = [None; SERIES];
        let ends = mark.values.iter().zip(values).zip(&self.peaks);
        for (span, ((start, end), peak)) in series.iter_mut().zip(ends) {
            *span = start.zip(end).map(|(start, end)| {
                let peak = peak.peak(mark.at_ns).unwrap_or(end).max(start).max(end);
                Span { start, peak, end }
            });
        }
        Ok(Window { series, samples: self.samples.saturating_sub(mark.samples) })
    }
}

#[cfg(test)]
mod tests;
