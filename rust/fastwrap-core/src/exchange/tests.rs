use http::Method;
use serde_json::Value;

use super::*;
use crate::counters::{Counters, private_cells};
use crate::enrich::Enrich;
use crate::meter::{Meter, Settings};
use crate::profile::Profile;

#[cfg(not(miri))] // ring is assembly
mod guarded;
#[cfg(not(miri))] // likewise
mod hooked;
mod outcomes;

const MS: u64 = 1_000_000;
const CHAT: &str = "/v1/chat/completions";
const ANSWER: &str = r#"{"id":"x","choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":8}}"#;
const TEXT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n";
const FINISH: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";

fn meter(places: &str) -> Arc<Meter> {
    limited(
        places,
        Settings {
            enrich: Enrich::default(),
            stall_ns: MS,
            json_as_stream: false,
            max_body_bytes: 100,
            max_header_bytes: 200,
            max_inflight: 2,
        },
    )
}

fn limited(places: &str, settings: Settings) -> Arc<Meter> {
    let settings = Settings { enrich: places.parse().unwrap(), ..settings };
    Arc::new(Meter::new(settings, Counters::new(private_cells())))
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let value = |value: &str| HeaderValue::from_str(value).unwrap();
    pairs.iter().map(|(name, text)| (http::HeaderName::from_static(name), value(text))).collect()
}

