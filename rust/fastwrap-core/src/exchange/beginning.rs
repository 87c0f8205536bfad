//! The beginning of a request: it is counted, and let in or answered here.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Response};

use super::assembled::AsStream;
use super::context::Context;
use super::{Exchange, Mode, Outcome};
use crate::enrich::{self, Enrich};
use crate::error::Fault;
use crate::headers;
use crate::hooks::Asked;
use crate::meter::{EngineMarks, Meter};
use crate::request::Facts;
use crate::route::Route;
use crate::timeline::Timeline;

/// Why there are no samples of a request that ended before it was marked.
const NOT_MARKED: &str = "no_answer";

impl Exchange {
    /// A request's head has arrived. Removes from it what is for fastwrap alone. Boxed, for it goes from hand to hand.
    ///
    /// # Errors
    /// If it is not for the engine: it is counted, and is to be answered with this.
    pub fn begin(
        meter: &Arc<Meter>,
        method: &Method,
        target: &str,
        request_headers: &mut HeaderMap,
        now_ns: u64,
    ) -> Result<Box<Self>, Box<Response<Bytes>>> {
        let in_flight = meter.begin(now_ns);
        let mut exchange = Box::new(Self {
            route: Route::of(method, target),
            timeline: Timeline::new(now_ns),
            mode: Mode::Untouched,
            context: Context {
                profile: meter.profile(),
                enrich: narrowed(meter.settings.enrich, request_headers),
                grant: meter.guard.grant(request_headers),
                began_ns: now_ns,
                mark: Err(NOT_MARKED),
                engine_marks: EngineMarks::none(NOT_MARKED),
                facts: Facts::default(),
                upload: None,
                request_id: request_id(request_headers, now_ns, in_flight),
                transit: Arc::default(),
                engine: None,
                streamed: false,
                as_stream: AsStream::Off,
                unread: Some("no_answer"),
                outcome: Outcome::Complete,
                error_type: None,
                status: None,
                asked: meter.hooks().map(|_| Box::new(Asked::of(method, target, request_headers))),
                now_ns,
                rendered: None,
                meter: Arc::clone(meter),
            },
            arrived: false,
            ended: false,
        });
        // Only now: whatever goes wrong in there, this request ends as one that was counted.
        exchange.context.mark = meter.gpu().mark(now_ns);
        exchange.context.engine_marks = meter.mark_engine(now_ns);
        match exchange.own_answer(method, request_headers, in_flight) {
            Some(answer) => Err(Box::new(answer)),
            None => {
                exchange.context.tell_request();
                Ok(exchange)
            }
        }
    }

    /// What the client gets in the engine's place, and the end of the request.
    fn own_answer(
        &mut self,
        method: &Method,
        request_headers: &mut HeaderMap,
        in_flight: u64,
    ) -> Option<Response<Bytes>> {
        let (began_ns, grant) = (self.context.began_ns, self.context.grant.as_ref());
        if let Some(fault) = self.over_header_limit(request_headers) {
            return Some(self.refuse(fault, began_ns));
        }
        if let Some(preflight) = grant.and_then(|grant| grant.preflight(method, request_headers)) {
            self.context.status = Some(preflight.status());
            self.end(Outcome::Complete, began_ns);
            return Some(preflight);
        }
        let fault = if self.context.meter.guard.admits(request_headers) {
            self.over_limit(request_headers, in_flight)?
        } else {
            Fault::InvalidApiKey
        };
        Some(self.refuse(fault, began_ns))
    }

    fn over_header_limit(&self, request_headers: &HeaderMap) -> Option<Fault> {
        let most = self.context.meter.settings.max_header_bytes;
        (headers::wire_bytes(request_headers) as u64 > most).then_some(Fault::HeadersTooLarge)
    }

    fn over_limit(&self, request_headers: &HeaderMap, in_flight: u64) -> Option<Fault> {
        let settings = &self.context.meter.settings;
        if !self.context.meter.is_open() {
            Some(Fault::Starting)
        } else if headers::body_bytes(request_headers)
            .is_some_and(|length| length > settings.max_body_bytes)
        {
            Some(Fault::BodyTooLarge)
        } else if settings.max_inflight > 0 && in_flight > settings.max_inflight {
            Some(Fault::Overloaded)
        } else {
            None
        }
    }
}

fn narrowed(allowed: Enrich, request_headers: &mut HeaderMap) -> Enrich {
    let wanted = request_headers.remove(enrich::NARROW_HEADER);
    let wanted = wanted.as_ref().and_then(|value| value.to_str().ok()?.parse().ok());
    wanted.map_or(allowed, |wanted| allowed.narrowed(wanted))
}

/// Longest id of a client's that is taken over.
const MAX_REQUEST_ID: usize = 128;

/// The client's `x-request-id`, or one made from the time and the number of requests in flight.
fn request_id(request_headers: &HeaderMap, now_ns: u64, in_flight: u64) -> String {
    let given = request_headers.get("x-request-id").and_then(|value| value.to_str().ok());
    given
        .filter(|id| !id.is_empty() && id.len() <= MAX_REQUEST_ID)
        .map_or_else(|| format!("fw-{now_ns:x}-{in_flight:x}"), str::to_owned)
}
