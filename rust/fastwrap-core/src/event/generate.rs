//! Events of the engines' own APIs: SGLang's and TGI's `/generate`, llama.cpp's `/completion`, Ollama's `/api`.

use super::{ErrorType, Place, Reading, has_call_text, has_text, is_text, read_error};
use crate::json::{Kind, Scanner, SyntaxError};
use crate::usage::Usage;

/// What an event holds, whatever the order of its members.
#[derive(Default)]
struct Generated<'a> {
    index: u64,
    /// TGI's events are a token each, and count them by `index`.
    is_token: bool,
    answer: bool,
    thinking: bool,
    call: bool,
    finished: bool,
    usage: Usage,
    /// TGI's errors are flat.
    error: ErrorType<'a>,
}

pub(super) fn read_event(
    scanner: &mut Scanner<'_>,
    reading: &mut Reading,
    place: &mut Place,
) -> Result<(), SyntaxError> {
    let mut event = Generated::default();
    scanner.enter_object()?;
    while let Some(key) = scanner.next_key()? {
        match key {
            b"text" | b"content" | b"response" => event.answer |= is_text(scanner, place)?,
            b"thinking" => event.thinking |= is_text(scanner, place)?,
            b"message" if scanner.kind()? == Kind::Object => event.message(scanner, place)?,
            b"token" if scanner.kind()? == Kind::Object => event.token(scanner, place)?,
            b"index" => event.index = scanner.integer()?.unwrap_or(0),
            b"generated_text" => event.finished |= scanner.value()? != b"null",
            b"stop" => event.finished |= scanner.value()? == b"true",
            b"done" => reading.last |= scanner.value()? == b"true",
            b"error" => read_error(scanner, reading)?,
            b"error_type" => event.error.member(b"type", scanner.value()?),
            _ => event.other(key, scanner.value()?)?,
        }
    }
    event.apply(reading);
    Ok(())
}

impl<'a> Generated<'a> {
    /// Ollama's.
    fn message(&mut self, scanner: &mut Scanner<'a>, place: &mut Place) -> Result<(), SyntaxError> {
        scanner.enter_object()?;
        while let Some(key) = scanner.next_key()? {
            match key {
                b"content" => self.answer |= has_text(scanner, place)?,
                b"thinking" => self.thinking |= has_text(scanner, place)?,
                b"tool_calls" => self.call |= has_call_text(scanner, place)?,
                _ => {
                    scanner.value()?;
                }
            }
        }
        Ok(())
    }

    /// TGI's. A special token's text is not the answer's.
    fn token(&mut self, scanner: &mut Scanner<'a>, place: &mut Place) -> Result<(), SyntaxError> {
        let (mut text, mut special) = (false, false);
        scanner.enter_object()?;
        while let Some(key) = scanner.next_key()? {
            match key {
                b"text" => text = is_text(scanner, place)?,
                b"special" => special = scanner.value()? == b"true",
                _ => {
                    scanner.value()?;
                }
            }
        }
        self.is_token = true;
        self.answer |= text && !special;
        Ok(())
    }

    fn other(&mut self, key: &[u8], value: &[u8]) -> Result<(), SyntaxError> {
        if key == b"meta_info" {
            self.finished |= has_finish_reason(value)?;
        }
        self.usage.take_own(key, value)
    }

    fn apply(mut self, reading: &mut Reading) {
        if let Some(name) = reading.error.as_mut().filter(|name| name.is_empty()) {
            *name = self.error.text();
        }
        if self.is_token {
            self.usage.completion = self.usage.completion.or(Some(self.index));
            self.index = 0;
        }
        reading.has_choices = true;
        reading.usage = Some(self.usage).filter(|usage| *usage != Usage::default());
        for (set, member) in [
            (&mut reading.choices, true),
            (&mut reading.answer, self.answer),
            (&mut reading.reasoning, self.thinking),
            (&mut reading.tool_call, self.call),
            (&mut reading.finished, self.finished || reading.last),
        ] {
            if member {
                set.insert(self.index);
            }
        }
    }
}

/// Whether SGLang's `meta_info` tells why the answer ended.
fn has_finish_reason(meta_info: &[u8]) -> Result<bool, SyntaxError> {
    let mut scanner = Scanner::new(meta_info);
    if scanner.kind()? != Kind::Object {
        return Ok(false);
    }
    let mut found = false;
    scanner.enter_object()?;
    while let Some(key) = scanner.next_key()? {
        let value = scanner.value()?;
        if key == b"finish_reason" {
            found = value != b"null";
        }
    }
    Ok(found)
}
