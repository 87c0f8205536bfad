//! What all requests of a process share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use crate::counters::{Cells, Counters};
use crate::enrich::Enrich;
use crate::gpu::GpuLog;
use crate::guard::Guard;
use crate::hooks::Hooks;
use crate::peak::PeakSince;
use crate::profile::Profile;
use crate::samples::{Mark, SampleLog, Window};

/// The operator's choices that concern the measuring and the limits.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Where the numbers go.
    pub enrich: Enrich,
    /// Gaps over this many nanoseconds count as stalls.
    pub stall_ns: u64,
    /// Ask for a stream where the client asks for JSON, and assemble the JSON.
    pub json_as_stream: bool,
    /// Largest request body.
    pub max_body_bytes: u64,
    /// Most bytes of request headers.
    pub max_header_bytes: u64,
    /// Most requests in flight; 0 for any number.
    pub max_inflight: u64,
}

/// The engine's gauges are read every 5 s when idle.
const GAUGES_STALE_NS: u64 = 15_000_000_000;
/// The memory of the engine's processes is read every second when idle.
const HOST_MEMORY_STALE_NS: u64 = 5_000_000_000;

/// What is sampled of the engine, at a request's start.
#[derive(Debug)]
pub(crate) struct EngineMarks {
    gauges: Result<Mark, &'static str>,
    host_memory: Result<Mark, &'static str>,
}

impl EngineMarks {
    /// Nothing is known, and why.
    pub(crate) fn none(reason: &'static str) -> Self {
        Self { gauges: Err(reason), host_memory: Err(reason) }
    }
}

/// Whoever wants to know at once how many requests are in flight: samplers, which look where they begin and end.
pub trait Onlooker: Send + Sync {
    /// So many are in flight now; called under a lock, in the order of what happens.
    fn count(&self, in_flight: u64);
    /// It has changed; called without the lock.
    fn wake(&self);
}

/// The shared state.
pub struct Meter {
    /// The operator's choices.
    pub settings: Settings,
    /// Counters and histograms.
    pub counters: Counters,
    /// Who may ask.
    pub guard: Guard,
    /// Its first cell is 0 as long as the engine cannot serve.
    gate: Option<Box<dyn Cells>>,
    profile: RwLock<Arc<Profile>>,
    /// The engine's JSON turned out to have another form than its profile says.
    other_form: AtomicBool,
    gpu: Mutex<GpuLog>,
    gauges: Mutex<SampleLog>,
    host_memory: Mutex<SampleLog>,
    in_flight: Mutex<PeakSince>,
    onlookers: RwLock<Vec<Arc<dyn Onlooker>>>,
    hooks: OnceLock<Arc<dyn Hooks>>,
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Meter").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// A panic elsewhere leaves these logs usable: each change to them is complete or absent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Meter {
    /// Starts with nothing counted and no engine known.
    #[must_use]
    pub fn new(settings: Settings, counters: Counters) -> Self {
        Self {
            settings,
            counters,
            guard: Guard::default(),
            gate: None,
            profile: RwLock::default(),
            other_form: AtomicBool::new(false),
            gpu: Mutex::default(),
            gauges: Mutex::new(SampleLog::new(GAUGES_STALE_NS)),
            host_memory: Mutex::new(SampleLog::new(HOST_MEMORY_STALE_NS)),
            in_flight: Mutex::default(),
            onlookers: RwLock::default(),
            hooks: OnceLock::new(),
        }
    }

    /// Refuses requests as long as the first of these cells is 0: whoever started the engine keeps it.
    #[must_use]
    pub fn behind(self, gate: Box<dyn Cells>) -> Self {
        Self { gate: Some(gate), ..self }
    }

