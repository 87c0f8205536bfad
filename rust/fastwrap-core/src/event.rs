//! Reads from one event, or one JSON answer, the few things the timeline needs, without building a tree.

mod error_type;
mod generate;
mod series;

use std::ops::Range;

pub(crate) use self::error_type::ErrorType;
pub use self::series::Series;
use crate::json::{Kind, Scanner, SyntaxError};
use crate::usage::Usage;

/// The place that all indices from here on share.
const LAST_PLACE: usize = 63;

/// A set of choice indices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChoiceSet(u64);

impl ChoiceSet {
    fn insert(&mut self, index: u64) {
        self.0 |= 1 << index.min(LAST_PLACE as u64);
    }

    /// Adds every index of `other`.
    pub fn extend(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Whether no index is in the set.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `index` is in the set.
    #[must_use]
    pub fn contains(self, index: usize) -> bool {
        index <= LAST_PLACE && self.0 & (1 << index) != 0
    }

    /// The greatest index in the set.
    #[must_use]
    pub fn last(self) -> Option<usize> {
        self.0.checked_ilog2().map(|index| index as usize)
    }

    /// Whether an index shares its place with others.
    #[must_use]
    pub fn is_crowded(self) -> bool {
        self.contains(LAST_PLACE)
    }

    /// How many indices are in the set.
    #[must_use]
    pub fn len(self) -> u32 {
        self.0.count_ones()
    }
}

/// The API an event belongs to; it decides where text, usage and the end stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI chat completions and completions: events with `choices`, `[DONE]` at the end.
    Choices,
    /// OpenAI responses: typed events, `response.completed` at the end.
    Responses,
    /// Anthropic messages: typed events, `message_stop` at the end.
    Messages,
    /// The engines' own APIs: flat events, of which the last says so.
    Generate,
}

/// What one event says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// It has a member `choices`.
    pub has_choices: bool,
    /// Choices that appear in it.
    pub choices: ChoiceSet,
    /// Choices with non-empty answer text.
    pub answer: ChoiceSet,
    /// Choices with non-empty reasoning text.
    pub reasoning: ChoiceSet,
    /// Choices with non-empty tool-call text.
    pub tool_call: ChoiceSet,
    /// Choices that finish here.
    pub finished: ChoiceSet,
    /// Its token counts.
    pub usage: Option<Usage>,
    /// It is an error; the value is the error's `type`, or else its `code`, empty if it has neither.
    pub error: Option<String>,
    /// It is the stream's last event with a JSON object.
    pub last: bool,
}

impl Reading {
    /// Whether it carries generated text of any sort.
    #[must_use]
    pub fn has_text(&self) -> bool {
        !self.text().is_empty()
    }

    /// Choices with generated text of any sort.
    #[must_use]
    pub fn text(&self) -> ChoiceSet {
        ChoiceSet(self.answer.0 | self.reasoning.0 | self.tool_call.0)
    }

    /// Whether it carries token counts and no choice: the chunk that `include_usage` asks for.
    #[must_use]
    pub fn is_usage_only(&self) -> bool {
        self.has_choices && self.choices.is_empty() && self.usage.is_some()
    }
}

/// Reads the data of one event, or a whole JSON answer.
///
/// # Errors
/// If `data` is not a JSON object.
pub fn read(dialect: Dialect, data: &[u8]) -> Result<Reading, SyntaxError> {
    read_text(dialect, data).map(|(reading, _)| reading)
}

/// Where a non-empty text stands, its quotes included: the last one that was one string. Empty if there was none.
type Place = Range<usize>;

/// Does the same, and tells where the text stands.
fn read_text(dialect: Dialect, data: &[u8]) -> Result<(Reading, Place), SyntaxError> {
    let mut scanner = Scanner::new(data);
    let mut reading = Reading::default();
    let mut place = Place::default();
    match dialect {
        Dialect::Choices => read_choices_event(&mut scanner, &mut reading, &mut place)?,
        Dialect::Responses | Dialect::Messages => {
            read_typed_event(dialect, &mut scanner, &mut reading, &mut place)?
        }
        Dialect::Generate => generate::read_event(&mut scanner, &mut reading, &mut place)?,
    }
    scanner.end()?;
    Ok((reading, place))
}

fn non_empty_string(scanner: &mut Scanner<'_>) -> Result<bool, SyntaxError> {
    Ok(match scanner.kind()? {
        Kind::String => !scanner.string()?.is_empty(),
        _ => scanner.value().map(|_| false)?,
    })
}

