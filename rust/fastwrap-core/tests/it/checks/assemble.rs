//! Assembled answers: byte for byte what a twin makes of the events' trees, whatever the events are.

use fastwrap_core::assemble::{Assembly, JsonForm, Template};
use fastwrap_core::event::{Dialect, read};
use serde_json::Value;

use crate::twins;

/// A form in which every sort of value stands.
pub(crate) const TEMPLATE: &str = r#"{"id":null,"object":"chat.completion","choices":[{"index":null,"message":{"role":"assistant","content":"","reasoning":null},"finish_reason":null}],"usage":{"total_tokens":null,"details":{"cached":null}},"service_tier":null}"#;

/// An engine's form of [`TEMPLATE`].
pub(crate) fn form() -> JsonForm {
    let template = || Template::new(TEMPLATE).unwrap();
    JsonForm {
        chat: template(),
        completions: template(),
        fingerprint: "vllm-0.32.".to_owned(),
        parted_by: Some("details".to_owned()),
    }
}

/// What is made of events with this data.
pub(crate) fn assembled<'a>(events: impl IntoIterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut assembly = Assembly::default();
    for data in events {
        assembly.event(read(Dialect::Choices, data).ok().as_ref(), data);
    }
    if assembly.error().is_some() { None } else { assembly.answer(&form().chat) }
}

/// Checks events, a line each.
pub(crate) fn check(data: &[u8]) {
    let lines = || data.split(|byte| *byte == b'\n');
    if let Some(answer) = assembled(lines()) {
        assert!(read(Dialect::Choices, &answer).is_ok(), "{}", answer.escape_ascii());
    }
    let trees: Result<Vec<Value>, _> = lines().map(serde_json::from_slice).collect();
    // Written anew, they have no double keys and no needless escapes: those are kept as they are.
    if let Ok(trees) = trees {
        let events: Vec<String> = trees.iter().map(Value::to_string).collect();
        let answer = assembled(events.iter().map(String::as_bytes));
        let answer = answer.map(|answer| String::from_utf8(answer).unwrap());
        let template = serde_json::from_str(TEMPLATE).unwrap();
        let twin = twins::assemble::assembled(&trees, &template);
        assert_eq!(answer, twin.map(|twin| twin.to_string()), "{events:?}");
    }
}
