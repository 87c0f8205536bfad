//! Events: no panic on any bytes, and on JSON the facts that a tree shows.

use fastwrap_core::event::{ChoiceSet, Dialect, Reading, Series, read};
use serde_json::Value;

use crate::twins;

/// Checks one event.
pub(crate) fn check(data: &[u8]) {
    for dialect in [Dialect::Choices, Dialect::Responses, Dialect::Messages, Dialect::Generate] {
        let _ = read(dialect, data);
        check_kin(dialect, data);
    }
    // Written anew, it has no double keys and no needless escapes: those the reader does not care about.
    if let Ok(event) = serde_json::from_slice::<Value>(data) {
        check_tree(&event);
    }
}

/// Events that follow `data` in a stream and differ from it in one string are read as if they stood alone.
fn check_kin(dialect: Dialect, data: &[u8]) {
    let alone = read(dialect, data);
    if !alone.as_ref().is_ok_and(Reading::has_text) {
        return;
    }
    let quotes: Vec<usize> = memchr::memchr_iter(b'"', data).take(MAX_QUOTES).collect();
    for (pair, text) in quotes.windows(2).zip(TEXTS.iter().cycle()) {
        let mut series = Series::new(dialect);
        assert_eq!(series.read(data), alone, "{}", data.escape_ascii());
        let kin = [&data[..=pair[0]], text, &data[pair[1]..]].concat();
        assert_eq!(series.read(&kin), read(dialect, &kin), "{}", kin.escape_ascii());
        assert_eq!(series.read(data), alone, "{}", data.escape_ascii());
    }
}

/// Enough for an event; a whole answer would take long.
const MAX_QUOTES: usize = 100;

/// What may stand for a string, and what may not.
const TEXTS: [&[u8]; 7] =
    [b"", br#"\""#, br#"\u00e9 \\"#, br#"",""#, b"\\", b"\n", b"a text of more than one word"];

fn check_tree(event: &Value) {
    check_twin(event, Dialect::Choices, twins::event::read(event));
    check_twin(event, Dialect::Generate, twins::event::read_own(event));
}

fn check_twin(event: &Value, dialect: Dialect, twin: Option<twins::event::Facts>) {
    let reading = read(dialect, event.to_string().as_bytes());
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
    let usage = reading.usage.map(|usage| [usage.prompt, usage.completion]);
    if dialect == Dialect::Choices {
        assert_eq!(usage, twin.usage, "{event}");
    } else {
        // Where several members tell the same, any may have been read.
        let told = |counts: Option<[Option<u64>; 2]>| {
            counts.unwrap_or_default().map(|count| count.is_some())
        };
        assert_eq!(told(usage), told(twin.usage), "{event}");
    }
}
