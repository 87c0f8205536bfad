//! Token counts as engines report them.

use crate::json::{Kind, Scanner, SyntaxError};

/// What a `usage` object says; members it lacks are `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// `prompt_tokens`, or `input_tokens`.
    pub prompt: Option<u64>,
    /// `completion_tokens`, or `output_tokens`.
    pub completion: Option<u64>,
    /// `reasoning_tokens`, flat or in the details of the completion.
    pub reasoning: Option<u64>,
    /// `cached_tokens` in the details of the prompt, or `cache_read_input_tokens`.
    pub cached: Option<u64>,
    /// `accepted_prediction_tokens`: tokens of the client's prediction (OpenAI's Predicted Outputs) that were right.
    pub accepted_prediction: Option<u64>,
}

impl Usage {
    /// Reads the object at the cursor; any other value is skipped and says nothing.
    ///
    /// # Errors
    /// If no well-formed value starts here.
    pub fn read(scanner: &mut Scanner<'_>) -> Result<Option<Self>, SyntaxError> {
        if scanner.kind()? != Kind::Object {
            scanner.value()?;
            return Ok(None);
        }
        let mut usage = Self::default();
        usage.members(scanner, true)?;
        Ok(Some(usage))
    }

    fn members(&mut self, scanner: &mut Scanner<'_>, details: bool) -> Result<(), SyntaxError> {
        scanner.enter_object()?;
        while let Some(key) = scanner.next_key()? {
            let field = match key {
                b"prompt_tokens" | b"input_tokens" if details => &mut self.prompt,
                b"completion_tokens" | b"output_tokens" if details => &mut self.completion,
                b"reasoning_tokens" => &mut self.reasoning,
                b"cached_tokens" | b"cache_read_input_tokens" => &mut self.cached,
                b"accepted_prediction_tokens" => &mut self.accepted_prediction,
                b"completion_tokens_details"
                | b"output_tokens_details"
                | b"prompt_tokens_details"
                | b"input_tokens_details"
                    if details && scanner.kind()? == Kind::Object =>
                {
                    self.members(scanner, false)?;
                    continue;
                }
                _ => {
                    scanner.value()?;
                    continue;
                }
            };
            if let Some(count) = scanner.integer()? {
                *field = Some(count);
            }
        }
        Ok(())
    }

    /// Takes in a member of an engine's own API: llama.cpp's, Ollama's, SGLang's `meta_info`, TGI's `details`.
    ///
    /// # Errors
    /// If `value` is not well-formed.
    pub(crate) fn take_own(&mut self, key: &[u8], value: &[u8]) -> Result<(), SyntaxError> {
        let mut scanner = Scanner::new(value);
        let field = match key {
            b"tokens_evaluated" | b"prompt_eval_count" | b"input_length" => &mut self.prompt,
            b"tokens_predicted" | b"eval_count" | b"generated_tokens" => &mut self.completion,
            b"meta_info" => {
                self.update(Self::read(&mut scanner)?.unwrap_or_default());
                return Ok(());
            }
            b"details" if scanner.kind()? == Kind::Object => {
                scanner.enter_object()?;
                while let Some(key) = scanner.next_key()? {
                    let value = scanner.value()?;
                    if key != b"details" {
                        self.take_own(key, value)?;
                    }
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        *field = scanner.integer()?.or(*field);
        Ok(())
    }

    /// Whether nothing was counted yet: some engines send zeros until they know better.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.prompt == Some(0) && self.completion == Some(0)
    }

    /// Takes over what `other` says; what it does not say stays.
    pub fn update(&mut self, other: Self) {
        self.prompt = other.prompt.or(self.prompt);
        self.completion = other.completion.or(self.completion);
        self.reasoning = other.reasoning.or(self.reasoning);
        self.cached = other.cached.or(self.cached);
        self.accepted_prediction = other.accepted_prediction.or(self.accepted_prediction);
    }

    /// Adds `other`, which counts another choice of the same prompt.
    pub fn add_choice(&mut self, other: Self) {
        let add = |left: Option<u64>, right: Option<u64>| match (left, right) {
            (Some(left), Some(right)) => Some(left.saturating_add(right)),
            (left, right) => left.or(right),
        };
        self.prompt = other.prompt.or(self.prompt);
        self.cached = other.cached.or(self.cached);
        self.completion = add(self.completion, other.completion);
        self.reasoning = add(self.reasoning, other.reasoning);
        self.accepted_prediction = add(self.accepted_prediction, other.accepted_prediction);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Usage> {
        Usage::read(&mut Scanner::new(text.as_bytes())).unwrap()
    }

    #[test]
    fn reads_each_dialect() {
        let chat = r#"{"prompt_tokens":7,"completion_tokens":9,"completion_tokens_details":{"reasoning_tokens":4,
            "accepted_prediction_tokens":1},"prompt_tokens_details":{"cached_tokens":3}}"#;
        let wanted = Usage {
            prompt: Some(7),
            completion: Some(9),
            reasoning: Some(4),
            cached: Some(3),
            accepted_prediction: Some(1),
        };
        assert_eq!(read(chat), Some(wanted));
        let messages = r#"{"input_tokens":7,"cache_read_input_tokens":3,"output_tokens":9}"#;
        assert_eq!(
            read(messages),
            Some(Usage { reasoning: None, accepted_prediction: None, ..wanted })
        );
        let sglang = r#"{"prompt_tokens":7,"reasoning_tokens":4,"prompt_tokens_details":null}"#;
        assert_eq!(
            read(sglang),
            Some(Usage { prompt: Some(7), reasoning: Some(4), ..Usage::default() })
        );
    }

    #[test]
    fn nonsense_is_no_count() {
        assert_eq!(read("null"), None);
        assert_eq!(read(r#"{"prompt_tokens":"7","completion_tokens":-1}"#), Some(Usage::default()));
        assert!(Usage::read(&mut Scanner::new(b"{\"prompt_tokens\":")).is_err());
    }

    #[test]
    fn details_hold_no_totals() {
        let text = r#"{"prompt_tokens":7,"completion_tokens":9,"prompt_tokens_details":{"prompt_tokens":1},
            "completion_tokens_details":{"completion_tokens":2,"reasoning_tokens":3}}"#;
        let usage = read(text).unwrap();
        assert_eq!((usage.prompt, usage.completion, usage.reasoning), (Some(7), Some(9), Some(3)));
    }

    #[test]
    fn choices_of_one_prompt_add_up() {
        let mut total = Usage::default();
        for completion in [5, 7] {
            total.add_choice(Usage {
                prompt: Some(3),
                completion: Some(completion),
                ..Usage::default()
            });
        }
        assert_eq!((total.prompt, total.completion), (Some(3), Some(12)));
    }
}
