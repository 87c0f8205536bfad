//! Events: no panic on any bytes, and on JSON the facts that a tree shows.

use fastwrap_core::event::{ChoiceSet, Dialect, read};
use serde_json::Value;

use crate::twins;

/// Checks one event.
pub(crate) fn check(data: &[u8]) {
    for dialect in [Dialect::Choices, Dialect::Responses, Dialect::Messages] {
        let _ = read(dialect, data);
    }
    // Written anew, it has no double keys and no needless escapes: those the reader does not care about.
    if let Ok(event) = serde_json::from_slice::<Value>(data) {
        check_tree(&event);
    }
}

fn check_tree(event: &Value) {
    let reading = read(Dialect::Choices, event.to_string().as_bytes());
    let twin = twins::event::read(event);
    let (Ok(reading), Some(twin)) = (&reading, &twin) else {
        assert_eq!(reading.is_ok(), twin.is_some(), "{event}");
        return;
    };
    let sizes = |sets: [ChoiceSet; 5]| sets.map(ChoiceSet::len);
    assert_eq!(
        sizes([
            reading.choices,
            reading.answer,
            reading.reasoning,
            reading.tool_call,
            reading.finished
        ]),
        [&twin.choices, &twin.answer, &twin.reasoning, &twin.tool_call, &twin.finished]
            .map(|set| u32::try_from(set.len()).unwrap_or(u32::MAX)),
        "{event}"
    );
    assert_eq!(
        (reading.has_choices, reading.error.is_some()),
        (twin.has_choices, twin.error),
        "{event}"
    );
    assert_eq!(reading.usage.map(|usage| [usage.prompt, usage.completion]), twin.usage, "{event}");
}
