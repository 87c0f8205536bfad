//! Server-Sent Events: the same events and offsets however the stream is cut, and those of the naive twin.

use fastwrap_core::sse::{Decoder, Frame};

use crate::twins::sse::{Block, decode};

/// What a decoder makes of a stream that comes in pieces.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Decoded {
    /// Events that a blank line ended.
    pub(crate) blocks: Vec<Block>,
    /// Offsets in the stream behind each of them.
    pub(crate) ends: Vec<usize>,
    /// What stood behind the last one.
    pub(crate) unfinished: Block,
}

/// Shows `pieces` to a decoder as the proxy does.
pub(crate) fn decode_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    let mut decoder = Decoder::default();
    let mut decoded = Decoded::default();
    let mut buffer = Vec::new();
    let mut offset = 0;
    let mut take = |decoder: &mut Decoder, buffer: &mut Vec<u8>, decoded: &mut Decoded| {
        while let Some(frame) = decoder.next_event(buffer) {
            decoded.blocks.push(block(&frame, buffer));
            offset += frame.end;
            decoded.ends.push(offset);
            buffer.drain(..frame.end);
        }
    };
    for piece in pieces {
        buffer.extend_from_slice(piece);
        take(&mut decoder, &mut buffer, &mut decoded);
    }
    decoder.close();
    take(&mut decoder, &mut buffer, &mut decoded);
    if let Some(frame) = decoder.finish(&buffer) {
        assert_eq!(frame.end, buffer.len());
        decoded.unfinished = block(&frame, &buffer);
    }
    decoded
}

fn block(frame: &Frame, buffer: &[u8]) -> Block {
    let data = frame.data(buffer).map(std::borrow::Cow::into_owned);
    Block { name: frame.name(buffer).to_vec(), data }
}

/// Checks one stream.
pub(crate) fn check(stream: &[u8]) {
    let whole = decode_pieces([stream]);
    let (blocks, unfinished) = decode(stream);
    assert_eq!((&whole.blocks, &whole.unfinished), (&blocks, &unfinished));
    assert_eq!(decode_pieces(stream.chunks(1)), whole);
    assert_eq!(decode_pieces(super::cut(stream, stream.len() as u64)), whole);
}
