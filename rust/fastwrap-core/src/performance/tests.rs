use serde_json::{Value, json};

use super::*;
use crate::event::{ChoiceSet, Dialect, read};
use crate::usage::Usage;

mod engine;
mod gpu;

const MS: u64 = 1_000_000;

/// Every field, in the order in which it is written.
const FIELDS: [&str; 34] = [
    "latency_ms",
    "ttft_ms",
    "tpot_ms",
    "memory_delta_mb",
    "peak_memory_mb",
    "memory_start_mb",
    "memory_end_mb",
    "first_byte_ms",
    "first_chunk_ms",
    "first_answer_ms",
    "inter_chunk_ms",
    "chunks",
    "choices",
    "prompt_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "cached_tokens",
    "accepted_prediction_tokens",
    "token_source",
    "output_tokens_per_second",
    "proxy_overhead_ms",
    "engine",
    "host_memory",
    "energy_j",
    "attributed_energy_j",
    "energy_per_output_token_j",
    "gpu",
    "concurrent_requests",
    "measured_as",
    "backend",
    "request_id",
    "outcome",
    "error_type",
    "unavailable",
];

fn timeline(texts_ms: &[u64], usage: Option<Usage>) -> Timeline {
    let mut timeline = Timeline::new(100 * MS);
    for at_ms in texts_ms {
        let event = br#"{"choices":[{"index":0,"delta":{"content":"x"}}]}"#;
        timeline.bytes(at_ms * MS);
        timeline.event(&read(Dialect::Choices, event).unwrap(), at_ms * MS, 50 * MS);
    }
    if let Some(usage) = usage {
        timeline.count(usage, ChoiceSet::default(), false);
    }
    timeline
}

/// The block as JSON; every null in it has a reason, and every reason a null.
fn block(timeline: &Timeline, streamed: bool) -> Value {
    let mut performance = Performance::default();
    performance.set_outcome(Outcome::Complete, None);
    performance.set_timeline(timeline, streamed, None);
    performance.set_gpu(Err("no_gpu"));
    performance.set_engine(None);
    performance.set_host_memory(Err("engine_remote"));
    performance.without("proxy_overhead_ms", "not_sent");
    let block: Value = serde_json::from_slice(&performance.to_json()).unwrap();
    let members = block.as_object().unwrap();
    assert!(members.keys().eq(FIELDS), "{block}");
    let nulls: Vec<_> =
        members.iter().filter(|(_, value)| value.is_null()).map(|(key, _)| key).collect();
    let mut reasons: Vec<_> = members["unavailable"].as_object().unwrap().keys().collect();
    reasons.sort_by_key(|reason| FIELDS.iter().position(|field| field == reason));
    assert_eq!(nulls, reasons, "{block}");
    block
}

const USAGE: Usage = Usage {
    prompt: Some(7),
    completion: Some(11),
    reasoning: Some(0),
    cached: Some(4),
    accepted_prediction: None,
};

#[test]
fn a_stream_has_every_time_and_count() {
    let block = block(&timeline(&[130, 160, 230], Some(USAGE)), true);
    for (field, value) in [
        ("latency_ms", json!(130.0)),
        ("ttft_ms", json!(30.0)),
        ("tpot_ms", json!(10.0)),
        ("first_byte_ms", json!(30.0)),
        ("first_chunk_ms", json!(30.0)),
        ("first_answer_ms", json!(30.0)),
        ("chunks", json!(3)),
        ("prompt_tokens", json!(7)),
        ("completion_tokens", json!(11)),
        ("reasoning_tokens", json!(0)),
        ("cached_tokens", json!(4)),
        ("token_source", json!("usage")),
        ("output_tokens_per_second", json!(84.615)),
    ] {
        assert_eq!(block[field], value, "{field}");
    }
    let gaps = &block["inter_chunk_ms"];
    assert_eq!(
        (&gaps["mean"], &gaps["max"], &gaps["stalls"]),
        (&json!(50.0), &json!(70.0), &json!(1))
    );
    let order: Vec<_> =
        ["p50", "p90", "p99", "max"].iter().map(|name| gaps[name].as_f64().unwrap()).collect();
    assert!(order.is_sorted(), "{gaps}");
}

