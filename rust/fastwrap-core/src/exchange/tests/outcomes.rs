//! How a request ends, and that it is counted once.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::counters::Cells;

#[test]
fn errors_of_the_engine_pass_and_count_as_errors() {
    let meter = meter("body");
    for status in [400, 404, 429, 500, 503] {
        let mut exchange = begin(&meter, CHAT, &[]).unwrap();
        let mut response = headers(&[("content-type", "application/json"), ("etag", "e")]);
        let plan = exchange.response(StatusCode::from_u16(status).unwrap(), &mut response);
        assert_eq!((plan, response.contains_key("etag")), (Plan::Forward, true));
        assert_eq!(feed(&mut exchange, "{\"error\":{}}"), "{\"error\":{}}");
        assert_eq!(finish(&mut exchange, None), "");
    }
    assert_eq!(outcomes(&meter, CHAT), [0, 5, 0, 0]);
    for body in [r#"{"error":{"message":"m"}}"#, r#"{"object":"error","message":"m","code":404}"#] {
        let out = collected(&meter, &mut headers(&[("content-type", "application/json")]), body);
        assert!(out.contains("\"outcome\":\"error\""), "{out}");
    }
    assert_eq!(outcomes(&meter, CHAT), [0, 7, 0, 0]);
}

#[test]
fn an_error_inside_a_stream_counts_as_one() {
    let meter = meter("body");
    let mut exchange = streaming(&meter);
    let error = "data: {\"error\":{\"message\":\"m\"}}\n\n";
    let mut out = feed(&mut exchange, &[TEXT, error, DONE].concat());
    out += &finish(&mut exchange, None);
    assert_eq!(out, [TEXT, error, DONE].concat());
    assert_eq!(outcomes(&meter, CHAT), [0, 1, 0, 0]);
}

#[test]
fn a_break_between_events_gives_one_error_event() {
    for (target, start) in [
        (CHAT, "data: {"),
        ("/v1/responses", "event: error\ndata: {\"type\":\"error\""),
        ("/v1/messages", "event: error\ndata: {"),
    ] {
        for before in ["", TEXT, FINISH] {
            let meter = meter("body");
            let mut exchange = begin(&meter, target, &[]).unwrap();
            exchange
                .response(StatusCode::OK, &mut headers(&[("content-type", "text/event-stream")]));
            let mut out = vec![feed(&mut exchange, before).into()];
            assert_eq!(exchange.fail(Fault::EngineClosed, 12 * MS, &mut out), Broken::Told);
            let out = String::from_utf8(out.concat()).unwrap();
            let event = out.strip_prefix(before).unwrap();
            assert!(event.starts_with(start) && event.ends_with("\n\n"), "{event}");
            assert_eq!(event.matches("data:").count(), 1);
            let data = event.split_once("data: ").unwrap().1;
            let error: Value = serde_json::from_str(data).unwrap();
            assert_eq!(error["error"]["code"], "engine_closed_connection");
            assert_eq!(outcomes(&meter, target), [0, 1, 0, 0]);
        }
    }
}

#[test]
fn a_break_inside_an_event_aborts_with_all_that_has_arrived() {
    let whole = [TEXT, FINISH].concat();
    for at in (0..whole.len()).step_by(if cfg!(miri) { TEXT.len() / 2 } else { 1 }) {
        let (before, _) = whole.split_at(at);
        let meter = meter("body");
        let mut exchange = streaming(&meter);
        let mut out = vec![Bytes::from(feed(&mut exchange, before))];
        let broken = exchange.fail(Fault::IdleTimeout, 12 * MS, &mut out);
        let between = at == 0 || at == TEXT.len();
        assert_eq!(broken, if between { Broken::Told } else { Broken::Abort }, "at {at}");
        let out = String::from_utf8(out.concat()).unwrap();
        assert!(out.starts_with(before), "at {at}");
        assert_eq!(out.len() == at, !between, "nothing is added before an abort");
        assert_eq!(outcomes(&meter, CHAT), [0, 1, 0, 0]);
    }
}