    /// Whether the engine can serve, as far as whoever started it knows.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let cell = |gate: &dyn Cells| gate.cells().first().map(|cell| cell.load(Ordering::Relaxed));
        self.gate.as_deref().is_none_or(|gate| cell(gate) != Some(0))
    }

    /// What is known of the engine.
    #[must_use]
    pub fn profile(&self) -> Arc<Profile> {
        Arc::clone(&self.profile.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The engine was recognised: requests that begin from now on follow `profile`.
    pub fn set_profile(&self, profile: Profile) {
        self.other_form.store(false, Ordering::Relaxed);
        *self.profile.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(profile);
    }

    /// Whether JSON answers may be made of streams, if the profile has a form for them.
    pub(crate) fn assembles(&self) -> bool {
        !self.other_form.load(Ordering::Relaxed)
    }

    /// The profile's form of JSON answers is not the engine's: no more are made, until another profile is set.
    pub(crate) fn stop_assembling(&self) {
        self.other_form.store(true, Ordering::Relaxed);
    }

    /// The log of what the GPUs said.
    pub fn gpu(&self) -> MutexGuard<'_, GpuLog> {
        lock(&self.gpu)
    }

    /// The log of the engine's own gauges, in millionths: KV-cache usage, requests running, requests waiting.
    pub fn gauges(&self) -> MutexGuard<'_, SampleLog> {
        lock(&self.gauges)
    }

    /// The log of the memory of the engine's processes: resident bytes of all, and how many they are.
    pub fn host_memory(&self) -> MutexGuard<'_, SampleLog> {
        lock(&self.host_memory)
    }

    /// Tells `onlooker`, too, whenever a request begins or ends.
    pub fn add_onlooker(&self, onlooker: Arc<dyn Onlooker>) {
        let mut onlookers = self.onlookers.write().unwrap_or_else(PoisonError::into_inner);
        onlooker.count(self.in_flight());
        onlookers.push(onlooker);
    }

    /// Tells `hooks` of requests that begin from now on; set once.
    pub fn set_hooks(&self, hooks: Arc<dyn Hooks>) {
        let _ = self.hooks.set(hooks);
    }

    /// Whoever is to be told of requests, if anybody is.
    pub fn hooks(&self) -> Option<&dyn Hooks> {
        self.hooks.get().map(Arc::as_ref)
    }

    /// Requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        lock(&self.in_flight).last().unwrap_or(0)
    }

    /// The most requests in flight since `since_ns`.
    #[must_use]
    pub fn peak_in_flight(&self, since_ns: u64) -> u64 {
        lock(&self.in_flight).peak(since_ns).unwrap_or(1)
    }

    /// Remembers what is sampled of the engine, for a request that starts.
    pub(crate) fn mark_engine(&self, now_ns: u64) -> EngineMarks {
        let mark = |mut log: MutexGuard<'_, SampleLog>| {
            log.refresh();
            log.mark(now_ns)
        };
        EngineMarks { gauges: mark(self.gauges()), host_memory: mark(self.host_memory()) }
    }

    /// What was sampled of the engine since: its gauges, and the memory of its processes.
    pub(crate) fn engine_windows(
        &self,
        marks: &EngineMarks,
        now_ns: u64,
    ) -> [Result<Window, &'static str>; 2] {
        let window = |mut log: MutexGuard<'_, SampleLog>, mark: &Result<Mark, &'static str>| {
            log.refresh();
            mark.and_then(|mark| log.window(&mark, now_ns))
        };
        [window(self.gauges(), &marks.gauges), window(self.host_memory(), &marks.host_memory)]
    }

    /// A request begins; returns how many are in flight, this one included.
    pub(crate) fn begin(&self, now_ns: u64) -> u64 {
        self.counters.begin();
        self.step(now_ns, |count| count + 1)
    }

    /// A request ended; the counters have been told already.
    pub(crate) fn end(&self, now_ns: u64) {
        self.step(now_ns, |count| count.saturating_sub(1));
    }

    fn step(&self, now_ns: u64, change: impl Fn(u64) -> u64) -> u64 {
        let onlookers = self.onlookers.read().unwrap_or_else(PoisonError::into_inner);
        let count = {
            let mut in_flight = lock(&self.in_flight);
            let count = change(in_flight.last().unwrap_or(0));
            in_flight.push(now_ns, count);
            onlookers.iter().for_each(|onlooker| onlooker.count(count));
            count
        };
        onlookers.iter().for_each(|onlooker| onlooker.wake());
        count
    }
}
