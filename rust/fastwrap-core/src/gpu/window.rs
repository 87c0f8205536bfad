//! What happened to the devices in a request's window.

use std::sync::Arc;

use super::energy::Energy;
use super::series::Summary;

/// Memory in use, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// At the window's start.
    pub start_bytes: u64,
    /// At its end.
    pub end_bytes: u64,
    /// The most that was seen in between, both ends included.
    pub peak_bytes: u64,
}

/// One device. Where nothing is known, the reason stands instead.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceWindow {
    /// The device's UUID.
    pub uuid: Arc<str>,
    /// Memory in use, without what the driver reserved where that is told apart.
    pub memory: Result<Memory, &'static str>,
    /// Bytes that the driver reserved.
    pub reserved_bytes: Result<u64, &'static str>,
    /// Energy.
    pub energy: Result<Energy, &'static str>,
    /// Power, in milliwatts.
    pub power_mw: Result<Summary, &'static str>,
    /// `instant`, or `average_1s` where the driver tells no other.
    pub power_method: Result<&'static str, &'static str>,
    /// Percent of time with a kernel running.
    pub utilization_percent: Result<Summary, &'static str>,
    /// Degrees Celsius.
    pub temperature_c: Result<Summary, &'static str>,
    /// The SM clock, in MHz.
    pub sm_clock_mhz: Result<Summary, &'static str>,
    /// Why clocks were lower than they could be: of [`super::THROTTLE_REASONS`].
    pub throttle_reasons: Result<Vec<&'static str>, &'static str>,
}

/// All devices.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// The memory of all devices together; its peak is the peak of the sum, not the sum of the peaks.
    pub total: Result<Memory, &'static str>,
    /// Each device.
    pub devices: Vec<DeviceWindow>,
    /// Memory samples taken in the window.
    pub samples: u64,
    /// Time a sample, in nanoseconds: a spike shorter than this may have been missed. `None` without any.
    pub interval_ns: Option<u64>,
    /// The longest time without a sample, in nanoseconds: a longer spike was seen.
    pub largest_gap_ns: u64,
}

impl Window {
    /// The energy of all devices together; the reason of the first that has none.
    ///
    /// # Errors
    /// That reason.
    pub fn energy_uj(&self, part: impl Fn(&Energy) -> u64) -> Result<u64, &'static str> {
        self.devices
            .iter()
            .map(|device| device.energy.as_ref().map(&part).map_err(|reason| *reason))
            .sum()
    }
}
