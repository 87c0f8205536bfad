//! What is to be done with an answer: seen by its head.

use http::{HeaderMap, StatusCode, header};

use super::{Exchange, MAX_JSON_BYTES, Mode, NOT_READ, Plan};
use crate::event::Dialect;
use crate::framing::Framing;
use crate::headers;
use crate::performance::EngineNumbers;
use crate::route::Route;
use crate::stream::{Places, Stream, StreamSettings};

impl Exchange {
    /// The head of the engine's answer has arrived; makes its headers fit for the client.
    pub fn response(&mut self, status: StatusCode, response_headers: &mut HeaderMap) -> Plan {
        headers::strip_hop_by_hop(response_headers);
        self.response_here(status, response_headers)
    }

    /// As [`Self::response`], of an engine in this process, so that no hop lies between.
    pub fn response_here(&mut self, status: StatusCode, response_headers: &mut HeaderMap) -> Plan {
        self.tell_page(response_headers);
        self.context.status = Some(status);
        self.context.unread = None;
        if let Some(upload) = self.context.upload.take() {
            let (facts, received_ns) = upload.known();
            if let Some(asked) = &mut self.context.asked {
                asked.model.clone_from(&facts.model);
            }
            self.context.facts = facts;
            self.timeline.received_ns = received_ns.unwrap_or(self.timeline.received_ns);
        }
        if self.assembles(status, response_headers) {
            return Plan::Collect;
        }
        let Some(route) = self.route.filter(|_| status.is_success()) else {
            return Plan::Forward;
        };
        self.context.engine = EngineNumbers::of_headers(&self.context.profile, response_headers);
        let enrich = self.context.enrich;
        let content_type = content_type(response_headers).filter(|_| is_identity(response_headers));
        if let Some(framing) = content_type.and_then(|name| framing(route, name)) {
            self.context.streamed = true;
            let strip_usage = self.strips_usage(route);
            if enrich.places.any() || strip_usage {
                headers::strip_body_digests(response_headers);
            }
            let settings = self.stream_settings(framing, enrich.places, strip_usage);
            self.mode = Mode::Stream(Box::new(Stream::new(settings)));
            return Plan::Forward;
        }
        match content_type {
            Some(name)
                if name.eq_ignore_ascii_case("application/json")
                    && headers::body_bytes(response_headers)
                        .is_none_or(|length| length <= MAX_JSON_BYTES as u64) =>
            {
                let hold = enrich.any();
                self.mode = Mode::Collect { chunks: Vec::new(), bytes: 0, hold };
                if hold { Plan::Collect } else { Plan::Forward }
            }
            _ => {
                self.context.unread = Some(NOT_READ);
                Plan::Forward
            }
        }
    }

    pub(super) fn stream_settings(
        &self,
        framing: Framing,
        places: Places,
        strip_usage: bool,
    ) -> StreamSettings {
        let profile = &self.context.profile;
        let dialect = self.dialect();
        StreamSettings {
            dialect,
            framing,
            places,
            strip_usage,
            // llama.cpp's own API counts as it goes.
            usage_per_choice: profile.usage_per_choice && dialect == Dialect::Choices,
            usage_in_chunks: profile.usage_in_chunks,
            stall_ns: self.context.meter.settings.stall_ns,
        }
    }
}

pub(super) const EVENT_STREAM: &str = "text/event-stream";
const LINES: &str = "application/x-ndjson";

/// How the events of an answer of this type are told apart; `None` if it is no stream.
fn framing(route: Route, content_type: &str) -> Option<Framing> {
    if content_type.eq_ignore_ascii_case(EVENT_STREAM) {
        return Some(Framing::Events);
    }
    let is_lines = route == Route::Generate && content_type.eq_ignore_ascii_case(LINES);
    is_lines.then_some(Framing::Lines)
}

pub(super) fn content_type(response_headers: &HeaderMap) -> Option<&str> {
    let value = response_headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or(value).trim())
}

/// Whether the body can be read as it is.
pub(super) fn is_identity(response_headers: &HeaderMap) -> bool {
    response_headers
        .get(header::CONTENT_ENCODING)
        .is_none_or(|value| value.as_bytes().eq_ignore_ascii_case(b"identity"))
}
