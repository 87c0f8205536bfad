//! One request and its answer, from the first header to the outcome.
//!
//! Whoever does the I/O calls, in this order: [`Exchange::begin`]; [`Exchange::body`], [`Exchange::upload`] or
//! [`Exchange::received`], before which hooks may have looked at what has [`Exchange::arrived`]; [`Exchange::sent`]; [`Exchange::response`]; [`Exchange::data`] any number of times; [`Exchange::finish`] or
//! [`Exchange::fail`]. An exchange that is dropped before its end was cancelled by the client.

mod assembled;
mod beginning;
mod context;
mod ending;
mod hooked;
mod planning;

use std::sync::Arc;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use self::assembled::Assembling;
use self::context::Context;
pub use self::context::Transit;
use crate::answer::Answer;
use crate::enrich;
use crate::error::Fault;
use crate::event::{ChoiceSet, Dialect};
use crate::headers;
use crate::hooks;
use crate::performance::{Outcome, Performance};
use crate::request::Facts;
use crate::route::Route;
use crate::splice::Layout;
use crate::stream::{Render, Stream};
use crate::timeline::Timeline;
use crate::upload::SharedReader;

/// Largest JSON answer that is collected to be enriched; a larger one passes untouched.
pub const MAX_JSON_BYTES: usize = 16 << 20;

/// Why numbers are missing that an answer may hold: it is compressed, too large, or of a type that is not known.
const NOT_READ: &str = "not_read";

/// What is to be done with an answer whose head has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// The head goes on at once, and bytes as they come.
    Forward,
    /// The head waits: it will be changed when the body is whole.
    Collect,
}

/// How a broken answer must end for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// An error event was put out: the body may end.
    Told,
    /// The connection must be aborted, so that nobody takes the answer for whole.
    Abort,
}

enum Mode {
    Untouched,
    Collect { chunks: Vec<Bytes>, bytes: usize, hold: bool },
    Stream(Box<Stream>),
    Assemble(Box<Assembling>),
}

/// The state of one request.
pub struct Exchange {
    route: Option<Route>,
    timeline: Timeline,
    mode: Mode,
    context: Context,
    /// Its time of arrival is known.
    arrived: bool,
    ended: bool,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Exchange").field("route", &self.route).finish_non_exhaustive()
    }
}

impl Exchange {
    /// Whether the request is measured, so that its body is wanted whole ([`Self::body`]).
    #[must_use]
    pub fn is_measured(&self) -> bool {
        self.route.is_some()
    }

    /// Whether the body is wanted whole however large it is ([`Self::body`], not [`Self::upload`]).
    #[must_use]
    pub fn wants_whole(&self) -> bool {
        self.context.meter.settings.json_as_stream
            && self.route.is_some_and(Route::has_stream_options)
    }

    /// Whether the connection may serve another request after this answer.
    #[must_use]
    pub fn keeps_connection(&self) -> bool {
        !(self.context.streamed && self.context.profile.closes_after_stream)
    }

    /// Where the server's side notes how long bytes stayed in fastwrap.
    #[must_use]
    pub fn transit(&self) -> Arc<Transit> {
        Arc::clone(&self.context.transit)
    }

    /// The request's whole body has arrived; returns what the engine is to get.
    pub fn body(&mut self, body: Bytes, now_ns: u64) -> Bytes {
        self.received(now_ns);
        if let Some(asked) = &mut self.context.asked {
            asked.model = hooks::model(&body);
        }
        let Some(route) = self.route else {
            return body;
        };
        let Ok(facts) = Facts::read(&body) else {
            return body;
        };
        let ask = self.asks_for_usage(route) && facts.can_ask_for_usage();
        let body = if self.wants_whole() && !facts.stream {
            self.ask_for_stream(route, body)
        } else {
            body
        };
        self.context.facts = facts;
        if ask { self.context.facts.ask_for_usage(body) } else { body }
    }

    fn asks_for_usage(&self, route: Route) -> bool {
        route.has_stream_options() && self.context.profile.stream_usage
    }

    /// The request's body is too large to wait for: returns what reads it as it passes, and whether it may change.
    pub fn upload(&mut self) -> (Arc<SharedReader>, bool) {
        let ask = self.route.is_some_and(|route| self.asks_for_usage(route));
        let upload = Arc::new(SharedReader::new(ask));
        self.context.upload = Some(Arc::clone(&upload));
        (upload, ask)
    }

    /// The last byte of a request that is not read has arrived.
    pub fn received(&mut self, now_ns: u64) {
        if !self.arrived {
            self.timeline.received_ns = now_ns;
        }
    }