fn is_text(scanner: &mut Scanner<'_>, place: &mut Place) -> Result<bool, SyntaxError> {
    scanner.kind()?;
    let start = scanner.offset();
    let found = non_empty_string(scanner)?;
    if found {
        *place = start..scanner.offset();
    }
    Ok(found)
}

/// Text as a string, or as a list of parts (which some engines send).
fn has_text(scanner: &mut Scanner<'_>, place: &mut Place) -> Result<bool, SyntaxError> {
    if scanner.kind()? != Kind::Array {
        return is_text(scanner, place);
    }
    let mut found = false;
    scanner.enter_array()?;
    while scanner.next_item()? {
        if scanner.kind()? != Kind::Object {
            found |= non_empty_string(scanner)?;
            continue;
        }
        scanner.enter_object()?;
        while let Some(key) = scanner.next_key()? {
            let value = scanner.value()?;
            found |= key != b"type" && value != b"\"\"" && value.contains(&b'"');
        }
    }
    Ok(found)
}

fn read_choices_event(
    scanner: &mut Scanner<'_>,
    reading: &mut Reading,
    place: &mut Place,
) -> Result<(), SyntaxError> {
    let mut flat = ErrorType::default();
    let mut is_error = false;
    scanner.enter_object()?;
    while let Some(key) = scanner.next_key()? {
        match key {
            b"choices" if scanner.kind()? == Kind::Array => {
                reading.has_choices = true;
                scanner.enter_array()?;
                while scanner.next_item()? {
                    read_choice(scanner, reading, place)?;
                }
            }
            b"usage" => reading.usage = Usage::read(scanner)?,
            b"error" => read_error(scanner, reading)?,
            // SGLang's chat errors are flat: {"object":"error","message":…,"type":…,"code":…}.
            b"object" => is_error = scanner.value()? == b"\"error\"",
            _ => flat.member(key, scanner.value()?),
        }
    }
    if is_error {
        reading.error.get_or_insert_with(|| flat.text());
    }
    Ok(())
}

