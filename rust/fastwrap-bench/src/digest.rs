//! What an answer says, as one number: the same for the same text, whatever it was cut and wrapped into.

use fastwrap_core::json::{Kind, Scanner, SyntaxError, unescape};

/// FNV-1a, 64 bits (Fowler, Noll, Vo): a text is hashed as it comes, and answers are not adversaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// The texts of one answer, by choice.
///
/// Text is what stands in `choices[].delta` or `choices[].message` under `content`, `reasoning` or
/// `reasoning_content`, and in `choices[].text`. Everything else may differ from answer to answer: `id`, `created`,
/// `usage`, `performance`, `finish_reason`.
#[derive(Debug, Default)]
pub(crate) struct Digest {
    choices: Vec<(u64, [Fnv; 2])>,
    /// The answer is an error.
    pub(crate) error: bool,
    /// When the last event was sent, if its engine stamps.
    pub(crate) sent_ns: Option<u64>,
    /// The beginning of the text, where somebody wants to show it.
    pub(crate) sample: Option<String>,
}

/// How much of a text is shown.
const SAMPLE_CHARS: usize = 60;

impl Digest {
    /// Makes it as good as new, with its memory.
    pub(crate) fn clear(&mut self) {
        self.choices.clear();
        self.error = false;
    }

    /// Adds what one event, or one JSON answer, says, and tells whether that was anything.
    pub(crate) fn read(&mut self, data: &[u8]) -> Result<bool, SyntaxError> {
        let mut scanner = Scanner::new(data);
        let mut found = false;
        self.sent_ns = None;
        scanner.enter_object()?;
        while let Some(key) = scanner.next_key()? {
            match key {
                b"choices" if scanner.kind()? == Kind::Array => {
                    scanner.enter_array()?;
                    while scanner.next_item()? {
                        found |= self.read_choice(&mut scanner)?;
                    }
                }
                b"sent_ns" => self.sent_ns = scanner.integer()?,
                b"error" => self.error |= scanner.value()? != b"null",
                _ => {
                    scanner.value()?;
                }
            }
        }
        scanner.end()?;
        Ok(found)
    }

    /// The digest of everything that was read.
    pub(crate) fn value(&self) -> u64 {
        let mut sorted: Vec<_> = self.choices.iter().collect();
        sorted.sort_unstable_by_key(|choice| choice.0);
        let mut all = Fnv::default();
        for (index, texts) in sorted {
            for number in [*index, texts[0].0, texts[1].0] {
                all.write(&number.to_le_bytes());
            }
        }
        all.0
    }

    fn read_choice(&mut self, scanner: &mut Scanner<'_>) -> Result<bool, SyntaxError> {
        let mut index = 0;
        let mut texts: [&[u8]; 2] = [b"", b""];
        let [content, reasoning] = &mut texts;
        scanner.enter_object()?;
        while let Some(key) = scanner.next_key()? {
            match key {
                b"index" => index = scanner.integer()?.unwrap_or_default(),
                b"text" => *content = text(scanner)?,
                b"delta" | b"message" if scanner.kind()? == Kind::Object => {
                    scanner.enter_object()?;
                    while let Some(key) = scanner.next_key()? {
                        match key {
                            b"content" => *content = text(scanner)?,
                            b"reasoning" | b"reasoning_content" => *reasoning = text(scanner)?,
                            _ => {
                                scanner.value()?;
                            }
                        }
                    }
                }
                _ => {
                    scanner.value()?;
                }
            }
        }
        self.add(index, texts);
        Ok(texts.iter().any(|text| !text.is_empty()))
    }

    fn add(&mut self, index: u64, texts: [&[u8]; 2]) {
        let known = self.choices.iter_mut().position(|choice| choice.0 == index);
        let position = known.unwrap_or_else(|| {
            self.choices.push((index, Default::default()));
            self.choices.len() - 1
        });
        let Some((_, sums)) = self.choices.get_mut(position) else { return };
        for (sum, raw) in sums.iter_mut().zip(texts) {
            match unescape(raw) {
                Some(decoded) => {
                    sum.write(decoded.as_bytes());
                    if let Some(sample) = &mut self.sample {
                        let room = SAMPLE_CHARS.saturating_sub(sample.chars().count());
                        sample.extend(decoded.chars().take(room));
                    }
                }
                None => sum.write(raw),
            }
        }
    }
}

