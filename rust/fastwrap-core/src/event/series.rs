//! Reads the events of one stream, of which nearly all differ in their text alone.

use super::{Dialect, Place, Reading, read_text};
use crate::json::{Scanner, SyntaxError};

/// Largest event, without its text, that the next one is compared with: it is kept as long as the stream.
const MAX_SHAPE_BYTES: usize = 1024;

/// What is known of the event before.
///
/// An event of the same bytes around another text says the same: one string in the place of another leaves JSON what
/// it is, and of a text nothing is told but that it is not empty.
#[derive(Debug)]
pub struct Series {
    dialect: Dialect,
    /// An event without its text, which stood at `text_at`; empty if there was none to keep.
    shape: Vec<u8>,
    text_at: usize,
    reading: Reading,
}

impl Series {
    /// Starts a stream.
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, shape: Vec::new(), text_at: 0, reading: Reading::default() }
    }

    /// Reads the data of the next event, as [`super::read`] does.
    ///
    /// # Errors
    /// If `data` is not a JSON object.
    pub fn read(&mut self, data: &[u8]) -> Result<Reading, SyntaxError> {
        if self.has_shape_of(data) {
            return Ok(self.reading.clone());
        }
        let (reading, place) = read_text(self.dialect, data)?;
        self.keep(data, place, &reading);
        Ok(reading)
    }

    fn has_shape_of(&self, data: &[u8]) -> bool {
        let (before, after) = self.shape.split_at_checked(self.text_at).unwrap_or_default();
        let text = data.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
        let Some(text) = text.filter(|_| !self.shape.is_empty()) else {
            return false;
        };
        let mut scanner = Scanner::new(text);
        scanner.string().is_ok_and(|text| !text.is_empty()) && scanner.offset() == text.len()
    }

    /// Keeps an event whose kin may follow: one with text, and with nothing that comes once.
    fn keep(&mut self, data: &[u8], place: Place, reading: &Reading) {
        let comes_once = reading.last || reading.error.is_some() || reading.usage.is_some();
        if place.is_empty()
            || comes_once
            || !reading.finished.is_empty()
            || data.len() - place.len() > MAX_SHAPE_BYTES
        {
            return;
        }
        self.shape.clear();
        self.shape.extend_from_slice(data.get(..place.start).unwrap_or_default());
        self.shape.extend_from_slice(data.get(place.end..).unwrap_or_default());
        self.text_at = place.start;
        self.reading = reading.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str) -> Vec<u8> {
        format!(
            r#"{{"choices":[{{"index":0,"delta":{{"content":{text}}},"finish_reason":null}}]}}"#
        )
        .into()
    }

    #[test]
    fn another_text_between_the_same_bytes_is_not_read_anew() {
        let mut series = Series::new(Dialect::Choices);
        assert!(!series.has_shape_of(b""), "nothing is known yet");
        let first = series.read(&event(r#""a""#)).unwrap();
        assert!(first.has_text());
        for text in [r#""a""#, r#""longer than before""#, r#""\n\"\u00e9""#, "\"é中😀\""] {
            assert!(series.has_shape_of(&event(text)), "{text}");
            assert_eq!(series.read(&event(text)), Ok(first.clone()));
        }
        for text in
            [r#""""#, "null", "1", r#""a","x":"b""#, r#""a"#, r#""\x""#, "\"\n\"", r#"["a"]"#]
        {
            assert!(!series.has_shape_of(&event(text)), "{text}");
        }
    }

    #[test]
    fn events_of_choices_that_take_turns_are_told_apart() {
        let mut series = Series::new(Dialect::Choices);
        let turns = [0, 1, 1, 0, 12, 1, 0, 0].map(|index: u64| {
            let data = format!(r#"{{"choices":[{{"index":{index},"delta":{{"content":"a"}}}}]}}"#);
            (series.read(data.as_bytes()).unwrap().text().last(), index)
        });
        assert!(
            turns.iter().all(|(found, index)| *found == usize::try_from(*index).ok()),
            "{turns:?}"
        );
    }

    #[test]
    fn running_counts_are_read_in_every_event() {
        let mut series = Series::new(Dialect::Choices);
        for tokens in [1, 1, 3, 10, 100] {
            let data = format!(
                r#"{{"choices":[{{"delta":{{"content":"a"}}}}],"usage":{{"completion_tokens":{tokens}}}}}"#
            );
            let usage = series.read(data.as_bytes()).unwrap().usage;
            assert_eq!(usage.and_then(|usage| usage.completion), Some(tokens));
        }
    }

    #[test]
    fn what_comes_once_or_is_large_is_not_kept() {
        for rest in [
            r#""finish_reason":"stop"}]}"#.to_owned(),
            r#""x":0}],"usage":{"prompt_tokens":1}}"#.to_owned(),
            r#""x":0}],"error":1}"#.to_owned(),
            format!(r#""x":"{}"}}]}}"#, "x".repeat(MAX_SHAPE_BYTES)),
        ] {
            let text = format!(r#"{{"choices":[{{"delta":{{"content":"a"}},{rest}"#);
            let mut series = Series::new(Dialect::Choices);
            series.read(text.as_bytes()).unwrap();
            assert!(!series.has_shape_of(text.as_bytes()), "{text}");
        }
    }
}
