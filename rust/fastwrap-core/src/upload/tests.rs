use proptest::prelude::*;

use super::*;
use crate::json::tests::json_text;

/// Passes `body` on in pieces that end at `cuts`.
fn passed(body: &[u8], cuts: &[usize], ask: bool) -> (Vec<u8>, Facts) {
    let mut reader = Reader::new(ask);
    let mut out = Vec::new();
    let whole = Bytes::copy_from_slice(body);
    let mut from = 0;
    for cut in cuts.iter().copied().chain([body.len()]) {
        reader.data(&whole.slice(from..cut), &mut out);
        from = cut;
    }
    reader.finish(&mut out);
    (out.concat(), reader.facts().clone())
}

/// What the whole body would have become, and what is known of it.
fn whole(body: &[u8]) -> (Bytes, bool, u64, bool) {
    let facts = Facts::read(body).unwrap();
    let patched = facts.ask_for_usage(Bytes::copy_from_slice(body));
    (patched, facts.stream, facts.choices, facts.can_ask_for_usage())
}

fn assert_like_whole(body: &str, cuts: &[usize]) {
    let (out, facts) = passed(body.as_bytes(), cuts, true);
    let (patched, stream, choices, asked) = whole(body.as_bytes());
    assert_eq!(out, patched, "{body} cut at {cuts:?}");
    assert_eq!(
        (facts.stream, facts.choices, facts.can_ask_for_usage()),
        (stream, choices, asked),
        "{body} cut at {cuts:?}"
    );
    assert_eq!(passed(body.as_bytes(), cuts, false).0, body.as_bytes());
}

const BODIES: [&str; 22] = [
    "{}",
    r#"{"stream":true}"#,
    r#"{"stream":false,"n":3}"#,
    r#" {"a":[1,{"stream":true}], "stream" : true , "n": 2}  "#,
    r#"{"stream":true,"x":"\"stream_options\":{}\\"}"#,
    r#"{"stream":true,"x":"\\","y":"\u00e9\""}"#,
    r#"{"stream":true,"stream_options":{}}"#,
    r#"{"stream":true,"stream_options": { } ,"z":1}"#,
    r#"{"stream":true,"stream_options": null }"#,
    r#"{"stream_options":null,"stream":true,"z":[]}"#,
    r#"{"stream_options":{"x":{"include_usage":true} },"messages":[{"content":"{,:}"}],"stream":true}"#,
    r#"{"stream_options":{"include_usage": false },"stream":false}"#,
    r#"{"stream_options":{"include_usage":false}}"#,
    r#"{"stream":true,"stream_options":{"include_usage": null ,"x":[1]}}"#,
    r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
    r#"{"stream":true,"stream_options":{"continuous_usage_stats":true}}"#,
    r#"{"stream":true,"stream_options":"odd"}"#,
    r#"{"str\u0065am":true,"stream\u005foptions":{"includ\u0065_usage":false}}"#,
    r#"{"stream":false,"stream":true}"#,
    r#"{"stream":true,"stream_options":{"include_usage":true},"stream_options":{}}"#,
    r#"{"stream":"true","n":null}"#,
    r#"{"":0,"stream":true,"":""}"#,
];

/// Every cut; Miri, which takes a second for ten, makes some.
const STEP: usize = if cfg!(miri) { 11 } else { 1 };

#[test]
fn a_body_in_pieces_becomes_what_it_would_have_become_whole() {
    for body in BODIES {
        for first in (0..=body.len()).step_by(STEP) {
            assert_like_whole(body, &[first]);
            assert_like_whole(body, &[first, (first + 3).min(body.len())]);
        }
        assert_like_whole(body, &(0..=body.len()).collect::<Vec<_>>());
    }
}

#[test]
fn what_is_no_object_passes_as_it_is() {
    for body in [
        "",
        "null",
        r#"[{"stream":true}]"#,
        r#"x{"stream":true}"#,
        r#"{"stream":true"#,
        r#"{"stream":true,"stream_options":{}"#,
        "}",
        r#"{}{"stream":true}"#,
    ] {
        for cut in (0..=body.len()).step_by(STEP) {
            assert_eq!(
                passed(body.as_bytes(), &[cut], true).0,
                body.as_bytes(),
                "{body} cut at {cut}"
            );
        }
    }
}

#[test]
fn options_that_are_too_long_to_be_held_pass_as_they_are() {
    let body =
        format!(r#"{{"stream_options":{{"x":"{}"}},"stream":true}}"#, "x".repeat(MAX_TEXT + 1));
    let (out, facts) = passed(body.as_bytes(), &[100, 65_570], true);
    assert_eq!(out, body.as_bytes());
    assert!(!facts.can_ask_for_usage());
}

proptest! {
    #[test]
    fn any_value_may_stand_around(value in json_text(), cuts in prop::collection::vec(0_usize..400, 0..6)) {
        let body = format!(r#"{{"a": {value},"stream":true,"b":{value} }}"#);
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(body.len())).collect();
        cuts.sort_unstable();
        let (out, facts) = passed(body.as_bytes(), &cuts, true);
        let added = r#","stream_options":{"include_usage":true}"#;
        prop_assert!(facts.can_ask_for_usage());
        prop_assert_eq!(String::from_utf8(out).unwrap().replace(added, ""), body);
    }

    #[test]
    fn any_bytes_pass(bytes in prop::collection::vec(prop::sample::select(&b"{}[]\",:\\ stream_options1n"[..]), 0..200), cut in 0_usize..200) {
        let cut = cut.min(bytes.len());
        let (out, _) = passed(&bytes, &[cut], true);
        prop_assert!(out.len() >= bytes.len());
        prop_assert_eq!(passed(&bytes, &[cut], false).0, bytes);
    }
}
