use std::collections::BTreeSet;

use super::*;

#[test]
fn every_fault_has_a_code_of_its_own() {
    let codes: BTreeSet<_> = Fault::ALL.iter().map(|fault| fault.code()).collect();
    assert_eq!(codes.len(), Fault::ALL.len());
}

#[test]
fn answers_are_openai_errors_with_their_exact_length() {
    for fault in Fault::ALL {
        let response = fault.response();
        assert!(response.status().is_client_error() || response.status().is_server_error());
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(response.headers()["content-length"], response.body().len().to_string());
        if response.headers().contains_key("retry-after") {
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        }
        let body: Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(body["error"]["code"], fault.code());
        for member in ["message", "type"] {
            assert!(!body["error"][member].as_str().unwrap().is_empty(), "{fault:?}");
        }
    }
}

#[test]
fn a_client_that_comes_too_early_is_told_when_to_come_back() {
    assert_eq!(Fault::Overloaded.response().headers()["retry-after"], "1");
    assert_eq!(Fault::Starting.response().headers()["retry-after"], "5");
}

#[test]
fn a_client_at_fault_is_not_heard_any_more() {
    assert_eq!(Fault::BadRequest.response().headers()["connection"], "close");
    assert!(!Fault::EngineClosed.response().headers().contains_key("connection"));
}

#[test]
fn events_are_errors_to_the_reader_of_their_dialect() {
    for fault in Fault::ALL.into_iter().step_by(if cfg!(miri) { 6 } else { 1 }) {
        for dialect in [Dialect::Choices, Dialect::Responses, Dialect::Messages, Dialect::Generate]
        {
            let event = fault.event(dialect, Framing::Events);
            let frame = crate::sse::Decoder::default().next_event(&event).unwrap();
            assert_eq!(frame.end, event.len(), "one event and no more");
            let is_named = matches!(dialect, Dialect::Responses | Dialect::Messages);
            assert_eq!(frame.name(&event).is_empty(), !is_named);
            let reading = crate::event::read(dialect, &frame.data(&event).unwrap()).unwrap();
            assert!(reading.error.is_some_and(|error| !error.is_empty()));
        }
        let line = fault.event(Dialect::Generate, Framing::Lines);
        let error: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(error["error"], fault.to_string());
        assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
    }
}
