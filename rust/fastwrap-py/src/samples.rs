//! Where what is sampled of the engine goes: its gauges, and its processes' memory.

use std::sync::{Arc, MutexGuard};

use fastwrap_core::meter::Meter;
use fastwrap_core::samples::{Board, REASONS, SERIES, SampleLog, Values};
use fastwrap_relay::now_ns;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Which of a meter's logs.
pub(crate) type Which = fn(&Meter) -> MutexGuard<'_, SampleLog>;

#[pyclass(frozen, module = "fastwrap._native")]
pub(crate) struct Samples {
    meter: Arc<Meter>,
    which: Which,
    board: Arc<Board>,
}

impl Samples {
    pub(crate) fn new(meter: Arc<Meter>, which: Which) -> Self {
        let board = which(&meter).board();
        Self { meter, which, board }
    }

    fn log(&self) -> MutexGuard<'_, SampleLog> {
        (self.which)(&self.meter)
    }
}

#[pymethods]
impl Samples {
    fn refresh(&self) {
        self.log().refresh();
    }

    fn claim(&self, until_ns: u64) -> bool {
        self.board.claim(now_ns(), until_ns)
    }

    fn release(&self, next_ns: u64) {
        self.board.release(next_ns);
    }

    #[allow(clippy::needless_pass_by_value)] // PyO3 hands over what it converts
    fn push(&self, at_ns: u64, values: Vec<Option<u64>>) -> PyResult<()> {
        let mut sample = Values::default();
        let most = format!("more than {SERIES} values");
        let places = sample.get_mut(..values.len()).ok_or_else(|| PyValueError::new_err(most))?;
        places.copy_from_slice(&values);
        self.board.write(at_ns, Ok(sample));
        self.refresh();
        Ok(())
    }

    fn unavailable(&self, reason: &str) -> PyResult<()> {
        let known = REASONS.into_iter().find(|known| *known == reason);
        let unknown = || PyValueError::new_err(format!("no such reason: {reason}"));
        self.board.write(now_ns(), Err(known.ok_or_else(unknown)?));
        self.refresh();
        Ok(())
    }

    fn last(&self) -> Option<(u64, Values)> {
        self.refresh();
        self.log().last(now_ns()).ok()
    }
}
