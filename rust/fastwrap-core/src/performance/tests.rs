use crate::gpu::{DeviceWindow, Energy, EnergyMethod, Memory, Summary, Window};
use serde_json::json;

use super::*;
use crate::event::{ChoiceSet, Dialect, read};
use crate::profile::{EngineField, Profile};
use crate::samples;
use crate::usage::Usage;
use serde_json::Value;

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

/// A device of which everything is known.
fn device(uuid: &str) -> DeviceWindow {
    let summary = |mean, peak| Ok(Summary { mean, peak });
    DeviceWindow {
        uuid: uuid.into(),
        memory: Ok(Memory {
            start_bytes: 3 << 20,
            end_bytes: 1 << 20,
            peak_bytes: (9 << 20) + 1024,
        }),
        reserved_bytes: Ok(512 << 20),
        energy: Ok(Energy {
            device_uj: 400_000_000,
            attributed_uj: 100_000_400,
            window_ns: 800 * MS,
            method: EnergyMethod::Counter,
        }),
        power_mw: summary(450_500.0, 700_000),
        power_method: Ok("instant"),
        utilization_percent: summary(62.5, 99),
        temperature_c: summary(60.5, 61),
        sm_clock_mhz: summary(1900.5, 1980),
        throttle_reasons: Ok(vec!["sw_power_cap"]),
    }
}

fn window(devices: Vec<DeviceWindow>) -> Window {
    let total = Memory { start_bytes: 3 << 20, end_bytes: 1 << 20, peak_bytes: 9 << 20 };
    let interval_ns = Some(20 * MS);
    Window { total: Ok(total), devices, samples: 4, interval_ns, largest_gap_ns: 31 * MS }
}

#[test]
fn what_a_gpu_did_is_said_in_the_units_of_the_names() {
    let mut performance = Performance { completion_tokens: Some(30), ..Performance::default() };
    performance.set_gpu(Ok(window(vec![device("GPU-1")])));
    assert_eq!(performance.memory_delta_mb, Some(-2.0), "memory may fall");
    assert_eq!(performance.peak_memory_mb, Some(9.0));
    assert_eq!(performance.energy_j, Some(400.0));
    assert_eq!(performance.attributed_energy_j, Some(100.0));
    assert_eq!(performance.energy_per_output_token_j, Some(3.333_347));
    assert!(performance.unavailable.is_empty());
    let block: Value = serde_json::from_slice(&performance.to_json()).unwrap();
    let wanted = json!({
        "uuid": "GPU-1", "memory_start_mb": 3.0, "memory_end_mb": 1.0, "memory_peak_mb": 9.001,
        "memory_delta_mb": -2.0, "memory_reserved_mb": 512.0, "samples": 4, "sample_interval_ms": 20.0,
        "largest_gap_ms": 31.0, "energy_j": 400.0, "attributed_energy_j": 100.0, "energy_window_ms": 800.0,
        "energy_method": "counter", "power_mean_w": 450.5, "power_peak_w": 700.0, "power_method": "instant",
        "utilization": 0.625, "temperature_max_c": 61, "sm_clock_mean_mhz": 1900.5,
        "throttle_reasons": ["sw_power_cap"], "unavailable": {},
    });
    assert_eq!(block["gpu"], json!([wanted]));
}

fn sampled(series: [Option<[u64; 3]>; 3], samples: u64) -> samples::Window {
    let span = |[start, peak, end]: [u64; 3]| samples::Span { start, peak, end };
    samples::Window { series: series.map(|series| series.map(span)), samples }
}

fn written(performance: &Performance) -> Value {
    serde_json::from_slice(&performance.to_json()).unwrap()
}

