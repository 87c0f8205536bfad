//! Memory in which one sampler writes and any number of processes read, all of it 64-bit cells.
//!
//! One process at a time writes samples (a lock file of the caller's sees to that): into a ring, each sample with a stamp that
//! tells a reader who was overtaken. Every process has a slot of its own, in which it keeps how many requests it serves.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::energy::Account;
use super::{REASONS, Reading, decoded, encoded};
use crate::counters::Cells;

// Each reference to the cells costs Miri as much time as there are cells: it gets few.

/// Most devices, MIG instances included: eight GPUs in seven instances each are 56.
pub const MAX_DEVICES: usize = if cfg!(miri) { 4 } else { 64 };
/// Most processes that serve requests beside one sampler.
pub(super) const MAX_SLOTS: usize = if cfg!(miri) { 8 } else { 256 };
/// Records kept: eight busy GPUs give about 300 a second, and every process reads twice a second at least.
pub(super) const RING: u64 = if cfg!(miri) { 64 } else { 4096 };

// A cache line is 8 cells: what different processes write does not share one.
const LINE: usize = 8;
const HEAD: usize = 0;
const GENERATION: usize = 1;
const STATE: usize = 2;
const DEVICE_COUNT: usize = 3;
/// Requests in flight when energy was last read.
const BUSY: usize = 4;
/// The number of the first record of these devices.
const FIRST: usize = 5;
const BELL: usize = LINE;
const SLOTS: usize = 2 * LINE;
const DEVICES: usize = SLOTS + MAX_SLOTS * LINE;
/// A device's cells: its UUID's length and bytes, and its energy account.
const DEVICE_CELLS: usize = 4 * LINE;
const UUID_CELLS: usize = 12;
const ACCOUNT: usize = 1 + UUID_CELLS;
const RECORDS: usize = DEVICES + MAX_DEVICES * DEVICE_CELLS;
const RECORD_CELLS: usize = LINE;
/// Values of one record; its stamp, time and tag take three cells.
pub(super) const VALUES: usize = 4;

/// How many cells a board has.
#[allow(clippy::cast_possible_truncation)] // 4096
pub const BOARD_CELLS: usize = RECORDS + RING as usize * RECORD_CELLS;

const NOT_SAMPLED: u64 = 0;
const SAMPLED: u64 = 1;
const FIRST_REASON: u64 = 2;

/// What is read together; each kind has its own interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Bytes used, reserved by the driver (apart), and in all.
    Memory,
    /// Millijoules of the device's counter, milliwatts, and 1 where these are an average over a second.
    Power,
    /// Percent of time with a kernel running.
    Utilization,
    /// Degrees Celsius, MHz of the SM clock, bits of throttle reasons.
    Condition,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Memory, Self::Power, Self::Utilization, Self::Condition];

    /// The word used by the sampler.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Power => "power",
            Self::Utilization => "utilization",
            Self::Condition => "condition",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// One device's readings of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) at_ns: u64,
    pub(super) kind: Kind,
    pub(super) device: usize,
    /// No other device follows in this round.
    pub(super) is_last: bool,
    /// Of `Kind::Power`: the interval before went to nobody.
    pub(super) is_idle: bool,
    pub(super) values: [u64; VALUES],
}

impl Record {
    fn tag(&self) -> u64 {
        let flags = u64::from(self.is_last) | u64::from(self.is_idle) << 1;
        self.kind as u64 | (self.device as u64) << 8 | flags << 16
    }

    fn of(at_ns: u64, tag: u64, values: [u64; VALUES]) -> Option<Self> {
        let kind = Kind::ALL.get(usize::try_from(tag & 0xff).ok()?)?;
        let device = usize::try_from(tag >> 8 & 0xff).ok()?;
        let (is_last, is_idle) = (tag >> 16 & 1 == 1, tag >> 17 & 1 == 1);
        Some(Self { at_ns, kind: *kind, device, is_last, is_idle, values })
    }

    /// A value, or why there is none.
    pub(super) fn reading(&self, at: usize) -> Reading {
        self.values.get(at).map_or(Err("not_supported"), |cell| decoded(*cell))
    }
}

/// Where a process keeps how many requests it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(usize);

/// The shared memory.
pub struct Board {
    cells: Box<dyn Cells>,
}

impl std::fmt::Debug for Board {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Board").field("head", &self.head()).finish_non_exhaustive()
    }
}

impl Board {
    /// A board in `cells`, which are [`BOARD_CELLS`], zero at first.
    #[must_use]
    pub fn new(cells: Box<dyn Cells>) -> Self {
        Self { cells }
    }

    /// A board of this process alone.
    #[must_use]
    pub fn private() -> Self {
        Self::new(Box::new(
            (0..BOARD_CELLS).map(|_| AtomicU64::new(0)).collect::<Box<[AtomicU64]>>(),
        ))
    }

    /// A cell for the caller's own use: to wake the sampler. Nothing here ever touches it.
    #[must_use]
    pub fn bell(&self) -> Option<&AtomicU64> {
        self.cells.cells().get(BELL)
    }

