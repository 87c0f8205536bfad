//! One slice: the two loops.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use fastwrap_clock::{Alarm, now_ns, thread_cpu_ns};
use tokio::task::{JoinSet, spawn_local};

use crate::answer::{Answer, Failure, Reader};
use crate::client::{Client, Endpoint};
use crate::clock::{nanoseconds, wait_until};
use crate::process;
use crate::random::Random;
use crate::settings::{Arrivals, Check, Load, Mode, Settings};
use crate::slice::Slice;

/// A client whose request failed waits before the next one: a dead target shall not be asked a million times.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(10);

/// How often the memory of a target's processes is looked at: seldom enough to cost nothing.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);

/// One target and the clients that are connected to it, kept from round to round.
pub(crate) struct Driver {
    endpoint: Rc<Endpoint>,
    expected: Rc<Answer>,
    mode: Mode,
    check: Check,
    pid: Option<u32>,
    /// Memory of the target's processes before they were driven.
    pub(crate) idle_rss_bytes: Option<u64>,
    idle: Rc<RefCell<Vec<Client>>>,
}

/// What the tasks of a slice share.
struct Shared {
    slice: Slice,
    /// The closed loop's end.
    deadline_ns: u64,
    last_ns: u64,
    /// The open loop's requests that wait for a connection: their intended starts.
    waiting: VecDeque<u64>,
    /// Requests that have not ended.
    open: u64,
}

impl Shared {
    fn new(deadline_ns: u64) -> Self {
        let waiting = VecDeque::new();
        Self { slice: Slice::default(), deadline_ns, last_ns: 0, waiting, open: 0 }
    }
}

impl Driver {
    pub(crate) fn new(
        endpoint: Rc<Endpoint>,
        expected: Rc<Answer>,
        settings: &Settings,
        pid: Option<u32>,
    ) -> Self {
        let (mode, check) = (settings.mode, settings.check);
        let idle_rss_bytes = pid.and_then(|pid| Some(process::usage(pid).ok()?.rss_bytes));
        Self { endpoint, expected, mode, check, pid, idle_rss_bytes, idle: Rc::default() }
    }

    /// Drives the target for a slice; `random` decides when the requests of an open loop come.
    pub(crate) async fn slice(&self, settings: &Settings, random: Random) -> Slice {
        let clients = match settings.load {
            Load::Closed { concurrency } => concurrency,
            // What the rate needs is not known; what was open before is kept open.
            Load::Open { .. } => self.idle.borrow().len().max(1),
        };
        self.connect(clients).await;
        let cpu_ns = || Some(process::usage(self.pid?).ok()?.cpu_ns);
        let processes = self.pid.and_then(|pid| process::tree(pid).ok());
        let before_ns = cpu_ns();
        let own_before_ns = thread_cpu_ns();
        let duration = settings.ramp + settings.duration;
        let start_ns = now_ns();
        let shared = Rc::new(RefCell::new(Shared::new(start_ns + nanoseconds(duration))));
        let watch = processes.map(|pids| spawn_local(watch(pids, Rc::clone(&shared))));
        let mut tasks = JoinSet::new();
        let work = async {
            match settings.load {
                Load::Closed { .. } => {
                    self.closed(&shared, &mut tasks, start_ns, settings.ramp).await;
                }
                Load::Open { rate, arrivals, concurrency } => {
                    let offsets = schedule(rate, arrivals, settings.duration, random);
                    self.open(&shared, &mut tasks, start_ns, &offsets, concurrency).await;
                }
            }
            while tasks.join_next().await.is_some() {}
        };
        let timed_out = tokio::time::timeout(duration + settings.timeout, work).await.is_err();
        // Whoever is still waiting leaves, and its connection with it.
        tasks.shutdown().await;
        if let Some(watch) = watch {
            watch.abort();
        }
        let mut shared = shared.borrow_mut();
        let mut slice = std::mem::take(&mut shared.slice);
        if timed_out {
            let unsent = shared.waiting.len() as u64;
            slice.fail(Failure::Timeout, shared.open + unsent);
            shared.last_ns = now_ns();
        }
        let elapsed_ns = shared.last_ns.saturating_sub(start_ns);
        slice.elapsed_ns = elapsed_ns.max(nanoseconds(duration));
        slice.own_cpu_ns = thread_cpu_ns().saturating_sub(own_before_ns);
        slice.cpu_ns = before_ns.and_then(|before_ns| Some(cpu_ns()?.saturating_sub(before_ns)));
        slice
    }

    /// Brings so many clients to a connection before the clock runs: a server may have closed the idle ones.
    async fn connect(&self, count: usize) {
        let mut clients = std::mem::take(&mut *self.idle.borrow_mut());
        clients.truncate(count);
        clients.resize_with(count, || self.client());
        for client in &mut clients {
            // Who cannot connect now tries again with its request, and that counts.
            if client.prepare().await.is_err() {
                break;
            }
        }
        clients.iter_mut().for_each(|client| client.connects = 0);
        *self.idle.borrow_mut() = clients;
    }

    fn client(&self) -> Client {
        Client::new(Rc::clone(&self.endpoint), self.mode)
    }

