//! The way of a JSON request that is measured as a stream: its engine is asked for a stream, and its client gets the JSON.

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::context::Context;
use super::planning::{EVENT_STREAM, content_type, is_identity};
use super::{Exchange, Mode, Outcome};
use crate::assemble::Assembly;
use crate::error::Fault;
use crate::event::Reading;
use crate::framing::Framing;
use crate::headers;
use crate::json::{Scanner, is_key};
use crate::request::ask_for_stream;
use crate::route::Route;
use crate::stream::{Places, Render, Stream};
use crate::timeline::Timeline;

/// What has become of a request for JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AsStream {
    /// It was none, or nobody wanted anything of it.
    Off,
    /// The engine was asked for a stream.
    Asked,
    /// It is sent as it came, and why.
    LeftAlone(&'static str),
}

/// Headers that streams have, and JSON has not.
const STREAM_HEADERS: [HeaderName; 2] =
    [header::CACHE_CONTROL, HeaderName::from_static("x-accel-buffering")];

/// A stream that is being assembled.
pub(super) struct Assembling {
    stream: Stream,
    assembly: Assembly,
    /// What the stream lets go: nobody gets it.
    passed: Vec<Bytes>,
}

/// Shows every event to the assembly.
struct Watched<'a> {
    context: &'a mut Context,
    assembly: &'a mut Assembly,
}

impl Render for Watched<'_> {
    fn render(&mut self, _: &Timeline) -> Option<Bytes> {
        None // the block goes into the JSON
    }

    fn engine_numbers(&mut self, data: &[u8]) {
        self.context.engine_numbers(data);
    }

    fn event(&mut self, reading: Option<&Reading>, data: &[u8]) {
        self.assembly.event(reading, data);
    }

    fn first_text(&mut self, timeline: &Timeline) {
        self.context.first_text(timeline);
    }
}

impl Assembling {
    pub(super) fn data(
        &mut self,
        chunk: Bytes,
        read_ns: u64,
        timeline: &mut Timeline,
        context: &mut Context,
    ) {
        let mut watched = Watched { context, assembly: &mut self.assembly };
        self.stream.data(chunk, read_ns, timeline, &mut watched, &mut self.passed);
        self.passed.clear();
        if self.stream.is_blind() {
            self.assembly.give_up();
        }
    }
}

impl Exchange {
    /// The client asked for JSON; returns what the engine is to get.
    pub(super) fn ask_for_stream(&mut self, route: Route, body: Bytes) -> Bytes {
        let profile = &self.context.profile;
        let form = profile.json_form.as_ref().filter(|_| self.context.meter.assembles());
        if form.and_then(|form| form.template(route)).is_none() {
            self.context.as_stream = AsStream::LeftAlone("engine_not_assembled");
        } else if let Ok(Some(asked)) = ask_for_stream(&body, profile.stream_usage) {
            self.context.as_stream = AsStream::Asked;
            return asked;
        } else {
            self.context.as_stream = AsStream::LeftAlone("request_not_assembled");
        }
        body
    }

    /// Whether the answer whose head has arrived is a stream that its client must not see.
    pub(super) fn assembles(&mut self, status: StatusCode, headers: &mut HeaderMap) -> bool {
        let is_stream = |name: &str| name.eq_ignore_ascii_case(EVENT_STREAM);
        if self.context.as_stream != AsStream::Asked
            || !status.is_success()
            || !content_type(headers).is_some_and(is_stream)
        {
            return false;
        }
        let mut assembly = Assembly::default();
        if !is_identity(headers) {
            assembly.give_up();
        }
        headers::strip_body_digests(headers);
        for name in &STREAM_HEADERS {
            headers.remove(name);
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let settings = self.stream_settings(Framing::Events, Places::default(), false);
        self.context.streamed = true;
        let stream = Stream::new(settings);
        self.mode = Mode::Assemble(Box::new(Assembling { stream, assembly, passed: Vec::new() }));
        true
    }

    /// The stream has ended: puts out the JSON, the engine's error, or one of fastwrap's own.
    pub(super) fn finish_assembled(
        &mut self,
        assembling: Assembling,
        head: Option<&mut Parts>,
        out: &mut Vec<Bytes>,
    ) -> Outcome {
        let Assembling { mut stream, mut assembly, mut passed } = assembling;
        let mut watched = Watched { context: &mut self.context, assembly: &mut assembly };
        stream.close(&mut self.timeline, &mut watched, &mut passed);
        let outcome = self.finish_stream(stream, &mut passed);
        let told = match (outcome, assembly.error()) {
            (Outcome::Complete, _) => self.assembled(&assembly).ok_or(Fault::NotAssembled),
            (Outcome::Error, Some(error)) => {
                answer_error(error.clone(), head, out);
                return outcome;
            }
            _ if assembly.is_broken() => Err(Fault::NotAssembled),
            (Outcome::Incomplete, _) => Err(Fault::EngineClosed),
            _ => Err(Fault::NotAssembled),
        };
        match told {
            Ok(body) => {
                let mut head = head;
                if let Some(head) = &mut head {
                    head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
                }
                self.finish_json(body, true, head, out)
            }
            Err(fault) => {
                let (own, body) = fault.response().into_parts();
                if let Some(head) = head {
                    (head.status, head.headers) = (own.status, own.headers);
                }
                out.push(body);
                self.context.error_type.get_or_insert(fault.code().into());
                if outcome == Outcome::Incomplete { outcome } else { fault.outcome() }
            }
        }
    }

    fn assembled(&self, assembly: &Assembly) -> Option<Bytes> {
        let form = self.context.profile.json_form.as_ref()?;
        if !assembly.has_form(form) {
            // Too late for this answer, which has all texts; the next ones are the engine's own.
            self.context.meter.stop_assembling();
        }
        assembly.answer(form.template(self.route?)?).map(Bytes::from)
    }
}

/// An error in a stream is what the engine would have answered, with its status if it names one.
fn answer_error(error: Bytes, head: Option<&mut Parts>, out: &mut Vec<Bytes>) {
    if let Some(head) = head {
        head.status = status_of(&error).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(error.len()));
    }
    out.push(error);
}

/// The `code` of an error, or of its member `error`, if it is that of an HTTP error.
fn status_of(error: &[u8]) -> Option<StatusCode> {
    let mut scanner = Scanner::new(error);
    scanner.enter_object().ok()?;
    while let Some(key) = scanner.next_key().ok()? {
        let value = scanner.value().ok()?;
        let found = if is_key(key, "error") {
            status_of(value)
        } else if is_key(key, "code") {
            StatusCode::from_bytes(value).ok()
        } else {
            None
        };
        let found = found.filter(|code| code.is_client_error() || code.is_server_error());
        if found.is_some() {
            return found;
        }
    }
    None
}
