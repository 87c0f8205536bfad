//! What the engine does with a request.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fastwrap_clock::Alarm;
use http::header::{CACHE_CONTROL, HeaderValue, SERVER};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::answer::{Answer, Endpoint};
use crate::body::render_body;
use crate::embedding::{EmbeddingRequest, render_embeddings};
use crate::failure::{Failure, json_type};
use crate::flavor::Flavor;
use crate::options::Options;
use crate::pages::{Page, pages};
use crate::reply::{Reply, respond};
use crate::request::{Faults, Request as Asked};
use crate::script::Script;
use crate::stream::EventStream;

/// Longest request body; beyond a million tokens of prompt.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

/// What all connections of an engine share.
pub(crate) struct Router {
    options: Options,
    pages: Vec<Page>,
    serial: AtomicU64,
}

impl Router {
    pub(crate) fn new(options: Options) -> Self {
        Self { pages: pages(&options), options, serial: AtomicU64::new(0) }
    }

    /// Answer one request.
    pub(crate) async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Reply>, Infallible> {
        let mut response = match self.dispatch(request).await {
            Ok(response) => response,
            Err(failure) => {
                let rendered = failure.render(self.options.flavor);
                respond(
                    rendered.status,
                    Some(rendered.content_type),
                    Reply::Full(Some(rendered.body)),
                )
            }
        };
        if let Some(server) = server_name(self.options.flavor) {
            response.headers_mut().insert(SERVER, HeaderValue::from_static(server));
        }
        Ok(response)
    }

