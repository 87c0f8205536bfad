use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fastwrap_engine::{Engine, Flavor, Options};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::prompt::tests::settings;
use crate::settings::{Arrivals, Load};
use crate::slice::Slice;

/// A simulated engine that lives as long as the test's runtime.
async fn engine(options: Options) -> SocketAddr {
    let engine = Engine::bind("127.0.0.1", 0, options).await.unwrap();
    let address = engine.local_addr();
    tokio::spawn(engine.serve(std::future::pending()));
    address
}

/// A server whose `n`-th answer, from 0 and over all connections, is what `answer` gives.
async fn scripted<F>(answer: impl Fn(u32) -> F + Send + Sync + 'static) -> SocketAddr
where
    F: Future<Output = Option<String>> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shared = std::sync::Arc::new((answer, std::sync::atomic::AtomicU32::new(0)));
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let shared = shared.clone();
            tokio::spawn(async move {
                while request(&mut stream).await {
                    let n = shared.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(answer) = shared.0(n).await else { return };
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    address
}

/// Reads one request; `false` at the connection's end.
async fn request(stream: &mut TcpStream) -> bool {
    let mut read = Vec::new();
    loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).to_lowercase();
            let length = head.split("content-length: ").nth(1).unwrap();
            let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
            if read.len() >= end + 4 + length {
                return true;
            }
        }
        if !matches!(stream.read_buf(&mut read).await, Ok(1..)) {
            return false;
        }
    }
}

fn json_answer(text: &str, header: &str) -> String {
    let body = json!({"choices": [{"index": 0, "message": {"content": text}}]});
    answer(&body.to_string(), header)
}

fn answer(body: &str, header: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{header}\r\n{body}", body.len())
}

fn target(name: &str, address: SocketAddr) -> Target {
    Target::new(name, &format!("http://{address}"), Some(std::process::id())).unwrap()
}

fn on(addresses: &[SocketAddr], settings: Settings) -> Settings {
    let names = ["direct", "other", "third"];
    let targets = names.iter().zip(addresses).map(|(name, address)| target(name, *address));
    Settings { targets: targets.collect(), model: Some("tiny".to_owned()), ..settings }
}

async fn measured(settings: Settings) -> Result<Report, BenchError> {
    LocalSet::new().run_until(measure(settings, &mut |_| true)).await
}

fn only(report: &Report) -> &Slice {
    assert_eq!((report.slices.len(), report.slices[0].len()), (1, 1));
    &report.slices[0][0]
}

#[tokio::test]
async fn a_closed_loop_counts_what_was_answered() {
    let address = engine(Options::default()).await;
    for mode in [Mode::Json, Mode::Sse] {
        let load = Load::Closed { concurrency: 3 };
        let settings = on(&[address; 3], Settings { mode, load, warmup: 1, ..settings() });
        let mut seen = Vec::new();
        let mut progress = |progress: Progress<'_>| {
            seen.push((progress.done, progress.round, progress.target.to_owned()));
            assert_eq!(progress.total, 12);
            true
        };
        let report = LocalSet::new().run_until(measure(settings, &mut progress)).await.unwrap();
        assert_eq!(seen.len(), 13);
        assert!(
            seen.iter().zip(0..).all(|(seen, done)| seen.0 == done && seen.1 == done.min(11) / 3)
        );
        for (order, round) in report.orders.iter().zip(seen[3..].chunks(3)) {
            let names = order.iter().map(|index| &report.settings.targets[*index].name);
            assert!(names.eq(round.iter().map(|slice| &slice.2)));
        }
        for slice in report.slices.iter().flatten() {
            assert!(slice.requests >= 3 && slice.errors.is_empty(), "{slice:?}");
            assert_eq!(slice.latency.count(), slice.requests);
            let streams = if mode == Mode::Sse { slice.requests } else { 0 };
            assert_eq!((slice.chunks, slice.ttft.count()), (streams * 16, streams));
            assert_eq!(slice.icl.count(), streams * 15);
            assert!(slice.elapsed_ns >= 50_000_000 && slice.reconnects == 0);
            #[cfg(target_os = "linux")]
            assert!(slice.cpu_ns.unwrap() > 0 && slice.rss_bytes.unwrap() > 0);
        }
    }
}

