//! Energy, and whose it was.
//!
//! An account is written by the sampler. At each reading the energy since the one before goes in equal parts to the
//! requests in flight: `attributed_uj` grows by one part, and a request's share is what it grew by while the request was in
//! flight. In whole microjoules, with the rest carried on: shares and the idle part sum to the device's energy exactly.

use super::board::VALUES;
use super::{Reading, WINDOW_TOO_SHORT, decoded, encoded};

/// The driver renews its counter about this often (undocumented), as long as it was not seen to take longer.
const USUAL_PERIOD_NS: u64 = 100_000_000;
/// Power is not integrated over a longer gap: nobody knows what happened in it.
const LONGEST_STEP_NS: u64 = 2_500_000_000;

/// How energy was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnergyMethod {
    /// The device's own counter, `nvmlDeviceGetTotalEnergyConsumption`.
    Counter,
    /// Power over time, where there is no counter.
    PowerIntegral,
}

impl EnergyMethod {
    /// The word used in blocks.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::PowerIntegral => "power_integral",
        }
    }
}

/// One device's energy so far; each field is a cell of the board.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account {
    /// When it was read last; 0 is never.
    at_ns: u64,
    counter_mj: u64,
    power_mw: u64,
    total_uj: u64,
    attributed_uj: u64,
    /// Given to requests: `attributed_uj` times the requests that it grew for.
    given_uj: u64,
    idle_uj: u64,
    rest_uj: u64,
    /// How often the counter went backwards, or the integral has a hole.
    resets: u64,
}

impl Account {
    pub(super) fn of(load: impl Fn(usize) -> u64) -> Self {
        let [
            at_ns,
            counter_mj,
            power_mw,
            total_uj,
            attributed_uj,
            given_uj,
            idle_uj,
            rest_uj,
            resets,
        ] = [0, 1, 2, 3, 4, 5, 6, 7, 8].map(load);
        Self {
            at_ns,
            counter_mj,
            power_mw,
            total_uj,
            attributed_uj,
            given_uj,
            idle_uj,
            rest_uj,
            resets,
        }
    }

    pub(super) fn save(&self, store: impl Fn(usize, u64)) {
        let cells = [
            self.at_ns,
            self.counter_mj,
            self.power_mw,
            self.total_uj,
            self.attributed_uj,
            self.given_uj,
            self.idle_uj,
            self.rest_uj,
            self.resets,
        ];
        for (cell, value) in cells.into_iter().enumerate() {
            store(cell, value);
        }
    }

    pub(super) fn parts_uj(&self) -> [u64; 4] {
        [self.total_uj, self.given_uj, self.idle_uj, self.rest_uj]
    }

    /// Takes counter (mJ), power (mW) and its method in; `among` requests share what was used since, or nobody (0).
    /// Returns the record's values.
    pub(super) fn tick(
        &mut self,
        at_ns: u64,
        [counter, power, averaged]: [Reading; 3],
        among: u64,
    ) -> [u64; VALUES] {
        // A counter that fails now and then is waited for; only where there is none, power takes its place.
        let has_none = matches!(counter, Err("not_supported" | "version_mismatch"));
        let (total, method) = match (counter, power) {
            (Ok(counter_mj), _) => {
                self.count(counter_mj, among);
                (Ok(()), EnergyMethod::Counter)
            }
            (Err(_), Ok(power_mw)) if has_none => {
                self.integrate(at_ns, power_mw, among);
                (Ok(()), EnergyMethod::PowerIntegral)
            }
            (Err(reason), _) => (Err(reason), EnergyMethod::Counter),
        };
        if total.is_ok() {
            self.at_ns = at_ns;
        }
        let flags = u64::from(method == EnergyMethod::PowerIntegral)
            | u64::from(averaged == Ok(1)) << 1
            | self.resets << 2;
        let total_uj = total.map(|()| self.total_uj);
        [encoded(total_uj), self.attributed_uj, encoded(power), flags]
    }

    fn count(&mut self, counter_mj: u64, among: u64) {
        if self.at_ns > 0 {
            let used_mj = counter_mj.checked_sub(self.counter_mj);
            match used_mj.and_then(|used_mj| used_mj.checked_mul(1000)) {
                Some(used_uj) => self.share(used_uj, among),
                None => self.resets += 1,
            }
        }
        self.counter_mj = counter_mj;
    }

    fn integrate(&mut self, at_ns: u64, power_mw: u64, among: u64) {
        if self.at_ns > 0 {
            match at_ns.checked_sub(self.at_ns) {
                Some(step_ns) if step_ns <= LONGEST_STEP_NS => {
                    // mW x ns is pJ
                    self.share((self.power_mw + power_mw) / 2 * step_ns / 1_000_000, among);
                }
                _ => self.resets += 1,
            }
        }
        self.power_mw = power_mw;
    }

