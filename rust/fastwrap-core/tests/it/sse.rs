//! Any stream of events, cut anywhere, equals what a naive decoder makes of it.

use proptest::prelude::*;

use crate::CUT_STEP;
use crate::checks::sse::{check, decode_pieces};

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "data: [a-z{}\":é😀 ]{0,12}",
        1 => "data:[a-z]{0,3}",
        1 => "(data|event|:|id|retry)",
        1 => "(: |:|id:|retry: |event: |event:)[a-z0-9]{0,4}",
        1 => "[{a-z: \u{feff}]{1,5}",
        1 => Just("data: [DONE]".to_owned()),
    ]
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let end = || prop::sample::select(vec!["\n", "\n", "\r\n", "\r"]);
    let lines = prop::collection::vec((line(), end()), 0..4);
    let events = prop::collection::vec((lines, end()), 0..6);
    // One style of line ends for the whole stream, or none.
    let style = prop::option::of(end());
    (any::<bool>(), events, style, "(data: a|d|\r|\n)?").prop_map(|(mark, events, style, tail)| {
        let mut out = String::from(if mark { "\u{feff}" } else { "" });
        for (lines, blank) in events {
            for (line, end) in lines {
                out += &line;
                out += style.unwrap_or(end);
            }
            out += style.unwrap_or(blank);
        }
        (out + &tail).into_bytes()
    })
}

proptest! {
    #[test]
    fn equals_the_twin_however_it_is_cut(stream in stream()) {
        check(&stream);
        let whole = decode_pieces([&*stream]);
        for at in (0..=stream.len()).step_by(CUT_STEP) {
            let (left, right) = stream.split_at(at);
            prop_assert_eq!(&decode_pieces([left, right]), &whole, "cut at {}", at);
        }
    }

    #[test]
    fn equals_the_twin_for_any_bytes(stream in prop::collection::vec(prop::sample::select(b"data: \n\r\r\n:{\xef\xbb\xbf".to_vec()), 0..60)) {
        check(&stream);
    }
}
