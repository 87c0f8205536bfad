//! Searches that look at several bytes in one step.

const ONES: u64 = u64::MAX / 255;
const HIGH: u64 = ONES * 0x80;

/// This bit changed, the quote stands where the space was, right behind the control characters, which stay among
/// themselves: one comparison finds both.
const QUOTE_TO_SPACE: u8 = b'"' ^ b' ';

/// Words that are looked at one by one before a text is taken for a long one: nearly all strings of an event are shorter.
const SHORT_WORDS: usize = 8;

/// How many bytes there are before the next quote, backslash or control character; and all that was looked at, one byte
/// upon the other, of which [`is_ascii`] tells whether there was anything but ASCII.
#[inline]
pub(crate) fn plain_bytes(text: &[u8]) -> (usize, u64) {
    let (words, rest) = text.as_chunks::<8>();
    let mut seen = 0;
    for (at, word) in words.iter().enumerate() {
        if at == SHORT_WORDS {
            return plain_bytes_of_long(text);
        }
        seen |= u64::from_le_bytes(*word);
        if let Some(found) = special_byte(*word) {
            return (at * 8 + found, seen);
        }
    }
    plain_bytes_of_few(rest, words.len() * 8, seen)
}

/// Whether nothing but ASCII was seen.
pub(super) fn is_ascii(seen: u64) -> bool {
    seen & HIGH == 0
}

#[inline(never)]
fn plain_bytes_of_long(text: &[u8]) -> (usize, u64) {
    let (blocks, _) = text.as_chunks::<64>();
    // With a sign, what is no ASCII is below the quote as well, and costs nothing more.
    #[allow(clippy::cast_possible_wrap)]
    let is_other = |byte: u8| ((byte ^ QUOTE_TO_SPACE) as i8) <= 0x20 || byte == b'\\';
    let plain = leading_blocks(blocks, is_other);
    let (_, blocks) = blocks.split_at_checked(plain).unwrap_or_default();
    let other = leading_blocks(blocks, is_special);
    let mut seen = if other > 0 { HIGH } else { 0 };
    let plain = (plain + other) * 64;
    let (words, rest) = text.get(plain..).unwrap_or_default().as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        seen |= u64::from_le_bytes(*word);
        if let Some(found) = special_byte(*word) {
            return (plain + at * 8 + found, seen);
        }
    }
    plain_bytes_of_few(rest, plain + words.len() * 8, seen)
}

/// The last bytes of a text, `before` of which were plain.
fn plain_bytes_of_few(rest: &[u8], before: usize, mut seen: u64) -> (usize, u64) {
    let is_plain = |byte: &&u8| {
        seen |= u64::from(**byte);
        !is_special(**byte)
    };
    let plain = rest.iter().take_while(is_plain).count();
    (before + plain, seen)
}

/// How many blocks there are before the one that holds a byte looked for.
#[inline]
fn leading_blocks(blocks: &[[u8; 64]], is_wanted: impl Fn(u8) -> bool) -> usize {
    let has_none =
        |block: &&[u8; 64]| !block.iter().fold(false, |found, byte| found | is_wanted(*byte));
    blocks.iter().take_while(has_none).count()
}

fn is_special(byte: u8) -> bool {
    byte ^ QUOTE_TO_SPACE <= 0x20 || byte == b'\\'
}

/// The first special one of eight bytes.
#[inline]
fn special_byte(word: [u8; 8]) -> Option<usize> {
    let word = u64::from_le_bytes(word);
    // A byte that borrows is one below what is subtracted. A borrow spoils bytes behind the first such one only.
    let quote = (word ^ (ONES * u64::from(QUOTE_TO_SPACE))).wrapping_sub(ONES * 0x21);
    let backslash = (word ^ (ONES * u64::from(b'\\'))).wrapping_sub(ONES);
    first_byte((quote | backslash) & !word & HIGH)
}

/// How many digits there are before any other byte.
#[inline]
pub(super) fn leading_digits(text: &[u8]) -> usize {
    let (words, _) = text.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word) ^ (ONES * u64::from(b'0'));
        // What is 10 or more carries into the high bit; a carry out of a byte spoils those behind it only.
        if let Some(found) = first_byte((word.wrapping_add(ONES * (0x80 - 10)) | word) & HIGH) {
            return at * 8 + found;
        }
    }
    let rest = text.get(words.len() * 8..).unwrap_or_default();
    let found = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
    words.len() * 8 + found
}

/// The first byte of a word whose high bit is set.
#[inline]
fn first_byte(marks: u64) -> Option<usize> {
    (marks != 0).then(|| (marks.trailing_zeros() / 8) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Past every step of the loops; Miri walks each of them once or twice.
    const LENGTHS: std::ops::Range<usize> = if cfg!(miri) { 60..70 } else { 0..150 };

    /// Every byte value at every place, so that each lane of each step is tried.
    fn check(found: fn(&[u8]) -> usize, naive: fn(&u8) -> bool, plain: u8, stops: &[u8]) {
        for length in LENGTHS {
            for place in (0..length).step_by(length / 20 + 1) {
                for byte in (0..=u8::MAX).step_by(if cfg!(miri) { 31 } else { 1 }) {
                    let mut text = vec![plain; length];
                    text[place] = byte;
                    // Further stops behind the first must not be taken for it.
                    for stops in [stops, b""] {
                        text.extend_from_slice(stops);
                        let wanted = text.iter().position(naive).unwrap_or(text.len());
                        assert_eq!(found(&text), wanted, "byte {byte} at {place} of {length}");
                        text.truncate(length);
                    }
                }
            }
        }
    }

    #[test]
    fn plain_bytes_are_skipped_at_every_alignment() {
        let naive = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
        for plain in [b'x', 0xe4] {
            check(|text| plain_bytes(text).0, naive, plain, b"\"\x01\\\x1f");
        }
    }

    #[test]
    fn what_is_no_ascii_is_seen_at_every_alignment() {
        for length in LENGTHS {
            for place in 0..length {
                let mut text = vec![b'x'; length];
                for byte in [b'x', 0x80, 0xff] {
                    text[place] = byte;
                    let (plain, seen) = plain_bytes(&text);
                    assert_eq!(plain, length);
                    assert_eq!(is_ascii(seen), text.is_ascii(), "{byte} at {place} of {length}");
                }
            }
        }
    }

    #[test]
    fn digits_are_counted_at_every_alignment() {
        check(leading_digits, |byte| !byte.is_ascii_digit(), b'7', b"/:\0\xff");
    }
}
