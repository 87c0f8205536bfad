//! Who may ask, and which pages may read the answers. All of it is off until it is set.

mod cors;
mod keys;

use std::sync::{OnceLock, PoisonError, RwLock};

use bytes::Bytes;
use http::header::{AUTHORIZATION, InvalidHeaderValue};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};

pub use self::cors::{Cors, Grant};
pub use self::keys::{Keys, NoRandomness};
use crate::error::Fault;

/// Where clients of the Messages API put their key.
pub(crate) const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The keys of clients, the engine's own key, and the origins of pages.
#[derive(Default)]
pub struct Guard {
    keys: OnceLock<RwLock<Keys>>,
    engine_key: OnceLock<RwLock<HeaderValue>>,
    cors: OnceLock<Cors>,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Guard").field("cors", &self.cors).finish_non_exhaustive()
    }
}

/// Puts `value` in the place of what was set before.
fn set<T>(place: &OnceLock<RwLock<T>>, value: T) {
    match place.get() {
        Some(lock) => *lock.write().unwrap_or_else(PoisonError::into_inner) = value,
        None => drop(place.set(RwLock::new(value))),
    }
}

impl Guard {
    /// Requests that begin from now on must carry one of `keys`.
    pub fn set_keys(&self, keys: Keys) {
        set(&self.keys, keys);
    }

    /// The engine gets this key with every request that begins from now on.
    ///
    /// # Errors
    /// If it cannot stand in a header.
    pub fn set_engine_key(&self, key: &str) -> Result<(), InvalidHeaderValue> {
        let mut value = HeaderValue::try_from(format!("Bearer {key}"))?;
        value.set_sensitive(true);
        set(&self.engine_key, value);
        Ok(())
    }

    /// Pages of these origins may read answers; set once.
    pub fn set_cors(&self, cors: Cors) {
        let _ = self.cors.set(cors);
    }

    /// Whether the client may ask. Its key goes no further, in whichever header it stands.
    pub(crate) fn admits(&self, headers: &mut HeaderMap) -> bool {
        let Some(keys) = self.keys.get() else {
            return true;
        };
        let admitted = {
            let keys = keys.read().unwrap_or_else(PoisonError::into_inner);
            let bearer = only(headers, &AUTHORIZATION).and_then(bearer);
            let given = [bearer, only(headers, &X_API_KEY).map(HeaderValue::as_bytes)];
            given.into_iter().flatten().any(|key| keys.contains(key.trim_ascii()))
        };
        headers.remove(AUTHORIZATION);
        headers.remove(X_API_KEY);
        admitted
    }

    /// Gives the engine its key, in the place of the client's.
    pub(crate) fn authorize(&self, headers: &mut HeaderMap) {
        if let Some(key) = self.engine_key.get() {
            let key = key.read().unwrap_or_else(PoisonError::into_inner);
            headers.insert(AUTHORIZATION, key.clone());
        }
    }

    /// What the page that asks may read; `None` if answers are left as they are.
    pub(crate) fn grant(&self, headers: &HeaderMap) -> Option<Grant> {
        self.cors.get().map(|cors| cors.grant(headers))
    }

    /// Looks at a request for one of fastwrap's own routes; an open one needs no key.
    ///
    /// # Errors
    /// If it is answered by this, and not by the route.
    pub fn own(
        &self,
        method: &Method,
        headers: &mut HeaderMap,
        open: bool,
    ) -> Result<Option<Grant>, Box<Response<Bytes>>> {
        let grant = self.grant(headers);
        if let Some(preflight) = grant.as_ref().and_then(|grant| grant.preflight(method, headers)) {
            return Err(Box::new(preflight));
        }
        if open || self.admits(headers) {
            return Ok(grant);
        }
        let mut refusal = Fault::InvalidApiKey.response();
        if let Some(grant) = &grant {
            grant.apply(refusal.headers_mut());
        }
        Err(Box::new(refusal))
    }
}

/// The header's value, unless it is there more than once: which of them counts others may see differently.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

/// The key of `Bearer KEY` (RFC 6750, section 2.1).
pub(crate) fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, key) = value.as_bytes().split_at_checked(b"bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(key)
}

#[cfg(test)]
mod tests;