    async fn closed(
        &self,
        shared: &Rc<RefCell<Shared>>,
        tasks: &mut JoinSet<()>,
        start_ns: u64,
        ramp: Duration,
    ) {
        let clients = std::mem::take(&mut *self.idle.borrow_mut());
        let step_ns = nanoseconds(ramp) / (clients.len() as u64).max(1);
        let mut alarm = Alarm::default();
        for (index, client) in (0..).zip(clients) {
            if step_ns > 0 {
                wait_until(&mut alarm, start_ns + step_ns * index).await;
            }
            let next = |shared: &mut Shared| {
                let now_ns = now_ns();
                (now_ns < shared.deadline_ns).then_some(now_ns)
            };
            tasks.spawn_local(self.run(client, Rc::clone(shared), next));
        }
    }

    async fn open(
        &self,
        shared: &Rc<RefCell<Shared>>,
        tasks: &mut JoinSet<()>,
        start_ns: u64,
        offsets: &[u64],
        concurrency: usize,
    ) {
        let mut alarm = Alarm::default();
        for offset_ns in offsets {
            let due_ns = start_ns + offset_ns;
            wait_until(&mut alarm, due_ns).await;
            // Only to forget those that have ended.
            while tasks.try_join_next().is_some() {}
            let idle = self.idle.borrow_mut().pop();
            let client = idle.or_else(|| (tasks.len() < concurrency).then(|| self.client()));
            {
                let mut shared = shared.borrow_mut();
                shared.slice.late.record(now_ns().saturating_sub(due_ns));
                shared.waiting.push_back(due_ns);
            }
            if let Some(client) = client {
                let next = |shared: &mut Shared| shared.waiting.pop_front();
                tasks.spawn_local(self.run(client, Rc::clone(shared), next));
            }
        }
    }

    /// Lets a client send requests as long as `next` gives it their starts.
    fn run(
        &self,
        mut client: Client,
        shared: Rc<RefCell<Shared>>,
        next: impl Fn(&mut Shared) -> Option<u64> + 'static,
    ) -> impl Future<Output = ()> + 'static {
        let (expected, check, idle) =
            (Rc::clone(&self.expected), self.check, Rc::clone(&self.idle));
        async move {
            loop {
                let start_ns = {
                    let mut shared = shared.borrow_mut();
                    let Some(start_ns) = next(&mut shared) else { break };
                    shared.open += 1;
                    shared.slice.open = shared.slice.open.max(shared.open);
                    start_ns
                };
                let result = client.ask().await;
                let result = result
                    .and_then(|(answer, end_ns)| answer.verify(&expected, check).map(|()| end_ns));
                {
                    let mut shared = shared.borrow_mut();
                    shared.open -= 1;
                    match result {
                        Ok(end_ns) => {
                            let Reader { arrivals_ns, transits_ns, .. } = &client.reader;
                            shared.slice.record(start_ns, arrivals_ns, transits_ns, end_ns);
                            shared.last_ns = shared.last_ns.max(end_ns);
                        }
                        Err(failure) => {
                            shared.slice.fail(failure, 1);
                            shared.last_ns = now_ns();
                        }
                    }
                    shared.slice.reconnects += std::mem::take(&mut client.connects);
                }
                if result.is_err() {
                    tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                }
            }
            idle.borrow_mut().push(client);
        }
    }
}

/// Looks at the memory again and again.
async fn watch(pids: Vec<u32>, shared: Rc<RefCell<Shared>>) {
    loop {
        let now = Some(process::resident_bytes(&pids));
        {
            let seen = &mut shared.borrow_mut().slice.rss_bytes;
            *seen = now.max(*seen);
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

/// When the requests of a slice are to start, counted from its start.
fn schedule(rate: f64, arrivals: Arrivals, duration: Duration, mut random: Random) -> Vec<u64> {
    let end_ns = nanoseconds(duration);
    let mean_ns = 1e9 / rate;
    let mut at_ns = 0.0;
    let mut starts = Vec::new();
    loop {
        let gap_ns = match arrivals {
            Arrivals::Constant => mean_ns,
            Arrivals::Poisson => mean_ns * random.exponential(),
        };
        // Half a gap before the first, so that a slice holds rate × duration of them.
        at_ns +=
            if starts.is_empty() && arrivals == Arrivals::Constant { gap_ns / 2.0 } else { gap_ns };
        if at_ns >= end_ns as f64 {
            return starts;
        }
        starts.push(at_ns as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_arrivals_have_one_distance() {
        let starts = schedule(100.0, Arrivals::Constant, Duration::from_secs(1), Random::new(0, 0));
        assert_eq!(starts.len(), 100);
        assert!(starts.windows(2).all(|pair| pair[1] - pair[0] == 10_000_000));
        let none = schedule(0.1, Arrivals::Constant, Duration::from_secs(1), Random::new(0, 0));
        assert!(none.is_empty());
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_its_variance() {
        let starts =
            schedule(10_000.0, Arrivals::Poisson, Duration::from_secs(10), Random::new(3, 0));
        assert!(starts.len().abs_diff(100_000) < 1_500, "{}", starts.len());
        // Of a Poisson process the gaps' standard deviation is their mean.
        let gaps: Vec<f64> = starts.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.03);
        let again =
            schedule(10_000.0, Arrivals::Poisson, Duration::from_secs(10), Random::new(3, 0));
        assert_eq!(starts, again);
    }
}
