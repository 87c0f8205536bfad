//! Writes the block. Its names need no escaping, which is most of what a general serialiser would look for.

use serde::{Serialize, Serializer};

use super::Performance;

/// What a block usually takes.
const USUAL_BYTES: usize = 2048;

/// Why fields are null.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reasons(Vec<(&'static str, &'static str)>);

impl Serialize for Reasons {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

impl Reasons {
    pub(super) fn insert(&mut self, field: &'static str, reason: &'static str) {
        match self.0.iter_mut().find(|(known, _)| *known == field) {
            Some(known) => known.1 = reason,
            None => self.0.push((field, reason)),
        }
    }

    pub(super) fn remove(&mut self, field: &'static str) {
        self.0.retain(|(known, _)| *known != field);
    }

    /// Whether every field has a value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// An object that is being written.
struct Object(Vec<u8>);

impl Object {
    fn name(&mut self, name: &'static str) {
        let start: &[u8] = if self.0.ends_with(b"{") { b"\"" } else { b",\"" };
        for part in [start, name.as_bytes(), b"\":"] {
            self.0.extend_from_slice(part);
        }
    }

    fn add(&mut self, name: &'static str, value: &impl Serialize) -> serde_json::Result<()> {
        self.name(name);
        serde_json::to_writer(&mut self.0, value)
    }

    fn add_reasons(&mut self, reasons: &Reasons) {
        self.name("unavailable");
        self.0.push(b'{');
        for (field, reason) in &reasons.0 {
            self.name(field);
            for part in [b"\"", reason.as_bytes(), b"\""] {
                self.0.extend_from_slice(part);
            }
        }
        self.0.push(b'}');
    }
}

/// The block as compact JSON.
pub(super) fn write(performance: &Performance) -> serde_json::Result<Vec<u8>> {
    let mut object = Object(Vec::with_capacity(USUAL_BYTES));
    object.0.push(b'{');
    /// Each field under its own name; one that is forgotten does not compile.
    macro_rules! add {
        ($($name:ident)*) => {
            let Performance { $($name,)* unavailable, extra } = performance;
            $(object.add(stringify!($name), $name)?;)*
            object.add_reasons(unavailable);
            object.0.extend_from_slice(extra);
        };
    }
    add! {
        latency_ms ttft_ms tpot_ms memory_delta_mb peak_memory_mb memory_start_mb memory_end_mb
        first_byte_ms first_chunk_ms first_answer_ms inter_chunk_ms chunks choices
        prompt_tokens completion_tokens reasoning_tokens cached_tokens accepted_prediction_tokens
        token_source output_tokens_per_second proxy_overhead_ms engine host_memory
        energy_j attributed_energy_j energy_per_output_token_j gpu concurrent_requests
        measured_as backend request_id outcome error_type
    }
    object.0.push(b'}');
    Ok(object.0)
}
