//! What hooks are told of requests, and what they may add. Where there are none, nothing of it is done.

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, StatusCode};
use ring::digest;
use serde_json::json;

use crate::guard::{X_API_KEY, bearer};
use crate::json::{Scanner, is_key};
use crate::performance::Performance;

/// Longest name of a model that is told, in bytes of JSON.
const MAX_MODEL_BYTES: usize = 256;
/// Bytes of a key's digest that name it.
const KEY_ID_BYTES: usize = 8;

/// A place where hooks are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Before a request goes to the engine.
    Validate,
    /// A request was admitted.
    Request,
    /// Its first text has come.
    FirstToken,
    /// It ended.
    Record,
    /// Its block is being written.
    Enrich,
}

impl Hook {
    /// Every hook, in the order of [`Self::index`].
    pub const ALL: [Self; 5] =
        [Self::Validate, Self::Request, Self::FirstToken, Self::Record, Self::Enrich];

    /// Its name in the contract and in labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Validate => "validate",
            Self::Request => "on_request",
            Self::FirstToken => "on_first_token",
            Self::Record => "on_record",
            Self::Enrich => "enrich",
        }
    }

    /// Its place in [`Self::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }
}

/// What was asked for, and by whom.
#[derive(Debug, Clone)]
pub struct Asked {
    method: Method,
    path: String,
    key_id: Option<String>,
    /// Known when the body is.
    pub(crate) model: Option<String>,
}

impl Asked {
    pub(crate) fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    pub(crate) fn of(method: &Method, target: &str, headers: &HeaderMap) -> Self {
        let path = target.split('?').next().unwrap_or(target).to_owned();
        Self { method: method.clone(), path, key_id: key_id(headers), model: None }
    }
}

/// A request that has ended, or whose block is being written.
#[derive(Debug)]
pub struct Record<'a> {
    /// What was asked for.
    pub asked: &'a Asked,
    /// What the client was answered with, if it was.
    pub status: Option<StatusCode>,
    /// What it cost.
    pub performance: &'a Performance,
}

impl Record<'_> {
    /// It as compact JSON.
    #[must_use]
    pub fn to_json(&self) -> Bytes {
        let Asked { method, path, key_id, model } = self.asked;
        let head = json!({
            "request_id": self.performance.request_id,
            "method": method.as_str(),
            "path": path,
            "key_id": key_id,
            "model": model,
            "status": self.status.map(|status| status.as_u16()),
        });
        let head = head.to_string();
        let head = head.strip_suffix('}').unwrap_or(&head).as_bytes();
        [head, b",\"performance\":", &self.performance.to_json(), b"}"].concat().into()
    }
}

/// Whoever calls the hooks. All but [`Self::enrich`] only take note, without waiting, and say whether they could.
pub trait Hooks: Send + Sync {
    /// A request was admitted.
    fn request(&self, request_id: &str, asked: &Asked) -> bool;
    /// Its first text has come, after so many milliseconds.
    fn first_token(&self, request_id: &str, asked: &Asked, ttft_ms: f64) -> bool;
    /// It ended.
    fn record(
        &self,
        asked: Box<Asked>,
        status: Option<StatusCode>,
        performance: Box<Performance>,
    ) -> bool;
    /// Its block is being written: returns more members of it, as `,"name":value…`; `None` if that failed.
    fn enrich(&self, record: &Record<'_>) -> Option<Bytes>;
}

/// An admitted request as compact JSON.
#[must_use]
pub fn request_json(request_id: &str, asked: &Asked) -> Bytes {
    let Asked { method, path, key_id, .. } = asked;
    let told = json!({"request_id": request_id, "method": method.as_str(), "path": path, "key_id": key_id});
    told.to_string().into()
}

/// A request's first token as compact JSON.
#[must_use]
pub fn first_token_json(request_id: &str, asked: &Asked, ttft_ms: f64) -> Bytes {
    let told = json!({"request_id": request_id, "model": asked.model, "ttft_ms": ttft_ms});
    told.to_string().into()
}

/// Names a client's key without telling it: the start of its SHA-256, in hexadecimal digits; the same in all processes.
#[must_use]
pub fn key_id(headers: &HeaderMap) -> Option<String> {
    let given = headers.get(AUTHORIZATION).and_then(bearer);
    let key = given.or_else(|| headers.get(X_API_KEY).map(|value| value.as_bytes()))?;
    let digest = digest::digest(&digest::SHA256, key.trim_ascii());
    Some(digest.as_ref().iter().take(KEY_ID_BYTES).map(|byte| format!("{byte:02x}")).collect())
}

/// The member `model` of a JSON body, if it is of a length that names have.
#[must_use]
pub fn model(body: &[u8]) -> Option<String> {
    let mut scanner = Scanner::new(body);
    scanner.enter_object().ok()?;
    let mut found = None;
    while let Some(key) = scanner.next_key().ok()? {
        let value = scanner.value().ok()?;
        if is_key(key, "model") {
            found = model_name(value);
        }
    }
    found
}

/// The name that this JSON string is, if it is of a length that names have.
pub(crate) fn model_name(value: &[u8]) -> Option<String> {
    let value = value.trim_ascii();
    (value.len() <= MAX_MODEL_BYTES).then(|| serde_json::from_slice(value).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "ring is assembly")]
    fn a_key_is_named_the_same_in_either_header_and_never_told() {
        let with = |name: &'static str, value: &'static str| {
            key_id(&HeaderMap::from_iter([(
                http::HeaderName::from_static(name),
                http::HeaderValue::from_static(value),
            )]))
        };
        let id = with("authorization", "Bearer sk-1").unwrap();
        assert_eq!(with("x-api-key", "sk-1"), Some(id.clone()));
        assert_ne!(with("x-api-key", "sk-2"), Some(id.clone()));
        assert!(id.len() == 16 && !id.contains("sk"));
        assert_eq!(with("authorization", "Basic abc"), None);
    }

    #[test]
    fn a_model_is_a_string_of_a_name_s_length() {
        assert_eq!(model(br#"{"a":{"model":"b"},"model":"\u0061"}"#).as_deref(), Some("a"));
        assert_eq!(model(br#"{"model":1}"#), None);
        assert_eq!(model(format!(r#"{{"model":"{}"}}"#, "x".repeat(300)).as_bytes()), None);
    }
}
