//! JSON requests that are measured as streams.

use std::sync::Arc;

use fastwrap_core::assemble::Template;
use fastwrap_core::counters::{Counters, private_cells};
use fastwrap_core::meter::{Meter, Settings};
use fastwrap_core::performance::Outcome;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::CUT_STEP;
use crate::checks::assemble::{TEMPLATE, assembled, check, form};
use crate::engines::{Engine, engines};
use crate::proxy::{self, Answer, Got, check_block, exchange, headers, without_blocks};

fn meter(engine: &Engine) -> Arc<Meter> {
    let settings = Settings { json_as_stream: true, ..proxy::settings("body") };
    let meter = Meter::new(settings, Counters::new(private_cells()));
    let mut profile = engine.profile.clone();
    profile.json_form = Some(form());
    meter.set_profile(profile);
    Arc::new(meter)
}

fn run(engine: &Engine, pieces: Vec<&[u8]>) -> Got {
    let headers = headers(&[("content-type", "text/event-stream; charset=utf-8")]);
    let answer = Answer { status: 200, headers, pieces };
    exchange(&meter(engine), "/v1/chat/completions", r#"{"messages":[]}"#, answer)
}

#[test]
fn every_stream_becomes_one_answer_however_it_is_cut() {
    for engine in engines() {
        let stream = engine.stream.as_bytes();
        let whole = run(&engine, vec![stream]);
        assert_eq!(whole.outcome, Outcome::Complete, "{}", engine.name);
        let (left, blocks) = without_blocks(&whole.body);
        assert_eq!(blocks.len(), 1);
        check_block(&blocks[0]);
        let answer: Value = serde_json::from_slice(&left).unwrap();
        assert_eq!(answer["object"], "chat.completion");
        assert!(
            answer["choices"][0]["message"]["content"].as_str().is_some_and(|it| !it.is_empty())
        );
        for at in (0..=stream.len()).step_by(CUT_STEP) {
            let (left_part, right) = stream.split_at(at);
            let pieces = [left_part, right].into_iter().filter(|piece| !piece.is_empty()).collect();
            let cut = run(&engine, pieces);
            assert_eq!(cut.outcome, whole.outcome);
            assert!(without_blocks(&cut.body).0 == left, "{} cut at {at}", engine.name);
        }
        let bytes = run(&engine, stream.chunks(1).collect());
        assert!(without_blocks(&bytes.body).0 == left, "{} in bytes", engine.name);
    }
}

#[test]
fn the_numbers_are_those_of_the_stream() {
    for engine in engines() {
        let pieces: Vec<_> = engine.stream.split_inclusive("\n\n").map(str::as_bytes).collect();
        let (_, blocks) = without_blocks(&run(&engine, pieces.clone()).body);
        let answer = Answer {
            status: 200,
            headers: headers(&[("content-type", "text/event-stream")]),
            pieces,
        };
        let request = r#"{"stream":true,"stream_options":{"include_usage":true}}"#;
        let streamed = exchange(&meter(&engine), "/v1/chat/completions", request, answer);
        let (_, streamed) = without_blocks(&streamed.body);
        for field in [
            "ttft_ms",
            "first_byte_ms",
            "first_chunk_ms",
            "first_answer_ms",
            "chunks",
            "measured_as",
        ] {
            assert_eq!(blocks[0][field], streamed[0][field], "{}: {field}", engine.name);
        }
        assert_eq!(blocks[0]["completion_tokens"], streamed[0]["completion_tokens"]);
        assert_eq!(blocks[0]["measured_as"], "stream");
    }
}

#[test]
fn a_stream_without_its_end_is_an_error_and_incomplete() {
    for engine in engines().into_iter().filter(|engine| engine.profile.done) {
        let stream = engine.stream.replace("data: [DONE]\n\n", "").replace("data:[DONE]\n\n", "");
        let got = run(&engine, vec![stream.as_bytes()]);
        assert_eq!(got.outcome, Outcome::Incomplete, "{}", engine.name);
        let error: Value = serde_json::from_slice(&got.body).unwrap();
        assert_eq!(error["error"]["code"], "engine_closed_connection");
        assert_eq!(got.headers["content-length"], got.body.len().to_string());
    }
}

#[test]
#[cfg_attr(miri, ignore = "reads 89 MiB, which the limits are")]
fn what_is_too_large_is_an_error() {
    let vllm = &engines()[0];
    let part = json!({"choices": [{"index": 0, "delta": {"content": "x".repeat(8 << 20)}}]});
    let part = format!("data: {part}\n\n");
    let stream = part.repeat(9) + "data: [DONE]\n\n";
    let event = format!("data: {}\n\ndata: [DONE]\n\n", " ".repeat(17 << 20));
    for stream in [stream, event] {
        let got = run(vllm, vec![stream.as_bytes()]);
        let error: Value = serde_json::from_slice(&got.body).unwrap();
        assert_eq!(error["error"]["code"], "stream_not_assembled");
        assert_eq!(got.outcome, Outcome::Error);
    }
}

#[test]
fn a_template_is_an_object_with_a_choice() {
    assert!(Template::new(TEMPLATE).is_ok());
    for text in ["", "[]", "{}", r#"{"choices":[]}"#, r#"{"choices":[1]}"#, r#"{"choices":[{}]"#] {
        assert!(Template::new(text).is_err(), "{text}");
    }
    for text in [r#"{"choices":[{}]}x"#, r#"{"choices":null}"#, r#"{"usage":{"choices":[{}]}}"#] {
        assert!(Template::new(text).is_err(), "{text}");
    }
}

#[test]
fn more_choices_than_any_engine_gives_are_none() {
    let event =
        |index| json!({"choices": [{"index": index, "delta": {"content": "a"}}]}).to_string();
    let events: Vec<_> = (0..1025).map(event).collect();
    let answer = |count| assembled(events.iter().take(count).map(String::as_bytes));
    let told: Value = serde_json::from_slice(&answer(1024).unwrap()).unwrap();
    assert_eq!(told["choices"].as_array().unwrap().len(), 1024);
    assert_eq!(answer(1025), None);
}

/// Texts with all that JSON escapes, and characters of every length.
fn texts() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[a-z\"\\\\\n\u{0}\u{1f}\u{7f}é中😀]{0,6}", 0..12)
}

