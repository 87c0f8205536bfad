//! What hooks are told of a request, in which order, and what they add.

use std::sync::Mutex;

use super::*;
use crate::hooks::{Asked, Hook, Hooks, Record, first_token_json, request_json};

/// Notes everything, has room for so much, and adds to blocks.
struct Notes {
    told: Mutex<Vec<String>>,
    room: usize,
    extra: Option<&'static str>,
}

impl Notes {
    fn note(&self, text: String) -> bool {
        let mut told = self.told.lock().unwrap();
        told.push(text);
        told.len() <= self.room
    }
}

impl Hooks for Notes {
    fn request(&self, request_id: &str, asked: &Asked) -> bool {
        self.note(String::from_utf8(request_json(request_id, asked).into()).unwrap())
    }

    fn first_token(&self, request_id: &str, asked: &Asked, ttft_ms: f64) -> bool {
        let json = first_token_json(request_id, asked, ttft_ms);
        self.note(String::from_utf8(json.into()).unwrap())
    }

    fn record(
        &self,
        asked: Box<Asked>,
        status: Option<StatusCode>,
        performance: Box<Performance>,
    ) -> bool {
        let record = Record { asked: &asked, status, performance: &performance };
        self.note(String::from_utf8(record.to_json().into()).unwrap())
    }

    fn enrich(&self, _: &Record<'_>) -> Option<Bytes> {
        self.extra.map(Bytes::from)
    }
}

fn hooked(room: usize, extra: Option<&'static str>) -> (Arc<Meter>, Arc<Notes>) {
    let meter = meter("body");
    let notes = Arc::new(Notes { told: Mutex::default(), room, extra });
    meter.set_hooks(Arc::<Notes>::clone(&notes));
    (meter, notes)
}

fn told(notes: &Notes) -> Vec<Value> {
    let told = notes.told.lock().unwrap();
    told.iter().map(|text| serde_json::from_str(text).unwrap()).collect()
}

#[test]
fn each_hook_is_told_once_and_in_order() {
    let (meter, notes) = hooked(9, Some(",\"team\":1"));
    let pairs = [("authorization", "Bearer sk-1"), ("x-request-id", "id")];
    let target = "/v1/chat/completions?api-key=sk-1";
    let mut exchange = begin(&meter, target, &pairs).unwrap();
    exchange.arrived(2 * MS);
    exchange.body(Bytes::from_static(br#"{"model":"m","stream":true}"#), 5 * MS);
    exchange.sent(6 * MS);
    exchange.response(StatusCode::OK, &mut headers(&[("content-type", "text/event-stream")]));
    let sent: String = [TEXT, TEXT, FINISH, DONE].map(|event| feed(&mut exchange, event)).concat();
    finish(&mut exchange, None);
    drop(exchange);
    assert!(sent.contains("},\"team\":1}"), "{sent}");
    let told = told(&notes);
    let [request, first_token, record] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((&request["method"], &request["path"]), (&"POST".into(), &CHAT.into()));
    // What hooks took before the body went on counts.
    assert_eq!((&first_token["ttft_ms"], &first_token["model"]), (&8.0.into(), &"m".into()));
    assert_eq!((&record["status"], &record["performance"]["team"]), (&200.into(), &1.into()));
    assert_eq!(record["key_id"], request["key_id"]);
    assert!(told.iter().all(|one| one["request_id"] == "id" && !one.to_string().contains("sk-1")));
}

#[test]
fn what_is_refused_left_or_not_measured_has_a_record() {
    let (meter, notes) = hooked(9, None);
    begin(&meter, CHAT, &[("content-length", "101")]).unwrap_err();
    drop(begin(&meter, CHAT, &[]).unwrap());
    let mut exchange = begin(&meter, "/v1/models", &[]).unwrap();
    let answer = Response::builder().status(429).body(Bytes::new()).unwrap();
    exchange.reject(answer, "moody".to_owned(), 2 * MS);
    drop(exchange);
    let told = told(&notes);
    let ends = told.iter().filter(|one| one.get("performance").is_some());
    let ends = ends.map(|one| (one["status"].as_u64(), one["performance"]["outcome"].as_str()));
    let wanted =
        [(Some(413), Some("error")), (None, Some("cancelled")), (Some(429), Some("error"))];
    assert_eq!(ends.collect::<Vec<_>>(), wanted);
    assert_eq!(told.last().unwrap()["performance"]["error_type"], "moody");
}

#[test]
fn what_is_not_taken_or_fails_is_counted_and_nothing_else() {
    let (meter, _) = hooked(0, None);
    let out = collected(&meter, &mut headers(&[("content-type", "application/json")]), ANSWER);
    assert!(out.contains("\"performance\":{"), "{out}");
    let snapshot = meter.counters.snapshot();
    let counts = Hook::ALL.map(|hook| snapshot.hook(hook));
    assert_eq!(counts, [[0, 0], [0, 1], [0, 0], [0, 1], [1, 0]]);
}
