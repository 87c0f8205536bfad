//! Splicing: what is inserted is all that changes, in bytes and in meaning.

use bytes::Bytes;
use fastwrap_core::splice::{Layout, Refusal, insert, insert_between, remove};
use fastwrap_core::stream::{BLOCK_NAMES, Places};
use serde_json::{Value, json};

const BLOCK: &str = r#"{"inserted":[1]}"#;

/// What a trusted parser refuses though it is JSON: lone surrogates, huge exponents, deep nesting.
fn is_known_gap(error: &serde_json::Error) -> bool {
    let text = error.to_string();
    ["surrogate", "hex escape", "number out of range", "recursion limit"]
        .iter()
        .any(|gap| text.contains(gap))
}

/// Checks one text.
pub(crate) fn check(text: &[u8]) {
    let tree = serde_json::from_slice::<Value>(text);
    let layout = match (Layout::of(text, &BLOCK_NAMES), &tree) {
        (Ok(layout), _) => layout,
        (Err(Refusal::NotAnObject), Ok(tree)) => return assert!(!tree.is_object()),
        (Err(refusal), Ok(tree)) => return assert_eq!(None, Some((refusal, tree))),
        (Err(_), Err(_)) => return,
    };
    if let Ok(tree) = &tree {
        check_removal(tree, text);
    }
    if let Err(error) = &tree {
        assert!(is_known_gap(error), "{error}");
    }
    let Some(name) = layout.body.name else {
        assert_eq!(insert(text, &[layout.body], BLOCK.as_bytes()), Err(Refusal::NameTaken));
        return;
    };
    let spliced = insert(text, &[layout.body], BLOCK.as_bytes()).unwrap_or_default();
    check_bytes(text, &spliced, name);
    check_pieces(text, layout);
    if let Ok(tree) = tree {
        check_meaning(&tree, &spliced, name);
        check_usage(&tree, text);
    }
}

/// One run of bytes was added and nothing else changed.
fn check_bytes(text: &[u8], spliced: &[u8], name: &str) {
    let member = format!("\"{name}\":{BLOCK}");
    let at = memchr::memmem::rfind(spliced, member.as_bytes()).unwrap_or(usize::MAX);
    let (before, rest) = spliced.split_at_checked(at).unwrap_or_default();
    let after = rest.get(member.len()..).unwrap_or_default();
    let without_comma = before.strip_suffix(b",").unwrap_or(before);
    let without = [[before, after].concat(), [without_comma, after].concat()];
    assert!(without.iter().any(|without| without == text));
}

/// Pieces that are not copied hold the same bytes, and none of them is empty.
fn check_pieces(text: &[u8], layout: Layout) {
    let mut slots: Vec<_> = layout.usage.into_iter().chain([layout.body]).collect();
    slots.sort_by_key(|slot| slot.at);
    let pieces = insert_between(&Bytes::copy_from_slice(text), &slots, BLOCK.as_bytes());
    let inserted = insert(text, &slots, BLOCK.as_bytes());
    assert_eq!(pieces.clone().map(|pieces| pieces.concat()), inserted);
    assert!(pieces.unwrap_or_default().iter().all(|piece| !piece.is_empty()));
}

fn check_meaning(tree: &Value, spliced: &[u8], name: &str) {
    let mut changed: Value = serde_json::from_slice(spliced).unwrap_or_default();
    let removed = changed.as_object_mut().and_then(|object| object.shift_remove(name));
    assert_eq!(removed, Some(json!({"inserted": [1]})));
    assert_eq!(&changed, tree);
}

/// Every member `usage` goes, and nothing else.
fn check_removal(tree: &Value, text: &[u8]) {
    let mut wanted = tree.clone();
    let removed = wanted.as_object_mut().and_then(|object| object.shift_remove("usage"));
    let out = remove(text, "usage").unwrap_or_default();
    assert_eq!(serde_json::from_slice::<Value>(&out).ok(), Some(wanted));
    assert_eq!(out == text, removed.is_none());
}

fn check_usage(tree: &Value, text: &[u8]) {
    let usage = tree.get("usage").is_some_and(Value::is_object);
    let places = Places { body: false, usage: true };
    let Some(spliced) = places.splice(text, BLOCK.as_bytes()) else {
        return;
    };
    let changed: Value = serde_json::from_slice(&spliced).unwrap_or_default();
    let has_block = |tree: &Value| {
        let block = json!({"inserted": [1]});
        BLOCK_NAMES.iter().any(|name| tree.pointer(&format!("/usage/{name}")) == Some(&block))
    };
    assert_eq!(has_block(&changed), usage);
    assert_eq!(spliced == text, !usage);
}
