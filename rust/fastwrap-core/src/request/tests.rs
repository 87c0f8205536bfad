use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::json::tests::json_text;

fn asked(body: &str) -> String {
    let facts = Facts::read(body.as_bytes()).unwrap();
    let out = facts.ask_for_usage(Bytes::copy_from_slice(body.as_bytes()));
    assert_eq!(out != body.as_bytes(), facts.can_ask_for_usage(), "{body}");
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn usage_is_asked_for_in_every_form() {
    for (body, wanted) in [
        (r#"{"stream":true}"#, r#"{"stream":true,"stream_options":{"include_usage":true}}"#),
        (
            " {\"a\":1, \"stream\" : true \n} ",
            " {\"a\":1, \"stream\" : true,\"stream_options\":{\"include_usage\":true} \n} ",
        ),
        (
            r#"{"stream":true,"stream_options":{}}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#"{"stream":true,"stream_options": { } }"#,
            r#"{"stream":true,"stream_options": {"include_usage":true } }"#,
        ),
        (
            r#"{"stream":true,"stream_options": null }"#,
            r#"{"stream":true,"stream_options": {"include_usage":true} }"#,
        ),
        (
            r#"{"stream_options":null,"stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"stream":true}"#,
        ),
        (
            r#"{"stream":true,"stream_options":{"include_usage":false}}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#"{"stream":true,"stream_options":{"include_usage": null ,"x":[1]}}"#,
            r#"{"stream":true,"stream_options":{"include_usage": true ,"x":[1]}}"#,
        ),
        (
            r#"{"stream":true,"stream_options":{"x":{"include_usage":true} }}"#,
            r#"{"stream":true,"stream_options":{"x":{"include_usage":true},"include_usage":true }}"#,
        ),
        (
            r#"{"str\u0065am":true,"stream\u005foptions":{"includ\u0065_usage":false}}"#,
            r#"{"str\u0065am":true,"stream\u005foptions":{"includ\u0065_usage":true}}"#,
        ),
        // Of double keys the last one counts, as for the parsers of the engines.
        (
            r#"{"stream":false,"stream":true,"stream_options":{"include_usage":true},"stream_options":{}}"#,
            r#"{"stream":false,"stream":true,"stream_options":{"include_usage":true},"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#"{"stream":true,"stream_options":{"include_usage":true,"include_usage":false}}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true,"include_usage":true}}"#,
        ),
    ] {
        assert_eq!(asked(body), wanted);
    }
}

#[test]
fn other_bodies_are_left_alone() {
    for body in [
        "{}",
        r#"{"stream":false}"#,
        r#"{"stream":null,"stream_options":{}}"#,
        r#"{"stream":1}"#,
        r#"{"stream":"true"}"#,
        r#"{"a":{"stream":true}}"#,
        r#"{"stream":true,"stream":false}"#,
        r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
        r#"{"stream":true,"stream_options":{"include_usage":false,"include_usage":true}}"#,
        // The engine decides what these mean.
        r#"{"stream":true,"stream_options":{"include_usage":1}}"#,
        r#"{"stream":true,"stream_options":{"include_usage":"yes"}}"#,
        r#"{"stream":true,"stream_options":[]}"#,
        r#"{"stream":true,"stream_options":true}"#,
        // vLLM would put usage into every chunk, where it cannot be taken out.
        r#"{"stream":true,"stream_options":{"continuous_usage_stats":true}}"#,
    ] {
        assert_eq!(asked(body), body);
    }
    let harmless = r#"{"stream":true,"stream_options":{"continuous_usage_stats":false}}"#;
    assert_ne!(asked(harmless), harmless);
}

#[test]
fn what_is_no_object_is_an_error() {
    for body in [
        "",
        "[]",
        "[{\"stream\":true}]",
        "null",
        "stream=true",
        "{\"stream\":true",
        "{\"stream\":true}x",
    ] {
        assert!(Facts::read(body.as_bytes()).is_err(), "{body}");
    }
    assert!(
        Facts::read(
            &"{\"stream\":true}".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>()
        )
        .is_err()
    );
}

#[test]
fn facts_are_read() {
    let facts = |body: &str| Facts::read(body.as_bytes()).unwrap();
    assert_eq!((facts("{}").stream, facts("{}").choices), (false, 1));
    assert_eq!(facts(r#"{"n":3,"messages":[{"n":9}]}"#).choices, 3);
    assert_eq!(facts(r#"{"n":null}"#).choices, 1);
    assert!(facts(r#"{"stream_options":{"include_usage":true}}"#).include_usage);
}

proptest! {
    #[test]
    fn every_other_byte_is_kept(value in json_text(), other in json_text(), place in 0..4) {
        let options = [
            String::new(),
            ",\"stream_options\":null".to_owned(),
            format!(",\"stream_options\":{{\"x\":{other}}}"),
            format!(",\"stream_options\":{{\"include_usage\":false,\"x\":{other}}}"),
        ][usize::try_from(place).unwrap()].clone();
        let body = format!("{{\"messages\":{value},\"stream\":true{options},\"z\":{other} }}");
        let out = asked(&body);
        // A common head and a common tail, and between them what was asked for.
        let head = body.bytes().zip(out.bytes()).take_while(|(a, b)| a == b).count();
        let tail = body.bytes().rev().zip(out.bytes().rev()).take_while(|(a, b)| a == b).count();
        let removed = body.len().saturating_sub(head + tail);
        prop_assert!(removed <= 5, "{removed} bytes gone: {body} -> {out}");
        let mut wanted: Value = serde_json::from_str(&body).unwrap();
        if !wanted["stream_options"].is_object() {
            wanted["stream_options"] = json!({});
        }
        wanted["stream_options"]["include_usage"] = json!(true);
        prop_assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), wanted);
    }
}