#[test]
fn a_break_behind_an_error_adds_no_second_one() {
    let meter = meter("body");
    let mut exchange = streaming(&meter);
    let error = "data: {\"error\":\"m\"}\n\n";
    assert_eq!(feed(&mut exchange, error), error);
    let mut out = Vec::new();
    assert_eq!(exchange.fail(Fault::EngineClosed, 12 * MS, &mut out), Broken::Told);
    assert!(out.is_empty());
}

#[test]
fn a_body_that_is_no_stream_can_only_be_aborted() {
    let meter = meter("none");
    for kind in ["application/json", "text/html"] {
        let (mut exchange, _) = answering(&meter, &mut headers(&[("content-type", kind)]));
        assert_eq!(feed(&mut exchange, "{\"a\""), "{\"a\"");
        let mut out = Vec::new();
        assert_eq!(exchange.fail(Fault::EngineClosed, 12 * MS, &mut out), Broken::Abort);
        assert!(out.is_empty());
    }
    assert_eq!(outcomes(&meter, CHAT), [0, 2, 0, 0]);
}

#[test]
fn a_dropped_exchange_was_cancelled_once() {
    let meter = meter("body");
    drop(begin(&meter, CHAT, &[]).unwrap());
    let mut waiting = begin(&meter, CHAT, &[]).unwrap();
    waiting.body(Bytes::from_static(b"{}"), 2 * MS);
    assert_eq!(meter.in_flight(), 1);
    drop(waiting);
    let mut exchange = streaming(&meter);
    feed(&mut exchange, TEXT);
    drop(exchange);
    drop(answering(&meter, &mut headers(&[("content-type", "application/json")])));
    drop(begin(&meter, "/v1/models", &[]).unwrap());
    assert_eq!(outcomes(&meter, CHAT), [0, 0, 4, 0]);
    assert_eq!(outcomes(&meter, "/v1/models"), [0, 0, 1, 0]);
    assert_eq!(meter.in_flight(), 0);
}

#[test]
fn whatever_ended_is_not_counted_again_when_dropped() {
    let meter = meter("body");
    let mut exchange = streaming(&meter);
    feed(&mut exchange, &[FINISH, DONE].concat());
    finish(&mut exchange, None);
    drop(exchange);
    let mut exchange = begin(&meter, CHAT, &[]).unwrap();
    let response = exchange.refuse(Fault::Unreachable, 4 * MS);
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    drop(exchange);
    let mut exchange = streaming(&meter);
    exchange.fail(Fault::EngineClosed, 4 * MS, &mut Vec::new());
    exchange.finish(5 * MS, None, &mut Vec::new());
    drop(exchange);
    assert_eq!(outcomes(&meter, CHAT), [1, 2, 0, 0]);
    assert_eq!(meter.in_flight(), 0);
}

#[test]
fn limits_are_faults_and_are_counted() {
    let meter = meter("body");
    fn refusal(meter: &Arc<Meter>, name: &'static str, value: &str) -> Option<StatusCode> {
        begin(meter, CHAT, &[(name, value)]).err().map(|answer| answer.status())
    }
    let length = |length: &str| refusal(&meter, "content-length", length);
    assert_eq!((length("100"), length("101")), (None, Some(Fault::BodyTooLarge.status())));
    let long = "x".repeat(200);
    assert_eq!(refusal(&meter, "x-long", &long), Some(Fault::HeadersTooLarge.status()));
    let two = [begin(&meter, CHAT, &[]), begin(&meter, "/v1/models", &[])];
    assert!(two.iter().all(Result::is_ok));
    assert_eq!(refusal(&meter, "x-short", ""), Some(Fault::Overloaded.status()));
    drop(two);
    assert!(begin(&meter, CHAT, &[]).is_ok(), "it recovers at once");
    assert_eq!(outcomes(&meter, CHAT), [0, 3, 3, 0]);
}

