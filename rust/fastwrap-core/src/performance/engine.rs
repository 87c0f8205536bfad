//! What the engine says of a request, under normalised names.

use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::Number;

use super::Gauges;
use crate::json::{Scanner, SyntaxError, is_key};
use crate::profile::Profile;

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
        let member = profile.engine_member.as_deref()?;
        memchr::memmem::find(data, member.as_bytes())?;
        Self::of(profile, member_value(data, member).ok()??)
    }

    /// Reads the engine's member itself.
    #[must_use]
    pub fn of(profile: &Profile, member: &[u8]) -> Option<Self> {
        let mut values = vec![None; profile.engine_fields.len()];
        let mut scanner = Scanner::new(member);
        scanner.enter_object().ok()?;
        while let Some(key) = scanner.next_key().ok()? {
            let value = scanner.value().ok()?;
            for (field, found) in profile.engine_fields.iter().zip(&mut values) {
                if is_key(key, &field.from) {
                    *found = scaled(value, field.scale);
                }
            }
        }
        let numbers = profile.engine_fields.iter().zip(values);
        let numbers: Vec<_> =
            numbers.filter_map(|(field, value)| Some((Arc::clone(&field.to), value?))).collect();
        (!numbers.is_empty()).then_some(Self(numbers))
    }
}

/// The text of an object's member, the last one of that name.
fn member_value<'a>(data: &'a [u8], name: &str) -> Result<Option<&'a [u8]>, SyntaxError> {
    let mut scanner = Scanner::new(data);
    scanner.enter_object()?;
    let mut found = None;
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
    Number::from_f64((number.as_f64()? * scale * 1e3).round() / 1e3)
}
