//! How fast the text of one choice came.

use crate::usage::Usage;

/// The chunks with text of one choice, or of all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pace {
    /// The first of them.
    pub first_ns: Option<u64>,
    /// The last of them.
    pub last_ns: Option<u64>,
    /// How many.
    pub chunks: u64,
    /// Tokens generated up to the first and up to the last of them, where the engine counts as it goes.
    counts: (Option<u64>, Option<u64>),
    /// The choice's own counts, if the engine gave them.
    pub(super) usage: Option<Usage>,
}

impl Pace {
    /// A chunk with text; returns when the one before came. `tokens` are those generated so far, if that is told.
    pub(super) fn chunk(&mut self, read_ns: u64, tokens: Option<u64>) -> Option<u64> {
        if self.first_ns.is_none() {
            self.first_ns = Some(read_ns);
            self.counts.0 = tokens;
        }
        self.counts.1 = tokens;
        self.chunks += 1;
        self.last_ns.replace(read_ns)
    }

    /// The time from the first to the last.
    ///
    /// # Errors
    /// The reason why it says nothing of the pace.
    fn span_ns(&self) -> Result<u64, &'static str> {
        let (Some(first_ns), Some(last_ns)) = (self.first_ns, self.last_ns) else {
            return Err("no_text");
        };
        if self.chunks < 2 {
            return Err("fewer_than_2_chunks");
        }
        if first_ns == last_ns {
            // The engine, or the machine, gave all of it in one go.
            return Err("all_in_one_read");
        }
        Ok(last_ns.saturating_sub(first_ns))
    }

    /// The tokens that came behind the first chunk and up to the last, where the engine counts as it goes.
    fn counted(&self) -> Option<u64> {
        self.counts.1?.checked_sub(self.counts.0?).filter(|tokens| *tokens > 0)
    }
}

/// Time per output token after the first of each choice, in nanoseconds: the sum of their spans over the sum of their
/// tokens. Of `tokens`, all that were generated, the first of each choice is taken off; where the engine counts as it
/// goes, all that came with its first chunk.
pub(super) fn time_per_output_token_ns<'a>(
    choices: impl Iterator<Item = &'a Pace> + Clone,
    tokens: Option<u64>,
) -> Result<f64, &'static str> {
    if choices.clone().all(|choice| choice.first_ns.is_none()) {
        return Err("no_text");
    }
    let firsts = choices.clone().count() as u64;
    let after_first = tokens.ok_or("no_usage")?.saturating_sub(firsts);
    if after_first == 0 {
        return Err("fewer_than_2_tokens");
    }
    let spans_ns = choices.clone().map(Pace::span_ns).sum::<Result<u64, _>>()?;
    let counted = choices.map(Pace::counted).sum::<Option<u64>>();
    #[allow(clippy::cast_precision_loss)] // both far below 2^53
    Ok(spans_ns as f64 / counted.unwrap_or(after_first) as f64)
}
