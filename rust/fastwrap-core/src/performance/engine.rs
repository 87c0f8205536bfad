//! What the engine says of a request, under normalised names.

use std::sync::Arc;

use http::HeaderMap;
use serde::{Serialize, Serializer};
use serde_json::Number;

use super::Gauges;
use crate::json::{Kind, Scanner, SyntaxError, is_key};
use crate::profile::{EngineField, Profile};

/// What the engine says: one object, or null.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Engine {
    /// Its numbers of this request.
    pub numbers: Option<EngineNumbers>,
    /// Its gauges.
    pub gauges: Option<Gauges>,
}

impl Serialize for Engine {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Members<'a> {
            #[serde(flatten)]
            numbers: &'a Option<EngineNumbers>,
            #[serde(flatten)]
            gauges: &'a Option<Gauges>,
        }
        let Self { numbers, gauges } = self;
        let some = numbers.is_some() || gauges.is_some();
        some.then_some(Members { numbers, gauges }).serialize(serializer)
    }
}

/// The engine's own numbers, under normalised names.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineNumbers(Vec<(Arc<str>, Number)>);

impl Serialize for EngineNumbers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, number)| (&**name, number)))
    }
}

impl EngineNumbers {
    /// Reads a JSON object: an answer, or the data of an event; `None` if it holds none of them.
    #[must_use]
    pub fn read(profile: &Profile, data: &[u8]) -> Option<Self> {
        profile.engine_members.iter().find_map(|path| {
            let name = path.rsplit('.').next().unwrap_or(path);
            memchr::memmem::find(data, name.as_bytes())?;
            Self::of(profile, follow(data, path).ok()??)
        })
    }

    /// Reads a member of an answer in which the engine's numbers may be.
    #[must_use]
    pub fn read_member(profile: &Profile, key: &[u8], value: &[u8]) -> Option<Self> {
        profile.engine_members.iter().find_map(|path| {
            let (name, rest) = path.split_once('.').unwrap_or((path, ""));
            let last = rest.rsplit('.').next().unwrap_or(rest);
            if !is_key(key, name) || memchr::memmem::find(value, last.as_bytes()).is_none() {
                return None;
            }
            Self::of(profile, follow(value, rest).ok()??)
        })
    }

    /// Reads the engine's member itself.
    fn of(profile: &Profile, member: &[u8]) -> Option<Self> {
        let fields = &profile.engine_fields;
        let paths: Vec<_> = fields.iter().map(|field| field.from.as_str()).enumerate().collect();
        let mut values = vec![None; fields.len()];
        read_members(&mut Scanner::new(member), &paths, &mut |at, value| {
            if let (Some(found), Some(field)) = (values.get_mut(at), fields.get(at)) {
                *found = scaled(value, field.scale);
            }
        })
        .ok()?;
        Self::found(fields.iter().zip(values))
    }

    /// Reads the headers of an answer.
    #[must_use]
    pub fn of_headers(profile: &Profile, headers: &HeaderMap) -> Option<Self> {
        let value = |field: &EngineField| scaled(headers.get(&field.from)?.as_bytes(), field.scale);
        Self::found(profile.engine_headers.iter().map(|field| (field, value(field))))
    }

    fn found<'a>(numbers: impl Iterator<Item = (&'a EngineField, Option<Number>)>) -> Option<Self> {
        let numbers: Vec<_> =
            numbers.filter_map(|(field, value)| Some((Arc::clone(&field.to), value?))).collect();
        (!numbers.is_empty()).then_some(Self(numbers))
    }

    /// Adds what `ours` is greater than its own number called `theirs`, if both are known.
    pub(super) fn compare(&mut self, theirs: &str, ours: Option<f64>, difference: &str) {
        let own = self.0.iter().find(|(name, _)| **name == *theirs);
        let own = own.and_then(|(_, number)| number.as_f64());
        let number = ours.zip(own).and_then(|(ours, own)| rounded(ours - own));
        self.0.extend(number.map(|number| (difference.into(), number)));
    }
}

/// Reads the object at the cursor, and those in it that lie on one of `paths`, each with the place of its field; shows
/// `found` the value at the end of a path.
fn read_members(
    scanner: &mut Scanner<'_>,
    paths: &[(usize, &str)],
    found: &mut impl FnMut(usize, &[u8]),
) -> Result<(), SyntaxError> {
    scanner.enter_object()?;
    while let Some(key) = scanner.next_key()? {
        let mut inner = Vec::new();
        if scanner.kind()? == Kind::Object {
            let below = paths.iter().filter_map(|(at, path)| {
                let (name, rest) = path.split_once('.')?;
                is_key(key, name).then_some((*at, rest))
            });
            inner.extend(below);
        }
        if !inner.is_empty() {
            read_members(scanner, &inner, found)?;
            continue;
        }
        let value = scanner.value()?;
        for (at, _) in paths.iter().filter(|(_, path)| is_key(key, path)) {
            found(*at, value);
        }
    }
    Ok(())
}

/// The value at the end of a path from member to member, the last one of each name; `data` for an empty one. Where a list stands on the way, its
/// only item is gone through: of several it could not be told whose numbers they are.
fn follow<'a>(data: &'a [u8], path: &str) -> Result<Option<&'a [u8]>, SyntaxError> {
    let mut value = data;
    for name in path.split('.').filter(|name| !name.is_empty()) {
        let Some(found) = member_value(value, name)? else {
            return Ok(None);
        };
        value = found;
    }
    Ok(Some(value))
}

fn member_value<'a>(data: &'a [u8], name: &str) -> Result<Option<&'a [u8]>, SyntaxError> {
    let mut scanner = Scanner::new(data);
    let mut found = None;
    if scanner.kind()? == Kind::Array {
        scanner.enter_array()?;
        let only = if scanner.next_item()? { Some(scanner.value()?) } else { None };
        return match only {
            Some(only) if !scanner.next_item()? => member_value(only, name),
            _ => Ok(None),
        };
    }
    scanner.enter_object()?;
    while let Some(key) = scanner.next_key()? {
        let value = scanner.value()?;
        if is_key(key, name) {
            found = Some(value);
        }
    }
    Ok(found)
}

/// A number times `scale`, with three decimals; a count that is not scaled stays one.
fn scaled(value: &[u8], scale: f64) -> Option<Number> {
    let number: Number = serde_json::from_slice(value).ok()?;
    if number.is_u64() && (scale - 1.0).abs() < f64::EPSILON {
        return Some(number);
    }
    rounded(number.as_f64()? * scale)
}

fn rounded(number: f64) -> Option<Number> {
    Number::from_f64((number * 1e3).round() / 1e3)
}
