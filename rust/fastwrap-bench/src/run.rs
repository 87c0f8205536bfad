//! A whole run: answers compared first, then rounds.

use std::rc::Rc;

use bytes::Bytes;
use serde_json::Value;
use tokio::task::LocalSet;

use crate::answer::{Answer, Failure};
use crate::client::{Client, Endpoint};
use crate::error::BenchError;
use crate::load::Driver;
use crate::process;
use crate::prompt;
use crate::random::Random;
use crate::report::Report;
use crate::settings::{Check, Mode, Settings};
use crate::target::Target;

/// Purposes of random numbers.
const ORDER: u64 = 1;
const ARRIVALS: u64 = 2;

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// Slices that are over.
    pub done: u32,
    /// Slices in all.
    pub total: u32,
    /// The round that comes, from 1; 0 in the warm-up.
    pub round: u32,
    /// The target that comes; empty when all is done.
    pub target: &'a str,
}

/// Measures; `progress` is told before each slice, never in the middle of one, and returns whether to go on.
///
/// # Errors
/// If a setting cannot be used, a target cannot be reached, or answers what the baseline does not.
pub fn run(
    settings: Settings,
    progress: &mut dyn FnMut(Progress<'_>) -> bool,
) -> Result<Report, BenchError> {
    settings.validate()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, measure(settings, progress))
}