    /// The request's last byte has arrived, and hooks look at it: what they take counts.
    pub fn arrived(&mut self, now_ns: u64) {
        self.received(now_ns);
        self.arrived = true;
    }

    /// Makes the client's headers fit for the engine, whose host is `host`.
    pub fn prepare(&self, request_headers: &mut HeaderMap, host: &HeaderValue) {
        headers::prepare_request(request_headers, host, self.is_measured());
        self.context.meter.guard.authorize(request_headers);
    }

    /// The request's last byte was written to the engine.
    pub fn sent(&mut self, now_ns: u64) {
        self.timeline.sent_ns = Some(now_ns);
    }

    fn dialect(&self) -> Dialect {
        self.route.map_or(Dialect::Choices, Route::dialect)
    }

    fn strips_usage(&self, route: Route) -> bool {
        self.asks_for_usage(route) && self.context.facts.can_ask_for_usage()
    }

    /// Bytes of the body left the socket at `read_ns`; puts into `out` what may go on.
    pub fn data(&mut self, chunk: Bytes, read_ns: u64, now_ns: u64, out: &mut Vec<Bytes>) {
        self.timeline.bytes(read_ns);
        self.context.now_ns = now_ns;
        match &mut self.mode {
            Mode::Untouched => out.push(chunk),
            Mode::Stream(stream) => {
                stream.data(chunk, read_ns, &mut self.timeline, &mut self.context, out)
            }
            Mode::Assemble(assembling) => {
                assembling.data(chunk, read_ns, &mut self.timeline, &mut self.context);
            }
            Mode::Collect { chunks, bytes, hold } => {
                *bytes += chunk.len();
                if !*hold {
                    out.push(chunk.clone());
                }
                chunks.push(chunk);
                if *bytes > MAX_JSON_BYTES {
                    if *hold {
                        out.append(chunks);
                    }
                    self.context.unread = Some(NOT_READ);
                    self.mode = Mode::Untouched;
                }
            }
        }
    }

    /// Whether the answer's head still has to wait for its body.
    #[must_use]
    pub fn is_collecting(&self) -> bool {
        matches!(self.mode, Mode::Collect { hold: true, .. } | Mode::Assemble(_))
    }

    /// The answer ended as HTTP says it should. `head` is that of a collected answer: it is changed.
    pub fn finish(&mut self, now_ns: u64, mut head: Option<&mut Parts>, out: &mut Vec<Bytes>) {
        self.context.now_ns = now_ns;
        self.timeline.last_byte_ns.get_or_insert(now_ns);
        let outcome = match std::mem::replace(&mut self.mode, Mode::Untouched) {
            Mode::Untouched => self.finish_untouched(),
            Mode::Stream(stream) => self.finish_stream(*stream, out),
            Mode::Assemble(assembling) => {
                self.finish_assembled(*assembling, head.as_deref_mut(), out)
            }
            Mode::Collect { chunks, hold, .. } => {
                let body = if let [only] = chunks.as_slice() {
                    only.clone()
                } else {
                    chunks.concat().into()
                };
                self.finish_json(body, hold, head.as_deref_mut(), out)
            }
        };
        self.context.status = head.map(|head| head.status).or(self.context.status);
        self.end(outcome, now_ns);
    }

    fn finish_untouched(&mut self) -> Outcome {
        let is_error = |status: &StatusCode| status.is_client_error() || status.is_server_error();
        let Some(status) = self.context.status.filter(is_error) else {
            return Outcome::Complete;
        };
        self.context.met_error(status.as_str().to_owned());
        Outcome::Error
    }

    /// Reads a whole JSON answer, and puts it out if it was held back.
    fn finish_json(
        &mut self,
        body: Bytes,
        hold: bool,
        head: Option<&mut Parts>,
        out: &mut Vec<Bytes>,
    ) -> Outcome {
        let answer = Answer::read(&body, &self.context.profile, self.dialect()).ok();
        let layout = answer.map(|answer| self.take_json(answer));
        if hold {
            let response_headers = head.map(|head| &mut head.headers);
            out.append(&mut self.enrich_json(body, layout, response_headers));
        }
        self.context.outcome
    }

