//! One property a module: what must hold for any bytes. The fuzz targets feed them, and `corpus.rs` replays what was
//! found.

pub(crate) mod assemble;
pub(crate) mod event;
pub(crate) mod request;
pub(crate) mod splice;
pub(crate) mod sse;
pub(crate) mod stream;

/// Cuts `bytes` into pieces whose lengths `seed` decides: 1 to 16 bytes each.
pub(crate) fn cut(bytes: &[u8], seed: u64) -> Vec<&[u8]> {
    let mut state = seed | 1;
    let mut rest = bytes;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        // Knuth's multiplier for a linear congruential generator; its high bits are good enough.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let length = usize::try_from(state >> 60).unwrap_or(0) + 1;
        let (piece, more) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        rest = more;
    }
    pieces
}