pub(crate) async fn measure(
    settings: Settings,
    progress: &mut dyn FnMut(Progress<'_>) -> bool,
) -> Result<Report, BenchError> {
    let (model, drivers) = prepare(&settings).await?;
    let rounds = settings.warmup.saturating_add(settings.rounds);
    let total = rounds.saturating_mul(u32::try_from(drivers.len()).unwrap_or(u32::MAX));
    let mut report = Report {
        slices: vec![Vec::new(); drivers.len()],
        idle_rss_bytes: drivers.iter().map(|driver| driver.idle_rss_bytes).collect(),
        orders: Vec::new(),
        settings,
        model,
    };
    let settings = &report.settings;
    let mut shuffler = Random::new(settings.seed, ORDER);
    let mut done = 0;
    for round in 0..rounds {
        let mut order: Vec<usize> = (0..drivers.len()).collect();
        shuffler.shuffle(&mut order);
        for index in &order {
            let (Some(driver), Some(target)) = (drivers.get(*index), settings.targets.get(*index))
            else {
                continue;
            };
            let number = (round + 1).saturating_sub(settings.warmup);
            if !progress(Progress { done, total, round: number, target: &target.name }) {
                return Err(BenchError::Stopped);
            }
            // The same arrivals for every target of a round.
            let arrivals = Random::new(settings.seed ^ u64::from(round).rotate_left(32), ARRIVALS);
            let slice = driver.slice(settings, arrivals).await;
            done += 1;
            if round >= settings.warmup
                && let Some(slices) = report.slices.get_mut(*index)
            {
                slices.push(slice);
            }
        }
        if round >= settings.warmup {
            report.orders.push(order);
        }
    }
    if !progress(Progress { done, total, round: settings.rounds, target: "" }) {
        return Err(BenchError::Stopped);
    }
    Ok(report)
}

/// Looks at every target once: it is there, it answers, and it answers what the baseline does.
async fn prepare(settings: &Settings) -> Result<(String, Vec<Driver>), BenchError> {
    let mut model = settings.model.clone();
    let mut baseline: Option<(&Target, Seen)> = None;
    let mut drivers = Vec::new();
    for target in &settings.targets {
        if let Some(pid) = target.pid {
            let missing =
                |error| problem(target, format!("its process {pid} cannot be watched: {error}"));
            process::usage(pid).map_err(missing)?;
        }
        let address = target.resolve().await.map_err(|error| unreachable(target, &error))?;
        let endpoint = |body| Endpoint::new(settings, target, address.clone(), body).map(Rc::new);
        let asked = match &model {
            Some(model) => model.clone(),
            None => first_model(settings, target, endpoint(Bytes::new())?).await?,
        };
        let body = prompt::body(settings, &asked)?;
        model = Some(asked);
        let endpoint = endpoint(body)?;
        let mut client = Client::new(Rc::clone(&endpoint), settings.mode);
        let seen = look(settings, target, &mut client).await?;
        let expected = match &baseline {
            None => {
                let again = look(settings, target, &mut client).await?;
                seen.compare(&again, settings.check).map_err(|difference| {
                    problem(target, format!(
                        "the same question got two answers: {difference}. If that is how this engine is, compare less: \
                         --check content, or --check status"
                    ))
                })?;
                &baseline.insert((target, seen)).1
            }
            Some((first, expected)) => {
                expected.compare(&seen, settings.check).map_err(|difference| {
                    problem(target, format!(
                        "its answer is not that of {}: {difference}. The same engine must stand behind all targets; if \
                         its answers vary, compare less: --check content, or --check status",
                        first.name
                    ))
                })?;
                expected
            }
        };
        let expected = Rc::new(expected.answer.clone());
        drivers.push(Driver::new(endpoint, expected, settings, target.pid));
    }
    Ok((model.unwrap_or_default(), drivers))
}

fn problem(target: &Target, problem: String) -> BenchError {
    BenchError::Target { name: target.name.clone(), problem }
}

fn unreachable(target: &Target, error: &std::io::Error) -> BenchError {
    let url = &target.url;
    problem(target, format!("{url} cannot be reached: {error}. Start it, or correct its URL"))
}

/// An answer, and how it begins.
struct Seen {
    answer: Answer,
    sample: String,
}

impl Seen {
    /// Says what is different, as a sentence for people.
    fn compare(&self, other: &Self, check: Check) -> Result<(), String> {
        other.answer.verify(&self.answer, check).map_err(|failure| match failure {
            Failure::Events => {
                format!("{} events with text, not {}", other.answer.chunks, self.answer.chunks)
            }
            Failure::NoEnd if self.answer.done => "it does not end with [DONE]".to_owned(),
            Failure::NoEnd => "it ends with [DONE]".to_owned(),
            _ => format!("{:?}…, not {:?}…", other.sample, self.sample),
        })
    }
}

/// Asks a target once.
async fn look(
    settings: &Settings,
    target: &Target,
    client: &mut Client,
) -> Result<Seen, BenchError> {
    client.prepare().await.map_err(|error| unreachable(target, &error))?;
    client.reader.digest.sample = Some(String::new());
    client.shown = Some(Vec::new());
    let limit = settings.duration + settings.timeout;
    let result = tokio::time::timeout(limit, client.ask()).await.unwrap_or(Err(Failure::Timeout));
    let sample = client.reader.digest.sample.take().unwrap_or_default();
    let shown = client.shown.take().unwrap_or_default();
    let shown = String::from_utf8_lossy(&shown);
    let shown = shown.trim();
    let (answer, _) = result.map_err(|failure| {
        let path = &settings.path;
        problem(target, match failure {
            Failure::Connect => format!("{} cannot be reached. Start it, or correct its URL", target.url),
            Failure::Closed => format!("it closed the connection before its answer to {path} was whole"),
            Failure::Timeout => format!("no answer within {} s; see --timeout", limit.as_secs_f64()),
            Failure::Status(status) => format!(
                "it answers {path} with status {status}: {shown}\nCorrect --path, --model or --header"
            ),
            Failure::Error => format!("it answers {path} with an error: {shown}"),
            _ => format!("its answer to {path} is no {}: {shown}", match settings.mode {
                Mode::Json => "JSON object",
                Mode::Sse => "stream of events with JSON",
            }),
        })
    })?;
    if answer.chunks == 0 && settings.mode == Mode::Sse {
        return Err(problem(target, format!("its answer has no text: {shown}")));
    }
    Ok(Seen { answer, sample })
}

/// Asks the baseline which model it has.
async fn first_model(
    settings: &Settings,
    target: &Target,
    endpoint: Rc<Endpoint>,
) -> Result<String, BenchError> {
    let unknown =
        || problem(target, "it does not say which model it has: give --model NAME".to_owned());
    let request = endpoint.models(target).map_err(|_| unknown())?;
    let mut client = Client::new(endpoint, Mode::Json);
    client.prepare().await.map_err(|error| unreachable(target, &error))?;
    let answer = client.fetch(request);
    let body =
        tokio::time::timeout(settings.timeout, answer).await.ok().flatten().ok_or_else(unknown)?;
    let list: Value = serde_json::from_slice(&body).map_err(|_| unknown())?;
    let first = list.pointer("/data/0/id").and_then(Value::as_str);
    first.map(str::to_owned).ok_or_else(unknown)
}

#[cfg(test)]
mod tests;