#[test]
fn gauges_stand_beside_what_the_engine_says_of_the_request() {
    let profile = Profile {
        engine_members: vec!["timings".to_owned()],
        engine_fields: vec![EngineField { from: "a".to_owned(), to: "a_ms".into(), scale: 1.0 }],
        ..Profile::default()
    };
    let numbers = EngineNumbers::read(&profile, br#"{"timings":{"a":7}}"#);
    let all = sampled(
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
    performance.set_gauges(Ok(sampled([None, Some([0; 3]), Some([0; 3])], 1)));
    let block = written(&performance);
    assert_eq!(block["engine"]["kv_cache_usage"], Value::Null);
    assert_eq!(block["unavailable"], json!({"engine.kv_cache_usage": "not_offered"}));
}

#[test]
fn the_memory_of_the_engines_processes_has_names_of_its_own() {
    let mut performance = Performance::default();
    let mib = 1 << 20;
    let rss = Some([3 * mib, 9 * mib + 1024, mib]);
    performance.set_host_memory(Ok(sampled([rss, Some([2, 3, 2]), None], 5)));
    let wanted = json!({
        "rss_start_mb": 3.0, "rss_end_mb": 1.0, "rss_peak_mb": 9.001, "rss_delta_mb": -2.0,
        "processes": 3, "samples": 5,
    });
    assert_eq!(written(&performance)["host_memory"], wanted);
}

#[test]
fn every_null_of_a_gpu_has_its_reason() {
    let broken = DeviceWindow {
        uuid: "MIG-1".into(),
        memory: Err("not_supported"),
        reserved_bytes: Err("version_mismatch"),
        energy: Err("mig_unsupported"),
        power_mw: Err("gpu_lost"),
        power_method: Err("gpu_lost"),
        utilization_percent: Err("mig_unsupported"),
        temperature_c: Err("no_permission"),
        sm_clock_mhz: Err("window_too_short"),
        throttle_reasons: Err("unknown_error"),
    };
    let mut performance = Performance { completion_tokens: Some(30), ..Performance::default() };
    let lacking = Window { samples: 0, interval_ns: None, ..window(vec![device("GPU-1"), broken]) };
    performance.set_gpu(Ok(Window { total: Err("not_supported"), ..lacking }));
    let block: Value = serde_json::from_slice(&performance.to_json()).unwrap();
    let members = block["gpu"][1].as_object().unwrap();
    let nulls = members.iter().filter(|(_, value)| value.is_null()).map(|(key, _)| key.as_str());
    let reasons = members["unavailable"].as_object().unwrap();
    let (mut nulls, mut reasons): (Vec<_>, Vec<_>) =
        (nulls.collect(), reasons.keys().map(String::as_str).collect());
    nulls.sort_unstable();
    reasons.sort_unstable();
    assert_eq!(nulls, reasons);
    assert_eq!(members["unavailable"]["energy_window_ms"], "mig_unsupported");
    assert_eq!(members["unavailable"]["memory_reserved_mb"], "version_mismatch");
    assert_eq!(members["unavailable"]["sample_interval_ms"], "window_too_short");
    for (field, reason) in [
        ("peak_memory_mb", "not_supported"),
        ("memory_start_mb", "not_supported"),
        ("energy_j", "mig_unsupported"),
        ("attributed_energy_j", "mig_unsupported"),
        ("energy_per_output_token_j", "mig_unsupported"),
    ] {
        assert_eq!((&block[field], &block["unavailable"][field]), (&Value::Null, &json!(reason)));
    }
}

#[test]
fn energy_per_token_needs_tokens() {
    let known = Some("usage");
    for (tokens, source, reason) in
        [(Some(0), known, "no_tokens"), (None, known, "not_reported"), (None, None, "no_usage")]
    {
        let mut performance = Performance {
            completion_tokens: tokens,
            token_source: source,
            ..Performance::default()
        };
        performance.set_gpu(Ok(window(vec![device("GPU-1"), device("GPU-2")])));
        assert_eq!(performance.energy_j, Some(800.0), "the sum over the devices");
        let block: Value = serde_json::from_slice(&performance.to_json()).unwrap();
        assert_eq!(block["unavailable"], json!({ "energy_per_output_token_j": reason }));
    }
}

#[test]
fn the_engines_own_numbers_are_scaled_and_renamed() {
    let profile = Profile {
        engine_members: vec!["timings".to_owned()],
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

fn field(from: &str, to: &str, scale: f64) -> EngineField {
    EngineField { from: from.to_owned(), to: to.into(), scale }
}

#[test]
fn numbers_that_lie_deeper_are_found_by_their_path() {
    let profile = Profile {
        engine_members: vec!["choices.meta".to_owned()],
        engine_fields: vec![
            field("timing.ttft_ms", "ttft_ms", 1.0),
            field("timing.inner.n", "n", 2.0),
            field("rate", "rate", 1.0),
        ],
        ..Profile::default()
    };
    let read_all = |choices: &str| {
        let data = format!(r#"{{"a":1,"choices":{choices}}}"#);
        let numbers = EngineNumbers::read(&profile, data.as_bytes());
        assert_eq!(numbers, EngineNumbers::read_member(&profile, b"choices", choices.as_bytes()));
        numbers.map(|numbers| serde_json::to_value(numbers).unwrap())
    };
    let read = |member: &str| {
        let found = read_all(&format!(r#"[{{"meta":{member}}}]"#));
        assert_eq!(read_all(&format!(r#"{{"x":[],"meta":{member}}}"#)), found);
        found
    };
    for none in
        [r#"[{"meta":{"rate":1}},{"meta":{"rate":1}}]"#, r#""meta""#, r#"["meta"]"#, "[]", "{}"]
    {
        assert_eq!(read_all(none), None, "{none}");
    }
    let all = r#"{"ttft_ms":9,"rate":0.1234567,"timing":{"n":9,"inner":{"n":3},"ttft_ms":1.5},"x":{"timing":{"ttft_ms":7}}}"#;
    assert_eq!(read(all), Some(json!({"ttft_ms": 1.5, "n": 6.0, "rate": 0.123})));
    for other in [
        r#"{"timing":3}"#,
        r#"{"timing":[{"ttft_ms":1}]}"#,
        r#"{"timing":{"ttft_ms":null,"inner":[]}}"#,
        r#"{"timing":{"ttft_ms":{"x":1}},"rate":{"rate":1}}"#,
        r#"{"timing.ttft_ms":"1"}"#,
    ] {
        assert_eq!(read(other), None, "{other}");
    }
}

#[test]
fn the_engines_own_times_are_compared_with_ours() {
    let profile = Profile {
        engine_headers: vec![
            field("x-total-time", "latency_ms", 1.0),
            field("x-compute-time", "ttft_ms", 1e3),
            field("x-none", "never", 1.0),
            field("x-word", "never", 1.0),
        ],
        ..Profile::default()
    };
    let headers = |pairs: &[(&'static str, &'static str)]| {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
        };
        EngineNumbers::of_headers(&profile, &pairs.iter().map(pair).collect())
    };
    let told = [("x-total-time", "120"), ("x-compute-time", "0.0225"), ("x-word", "3 ms")];
    let compared = |streamed: bool, numbers: Option<EngineNumbers>| {
        let mut performance = Performance::default();
        performance.set_timeline(&timeline(&[130, 230], None), streamed, None);
        performance.set_engine(numbers);
        serde_json::to_value(performance.engine).unwrap()
    };
    let wanted = json!({
        "latency_ms": 120, "ttft_ms": 22.5, "ttft_difference_ms": 7.5, "latency_difference_ms": 10.0,
    });
    assert_eq!(compared(true, headers(&told)), wanted);
    let wanted = json!({"ttft_ms": 22.5});
    assert_eq!(
        compared(false, headers(&told[1..])),
        wanted,
        "no stream has no time to first token"
    );
    assert_eq!(headers(&[("x-word", "3"), ("x-none", "")]).map(|_| ()), Some(()));
    assert_eq!(headers(&[]), None);
    assert_eq!(compared(true, None), Value::Null);
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
