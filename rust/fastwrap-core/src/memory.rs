//! Device memory over time, written by the sampler and read at a request's start and end.

use std::sync::Arc;

use crate::peak::PeakSince;

/// Why a sampler may have nothing to say, beside `not_sampled`: there is none.
pub const REASONS: [&str; 11] = [
    "disabled",
    "no_visible_device",
    "library_not_found",
    "driver_not_loaded",
    "version_mismatch",
    "not_supported",
    "no_permission",
    "gpu_lost",
    "mig_unsupported",
    "sampler_stalled",
    "unknown_error",
];

/// One device's memory in a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceWindow {
    /// The device's UUID.
    pub uuid: Arc<str>,
    /// Bytes in use at the window's start.
    pub start_bytes: u64,
    /// Bytes in use at its end.
    pub end_bytes: u64,
    /// The most that was seen in between, both ends included.
    pub peak_bytes: u64,
}

/// Memory in a request's window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The sum over all devices; its peak is the peak of the sum, not the sum of the peaks.
    pub total: DeviceWindow,
    /// Each device.
    pub devices: Vec<DeviceWindow>,
    /// Samples taken in the window.
    pub samples: u64,
    /// Mean time between them, in nanoseconds; `None` without any.
    pub interval_ns: Option<u64>,
}

/// The sampler looks once a second when idle; a last sample older than this says that it hangs.
const STALLED_NS: u64 = 5_000_000_000;

/// What is remembered of a request's start.
#[derive(Debug, Clone)]
pub struct Mark {
    at_ns: u64,
    total_bytes: u64,
    device_bytes: Vec<u64>,
    samples: u64,
    first_sample_ns: u64,
}

/// The log of all samples.
#[derive(Debug)]
pub struct MemoryLog {
    uuids: Vec<Arc<str>>,
    total: PeakSince,
    devices: Vec<PeakSince>,
    samples: u64,
    last_ns: u64,
    unavailable: Option<&'static str>,
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self {
            uuids: Vec::new(),
            total: PeakSince::default(),
            devices: Vec::new(),
            samples: 0,
            last_ns: 0,
            unavailable: Some("not_sampled"),
        }
    }
}

impl MemoryLog {
    /// Names the devices that will be sampled; forgets what was logged before.
    pub fn set_devices(&mut self, uuids: Vec<String>) {
        let uuids: Vec<Arc<str>> = uuids.into_iter().map(Arc::from).collect();
        let devices = uuids.iter().map(|_| PeakSince::default()).collect();
        *self = Self { uuids, devices, ..Self::default() };
    }

    /// Adds a sample: bytes in use of each device, in the order of [`Self::set_devices`].
    pub fn push(&mut self, at_ns: u64, used_bytes: &[u64]) {
        self.total.push(at_ns, used_bytes.iter().fold(0, |sum, used| sum.saturating_add(*used)));
        for (device, used) in self.devices.iter_mut().zip(used_bytes) {
            device.push(at_ns, *used);
        }
        self.samples += 1;
        self.last_ns = at_ns;
        self.unavailable = None;
    }

    /// Says that nothing can be read, and why: one of [`REASONS`].
    pub fn set_unavailable(&mut self, reason: &'static str) {
        self.unavailable = Some(reason);
    }

    /// Remembers the present for a request that starts.
    ///
    /// # Errors
    /// The reason why there are no samples.
    pub fn mark(&self, now_ns: u64) -> Result<Mark, &'static str> {
        self.available(now_ns)?;
        let last = |peak: &PeakSince| peak.last().unwrap_or_default();
        Ok(Mark {
            at_ns: now_ns,
            total_bytes: last(&self.total),
            device_bytes: self.devices.iter().map(last).collect(),
            samples: self.samples,
            first_sample_ns: self.last_ns,
        })
    }

    /// Gives the window from `mark` to the last sample.
    ///
    /// # Errors
    /// The reason why there are no samples.
    pub fn window(&self, mark: &Mark, now_ns: u64) -> Result<Window, &'static str> {
        self.available(now_ns)?;
        let window = |uuid: Arc<str>, peak: &PeakSince, start_bytes: u64| {
            let end_bytes = peak.last().unwrap_or(start_bytes);
            let peak_bytes =
                peak.peak(mark.at_ns).unwrap_or(end_bytes).max(start_bytes).max(end_bytes);
            DeviceWindow { uuid, start_bytes, end_bytes, peak_bytes }
        };
        let devices = self.uuids.iter().zip(&self.devices).zip(&mark.device_bytes);
        let samples = self.samples.saturating_sub(mark.samples);
        Ok(Window {
            total: window(Arc::default(), &self.total, mark.total_bytes),
            devices: devices
                .map(|((uuid, peak), start)| window(Arc::clone(uuid), peak, *start))
                .collect(),
            samples,
            interval_ns: self.last_ns.saturating_sub(mark.first_sample_ns).checked_div(samples),
        })
    }

    fn available(&self, now_ns: u64) -> Result<(), &'static str> {
        match self.unavailable {
            Some(reason) => Err(reason),
            None if now_ns.saturating_sub(self.last_ns) > STALLED_NS => Err("sampler_stalled"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peak_of_the_sum_is_not_the_sum_of_the_peaks() {
        let mut log = MemoryLog::default();
        assert_eq!(log.mark(0).unwrap_err(), "not_sampled");
        log.set_devices(vec!["a".to_owned(), "b".to_owned()]);
        log.push(10, &[5, 5]);
        let mark = log.mark(15).unwrap();
        for (at, used) in [(20, [9, 5]), (30, [5, 8]), (40, [4, 5])] {
            log.push(at, &used);
        }
        let window = log.window(&mark, 50).unwrap();
        assert_eq!(
            (window.total.start_bytes, window.total.peak_bytes, window.total.end_bytes),
            (10, 14, 9)
        );
        let peaks: Vec<_> = window.devices.iter().map(|d| (&*d.uuid, d.peak_bytes)).collect();
        assert_eq!(peaks, [("a", 9), ("b", 8)]);
        assert_eq!((window.samples, window.interval_ns), (3, Some(10)));
    }

    #[test]
    fn peak_is_never_below_start_or_end() {
        let mut log = MemoryLog::default();
        log.set_devices(vec!["a".to_owned()]);
        log.push(10, &[7]);
        let mark = log.mark(15).unwrap();
        let window = log.window(&mark, 50).unwrap();
        assert_eq!((window.total.peak_bytes, window.samples, window.interval_ns), (7, 0, None));
        log.push(20, &[3]);
        assert_eq!(log.window(&mark, 50).unwrap().total.peak_bytes, 7);
    }

    #[test]
    fn a_sampler_that_hangs_is_said_with_its_reason() {
        let mut log = MemoryLog::default();
        log.set_devices(vec!["a".to_owned()]);
        log.push(10, &[7]);
        let mark = log.mark(15).unwrap();
        assert!(log.window(&mark, 10 + STALLED_NS).is_ok());
        assert_eq!(log.window(&mark, 11 + STALLED_NS).unwrap_err(), "sampler_stalled");
        assert_eq!(log.mark(11 + STALLED_NS).unwrap_err(), "sampler_stalled");
    }

    #[test]
    fn a_lost_device_is_said_with_its_reason() {
        let mut log = MemoryLog::default();
        log.set_devices(vec!["a".to_owned()]);
        log.push(10, &[7]);
        let mark = log.mark(15).unwrap();
        log.set_unavailable("gpu_lost");
        assert_eq!(log.window(&mark, 50).unwrap_err(), "gpu_lost");
    }
}
