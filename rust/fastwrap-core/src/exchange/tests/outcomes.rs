//! How a request ends, and that it is counted once.

use super::*;

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
    for at in 0..whole.len() {
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
    let length = |length: &str| begin(&meter, CHAT, &[("content-length", length)]).err();
    assert_eq!((length("100"), length("101")), (None, Some(Fault::BodyTooLarge)));
    let long = "x".repeat(200);
    assert_eq!(begin(&meter, CHAT, &[("x-long", &long)]).err(), Some(Fault::HeadersTooLarge));
    let two = [begin(&meter, CHAT, &[]), begin(&meter, "/v1/models", &[])];
    assert!(two.iter().all(Result::is_ok));
    assert_eq!(begin(&meter, CHAT, &[]).err(), Some(Fault::Overloaded));
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