#[tokio::test]
async fn every_engine_is_understood() {
    for flavor in Flavor::ALL {
        let address = engine(Options { flavor, ..Options::default() }).await;
        for path in ["/v1/chat/completions", "/v1/completions"] {
            let settings =
                Settings { mode: Mode::Sse, path: path.to_owned(), rounds: 1, ..settings() };
            let settings = Settings { model: None, ..on(&[address], settings) };
            match measured(settings).await {
                Ok(report) => {
                    assert_eq!(report.model, "tiny");
                    let slice = only(&report);
                    assert!(
                        slice.requests > 0 && slice.errors.is_empty(),
                        "{flavor} {path}: {slice:?}"
                    );
                }
                // Not every engine has completions.
                Err(error) => {
                    assert!(error.to_string().contains("status 404"), "{flavor}: {error}")
                }
            }
        }
    }
}

/// Which time in a hundred ends within that of `quantile`, in ms.
fn quantile_ms(slice: &Slice, quantile: f64) -> u64 {
    slice.latency.quantile_ns(quantile).unwrap() / 1_000_000
}

#[tokio::test]
async fn an_open_loop_counts_what_a_stalled_server_delays() {
    // The preflight asks twice, so that the 22nd answer is the 20th of the slice.
    let stall = |n| async move {
        if n == 22 {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        Some(json_answer("text", ""))
    };
    let load = Load::Open { rate: 200.0, arrivals: Arrivals::Constant, concurrency: 1 };
    let duration = Duration::from_millis(500);
    let settings = Settings { rounds: 1, duration, ..settings() };
    let report =
        measured(on(&[scripted(stall).await], Settings { load, ..settings.clone() })).await;
    let report = report.unwrap();
    let open = only(&report);
    assert_eq!((open.requests, open.late.count()), (100, 100));
    // 60 requests should have started during the stall: the first waited for 300 ms, the last for 5.
    assert!(quantile_ms(open, 0.99) >= 285, "{open:?}");
    assert!(quantile_ms(open, 0.90) >= 200);
    // Who waits for the answer sees one slow request, and nothing in the 99th percentile of the others.
    let report = measured(on(&[scripted(stall).await], settings)).await.unwrap();
    let closed = only(&report);
    assert!(closed.requests > 200 && quantile_ms(closed, 0.99) < 285, "{closed:?}");
}

#[tokio::test]
async fn an_open_loop_opens_connections_as_it_needs_them() {
    let ttft = Duration::from_millis(30);
    let address = engine(Options { ttft, ..Options::default() }).await;
    let load = Load::Open { rate: 400.0, arrivals: Arrivals::Poisson, concurrency: 50 };
    let duration = Duration::from_millis(200);
    let settings = Settings { load, mode: Mode::Sse, duration, rounds: 2, ..settings() };
    let report = measured(on(&[address; 2], settings)).await.unwrap();
    for round in 0..2 {
        let [first, second] = [0, 1].map(|index| &report.slices[index][round]);
        assert!(first.requests > 40 && first.errors.is_empty(), "{first:?}");
        assert_eq!(first.requests, second.requests, "the same arrivals for both");
        assert!(first.ttft.quantile_ns(0.5).unwrap() >= 30_000_000);
    }
    assert!(report.slices[0][0].reconnects > 3, "{:?}", report.slices[0][0]);
    assert_ne!(report.slices[0][0].requests, report.slices[0][1].requests);
}

#[tokio::test]
async fn clients_begin_one_after_another_within_the_ramp() {
    let arrivals = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&arrivals);
    // Longer than ramp and slice together, so that each client asks once.
    let slow = move |n| {
        seen.lock().unwrap().push(Instant::now());
        async move {
            if n > 1 {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Some(json_answer("text", ""))
        }
    };
    let (load, ramp) = (Load::Closed { concurrency: 4 }, Duration::from_millis(100));
    let settings = Settings { load, ramp, rounds: 1, ..settings() };
    let report = measured(on(&[scripted(slow).await], settings)).await.unwrap();
    let slice = only(&report);
    assert_eq!((slice.requests, slice.open), (4, 4));
    assert!(slice.elapsed_ns >= 200_000_000 && slice.own_cpu_ns > 0);
    let arrivals = arrivals.lock().unwrap();
    // The preflight's two come first.
    for (arrival, step) in arrivals[2..].iter().zip(0..) {
        assert!(*arrival - arrivals[1] >= ramp / 4 * step, "{step}");
    }
}

#[tokio::test]
async fn the_way_of_events_is_known_where_they_are_stamped() {
    let address = engine(Options::default()).await;
    let settings = Settings { mode: Mode::Sse, rounds: 1, ..settings() };
    let plain = measured(on(&[address], settings.clone())).await.unwrap();
    assert_eq!(only(&plain).transit.count(), 0);
    let stamped = measured(on(&[address], Settings { transit: true, ..settings })).await.unwrap();
    let slice = only(&stamped);
    // The first event, with the role, and the last one, without text, have stamps, too.
    assert_eq!(slice.transit.count(), slice.chunks + 2 * slice.requests);
    assert!(slice.transit.quantile_ns(0.5) < slice.latency.quantile_ns(0.5));
}

#[tokio::test]
async fn another_answer_is_refused_before_anything_is_measured() {
    let first = engine(Options::default()).await;
    for mode in [Mode::Json, Mode::Sse] {
        let other = engine(Options { seed: 1, ..Options::default() }).await;
        let settings = on(&[first, other], Settings { mode, ..settings() });
        let error = measured(settings.clone()).await.unwrap_err().to_string();
        assert!(error.starts_with("other: its answer is not that of direct"), "{error}");
        let report = measured(Settings { check: Check::Status, ..settings }).await;
        assert!(report.is_ok());
    }
    let coarse = engine(Options { tokens_per_chunk: 2, ..Options::default() }).await;
    let settings = on(&[first, coarse], Settings { mode: Mode::Sse, ..settings() });
    let error = measured(settings.clone()).await.unwrap_err().to_string();
    assert!(error.contains("8 events with text, not 16"), "{error}");
    assert!(measured(Settings { check: Check::Content, ..settings }).await.is_ok());
}

#[tokio::test]
async fn a_wrong_answer_in_the_middle_does_not_count() {
    let address = scripted(|n| async move {
        match n {
            0..10 => Some(json_answer("right", "")),
            10 => Some(json_answer("wrong", "")),
            11 => Some("HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\n{}".to_owned()),
            12 => Some(answer("no JSON", "")),
            13 => None,
            _ => Some(json_answer("right", "connection: close\r\n")),
        }
    });
    let settings = Settings { rounds: 1, duration: Duration::from_millis(200), ..settings() };
    let report = measured(on(&[address.await], settings)).await.unwrap();
    let slice = only(&report);
    let kinds: Vec<_> =
        slice.errors.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    assert_eq!(kinds, ["closed 1", "status_503 1", "malformed 1", "wrong_content 1"], "{slice:?}");
    assert!(slice.requests > 8 && slice.latency.count() == slice.requests);
    assert!(slice.reconnects > 1);
}

#[tokio::test]
async fn who_never_answers_times_out() {
    let address = scripted(|n| async move {
        if n > 3 {
            std::future::pending::<()>().await;
        }
        Some(json_answer("text", ""))
    });
    let load = Load::Closed { concurrency: 2 };
    let settings = Settings { load, rounds: 1, timeout: Duration::from_millis(50), ..settings() };
    let report = measured(on(&[address.await], settings)).await.unwrap();
    let slice = only(&report);
    assert_eq!((slice.requests, slice.errors.get(&Failure::Timeout)), (2, Some(&2)));
}

#[tokio::test]
async fn what_is_wrong_with_a_target_is_said_with_what_to_do() {
    let address = engine(Options::default()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let right = on(&[address], settings());
    for (settings, wanted) in [
        (on(&[nobody], settings()), "cannot be reached: Connection refused"),
        (Settings { path: "/v1/nonsense".to_owned(), ..right.clone() }, "Correct --path"),
        (Settings { request_bytes: Some(5), ..right.clone() }, "too short"),
        (
            Settings { reference: Some("x".to_owned()), ..right.clone() },
            "no target; they are direct",
        ),
        (Settings { reference: Some("direct".to_owned()), ..right.clone() }, "adds nothing"),
        (Settings { rounds: 0, ..right.clone() }, "must be a round"),
        (Settings { targets: vec![right.targets[0].clone(); 2], ..right.clone() }, "two targets"),
        (Settings { targets: Vec::new(), ..right.clone() }, "no target"),
    ] {
        let error = match settings.validate() {
            Ok(()) => measured(settings).await.unwrap_err(),
            Err(error) => error,
        };
        assert!(error.to_string().contains(wanted), "{error}");
    }
    let mut gone = right;
    gone.targets[0].pid = Some(u32::MAX / 4);
    let error = measured(gone).await.unwrap_err().to_string();
    assert!(error.contains("cannot be watched"), "{error}");
}

#[tokio::test]
async fn who_watches_may_stop_it() {
    let address = engine(Options::default()).await;
    let mut stop = |progress: Progress<'_>| progress.done < 1;
    let result = LocalSet::new().run_until(measure(on(&[address], settings()), &mut stop)).await;
    assert!(matches!(result, Err(BenchError::Stopped)));
}
