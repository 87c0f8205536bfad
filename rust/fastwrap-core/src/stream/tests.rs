use super::*;

const BLOCK: &str = r#"{"b":1}"#;
const FINISH: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const TOLD: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"performance\":{\"b\":1}}\n\n";
const TEXT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n";
const USAGE: &str = "data: {\"id\":\"x\",\"choices\":[],\"usage\":{\"completion_tokens\":2},\"timings\":{\"n\": 1}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

#[derive(Default)]
struct Fixed {
    engine: Vec<String>,
    comes_with_usage: Option<&'static str>,
}

impl Render for Fixed {
    fn render(&mut self, _: &Timeline) -> Option<Bytes> {
        Some(Bytes::from_static(BLOCK.as_bytes()))
    }
    fn comes_with_usage(&self) -> Option<&str> {
        self.comes_with_usage
    }
    fn engine_numbers(&mut self, data: &[u8]) {
        self.engine.push(String::from_utf8_lossy(data).into_owned());
    }
}

const SETTINGS: StreamSettings = StreamSettings {
    dialect: Dialect::Choices,
    framing: Framing::Events,
    places: Places { body: true, usage: false },
    strip_usage: false,
    usage_per_choice: false,
    usage_in_chunks: false,
    stall_ns: 1,
};
const STRIP: StreamSettings = StreamSettings { strip_usage: true, ..SETTINGS };

/// A stream under test, with what came out of it.
struct Run {
    stream: Stream,
    timeline: Timeline,
    render: Fixed,
    out: Vec<Bytes>,
}

impl Run {
    fn new(settings: StreamSettings) -> Self {
        let stream = Stream::new(settings);
        Self { stream, timeline: Timeline::new(0), render: Fixed::default(), out: Vec::new() }
    }

    /// Feeds one piece; what comes out of it at once.
    fn feed(&mut self, piece: &str) -> String {
        self.feed_bytes(Bytes::copy_from_slice(piece.as_bytes()))
    }

    fn feed_bytes(&mut self, piece: Bytes) -> String {
        let Self { stream, timeline, render, out } = self;
        stream.data(piece, 1, timeline, render, out);
        self.take()
    }

    fn finish(&mut self) -> (String, StreamEnd) {
        let Self { stream, timeline, render, out } = self;
        let end = stream.finish(timeline, render, out);
        (self.take(), end)
    }

    fn fail(&mut self) -> (String, StreamEnd) {
        let end = self.stream.fail(&mut self.out);
        (self.take(), end)
    }

    fn take(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.out).concat()).unwrap()
    }
}

fn whole(settings: StreamSettings, stream: &[&str]) -> (String, StreamEnd) {
    let mut run = Run::new(settings);
    let mut out = run.feed(&stream.concat());
    let (rest, end) = run.finish();
    out += &rest;
    (out, end)
}

#[test]
fn only_the_event_that_may_be_last_waits() {
    let mut run = Run::new(SETTINGS);
    assert_eq!(run.feed(TEXT), TEXT);
    assert_eq!(run.feed(": ping\n\n"), ": ping\n\n");
    assert_eq!(run.feed(FINISH), "", "held");
    assert_eq!(run.feed(": ping\n\n"), "", "waits behind it");
    assert_eq!(run.feed("data: [DO"), "");
    assert_eq!(run.feed("NE]\n\n"), format!("{TOLD}: ping\n\n{DONE}"));
    assert_eq!(run.feed(": bye\n\n"), ": bye\n\n");
}

#[test]
fn events_of_one_read_that_pass_are_one_piece() {
    let Run { mut stream, mut timeline, mut render, mut out } = Run::new(SETTINGS);
    let read = Bytes::from([TEXT, ": a comment\n\n", TEXT, TEXT].concat());
    stream.data(read.clone(), 1, &mut timeline, &mut render, &mut out);
    assert_eq!(out, [read]);
}

#[test]
fn a_held_event_that_was_not_the_last_goes_unchanged() {
    let second = FINISH.replace("\"index\":0", "\"index\":1");
    let (out, _) = whole(SETTINGS, &[FINISH, TEXT, &second, DONE]);
    let told = TOLD.replace("\"index\":0", "\"index\":1");
    assert_eq!(out, [FINISH, TEXT, &told, DONE].concat());
}

