//! Whole streams: the same bytes out however they are cut, and without the block the same as in.

use bytes::Bytes;
use fastwrap_core::event::Dialect;
use fastwrap_core::framing::Framing;
use fastwrap_core::stream::{BLOCK_NAMES, Places, Render, Stream, StreamEnd, StreamSettings};
use fastwrap_core::timeline::Timeline;

/// What is spliced in; nothing else holds this text.
pub(crate) const BLOCK: &str = r#"{"the":"block"}"#;

/// Renders [`BLOCK`].
pub(crate) struct Fixed;

impl Render for Fixed {
    fn render(&mut self, _: &Timeline) -> Option<Bytes> {
        Some(Bytes::from_static(BLOCK.as_bytes()))
    }
    fn engine_numbers(&mut self, _: &[u8]) {}
}

/// What comes out of a stream that is fed `pieces`; it ends properly, or breaks.
pub(crate) fn run<'a>(
    settings: StreamSettings,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    breaks: bool,
) -> (Vec<u8>, StreamEnd, Timeline) {
    let mut stream = Stream::new(settings);
    let mut timeline = Timeline::new(0);
    let mut out = Vec::new();
    for piece in pieces {
        timeline.bytes(1);
        stream.data(Bytes::copy_from_slice(piece), 1, &mut timeline, &mut Fixed, &mut out);
    }
    let end = if breaks {
        stream.fail(&mut out)
    } else {
        stream.finish(&mut timeline, &mut Fixed, &mut out)
    };
    assert!(out.iter().all(|part| !part.is_empty()), "an empty part is an end to some servers");
    (out.concat(), end, timeline)
}

/// Takes the block out, as whoever knows only its text would; tells how many there were.
pub(crate) fn without_block(output: &[u8]) -> (Vec<u8>, usize) {
    let mut out = output.to_vec();
    let mut count = 0;
    for name in BLOCK_NAMES {
        let member = format!("\"{name}\":{BLOCK}");
        while let Some(at) = memchr::memmem::find(&out, member.as_bytes()) {
            let comma = usize::from(out.get(..at).is_some_and(|before| before.ends_with(b",")));
            out.drain(at - comma..at + member.len());
            count += 1;
        }
    }
    (out, count)
}

/// Checks one stream; its first byte chooses the settings.
pub(crate) fn check(data: &[u8]) {
    let Some((choice, stream)) = data.split_first() else {
        return;
    };
    if memchr::memmem::find(stream, BLOCK.as_bytes()).is_some() {
        return;
    }
    let dialect = [Dialect::Choices, Dialect::Generate, Dialect::Responses, Dialect::Messages]
        [usize::from(choice & 3)];
    let is_lines = dialect == Dialect::Generate && choice & 128 != 0;
    let settings = StreamSettings {
        dialect,
        framing: if is_lines { Framing::Lines } else { Framing::Events },
        places: Places { body: choice & 4 == 0, usage: choice & 8 != 0 },
        strip_usage: choice & 16 != 0,
        usage_per_choice: choice & 32 != 0,
        usage_in_chunks: choice & 128 != 0,
        stall_ns: 1,
    };
    let breaks = choice & 64 != 0;
    let whole = run(settings, [stream], breaks);
    for pieces in [stream.chunks(1).collect(), super::cut(stream, stream.len() as u64)] {
        let cut = run(settings, pieces, breaks);
        assert_eq!(String::from_utf8_lossy(&cut.0), String::from_utf8_lossy(&whole.0));
        assert_eq!(cut.1, whole.1);
        assert_eq!((&cut.2.text, cut.2.usage), (&whole.2.text, whole.2.usage));
        assert!(cut.2.several_choices().eq(whole.2.several_choices()));
    }
    if !settings.strip_usage {
        let (without, count) = without_block(&whole.0);
        assert_eq!(String::from_utf8_lossy(&without), String::from_utf8_lossy(stream));
        assert!(count <= 2 * usize::from(settings.places.any()));
    }
}
