//! Which requests are measured.

use crate::event::Dialect;

/// A measured route. Whatever is none of these passes untouched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Completions,
    /// `/v1/responses`
    Responses,
    /// `/v1/messages`
    Messages,
    /// `/v1/embeddings`
    Embeddings,
    /// `/v1/rerank`, `/v1/score` and their kin: one JSON answer, no text.
    Scores,
    /// The engines' own: `/generate` of SGLang and TGI, `/completion` of llama.cpp, `/api/chat` of Ollama, …
    Generate,
}

/// Path endings, so that an engine below a prefix is measured as well.
const ENDINGS: [(&str, Route); 16] = [
    ("/chat/completions", Route::Chat),
    ("/v1/completions", Route::Completions),
    ("/v1/responses", Route::Responses),
    ("/v1/messages", Route::Messages),
    ("/v1/embeddings", Route::Embeddings),
    ("/v1/rerank", Route::Scores),
    ("/v2/rerank", Route::Scores),
    ("/v1/reranking", Route::Scores),
    ("/v1/score", Route::Scores),
    ("/v1/classify", Route::Scores),
    ("/v1/pooling", Route::Scores),
    ("/v1/moderations", Route::Scores),
    ("/v2/embed", Route::Embeddings),
    ("/generate_stream", Route::Generate),
    ("/api/chat", Route::Generate),
    ("/api/generate", Route::Generate),
];

/// Engines serve these without `/v1` too; only the whole path counts, for such words end other paths as well.
const WHOLE: [(&str, Route); 8] = [
    ("/completions", Route::Completions),
    ("/embeddings", Route::Embeddings),
    ("/rerank", Route::Scores),
    ("/score", Route::Scores),
    ("/classify", Route::Scores),
    ("/pooling", Route::Scores),
    ("/generate", Route::Generate),
    ("/completion", Route::Generate),
];

impl Route {
    /// Every route, in the order of [`Self::index`].
    pub const ALL: [Self; 7] = [
        Self::Chat,
        Self::Completions,
        Self::Responses,
        Self::Messages,
        Self::Embeddings,
        Self::Scores,
        Self::Generate,
    ];

    /// The measured route of a request, or `None`. `target` may carry a query.
    #[must_use]
    pub fn of(method: &http::Method, target: &str) -> Option<Self> {
        if method != http::Method::POST {
            return None;
        }
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        let ending = ENDINGS.iter().find(|(ending, _)| path.ends_with(ending));
        ending.or_else(|| WHOLE.iter().find(|(whole, _)| path == *whole)).map(|(_, route)| *route)
    }

    /// The API that its events belong to.
    #[must_use]
    pub fn dialect(self) -> Dialect {
        match self {
            Self::Responses => Dialect::Responses,
            Self::Messages => Dialect::Messages,
            Self::Generate => Dialect::Generate,
            Self::Chat | Self::Completions | Self::Embeddings | Self::Scores => Dialect::Choices,
        }
    }

    /// Whether `stream_options` belongs to its requests.
    #[must_use]
    pub fn has_stream_options(self) -> bool {
        matches!(self, Self::Chat | Self::Completions)
    }

    /// `gen_ai.operation.name` of OpenTelemetry's conventions; the label in metrics.
    #[must_use]
    pub fn operation(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "text_completion",
            Self::Responses => "responses",
            Self::Messages => "messages",
            Self::Embeddings => "embeddings",
            Self::Scores => "scores",
            Self::Generate => "generate",
        }
    }

    /// Its place in [`Self::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measured_routes() {
        for (target, route) in [
            ("/v1/chat/completions", Some(Route::Chat)),
            ("/v1/chat/completions?api-version=1", Some(Route::Chat)),
            ("/prefix/v1/embeddings", Some(Route::Embeddings)),
            ("/completions", Some(Route::Completions)),
            ("/v1/messages", Some(Route::Messages)),
            ("/api/chat", Some(Route::Generate)),
            ("/generate", Some(Route::Generate)),
            ("/models/generate", None),
            ("/v1/threads/t/messages", None),
            ("/v1/messages/count_tokens", None),
            ("/v1/models", None),
            ("/x?/v1/messages", None),
        ] {
            assert_eq!(Route::of(&http::Method::POST, target), route, "{target}");
        }
        assert_eq!(Route::of(&http::Method::GET, "/v1/responses"), None);
    }

    #[test]
    fn index_is_the_place_in_all() {
        for (at, route) in Route::ALL.into_iter().enumerate() {
            assert_eq!(route.index(), at);
        }
    }
}