fn begin(
    meter: &Arc<Meter>,
    target: &str,
    pairs: &[(&'static str, &str)],
) -> Result<Box<Exchange>, Box<Response<Bytes>>> {
    Exchange::begin(meter, &Method::POST, target, &mut headers(pairs), MS)
}

/// A chat request whose answer's head has arrived.
fn answering(meter: &Arc<Meter>, response: &mut HeaderMap) -> (Box<Exchange>, Plan) {
    let mut exchange = begin(meter, CHAT, &[]).unwrap();
    exchange.body(
        Bytes::from_static(b"{\"stream\":true,\"stream_options\":{\"include_usage\":true}}"),
        2 * MS,
    );
    exchange.sent(3 * MS);
    let plan = exchange.response(StatusCode::OK, response);
    (exchange, plan)
}

fn streaming(meter: &Arc<Meter>) -> Box<Exchange> {
    answering(meter, &mut headers(&[("content-type", "text/event-stream")])).0
}

fn feed(exchange: &mut Exchange, piece: &str) -> String {
    let mut out = Vec::new();
    exchange.data(Bytes::copy_from_slice(piece.as_bytes()), 10 * MS, 10 * MS + 500_000, &mut out);
    String::from_utf8(out.concat()).unwrap()
}

fn finish(exchange: &mut Exchange, response: Option<&mut HeaderMap>) -> String {
    let mut out = Vec::new();
    let mut head = Response::new(()).into_parts().0;
    match response {
        Some(response) => {
            std::mem::swap(&mut head.headers, response);
            exchange.finish(11 * MS, Some(&mut head), &mut out);
            std::mem::swap(&mut head.headers, response);
        }
        None => exchange.finish(11 * MS, None, &mut out),
    }
    String::from_utf8(out.concat()).unwrap()
}

/// A whole JSON answer, its headers changed where they stand.
fn collected(meter: &Arc<Meter>, response: &mut HeaderMap, body: &str) -> String {
    let (mut exchange, plan) = answering(meter, response);
    let mut out = feed(&mut exchange, body);
    let held = exchange.is_collecting();
    assert_eq!(held, plan == Plan::Collect);
    out += &finish(&mut exchange, held.then_some(response));
    out
}

/// How many requests of the route ended in each way: complete, error, cancelled, incomplete.
fn outcomes(meter: &Meter, target: &str) -> [u64; 4] {
    let route = Route::of(&Method::POST, target);
    assert_eq!(meter.in_flight(), meter.counters.snapshot().in_flight());
    Outcome::ALL.map(|outcome| meter.counters.snapshot().requests(route, outcome))
}

#[test]
fn a_large_json_answer_is_spliced_without_a_copy() {
    let meter = meter("body,usage");
    let words = "é x".repeat(if cfg!(miri) { 5_000 } else { 20_000 });
    let body = Bytes::from(ANSWER.replace(r#":"a""#, &format!(r#":"{words}""#)));
    let mut response = headers(&[("content-type", "application/json")]);
    let (mut exchange, _) = answering(&meter, &mut response);
    let mut out = Vec::new();
    exchange.data(body.clone(), 10 * MS, 10 * MS, &mut out);
    let mut head = Response::new(()).into_parts().0;
    exchange.finish(11 * MS, Some(&mut head), &mut out);
    assert_eq!(out.len(), 5, "before, block, between, block, behind");
    assert_eq!(out[0].as_ptr(), body.as_ptr());
    let length: usize = out.iter().map(Bytes::len).sum();
    assert_eq!(head.headers["content-length"], length.to_string());
    let mut told: Value = serde_json::from_slice(&out.concat()).unwrap();
    assert!(told["usage"].as_object_mut().unwrap().shift_remove("performance").is_some());
    assert!(told.as_object_mut().unwrap().shift_remove("performance").is_some());
    assert_eq!(told, serde_json::from_slice::<Value>(&body).unwrap());
}

#[test]
fn a_json_answer_gets_the_block_and_its_exact_length() {
    let meter = meter("body");
    for (body, changed) in
        [(ANSWER, true), (r#"{}"#, true), ("[1]", false), ("{\"a\":", false), ("", false)]
    {
        let mut response = headers(&[
            ("content-type", "application/json; charset=utf-8"),
            ("content-length", &body.len().to_string()),
            ("etag", "e"),
            ("content-md5", "m"),
            ("digest", "d"),
            ("content-digest", "c"),
            ("signature", "s"),
            ("x-kept", "1"),
        ]);
        let out = collected(&meter, &mut response, body);
        assert_eq!(response["content-length"], out.len().to_string());
        assert_eq!(response["x-kept"], "1");
        for name in ["etag", "content-md5", "digest", "content-digest", "signature"] {
            assert_eq!(response.contains_key(name), !changed, "{name} of {body}");
        }
        assert_eq!(out.contains("\"performance\":{\"latency_ms\":8.0,"), changed, "{out}");
        assert!(changed || out == body);
    }
    assert_eq!(outcomes(&meter, CHAT), [5, 0, 0, 0]);
    assert_eq!(meter.counters.snapshot().tokens(Route::Chat), [5, 8]);
}

#[test]
fn the_block_goes_where_the_operator_wants_it() {
    let response =
        || headers(&[("content-type", "application/json"), ("server-timing", "db;dur=1")]);
    let mut head = response();
    let out = collected(&meter("header,server-timing"), &mut head, ANSWER);
    assert_eq!(out, ANSWER);
    let block: Value = serde_json::from_slice(head["x-performance-metrics"].as_bytes()).unwrap();
    assert_eq!((&block["latency_ms"], &block["completion_tokens"]), (&8.0.into(), &8.into()));
    let timings: Vec<_> =
        head.get_all("server-timing").iter().map(|value| value.to_str().unwrap()).collect();
    assert_eq!(
        timings,
        ["db;dur=1", "total;dur=8, proxy;dur=2"],
        "1 ms in, 1 ms from the last read to here"
    );

    let out: Value =
        serde_json::from_str(&collected(&meter("usage"), &mut response(), ANSWER)).unwrap();
    assert_eq!(out["usage"]["performance"]["outcome"], "complete");
    assert!(out.get("performance").is_none());

    let mut head = response();
    let (mut exchange, plan) = answering(&meter("none"), &mut head);
    assert_eq!((plan, feed(&mut exchange, ANSWER).as_str()), (Plan::Forward, ANSWER));
    assert_eq!(finish(&mut exchange, None), "");
    assert!(!head.contains_key("x-performance-metrics"));
}

#[test]
fn a_name_that_is_taken_is_left_to_the_engine() {
    let body = r#"{"performance":1}"#;
    let out =
        collected(&meter("body"), &mut headers(&[("content-type", "application/json")]), body);
    assert!(out.starts_with(r#"{"performance":1,"fastwrap_performance":{"#), "{out}");
    let body = r#"{"performance":1,"fastwrap_performance":2}"#;
    assert_eq!(
        collected(&meter("body"), &mut headers(&[("content-type", "application/json")]), body),
        body
    );
}

#[test]
fn what_cannot_be_read_passes_untouched() {
    for pairs in [
        &[("content-type", "application/json"), ("content-encoding", "gzip")][..],
        &[("content-type", "text/event-stream"), ("content-encoding", "br")],
        &[("content-type", "text/html")],
        &[("content-type", "application/x-ndjson")],
        &[("content-type", "application/json"), ("content-length", "16777217")],
        &[],
    ] {
        let meter = meter("body,header,server-timing");
        let mut response = headers(pairs);
        let (mut exchange, plan) = answering(&meter, &mut response);
        assert_eq!((plan, response), (Plan::Forward, headers(pairs)));
        for piece in ["{\"a\":1}", FINISH, "\u{1f}"] {
            assert_eq!(feed(&mut exchange, piece), piece);
        }
        assert_eq!(finish(&mut exchange, None), "");
        assert_eq!(outcomes(&meter, CHAT), [1, 0, 0, 0]);
    }
}

#[test]
fn media_types_and_codings_have_no_case() {
    let meter = meter("body");
    for kind in ["Application/JSON", "TEXT/Event-Stream;charset=UTF-8"] {
        let mut response = headers(&[("content-type", kind), ("content-encoding", "Identity")]);
        let out =
            collected(&meter, &mut response, if kind.starts_with('A') { ANSWER } else { FINISH });
        assert!(out.contains("performance"), "{kind}");
    }
}

#[test]
fn a_json_answer_over_the_limit_is_let_go() {
    let meter = meter("body");
    let (mut exchange, plan) =
        answering(&meter, &mut headers(&[("content-type", "application/json")]));
    assert_eq!(plan, Plan::Collect);
    let piece = Bytes::from(vec![b' '; 1 << 20]);
    let mut out = Vec::new();
    for _ in 0..MAX_JSON_BYTES / piece.len() {
        exchange.data(piece.clone(), 10 * MS, 10 * MS, &mut out);
    }
    assert!(out.is_empty() && exchange.is_collecting(), "exactly the limit is kept");
    exchange.data(Bytes::from_static(b"{}"), 10 * MS, 10 * MS, &mut out);
    assert!(!exchange.is_collecting());
    exchange.data(Bytes::from_static(b" "), 10 * MS, 10 * MS, &mut out);
    exchange.finish(11 * MS, None, &mut out);
    assert_eq!(out.iter().map(Bytes::len).sum::<usize>(), MAX_JSON_BYTES + 3);
    assert_eq!(outcomes(&meter, CHAT), [1, 0, 0, 0]);
}

#[test]
fn a_client_may_narrow_the_places_and_not_widen_them() {
    let run = |places: &str, wanted: &str| {
        let meter = meter(places);
        let mut request = headers(&[("x-fastwrap-enrich", wanted), ("x-other", "1")]);
        let mut exchange = Exchange::begin(&meter, &Method::POST, CHAT, &mut request, MS).unwrap();
        assert_eq!(request, headers(&[("x-other", "1")]), "the engine does not see it");
        let mut response = headers(&[("content-type", "application/json")]);
        exchange.response(StatusCode::OK, &mut response);
        let mut out = feed(&mut exchange, ANSWER);
        let held = exchange.is_collecting();
        out += &finish(&mut exchange, held.then_some(&mut response));
        (out.contains("performance"), response.contains_key("x-performance-metrics"))
    };
    assert_eq!(run("body,header", "body,header"), (true, true));
    assert_eq!(run("body,header", "header"), (false, true));
    assert_eq!(run("body,header", "none"), (false, false));
    assert_eq!(run("body", "header"), (false, false));
    assert_eq!(run("body", "nonsense"), (true, false), "what is not understood changes nothing");
}

#[test]
fn usage_is_asked_for_where_it_is_understood() {
    let body = "{\"stream\":true}";
    let sent = |target: &str, profile: Profile| {
        let meter = meter("none");
        meter.set_profile(profile);
        let mut exchange = begin(&meter, target, &[]).unwrap();
        exchange.body(Bytes::from_static(body.as_bytes()), MS) != body.as_bytes()
    };
    assert!(sent(CHAT, Profile::default()) && sent("/v1/completions", Profile::default()));
    for target in ["/v1/responses", "/v1/messages", "/v1/embeddings", "/v1/other"] {
        assert!(!sent(target, Profile::default()), "{target}");
    }
    assert!(!sent(CHAT, Profile { stream_usage: false, ..Profile::default() }));
}

#[test]
fn the_request_is_known_by_its_id() {
    let id = |pairs: &[(&'static str, &str)]| {
        let mut exchange = begin(&meter("body"), CHAT, pairs).unwrap();
        exchange.response(StatusCode::OK, &mut headers(&[("content-type", "application/json")]));
        feed(&mut exchange, "{}");
        let out: Value =
            serde_json::from_str(&finish(&mut exchange, Some(&mut HeaderMap::new()))).unwrap();
        out["performance"]["request_id"].as_str().unwrap().to_owned()
    };
    assert_eq!(id(&[("x-request-id", "abc")]), "abc");
    assert!(id(&[]).starts_with("fw-"));
    assert!(id(&[("x-request-id", "")]).starts_with("fw-"));
    assert!(id(&[("x-request-id", &"x".repeat(129))]).starts_with("fw-"));
}

#[test]
fn hop_by_hop_headers_of_the_answer_are_dropped() {
    let mut response = headers(&[
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("transfer-encoding", "chunked"),
        ("x-kept", "1"),
    ]);
    answering(&meter("body"), &mut response);
    assert_eq!(response, headers(&[("x-kept", "1")]));
}

#[test]
fn what_was_held_back_is_let_go_as_it_came() {
    for (content_type, pieces) in
        [("application/json", ["{\"id\":", "\"x\"}"]), ("text/event-stream", [FINISH, "data: [DO"])]
    {
        let meter = meter("body");
        let (mut exchange, _) = answering(&meter, &mut headers(&[("content-type", content_type)]));
        let mut out = Vec::new();
        for piece in pieces {
            assert_eq!(feed(&mut exchange, piece), "");
        }
        exchange.let_go(&mut out);
        assert_eq!(out.concat(), pieces.concat().as_bytes());
        assert_eq!(feed(&mut exchange, "more"), "more");
        drop(exchange);
        assert_eq!(outcomes(&meter, CHAT), [0, 0, 1, 0]);
    }
}

#[test]
fn an_engine_in_the_process_has_no_hop() {
    let mut response = headers(&[("connection", "close"), ("content-type", "text/event-stream")]);
    let (mut exchange, _) = answering(&meter("body"), &mut HeaderMap::new());
    exchange.response_here(StatusCode::OK, &mut response);
    assert_eq!(response["connection"], "close");
}

#[test]
fn time_in_the_proxy_is_the_way_in_and_the_mean_way_out() {
    let mut exchange = streaming(&meter("body"));
    exchange.transit().handed_over(0, 200_000);
    exchange.transit().handed_over(0, 400_000);
    let out = feed(&mut exchange, &[TEXT, FINISH, DONE].concat());
    assert!(out.contains("\"proxy_overhead_ms\":1.3,"), "{out}");
}
