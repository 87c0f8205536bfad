//! What the engine says, and what is sampled of it, in the block.

use super::*;
use crate::profile::{EngineField, Profile};
use crate::samples;

fn sampled(series: [Option<[u64; 3]>; 3], samples: u64) -> samples::Window {
    let span = |[start, peak, end]: [u64; 3]| samples::Span { start, peak, end };
    samples::Window { series: series.map(|series| series.map(span)), samples }
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
