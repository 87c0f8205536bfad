use std::path::Path;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// Whether the whole text is JSON: the scanner's part, and UTF-8.
fn is_json(text: &[u8]) -> bool {
    let mut scanner = Scanner::new(text);
    std::str::from_utf8(text).is_ok() && scanner.value().is_ok() && scanner.end().is_ok()
}

/// What serde_json refuses by intent though RFC 8259 allows it; the scanner keeps such texts as they are.
fn is_serde_gap(error: &serde_json::Error) -> bool {
    let text = error.to_string();
    ["number out of range", "surrogate", "hex escape", "recursion limit"]
        .iter()
        .any(|gap| text.contains(gap))
}

#[test]
fn texts_that_are_json() {
    for text in [
        "[]",
        " {} ",
        "\t\r\n0\n",
        "\"\"",
        "-0",
        "-0.0e+1",
        "1E400",
        "123456789012345678901234567890",
        "[1,2 , 3]",
        r#"{"a":1,"a":2}"#,
        r#"{"":0}"#,
        r#""\ud800""#,
        r#""\uDC00\ud83d\ude00\"\\\/\b\f\n\r\t""#,
        "\"\u{7f}\u{2028}é中😀\"",
        "[[],[[]],{\"a\":[{}]},true,false,null]",
    ] {
        assert!(is_json(text.as_bytes()), "{text}");
    }
}

#[test]
fn texts_that_are_not_json() {
    for text in [
        "",
        " ",
        "[",
        "]",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1,,2]",
        "[1}",
        "{]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\" 1}",
        "{\"a\":1,}",
        "{,}",
        "{a:1}",
        "{1:1}",
        "{'a':1}",
        "{\"a\":1 \"b\":2}",
        "{\"a\":1}}",
        "[]]",
        "[] x",
        "01",
        "-",
        "-01",
        "+1",
        ".1",
        "1.",
        "1.e1",
        "1e",
        "1e+",
        "0x1",
        "1_0",
        "NaN",
        "Infinity",
        "tru",
        "nul",
        "True",
        "truefalse",
        "\"",
        "\"\\\"",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\\u123",
        "\"a\nb\"",
        "\"\t\"",
        "\"\0\"",
        "\u{feff}{}",
        "\u{a0}1",
        "// x\n1",
        "/**/1",
        "'a'",
        "\u{b}1",
        "[1]\0",
    ] {
        assert!(!is_json(text.as_bytes()), "{text}");
    }
    assert!(!is_json(b"\"\xff\""));
    assert!(!is_json(b"[\xed\xa0\x80]"));
}

#[test]
fn json_test_suite() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Ok(folder) = std::fs::read_dir(manifest.join("../../../shared/data/jsontestsuite")) else {
        eprintln!("skipped: the files of JSONTestSuite are not there");
        return;
    };
    let mut count = 0;
    for entry in folder {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let accepted = is_json(&std::fs::read(&path).unwrap());
        match name.as_bytes().first() {
            Some(b'y') => assert!(accepted, "{name}"),
            Some(b'n') => assert!(!accepted, "{name}"),
            _ => {}
        }
        count += 1;
    }
    assert!(count > 300, "{count} files only");
}

#[test]
fn nesting_is_limited() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(is_json(nested(MAX_DEPTH).as_bytes()));
    assert!(!is_json(nested(MAX_DEPTH + 1).as_bytes()));
    let mixed = "{\"a\":[".repeat(MAX_DEPTH / 2) + "1" + &"]}".repeat(MAX_DEPTH / 2);
    assert!(is_json(mixed.as_bytes()));
    assert_eq!(
        Scanner::new(nested(MAX_DEPTH + 1).as_bytes()).value(),
        Err(SyntaxError { offset: MAX_DEPTH })
    );
    // Hostile depth costs no stack.
    assert!(!is_json("[{\"\":".repeat(if cfg!(miri) { 1000 } else { 100_000 }).as_bytes()));
}

#[test]
fn errors_point_at_the_byte() {
    for (text, offset) in [("[1,x]", 3), ("{\"a\"1}", 4), ("\"a\\q\"", 3), ("[1", 2), ("1.x", 2)] {
        let error = Scanner::new(text.as_bytes()).value().unwrap_err();
        assert_eq!(error.offset, offset, "{text}");
    }
    let mut scanner = Scanner::new(b"1 2");
    scanner.value().unwrap();
    assert_eq!(scanner.end(), Err(SyntaxError { offset: 2 }));
}