    async fn dispatch(&self, request: Request<Incoming>) -> Result<Response<Reply>, Failure> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        let post = parts.method == Method::POST;
        match path {
            "/v1/chat/completions" if post => {
                self.complete(Endpoint::Chat, &parts.headers, body).await
            }
            "/v1/completions" if post => {
                self.complete(Endpoint::Completion, &parts.headers, body).await
            }
            "/v1/embeddings" if post => self.embed(body).await,
            _ => {
                let page = self.pages.iter().find(|page| page.path == path);
                let posts =
                    matches!(path, "/v1/chat/completions" | "/v1/completions" | "/v1/embeddings");
                match page {
                    Some(page) if matches!(parts.method, Method::GET | Method::HEAD) => {
                        Ok(respond(
                            StatusCode::OK,
                            page.content_type,
                            Reply::Full(Some(page.body.clone())),
                        ))
                    }
                    // `transformers serve` has it for POST, and is recognised by that.
                    _ if path == "/load_model" && self.options.flavor == Flavor::Transformers => {
                        Err(Failure::Method)
                    }
                    page if (page.is_some() || posts) && self.options.flavor.is_starlette() => {
                        Err(Failure::Method)
                    }
                    _ => Err(Failure::Route {
                        method: parts.method.to_string(),
                        path: path.to_owned(),
                    }),
                }
            }
        }
    }

    async fn complete(
        &self,
        endpoint: Endpoint,
        headers: &HeaderMap,
        body: Incoming,
    ) -> Result<Response<Reply>, Failure> {
        let body = read(body).await?;
        let started = Instant::now();
        let asked: Asked = parse(&body)?;
        let faults = asked.fastwrap_sim.unwrap_or_default().faults;
        self.check(endpoint, &asked, &faults)?;
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let request_id = headers.get("x-request-id").and_then(|value| value.to_str().ok());
        let answer = Answer::new(&self.options, endpoint, &asked, serial, request_id);
        if asked.stream.unwrap_or(false) {
            if matches!(self.options.flavor, Flavor::Llamacpp | Flavor::Ollama) {
                // These send the head of the response with the first event, the others at once.
                wait(started, answer.due(&answer.chunk(0))).await;
            }
            let stream = EventStream::new(Script::new(answer), faults, started);
            let mut response = respond(
                StatusCode::OK,
                Some(event_type(self.options.flavor)),
                Reply::Stream(Box::new(stream)),
            );
            if !self.options.flavor.is_starlette() {
                response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            }
            return Ok(response);
        }
        if faults.stall_after_chunks.is_some() {
            pending::<()>().await;
        }
        wait(started, answer.duration()).await;
        if faults.error_after_chunks.is_some() {
            return Err(Failure::Asked(StatusCode::INTERNAL_SERVER_ERROR));
        }
        let bytes = Bytes::from(render_body(&answer));
        let reply = if faults.die_after_chunks.is_some() {
            Reply::cut(bytes)
        } else {
            Reply::Full(Some(bytes))
        };
        Ok(respond(StatusCode::OK, Some(json_type(self.options.flavor)), reply))
    }

    /// Refuse what the engine refuses.
    fn check(&self, endpoint: Endpoint, asked: &Asked, faults: &Faults) -> Result<(), Failure> {
        if let Some(code) = faults.status {
            let status = StatusCode::from_u16(code).ok().filter(|status| status.as_u16() >= 200);
            return match status {
                Some(status) => Err(Failure::Asked(status)),
                None => Err(Failure::Body(format!("{code} is no status"))),
            };
        }
        let flavor = self.options.flavor;
        if flavor == Flavor::Vllm
            && asked.stream_options.is_some()
            && !asked.stream.unwrap_or(false)
        {
            return Err(Failure::StreamOptions);
        }
        let (missing, name) = match endpoint {
            Endpoint::Chat => (asked.messages.is_none(), "messages"),
            Endpoint::Completion => (asked.prompt.is_none(), "prompt"),
        };
        if missing {
            return Err(Failure::Body(format!("'{name}' is required")));
        }
        self.check_model(asked.model.as_deref())
    }

    fn check_model(&self, asked: Option<&str>) -> Result<(), Failure> {
        match asked {
            Some(name) if name != self.options.model && self.options.flavor.checks_model() => {
                Err(Failure::Model(name.to_owned()))
            }
            _ => Ok(()),
        }
    }

    async fn embed(&self, body: Incoming) -> Result<Response<Reply>, Failure> {
        let body = read(body).await?;
        let request: EmbeddingRequest = parse(&body)?;
        self.check_model(request.model.as_deref())?;
        let json = Bytes::from(render_embeddings(&self.options, &request));
        Ok(respond(StatusCode::OK, Some(json_type(self.options.flavor)), Reply::Full(Some(json))))
    }
}

/// Wait until `duration` after `started`.
async fn wait(started: Instant, duration: Duration) {
    if duration.is_zero() {
        return;
    }
    match started.checked_add(duration) {
        Some(deadline) => {
            let mut alarm = Alarm::default();
            poll_fn(|cx| alarm.poll_until(deadline, cx)).await;
        }
        // A time that cannot be represented never comes.
        None => pending().await,
    }
}

async fn read(body: Incoming) -> Result<Bytes, Failure> {
    match Limited::new(body, MAX_BODY_BYTES).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => Err(Failure::Body(error.to_string())),
    }
}

fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        Failure::Body(format!("Failed to parse the request body as JSON: {error}"))
    })
}

/// Return the `Server` header of the engine.
const fn server_name(flavor: Flavor) -> Option<&'static str> {
    match flavor {
        Flavor::Vllm | Flavor::Sglang | Flavor::Transformers => Some("uvicorn"),
        Flavor::Llamacpp => Some("llama.cpp"),
        Flavor::Openai | Flavor::Tgi | Flavor::Ollama => None,
    }
}

/// Return the content type of the engine's streams.
const fn event_type(flavor: Flavor) -> &'static str {
    match flavor {
        Flavor::Vllm | Flavor::Sglang | Flavor::Transformers | Flavor::Openai => {
            "text/event-stream; charset=utf-8"
        }
        Flavor::Tgi | Flavor::Llamacpp | Flavor::Ollama => "text/event-stream",
    }
}
