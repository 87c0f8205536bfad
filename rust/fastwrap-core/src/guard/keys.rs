//! The keys that clients may have.

use std::collections::HashSet;

use ring::hmac;
use ring::rand::SystemRandom;

/// The system gave no random bytes.
#[derive(Debug)]
pub struct NoRandomness;

impl std::fmt::Display for NoRandomness {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the system gives no random bytes, which keys are kept with")
    }
}

impl std::error::Error for NoRandomness {}

/// A set of keys, of which nothing is kept but their HMACs under a secret that is made for this set.
///
/// To look one up takes a time that depends on what was sent alone: neither on how many keys there are, nor on how much
/// of one was guessed, for nobody outside can tell whose HMAC is like another's.
pub struct Keys {
    secret: hmac::Key,
    tags: HashSet<Box<[u8]>>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Keys").finish_non_exhaustive()
    }
}

impl Keys {
    /// Keeps `keys`. With none, nobody has one.
    ///
    /// # Errors
    /// If the system gives no random bytes.
    pub fn new<K: AsRef<[u8]>>(keys: impl IntoIterator<Item = K>) -> Result<Self, NoRandomness> {
        let secret = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        let secret = secret.map_err(|_| NoRandomness)?;
        let tag = |key: K| Box::from(hmac::sign(&secret, key.as_ref()).as_ref());
        let tags = keys.into_iter().map(tag).collect();
        Ok(Self { secret, tags })
    }

    /// Whether it is one of them.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.tags.contains(hmac::sign(&self.secret, key).as_ref())
    }
}