#[test]
fn members_have_raw_keys_and_values() {
    let text = r#" { "a\"b" : [ 1 , {"c":2}] , "d\u0065" :-0.50 ,"a\"b":"\/" } "#;
    let mut scanner = Scanner::new(text.as_bytes());
    scanner.enter_object().unwrap();
    let mut members = Vec::new();
    while let Some(key) = scanner.next_key().unwrap() {
        members.push((key, scanner.value().unwrap()));
    }
    scanner.end().unwrap();
    let wanted: [(&[u8], &[u8]); 3] =
        [(br#"a\"b"#, br#"[ 1 , {"c":2}]"#), (br"d\u0065", b"-0.50"), (br#"a\"b"#, br#""\/""#)];
    assert_eq!(members, wanted);
}

#[test]
fn keys_are_compared_with_escapes() {
    assert!(is_key(b"usage", "usage"));
    assert!(is_key(br"us\u0061ge", "usage"));
    assert!(is_key(br"a\/b", "a/b"));
    assert!(!is_key(br"usage\u0000", "usage"));
    assert!(!is_key(br"\ud800", "usage"));
    assert_eq!(unescape(br"\ud83d\ude00").as_deref(), Some("😀"));
    assert_eq!(unescape(br"\ud800"), None);
    assert_eq!(unescape(b"\xff"), None);
}

#[test]
fn integers_are_unsigned_and_whole() {
    for (text, value) in [
        ("0", Some(0)),
        ("18446744073709551615", Some(u64::MAX)),
        ("18446744073709551616", None),
        ("-1", None),
        ("1.0", None),
        ("1e3", None),
        ("\"7\"", None),
        ("[7]", None),
    ] {
        let mut scanner = Scanner::new(text.as_bytes());
        assert_eq!(scanner.integer(), Ok(value), "{text}");
        assert_eq!(scanner.end(), Ok(()), "{text}");
    }
}

/// JSON text with odd white space, double keys, escapes and numbers that a float cannot hold.
pub(crate) fn json_text() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,9})?([eE][+-]?[0-9]{1,2})?",
        json_string(),
    ];
    scalar.prop_recursive(6, 60, 6, |inner| {
        let member = (json_string(), space(), inner.clone());
        prop_oneof![
            (space(), prop::collection::vec(inner, 0..6), space())
                .prop_map(|(a, items, b)| format!("[{a}{}{b}]", items.join(&format!("{b},{a}")))),
            (space(), prop::collection::vec(member, 0..6)).prop_map(|(space, members)| {
                let members: Vec<_> =
                    members.iter().map(|(key, s, value)| format!("{key}{s}:{s}{value}")).collect();
                format!("{{{space}{}{space}}}", members.join(&format!("{space},")))
            }),
        ]
    })
}

fn space() -> impl Strategy<Value = String> {
    "[ \t\r\n]{0,3}"
}

fn json_string() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "[a-z\u{7f}-\u{ffff}😀/ ]{0,9}",
        Just("usage".to_owned()),
        Just("performance".to_owned()),
        Just(r"\u00e9\ud83d\ude00".to_owned()),
        r#"\\["\\/bfnrt]"#,
    ];
    prop::collection::vec(part, 0..3).prop_map(|parts| format!("\"{}\"", parts.concat()))
}

fn agrees_with_serde(text: &[u8]) -> std::result::Result<(), TestCaseError> {
    match serde_json::from_slice::<Value>(text) {
        Ok(_) => prop_assert!(is_json(text)),
        Err(error) if is_serde_gap(&error) => {}
        Err(error) => prop_assert!(!is_json(text), "{error}: {}", String::from_utf8_lossy(text)),
    }
    Ok(())
}

proptest! {
    #[test]
    fn generated_json_is_accepted(text in json_text()) {
        prop_assert!(is_json(text.as_bytes()));
        agrees_with_serde(text.as_bytes())?;
    }

    #[test]
    fn mutated_json_is_judged_as_by_serde_json(
        text in json_text(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..3, prop_oneof![
            any::<u8>(), prop::sample::select(b"{}[],:\"\\0-+.eEtfn \n".to_vec()),
        ]), 1..4),
    ) {
        let mut text = text.into_bytes();
        for (place, how, byte) in changes {
            let at = place.index(text.len().max(1));
            match how {
                0 if at < text.len() => { text.remove(at); }
                1 if at < text.len() => text[at] = byte,
                _ => text.insert(at, byte),
            }
        }
        agrees_with_serde(&text)?;
    }

    #[test]
    fn arbitrary_bytes_are_judged_as_by_serde_json(text in prop::collection::vec(any::<u8>(), 0..40)) {
        agrees_with_serde(&text)?;
    }
}
