//! What the GPUs did in a request's window.

use std::sync::Arc;

use serde::Serialize;

use super::{Performance, Reasons, mib, ms};
use crate::gpu::{DeviceWindow, EnergyMethod, Memory, Window};

/// One device: memory in MiB, energy in joules, power in watts, times in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gpu {
    uuid: Arc<str>,
    memory_start_mb: Option<f64>,
    memory_end_mb: Option<f64>,
    memory_peak_mb: Option<f64>,
    memory_delta_mb: Option<f64>,
    memory_reserved_mb: Option<f64>,
    samples: u64,
    sample_interval_ms: Option<f64>,
    largest_gap_ms: f64,
    energy_j: Option<f64>,
    attributed_energy_j: Option<f64>,
    energy_window_ms: Option<f64>,
    energy_method: Option<&'static str>,
    power_mean_w: Option<f64>,
    power_peak_w: Option<f64>,
    power_method: Option<&'static str>,
    utilization: Option<f64>,
    temperature_max_c: Option<u64>,
    sm_clock_mean_mhz: Option<f64>,
    throttle_reasons: Option<Vec<&'static str>>,
    unavailable: Reasons,
}

/// Three decimals.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[allow(clippy::cast_precision_loss)] // 2^53 uJ is 2.5 MWh
fn joules(uj: u64) -> f64 {
    rounded(uj as f64 / 1e6)
}

#[allow(clippy::cast_precision_loss)] // far below 2^53 mW
fn watts(mw: u64) -> f64 {
    rounded(mw as f64 / 1e3)
}

fn delta_mib(memory: &Memory) -> f64 {
    rounded(mib(memory.end_bytes) - mib(memory.start_bytes))
}

impl Gpu {
    fn new(device: &DeviceWindow, window: &Window) -> Self {
        let mut unavailable = Reasons::default();
        macro_rules! known {
            ($result:expr => $($field:literal)*) => {
                $result.map_err(|reason| { $(unavailable.insert($field, reason);)* }).ok()
            };
        }
        let memory = known!(device.memory => "memory_start_mb" "memory_end_mb" "memory_peak_mb" "memory_delta_mb");
        let energy = known!(device.energy =>
            "energy_j" "attributed_energy_j" "energy_window_ms" "energy_method");
        let power_mw = known!(device.power_mw => "power_mean_w" "power_peak_w");
        let interval_ns = window.interval_ns.ok_or("window_too_short");
        let percent = known!(device.utilization_percent => "utilization");
        let temperature_c = known!(device.temperature_c => "temperature_max_c");
        let sm_clock_mhz = known!(device.sm_clock_mhz => "sm_clock_mean_mhz");
        Self {
            uuid: Arc::clone(&device.uuid),
            memory_start_mb: memory.map(|memory| mib(memory.start_bytes)),
            memory_end_mb: memory.map(|memory| mib(memory.end_bytes)),
            memory_peak_mb: memory.map(|memory| mib(memory.peak_bytes)),
            memory_delta_mb: memory.as_ref().map(delta_mib),
            memory_reserved_mb: known!(device.reserved_bytes => "memory_reserved_mb").map(mib),
            samples: window.samples,
            sample_interval_ms: known!(interval_ns => "sample_interval_ms").map(ms),
            largest_gap_ms: ms(window.largest_gap_ns),
            energy_j: energy.map(|energy| joules(energy.device_uj)),
            attributed_energy_j: energy.map(|energy| joules(energy.attributed_uj)),
            energy_window_ms: energy.map(|energy| ms(energy.window_ns)),
            energy_method: energy.map(|energy| EnergyMethod::name(energy.method)),
            power_mean_w: power_mw.map(|power| rounded(power.mean / 1e3)),
            power_peak_w: power_mw.map(|power| watts(power.peak)),
            power_method: known!(device.power_method => "power_method"),
            utilization: percent.map(|percent| rounded(percent.mean / 100.0)),
            temperature_max_c: temperature_c.map(|celsius| celsius.peak),
            sm_clock_mean_mhz: sm_clock_mhz.map(|clock| rounded(clock.mean)),
            throttle_reasons: known!(device.throttle_reasons.clone() => "throttle_reasons"),
            unavailable,
        }
    }
}

impl Performance {
    /// Fills in what the GPUs did, or the reason why nothing is known. To be called when the tokens are counted.
    pub fn set_gpu(&mut self, window: Result<Window, &'static str>) {
        let memory = window.as_ref().map_err(|reason| *reason).and_then(|window| window.total);
        match memory {
            Ok(memory) => {
                self.memory_delta_mb = Some(delta_mib(&memory));
                self.peak_memory_mb = Some(mib(memory.peak_bytes));
                self.memory_start_mb = Some(mib(memory.start_bytes));
                self.memory_end_mb = Some(mib(memory.end_bytes));
            }
            Err(reason) => {
                for field in
                    ["memory_delta_mb", "peak_memory_mb", "memory_start_mb", "memory_end_mb"]
                {
                    self.without(field, reason);
                }
            }
        }
        self.set_energy(window.as_ref().map_err(|reason| *reason));
        match window {
            Ok(window) => {
                let gpu = window.devices.iter().map(|device| Gpu::new(device, &window));
                self.gpu = Some(gpu.collect());
            }
            Err(reason) => self.without("gpu", reason),
        }
    }

    fn set_energy(&mut self, window: Result<&Window, &'static str>) {
        let device_uj = window.and_then(|window| window.energy_uj(|energy| energy.device_uj));
        let share_uj = window.and_then(|window| window.energy_uj(|energy| energy.attributed_uj));
        let (device_uj, share_uj) = match (device_uj, share_uj) {
            (Ok(device_uj), Ok(share_uj)) => (device_uj, share_uj),
            (Err(reason), _) | (_, Err(reason)) => {
                for field in ["energy_j", "attributed_energy_j", "energy_per_output_token_j"] {
                    self.without(field, reason);
                }
                return;
            }
        };
        self.energy_j = Some(joules(device_uj));
        self.attributed_energy_j = Some(joules(share_uj));
        match self.completion_tokens {
            #[allow(clippy::cast_precision_loss)] // both far below 2^53
            Some(tokens) if tokens > 0 => {
                // Microjoules, for a small model's token takes few of them.
                let per_token_uj = share_uj as f64 / tokens as f64;
                self.energy_per_output_token_j = Some(per_token_uj.round() / 1e6);
            }
            Some(_) => self.without("energy_per_output_token_j", "no_tokens"),
            None => {
                let reason = if self.token_source.is_none() { "no_usage" } else { "not_reported" };
                self.without("energy_per_output_token_j", reason);
            }
        }
    }
}