    fn finish_stream(&mut self, mut stream: Stream, out: &mut Vec<Bytes>) -> Outcome {
        let end = stream.close(&mut self.timeline, &mut self.context, out);
        let done = end.done;
        let needs_done = self.context.profile.done && self.dialect() != Dialect::Generate;
        let finished = !needs_done && !self.timeline.finished.is_empty();
        let outcome = if let Some(error) = end.error.clone() {
            self.context.met_error(error);
            Outcome::Error
        } else if done || stream.is_blind() || finished {
            Outcome::Complete
        } else {
            Outcome::Incomplete
        };
        self.context.outcome = outcome;
        if stream.is_blind() {
            // What was counted before is not the whole.
            self.context.unread = Some(NOT_READ);
        }
        stream.finish(&mut self.timeline, &mut self.context, out);
        outcome
    }

    /// Takes over what a whole answer says; gives back where the block fits in.
    fn take_json(&mut self, answer: Answer) -> Layout {
        // The stream that an answer was assembled from has been counted already.
        if let Some(usage) = answer.usage.filter(|_| !self.context.streamed) {
            self.timeline.count(usage, ChoiceSet::default(), false);
        }
        self.context.engine = answer.engine.or(self.context.engine.take());
        if let Some(error) = answer.error {
            self.context.outcome = Outcome::Error;
            self.context.met_error(error);
        }
        answer.layout
    }

    fn enrich_json(
        &mut self,
        body: Bytes,
        layout: Option<Layout>,
        response_headers: Option<&mut HeaderMap>,
    ) -> Vec<Bytes> {
        let enrich = self.context.enrich;
        let Some(block) = self.context.render(&self.timeline) else {
            return vec![body];
        };
        let layout = layout.filter(|_| enrich.places.any());
        let spliced = layout.and_then(|layout| enrich.places.splice_pieces(layout, &body, &block));
        let changed = spliced.is_some();
        let pieces = spliced.unwrap_or_else(|| vec![body]);
        if let Some(response_headers) = response_headers {
            if changed {
                headers::strip_body_digests(response_headers);
            }
            let length: usize = pieces.iter().map(Bytes::len).sum();
            response_headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            self.add_headers(&block, response_headers);
        }
        pieces
    }

    fn add_headers(&self, block: &Bytes, response_headers: &mut HeaderMap) {
        let enrich = self.context.enrich;
        if enrich.header
            && let Ok(value) = HeaderValue::from_maybe_shared(block.clone())
        {
            response_headers.insert(enrich::METRICS_HEADER, value);
        }
        let timed = self.context.rendered.as_deref().filter(|_| enrich.server_timing);
        let timing = timed.map(Performance::to_server_timing).map(HeaderValue::try_from);
        if let Some(Ok(value)) = timing {
            response_headers.append(enrich::SERVER_TIMING_HEADER, value);
        }
    }

    /// Puts out what was held back; whatever comes from now on passes untouched.
    pub fn let_go(&mut self, out: &mut Vec<Bytes>) {
        match std::mem::replace(&mut self.mode, Mode::Untouched) {
            Mode::Stream(mut stream) => {
                stream.fail(out);
            }
            Mode::Collect { mut chunks, hold: true, .. } => out.append(&mut chunks),
            Mode::Untouched | Mode::Collect { .. } | Mode::Assemble(_) => {}
        }
    }

    /// The answer broke off after its head had gone on.
    pub fn fail(&mut self, fault: Fault, now_ns: u64, out: &mut Vec<Bytes>) -> Broken {
        let mut broken = Broken::Abort;
        if let Mode::Stream(stream) = &mut self.mode {
            let end = stream.fail(out);
            if let Some(error) = end.error {
                // The client was told of this one, and it came first.
                self.context.met_error(error);
                self.end(Outcome::Error, now_ns);
                return Broken::Told;
            } else if end.done {
                // Behind the stream's own end there is nothing to tell: the client has it all.
                self.end(Outcome::Complete, now_ns);
            } else if !end.inside_event {
                let framing = stream.framing();
                out.push(fault.event(self.dialect(), framing));
                broken = Broken::Told;
            }
        }
        self.end_with(fault, now_ns);
        broken
    }

    /// The request cannot be answered by the engine; returns what the client gets instead.
    pub fn refuse(&mut self, fault: Fault, now_ns: u64) -> Response<Bytes> {
        let mut response = fault.response();
        self.context.status = Some(response.status());
        self.end_with(fault, now_ns);
        self.tell_page(response.headers_mut());
        response
    }

    /// Says whether the page that asks may read the answer.
    fn tell_page(&self, response_headers: &mut HeaderMap) {
        if let Some(grant) = &self.context.grant {
            grant.apply(response_headers);
        }
    }
}

#[cfg(test)]
mod tests;
