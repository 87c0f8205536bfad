//! What GPUs say of themselves over time: written by one sampler a node, read at a request's start and end.
//!
//! The sampler writes into a [`Board`], which processes may share; each process reads it into a [`GpuLog`] of its own,
//! which answers what happened since a request began.

mod board;
mod device;
mod energy;
mod log;
mod series;
mod window;

pub use self::board::{BOARD_CELLS, Board, Kind, MAX_DEVICES, Slot};
pub use self::device::Latest;
pub use self::energy::{Energy, EnergyMethod};
pub use self::log::{GpuLog, Mark};
pub use self::series::Summary;
pub use self::window::{DeviceWindow, Memory, Window};

/// Why a sampler, or one kind of its readings, may have nothing to say, beside `not_sampled`: there is none.
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

/// The sampler looks once a second when idle; a last sample older than this says that it hangs.
const STALLED_NS: u64 = 5_000_000_000;
/// What is said of a reading that no sample of fell into the window.
const WINDOW_TOO_SHORT: &str = "window_too_short";

/// A reading, or the reason why there is none: one of [`REASONS`].
pub type Reading = Result<u64, &'static str>;

/// A reading in one cell: reasons are the highest numbers, which no device ever shows.
fn encoded(reading: Reading) -> u64 {
    let code_of =
        |reason| REASONS.iter().position(|known| *known == reason).unwrap_or(REASONS.len());
    reading.unwrap_or_else(|reason| u64::MAX - code_of(reason) as u64)
}

fn decoded(cell: u64) -> Reading {
    let reason = usize::try_from(u64::MAX - cell).ok().filter(|code| *code <= REASONS.len());
    reason.map_or(Ok(cell), |code| Err(REASONS.get(code).copied().unwrap_or("unknown_error")))
}

/// The bits of NVML's `nvmlDeviceGetCurrentClocksEventReasons`, from the lowest.
pub const THROTTLE_REASONS: [&str; 11] = [
    "gpu_idle",
    "applications_clocks_setting",
    "sw_power_cap",
    "hw_slowdown",
    "sync_boost",
    "sw_thermal_slowdown",
    "hw_thermal_slowdown",
    "hw_power_brake_slowdown",
    "display_clock_setting",
    "board_limit",
    "reliability",
];

#[cfg(test)]
mod tests;
