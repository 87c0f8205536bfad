//! The members of one object, as a stream gives them piece by piece.

use crate::json::{Kind, Scanner, SyntaxError, is_key};

/// Members whose strings are parts of one text. Any other is told whole, perhaps several times: the last one counts.
const TEXTS: [&str; 5] = ["content", "text", "reasoning", "reasoning_content", "refusal"];

#[derive(Debug)]
pub(super) struct Member {
    /// Raw, as [`Scanner::next_key`] gives it.
    pub(super) key: Box<[u8]>,
    /// JSON; of a text what stands between its quotes.
    value: Vec<u8>,
    is_text: bool,
}

impl Member {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let quote: &[u8] = if self.is_text { b"\"" } else { b"" };
        for part in [quote, &self.value, quote] {
            out.extend_from_slice(part);
        }
    }

    /// Its JSON, unless it is a text.
    pub(super) fn json(&self) -> Option<&[u8]> {
        (!self.is_text).then_some(&self.value)
    }
}

/// In the order in which they were first told. A null tells nothing.
#[derive(Debug, Default)]
pub(super) struct Members {
    members: Vec<Member>,
    bytes: usize,
}

impl Members {
    /// The members of a JSON object.
    pub(super) fn of(object: &[u8]) -> Result<Self, SyntaxError> {
        let mut members = Self::default();
        let mut scanner = Scanner::new(object);
        scanner.enter_object()?;
        while let Some(key) = scanner.next_key()? {
            members.set(key, scanner.value()?);
        }
        Ok(members)
    }

    /// Bytes of keys and values.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.iter()
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Member> {
        self.members.iter().find(|member| *member.key == *key)
    }

    /// Whether this member is a text that stayed empty beside another one that did not.
    pub(super) fn gave_way(&self, member: &Member) -> bool {
        let has_text = |member: &&Member| member.is_text && !member.value.is_empty();
        member.is_text && member.value.is_empty() && self.members.iter().any(|one| has_text(&one))
    }

    /// Takes the value at the cursor: of a text the next part.
    ///
    /// # Errors
    /// If no well-formed value starts here, or it is another kind of text than before: to keep one is to lose the other.
    pub(super) fn add(&mut self, key: &[u8], scanner: &mut Scanner<'_>) -> Result<(), SyntaxError> {
        let is_text = TEXTS.iter().any(|name| is_key(key, name));
        if !is_text {
            self.set(key, scanner.value()?);
            return Ok(());
        }
        match scanner.kind()? {
            Kind::Null => scanner.value().map(|_| ()),
            Kind::String => {
                let part = scanner.string()?;
                self.bytes += part.len();
                self.member(key, true).value.extend_from_slice(part);
                Ok(())
            }
            _ => Err(SyntaxError { offset: scanner.offset() }),
        }
    }

    /// Takes a whole value.
    pub(super) fn set(&mut self, key: &[u8], value: &[u8]) {
        if value == b"null" {
            return;
        }
        let member = self.member(key, false);
        if member.value != value {
            let before = member.value.len();
            member.value.clear();
            member.value.extend_from_slice(value);
            self.bytes = self.bytes - before + value.len();
        }
    }

    fn member(&mut self, key: &[u8], is_text: bool) -> &mut Member {
        let known = self.members.iter().position(|member| *member.key == *key);
        let at = known.unwrap_or(self.members.len());
        if known.is_none() {
            self.bytes += key.len() + size_of::<Member>();
            self.members.push(Member { key: key.into(), value: Vec::new(), is_text });
        }
        #[allow(clippy::indexing_slicing)] // found, or just pushed
        &mut self.members[at]
    }
}