/// The inside of a string, as it stands there; what is neither string nor null counts as it is written.
fn text<'a>(scanner: &mut Scanner<'a>) -> Result<&'a [u8], SyntaxError> {
    match scanner.kind()? {
        Kind::String => scanner.string(),
        Kind::Null => scanner.value().map(|_| &b""[..]),
        _ => scanner.value(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(events: &[&str]) -> u64 {
        let mut digest = Digest::default();
        for event in events {
            digest.read(event.as_bytes()).unwrap();
        }
        digest.value()
    }

    const WHOLE: &str = r#"{"id": "1", "choices": [{"index": 0, "message": {"content": "a\"b"}}]}"#;

    #[test]
    fn only_the_text_counts() {
        let streamed = [
            r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
            r#"{"choices":[{"delta":{"content":"a"},"index":0}],"created":5}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"\u0022b"},"finish_reason":"stop"}]}"#,
            r#"{"choices":[],"usage":{"total_tokens":3}}"#,
        ];
        assert_eq!(value(&streamed), value(&[WHOLE]));
        let volatile = r#"{"choices":[{"message":{"content":"a\"b"}}],"id":"2","performance":{"x":[1]},"sent_ns":5}"#;
        assert_eq!(value(&[volatile]), value(&[WHOLE]));
        assert_eq!(value(&[r#"{"choices":[{"index":0,"text":"a\"b"}]}"#]), value(&[WHOLE]));
    }

    #[test]
    fn every_difference_in_the_text_counts() {
        for other in [
            r#"{"choices":[{"index":0,"message":{"content":"a\"c"}}]}"#,
            r#"{"choices":[{"index":1,"message":{"content":"a\"b"}}]}"#,
            r#"{"choices":[{"index":0,"message":{"reasoning":"a\"b"}}]}"#,
            r#"{"choices":[{"index":0,"message":{"content":null}}]}"#,
            r#"{"choices":[]}"#,
        ] {
            assert_ne!(value(&[other]), value(&[WHOLE]), "{other}");
        }
    }

    #[test]
    fn choices_may_come_interleaved() {
        let piece = |index, text| {
            format!(r#"{{"choices":[{{"index":{index},"delta":{{"content":"{text}"}}}}]}}"#)
        };
        let [a, b, x, y] = [piece(0, "a"), piece(0, "b"), piece(1, "x"), piece(1, "y")];
        assert_eq!(value(&[&a, &x, &b, &y]), value(&[&x, &y, &a, &b]));
        assert_ne!(value(&[&a, &x, &b, &y]), value(&[&b, &x, &a, &y]));
    }

    #[test]
    fn an_event_tells_whether_it_has_text_and_whether_it_is_an_error() {
        let mut digest = Digest { sample: Some(String::new()), ..Digest::default() };
        assert!(digest.read(WHOLE.as_bytes()).unwrap());
        assert!(
            !digest.read(br#"{"choices":[{"delta":{"role":"assistant"}}],"error":null}"#).unwrap()
        );
        assert!(!digest.error);
        assert!(!digest.read(br#"{"error":{"message":"no"}}"#).unwrap());
        assert!(digest.error);
        assert_eq!(digest.sample.as_deref(), Some("a\"b"));
        assert!(digest.read(b"[DONE]").is_err());
        digest.read(br#"{"choices":[],"sent_ns":42}"#).unwrap();
        assert_eq!(digest.sent_ns, Some(42));
        digest.read(br#"{"choices":[],"sent_ns":"?"}"#).unwrap();
        assert_eq!(digest.sent_ns, None);
        digest.clear();
        assert_eq!(digest.value(), value(&[]));
    }
}
