//! The form of an engine's JSON answers, and how it is filled.

use super::members::{Member, Members};
use super::{Assembly, Choice};
use crate::json::{Kind, Scanner, SyntaxError};
use crate::route::Route;

/// A template is no JSON object with a list of one choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormError;

impl std::fmt::Display for FormError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a template must be a JSON object with `choices`: [{…}]")
    }
}

impl std::error::Error for FormError {}

/// An answer as compact JSON, whose values say what stands there:
///
/// - `null`: what the stream tells, or null. So does a text that stayed empty beside another that did not.
/// - `""`: the same, but a text that the stream does not tell is empty.
/// - `{…}`: the object that the stream tells, with these members in this order; null if it tells none.
/// - `[{…}]`, of `choices`: each choice; its `message` is made of the deltas.
/// - Anything else stands there as it is, whatever the stream tells.
///
/// What the stream tells beside these members stands behind them. A line end behind all is the answer's too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Box<str>);

impl Template {
    /// Checks a template.
    ///
    /// # Errors
    /// If it is no JSON object with a list of one choice.
    pub fn new(text: &str) -> Result<Self, FormError> {
        let template = Self(text.into());
        let assembly = Assembly { choices: vec![Choice::default()], ..Assembly::default() };
        let filled = fill(&template, &assembly).and_then(|filled| Members::of(&filled));
        let has_choice = |members: &Members| {
            let choices = members.get(b"choices").and_then(Member::json);
            choices.is_some_and(|choices| choices.starts_with(b"[{"))
        };
        match filled {
            Ok(members) if has_choice(&members) => Ok(template),
            _ => Err(FormError),
        }
    }
}

/// One engine's JSON answers: data, handed over by its adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonForm {
    /// Of chat completions.
    pub chat: Template,
    /// Of completions.
    pub completions: Template,
    /// What the engine's `system_fingerprint` begins with, if it tells one: other versions may have other members.
    pub fingerprint: String,
    /// The member of a stream's `usage` that tells that its texts may be parted otherwise than those of JSON.
    pub parted_by: Option<String>,
}

impl JsonForm {
    /// Whether this is the form of the engine whose stream this was, as far as it told.
    pub(super) fn is_of(&self, told: &Members) -> bool {
        let json = |key: &[u8]| told.get(key).and_then(Member::json);
        let fingerprint = json(b"system_fingerprint").and_then(|it| it.strip_prefix(b"\""));
        let usage = json(b"usage").and_then(|usage| Members::of(usage).ok()).unwrap_or_default();
        let parted = self.parted_by.as_ref().and_then(|name| usage.get(name.as_bytes()));
        fingerprint.is_none_or(|it| it.starts_with(self.fingerprint.as_bytes())) && parted.is_none()
    }

    /// The template of a route's answers, if they can be assembled.
    #[must_use]
    pub fn template(&self, route: Route) -> Option<&Template> {
        match route {
            Route::Chat => Some(&self.chat),
            Route::Completions => Some(&self.completions),
            _ => None,
        }
    }
}

/// Which object is being written, and what is known of it.
#[derive(Clone, Copy)]
enum Level<'a> {
    Answer(&'a Assembly),
    Choice(&'a Choice),
    Object(&'a Members),
}

impl<'a> Level<'a> {
    fn members(self) -> &'a Members {
        match self {
            Self::Answer(assembly) => &assembly.answer,
            Self::Choice(choice) => &choice.members,
            Self::Object(members) => members,
        }
    }
}

struct Writer {
    out: Vec<u8>,
}

/// The answer in the form of `template`.
pub(super) fn fill(template: &Template, assembly: &Assembly) -> Result<Vec<u8>, SyntaxError> {
    let room = template.0.len() + assembly.bytes();
    let mut writer = Writer { out: Vec::with_capacity(room) };
    let text = template.0.as_bytes();
    let mut scanner = Scanner::new(text);
    writer.object(&mut scanner, Level::Answer(assembly))?;
    writer.out.extend_from_slice(text.get(scanner.offset()..).unwrap_or_default());
    scanner.end()?;
    Ok(writer.out)
}

impl Writer {
    fn object(&mut self, template: &mut Scanner<'_>, level: Level<'_>) -> Result<(), SyntaxError> {
        let mut known = Vec::new();
        template.enter_object()?;
        self.out.push(b'{');
        while let Some(key) = template.next_key()? {
            known.push(key);
            self.name(key);
            match (level, key) {
                (Level::Answer(assembly), b"choices") => self.choices(template, assembly)?,
                (Level::Choice(choice), b"message") => {
                    self.object(template, Level::Object(&choice.message))?;
                }
                _ => self.value(template, level.members(), key)?,
            }
        }
        for member in level.members().iter().filter(|member| !known.contains(&&*member.key)) {
            self.name(&member.key);
            member.write(&mut self.out);
        }
        self.out.push(b'}');
        Ok(())
    }

    fn name(&mut self, key: &[u8]) {
        let start: &[u8] = if self.out.ends_with(b"{") { b"\"" } else { b",\"" };
        for part in [start, key, b"\":"] {
            self.out.extend_from_slice(part);
        }
    }

    fn choices(
        &mut self,
        template: &mut Scanner<'_>,
        assembly: &Assembly,
    ) -> Result<(), SyntaxError> {
        let text = template.value()?;
        let mut choices: Vec<_> = assembly.choices.iter().collect();
        choices.sort_by_key(|choice| choice.index);
        for (at, choice) in choices.into_iter().enumerate() {
            self.out.push(if at == 0 { b'[' } else { b',' });
            let mut scanner = Scanner::new(text);
            scanner.enter_array()?;
            scanner.next_item()?;
            self.object(&mut scanner, Level::Choice(choice))?;
        }
        self.out.push(b']');
        Ok(())
    }

    fn value(
        &mut self,
        template: &mut Scanner<'_>,
        told: &Members,
        key: &[u8],
    ) -> Result<(), SyntaxError> {
        let kind = template.kind()?;
        let text = template.value()?;
        match (kind, told.get(key)) {
            (Kind::Object, None) => self.out.extend_from_slice(b"null"),
            (Kind::Object, Some(member)) => self.shaped(text, member)?,
            (Kind::Null, Some(member)) if !told.gave_way(member) => member.write(&mut self.out),
            (Kind::String, Some(member)) if text == b"\"\"" => member.write(&mut self.out),
            _ => self.out.extend_from_slice(text),
        }
        Ok(())
    }

    /// An object with the members of `template` in their order; anything else as it was told.
    fn shaped(&mut self, template: &[u8], member: &Member) -> Result<(), SyntaxError> {
        match member.json().map(Members::of) {
            Some(Ok(members)) => self.object(&mut Scanner::new(template), Level::Object(&members)),
            _ => {
                member.write(&mut self.out);
                Ok(())
            }
        }
    }
}
