use super::*;

/// Each event's name and data, decoded from pieces as the proxy shows them.
fn events(pieces: &[&[u8]]) -> Vec<(String, Option<String>)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut decoder = Decoder::default();
    let mut buffer = Vec::new();
    let mut events = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while let Some(frame) = decoder.next_event(&buffer) {
            let data = frame.data(&buffer).map(|data| text(&data));
            events.push((text(frame.name(&buffer)), data));
            buffer.drain(..frame.end);
        }
    }
    events
}

fn data_of(stream: &str) -> Vec<Option<String>> {
    events(&[stream.as_bytes()]).into_iter().map(|(_, data)| data).collect()
}

fn some(data: &[&str]) -> Vec<Option<String>> {
    data.iter().map(|data| Some((*data).to_owned())).collect()
}

#[test]
fn lines_end_in_lf_crlf_or_cr() {
    assert_eq!(data_of("data: a\n\ndata: b\n\n"), some(&["a", "b"]));
    assert_eq!(data_of("data: a\r\n\r\ndata: b\r\n\r\n"), some(&["a", "b"]));
    // The last CR may be half of a CRLF: only one more byte shows.
    assert_eq!(data_of("data: a\r\rdata: b\r\r"), some(&["a"]));
    assert_eq!(data_of("data: a\r\rdata: b\r\r:"), some(&["a", "b"]));
    assert_eq!(data_of("data: a\n\rdata: b\r\n\n"), some(&["a", "b"]));
}

#[test]
fn a_closed_stream_waits_for_no_lf() {
    let mut decoder = Decoder::default();
    let stream = b"data: a\r\r";
    assert_eq!(decoder.next_event(stream), None);
    decoder.close();
    assert_eq!(decoder.next_event(stream).map(|frame| frame.end), Some(stream.len()));
}

#[test]
fn fields_follow_the_specification() {
    for (stream, data) in [
        ("data:a\n\n", Some("a")),
        ("data:  a \n\n", Some(" a ")),
        ("data\n\n", Some("")),
        ("data:\n\n", Some("")),
        ("data: a\ndata:b\ndata\n\n", Some("a\nb\n")),
        (": data: a\n\n", None),
        (":\n\n", None),
        ("\n", None),
        ("dat: a\ndatas: b\n data: c\nDATA: d\n\n", None),
        ("id: 1\nretry: 2\ndata: a\n: x\nevent: e\n\n", Some("a")),
        ("data: a:b\n\n", Some("a:b")),
    ] {
        assert_eq!(data_of(stream), [data.map(str::to_owned)], "{stream:?}");
    }
}

#[test]
fn the_last_event_field_names_the_event() {
    let name = |stream: &str| events(&[stream.as_bytes()])[0].0.clone();
    assert_eq!(name("event: a\nevent:b\ndata: x\n\n"), "b");
    assert_eq!(name("event: a\nevent\ndata: x\n\n"), "");
    assert_eq!(name("data: x\n\n"), "");
    let stream = "event: a\n\ndata: x\n\n";
    assert_eq!(events(&[stream.as_bytes()])[1].0, "", "a name is forgotten with its event");
}

#[test]
fn only_a_leading_byte_order_mark_is_skipped() {
    assert_eq!(data_of("\u{feff}data: a\n\n\u{feff}data: b\n\n"), [Some("a".to_owned()), None]);
    assert_eq!(data_of("\u{feff}\n"), [None]);
    assert_eq!(events(&[b"\xef", b"\xbb", b"\xbfdata: a\n", b"\n"])[0].1.as_deref(), Some("a"));
    assert_eq!(events(&[b"\xef\xbb", b"data: a\n\n"])[0].1, None);
}

#[test]
fn what_no_blank_line_ends_is_left_over() {
    let left = |stream: &[u8]| {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.next_event(stream), None);
        let frame = decoder.finish(stream)?;
        assert_eq!(frame.end, stream.len());
        frame.data(stream).map(|data| String::from_utf8_lossy(&data).into_owned())
    };
    assert_eq!(left(b"data: a").as_deref(), Some("a"));
    assert_eq!(left(b"data: a\r").as_deref(), Some("a"));
    assert_eq!(left(b"data: a\ndata: b\n").as_deref(), Some("a\nb"));
    assert_eq!(left(b"dat"), None);
    assert_eq!(left(b""), None);
}

#[test]
fn raw_json_is_noticed() {
    let raw = |stream: &[u8]| Decoder::default().next_event(stream).unwrap().raw_json;
    assert!(raw(b"{\"error\":1}\n\n"));
    assert!(raw(b"data: a\n{\n\n"));
    assert!(!raw(b"data: {\"a\":1}\n\n"));
    assert!(Decoder::default().finish(b"{\"detail\":\"x\"}").unwrap().raw_json);
}

/// An event of 8 MiB in pieces of 1 KiB: whatever has been searched is not searched again.
#[test]
fn every_byte_is_searched_once() {
    let mut stream = b"data: ".to_vec();
    stream.resize(if cfg!(miri) { 64 << 10 } else { 8 << 20 }, b'x');
    stream.extend_from_slice(b"\n\n");
    let mut decoder = Decoder::default();
    let mut shown = 0;
    while shown + 1024 < stream.len() {
        shown += 1024;
        assert_eq!(decoder.next_event(&stream[..shown]), None);
        assert_eq!(decoder.searched, shown, "the next look starts behind all that was seen");
    }
    let frame = decoder.next_event(&stream).unwrap();
    assert_eq!((frame.end, frame.data), (stream.len(), Some(6..stream.len() - 2)));
}
