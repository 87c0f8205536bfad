//! What a process remembers of all devices; it reads the board whenever it is asked, and now and then.

use std::sync::Arc;

use super::board::{Board, Kind, RING, Record};
use super::device::{DeviceLog, DeviceMark, Latest, memory_since};
use super::series::Series;
use super::window::Window;
use super::{Reading, STALLED_NS};
use crate::peak::PeakSince;

/// What is remembered of a request's start.
#[derive(Debug, Clone)]
pub struct Mark {
    at_ns: u64,
    generation: u64,
    total_bytes: Reading,
    samples: u64,
    devices: Vec<DeviceMark>,
}

/// The log of all samples.
#[derive(Debug, Default)]
pub struct GpuLog {
    board: Option<Arc<Board>>,
    /// The number of the record to be read next.
    next: u64,
    generation: u64,
    devices: Vec<DeviceLog>,
    /// The memory of all devices together.
    total: Series,
    /// Of the round that is being read: the sum so far, or why there is none.
    round: Option<Reading>,
    /// Times between memory samples, at the later one's time.
    gaps: PeakSince,
    samples: u64,
    sampled_ns: Option<u64>,
    last_ns: Option<u64>,
    unavailable: Option<&'static str>,
}

impl GpuLog {
    /// Reads this board from now on.
    pub fn follow(&mut self, board: Arc<Board>) {
        // What stands there already may be of another day.
        *self = Self { next: board.head(), board: Some(board), ..Self::default() };
    }

    /// Says that nothing can be read here, and why: one of [`super::REASONS`].
    pub fn set_unavailable(&mut self, reason: &'static str) {
        self.unavailable = Some(reason);
    }

    /// Reads what is new. Whoever does not come for long finds that the oldest is gone.
    pub fn catch_up(&mut self) {
        let Some(board) = self.board.clone() else {
            return;
        };
        if board.generation() != self.generation {
            let Some((generation, first, uuids)) = board.devices() else {
                return;
            };
            let devices = uuids.iter().map(|uuid| DeviceLog::new(uuid)).collect();
            let next = self.next.max(first);
            *self = Self {
                board: Some(Arc::clone(&board)),
                next,
                generation,
                devices,
                ..Self::default()
            };
        }
        let head = board.head();
        self.next = self.next.max(head.saturating_sub(RING));
        while self.next < head {
            if let Some(record) = board.read(self.next) {
                self.take(&record);
            }
            self.next += 1;
        }
    }

    fn take(&mut self, record: &Record) {
        if let Some(device) = self.devices.get_mut(record.device) {
            device.push(record);
            self.last_ns = Some(record.at_ns);
        }
        if record.kind == Kind::Memory {
            // A round whose beginning was overwritten is none.
            let sum = if record.device == 0 { Some(Ok(0)) } else { self.round.take() };
            self.round = sum.map(|sum| Ok(sum? + record.reading(0)?));
            if let Some(sum) = self.round.take_if(|_| record.is_last) {
                self.total.push(record.at_ns, sum);
                if sum.is_ok() {
                    self.sampled(record.at_ns);
                }
            }
        }
    }

    fn sampled(&mut self, at_ns: u64) {
        if let Some(before_ns) = self.sampled_ns.replace(at_ns) {
            self.gaps.push(at_ns, at_ns.saturating_sub(before_ns));
        }
        self.samples += 1;
    }

    /// Remembers the present for a request that starts.
    ///
    /// # Errors
    /// The reason why there are no samples.
    pub fn mark(&mut self, now_ns: u64) -> Result<Mark, &'static str> {
        self.available(now_ns)?;
        Ok(Mark {
            at_ns: now_ns,
            generation: self.generation,
            total_bytes: self.total.last_value(now_ns),
            samples: self.samples,
            devices: self.devices.iter().map(|device| device.mark(now_ns)).collect(),
        })
    }

    /// Gives the window from `mark` to the last samples.
    ///
    /// # Errors
    /// The reason why there are no samples; `devices_changed` if other ones are sampled than were then.
    pub fn window(&mut self, mark: &Mark, now_ns: u64) -> Result<Window, &'static str> {
        self.available(now_ns)?;
        if mark.generation != self.generation {
            return Err("devices_changed");
        }
        let samples = self.samples.saturating_sub(mark.samples);
        let devices = self.devices.iter().zip(&mark.devices);
        Ok(Window {
            total: memory_since(&self.total, mark.total_bytes, mark.at_ns, now_ns),
            devices: devices
                .map(|(device, start)| device.since(start, mark.at_ns, now_ns))
                .collect(),
            samples,
            interval_ns: now_ns.saturating_sub(mark.at_ns).checked_div(samples),
            largest_gap_ns: self.largest_gap_ns(mark.at_ns, now_ns),
        })
    }

    /// The longest time without a memory sample between two moments, of which the later one is now.
    fn largest_gap_ns(&self, since_ns: u64, now_ns: u64) -> u64 {
        let last_ns = self.sampled_ns.unwrap_or(since_ns).max(since_ns);
        let open_ns = now_ns.saturating_sub(last_ns);
        let Some((at_ns, gap_ns)) = self.gaps.highest(since_ns) else {
            return open_ns;
        };
        // Of the gap that the window begins in, what lies before does not count; only the first can be that one.
        let inside_ns = gap_ns.min(at_ns - since_ns);
        let later_ns = if inside_ns < gap_ns { self.gaps.peak(at_ns + 1) } else { None };
        open_ns.max(inside_ns).max(later_ns.unwrap_or(0))
    }

    /// The last values of all devices; nothing where nothing is sampled.
    pub fn latest(&mut self, now_ns: u64) -> Vec<Latest> {
        let available = self.available(now_ns);
        self.devices.iter().filter(|_| available.is_ok()).map(DeviceLog::latest).collect()
    }

    fn available(&mut self, now_ns: u64) -> Result<(), &'static str> {
        if let Some(reason) = self.unavailable {
            return Err(reason);
        }
        self.board.as_ref().ok_or("not_sampled")?.available()?;
        self.catch_up();
        match self.last_ns {
            None => Err("not_sampled"),
            Some(last_ns) if now_ns.saturating_sub(last_ns) > STALLED_NS => Err("sampler_stalled"),
            Some(_) => Ok(()),
        }
    }
}