#[test]
fn several_choices_are_told_one_by_one() {
    let event = |index: u64| {
        let data = format!(r#"{{"choices":[{{"index":{index},"delta":{{"content":"x"}}}}]}}"#);
        read(Dialect::Choices, data.as_bytes()).unwrap()
    };
    let mut timeline = timeline(&[130], Some(USAGE));
    timeline.event(&event(1), 140 * MS, MS);
    timeline.event(&event(1), 150 * MS, MS);
    let told = block(&timeline, true);
    let wanted = json!([
        {"index": 0, "ttft_ms": 30.0, "chunks": 1},
        {"index": 1, "ttft_ms": 40.0, "chunks": 2},
    ]);
    assert_eq!((&told["choices"], &told["ttft_ms"]), (&wanted, &json!(30.0)));
    assert_eq!(told["unavailable"]["tpot_ms"], "fewer_than_2_chunks");
    for index in (0..100).rev() {
        timeline.event(&event(index), 160 * MS, MS);
    }
    let told = block(&timeline, true);
    assert_eq!(told["unavailable"]["inter_chunk_ms"], "too_many_choices");
    let indices: Vec<_> =
        told["choices"].as_array().unwrap().iter().map(|choice| choice["index"].as_u64()).collect();
    assert!(indices.into_iter().eq((0..16).map(Some)), "{told}");
}

#[test]
fn every_null_has_its_reason() {
    let reason = |timeline: &Timeline, streamed: bool, field: &str| {
        block(timeline, streamed)["unavailable"][field].as_str().map(str::to_owned)
    };
    let silent = timeline(&[], None);
    for (field, wanted) in [
        ("latency_ms", "no_answer"),
        ("first_byte_ms", "no_answer"),
        ("ttft_ms", "no_text"),
        ("tpot_ms", "no_text"),
        ("first_chunk_ms", "no_event"),
        ("first_answer_ms", "no_text"),
        ("inter_chunk_ms", "fewer_than_2_chunks"),
        ("choices", "no_text"),
        ("prompt_tokens", "no_usage"),
        ("cached_tokens", "no_usage"),
        ("accepted_prediction_tokens", "no_usage"),
        ("token_source", "no_usage"),
        ("output_tokens_per_second", "no_usage"),
        ("gpu", "no_gpu"),
        ("memory_delta_mb", "no_gpu"),
        ("engine", "not_reported"),
        ("host_memory", "engine_remote"),
    ] {
        assert_eq!(reason(&silent, true, field).as_deref(), Some(wanted), "{field}");
    }
    let prompt_only = timeline(&[110], Some(Usage { prompt: Some(1), ..Usage::default() }));
    for field in ["completion_tokens", "cached_tokens", "accepted_prediction_tokens"] {
        assert_eq!(reason(&prompt_only, true, field).as_deref(), Some("not_reported"), "{field}");
    }
    assert_eq!(
        reason(&prompt_only, true, "output_tokens_per_second").as_deref(),
        Some("not_reported")
    );
    assert_eq!(reason(&prompt_only, true, "choices").as_deref(), Some("single_choice"));
    let instant = timeline(&[100], Some(USAGE));
    assert_eq!(reason(&instant, true, "output_tokens_per_second").as_deref(), Some("no_answer"));
    for field in
        ["ttft_ms", "tpot_ms", "first_chunk_ms", "first_answer_ms", "inter_chunk_ms", "chunks"]
    {
        let collected = timeline(&[110, 120], Some(USAGE));
        assert_eq!(reason(&collected, false, field).as_deref(), Some("not_streamed"), "{field}");
    }
}

fn written(performance: &Performance) -> Value {
    serde_json::from_slice(&performance.to_json()).unwrap()
}

#[test]
fn server_timing_names_the_times_that_are_known() {
    let mut performance = Performance::default();
    assert_eq!(performance.to_server_timing(), "");
    performance.latency_ms = Some(12.5);
    performance.proxy_overhead_ms = Some(0.041);
    assert_eq!(performance.to_server_timing(), "total;dur=12.5, proxy;dur=0.041");
}

#[test]
fn outcomes_have_one_name_everywhere() {
    for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
        assert_eq!(outcome.index(), index);
        assert_eq!(serde_json::to_value(outcome).unwrap(), json!(outcome.name()));
    }
}

#[test]
fn a_field_has_one_reason() {
    let mut performance = Performance { request_id: "\"\n".to_owned(), ..Performance::default() };
    for (field, reason) in [("a", "first"), ("b", "other"), ("a", "last")] {
        performance.without(field, reason);
    }
    let block: Value = serde_json::from_slice(&performance.to_json()).unwrap();
    assert_eq!(block["unavailable"], json!({"a": "last", "b": "other"}));
    assert_eq!(block["request_id"], "\"\n", "what a client names is escaped");
}
