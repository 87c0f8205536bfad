//! One request: fastwrap's own routes are answered here, everything else goes through the relay.

use std::convert::Infallible;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use fastwrap_core::error::Fault;
use fastwrap_core::exchange::Exchange;
use fastwrap_core::head::is_acceptable;
use fastwrap_relay::{Payload, Relay, now_ns};
use http::{Request, Response, header, request};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::body::{Collected, Download, MAX_COLLECTED_BYTES, Passing, Relayed, Upload};
use crate::check::{Check, Rejection};
use crate::drain::Drain;
use crate::own::{Own, PREFIX};
use crate::worker::Options;

/// What the requests of one worker share.
pub(crate) struct Service {
    pub(crate) relay: Arc<Relay>,
    pub(crate) own: Arc<dyn Own>,
    pub(crate) check: Option<Arc<dyn Check>>,
    pub(crate) drain: Arc<Drain>,
    pub(crate) options: Options,
}

impl Service {
    pub(crate) async fn serve(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Download>, Infallible> {
        let (head, body) = request.into_parts();
        if head.uri.path().starts_with(PREFIX) && head.uri.authority().is_none() {
            if !is_acceptable(&head) {
                return Ok(Fault::BadRequest.response().map(Download::from));
            }
            let answer = self.own.answer(&head.method, head.uri.path(), &head.headers);
            return Ok(answer.await.map(Download::from));
        }
        // hyper keeps the room of this future for as long as the connection lasts: what is large in it has room of its
        // own, given back as soon as the answer's head is there.
        let answer = caught(Box::pin(self.proxy(head, body))).await;
        Ok(answer.unwrap_or_else(|| Fault::Internal.response().map(Download::from)))
    }

    async fn proxy(&self, mut head: request::Parts, body: Incoming) -> Response<Download> {
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        let meter = &self.relay.meter;
        let began = Exchange::begin(meter, &head.method, target, &mut head.headers, now_ns());
        let mut exchange = match began {
            Ok(exchange) => exchange,
            Err(answer) => return answer.map(Download::from),
        };
        if !is_acceptable(&head) {
            return exchange.refuse(Fault::BadRequest, now_ns()).map(Download::from);
        }
        let upload = Upload::new(body, meter.settings.max_body_bytes, self.options.body_timeout);
        let payload = if let Some(check) = &self.check {
            match checked(check.as_ref(), &mut exchange, &head, upload).await {
                Ok(body) => Payload::from(exchange.body(body, now_ns())),
                Err(answer) => return *answer,
            }
        } else if exchange.is_measured() {
            let max_bytes = if exchange.wants_whole() { usize::MAX } else { MAX_COLLECTED_BYTES };
            match upload.collect(max_bytes).await {
                Ok(Collected::Whole(body)) => Payload::from(exchange.body(body, now_ns())),
                Ok(Collected::Start(start, rest)) => {
                    let (reader, may_change) = exchange.upload();
                    if may_change {
                        head.headers.remove(header::CONTENT_LENGTH);
                    }
                    Payload::Streamed(Passing::new(start, rest, reader).boxed_unsync())
                }
                Err(fault) => return exchange.refuse(fault, now_ns()).map(Download::from),
            }
        } else if http_body::Body::is_end_stream(&upload) {
            exchange.received(now_ns());
            Payload::Whole(None)
        } else {
            Payload::Streamed(upload.boxed_unsync())
        };
        let transit = exchange.transit();
        let drain = Arc::clone(&self.drain);
        let response = self.relay.send(exchange, head, payload).await;
        response.map(|answer| {
            Download::Relayed(Box::new(Relayed { answer, transit, drain, failed: false }))
        })
    }
}

/// The whole body, if whoever looks at requests lets this one pass.
async fn checked(
    check: &dyn Check,
    exchange: &mut Exchange,
    head: &request::Parts,
    upload: Upload,
) -> Result<Bytes, Box<Response<Download>>> {
    let body = upload.whole().await;
    let body =
        body.map_err(|fault| Box::new(exchange.refuse(fault, now_ns()).map(Download::from)))?;
    exchange.arrived(now_ns());
    let (request_id, key_id) = exchange.caller();
    let (request_id, key_id) = (request_id.to_owned(), key_id.map(str::to_owned));
    match check.check(request_id, key_id, head.clone(), body.clone()).await {
        None => Ok(body),
        Some(Rejection { answer, code }) => {
            Err(Box::new(exchange.reject(answer, code, now_ns()).map(Download::from)))
        }
    }
}

/// What `work` gives; `None` if it panics, which ends this request and nothing else.
async fn caught<T>(mut work: Pin<Box<impl Future<Output = T>>>) -> Option<T> {
    poll_fn(|cx| {
        catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx).map(Some)))
            .unwrap_or(Poll::Ready(None))
    })
    .await
}
