use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::json::tests::json_text;

const NAMES: [&str; 2] = ["performance", "fastwrap_performance"];
const BLOCK: &[u8] = br#"{"ttft_ms":1.5}"#;

fn spliced(text: &str) -> Result<String, Refusal> {
    let layout = Layout::of(text.as_bytes(), &NAMES)?;
    insert(text.as_bytes(), &[layout.body], BLOCK).map(|text| String::from_utf8(text).unwrap())
}

#[test]
fn a_member_goes_behind_the_last_one() {
    for (text, wanted) in [
        ("{}", r#"{"performance":{"ttft_ms":1.5}}"#),
        (" { \n} ", " {\"performance\":{\"ttft_ms\":1.5} \n} "),
        (r#"{"a":1}"#, r#"{"a":1,"performance":{"ttft_ms":1.5}}"#),
        ("{\"a\" : [ ] \r\n}\n", "{\"a\" : [ ],\"performance\":{\"ttft_ms\":1.5} \r\n}\n"),
        (r#"{"performance":0}"#, r#"{"performance":0,"fastwrap_performance":{"ttft_ms":1.5}}"#),
        (
            r#"{"perform\u0061nce":0}"#,
            r#"{"perform\u0061nce":0,"fastwrap_performance":{"ttft_ms":1.5}}"#,
        ),
        (r#"{"a":{"performance":0}}"#, r#"{"a":{"performance":0},"performance":{"ttft_ms":1.5}}"#),
    ] {
        assert_eq!(spliced(text).unwrap(), wanted);
    }
}

#[test]
fn what_cannot_be_changed_is_refused() {
    assert_eq!(spliced(r#"{"performance":0,"fastwrap_performance":0}"#), Err(Refusal::NameTaken));
    for text in ["[]", "[{\"a\":1}]", "1", "\"a\"", "null", " true "] {
        assert_eq!(spliced(text), Err(Refusal::NotAnObject), "{text}");
    }
    for text in
        ["", "{", "{\"a\":1", "{\"a\":1}x", "{\"a\":1}{}", "[1", "nul", "{a:1}", "{\"usage\":{,}}"]
    {
        assert!(matches!(spliced(text), Err(Refusal::Syntax(_))), "{text}");
    }
    for text in
        [b"\xff".as_slice(), b"\xed\xa0\x80", b"\xc3", &[b'\xf0'; 200], "é\u{7ff}\\n".as_bytes()]
    {
        // A key, a short string and a long one, at the start and behind a megabyte of other text.
        for before in ["", &"x".repeat(if cfg!(miri) { 1 << 8 } else { 1 << 20 })] {
            for (open, close) in
                [("{\"", "\":0}"), ("{\"a\":\"", "\"}"), ("{\"a\":[\"", "\"],\"b\":1}")]
            {
                let whole = [open.as_bytes(), before.as_bytes(), text, close.as_bytes()].concat();
                let is_text = std::str::from_utf8(text).is_ok();
                let refusal = Layout::of(&whole, &NAMES).err();
                assert_eq!(refusal, (!is_text).then_some(Refusal::Encoding), "{text:x?}");
            }
        }
    }
}

#[test]
fn usage_has_a_slot_of_its_own() {
    let both = |text: &str| {
        let layout = Layout::of(text.as_bytes(), &NAMES).unwrap();
        let slots: Vec<_> = layout.usage.into_iter().chain([layout.body]).collect();
        String::from_utf8(insert(text.as_bytes(), &slots, b"1").unwrap()).unwrap()
    };
    for (text, wanted) in [
        (r#"{"usage":{}}"#, r#"{"usage":{"performance":1},"performance":1}"#),
        (
            r#"{"usage":{"a":2} ,"b":3}"#,
            r#"{"usage":{"a":2,"performance":1} ,"b":3,"performance":1}"#,
        ),
        (r#"{"us\u0061ge":{}}"#, r#"{"us\u0061ge":{"performance":1},"performance":1}"#),
        (
            r#"{"usage":{"performance":0}}"#,
            r#"{"usage":{"performance":0,"fastwrap_performance":1},"performance":1}"#,
        ),
        (r#"{"usage":null}"#, r#"{"usage":null,"performance":1}"#),
        (r#"{"usage":[{}]}"#, r#"{"usage":[{}],"performance":1}"#),
        (r#"{"a":{"usage":{}}}"#, r#"{"a":{"usage":{}},"performance":1}"#),
    ] {
        assert_eq!(both(text), wanted);
    }
}

#[test]
fn missing_members_are_carried_over_as_they_are_written() {
    let from = br#"{"id":"x","usage":{"a":1},"timings" : {"b": 1.50},"n":12345678901234567890}"#;
    let members = missing_members(from, br#" {"id":"y", "choices":[]} "#, &["usage"]).unwrap();
    assert_eq!(members, br#""timings":{"b": 1.50},"n":12345678901234567890"#);
    let into = br#"{"id":"y"} "#;
    let layout = Layout::of(into, &[]).unwrap();
    let appended = append(into, layout.body, &members);
    assert_eq!(appended, br#"{"id":"y","timings":{"b": 1.50},"n":12345678901234567890} "#);
    let empty = Layout::of(b"{}", &[]).unwrap();
    assert_eq!(append(b"{}", empty.body, b"\"a\":1"), b"{\"a\":1}");
    assert_eq!(missing_members(b"{\"usage\":1}", b"{}", &["usage"]).unwrap(), b"");
    assert_eq!(missing_members(b"{\"a\":1}", b"{\"a\":2}", &["usage"]).unwrap(), b"");
    assert!(missing_members(b"[]", b"{}", &["usage"]).is_err());
    assert!(missing_members(b"{}", b"{\"a\":", &["usage"]).is_err());
}

#[test]
fn a_member_goes_with_its_comma() {
    for (text, wanted) in [
        ("{}", "{}"),
        (r#"{"a":1 , "b":2}"#, r#"{"a":1 , "b":2}"#),
        (r#"{"usage":{}}"#, "{}"),
        (r#"{ "usage" : 1 , "b":2 }"#, r#"{ "b":2 }"#),
        (r#"{"a":1, "usage":{"x":[]} ,"b":2}"#, r#"{"a":1 ,"b":2}"#),
        (r#"{"a":1 ,"usage":null } "#, r#"{"a":1 } "#),
        (r#"{"usage":1,"us\u0061ge":2,"a":{"usage":3},"usage":4}"#, r#"{"a":{"usage":3}}"#),
    ] {
        let out = remove(text.as_bytes(), "usage").unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), wanted, "{text}");
    }
    assert!(remove(b"[]", "usage").is_err());
    assert!(remove(b"{\"a\":1}}", "usage").is_err());
}

proptest! {
    #[test]
    fn inserting_then_removing_gives_back_every_byte(text in json_text(), spaces in "[ \n\t]{0,3}") {
        let text = format!("{spaces}{text}{spaces}");
        let layout = match Layout::of(text.as_bytes(), &NAMES) {
            Ok(layout) => layout,
            Err(refusal) => {
                prop_assert_eq!(refusal, Refusal::NotAnObject);
                let first = text.trim_start().as_bytes().first().copied();
                prop_assert_ne!(first, Some(b'\x7b'), "an object was refused");
                return Ok(());
            }
        };
        let Some(name) = layout.body.name else {
            prop_assert_eq!(insert(text.as_bytes(), &[layout.body], BLOCK), Err(Refusal::NameTaken));
            return Ok(());
        };
        let out = String::from_utf8(insert(text.as_bytes(), &[layout.body], BLOCK).unwrap()).unwrap();
        let member = format!("\"{name}\":{}", String::from_utf8_lossy(BLOCK));
        let (before, after) = out.rsplit_once(&member).unwrap();
        let before = before.strip_suffix(',').unwrap_or(before);
        prop_assert_eq!([before, after].concat(), text.as_str());

        let before: Value = serde_json::from_str(&text).unwrap();
        let mut after: Value = serde_json::from_str(&out).unwrap();
        let block = after.as_object_mut().unwrap().shift_remove(name);
        prop_assert_eq!(block, Some(json!({"ttft_ms": 1.5})));
        prop_assert_eq!(after, before);
    }
}