fn read_choice(
    scanner: &mut Scanner<'_>,
    reading: &mut Reading,
    place: &mut Place,
) -> Result<(), SyntaxError> {
    let mut index = 0;
    let (mut answer, mut reasoning, mut tool_call, mut finished) = (false, false, false, false);
    scanner.enter_object()?;
    while let Some(key) = scanner.next_key()? {
        match key {
            b"index" => index = scanner.integer()?.unwrap_or(0),
            b"text" => answer |= is_text(scanner, place)?,
            b"finish_reason" => finished = non_empty_string(scanner)?,
            b"delta" | b"message" if scanner.kind()? == Kind::Object => {
                scanner.enter_object()?;
                while let Some(key) = scanner.next_key()? {
                    match key {
                        b"content" | b"refusal" => answer |= has_text(scanner, place)?,
                        b"reasoning" | b"reasoning_content" => {
                            reasoning |= has_text(scanner, place)?
                        }
                        b"tool_calls" | b"function_call" => {
                            tool_call |= has_call_text(scanner, place)?
                        }
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
    for (set, member) in [
        (&mut reading.choices, true),
        (&mut reading.answer, answer),
        (&mut reading.reasoning, reasoning),
        (&mut reading.tool_call, tool_call),
        (&mut reading.finished, finished),
    ] {
        if member {
            set.insert(index);
        }
    }
    Ok(())
}

/// A call's name or arguments: in a list of calls, under `function`, or flat.
fn has_call_text(scanner: &mut Scanner<'_>, place: &mut Place) -> Result<bool, SyntaxError> {
    let mut found = false;
    match scanner.kind()? {
        Kind::Array => {
            scanner.enter_array()?;
            while scanner.next_item()? {
                found |= has_call(scanner, place)?;
            }
        }
        _ => found = has_call(scanner, place)?,
    }
    Ok(found)
}

fn has_call(scanner: &mut Scanner<'_>, place: &mut Place) -> Result<bool, SyntaxError> {
    if scanner.kind()? != Kind::Object {
        return scanner.value().map(|_| false);
    }
    let mut found = false;
    scanner.enter_object()?;
    while let Some(key) = scanner.next_key()? {
        match key {
            b"name" | b"arguments" => found |= is_text(scanner, place)?,
            b"function" if scanner.kind()? == Kind::Object => {
                scanner.enter_object()?;
                while let Some(key) = scanner.next_key()? {
                    if matches!(key, b"name" | b"arguments") {
                        found |= is_text(scanner, place)?;
                    } else {
                        scanner.value()?;
                    }
                }
            }
            _ => {
                scanner.value()?;
            }
        }
    }
    Ok(found)
}

fn read_error(scanner: &mut Scanner<'_>, reading: &mut Reading) -> Result<(), SyntaxError> {
    if let Some(error) = ErrorType::read(scanner)? {
        reading.error = Some(error.text());
    }
    Ok(())
}

/// What a typed event holds, whatever the order of its members.
#[derive(Default)]
struct Typed<'a> {
    name: &'a [u8],
    /// The `code` of an error that is flat, as those of the Responses API.
    error: ErrorType<'a>,
    /// Text of a delta, by the member that held it.
    text: bool,
    thinking: bool,
    call: bool,
    place: Place,
}

fn read_typed_event(
    dialect: Dialect,
    scanner: &mut Scanner<'_>,
    reading: &mut Reading,
    place: &mut Place,
) -> Result<(), SyntaxError> {
    let mut typed = Typed::default();
    read_typed_members(scanner, reading, &mut typed)?;
    *place = typed.place.clone();
    match dialect {
        Dialect::Messages => typed.apply_messages(reading),
        _ => typed.apply_responses(reading),
    }
    Ok(())
}

fn read_typed_members<'a>(
    scanner: &mut Scanner<'a>,
    reading: &mut Reading,
    typed: &mut Typed<'a>,
) -> Result<(), SyntaxError> {
    scanner.enter_object()?;
    while let Some(key) = scanner.next_key()? {
        match key {
            b"type" if scanner.kind()? == Kind::String => typed.name = scanner.string()?,
            b"usage" => {
                if let Some(usage) = Usage::read(scanner)? {
                    reading.usage.get_or_insert_default().update(usage);
                }
            }
            b"error" => read_error(scanner, reading)?,
            b"code" => typed.error.member(key, scanner.value()?),
            b"delta" | b"content_block" if scanner.kind()? == Kind::Object => {
                typed.read_delta(scanner)?
            }
            b"delta" => typed.text |= is_text(scanner, &mut typed.place)?,
            // The answer so far; its own `type` is not the event's.
            b"response" | b"message" if scanner.kind()? == Kind::Object => {
                read_typed_members(scanner, reading, &mut Typed::default())?;
            }
            _ => {
                scanner.value()?;
            }
        }
    }
    Ok(())
}

impl Typed<'_> {
    fn read_delta(&mut self, scanner: &mut Scanner<'_>) -> Result<(), SyntaxError> {
        scanner.enter_object()?;
        while let Some(key) = scanner.next_key()? {
            match key {
                b"text" => self.text |= is_text(scanner, &mut self.place)?,
                b"thinking" => self.thinking |= is_text(scanner, &mut self.place)?,
                b"partial_json" | b"name" => self.call |= is_text(scanner, &mut self.place)?,
                _ => {
                    scanner.value()?;
                }
            }
        }
        Ok(())
    }

    fn apply_messages(&self, reading: &mut Reading) {
        match self.name {
            b"content_block_delta" | b"content_block_start" => {
                reading.set_texts(self.text, self.thinking, self.call);
            }
            b"message_stop" => reading.end(),
            b"error" => {
                reading.error.get_or_insert_default();
            }
            _ => {}
        }
    }

    fn apply_responses(&self, reading: &mut Reading) {
        match self.name {
            b"response.completed" | b"response.incomplete" => reading.end(),
            b"response.failed" | b"error" => {
                reading.error.get_or_insert_with(|| self.error.text());
            }
            name if name.ends_with(b".delta") => {
                let reasoning = name.starts_with(b"response.reasoning");
                let call = memchr::memmem::find(name, b"_call").is_some();
                reading.set_texts(
                    self.text && !reasoning && !call,
                    self.text && reasoning,
                    self.text && call && !reasoning,
                );
            }
            _ => {}
        }
    }
}

impl Reading {
    fn set_texts(&mut self, answer: bool, reasoning: bool, tool_call: bool) {
        self.choices.insert(0);
        for (set, member) in [
            (&mut self.answer, answer),
            (&mut self.reasoning, reasoning),
            (&mut self.tool_call, tool_call),
        ] {
            if member {
                set.insert(0);
            }
        }
    }

    fn end(&mut self) {
        self.last = true;
        self.finished.insert(0);
    }
}

#[cfg(test)]
mod tests;
