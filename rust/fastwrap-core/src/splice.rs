//! Adding a member to a JSON object with every other byte kept.

use bytes::Bytes;

use crate::json::{Kind, Scanner, SyntaxError, is_key};

/// Why a text is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is not JSON.
    Syntax(SyntaxError),
    /// It is not UTF-8.
    Encoding,
    /// It is JSON, but no object.
    NotAnObject,
    /// Every name that could be used is there already.
    NameTaken,
}

impl From<SyntaxError> for Refusal {
    fn from(error: SyntaxError) -> Self {
        Self::Syntax(error)
    }
}

/// A place in an object where a member can be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Offset behind the last member, or behind `{`.
    pub at: usize,
    /// The object is empty: no comma is needed.
    pub empty: bool,
    /// The first of the names looked for that the object does not have.
    pub name: Option<&'static str>,
}

/// The places in one text where a member can be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// In the object itself.
    pub body: Slot,
    /// In its member `usage`, if that is an object.
    pub usage: Option<Slot>,
}

impl Layout {
    /// Checks all of `text` and finds its slots; each takes the first of `names` that its object lacks.
    ///
    /// # Errors
    /// If `text` is not the UTF-8 text of one JSON object.
    pub fn of(text: &[u8], names: &[&'static str]) -> Result<Self, Refusal> {
        Self::read(text, names, |_, _| ())
    }

    /// Does the same and shows `member` the raw key and the text of each member on the way.
    ///
    /// # Errors
    /// If `text` is not the UTF-8 text of one JSON object.
    pub fn read<'a>(
        text: &'a [u8],
        names: &[&'static str],
        mut member: impl FnMut(&'a [u8], &'a [u8]),
    ) -> Result<Self, Refusal> {
        let mut scanner = Scanner::new(text);
        if scanner.kind()? != Kind::Object {
            scanner.value()?;
            return scanner.end().map_err(Refusal::from).and(Err(Refusal::NotAnObject));
        }
        let mut usage = None;
        let body = slot(&mut scanner, names, |key, scanner| {
            let kind = scanner.kind()?;
            let start = scanner.offset();
            if kind == Kind::Object && is_key(key, "usage") {
                usage = Some(slot(scanner, names, |_, scanner| scanner.value().map(|_| ()))?);
            } else {
                scanner.value()?;
            }
            member(key, text.get(start..scanner.offset()).unwrap_or_default());
            Ok(())
        })?;
        scanner.end()?;
        if !scanner.is_ascii() {
            simdutf8::basic::from_utf8(text).map_err(|_| Refusal::Encoding)?;
        }
        Ok(Self { body, usage })
    }
}

fn slot<'a>(
    scanner: &mut Scanner<'a>,
    names: &[&'static str],
    mut value: impl FnMut(&'a [u8], &mut Scanner<'a>) -> Result<(), SyntaxError>,
) -> Result<Slot, SyntaxError> {
    scanner.enter_object()?;
    let mut at = scanner.offset();
    let mut empty = true;
    let mut taken = 0_u32;
    while let Some(key) = scanner.next_key()? {
        for (bit, name) in names.iter().enumerate() {
            taken |= u32::from(is_key(key, name)) << bit;
        }
        value(key, scanner)?;
        at = scanner.offset();
        empty = false;
    }
    Ok(Slot { at, empty, name: names.get(taken.trailing_ones() as usize).copied() })
}

/// Adds `value` to `text` in each of `slots`, which stand in ascending order; every other byte is kept.
///
/// # Errors
/// If a slot's object has every name already.
pub fn insert(text: &[u8], slots: &[Slot], value: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut out = Vec::with_capacity(text.len() + slots.len() * (value.len() + 32));
    let mut from = 0;
    for slot in slots {
        out.extend_from_slice(text.get(from..slot.at).unwrap_or_default());
        add_member(&mut out, slot, value)?;
        from = slot.at;
    }
    out.extend_from_slice(text.get(from..).unwrap_or_default());
    Ok(out)
}

/// Does the same with a text that is too long to be copied: gives the pieces, of which none is empty.
///
/// # Errors
/// If a slot's object has every name already.
pub fn insert_between(text: &Bytes, slots: &[Slot], value: &[u8]) -> Result<Vec<Bytes>, Refusal> {
    let mut out = Vec::with_capacity(2 * slots.len() + 1);
    let mut rest = text.clone();
    for slot in slots {
        let mut member = Vec::with_capacity(value.len() + 32);
        add_member(&mut member, slot, value)?;
        let sent = text.len() - rest.len();
        out.push(rest.split_to(slot.at.saturating_sub(sent).min(rest.len())));
        out.push(member.into());
    }
    out.push(rest);
    out.retain(|piece| !piece.is_empty());
    Ok(out)
}

fn add_member(out: &mut Vec<u8>, slot: &Slot, value: &[u8]) -> Result<(), Refusal> {
    let name = slot.name.ok_or(Refusal::NameTaken)?;
    let comma: &[u8] = if slot.empty { b"" } else { b"," };
    for part in [comma, b"\"", name.as_bytes(), b"\":", value] {
        out.extend_from_slice(part);
    }
    Ok(())
}

/// Adds `members`, written as `"a":1,"b":2`, to `text` at `slot`; every other byte is kept.
#[must_use]
pub fn append(text: &[u8], slot: Slot, members: &[u8]) -> Vec<u8> {
    let (before, after) = text.split_at_checked(slot.at).unwrap_or((text, b""));
    let comma: &[u8] = if slot.empty { b"" } else { b"," };
    [before, comma, members, after].concat()
}

/// Removes the member `name` of an object, as often as it is there, and one comma with each; every other byte is kept.
///
/// # Errors
/// If `text` is no JSON object.
pub fn remove(text: &[u8], name: &str) -> Result<Vec<u8>, Refusal> {
    let mut scanner = Scanner::new(text);
    scanner.enter_object()?;
    let mut from = scanner.offset();
    let mut out = text.get(..from).unwrap_or_default().to_vec();
    let mut empty = true;
    while let Some(key) = scanner.next_key()? {
        scanner.value()?;
        let member = text.get(from..scanner.offset()).unwrap_or_default();
        from = scanner.offset();
        if is_key(key, name) {
            continue;
        }
        // The first one that stays loses the comma that parted it from one that goes.
        let without_comma = member.trim_ascii_start().strip_prefix(b",").filter(|_| empty);
        out.extend_from_slice(without_comma.unwrap_or(member));
        empty = false;
    }
    scanner.end()?;
    out.extend_from_slice(text.get(from..).unwrap_or_default());
    Ok(out)
}

/// The members of `from` that `into` lacks, as `"a":1,"b":2`, without those named by `except`. Empty if there are none.
///
/// # Errors
/// If either is no JSON object.
pub fn missing_members(from: &[u8], into: &[u8], except: &[&str]) -> Result<Vec<u8>, Refusal> {
    let mut present = Vec::new();
    let mut scanner = Scanner::new(into);
    scanner.enter_object()?;
    while let Some(key) = scanner.next_key()? {
        present.push(key);
        scanner.value()?;
    }
    let mut out = Vec::new();
    let mut scanner = Scanner::new(from);
    scanner.enter_object()?;
    while let Some(key) = scanner.next_key()? {
        let value = scanner.value()?;
        if present.contains(&key) || except.iter().any(|name| is_key(key, name)) {
            continue;
        }
        if !out.is_empty() {
            out.push(b',');
        }
        for part in [b"\"", key, b"\":", value] {
            out.extend_from_slice(part);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
