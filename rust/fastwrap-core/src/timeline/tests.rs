use super::*;
use crate::event::{Dialect, read};

const MS: u64 = 1_000_000;

/// A timeline received at 100 ms, with events at the given milliseconds; gaps over 50 ms are stalls.
fn timeline(events: &[(u64, &str)]) -> Timeline {
    let mut timeline = Timeline::new(100 * MS);
    for (at_ms, delta) in events {
        let data = format!(r#"{{"choices":[{{"index":0,"delta":{delta}}}]}}"#);
        timeline.bytes(at_ms * MS);
        timeline.event(&read(Dialect::Choices, data.as_bytes()).unwrap(), at_ms * MS, 50 * MS);
    }
    timeline
}

fn tokens(completion: u64) -> Usage {
    Usage { completion: Some(completion), ..Usage::default() }
}

const ROLE: &str = r#"{"role":"assistant","content":""}"#;
const THINK: &str = r#"{"reasoning":"x"}"#;
const TEXT: &str = r#"{"content":"x"}"#;

#[test]
fn a_role_is_a_chunk_and_no_token() {
    let timeline = timeline(&[(110, ROLE), (130, THINK), (160, TEXT), (200, TEXT), (210, "{}")]);
    assert_eq!(timeline.first_byte_ns, Some(110 * MS));
    assert_eq!(timeline.first_chunk_ns, Some(110 * MS));
    assert_eq!(timeline.first_token_ns, Some(130 * MS), "reasoning is text");
    assert_eq!(timeline.first_answer_ns, Some(160 * MS), "but no answer");
    assert_eq!(timeline.last_token_ns, Some(200 * MS), "an empty delta is no token");
    assert_eq!(timeline.last_byte_ns, Some(210 * MS));
    assert_eq!(timeline.chunks, 3);
}

#[test]
fn a_tool_call_is_an_answer() {
    let call = r#"{"tool_calls":[{"function":{"name":"f"}}]}"#;
    assert_eq!(timeline(&[(120, call)]).first_answer_ns, Some(120 * MS));
}

#[test]
fn gaps_are_between_chunks_with_text() {
    let timeline =
        timeline(&[(100, TEXT), (110, TEXT), (115, ROLE), (130, TEXT), (180, TEXT), (231, TEXT)]);
    let gaps = &timeline.gaps;
    assert_eq!(gaps.mean_ns(), Some(131 * MS / 4));
    assert_eq!(gaps.max_ns(), Some(51 * MS));
    assert_eq!(gaps.stalls, 1, "50 ms is the bound, 51 ms is over it");
    let median = gaps.quantile_ns(0.5).unwrap();
    assert!(median.abs_diff(20 * MS) < MS / 4, "{median}");
    assert_eq!(gaps.quantile_ns(1.0), Some(51 * MS), "never above the greatest");
}

#[test]
fn percentiles_keep_to_their_accuracy() {
    let events: Vec<_> = (0..1000_u64).map(|n| (100 + n * (n + 1) / 2, TEXT)).collect();
    let gaps = timeline(&events).gaps;
    for (quantile, wanted_ms) in [(0.5, 500), (0.9, 900), (0.99, 990)] {
        let value = gaps.quantile_ns(quantile).unwrap();
        assert!(value.abs_diff(wanted_ms * MS) < wanted_ms * MS / 80, "{quantile}: {value}");
    }
}

#[test]
fn no_gap_no_numbers() {
    for events in [&[][..], &[(100, TEXT)], &[(100, ROLE), (110, TEXT)]] {
        let gaps = timeline(events).gaps;
        assert_eq!((gaps.mean_ns(), gaps.max_ns(), gaps.quantile_ns(0.5)), (None, None, None));
    }
    let same_read = timeline(&[(100, TEXT), (100, TEXT)]).gaps;
    assert_eq!((same_read.mean_ns(), same_read.quantile_ns(0.5)), (Some(0), Some(0)));
}

#[test]
fn time_per_output_token_divides_by_the_tokens_after_the_first() {
    let mut timeline = timeline(&[(130, TEXT), (160, TEXT), (230, TEXT)]);
    timeline.count(tokens(11), false);
    assert_eq!(timeline.time_per_output_token_ns(), Ok(10_000_000.0));
}

#[test]
fn time_per_output_token_is_absent_for_a_reason() {
    let reason = |events: &[(u64, &str)], usage: Option<Usage>| {
        let mut timeline = timeline(events);
        if let Some(usage) = usage {
            timeline.count(usage, false);
        }
        timeline.time_per_output_token_ns().unwrap_err()
    };
    let two = [(110, TEXT), (120, TEXT)];
    assert_eq!(reason(&[(110, ROLE)], Some(tokens(5))), "no_text");
    assert_eq!(reason(&two, None), "no_usage");
    assert_eq!(reason(&two, Some(Usage::default())), "no_usage");
    assert_eq!(reason(&two, Some(tokens(1))), "fewer_than_2_tokens");
    assert_eq!(reason(&two, Some(tokens(0))), "fewer_than_2_tokens");
    assert_eq!(reason(&two[..1], Some(tokens(9))), "fewer_than_2_chunks");
    assert_eq!(reason(&[(110, TEXT), (110, TEXT)], Some(tokens(9))), "all_in_one_read");
    let mut timeline = timeline(&two);
    let second = read(Dialect::Choices, br#"{"choices":[{"index":1,"delta":{}}]}"#).unwrap();
    timeline.event(&second, 130 * MS, MS);
    timeline.count(tokens(9), false);
    assert_eq!(timeline.time_per_output_token_ns(), Err("several_choices"));
}

#[test]
fn usage_is_taken_over_or_added_up() {
    let mut timeline = Timeline::new(0);
    for running in [tokens(1), tokens(2), Usage { prompt: Some(7), ..Usage::default() }] {
        timeline.count(running, false);
    }
    assert_eq!(timeline.usage, Some(Usage { prompt: Some(7), ..tokens(2) }));
    timeline.count(Usage { prompt: Some(7), ..tokens(3) }, true);
    assert_eq!(timeline.usage, Some(Usage { prompt: Some(7), ..tokens(5) }));
}