#[test]
fn the_usage_chunk_carries_the_block_if_the_client_asked_for_it() {
    let told = USAGE.replace("}}\n", "},\"performance\":{\"b\":1}}\n");
    assert_eq!(
        whole(SETTINGS, &[TEXT, FINISH, USAGE, DONE]).0,
        [TEXT, FINISH, &told, DONE].concat()
    );
    let places = Places { body: false, usage: true };
    let told = USAGE.replace("2}", "2,\"performance\":{\"b\":1}}");
    let (out, _) = whole(StreamSettings { places, ..SETTINGS }, &[FINISH, USAGE, DONE]);
    assert_eq!(out, [FINISH, &told, DONE].concat());
}

#[test]
fn the_usage_chunk_goes_if_only_fastwrap_asked_and_its_members_move() {
    let moved =
        FINISH.replace("}]}", "}],\"id\":\"x\",\"timings\":{\"n\": 1},\"performance\":{\"b\":1}}");
    let mut run = Run::new(STRIP);
    let out = run.feed(&[TEXT, FINISH, USAGE, ": ping\n\n", DONE].concat());
    assert_eq!(out, [TEXT, &moved, ": ping\n\n", DONE].concat());
    assert_eq!(run.timeline.usage.and_then(|usage| usage.completion), Some(2));
    assert_eq!(
        run.render.engine.len(),
        2,
        "the finish and the usage chunk may hold the engine's numbers"
    );
    // A second usage chunk that holds nothing else does not undo what the first one brought.
    let bare = "data: {\"id\":\"x\",\"choices\":[],\"usage\":{}}\n\n";
    let (out, _) = whole(STRIP, &[FINISH, USAGE, bare, DONE]);
    assert!(out.contains("timings"), "{out}");
}

#[test]
fn what_comes_only_with_usage_goes_with_it() {
    let mut run = Run::new(STRIP);
    run.render.comes_with_usage = Some("timings");
    let out = run.feed(&[TEXT, FINISH, USAGE, DONE].concat());
    assert!(out.contains("],\"id\":\"x\",\"performance\""), "{out}");
}

#[test]
fn usage_in_every_chunk_is_taken_out_of_every_chunk() {
    let chunk = |event: &str, usage: &str| event.replace("}]}", &format!("}}]{usage}}}"));
    let usage = ",\"usage\":{\"completion_tokens\":2}";
    let stream = [&chunk(TEXT, usage), &chunk(FINISH, usage), USAGE, DONE];
    let settings = StreamSettings { usage_in_chunks: true, ..STRIP };
    let (out, _) = whole(settings, &stream);
    assert!(!out.contains("usage"), "{out}");
    assert!(out.starts_with(TEXT) && out.ends_with(DONE));
    assert_eq!(out.matches("performance").count(), 1);
}

#[test]
fn usage_that_the_engine_gives_to_everybody_stays() {
    let counted = TEXT.replace("}]}", "}],\"usage\":{\"completion_tokens\":1}}");
    let (out, _) = whole(STRIP, &[&counted, FINISH, USAGE, DONE]);
    let told = USAGE.replace("}}\n", "},\"performance\":{\"b\":1}}\n");
    assert_eq!(out, [&counted, FINISH, &told, DONE].concat());
}

#[test]
fn without_a_place_nothing_is_held_but_for_stripping() {
    let places = Places::default();
    let mut run = Run::new(StreamSettings { places, ..SETTINGS });
    assert_eq!(run.feed(FINISH), FINISH);
    assert_eq!(run.feed(USAGE), USAGE);
    let mut run = Run::new(StreamSettings { places, ..STRIP });
    assert_eq!(run.feed(FINISH), "");
    assert_eq!(run.feed(USAGE), "");
    let moved = FINISH.replace("}]}", "}],\"id\":\"x\",\"timings\":{\"n\": 1}}");
    assert_eq!(run.feed(DONE), moved + DONE);
}

