use proptest::prelude::*;

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
    assert_eq!(timeline.text.first_ns, Some(130 * MS), "reasoning is text");
    assert_eq!(timeline.first_answer_ns, Some(160 * MS), "but no answer");
    assert_eq!(timeline.text.last_ns, Some(200 * MS), "an empty delta is no token");
    assert_eq!(timeline.last_byte_ns, Some(210 * MS));
    assert_eq!(timeline.text.chunks, 3);
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
    timeline.count(tokens(11), ChoiceSet::default(), false);
    assert_eq!(timeline.time_per_output_token_ns(), Ok(10_000_000.0));
}

#[test]
fn time_per_output_token_is_absent_for_a_reason() {
    let reason = |events: &[(u64, &str)], usage: Option<Usage>| {
        let mut timeline = timeline(events);
        if let Some(usage) = usage {
            timeline.count(usage, ChoiceSet::default(), false);
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
}

/// A timeline of events at the given milliseconds, each with its choice, its text, and the count so far if told.
fn choices(events: &[(u64, u64, &str, Option<u64>)]) -> Timeline {
    let mut timeline = Timeline::new(100 * MS);
    for (at_ms, index, text, tokens) in events {
        let usage = tokens.map_or_else(String::new, |tokens| {
            format!(r#","usage":{{"prompt_tokens":7,"completion_tokens":{tokens}}}"#)
        });
        let data =
            format!(r#"{{"choices":[{{"index":{index},"delta":{{"content":"{text}"}}}}]{usage}}}"#);
        let reading = read(Dialect::Choices, data.as_bytes()).unwrap();
        timeline.event(&reading, at_ms * MS, 50 * MS);
        if let Some(usage) = reading.usage {
            timeline.count(usage, reading.choices, false);
        }
    }
    timeline
}

#[test]
fn each_of_several_choices_has_a_pace_of_its_own() {
    let events = [
        (110, 0, "", None),
        (111, 2, "", None),
        (120, 2, "a", None),
        (130, 0, "a", None),
        (140, 2, "b", None),
        (170, 0, "b", None),
    ];
    let mut timeline = choices(&events);
    let paces: Vec<_> = timeline
        .several_choices()
        .map(|(index, choice)| (index, choice.first_ns, choice.last_ns, choice.chunks))
        .collect();
    let at = |ms: u64| Some(ms * MS);
    assert_eq!(paces, [(0, at(130), at(170), 2), (2, at(120), at(140), 2)]);
    assert_eq!((timeline.text.first_ns, timeline.text.chunks), (at(120), 4), "the first of all");
    timeline.count(tokens(8), ChoiceSet::default(), false);
    assert_eq!(
        timeline.time_per_output_token_ns(),
        Ok(60e6 / 6.0),
        "40 and 20 ms for 8 - 2 tokens"
    );
}

#[test]
fn what_came_before_the_second_choice_belongs_to_the_first() {
    let mut timeline = choices(&[(110, 1, "a", None), (120, 1, "b", None)]);
    assert_eq!(timeline.several_choices().count(), 0);
    let late = read(Dialect::Choices, br#"{"choices":[{"index":0,"delta":{}}]}"#).unwrap();
    timeline.event(&late, 130 * MS, MS);
    let chunks: Vec<_> =
        timeline.several_choices().map(|(index, choice)| (index, choice.chunks)).collect();
    assert_eq!(chunks, [(0, 0), (1, 2)]);
    timeline.count(tokens(9), ChoiceSet::default(), false);
    assert_eq!(timeline.time_per_output_token_ns(), Err("no_text"), "of the other");
}

#[test]
fn tokens_of_the_first_chunk_are_taken_off_where_they_are_counted() {
    let mut timeline =
        choices(&[(110, 0, "", Some(0)), (120, 0, "a", Some(4)), (150, 0, "b", Some(10))]);
    assert_eq!(timeline.time_per_output_token_ns(), Ok(30e6 / 6.0));
    timeline.count(tokens(11), ChoiceSet::default(), false);
    assert_eq!(timeline.time_per_output_token_ns(), Ok(30e6 / 6.0), "the last token had no text");
    for events in [
        [(120, 0, "a", None), (150, 0, "b", Some(11))],
        [(120, 0, "a", Some(4)), (150, 0, "b", None)],
        [(120, 0, "a", Some(4)), (150, 0, "b", Some(4))],
    ] {
        let mut timeline = choices(&events);
        timeline.count(tokens(11), ChoiceSet::default(), false);
        assert_eq!(timeline.time_per_output_token_ns(), Ok(30e6 / 10.0), "{events:?}");
    }
}

#[test]
fn running_counts_of_several_choices_add_up_until_the_total_comes() {
    let events = [
        (120, 0, "a", Some(1)),
        (130, 1, "a", Some(2)),
        (140, 0, "b", Some(3)),
        (150, 1, "b", Some(6)),
    ];
    let mut timeline = choices(&events);
    assert_eq!(timeline.usage, Some(Usage { prompt: Some(7), ..tokens(9) }));
    assert_eq!(timeline.time_per_output_token_ns(), Ok(40e6 / 6.0), "2 and 4 tokens");
    timeline.count(tokens(10), ChoiceSet::default(), false);
    assert_eq!(timeline.usage, Some(Usage { prompt: Some(7), ..tokens(10) }));
}

#[test]
fn choices_that_cannot_be_told_apart_have_no_pace() {
    let mut timeline = choices(&[(120, 63, "a", None), (130, 64, "b", None)]);
    timeline.count(tokens(9), ChoiceSet::default(), false);
    assert_eq!(timeline.time_per_output_token_ns(), Err("too_many_choices"));
}

#[test]
fn gaps_are_those_within_a_choice() {
    let mut timeline = choices(&[(100, 0, "a", None), (110, 0, "b", None), (111, 1, "c", None)]);
    assert_eq!(timeline.gaps.max_ns(), Some(10 * MS), "from one choice to the other there is none");
    let both = r#"{"choices":[{"index":0,"text":"d"},{"index":1,"text":"e"}]}"#;
    timeline.event(&read(Dialect::Choices, both.as_bytes()).unwrap(), 131 * MS, 20 * MS);
    assert_eq!(timeline.gaps.mean_ns(), Some((10 + 21 + 20) * MS / 3));
    assert_eq!(timeline.gaps.stalls, 1);
}

#[test]
fn usage_is_taken_over_or_added_up() {
    let mut timeline = Timeline::new(0);
    for running in [tokens(1), tokens(2), Usage { prompt: Some(7), ..Usage::default() }] {
        timeline.count(running, ChoiceSet::default(), false);
    }
    assert_eq!(timeline.usage, Some(Usage { prompt: Some(7), ..tokens(2) }));
    timeline.count(Usage { prompt: Some(7), ..tokens(3) }, ChoiceSet::default(), true);
    assert_eq!(timeline.usage, Some(Usage { prompt: Some(7), ..tokens(5) }));
}

/// One event of a stream: how long after the one before, of which choice, with text or not, and how many tokens more.
type Step = (u64, u64, bool, u64);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let gap_ns = prop_oneof![Just(0), 1..1000_u64, 1..100_000_000_u64, 1..1_000_000_000_000_u64];
    prop::collection::vec((gap_ns, 0..3_u64, prop::bool::weighted(0.8), 0..4_u64), 0..200)
}

/// Feeds the steps; also returns the times of each event with text, with its choice and the choice's tokens so far.
fn played(steps: &[Step], counted: bool) -> (Timeline, Vec<(u64, u64, u64)>) {
    let mut timeline = Timeline::new(0);
    let mut texts = Vec::new();
    let mut tokens = [0; 3];
    let mut now_ns = 0;
    for (gap_ns, choice, has_text, more) in steps {
        now_ns += gap_ns;
        let count = &mut tokens[usize::try_from(*choice).unwrap()];
        *count += more;
        let text = if *has_text { "x" } else { "" };
        let usage = if counted {
            format!(r#","usage":{{"prompt_tokens":7,"completion_tokens":{count}}}"#)
        } else {
            String::new()
        };
        let data = format!(r#"{{"choices":[{{"index":{choice},"text":"{text}"}}]{usage}}}"#);
        let reading = read(Dialect::Choices, data.as_bytes()).unwrap();
        timeline.event(&reading, now_ns, 50 * MS);
        if let Some(usage) = reading.usage {
            timeline.count(usage, reading.choices, false);
        }
        if *has_text {
            texts.push((now_ns, *choice, *count));
        }
    }
    (timeline, texts)
}

proptest! {
    #[test]
    fn gaps_equal_those_of_a_naive_list(steps in steps()) {
        let (timeline, texts) = played(&steps, false);
        let of = |choice: u64| texts.iter().filter(move |text| text.1 == choice).map(|text| text.0);
        let gaps_of = |choice| of(choice).skip(1).zip(of(choice)).map(|(next, last)| next - last);
        let mut gaps: Vec<_> = (0..3).flat_map(gaps_of).collect();
        gaps.sort_unstable();
        let told = &timeline.gaps;
        prop_assert_eq!(timeline.text.chunks, texts.len() as u64);
        prop_assert_eq!(told.max_ns(), gaps.last().copied());
        prop_assert_eq!(told.mean_ns(), gaps.iter().sum::<u64>().checked_div(gaps.len() as u64));
        prop_assert_eq!(told.stalls, gaps.iter().filter(|gap| **gap > 50 * MS).count() as u64);
        for quantile in [0.0, 0.5, 0.9, 0.99, 1.0] {
            let Some(value) = told.quantile_ns(quantile) else {
                prop_assert!(gaps.is_empty());
                break;
            };
            let rank = quantile * (gaps.len() - 1) as f64;
            let (low, high) = (gaps[rank.floor() as usize] as f64, gaps[rank.ceil() as usize] as f64);
            let value = value as f64;
            let within = low * 0.99 - 1.0 <= value && value <= high * 1.01 + 1.0;
            prop_assert!(within, "{quantile}: {value} of {low} to {high}");
        }
    }

    #[test]
    fn paces_equal_those_of_naive_lists(steps in steps(), counted: bool) {
        let (mut timeline, texts) = played(&steps, counted);
        let mut seen: Vec<_> = steps.iter().map(|step| step.1).collect();
        seen.sort_unstable();
        seen.dedup();
        let of = |choice: u64| texts.iter().filter(move |text| text.1 == choice);
        let told: Vec<_> = timeline
            .several_choices()
            .map(|(index, choice)| (index as u64, choice.first_ns, choice.last_ns, choice.chunks))
            .collect();
        let naive = |choice: &u64| {
            let (first, last) = (of(*choice).next(), of(*choice).next_back());
            (*choice, first.map(|one| one.0), last.map(|one| one.0), of(*choice).count() as u64)
        };
        let wanted: Vec<_> = seen.iter().filter(|_| seen.len() > 1).map(naive).collect();
        prop_assert_eq!(told, wanted);

        let tokens: u64 = steps.iter().map(|step| step.3).sum();
        if counted {
            let all = timeline.usage.and_then(|usage| usage.completion);
            prop_assert_eq!(all.unwrap_or(0), tokens, "running counts add up");
        }
        timeline.count(self::tokens(tokens), ChoiceSet::default(), false);
        let spans: Vec<_> = seen
            .iter()
            .filter_map(|choice| Some((of(*choice).next()?, of(*choice).next_back()?)))
            .map(|(first, last)| (last.0 - first.0, last.2 - first.2))
            .collect();
        let paced = spans.len() == seen.len() && spans.iter().all(|span| span.0 > 0);
        let Ok(pace_ns) = timeline.time_per_output_token_ns() else {
            prop_assert!(!paced || tokens <= seen.len() as u64);
            return Ok(());
        };
        prop_assert!(paced);
        let after_first: u64 = if counted && spans.iter().all(|span| span.1 > 0) {
            spans.iter().map(|span| span.1).sum()
        } else {
            tokens - seen.len() as u64
        };
        let wanted_ns = spans.iter().map(|span| span.0).sum::<u64>() as f64 / after_first as f64;
        prop_assert!((pace_ns - wanted_ns).abs() <= wanted_ns * 1e-12, "{pace_ns} {wanted_ns}");
    }
}
