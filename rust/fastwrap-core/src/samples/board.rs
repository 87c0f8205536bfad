//! Where the workers of one server leave samples for each other, so that one of them at a time takes them for all.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{REASONS, SERIES, Values};
use crate::counters::Cells;

/// Samples that are kept: a worker that looks less often than they come has missed some.
const KEPT: u64 = 32;

/// Nobody may begin a sample before this.
const NEXT: usize = 0;
/// How many samples were begun to be written.
const WRITTEN: usize = 1;
const SLOTS: usize = 2;

/// Which sample it holds (0 while it is written), when it was taken, why there is none (or 0), and its values.
const SLOT: usize = 3 + SERIES;

/// How many cells a board has.
pub const CELLS: usize = SLOTS + SLOT * KEPT as usize;

/// No value.
const NONE: u64 = u64::MAX;

/// The last samples, in cells that several processes may share.
pub struct Board {
    cells: Box<dyn Cells>,
}

impl std::fmt::Debug for Board {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Board").finish_non_exhaustive()
    }
}

impl Default for Board {
    /// One of this process alone.
    fn default() -> Self {
        Self::new(Box::new((0..CELLS).map(|_| AtomicU64::new(0)).collect::<Box<[AtomicU64]>>()))
    }
}

impl Board {
    /// A board in [`CELLS`] cells, zeros at first.
    #[must_use]
    pub fn new(cells: Box<dyn Cells>) -> Self {
        Self { cells }
    }

    fn cell(&self, at: usize) -> Option<&AtomicU64> {
        self.cells.cells().get(at)
    }

    fn slot(&self, number: u64) -> &[AtomicU64] {
        #[allow(clippy::cast_possible_truncation)] // less than KEPT
        let start = SLOTS + SLOT * (number % KEPT) as usize;
        self.cells.cells().get(start..start + SLOT).unwrap_or_default()
    }

    /// Whether it falls to the caller to take a sample: it is time, and nobody else is at it. Who is, and has not come
    /// back by `until_ns`, is taken for dead.
    #[must_use]
    pub fn claim(&self, now_ns: u64, until_ns: u64) -> bool {
        self.cell(NEXT).is_some_and(|next| {
            let due = |next: u64| (next <= now_ns).then_some(until_ns);
            next.fetch_update(Ordering::AcqRel, Ordering::Relaxed, due).is_ok()
        })
    }

    /// Who had claimed a sample is done; the next one may be begun at `next_ns`.
    pub fn release(&self, next_ns: u64) {
        if let Some(next) = self.cell(NEXT) {
            next.store(next_ns, Ordering::Release);
        }
    }

    /// Leaves a sample, or the reason why there is none: one of [`REASONS`].
    pub fn write(&self, at_ns: u64, sample: Result<Values, &'static str>) {
        let Some(written) = self.cell(WRITTEN) else { return };
        let number = written.fetch_add(1, Ordering::AcqRel) + 1;
        let [slot_number, at, reason, values @ ..] = self.slot(number) else { return };
        slot_number.store(0, Ordering::SeqCst);
        at.store(at_ns, Ordering::SeqCst);
        let why = sample.err().and_then(|why| REASONS.iter().position(|known| *known == why));
        reason.store(why.map_or(0, |index| index as u64 + 1), Ordering::SeqCst);
        for (cell, value) in values.iter().zip(sample.unwrap_or_default()) {
            cell.store(value.unwrap_or(NONE), Ordering::SeqCst);
        }
        slot_number.store(number, Ordering::SeqCst);
    }

    /// Calls `take` for every sample after number `read` that is still there, in order; returns the last one's number.
    pub(super) fn read(
        &self,
        read: u64,
        mut take: impl FnMut(u64, Result<Values, &'static str>),
    ) -> u64 {
        let written = self.cell(WRITTEN).map_or(0, |written| written.load(Ordering::Acquire));
        for number in read.max(written.saturating_sub(KEPT)) + 1..=written {
            let [slot_number, at, reason, values @ ..] = self.slot(number) else { break };
            if slot_number.load(Ordering::SeqCst) < number {
                return number - 1; // it is being written: next time
            }
            let at_ns = at.load(Ordering::SeqCst);
            let reason = usize::try_from(reason.load(Ordering::SeqCst)).unwrap_or_default();
            let mut sample = Values::default();
            for (value, cell) in sample.iter_mut().zip(values) {
                *value = Some(cell.load(Ordering::SeqCst)).filter(|value| *value != NONE);
            }
            // Another sample may have come over it meanwhile; that one has its turn later.
            if slot_number.load(Ordering::SeqCst) == number {
                let why = reason.checked_sub(1).and_then(|index| REASONS.get(index));
                take(at_ns, why.map_or(Ok(sample), |why| Err(why)));
            }
        }
        written
    }
}