#[test]
fn what_cannot_be_spliced_passes_untouched() {
    let two_lines = FINISH.replace("\"delta\"", "\ndata: \"delta\"");
    let taken = FINISH.replace("}]}", "}],\"performance\":1,\"fastwrap_performance\":2}");
    let broken = FINISH.replace("}]}", "}]");
    for event in [
        &*two_lines,
        &taken,
        &broken,
        "data: [1]\n\n",
        "data: x\n\n",
        "data\n\n",
        "event: finish\n\n",
    ] {
        let (out, end) = whole(SETTINGS, &[event, DONE]);
        assert_eq!(out, [event, DONE].concat());
        assert!(end.done && end.error.is_none());
    }
    let not_utf8 =
        [b"data: {\"choices\":[{\"finish_reason\":\"\xff\"}]}\n\n", DONE.as_bytes()].concat();
    let mut run = Run::new(SETTINGS);
    run.stream.data(not_utf8.clone().into(), 1, &mut run.timeline, &mut run.render, &mut run.out);
    assert_eq!(run.out.concat(), not_utf8);
}

#[test]
fn the_other_name_is_used_when_the_first_is_taken() {
    let taken = FINISH.replace("}]}", "}],\"performance\":1}");
    let told = taken.replace(":1}", ":1,\"fastwrap_performance\":{\"b\":1}}");
    assert_eq!(whole(SETTINGS, &[&taken, DONE]).0, told + DONE);
}

#[test]
fn an_error_in_the_stream_is_passed_on_and_no_block_follows() {
    for error in [
        "data: {\"error\":{\"message\":\"m\",\"type\":\"t\"}}\n\n",
        "data: {\"error\": \"not \"escaped\"\"}\n\n",
        "data: {\"object\":\"error\",\"message\":\"m\"}\n\n",
        "{\"error\":\"raw\"}\n\n",
        "event: error\ndata: {\"error\":\"m\"}\n\n",
    ] {
        for stream in [&[TEXT, error, DONE][..], &[FINISH, error, DONE], &[error, FINISH, DONE]] {
            let (out, end) = whole(SETTINGS, stream);
            assert_eq!(out, stream.concat());
            assert!(end.error.is_some(), "{error}");
        }
    }
}

#[test]
fn the_block_is_put_out_once() {
    assert_eq!(
        whole(SETTINGS, &[FINISH, DONE, FINISH, DONE]).0,
        [TOLD, DONE, FINISH, DONE].concat()
    );
    let completed = "data: {\"type\":\"response.completed\"}\n\n";
    let told = "data: {\"type\":\"response.completed\",\"performance\":{\"b\":1}}\n\n";
    let settings = StreamSettings { dialect: Dialect::Responses, ..SETTINGS };
    assert_eq!(whole(settings, &[completed, completed]).0, [told, completed].concat());
    let stop = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    let settings = StreamSettings { dialect: Dialect::Messages, ..SETTINGS };
    assert_eq!(whole(settings, &[stop]).0, stop.replace("\"}", "\",\"performance\":{\"b\":1}}"));
}

#[test]
fn a_stream_may_end_without_done_or_without_its_blank_line() {
    let (out, end) = whole(SETTINGS, &[TEXT, FINISH]);
    assert_eq!((out, end.done), ([TEXT, TOLD].concat(), false));
    let (out, end) = whole(SETTINGS, &[FINISH, "data: [DONE]"]);
    assert_eq!((out, end.done), (format!("{TOLD}data: [DONE]"), true));
    // An event without its blank line is none to a client: it is read, and left as it is.
    let usage = USAGE.trim_end();
    let (out, _) = whole(STRIP, &[FINISH, usage]);
    assert_eq!(out, [TOLD, usage].concat());
    let mut run = Run::new(SETTINGS);
    run.feed(FINISH.trim_end());
    assert_eq!(run.finish().0, FINISH.trim_end());
    assert!(!run.timeline.finished.is_empty());
}

