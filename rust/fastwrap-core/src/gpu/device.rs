//! What a process remembers of one device.

use std::sync::Arc;

use super::board::{Kind, Record};
use super::energy::{EnergyLog, EnergyReading};
use super::series::{Series, SeriesMark};
use super::window::{DeviceWindow, Memory};
use super::{Reading, THROTTLE_REASONS};

/// The last value of each reading, for gauges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latest {
    /// The device's UUID.
    pub uuid: String,
    /// Bytes in use.
    pub memory_bytes: Option<u64>,
    /// Bytes in all.
    pub limit_bytes: Option<u64>,
    /// Percent of time with a kernel running.
    pub utilization_percent: Option<u64>,
    /// Milliwatts.
    pub power_mw: Option<u64>,
    /// Microjoules since the device is sampled.
    pub energy_uj: Option<u64>,
    /// Degrees Celsius.
    pub temperature_c: Option<u64>,
}

#[derive(Debug)]
pub(super) struct DeviceLog {
    uuid: Arc<str>,
    memory: Series,
    reserved: Reading,
    limit: Reading,
    energy: EnergyLog,
    power: Series,
    is_averaged: bool,
    utilization: Series,
    temperature: Series,
    sm_clock: Series,
    /// Of its readings only the number counts, and why there are none.
    throttle: Series,
    /// When each throttle reason was last seen.
    throttled_ns: [u64; THROTTLE_REASONS.len()],
}

/// What is remembered of a request's start.
#[derive(Debug, Clone)]
pub(super) struct DeviceMark {
    memory_bytes: Reading,
    energy: Option<EnergyReading>,
    power: SeriesMark,
    utilization: SeriesMark,
    temperature: SeriesMark,
    sm_clock: SeriesMark,
    throttle: SeriesMark,
}

/// Memory in a window, from what it was at the start.
pub(super) fn memory_since(
    series: &Series,
    start_bytes: Reading,
    since_ns: u64,
    now_ns: u64,
) -> Result<Memory, &'static str> {
    let end_bytes = series.last_value(now_ns)?;
    let start_bytes = start_bytes.unwrap_or(end_bytes);
    let peak_bytes = series.peak(since_ns).unwrap_or(end_bytes).max(start_bytes).max(end_bytes);
    Ok(Memory { start_bytes, end_bytes, peak_bytes })
}

impl DeviceLog {
    pub(super) fn new(uuid: &str) -> Self {
        Self {
            uuid: uuid.into(),
            memory: Series::default(),
            reserved: Err("not_sampled"),
            limit: Err("not_sampled"),
            energy: EnergyLog::default(),
            power: Series::default(),
            is_averaged: false,
            utilization: Series::default(),
            temperature: Series::default(),
            sm_clock: Series::default(),
            throttle: Series::default(),
            throttled_ns: [0; THROTTLE_REASONS.len()],
        }
    }

    pub(super) fn push(&mut self, record: &Record) {
        let at_ns = record.at_ns;
        match record.kind {
            Kind::Memory => {
                self.memory.push(at_ns, record.reading(0));
                self.reserved = record.reading(1);
                self.limit = record.reading(2);
            }
            Kind::Power => {
                self.energy.push(at_ns, record.values, record.is_idle);
                self.power.push(at_ns, record.reading(2));
                self.is_averaged = record.reading(3).is_ok_and(|flags| flags >> 1 & 1 == 1);
            }
            Kind::Utilization => self.utilization.push(at_ns, record.reading(0)),
            Kind::Condition => {
                self.temperature.push(at_ns, record.reading(0));
                self.sm_clock.push(at_ns, record.reading(1));
                self.throttle.push(at_ns, record.reading(2));
                let bits = record.reading(2).unwrap_or(0);
                for (bit, seen_ns) in self.throttled_ns.iter_mut().enumerate() {
                    if bits >> bit & 1 == 1 {
                        *seen_ns = at_ns;
                    }
                }
            }
        }
    }

    pub(super) fn mark(&self, now_ns: u64) -> DeviceMark {
        DeviceMark {
            memory_bytes: self.memory.last_value(now_ns),
            energy: self.energy.last(),
            power: self.power.mark(),
            utilization: self.utilization.mark(),
            temperature: self.temperature.mark(),
            sm_clock: self.sm_clock.mark(),
            throttle: self.throttle.mark(),
        }
    }

    pub(super) fn since(&self, mark: &DeviceMark, since_ns: u64, now_ns: u64) -> DeviceWindow {
        let power_mw = self.power.since(mark.power, since_ns);
        let method = if self.is_averaged { "average_1s" } else { "instant" };
        let named = || THROTTLE_REASONS.iter().zip(&self.throttled_ns);
        let seen = || named().filter(|(_, at_ns)| **at_ns >= since_ns).map(|(name, _)| *name);
        DeviceWindow {
            uuid: Arc::clone(&self.uuid),
            memory: memory_since(&self.memory, mark.memory_bytes, since_ns, now_ns),
            reserved_bytes: self.reserved,
            energy: self.energy.since(mark.energy),
            power_method: power_mw.map(|_| method),
            power_mw,
            utilization_percent: self.utilization.since(mark.utilization, since_ns),
            temperature_c: self.temperature.since(mark.temperature, since_ns),
            sm_clock_mhz: self.sm_clock.since(mark.sm_clock, since_ns),
            throttle_reasons: self
                .throttle
                .since(mark.throttle, since_ns)
                .map(|_| seen().collect()),
        }
    }

    pub(super) fn latest(&self) -> Latest {
        Latest {
            uuid: self.uuid.as_ref().to_owned(),
            memory_bytes: self.memory.last().ok(),
            limit_bytes: self.limit.ok(),
            utilization_percent: self.utilization.last().ok(),
            power_mw: self.power.last().ok(),
            energy_uj: self.energy.total_uj(),
            temperature_c: self.temperature.last().ok(),
        }
    }
}
