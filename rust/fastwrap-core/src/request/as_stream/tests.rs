use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn asked(body: &str, usage: bool) -> Option<String> {
    let asked = ask_for_stream(&Bytes::copy_from_slice(body.as_bytes()), usage).unwrap();
    asked.map(|asked| String::from_utf8(asked.to_vec()).unwrap())
}

#[test]
fn only_what_asks_is_changed() {
    for (body, wanted) in [
        (r#"{"model":"m"}"#, r#"{"model":"m","stream":true}"#),
        (r#" { "model" : "m" } "#, r#" { "model" : "m","stream":true } "#),
        (r#"{"stream": false ,"n":1}"#, r#"{"stream": true ,"n":1}"#),
        (r#"{"n":1, "\u0073tream":null}"#, r#"{"n":1, "\u0073tream":true}"#),
    ] {
        assert_eq!(asked(body, false).as_deref(), Some(wanted));
    }
    for (body, wanted) in [
        (
            r#"{"model":"m"}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#"{"stream_options": null,"stream":false}"#,
            r#"{"stream_options": {"include_usage":true},"stream":true}"#,
        ),
        (
            r#"{"stream_options":null,"n":1}"#,
            r#"{"stream_options":{"include_usage":true},"n":1,"stream":true}"#,
        ),
    ] {
        assert_eq!(asked(body, true).as_deref(), Some(wanted));
    }
}

#[test]
fn what_may_have_another_form_is_left_alone() {
    for body in [
        "{}",
        r#"{"stream":true}"#,
        r#"{"stream":null,"stream":null}"#,
        r#"{"stream_options":{}}"#,
        r#"{"stream_options":null,"stream_options":null}"#,
        r#"{"logprobs":5}"#,
        r#"{"prompt":["a"]}"#,
        r#"{"tools":[]}"#,
        r#"{"detokenize":false}"#,
    ] {
        assert_eq!(asked(body, true), None, "{body}");
    }
    for body in ["", "[]", "{", r#"{"n":1}x"#] {
        assert!(ask_for_stream(&Bytes::copy_from_slice(body.as_bytes()), true).is_err(), "{body}");
    }
}

proptest! {
    #[test]
    fn the_tree_gains_what_asks_and_nothing_else(
        names in prop::collection::btree_set(prop::sample::select(HARMLESS.to_vec()), 1..6),
        stream in prop::sample::select(vec![None, Some(json!(false)), Some(Value::Null)]),
        spaces in "[ \n\t]{0,3}",
        usage: bool,
    ) {
        let mut tree: serde_json::Map<_, _> =
            names.into_iter().map(|name| (name.to_owned(), json!([name, 1, "\u{e9}"]))).collect();
        if let Some(stream) = stream {
            tree.insert("stream".to_owned(), stream);
        }
        let body = format!("{spaces}{}{spaces}", Value::Object(tree.clone()));
        let got = asked(&body, usage).unwrap();
        tree.insert("stream".to_owned(), json!(true));
        if usage {
            tree.insert("stream_options".to_owned(), json!({"include_usage": true}));
        }
        prop_assert_eq!(serde_json::from_str::<Value>(&got).unwrap(), Value::Object(tree));
    }
}
