//! Whose wire format the engine speaks.

use std::fmt;
use std::str::FromStr;

/// The engine that is imitated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Flavor {
    /// OpenAI's own service.
    #[default]
    Openai,
    /// vLLM's OpenAI-compatible server.
    Vllm,
    /// SGLang's OpenAI-compatible server.
    Sglang,
    /// Hugging Face text-generation-inference.
    Tgi,
    /// `transformers serve`.
    Transformers,
    /// llama.cpp's `llama-server`.
    Llamacpp,
    /// Ollama's OpenAI-compatible routes.
    Ollama,
}

impl Flavor {
    /// Every flavour, in the order in which error messages list them.
    pub const ALL: [Self; 7] = [
        Self::Openai,
        Self::Vllm,
        Self::Sglang,
        Self::Tgi,
        Self::Transformers,
        Self::Llamacpp,
        Self::Ollama,
    ];

    /// Return the flavour's lower-case name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
            Self::Tgi => "tgi",
            Self::Transformers => "transformers",
            Self::Llamacpp => "llamacpp",
            Self::Ollama => "ollama",
        }
    }

    /// Return the member that carries reasoning text, if the engine has one.
    pub(crate) const fn reasoning_field(self) -> Option<&'static str> {
        match self {
            Self::Vllm | Self::Ollama => Some("reasoning"),
            Self::Sglang | Self::Transformers | Self::Llamacpp => Some("reasoning_content"),
            Self::Openai | Self::Tgi => None,
        }
    }

    /// Whether the engine answers with `n` choices; the others ignore `n`.
    pub(crate) const fn has_choices(self) -> bool {
        !matches!(self, Self::Ollama | Self::Tgi | Self::Transformers)
    }

    /// Whether a request for a model that is not served is an error.
    pub(crate) const fn checks_model(self) -> bool {
        matches!(self, Self::Vllm | Self::Ollama | Self::Transformers)
    }

    /// Whether streams end with `[DONE]`.
    pub(crate) const fn sends_done(self) -> bool {
        !matches!(self, Self::Transformers)
    }

    /// Whether `[DONE]` still follows an error inside a stream.
    pub(crate) const fn sends_done_after_error(self) -> bool {
        matches!(self, Self::Vllm | Self::Sglang | Self::Tgi)
    }

    /// Whether a tool call arrives in one delta instead of token by token.
    pub(crate) const fn sends_whole_tool_call(self) -> bool {
        matches!(self, Self::Ollama | Self::Transformers)
    }

    /// Whether `<`, `>` and `&` are written as `\u003c` and so on, as Go's encoder does.
    pub(crate) const fn escapes_html(self) -> bool {
        matches!(self, Self::Ollama)
    }

    /// Whether `stream_options.continuous_usage_stats` is honoured.
    pub(crate) const fn has_continuous_usage(self) -> bool {
        matches!(self, Self::Vllm | Self::Sglang)
    }

    /// Whether the engine is a Starlette application under uvicorn.
    pub(crate) const fn is_starlette(self) -> bool {
        matches!(self, Self::Vllm | Self::Sglang | Self::Transformers)
    }

    /// Return what stands before the JSON of an event.
    pub(crate) const fn data_prefix(self) -> &'static str {
        if matches!(self, Self::Tgi) { "data:" } else { "data: " }
    }
}

impl fmt::Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that no flavour has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownFlavor(String);

impl fmt::Display for UnknownFlavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown engine flavor {:?}; known are ", self.0)?;
        for (position, flavor) in Flavor::ALL.into_iter().enumerate() {
            let comma = if position == 0 { "" } else { ", " };
            write!(f, "{comma}{flavor}")?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownFlavor {}

impl FromStr for Flavor {
    type Err = UnknownFlavor;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|flavor| flavor.name() == name)
            .ok_or_else(|| UnknownFlavor(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for flavor in Flavor::ALL {
            assert_eq!(flavor.to_string().parse(), Ok(flavor));
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let message = "vLLM".parse::<Flavor>().unwrap_err().to_string();
        assert_eq!(
            message,
            "unknown engine flavor \"vLLM\"; known are openai, vllm, sglang, tgi, transformers, llamacpp, ollama"
        );
    }
}