#[test]
fn carriage_returns_alone_end_a_stream_too() {
    let cr = |text: &str| text.replace('\n', "\r");
    assert_eq!(whole(STRIP, &[&cr(FINISH), &cr(USAGE)]).0.matches("usage").count(), 0);
    let (out, end) = whole(SETTINGS, &[&cr(FINISH), &cr(DONE)]);
    assert_eq!((out, end.done), (cr(TOLD) + &cr(DONE), true));
}

#[test]
fn a_broken_stream_gives_what_has_arrived_and_no_block() {
    let mut run = Run::new(STRIP);
    run.feed(&[TEXT, FINISH].concat());
    let (out, end) = run.fail();
    assert_eq!((out.as_str(), end.inside_event), (FINISH, false));
    let mut run = Run::new(SETTINGS);
    run.feed(FINISH);
    assert_eq!(run.feed(": ping\n\ndata: {\"cho"), "");
    let (out, end) = run.fail();
    assert_eq!(
        (out.as_str(), end.inside_event),
        (&*[FINISH, ": ping\n\ndata: {\"cho"].concat(), true)
    );
    let mut run = Run::new(SETTINGS);
    assert_eq!(run.fail(), (String::new(), StreamEnd::default()));
}

#[test]
fn what_waits_behind_the_held_event_is_limited_however_it_is_cut() {
    let ping = format!(": {}\n\n", "p".repeat(1020));
    let pings = |count: usize| ping.repeat(count);
    for (count, told) in [(64, true), (65, false)] {
        let stream = [FINISH, &pings(count), DONE].concat();
        let wanted = [if told { TOLD } else { FINISH }, &pings(count), DONE].concat();
        assert!(whole(SETTINGS, &[&stream]).0 == wanted, "{count} in one piece");
        let mut run = Run::new(SETTINGS);
        let pieces = stream
            .as_bytes()
            .chunks(700)
            .map(|piece| run.feed(std::str::from_utf8(piece).unwrap()));
        let out: String = pieces.collect();
        assert!(out == wanted, "{count} in many");
    }
}

/// A finish event of `length` bytes in all.
fn large_finish(length: usize) -> Bytes {
    let padding = "x".repeat(length - FINISH.len() - r#","a":"""#.len());
    FINISH.replace("}]}", &format!("}}],\"a\":\"{padding}\"}}")).into()
}

#[test]
#[cfg_attr(miri, ignore = "reads 16 MiB, which the limit is")]
fn an_event_over_the_limit_passes_and_the_rest_unread_however_it_is_cut() {
    for (length, read) in [(MAX_EVENT_BYTES, true), (MAX_EVENT_BYTES + 1, false)] {
        let stream: Bytes = [large_finish(length), DONE.into()].concat().into();
        for size in [stream.len(), 1 << 20, MAX_EVENT_BYTES] {
            let mut run = Run::new(SETTINGS);
            let mut out = String::new();
            for at in (0..stream.len()).step_by(size) {
                out += &run.feed_bytes(stream.slice(at..stream.len().min(at + size)));
            }
            let (rest, end) = run.finish();
            out += &rest;
            assert_eq!((out.contains("performance"), end.done), (read, read), "{length} by {size}");
            assert!(read || out.as_bytes() == stream);
            assert_eq!(run.stream.is_blind(), !read);
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "reads 16 MiB, which the limit is")]
fn a_blind_stream_that_breaks_is_taken_to_break_inside_an_event() {
    let mut run = Run::new(SETTINGS);
    let large = large_finish(MAX_EVENT_BYTES + 1);
    assert_eq!(run.feed_bytes(large.clone()).as_bytes(), large);
    assert!(run.fail().1.inside_event);
}

/// 8 MiB in pieces of 1 KiB: no byte is copied more often than pending bytes are appended, and all come out.
#[test]
fn an_event_of_8_mib_in_small_pieces_is_whole() {
    let event = large_finish(if cfg!(miri) { 64 << 10 } else { 8 << 20 });
    let mut run = Run::new(SETTINGS);
    for at in (0..event.len()).step_by(1024) {
        assert_eq!(run.feed_bytes(event.slice(at..event.len().min(at + 1024))), "");
    }
    let out = run.feed(DONE);
    assert_eq!(out.len(), event.len() + r#","performance":{"b":1}"#.len() + DONE.len());
}