    fn load(&self, at: usize, ordering: Ordering) -> u64 {
        self.cells.cells().get(at).map_or(0, |cell| cell.load(ordering))
    }

    fn store(&self, at: usize, value: u64, ordering: Ordering) {
        if let Some(cell) = self.cells.cells().get(at) {
            cell.store(value, ordering);
        }
    }

    fn replace(&self, at: usize, from: u64, to: u64) -> bool {
        let exchange =
            |cell: &AtomicU64| cell.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed);
        self.cells.cells().get(at).is_some_and(|cell| exchange(cell).is_ok())
    }

    // Requests in flight.

    /// Takes a slot for the process `pid`, a free one or a dead process's; `None` if there is none.
    pub fn join(&self, pid: u32, is_alive: impl Fn(u32) -> bool) -> Option<Slot> {
        let slot = (0..MAX_SLOTS).map(|slot| SLOTS + slot * LINE).find(|at| {
            let owner = self.load(*at, Ordering::Relaxed);
            let is_free = owner == 0 || !u32::try_from(owner).is_ok_and(&is_alive);
            is_free && self.replace(*at, owner, u64::from(pid))
        });
        slot.inspect(|at| self.store(at + 1, 0, Ordering::Relaxed)).map(Slot)
    }

    /// Gives the slot back.
    pub fn leave(&self, slot: Slot) {
        self.store(slot.0 + 1, 0, Ordering::Relaxed);
        self.store(slot.0, 0, Ordering::Release);
    }

    /// Says how many requests the slot's process serves.
    pub fn count(&self, slot: Slot, in_flight: u64) {
        self.store(slot.0 + 1, in_flight, Ordering::Relaxed);
    }

    /// Takes the slots of processes that have died, with whatever they had in flight.
    pub fn forget_dead(&self, is_alive: impl Fn(u32) -> bool) {
        for at in (0..MAX_SLOTS).map(|slot| SLOTS + slot * LINE) {
            let owner = self.load(at, Ordering::Relaxed);
            if owner != 0 && !u32::try_from(owner).is_ok_and(&is_alive) {
                self.store(at + 1, 0, Ordering::Relaxed);
                self.replace(at, owner, 0);
            }
        }
    }

    /// Requests in flight in all processes.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        let slots = (0..MAX_SLOTS).map(|slot| SLOTS + slot * LINE);
        let counts = slots.filter(|at| self.load(*at, Ordering::Relaxed) != 0);
        counts.map(|at| self.load(at + 1, Ordering::Relaxed)).fold(0, u64::saturating_add)
    }

    // Written by the sampler.

    /// A new sampler begins: what the last one failed of is forgotten.
    pub fn begin(&self) {
        if self.load(STATE, Ordering::Acquire) != SAMPLED {
            self.store(STATE, NOT_SAMPLED, Ordering::Release);
        }
    }

    /// Nothing can be read (any more), and why: one of [`REASONS`].
    pub fn set_unavailable(&self, reason: &'static str) {
        let code = REASONS.iter().position(|known| *known == reason).unwrap_or(REASONS.len() - 1);
        self.store(STATE, FIRST_REASON + code as u64, Ordering::Release);
    }

    /// Names the devices that will be sampled. A sampler that follows another one on the same devices goes on with
    /// their accounts; otherwise everything that was logged is forgotten.
    pub fn set_devices(&self, uuids: &[String]) {
        if self.devices().is_some_and(|(.., known)| known == uuids) {
            return;
        }
        let generation = self.load(GENERATION, Ordering::Relaxed) & !1;
        self.store(GENERATION, generation + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        for (device, uuid) in uuids.iter().take(MAX_DEVICES).enumerate() {
            let at = DEVICES + device * DEVICE_CELLS;
            for cell in at..at + DEVICE_CELLS {
                self.store(cell, 0, Ordering::Relaxed);
            }
            let bytes = uuid.as_bytes().get(..UUID_CELLS * 8).unwrap_or(uuid.as_bytes());
            self.store(at, bytes.len() as u64, Ordering::Relaxed);
            for (cell, part) in bytes.chunks(8).enumerate() {
                let mut word = [0; 8];
                word.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
                self.store(at + 1 + cell, u64::from_ne_bytes(word), Ordering::Relaxed);
            }
        }
        self.store(DEVICE_COUNT, uuids.len().min(MAX_DEVICES) as u64, Ordering::Relaxed);
        self.store(BUSY, 0, Ordering::Relaxed);
        self.store(FIRST, self.head(), Ordering::Relaxed);
        self.store(STATE, NOT_SAMPLED, Ordering::Relaxed);
        self.store(GENERATION, generation + 2, Ordering::Release);
    }

    /// Adds one round: the readings of each device, in the order of [`Self::set_devices`].
    pub fn push(&self, kind: Kind, at_ns: u64, rows: &[Vec<Reading>]) {
        let among = if kind == Kind::Power { self.shared_among() } else { 0 };
        let count = rows.len().min(MAX_DEVICES);
        for (device, row) in rows.iter().take(count).enumerate() {
            let reading = |at: usize| row.get(at).copied().unwrap_or(Err("not_supported"));
            let values = if kind == Kind::Power {
                let at = DEVICES + device * DEVICE_CELLS + ACCOUNT;
                let mut account = Account::of(|cell| self.load(at + cell, Ordering::Relaxed));
                let values = account.tick(at_ns, [0, 1, 2].map(reading), among);
                account.save(|cell, value| self.store(at + cell, value, Ordering::Relaxed));
                values
            } else {
                [0, 1, 2, 3].map(|at| encoded(reading(at)))
            };
            let (is_last, is_idle) = (device + 1 == count, among == 0);
            self.write(&Record { at_ns, kind, device, is_last, is_idle, values });
        }
        self.store(STATE, SAMPLED, Ordering::Release);
    }

    /// Among how many requests the energy since the last reading is to be shared; 0 is nobody.
    ///
    /// Those in flight now, for a request's share is told when it ends, before the reading that its last moments fall
    /// into; what it loses there, it gained at its start. If nobody was in flight at the last reading, the sampler has
    /// come because somebody has just begun (or nobody has): the time before was idle.
    fn shared_among(&self) -> u64 {
        let now = self.in_flight();
        let before = self.load(BUSY, Ordering::Relaxed);
        self.store(BUSY, now, Ordering::Relaxed);
        if before == 0 { 0 } else { now }
    }

    /// Whether energy was last read with nobody in flight.
    #[must_use]
    pub fn was_idle(&self) -> bool {
        self.load(BUSY, Ordering::Relaxed) == 0
    }

    fn write(&self, record: &Record) {
        let index = self.head();
        let at = Self::place(index);
        self.store(at, 0, Ordering::Relaxed);
        fence(Ordering::Release);
        self.store(at + 1, record.at_ns, Ordering::Relaxed);
        self.store(at + 2, record.tag(), Ordering::Relaxed);
        for (cell, value) in record.values.into_iter().enumerate() {
            self.store(at + 3 + cell, value, Ordering::Relaxed);
        }
        self.store(at, index + 1, Ordering::Release);
        self.store(HEAD, index + 1, Ordering::Release);
    }

    // Read by everybody.

    #[allow(clippy::cast_possible_truncation)] // below RING
    fn place(index: u64) -> usize {
        RECORDS + (index % RING) as usize * RECORD_CELLS
    }

    /// How many records were ever written.
    pub(super) fn head(&self) -> u64 {
        self.load(HEAD, Ordering::Acquire)
    }

    /// The record of this number; `None` if it was overwritten.
    pub(super) fn read(&self, index: u64) -> Option<Record> {
        let at = Self::place(index);
        if self.load(at, Ordering::Acquire) != index + 1 {
            return None;
        }
        let cell = |offset: usize| self.load(at + offset, Ordering::Relaxed);
        let (at_ns, tag, values) = (cell(1), cell(2), [3, 4, 5, 6].map(cell));
        fence(Ordering::Acquire);
        let is_whole = self.load(at, Ordering::Relaxed) == index + 1;
        Record::of(at_ns, tag, values).filter(|_| is_whole)
    }

    /// Changes whenever other devices are sampled; odd while they change.
    pub(super) fn generation(&self) -> u64 {
        self.load(GENERATION, Ordering::Acquire)
    }

    /// The generation, its first record and the devices' UUIDs; `None` while they change, and before there are any.
    pub(super) fn devices(&self) -> Option<(u64, u64, Vec<String>)> {
        let generation = self.generation();
        let first = self.load(FIRST, Ordering::Relaxed);
        let count = usize::try_from(self.load(DEVICE_COUNT, Ordering::Relaxed)).ok()?;
        let uuid = |device: usize| {
            let at = DEVICES + device * DEVICE_CELLS;
            let length = usize::try_from(self.load(at, Ordering::Relaxed)).unwrap_or_default();
            let cells = (0..UUID_CELLS).map(|cell| self.load(at + 1 + cell, Ordering::Relaxed));
            let bytes: Vec<u8> = cells.flat_map(u64::to_ne_bytes).take(length).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let uuids = (0..count.min(MAX_DEVICES)).map(uuid).collect();
        fence(Ordering::Acquire);
        let is_whole = generation & 1 == 0 && generation > 0;
        (is_whole && self.load(GENERATION, Ordering::Relaxed) == generation)
            .then_some((generation, first, uuids))
    }

    /// Whether there are samples.
    ///
    /// # Errors
    /// The reason why there are none.
    pub fn available(&self) -> Result<(), &'static str> {
        match self.load(STATE, Ordering::Acquire) {
            NOT_SAMPLED => Err("not_sampled"),
            SAMPLED => Ok(()),
            reason => {
                Err(decoded(u64::MAX - (reason - FIRST_REASON)).err().unwrap_or("unknown_error"))
            }
        }
    }

    /// Microjoules of a device since it is sampled: all, those given to requests, those of nobody, and the rest that
    /// could not be divided among the requests and goes to the next ones.
    #[must_use]
    pub fn account_uj(&self, device: usize) -> [u64; 4] {
        let at = DEVICES + device * DEVICE_CELLS + ACCOUNT;
        Account::of(|cell| self.load(at + cell, Ordering::Relaxed)).parts_uj()
    }
}
