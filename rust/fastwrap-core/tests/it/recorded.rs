//! Answers recorded from real engines (`tests/streams/<engine>/`), replayed through the proxy.

use std::path::{Path, PathBuf};

use fastwrap_core::performance::Outcome;
use fastwrap_core::route::Route;
use http::{HeaderMap, Method};
use serde_json::{Map, Value, json};

use crate::checks;
use crate::engines::profile_of;
use crate::proxy::{Answer, Got, check_block, events, exchange, headers, meter, without_blocks};

struct Case {
    engine: String,
    name: String,
    path: String,
    request: String,
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Case {
    fn is_stream(&self) -> bool {
        self.headers["content-type"].to_str().unwrap().starts_with("text/event-stream")
    }

    fn run(&self, request: &str, size: usize) -> Got {
        let meter = meter("body", profile_of(&self.engine));
        let pieces = self.body.chunks(size).collect();
        let answer = Answer { status: self.status, headers: self.headers.clone(), pieces };
        exchange(&meter, &self.path, request, answer)
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/streams")
}

fn read_case(engine: &Path, name: &str, case: &Value) -> Option<Case> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pairs: Vec<(String, String)> = serde_json::from_value(case["headers"].clone()).ok()?;
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Some(Case {
        engine: engine.file_name()?.to_string_lossy().into_owned(),
        name: name.to_owned(),
        path: text(&case["path"]),
        request: text(&case["request"]),
        status: u16::try_from(case["status"].as_u64()?).ok()?,
        headers: headers(&pairs),
        body: std::fs::read(engine.join(text(&case["file"]))).ok()?,
    })
}

/// Every recorded answer to a measured route.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(folder()).into_iter().flatten() {
        let engine = entry.unwrap().path();
        let Ok(text) = std::fs::read(engine.join("cases.json")) else { continue };
        let all: Map<String, Value> = serde_json::from_slice(&text).unwrap();
        cases.extend(all.iter().filter_map(|(name, case)| read_case(&engine, name, case)));
    }
    assert!(cases.len() > 100 || !folder().exists(), "{} recordings only", cases.len());
    cases.retain(|case| Route::of(&Method::POST, &case.path).is_some());
    cases
}

fn asks_for_usage(request: &str) -> bool {
    let request: Value = serde_json::from_str(request).unwrap_or_default();
    request["stream_options"]["include_usage"] == true
}

#[test]
fn every_answer_passes_with_one_block_or_untouched() {
    for case in cases() {
        let what = format!("{}/{}", case.engine, case.name);
        let got = case.run(&case.request, usize::MAX);
        let (left, blocks) = without_blocks(&got.body);
        if case.status >= 400 {
            assert_eq!((left, blocks.len(), got.outcome), (case.body, 0, Outcome::Error), "{what}");
            continue;
        }
        assert_eq!(got.outcome, Outcome::Complete, "{what}");
        assert_eq!(blocks.len(), 1, "{what}");
        check_block(&blocks[0]);
        if let Some(length) = got.headers.get("content-length") {
            assert_eq!(length.to_str().unwrap(), got.body.len().to_string(), "{what}");
        }
        if !case.is_stream() || asks_for_usage(&case.request) {
            assert!(left == case.body, "{what}: {}", String::from_utf8_lossy(&left));
        }
        for size in [1, 7, 1000] {
            let cut = case.run(&case.request, size);
            assert!(without_blocks(&cut.body).0 == left, "{what} in pieces of {size}");
        }
    }
}

/// Ids, times and measured numbers differ from one recording to the next.
fn normalised(value: &mut Value) {
    let blanks =
        [("id", json!("")), ("created", json!(0)), ("timings", json!({})), ("metrics", json!({}))];
    for (key, blank) in blanks {
        if let Some(value) = value.get_mut(key) {
            *value = blank;
        }
    }
    match value {
        Value::Object(members) => members.values_mut().for_each(normalised),
        Value::Array(items) => items.iter_mut().for_each(normalised),
        _ => {}
    }
}

/// Joins what stands in one chunk here and in two there: SGLang merges tokens when its reader lags.
fn joined(events: Vec<Value>) -> Vec<Value> {
    let mut out: Vec<(Value, String)> = Vec::new();
    for mut event in events {
        let text = ["/choices/0/delta/content", "/choices/0/text"].iter().find_map(|place| {
            let text = event.pointer_mut(place)?;
            text.is_string().then(|| text.take())
        });
        let text = text.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
        match out.last_mut() {
            Some((last, texts)) if *last == event => texts.push_str(&text),
            _ => out.push((event, text)),
        }
    }
    out.into_iter().map(|(event, text)| json!([event, text])).collect()
}

/// The engine was recorded with usage and without: a client that did not ask must see the second.
#[test]
fn stripping_gives_what_the_engine_sends_without_usage() {
    let cases = cases();
    for with in cases.iter().filter(|case| case.name.ends_with("-usage") && case.is_stream()) {
        let plain_name = with.name.trim_end_matches("-usage");
        let same = |case: &&Case| case.engine == with.engine && case.name == plain_name;
        let Some(plain) = cases.iter().find(same).filter(|case| case.is_stream()) else { continue };
        let what = format!("{}/{}", with.engine, with.name);
        let (left, _) = without_blocks(&with.run(&plain.request, usize::MAX).body);
        let mut got = events(&left);
        let mut wanted = events(&plain.body);
        for event in got.iter_mut().chain(&mut wanted) {
            normalised(event);
        }
        if with.name.contains("n2") {
            // Sampled, so the texts differ, and how many chunks they take.
            let alone = |event: &&Value| event["choices"].as_array().is_some_and(Vec::is_empty);
            let count = |events: &[Value]| events.iter().filter(alone).count();
            assert_eq!(count(&got), count(&wanted), "{what}");
            continue;
        }
        assert_eq!(joined(got), joined(wanted), "{what}");
    }
}

#[test]
fn any_settings_and_any_cut_give_the_same_bytes() {
    for engine in std::fs::read_dir(folder()).into_iter().flatten() {
        let path = engine.unwrap().path();
        for file in std::fs::read_dir(&path).into_iter().flatten() {
            let path = file.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "sse") {
                continue;
            }
            let body = std::fs::read(path).unwrap();
            for choice in [0_u8, 2, 3, 16, 76, 144] {
                checks::stream::check(&[&[choice], body.as_slice()].concat());
            }
            checks::sse::check(&body);
        }
    }
}

#[test]
fn every_recorded_event_is_read_as_its_tree_is() {
    for case in cases() {
        let events = if case.is_stream() { events(&case.body) } else { Vec::new() };
        for event in events {
            checks::event::check(event.to_string().as_bytes());
            checks::splice::check(event.to_string().as_bytes());
        }
        checks::event::check(&case.body);
        checks::splice::check(&case.body);
        checks::request::check(case.request.as_bytes());
    }
}
