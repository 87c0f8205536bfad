//! The times of one request, and what was counted on the way.

use sketches_ddsketch::{Config, DDSketch};

use crate::event::{ChoiceSet, Reading};
use crate::usage::Usage;

/// Relative error of the percentiles of gaps.
const GAP_ACCURACY: f64 = 0.01;
/// Bounds the sketch's memory: 2,048 bins at 1 % span 18 decades.
const GAP_BINS: u32 = 2048;

/// The distribution of the gaps between chunks with text, in bounded memory.
#[derive(Default)]
pub struct Gaps {
    sketch: Option<DDSketch>,
    /// How many gaps exceeded the bound.
    pub stalls: u64,
    max_ns: u64,
    sum_ns: u64,
    count: u64,
}

impl std::fmt::Debug for Gaps {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Gaps").field("count", &self.count).finish_non_exhaustive()
    }
}

impl Gaps {
    fn add(&mut self, gap_ns: u64, stall_ns: u64) {
        let sketch = self
            .sketch
            .get_or_insert_with(|| DDSketch::new(Config::new(GAP_ACCURACY, GAP_BINS, 1.0)));
        #[allow(clippy::cast_precision_loss)] // a gap of 2^53 ns is 104 days
        sketch.add(gap_ns as f64);
        self.stalls += u64::from(gap_ns > stall_ns);
        self.max_ns = self.max_ns.max(gap_ns);
        self.sum_ns = self.sum_ns.saturating_add(gap_ns);
        self.count += 1;
    }

    /// Mean gap in nanoseconds; `None` without any.
    #[must_use]
    pub fn mean_ns(&self) -> Option<u64> {
        self.sum_ns.checked_div(self.count)
    }

    /// Greatest gap in nanoseconds; `None` without any.
    #[must_use]
    pub fn max_ns(&self) -> Option<u64> {
        (self.count > 0).then_some(self.max_ns)
    }

    /// The gap that a share of `quantile` (0 to 1) of all gaps does not exceed, within 1 %.
    #[must_use]
    pub fn quantile_ns(&self, quantile: f64) -> Option<u64> {
        let value = self.sketch.as_ref()?.quantile(quantile).ok()??;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        // within 1 % of a u64 that was added
        Some((value.round() as u64).min(self.max_ns))
    }
}

/// Times are nanoseconds of one monotonic clock.
#[derive(Debug, Default)]
pub struct Timeline {
    /// The request's last byte was handed to the application.
    pub received_ns: u64,
    /// The request's last byte was written to the engine.
    pub sent_ns: Option<u64>,
    /// First byte of the answer's body.
    pub first_byte_ns: Option<u64>,
    /// First event with data.
    pub first_chunk_ns: Option<u64>,
    /// First event with text of any sort.
    pub first_token_ns: Option<u64>,
    /// First event with text that is no reasoning.
    pub first_answer_ns: Option<u64>,
    /// Last event with text.
    pub last_token_ns: Option<u64>,
    /// Last byte of the answer so far.
    pub last_byte_ns: Option<u64>,
    /// Events with text.
    pub chunks: u64,
    /// Gaps between them.
    pub gaps: Gaps,
    /// Choices seen.
    pub choices: ChoiceSet,
    /// Choices that finished.
    pub finished: ChoiceSet,
    /// Token counts, if the engine gave them.
    pub usage: Option<Usage>,
}

impl Timeline {
    /// Starts when the request's last byte was handed over.
    #[must_use]
    pub fn new(received_ns: u64) -> Self {
        Self { received_ns, ..Self::default() }
    }

    /// Bytes of the body left the socket.
    pub fn bytes(&mut self, read_ns: u64) {
        self.first_byte_ns.get_or_insert(read_ns);
        self.last_byte_ns = Some(read_ns);
    }

    /// An event was in the bytes that left the socket at `read_ns`. Gaps over `stall_ns` count as stalls.
    pub fn event(&mut self, reading: &Reading, read_ns: u64, stall_ns: u64) {
        self.first_chunk_ns.get_or_insert(read_ns);
        self.choices.extend(reading.choices);
        self.finished.extend(reading.finished);
        if !reading.has_text() {
            return;
        }
        self.first_token_ns.get_or_insert(read_ns);
        if !(reading.answer.is_empty() && reading.tool_call.is_empty()) {
            self.first_answer_ns.get_or_insert(read_ns);
        }
        if let Some(last_ns) = self.last_token_ns.replace(read_ns) {
            self.gaps.add(read_ns.saturating_sub(last_ns), stall_ns);
        }
        self.chunks += 1;
    }

    /// Token counts arrived; `per_choice` says that they are of one choice only.
    pub fn count(&mut self, usage: Usage, per_choice: bool) {
        let total = self.usage.get_or_insert_default();
        if per_choice { total.add_choice(usage) } else { total.update(usage) }
    }

    /// Time per output token after the first, in nanoseconds.
    ///
    /// # Errors
    /// The reason why it cannot be told.
    pub fn time_per_output_token_ns(&self) -> Result<f64, &'static str> {
        let (Some(first), Some(last)) = (self.first_token_ns, self.last_token_ns) else {
            return Err("no_text");
        };
        let Some(tokens) = self.usage.and_then(|usage| usage.completion) else {
            return Err("no_usage");
        };
        if self.choices.len() > 1 {
            return Err("several_choices");
        }
        if tokens < 2 {
            return Err("fewer_than_2_tokens");
        }
        if self.chunks < 2 {
            return Err("fewer_than_2_chunks");
        }
        if first == last {
            // The engine, or the machine, gave all of it in one go: that says nothing about its pace.
            return Err("all_in_one_read");
        }
        #[allow(clippy::cast_precision_loss)] // both far below 2^53
        Ok(last.saturating_sub(first) as f64 / (tokens - 1) as f64)
    }
}

#[cfg(test)]
mod tests;