    fn share(&mut self, used_uj: u64, among: u64) {
        self.total_uj += used_uj;
        let Some(part_uj) = (self.rest_uj + used_uj).checked_div(among) else {
            self.idle_uj += used_uj;
            return;
        };
        self.attributed_uj += part_uj;
        self.given_uj += part_uj * among;
        self.rest_uj = self.rest_uj + used_uj - part_uj * among;
    }
}

/// Energy in a request's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Energy {
    /// Microjoules of the device between the two readings that the window is nearest to.
    pub device_uj: u64,
    /// The request's share of them, in microjoules.
    pub attributed_uj: u64,
    /// The time between these readings.
    pub window_ns: u64,
    /// How it was measured.
    pub method: EnergyMethod,
}

/// One reading of an account.
#[derive(Debug, Clone, Copy)]
pub(super) struct EnergyReading {
    at_ns: u64,
    total_uj: u64,
    attributed_uj: u64,
    resets: u64,
    method: EnergyMethod,
}

/// What a process remembers of a device's account.
#[derive(Debug, Default)]
pub(super) struct EnergyLog {
    last: Option<EnergyReading>,
    /// The last reading before which nobody was in flight: it begins the window of whoever came in the time before.
    idle: Option<EnergyReading>,
    missing: Option<&'static str>,
    /// When the present value was first seen, and last seen unchanged.
    since_ns: u64,
    until_ns: u64,
    period_ns: Option<u64>,
}

impl EnergyLog {
    /// Takes in the values that [`Account::tick`] returned.
    pub(super) fn push(&mut self, at_ns: u64, values: [u64; VALUES], is_idle: bool) {
        let [total, attributed_uj, _, flags] = values;
        let total_uj = match decoded(total) {
            Ok(total_uj) => total_uj,
            Err(reason) => {
                self.missing = Some(reason);
                return;
            }
        };
        self.missing = None;
        let method =
            if flags & 1 == 1 { EnergyMethod::PowerIntegral } else { EnergyMethod::Counter };
        let reading = EnergyReading { at_ns, total_uj, attributed_uj, resets: flags >> 2, method };
        self.learn(&reading);
        self.last = Some(reading);
        if is_idle {
            self.idle = Some(reading);
        }
    }

    /// For how long the counter surely stood still is a lower bound of its period; smoothed, for it may stall once.
    fn learn(&mut self, reading: &EnergyReading) {
        let last = self.last.filter(|last| last.resets == reading.resets);
        if last.is_some_and(|last| last.total_uj == reading.total_uj) {
            self.until_ns = reading.at_ns;
            return;
        }
        if last.is_some() {
            let stood_ns = self.until_ns.saturating_sub(self.since_ns);
            self.period_ns =
                Some(self.period_ns.map_or(stood_ns, |mean| (3 * mean + stood_ns) / 4));
        }
        (self.since_ns, self.until_ns) = (reading.at_ns, reading.at_ns);
    }

    /// The last reading, for a request that begins.
    pub(super) fn last(&self) -> Option<EnergyReading> {
        self.last
    }

    /// Joules so far, for a gauge.
    pub(super) fn total_uj(&self) -> Option<u64> {
        self.last.map(|last| last.total_uj)
    }

    /// What was used since a request began, with [`Self::last`] as it was then.
    pub(super) fn since(&self, began: Option<EnergyReading>) -> Result<Energy, &'static str> {
        let short = self.missing.unwrap_or(WINDOW_TOO_SHORT);
        let later = |one: EnergyReading, other: EnergyReading| {
            if other.at_ns > one.at_ns { other } else { one }
        };
        let begin = match (began, self.idle) {
            (Some(began), Some(idle)) => later(began, idle),
            (began, idle) => began.or(idle).ok_or(short)?,
        };
        let end = self.last.ok_or(short)?;
        let window_ns = end.at_ns.saturating_sub(begin.at_ns);
        if begin.resets != end.resets || begin.method != end.method {
            return Err("counter_reset");
        }
        if window_ns < 2 * self.period_ns.unwrap_or_default().max(USUAL_PERIOD_NS) {
            return Err(short);
        }
        Ok(Energy {
            device_uj: end.total_uj.saturating_sub(begin.total_uj),
            attributed_uj: end.attributed_uj.saturating_sub(begin.attributed_uj),
            window_ns,
            method: end.method,
        })
    }
}
