//! Answers recorded from real engines (`tests/streams/<engine>/`), replayed through the proxy.

use std::path::{Path, PathBuf};

use fastwrap_core::performance::Outcome;
use fastwrap_core::profile::{EngineField, Profile};
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
    // Miri reads those of the engines' own APIs; what the others show it, `streams.rs` does.
    cases.retain(|case| {
        Route::of(&Method::POST, &case.path).is_some()
            && (!cfg!(miri) || case.name.starts_with("native-"))
    });
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
        for size in if cfg!(miri) { [7].as_slice() } else { &[1, 7, 1000] } {
            let cut = case.run(&case.request, *size);
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
#[cfg_attr(miri, ignore = "half a megabyte, seven times; the corpus walks the same code")]
fn any_settings_and_any_cut_give_the_same_bytes() {
    for engine in std::fs::read_dir(folder()).into_iter().flatten() {
        let path = engine.unwrap().path();
        for file in std::fs::read_dir(&path).into_iter().flatten() {
            let path = file.unwrap().path();
            let choices: &[u8] = match path.extension().and_then(|extension| extension.to_str()) {
                Some("sse") => &[0, 1, 2, 3, 16, 76, 144],
                Some("ndjson") => &[129, 193],
                _ => continue,
            };
            let body = std::fs::read(path).unwrap();
            for choice in choices {
                checks::stream::check(&[&[*choice], body.as_slice()].concat());
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

/// Tokens, the event with the first text, and a number of the engine's own: what each of its own APIs tells.
#[test]
fn the_engines_own_apis_are_measured() {
    let cases = cases();
    for (name, tokens, first_text, number) in [
        ("native-ollama-chat", (52, 8), None, json!(2.067)),
        ("native-ollama-chat-stream", (52, 8), Some(0), json!(167.91)),
        ("native-ollama-generate-stream", (51, 8), Some(0), json!(3.509)),
        ("native-sglang-generate", (2, 8), None, json!(6.656)),
        // Until then its characters are not whole.
        ("native-sglang-generate-stream", (2, 8), Some(7), json!(10.698)),
        ("native-llamacpp-completion", (2, 8), None, json!(0.408)),
        ("native-llamacpp-completion-stream", (2, 8), Some(0), json!(0.676)),
    ] {
        let case = cases.iter().find(|case| case.name == name).unwrap();
        let meter = meter("body", with_numbers(&case.engine));
        let pieces = case.body.split_inclusive(|byte| *byte == b'\n').collect();
        let answer = Answer { status: case.status, headers: case.headers.clone(), pieces };
        let got = exchange(&meter, &case.path, &case.request, answer);
        let (left, blocks) = without_blocks(&got.body);
        assert_eq!((left == case.body, got.outcome), (true, Outcome::Complete), "{name}");
        let block = &blocks[0];
        check_block(block);
        assert_eq!(
            (&block["prompt_tokens"], &block["completion_tokens"]),
            (&json!(tokens.0), &json!(tokens.1))
        );
        let own = &block["engine"];
        let found = own.get("generation_ms").or_else(|| own.get("ttft_ms"));
        assert_eq!(found, Some(&number), "{name}: {own}");
        // A line each millisecond, the first 8 ms after the request; the second of two ends an event of SSE.
        let last_line = |event: u32| if case.is_stream() { 2 * event + 1 } else { event };
        let first_ms = first_text.map(|event| f64::from(8 + last_line(event)));
        assert_eq!(block["ttft_ms"].as_f64(), first_ms, "{name}");
    }
}

fn with_numbers(engine: &str) -> Profile {
    let (members, fields): (&[&str], &[(&str, &str, f64)]) = match engine {
        "ollama" => (&[""], &[("eval_duration", "generation_ms", 1e-6)]),
        "sglang" => {
            (&["choices.meta_info", "meta_info"], &[("first_token_latency", "ttft_ms", 1e3)])
        }
        _ => (&["timings"], &[("predicted_ms", "generation_ms", 1.0)]),
    };
    let field = |(from, to, scale): &(&str, &str, f64)| EngineField {
        from: (*from).to_owned(),
        to: (*to).into(),
        scale: *scale,
    };
    Profile {
        engine_members: members.iter().map(ToString::to_string).collect(),
        engine_fields: fields.iter().map(field).collect(),
        ..profile_of(engine)
    }
}

/// A stream of its own API that breaks off is told in its own form, and one that ends early is no success.
#[test]
fn the_engines_own_apis_end_as_they_should() {
    let head = |kind: &str| headers(&[("content-type", kind)]);
    for (path, kind, stream, outcome) in [
        (
            "/api/chat",
            "application/x-ndjson",
            "{\"message\":{\"content\":\"a\"},\"done\":false}\n",
            Outcome::Incomplete,
        ),
        ("/api/chat", "application/x-ndjson", "{\"error\":\"m\"}\n", Outcome::Error),
        (
            "/api/generate",
            "application/x-ndjson",
            "{\"response\":\"a\",\"done\":true}",
            Outcome::Complete,
        ),
        (
            "/generate_stream",
            "text/event-stream",
            "data:{\"token\":{\"text\":\"a\"},\"generated_text\":null}\n\n",
            Outcome::Incomplete,
        ),
        (
            "/generate_stream",
            "text/event-stream",
            "data:{\"error\":\"m\",\"error_type\":\"t\"}\n\n",
            Outcome::Error,
        ),
        (
            "/generate_stream",
            "text/event-stream",
            "data:{\"index\":3,\"token\":{\"text\":\"a\"},\"generated_text\":\"a\"}\n\n",
            Outcome::Complete,
        ),
    ] {
        let meter = meter("body", profile_of("ollama"));
        let answer = Answer { status: 200, headers: head(kind), pieces: vec![stream.as_bytes()] };
        let got = exchange(&meter, path, "{}", answer);
        let (left, blocks) = without_blocks(&got.body);
        assert_eq!((left, got.outcome), (stream.as_bytes().to_vec(), outcome), "{stream}");
        // Without its line feed the last line passes as it is.
        let carries = outcome == Outcome::Complete && stream.ends_with('\n');
        assert_eq!(blocks.len(), usize::from(carries), "{stream}");
    }
}
