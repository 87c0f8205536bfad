//! Makes the JSON answer that a client asked for of the stream that its engine was asked for instead.
//!
//! The engine's [`JsonForm`] says which members its JSON has and in which order; the stream fills them. Texts are put together
//! from the raw bodies of the deltas' strings, so that every byte is the engine's own.

mod form;
mod members;

use bytes::Bytes;

pub use self::form::{FormError, JsonForm, Template};
use self::members::Members;
use crate::event::Reading;
use crate::json::{Kind, Scanner, SyntaxError, is_key};

/// Most bytes that are kept of one answer; a larger one cannot be assembled.
pub const MAX_ASSEMBLED_BYTES: usize = 64 << 20;

/// Most choices: far more than any engine gives.
const MAX_CHOICES: usize = 1024;

/// What a stream has said so far.
#[derive(Debug, Default)]
pub struct Assembly {
    answer: Members,
    choices: Vec<Choice>,
    error: Option<Bytes>,
    /// It cannot be assembled: it was no JSON, or is too large.
    broken: bool,
}

#[derive(Debug, Default)]
struct Choice {
    index: u64,
    members: Members,
    message: Members,
}

impl Choice {
    fn bytes(&self) -> usize {
        self.members.bytes() + self.message.bytes()
    }
}

impl Assembly {
    /// Takes the data of the next event; it has no `reading` if it is no JSON object.
    pub fn event(&mut self, reading: Option<&Reading>, data: &[u8]) {
        if reading.is_some_and(|reading| reading.error.is_some()) {
            self.error.get_or_insert_with(|| Bytes::copy_from_slice(data.trim_ascii()));
        } else if !self.broken && (self.read(data).is_err() || self.bytes() > MAX_ASSEMBLED_BYTES) {
            self.give_up();
        }
    }

    /// Nothing can be made of this stream.
    pub fn give_up(&mut self) {
        *self = Self { error: self.error.take(), broken: true, ..Self::default() };
    }

    /// The data of the first event that was an error.
    #[must_use]
    pub fn error(&self) -> Option<&Bytes> {
        self.error.as_ref()
    }

    /// Whether something came of which nothing can be made.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Whether `form` is the engine's, as far as it told.
    #[must_use]
    pub fn has_form(&self, form: &JsonForm) -> bool {
        form.is_of(&self.answer)
    }

    /// The JSON answer; `None` if there is nothing that could be one.
    #[must_use]
    pub fn answer(&self, template: &Template) -> Option<Vec<u8>> {
        let nothing = self.broken || self.choices.is_empty();
        if nothing { None } else { form::fill(template, self).ok() }
    }

    fn bytes(&self) -> usize {
        self.answer.bytes() + self.choices.iter().map(Choice::bytes).sum::<usize>()
    }

    fn read(&mut self, data: &[u8]) -> Result<(), SyntaxError> {
        let mut scanner = Scanner::new(data);
        scanner.enter_object()?;
        while let Some(key) = scanner.next_key()? {
            if is_key(key, "choices") && scanner.kind()? == Kind::Array {
                scanner.enter_array()?;
                while scanner.next_item()? {
                    self.read_choice(&mut scanner)?;
                }
            } else {
                self.answer.set(key, scanner.value()?);
            }
        }
        scanner.end()
    }

    fn read_choice(&mut self, scanner: &mut Scanner<'_>) -> Result<(), SyntaxError> {
        // Some engines tell the index behind the text.
        let index = read_index(&mut scanner.clone())?;
        let offset = scanner.offset();
        let choice = self.choice(index).ok_or(SyntaxError { offset })?;
        scanner.enter_object()?;
        while let Some(key) = scanner.next_key()? {
            let is_message = is_key(key, "delta") || is_key(key, "message");
            if is_message && scanner.kind()? == Kind::Object {
                scanner.enter_object()?;
                while let Some(key) = scanner.next_key()? {
                    choice.message.add(key, scanner)?;
                }
            } else {
                choice.members.add(key, scanner)?;
            }
        }
        Ok(())
    }

    fn choice(&mut self, index: u64) -> Option<&mut Choice> {
        let known = self.choices.iter().position(|choice| choice.index == index);
        let at = known.unwrap_or(self.choices.len());
        if known.is_none() && at < MAX_CHOICES {
            self.choices.push(Choice { index, ..Choice::default() });
        }
        self.choices.get_mut(at)
    }
}

fn read_index(scanner: &mut Scanner<'_>) -> Result<u64, SyntaxError> {
    let mut index = 0;
    scanner.enter_object()?;
    while let Some(key) = scanner.next_key()? {
        if is_key(key, "index") {
            index = scanner.integer()?.unwrap_or(0);
        } else {
            scanner.value()?;
        }
    }
    Ok(index)
}
