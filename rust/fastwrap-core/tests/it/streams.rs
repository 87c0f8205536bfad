//! Every engine's stream through the proxy: nothing changes but the block, however the stream is cut.

use fastwrap_core::performance::Outcome;
use serde_json::Value;

use crate::CUT_STEP;
use crate::engines::{Engine, engines};
use crate::proxy::{Answer, Got, check_block, events, exchange, headers, meter, without_blocks};

const CHAT: &str = "/v1/chat/completions";
const PLAIN: &str = r#"{"stream":true}"#;
const ASKED: &str = r#"{"stream":true,"stream_options":{"include_usage":true}}"#;

fn run(engine: &Engine, request: &str, pieces: Vec<&[u8]>) -> Got {
    let headers = headers(&[("content-type", "text/event-stream; charset=utf-8"), ("etag", "x")]);
    let meter = meter("body", engine.profile.clone());
    exchange(&meter, CHAT, request, Answer { status: 200, headers, pieces })
}

/// The chunk that fastwrap alone asked for, and the usage of the others, taken out by hand.
fn without_usage(engine: &Engine) -> Vec<Value> {
    let mut events = events(engine.stream.as_bytes());
    if !engine.profile.stream_usage {
        return events;
    }
    let mut moved = serde_json::Map::new();
    let mut kept = Vec::new();
    for mut event in events.drain(..).rev() {
        if event["choices"].as_array().is_some_and(Vec::is_empty) {
            moved = event.as_object().unwrap().clone();
            continue;
        }
        if engine.profile.usage_in_chunks && event.is_object() {
            event.as_object_mut().unwrap().shift_remove("usage");
        }
        if event["choices"][0]["finish_reason"].is_string() {
            for (key, value) in std::mem::take(&mut moved) {
                if key != "usage" && event.get(&key).is_none() {
                    event[key] = value;
                }
            }
        }
        kept.push(event);
    }
    kept.reverse();
    kept
}

#[test]
fn a_client_that_asks_for_usage_sees_every_byte_and_one_block() {
    for engine in engines() {
        let got = run(&engine, ASKED, vec![engine.stream.as_bytes()]);
        assert_eq!(got.request, ASKED);
        assert_eq!(got.outcome, Outcome::Complete, "{}", engine.name);
        assert!(got.headers.get("etag").is_none());
        let (left, blocks) = without_blocks(&got.body);
        assert_eq!(String::from_utf8(left).unwrap(), engine.stream, "{}", engine.name);
        assert_eq!(blocks.len(), 1, "{}", engine.name);
        check_block(&blocks[0]);
        let all = events(&got.body);
        let last = all.iter().rposition(|event| event.get("choices").is_some()).unwrap();
        assert!(all[last].get("performance").is_some(), "{}: in the last event", engine.name);
    }
}

#[test]
fn a_client_that_does_not_ask_sees_what_it_would_see_directly() {
    for engine in engines() {
        let got = run(&engine, PLAIN, vec![engine.stream.as_bytes()]);
        assert_eq!(got.request != PLAIN, engine.profile.stream_usage, "{}", engine.name);
        let (left, blocks) = without_blocks(&got.body);
        assert_eq!(blocks.len(), 1, "{}", engine.name);
        assert_eq!(events(&left), without_usage(&engine), "{}", engine.name);
        assert!(
            !String::from_utf8_lossy(&left).contains("\n\n\n"),
            "{}: a stray blank line",
            engine.name
        );
    }
}

#[test]
fn the_output_does_not_depend_on_the_cut() {
    for engine in engines() {
        for request in [PLAIN, ASKED] {
            let stream = engine.stream.as_bytes();
            let untimed = |got: &Got| (without_blocks(&got.body).0, got.outcome);
            let place =
                |got: &Got| memchr::memmem::find(&got.body, b"\"performance\"").unwrap_or_default();
            let whole = run(&engine, request, vec![stream]);
            for at in (0..=stream.len()).step_by(CUT_STEP) {
                let (left, right) = stream.split_at(at);
                let pieces = [left, right].into_iter().filter(|piece| !piece.is_empty()).collect();
                let cut = run(&engine, request, pieces);
                assert!(untimed(&cut) == untimed(&whole), "{} cut at {at}", engine.name);
                assert_eq!(place(&cut), place(&whole), "{} cut at {at}", engine.name);
            }
            let bytes = run(&engine, request, stream.chunks(1).collect());
            assert_eq!((untimed(&bytes), place(&bytes)), (untimed(&whole), place(&whole)));
        }
    }
}

#[test]
fn a_stream_that_lacks_its_end_is_incomplete_and_says_so() {
    for engine in engines() {
        let stream = engine.stream.replace("data: [DONE]\n\n", "").replace("data:[DONE]\n\n", "");
        let got = run(&engine, ASKED, vec![stream.as_bytes()]);
        let wanted = if engine.profile.done { Outcome::Incomplete } else { Outcome::Complete };
        assert_eq!(got.outcome, wanted, "{}", engine.name);
        let (left, blocks) = without_blocks(&got.body);
        assert_eq!(left, stream.as_bytes(), "nothing is invented");
        assert_eq!(blocks[0]["outcome"], wanted.name());
        // Without the blank line behind [DONE] it is complete all the same, and the block agrees.
        let tail = stream + "data: [DONE]";
        let got = run(&engine, ASKED, vec![tail.as_bytes()]);
        let (left, blocks) = without_blocks(&got.body);
        assert_eq!((left.as_slice(), got.outcome), (tail.as_bytes(), Outcome::Complete));
        assert_eq!(blocks[0]["outcome"], "complete");
    }
}

#[test]
fn the_numbers_are_those_of_the_stream() {
    for engine in engines() {
        let pieces: Vec<_> = engine.stream.split_inclusive("\n\n").map(str::as_bytes).collect();
        let (_, blocks) = without_blocks(&run(&engine, PLAIN, pieces).body);
        let (block, name) = (&blocks[0], engine.name);
        let tokens = if name == "llamacpp" {
            9
        } else if name == "vllm" {
            4
        } else {
            2
        };
        assert_eq!(block["completion_tokens"], tokens, "{name}");
        assert_eq!(block["prompt_tokens"], if name == "ollama" { 52 } else { 5 }, "{name}");
        assert_eq!(block["backend"], name);
        // Received at 2 ms, first byte at 10 ms, an event each millisecond.
        assert_eq!(block["first_byte_ms"], 8.0, "{name}");
        let first_text = match name {
            "vllm" | "sglang" | "tensorrt" => 10.0,
            "transformers" | "llamacpp" => 9.0,
            _ => 8.0,
        };
        assert_eq!(block["ttft_ms"], first_text, "{name}");
    }
}
