//! The times of one request, and what was counted on the way.

mod pace;

use sketches_ddsketch::{Config, DDSketch};

pub use self::pace::Pace;
use crate::event::{ChoiceSet, Reading};
use crate::performance::ms;
use crate::usage::Usage;

/// Relative error of the percentiles of gaps.
const GAP_ACCURACY: f64 = 0.01;
/// Bounds the sketch's memory: 2,048 bins at 1 % span 18 decades.
const GAP_BINS: u32 = 2048;

/// The distribution of the gaps between chunks with text of the same choice, in bounded memory.
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
    /// A chunk came; nothing is to be told of the first one, before which there was none.
    fn add(&mut self, before_ns: Option<u64>, read_ns: u64, stall_ns: u64) {
        let Some(before_ns) = before_ns else {
            return;
        };
        let gap_ns = read_ns.saturating_sub(before_ns);
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
    /// First event with text that is no reasoning.
    pub first_answer_ns: Option<u64>,
    /// Last byte of the answer so far.
    pub last_byte_ns: Option<u64>,
    /// Events with text of any sort.
    pub text: Pace,
    /// Gaps between those of the same choice.
    pub gaps: Gaps,
    /// The same by choice, at the place of its index; empty as long as there is one choice only, for then it has all.
    per_choice: Vec<Pace>,
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

    /// Time to first token, in milliseconds.
    #[must_use]
    pub fn ttft_ms(&self) -> Option<f64> {
        self.text.first_ns.map(|ns| ms(ns.saturating_sub(self.received_ns)))
    }

    /// Bytes of the body left the socket.
    pub fn bytes(&mut self, read_ns: u64) {
        self.first_byte_ns.get_or_insert(read_ns);
        self.last_byte_ns = Some(read_ns);
    }

    /// An event was in the bytes that left the socket at `read_ns`. Gaps over `stall_ns` count as stalls. Returns whether
    /// its text was the first.
    pub fn event(&mut self, reading: &Reading, read_ns: u64, stall_ns: u64) -> bool {
        self.first_chunk_ns.get_or_insert(read_ns);
        self.add_choices(reading.choices);
        self.finished.extend(reading.finished);
        if !reading.has_text() {
            return false;
        }
        if !(reading.answer.is_empty() && reading.tool_call.is_empty()) {
            self.first_answer_ns.get_or_insert(read_ns);
        }
        let running = reading.usage.filter(|usage| !usage.is_zero());
        // The counts of an event are those of its choice only if it has one.
        let tokens =
            running.filter(|_| reading.choices.len() == 1).and_then(|usage| usage.completion);
        let before_ns = self.text.chunk(read_ns, tokens);
        if self.per_choice.is_empty() {
            self.gaps.add(before_ns, read_ns, stall_ns);
        }
        let text = reading.text();
        for (index, choice) in self.per_choice.iter_mut().enumerate() {
            if text.contains(index) {
                self.gaps.add(choice.chunk(read_ns, tokens), read_ns, stall_ns);
            }
        }
        before_ns.is_none()
    }

    fn add_choices(&mut self, choices: ChoiceSet) {
        let before = self.choices;
        self.choices.extend(choices);
        if self.choices == before || self.choices.len() < 2 {
            return;
        }
        let only = before.last().filter(|_| self.per_choice.is_empty());
        self.per_choice.resize(self.choices.last().map_or(0, |last| last + 1), Pace::default());
        if let Some(choice) = only.and_then(|index| self.per_choice.get_mut(index)) {
            *choice = self.text.clone();
        }
    }

    /// Token counts arrived in an event of these `choices`; `per_choice` says that each choice gets its own once.
    pub fn count(&mut self, usage: Usage, choices: ChoiceSet, per_choice: bool) {
        if per_choice {
            return self.usage.get_or_insert_default().add_choice(usage);
        }
        let choice = choices.last().filter(|_| choices.len() == 1);
        let Some(choice) = choice.and_then(|index| self.per_choice.get_mut(index)) else {
            self.text.usage = Some(usage).filter(|_| choice.is_some());
            return self.usage.get_or_insert_default().update(usage);
        };
        choice.usage.get_or_insert_default().update(usage);
        let mut total = Usage::default();
        self.per_choice
            .iter()
            .filter_map(|choice| choice.usage)
            .for_each(|one| total.add_choice(one));
        self.usage.get_or_insert_default().update(total);
    }

    /// The choices that were seen, with their indices, if there are several.
    pub fn several_choices(&self) -> impl Iterator<Item = (usize, &Pace)> + Clone {
        self.per_choice.iter().enumerate().filter(|(index, _)| self.choices.contains(*index))
    }

    /// Time per output token after the first of each choice, in nanoseconds.
    ///
    /// # Errors
    /// The reason why it cannot be told.
    pub fn time_per_output_token_ns(&self) -> Result<f64, &'static str> {
        let tokens = self.usage.and_then(|usage| usage.completion);
        if self.choices.is_crowded() {
            return Err("too_many_choices");
        }
        if self.per_choice.is_empty() {
            return pace::time_per_output_token_ns(std::iter::once(&self.text), tokens);
        }
        pace::time_per_output_token_ns(self.several_choices().map(|(_, choice)| choice), tokens)
    }
}

#[cfg(test)]
mod tests;
