//! Errors in each engine's own shape, before a stream and inside one.

use std::fmt::Write;

use bytes::Bytes;
use http::StatusCode;

use crate::flavor::Flavor;
use crate::lexicon::escape;

/// What the error inside a stream says.
const STREAM_MESSAGE: &str = "simulated failure";

/// Why a request gets no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No such route.
    Route { method: String, path: String },
    /// The route exists, for another method.
    Method,
    /// The body cannot be read.
    Body(String),
    /// `stream_options` without `stream`.
    StreamOptions,
    /// A model that is not served.
    Model(String),
    /// The request asked for this status.
    Asked(StatusCode),
}

/// An error's body as it is sent.
pub(crate) struct Rendered {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    pub(crate) body: Bytes,
}

impl Failure {
    fn status(&self) -> StatusCode {
        match self {
            Self::Route { .. } | Self::Model(_) => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Body(_) | Self::StreamOptions => StatusCode::BAD_REQUEST,
            Self::Asked(status) => *status,
        }
    }

    fn message(&self, flavor: Flavor) -> String {
        match self {
            Self::Route { method, path } if flavor == Flavor::Openai => {
                format!("Invalid URL ({method} {path})")
            }
            Self::Route { .. } if flavor == Flavor::Llamacpp => "File Not Found".to_owned(),
            Self::Route { .. } => "Not Found".to_owned(),
            Self::Method => "Method Not Allowed".to_owned(),
            Self::Body(message) => message.clone(),
            Self::StreamOptions => {
                "Stream options can only be defined when `stream=True`.".to_owned()
            }
            Self::Model(name) if flavor == Flavor::Ollama => format!("model '{name}' not found"),
            Self::Model(name) => format!("The model `{name}` does not exist."),
            Self::Asked(_) => STREAM_MESSAGE.to_owned(),
        }
    }

    /// Render the error as `flavor` does.
    pub(crate) fn render(&self, flavor: Flavor) -> Rendered {
        let status = self.status();
        let plain = |text: &str| Rendered {
            status,
            content_type: "text/plain; charset=utf-8",
            body: Bytes::copy_from_slice(text.as_bytes()),
        };
        let text = self.message(flavor);
        let message = escape(&text, flavor.escapes_html());
        let code = status.as_u16();
        let json = match (self, flavor) {
            (Self::Route { .. }, Flavor::Tgi) => return plain(""),
            (Self::Route { .. }, Flavor::Ollama) => return plain("404 page not found"),
            (Self::Body(_), Flavor::Tgi) => return plain(&text),
            (Self::Route { .. } | Self::Method, flavor) if flavor.is_starlette() => {
                format!(r#"{{"detail":"{message}"}}"#)
            }
            (_, Flavor::Transformers) => format!(r#"{{"detail":"{message}"}}"#),
            (_, Flavor::Vllm) => {
                let param = match self {
                    Self::Model(_) => "\"model\"",
                    Self::StreamOptions => "\"stream_options\"",
                    _ => "null",
                };
                let kind = vllm_type(status);
                format!(
                    r#"{{"error":{{"message":"{message}","type":"{kind}","param":{param},"code":{code}}}}}"#
                )
            }
            (_, Flavor::Sglang) => format!(
                r#"{{"object":"error","message":"{message}","type":"{}","param":null,"code":{code}}}"#,
                status.canonical_reason().unwrap_or("Error")
            ),
            (_, Flavor::Tgi) => {
                format!(r#"{{"error":"{message}","error_type":"{}"}}"#, tgi_type(status))
            }
            (_, Flavor::Llamacpp) => {
                format!(
                    r#"{{"error":{{"code":{code},"message":"{message}","type":"{}"}}}}"#,
                    llamacpp_type(status)
                )
            }
            (_, Flavor::Ollama) => {
                let kind = ollama_type(status);
                format!(
                    r#"{{"error":{{"message":"{message}","type":"{kind}","param":null,"code":null}}}}"#
                )
            }
            (_, Flavor::Openai) => {
                let kind =
                    if status.is_server_error() { "server_error" } else { "invalid_request_error" };
                format!(
                    r#"{{"error":{{"message":"{message}","type":"{kind}","param":null,"code":null}}}}"#
                )
            }
        };
        Rendered { status, content_type: json_type(flavor), body: json.into() }
    }
}

/// Return the content type of the engine's JSON.
pub(crate) const fn json_type(flavor: Flavor) -> &'static str {
    if matches!(flavor, Flavor::Llamacpp) {
        "application/json; charset=utf-8"
    } else {
        "application/json"
    }
}

fn vllm_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        404 => "NotFoundError",
        400..500 => "BadRequestError",
        503 => "ServiceUnavailableError",
        _ => "InternalServerError",
    }
}

fn tgi_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        429 => "overloaded",
        400..500 => "validation",
        _ => "generation",
    }
}

fn llamacpp_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        404 => "not_found_error",
        400..500 => "invalid_request_error",
        503 => "unavailable_error",
        _ => "server_error",
    }
}

fn ollama_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "invalid_request_error",
        404 => "not_found_error",
        _ => "api_error",
    }
}

/// Append the event that reports an error inside a stream; Python's `json.dumps` leaves spaces in some.
pub(crate) fn push_stream_error(out: &mut String, flavor: Flavor) {
    let message = STREAM_MESSAGE;
    let json = match flavor {
        Flavor::Vllm => format!(
            r#"{{"error": {{"message": "{message}", "type": "InternalServerError", "param": null, "code": 500}}}}"#
        ),
        Flavor::Sglang => format!(
            r#"{{"error": {{"object": "error", "message": "{message}", "type": "InternalServerError", "param": null, "code": 500}}}}"#
        ),
        Flavor::Tgi => format!(r#"{{"error":{{"message":"{message}","http_status_code":500}}}}"#),
        Flavor::Transformers => format!(r#"{{"error": "{message}"}}"#),
        Flavor::Llamacpp => {
            format!(r#"{{"error":{{"code":500,"message":"{message}","type":"server_error"}}}}"#)
        }
        Flavor::Ollama => {
            format!(
                r#"{{"error":{{"message":"{message}","type":"api_error","param":null,"code":null}}}}"#
            )
        }
        Flavor::Openai => {
            format!(
                r#"{{"error":{{"message":"{message}","type":"server_error","param":null,"code":null}}}}"#
            )
        }
    };
    // Writing to a string cannot fail.
    let _ = write!(out, "{}{json}\n\n", flavor.data_prefix());
}
