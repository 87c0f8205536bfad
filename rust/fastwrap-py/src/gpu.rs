//! Where the sampler writes, and what it has to know.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fastwrap_core::gpu::{BOARD_CELLS, Board, Kind, Latest, REASONS, Reading, Slot};
use fastwrap_core::meter::{Meter, Onlooker};
use fastwrap_relay::now_ns;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::{bell, cells};

/// Tells the board, and so the sampler, what this process serves.
struct Presence {
    board: Arc<Board>,
    slot: Slot,
    pid: u32,
}

impl Onlooker for Presence {
    fn count(&self, in_flight: u64) {
        self.board.count(self.slot, in_flight);
    }

    fn wake(&self) {
        if let Some(cell) = self.board.bell() {
            bell::ring(cell);
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        // A forked child leaves its parent's place alone.
        if std::process::id() == self.pid {
            self.board.leave(self.slot);
        }
    }
}

/// A number, or the reason why there is none.
#[derive(FromPyObject)]
enum Cell {
    Number(u64),
    Missing(String),
}

/// UUID, then bytes in use and in all, percent, milliwatts, microjoules and degrees Celsius.
type LatestRow =
    (String, Option<u64>, Option<u64>, Option<u64>, Option<u64>, Option<u64>, Option<u64>);

#[pyclass(frozen, module = "fastwrap._native")]
pub(crate) struct GpuLog {
    meter: Arc<Meter>,
    board: OnceLock<Arc<Board>>,
    /// What of the bell was seen.
    seen: AtomicU32,
}

fn reason_of(word: &str) -> PyResult<&'static str> {
    let known = REASONS.into_iter().find(|known| *known == word);
    known.ok_or_else(|| PyValueError::new_err(format!("no such reason: {word}")))
}

impl GpuLog {
    pub(crate) fn new(meter: Arc<Meter>) -> Self {
        Self { meter, board: OnceLock::new(), seen: AtomicU32::new(0) }
    }

    fn board(&self) -> PyResult<&Arc<Board>> {
        self.board.get().ok_or_else(|| PyRuntimeError::new_err("share() comes first"))
    }
}

#[pymethods]
impl GpuLog {
    #[pyo3(signature = (path=None))]
    fn share(&self, path: Option<PathBuf>) -> PyResult<()> {
        if self.board.get().is_some() {
            return Ok(());
        }
        let board = Arc::new(match path {
            Some(path) => Board::new(cells::map(&path, BOARD_CELLS)?),
            None => Board::private(),
        });
        self.meter.gpu().follow(Arc::clone(&board));
        let pid = std::process::id();
        if let Some(slot) = board.join(pid, cells::is_alive) {
            self.meter.add_onlooker(Arc::new(Presence { board: Arc::clone(&board), slot, pid }));
        }
        let _ = self.board.set(board);
        Ok(())
    }

    fn begin(&self) -> PyResult<()> {
        self.board()?.begin();
        Ok(())
    }

    #[allow(clippy::needless_pass_by_value)] // PyO3 hands over what it converts
    fn devices(&self, uuids: Vec<String>) -> PyResult<()> {
        self.board()?.set_devices(&uuids);
        Ok(())
    }

    fn push(&self, kind: &str, at_ns: u64, rows: Vec<Vec<Cell>>) -> PyResult<()> {
        let unknown = || PyValueError::new_err(format!("no such kind: {kind}"));
        let kind = Kind::of(kind).ok_or_else(unknown)?;
        let reading = |cell: Cell| -> PyResult<Reading> {
            Ok(match cell {
                Cell::Number(number) => Ok(number),
                Cell::Missing(reason) => Err(reason_of(&reason)?),
            })
        };
        let rows = rows.into_iter().map(|row| row.into_iter().map(reading).collect());
        self.board()?.push(kind, at_ns, &rows.collect::<PyResult<Vec<Vec<Reading>>>>()?);
        self.meter.gpu().catch_up();
        Ok(())
    }

    fn failed(&self, reason: &str) -> PyResult<()> {
        self.board()?.set_unavailable(reason_of(reason)?);
        Ok(())
    }

    fn unavailable(&self, reason: &str) -> PyResult<()> {
        self.meter.gpu().set_unavailable(reason_of(reason)?);
        Ok(())
    }

    fn catch_up(&self) -> PyResult<Option<&'static str>> {
        self.meter.gpu().catch_up();
        Ok(self.board()?.available().err().filter(|reason| REASONS.contains(reason)))
    }

    fn in_flight(&self) -> PyResult<u64> {
        Ok(self.board()?.in_flight())
    }

    fn was_idle(&self) -> PyResult<bool> {
        Ok(self.board()?.was_idle())
    }

    fn forget_dead(&self) -> PyResult<()> {
        self.board()?.forget_dead(cells::is_alive);
        Ok(())
    }

    fn wait(&self, py: Python<'_>, timeout_ns: u64) -> PyResult<bool> {
        let Some(cell) = self.board()?.bell() else {
            return Ok(false);
        };
        let seen = self.seen.load(Ordering::Relaxed);
        let happened = py.detach(|| bell::wait(cell, seen, Duration::from_nanos(timeout_ns)));
        self.seen.store(happened.unwrap_or(seen), Ordering::Relaxed);
        Ok(happened.is_some())
    }

    fn wake(&self) {
        if let Some(cell) = self.board.get().and_then(|board| board.bell()) {
            bell::ring(cell);
        }
    }

    fn latest(&self) -> Vec<LatestRow> {
        let row = |latest: Latest| {
            let Latest {
                uuid,
                memory_bytes,
                limit_bytes,
                utilization_percent,
                power_mw,
                energy_uj,
                temperature_c,
            } = latest;
            (
                uuid,
                memory_bytes,
                limit_bytes,
                utilization_percent,
                power_mw,
                energy_uj,
                temperature_c,
            )
        };
        self.meter.gpu().latest(now_ns()).into_iter().map(row).collect()
    }
}