#[test]
fn the_counters_agree_with_the_requests() {
    let meter = meter("body");
    for _ in 0..3 {
        let mut exchange = streaming(&meter);
        feed(&mut exchange, &[TEXT, FINISH].concat());
        let usage =
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":3}}\n\n";
        feed(&mut exchange, &[usage, DONE].concat());
        finish(&mut exchange, None);
    }
    drop(streaming(&meter));
    let snapshot = meter.counters.snapshot();
    assert_eq!(outcomes(&meter, CHAT), [3, 0, 1, 0]);
    assert_eq!(snapshot.tokens(Route::Chat), [6, 9]);
    let counts = snapshot
        .histograms(Route::Chat)
        .iter()
        .map(|one| one.buckets.iter().sum())
        .collect::<Vec<u64>>();
    assert_eq!(counts, [3, 3, 0], "durations and first tokens; one chunk has no time per token");
}

/// What is recorded of a request that ends now: as it would be told, and why the fields named are null.
fn recorded(exchange: &mut Exchange, outcome: Outcome) -> Value {
    let performance = exchange.record(outcome, 12 * MS).unwrap();
    serde_json::from_slice(&performance.to_json()).unwrap()
}

/// The same of one that `act` ends.
fn recorded_by(
    exchange: &mut Exchange,
    outcome: Outcome,
    act: impl FnOnce(&mut Exchange),
) -> Value {
    exchange.ended = true; // so that the record is left to be looked at
    act(exchange);
    exchange.ended = false;
    recorded(exchange, outcome)
}

fn reasons<'a>(block: &'a Value, fields: &[&str]) -> Vec<&'a str> {
    let reason = |field: &&str| {
        assert!(block[*field].is_null(), "{field} of {block}");
        block["unavailable"][*field].as_str().unwrap_or_default()
    };
    fields.iter().map(reason).collect()
}

#[test]
fn a_request_without_an_answer_is_recorded_with_what_is_known() {
    let meter = meter("body");
    let mut exchange = begin(&meter, CHAT, &[("x-request-id", "a")]).unwrap();
    exchange.body(Bytes::from_static(b"{\"stream\":true}"), 2 * MS);
    exchange.sent(3 * MS);
    let block = recorded(&mut exchange, Outcome::Cancelled);
    assert_eq!((&block["outcome"], &block["request_id"]), (&"cancelled".into(), &"a".into()));
    assert_eq!(block["proxy_overhead_ms"], 1.0, "the way in");
    let unknown = ["latency_ms", "first_byte_ms", "ttft_ms", "tpot_ms", "inter_chunk_ms", "chunks"];
    assert_eq!(reasons(&block, &unknown), ["no_answer"; 6]);
    assert_eq!(reasons(&block, &["prompt_tokens", "token_source"]), ["no_answer"; 2]);
    assert_eq!(reasons(&block, &["error_type"]), ["no_error"]);
}

#[test]
fn a_stream_that_is_left_is_recorded_as_far_as_it_came() {
    let meter = meter("body");
    let mut exchange = streaming(&meter);
    feed(&mut exchange, TEXT);
    let block = recorded(&mut exchange, Outcome::Cancelled);
    assert_eq!((&block["ttft_ms"], &block["chunks"]), (&8.0.into(), &1.into()));
    assert_eq!(block["latency_ms"], 8.0, "to the last byte that came");
    assert_eq!(reasons(&block, &["completion_tokens", "error_type"]), ["no_usage", "no_error"]);
}

#[test]
fn the_record_says_how_it_ended_whatever_the_client_was_told() {
    let meter = meter("body");
    let mut exchange = streaming(&meter);
    let told = feed(&mut exchange, &[TEXT, FINISH, DONE].concat());
    assert!(told.contains("\"outcome\":\"complete\""), "{told}");
    let block = recorded(&mut exchange, Outcome::Cancelled);
    assert_eq!((&block["outcome"], &block["ttft_ms"]), (&"cancelled".into(), &8.0.into()));
}

