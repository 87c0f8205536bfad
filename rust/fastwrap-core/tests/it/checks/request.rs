//! Requests: asking for usage changes `stream_options.include_usage` and nothing else.

use bytes::Bytes;
use fastwrap_core::request::Facts;
use fastwrap_core::upload::Reader;
use serde_json::{Value, json};

/// Checks one body.
pub(crate) fn check(body: &[u8]) {
    assert_eq!(passed(body, false), body, "a body that nobody asks anything of has changed");
    let _ = passed(body, true);
    let tree = serde_json::from_slice::<Value>(body).ok().filter(Value::is_object);
    let Ok(facts) = Facts::read(body) else {
        return assert_eq!(tree, None, "a JSON object was refused");
    };
    let patched = facts.ask_for_usage(Bytes::copy_from_slice(body));
    let Some(mut tree) = tree else {
        return;
    };
    assert_eq!(facts.stream, tree.get("stream") == Some(&Value::Bool(true)));
    assert_eq!(facts.choices, tree.get("n").and_then(Value::as_u64).unwrap_or(1));
    assert_eq!(facts.can_ask_for_usage(), is_wanted(&tree));
    if !facts.can_ask_for_usage() {
        return assert_eq!(patched, body);
    }
    assert!(patched.len() > body.len() || without_false_or_null(&tree));
    match tree.get_mut("stream_options").and_then(Value::as_object_mut) {
        Some(options) => {
            options.insert("include_usage".to_owned(), Value::Bool(true));
        }
        None => tree["stream_options"] = json!({"include_usage": true}),
    }
    assert_eq!(serde_json::from_slice::<Value>(&patched).ok(), Some(tree));
}

/// What becomes of a body that is read while it passes, in two pieces.
fn passed(body: &[u8], ask: bool) -> Vec<u8> {
    let mut reader = Reader::new(ask);
    let mut out = Vec::new();
    let whole = Bytes::copy_from_slice(body);
    for piece in [whole.slice(..body.len() / 2), whole.slice(body.len() / 2..)] {
        reader.data(&piece, &mut out);
    }
    reader.finish(&mut out);
    out.concat()
}

/// Whether fastwrap should ask: the client streams, did not ask itself, and may not notice.
fn is_wanted(tree: &Value) -> bool {
    if tree.get("stream") != Some(&Value::Bool(true)) {
        return false;
    }
    match tree.get("stream_options") {
        None | Some(Value::Null) => true,
        Some(Value::Object(options)) => {
            let include = options.get("include_usage").unwrap_or(&Value::Null);
            options.get("continuous_usage_stats") != Some(&Value::Bool(true))
                && (include.is_null() || *include == Value::Bool(false))
        }
        Some(_) => false,
    }
}

/// `false` and `null` give way to `true`, which is not longer.
fn without_false_or_null(tree: &Value) -> bool {
    tree.pointer("/stream_options/include_usage").is_some()
}
