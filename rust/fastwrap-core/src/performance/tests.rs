use crate::memory::{DeviceWindow, Window};
use serde_json::json;

use super::*;
use crate::event::{Dialect, read};
use crate::profile::{EngineField, Profile};
use crate::samples;
use crate::usage::Usage;
use serde_json::Value;

const MS: u64 = 1_000_000;

/// Every field, in the order in which it is written.
const FIELDS: [&str; 27] = [
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
    "prompt_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "token_source",
    "output_tokens_per_second",
    "proxy_overhead_ms",
    "engine",
    "host_memory",
    "gpu",
    "concurrent_requests",
    "measured_as",
    "backend",
    "request_id",
    "outcome",
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
        timeline.count(usage, false);
    }
    timeline
}

/// The block as JSON; every null in it has a reason, and every reason a null.
fn block(timeline: &Timeline, streamed: bool) -> Value {
    let mut performance = Performance::default();
    performance.set_timeline(timeline, streamed);
    performance.set_memory(Err("no_gpu"));
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
    cached: None,
    accepted: None,
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
        ("prompt_tokens", "no_usage"),
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
    assert_eq!(reason(&prompt_only, true, "completion_tokens").as_deref(), Some("not_reported"));
    assert_eq!(
        reason(&prompt_only, true, "output_tokens_per_second").as_deref(),
        Some("not_reported")
    );
    let instant = timeline(&[100], Some(USAGE));
    assert_eq!(reason(&instant, true, "output_tokens_per_second").as_deref(), Some("no_answer"));
    for field in
        ["ttft_ms", "tpot_ms", "first_chunk_ms", "first_answer_ms", "inter_chunk_ms", "chunks"]
    {
        let collected = timeline(&[110, 120], Some(USAGE));
        assert_eq!(reason(&collected, false, field).as_deref(), Some("not_streamed"), "{field}");
    }
}

#[test]
fn memory_is_in_mib_and_per_device() {
    let device = |uuid: &str, start_bytes, peak_bytes, end_bytes| DeviceWindow {
        uuid: uuid.into(),
        start_bytes,
        end_bytes,
        peak_bytes,
    };
    let mut performance = Performance::default();
    performance.set_memory(Ok(Window {
        total: device("", 3 << 20, 9 << 20, 1 << 20),
        devices: vec![device("GPU-1", 3 << 20, (9 << 20) + 1024, 1 << 20)],
        samples: 4,
        interval_ns: Some(20 * MS),
    }));
    assert_eq!(performance.memory_delta_mb, Some(-2.0), "memory may fall");
    assert_eq!(performance.peak_memory_mb, Some(9.0));
    assert!(performance.unavailable.is_empty());
    let block: Value = serde_json::from_slice(&performance.to_json()).unwrap();
    let wanted = json!({
        "uuid": "GPU-1", "memory_start_mb": 3.0, "memory_end_mb": 1.0, "memory_peak_mb": 9.001,
        "memory_delta_mb": -2.0, "samples": 4, "sample_interval_ms": 20.0,
    });
    assert_eq!(block["gpu"], json!([wanted]));
}

fn window(series: [Option<[u64; 3]>; 3], samples: u64) -> samples::Window {
    let span = |[start, peak, end]: [u64; 3]| samples::Span { start, peak, end };
    samples::Window { series: series.map(|series| series.map(span)), samples }
}

fn written(performance: &Performance) -> Value {
    serde_json::from_slice(&performance.to_json()).unwrap()
}