proptest! {
    #[test]
    fn a_text_is_its_parts(parts in texts()) {
        let event = |part: &String| json!({"choices": [{"index": 0, "delta": {"content": part}}]});
        let events: Vec<_> = parts.iter().map(|part| event(part).to_string()).collect();
        let answer = assembled(events.iter().map(String::as_bytes));
        let answer: Option<Value> = answer.map(|answer| serde_json::from_slice(&answer).unwrap());
        let told = answer.map(|answer| answer["choices"][0]["message"]["content"].clone());
        prop_assert_eq!(told, (!parts.is_empty()).then(|| Value::String(parts.concat())));
    }

    #[test]
    fn a_character_may_be_cut_between_its_escapes(parts in texts(), at in any::<prop::sample::Index>()) {
        let ascii: String = parts.concat().encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        let (left, right) = ascii.split_at(at.index(ascii.len() / 6 + 1) * 6);
        let event = |part: &str| format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"{part}"}}}}]}}"#);
        let events = [event(left), event(right)];
        let answer = assembled(events.iter().map(String::as_bytes)).unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        prop_assert_eq!(&answer["choices"][0]["message"]["content"], &Value::String(parts.concat()));
    }

    #[test]
    fn any_members_make_the_answer_of_the_twin(events in prop::collection::vec(events(), 1..6)) {
        check(events.join("\n").as_bytes());
    }
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..5_u64).prop_map(Value::from),
        "[a\"é]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        let key = prop::sample::select(vec!["details", "cached", "total_tokens", "x"]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..3).prop_map(object),
        ]
    })
}

fn object(members: Vec<(&'static str, Value)>) -> Value {
    members
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn members(names: &'static [&'static str]) -> impl Strategy<Value = Value> {
    prop::collection::vec((prop::sample::select(names), values()), 0..5).prop_map(object)
}

fn events() -> impl Strategy<Value = String> {
    let choice = (
        0..3_u64,
        members(&["content", "reasoning", "role", "new", "refusal"]),
        members(&["finish_reason", "text", "message", "logprobs", "delta"]),
    );
    let choice = choice.prop_map(|(index, delta, mut rest)| {
        rest["index"] = index.into();
        if rest.get("delta").is_none() {
            rest["delta"] = delta;
        }
        rest
    });
    let rest = members(&["id", "usage", "object", "service_tier", "more"]);
    (prop::collection::vec(choice, 0..3), rest).prop_map(|(choices, mut rest)| {
        rest["choices"] = choices.into();
        rest.to_string()
    })
}
