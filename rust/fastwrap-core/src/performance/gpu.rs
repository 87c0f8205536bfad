//! Device memory in a request's window.

use std::sync::Arc;

use serde::Serialize;

use super::{Performance, mib, ms};
use crate::memory::{DeviceWindow, Window};

/// One device's memory, in MiB.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gpu {
    uuid: Arc<str>,
    memory_start_mb: f64,
    memory_end_mb: f64,
    memory_peak_mb: f64,
    memory_delta_mb: f64,
    samples: u64,
    sample_interval_ms: Option<f64>,
}

impl Performance {
    /// Fills in the memory, or the reason why there is none.
    pub fn set_memory(&mut self, window: Result<Window, &'static str>) {
        let window = match window {
            Ok(window) => window,
            Err(reason) => {
                for field in
                    ["memory_delta_mb", "peak_memory_mb", "memory_start_mb", "memory_end_mb", "gpu"]
                {
                    self.without(field, reason);
                }
                return;
            }
        };
        let delta = |device: &DeviceWindow| mib(device.end_bytes) - mib(device.start_bytes);
        let rounded_delta = |device: &DeviceWindow| (delta(device) * 1e3).round() / 1e3;
        self.memory_delta_mb = Some(rounded_delta(&window.total));
        self.peak_memory_mb = Some(mib(window.total.peak_bytes));
        self.memory_start_mb = Some(mib(window.total.start_bytes));
        self.memory_end_mb = Some(mib(window.total.end_bytes));
        let gpu = window.devices.iter().map(|device| Gpu {
            uuid: Arc::clone(&device.uuid),
            memory_start_mb: mib(device.start_bytes),
            memory_end_mb: mib(device.end_bytes),
            memory_peak_mb: mib(device.peak_bytes),
            memory_delta_mb: rounded_delta(device),
            samples: window.samples,
            sample_interval_ms: window.interval_ns.map(ms),
        });
        self.gpu = Some(gpu.collect());
    }
}