#[test]
fn every_error_has_its_type() {
    let meter = meter("body");
    for (event, name) in [
        ("data: {\"error\":{\"message\":\"m\",\"type\":\"t\",\"code\":1}}\n\n", "t"),
        ("data: {\"error\":\"m\"}\n\n", "_OTHER"),
        ("data: {\"error\": \"a \"b\"\"}\n\n", "_OTHER"),
    ] {
        let mut exchange = streaming(&meter);
        feed(&mut exchange, event);
        let ended =
            recorded_by(&mut exchange, Outcome::Error, |exchange| drop(finish(exchange, None)));
        assert_eq!(ended["error_type"], name);
        let mut exchange = streaming(&meter);
        feed(&mut exchange, event);
        let broken = recorded_by(&mut exchange, Outcome::Error, |exchange| {
            exchange.fail(Fault::EngineClosed, 12 * MS, &mut Vec::new());
        });
        assert_eq!(broken["error_type"], name, "the first error counts");
    }
    for (status, body, name) in [
        (429, "{\"error\":{\"type\":\"t\"}}", "429"),
        (200, "{\"error\":{\"type\":\"t\"}}", "t"),
        (200, "{\"error\":\"m\"}", "_OTHER"),
    ] {
        let mut exchange = begin(&meter, CHAT, &[]).unwrap();
        let mut response = headers(&[("content-type", "application/json")]);
        exchange.response(StatusCode::from_u16(status).unwrap(), &mut response);
        feed(&mut exchange, body);
        let block = recorded_by(&mut exchange, Outcome::Error, |exchange| {
            let told = finish(exchange, Some(&mut response));
            let said = told.contains(&format!("\"error_type\":\"{name}\""));
            assert_eq!(said, status == 200, "{told}");
        });
        assert_eq!(block["error_type"], name);
    }
    for fault in Fault::ALL {
        let mut exchange = begin(&meter, CHAT, &[]).unwrap();
        let outcome = fault.outcome();
        let block =
            recorded_by(&mut exchange, outcome, |exchange| drop(exchange.refuse(fault, 4 * MS)));
        let wanted = (outcome == Outcome::Error).then(|| fault.code());
        assert_eq!(block["error_type"].as_str(), wanted, "{fault:?}");
    }
}

#[test]
fn an_answer_that_is_not_read_says_so() {
    let meter = meter("body");
    for pairs in [
        &[("content-type", "text/event-stream"), ("content-encoding", "gzip")][..],
        &[("content-type", "application/x-ndjson")],
    ] {
        let (mut exchange, _) = answering(&meter, &mut headers(pairs));
        feed(&mut exchange, "x");
        let block = recorded(&mut exchange, Outcome::Complete);
        assert_eq!(block["latency_ms"], 8.0);
        assert_eq!(reasons(&block, &["ttft_ms", "chunks", "prompt_tokens"]), ["not_read"; 3]);
    }
}

#[test]
fn nothing_begins_before_the_gate_is_open() {
    struct Gate(Arc<[AtomicU64; 1]>);
    impl Cells for Gate {
        fn cells(&self) -> &[AtomicU64] {
            &self.0[..]
        }
    }
    let cells = Arc::new([AtomicU64::new(0)]);
    let meter = Arc::into_inner(meter("body")).unwrap();
    let meter = Arc::new(meter.behind(Box::new(Gate(Arc::clone(&cells)))));
    for (open, refused) in [(0, 1), (1, 1), (0, 2)] {
        cells[0].store(open, Ordering::Relaxed);
        assert_eq!(meter.is_open(), open == 1);
        let begun = begin(&meter, CHAT, &[]);
        let status = begun.err().map(|answer| answer.status());
        assert_eq!(status, (open == 0).then_some(Fault::Starting.status()));
        assert_eq!(outcomes(&meter, CHAT)[1], refused);
        assert_eq!(meter.in_flight(), 0);
    }
}