#[test]
fn gauges_stand_beside_what_the_engine_says_of_the_request() {
    let profile = Profile {
        engine_member: Some("timings".to_owned()),
        engine_fields: vec![EngineField { from: "a".to_owned(), to: "a_ms".into(), scale: 1.0 }],
        ..Profile::default()
    };
    let numbers = EngineNumbers::read(&profile, br#"{"timings":{"a":7}}"#);
    let all = window(
        [
            Some([0, 250_000, 123_456]),
            Some([0, 3_000_000, 1_000_000]),
            Some([2_000_000, 2_000_000, 0]),
        ],
        4,
    );
    let gauges = json!({
        "kv_cache_usage": {"start": 0.0, "peak": 0.25, "end": 0.123456},
        "running": {"start": 0, "peak": 3, "end": 1},
        "waiting": {"start": 2, "peak": 2, "end": 0},
        "gauge_samples": 4,
    });
    for (numbers, gauges_known) in
        [(numbers.clone(), true), (numbers, false), (None, true), (None, false)]
    {
        let mut performance = Performance::default();
        let mut wanted = json!({});
        if numbers.is_some() {
            wanted["a_ms"] = json!(7);
        }
        performance.set_engine(numbers);
        if gauges_known {
            wanted.as_object_mut().unwrap().extend(gauges.as_object().unwrap().clone());
            performance.set_gauges(Ok(all.clone()));
        } else {
            performance.set_gauges(Err("stale"));
        }
        let block = written(&performance);
        let reasons = &block["unavailable"];
        if wanted == json!({}) {
            assert_eq!(
                (&block["engine"], &reasons["engine"]),
                (&Value::Null, &"not_reported".into())
            );
        } else {
            assert_eq!((&block["engine"], &reasons["engine"]), (&wanted, &Value::Null));
        }
        for name in ["engine.kv_cache_usage", "engine.running", "engine.waiting"] {
            let reason = if gauges_known { Value::Null } else { json!("stale") };
            assert_eq!(reasons[name], reason);
        }
    }
}

#[test]
fn a_gauge_that_the_engine_does_not_have_is_null_with_its_reason() {
    let mut performance = Performance::default();
    performance.set_engine(None);
    performance.set_gauges(Ok(window([None, Some([0; 3]), Some([0; 3])], 1)));
    let block = written(&performance);
    assert_eq!(block["engine"]["kv_cache_usage"], Value::Null);
    assert_eq!(block["unavailable"], json!({"engine.kv_cache_usage": "not_offered"}));
}

#[test]
fn the_memory_of_the_engines_processes_has_names_of_its_own() {
    let mut performance = Performance::default();
    let mib = 1 << 20;
    let rss = Some([3 * mib, 9 * mib + 1024, mib]);
    performance.set_host_memory(Ok(window([rss, Some([2, 3, 2]), None], 5)));
    let wanted = json!({
        "rss_start_mb": 3.0, "rss_end_mb": 1.0, "rss_peak_mb": 9.001, "rss_delta_mb": -2.0,
        "processes": 3, "samples": 5,
    });
    assert_eq!(written(&performance)["host_memory"], wanted);
}

#[test]
fn the_engines_own_numbers_are_scaled_and_renamed() {
    let field =
        |from: &str, to: &str, scale| EngineField { from: from.to_owned(), to: to.into(), scale };
    let profile = Profile {
        engine_member: Some("timings".to_owned()),
        engine_fields: vec![
            field("prompt_ns", "prefill_ms", 1e-6),
            field("cache_n", "cached_tokens", 1.0),
            field("absent", "never", 1.0),
            field("word", "never", 1.0),
        ],
        ..Profile::default()
    };
    let data =
        br#"{"choices":[],"timings":{"prompt_ns":1234567,"cache_n":4,"word":"x","other":1}}"#;
    let numbers =
        EngineNumbers::read(&profile, data).map(|numbers| serde_json::to_value(numbers).unwrap());
    assert_eq!(numbers, Some(json!({"prefill_ms": 1.235, "cached_tokens": 4})));
    for data in [
        &br#"{"timings":null}"#[..],
        br#"{"timings":{}}"#,
        br#"{"a":1}"#,
        b"timings",
        br#"["timings"]"#,
    ] {
        assert_eq!(EngineNumbers::read(&profile, data), None);
    }
    assert_eq!(EngineNumbers::read(&Profile::default(), data), None);
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
