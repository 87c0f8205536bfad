//! fastwrap's own errors as an OpenAI client expects them: `{"error": {"message", "type", "code"}}`.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::event::Dialect;
use crate::framing::Framing;
use crate::performance::Outcome;

/// The type of an error that is the client's.
const CLIENTS_FAULT: &str = "invalid_request_error";

/// What went wrong before or while the engine answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No connection to the engine could be made.
    Unreachable,
    /// No connection within the connect timeout.
    ConnectTimeout,
    /// The engine closed the connection, or broke the protocol, before its answer was whole.
    EngineClosed,
    /// The engine's stream could not be made the JSON answer that was asked for.
    NotAssembled,
    /// The engine's answer did not begin within the first-byte timeout.
    FirstByteTimeout,
    /// The engine fell silent for longer than the idle timeout.
    IdleTimeout,
    /// The request took longer than the total timeout.
    TotalTimeout,
    /// The request's body is over the limit.
    BodyTooLarge,
    /// The request's headers are over the limit.
    HeadersTooLarge,
    /// Too many requests are in flight.
    Overloaded,
    /// The request carries no key that is accepted.
    InvalidApiKey,
    /// fastwrap has started the engine, which cannot serve yet, or again.
    Starting,
    /// The request cannot be passed on: its method, target or headers are malformed.
    BadRequest,
    /// The client did not send its body in time.
    BodyTimeout,
    /// The client left before its request was whole. Nobody reads the answer.
    ClientLeft,
    /// fastwrap is being stopped, and the time of grace is over.
    Stopping,
    /// A fault of fastwrap's own.
    Internal,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.message())
    }
}

impl std::error::Error for Fault {}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 17] = [
        Self::Unreachable,
        Self::ConnectTimeout,
        Self::EngineClosed,
        Self::NotAssembled,
        Self::FirstByteTimeout,
        Self::IdleTimeout,
        Self::TotalTimeout,
        Self::BodyTooLarge,
        Self::HeadersTooLarge,
        Self::Overloaded,
        Self::InvalidApiKey,
        Self::Starting,
        Self::BadRequest,
        Self::BodyTimeout,
        Self::ClientLeft,
        Self::Stopping,
        Self::Internal,
    ];

    /// The status it is answered with, when the answer has not begun.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::Unreachable | Self::EngineClosed | Self::NotAssembled => StatusCode::BAD_GATEWAY,
            Self::ConnectTimeout
            | Self::FirstByteTimeout
            | Self::IdleTimeout
            | Self::TotalTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Overloaded | Self::Starting | Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Self::InvalidApiKey => StatusCode::UNAUTHORIZED,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BadRequest | Self::ClientLeft => StatusCode::BAD_REQUEST,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// A word for it, stable and fit for a label.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Unreachable => "engine_unreachable",
            Self::ConnectTimeout => "connect_timeout",
            Self::EngineClosed => "engine_closed_connection",
            Self::NotAssembled => "stream_not_assembled",
            Self::FirstByteTimeout => "first_byte_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::TotalTimeout => "total_timeout",
            Self::BodyTooLarge => "body_too_large",
            Self::HeadersTooLarge => "headers_too_large",
            Self::Overloaded => "overloaded",
            // OpenAI's own word.
            Self::InvalidApiKey => "invalid_api_key",
            Self::Starting => "engine_starting",
            Self::BadRequest => "bad_request",
            Self::BodyTimeout => "body_timeout",
            Self::ClientLeft => "client_left",
            Self::Stopping => "stopping",
            Self::Internal => "internal_error",
        }
    }

    /// How a request ends that meets it.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        if self == Self::ClientLeft { Outcome::Cancelled } else { Outcome::Error }
    }

    fn message(self) -> &'static str {
        match self {
            Self::Unreachable => {
                "fastwrap cannot connect to the engine. Is it running, and is --upstream its address?"
            }
            Self::ConnectTimeout => {
                "The engine did not accept a connection in time (--connect-timeout)."
            }
            Self::EngineClosed => {
                "The engine closed the connection before its answer was complete."
            }
            Self::NotAssembled => {
                "The engine's stream could not be made the JSON answer that was asked for (--measure-json-as-stream)."
            }
            Self::FirstByteTimeout => {
                "The engine did not begin to answer in time (--first-byte-timeout)."
            }
            Self::IdleTimeout => {
                "The engine fell silent in the middle of its answer (--idle-timeout)."
            }
            Self::TotalTimeout => "The request took longer than is allowed (--total-timeout).",
            Self::BodyTooLarge => {
                "The request's body is larger than is allowed (--max-body-bytes)."
            }
            Self::HeadersTooLarge => {
                "The request's headers are larger than is allowed (--max-header-bytes)."
            }
            Self::Overloaded => {
                "Too many requests are in flight (--max-inflight). Try again later."
            }
            Self::InvalidApiKey => {
                "The request carries no key that is accepted here: send Authorization: Bearer KEY, or x-api-key: KEY."
            }
            Self::Starting => "The engine is starting, and cannot serve yet. Try again later.",
            Self::BadRequest => {
                "The request cannot be passed on: its method, target or headers are malformed."
            }
            Self::BodyTimeout => "The request's body did not arrive in time (--body-timeout).",
            Self::ClientLeft => "The client closed the connection before its request was complete.",
            Self::Stopping => {
                "fastwrap is being stopped, and could not wait for the end of this answer."
            }
            Self::Internal => "fastwrap failed to handle the request.",
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::BodyTooLarge
            | Self::HeadersTooLarge
            | Self::InvalidApiKey
            | Self::BadRequest
            | Self::BodyTimeout
            | Self::ClientLeft => CLIENTS_FAULT,
            Self::Overloaded => "overloaded_error",
            Self::ConnectTimeout
            | Self::FirstByteTimeout
            | Self::IdleTimeout
            | Self::TotalTimeout => "timeout_error",
            Self::Unreachable | Self::EngineClosed | Self::NotAssembled => "upstream_error",
            Self::Internal | Self::Starting | Self::Stopping => "server_error",
        }
    }

    fn error(self) -> Value {
        json!({"message": self.message(), "type": self.kind(), "code": self.code()})
    }

    /// The error as one event of a stream; the only event that fastwrap ever adds.
    #[must_use]
    pub fn event(self, dialect: Dialect, framing: Framing) -> Bytes {
        let error = self.error();
        if framing == Framing::Lines {
            // Ollama's, whose clients know a text only.
            return Bytes::from(format!("{}\n", json!({ "error": self.message() })));
        }
        Bytes::from(match dialect {
            Dialect::Choices | Dialect::Generate => {
                format!("data: {}\n\n", json!({ "error": error }))
            }
            Dialect::Responses | Dialect::Messages => {
                format!("event: error\ndata: {}\n\n", json!({"type": "error", "error": error}))
            }
        })
    }

    /// After how many seconds it is worth to try again.
    fn retry_after(self) -> Option<&'static str> {
        match self {
            Self::Overloaded => Some("1"),
            // Models take minutes to load; a client that waits longer would miss the end of it by as much.
            Self::Starting => Some("5"),
            _ => None,
        }
    }

    /// The error as a whole answer.
    #[must_use]
    pub fn response(self) -> Response<Bytes> {
        let body = Bytes::from(json!({ "error": self.error() }).to_string());
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        if self.kind() == CLIENTS_FAULT {
            // What comes next may be the rest of this request, or what was hidden in it.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if self == Self::InvalidApiKey {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        let mut response = Response::new(body);
        *response.status_mut() = self.status();
        *response.headers_mut() = headers;
        response
    }
}

#[cfg(test)]
mod tests;
