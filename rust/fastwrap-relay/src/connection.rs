//! One HTTP/1.1 connection to the engine, driven by whoever waits for its answer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use fastwrap_core::error::Fault;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;

use crate::stream::{EngineStream, Stamps};

/// The error of a request body whose sender went away.
pub(crate) type PayloadError = Box<dyn std::error::Error + Send + Sync>;

/// A request's body.
#[derive(Debug)]
pub enum Payload {
    /// All of it.
    Whole(Option<Bytes>),
    /// As it comes from the client.
    Streamed(UnsyncBoxBody<Bytes, PayloadError>),
}

impl From<Bytes> for Payload {
    fn from(body: Bytes) -> Self {
        Self::Whole(Some(body).filter(|body| !body.is_empty()))
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = PayloadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, PayloadError>>> {
        match self.get_mut() {
            Self::Whole(body) => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
            Self::Streamed(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_none(),
            Self::Streamed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, Bytes::len) as u64),
            Self::Streamed(body) => body.size_hint(),
        }
    }
}

type Driver = http1::Connection<TokioIo<EngineStream>, Payload>;

/// A connection that nobody uses, or one request uses.
pub(crate) struct Connection {
    sender: http1::SendRequest<Payload>,
    /// Gone once the connection is closed.
    driver: Option<Driver>,
    pub(crate) stamps: Arc<Stamps>,
}

/// Why a request got no answer.
pub(crate) enum SendError {
    /// Nothing of it was sent: it may be tried again.
    NotSent(Box<Request<Payload>>),
    /// It may have reached the engine.
    Broken(Fault),
}

/// Why it broke: what the request's own body says, else the engine.
fn fault_of(error: &hyper::Error) -> Fault {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(fault) = error.downcast_ref::<Fault>() {
            return *fault;
        }
        source = error.source();
    }
    Fault::EngineClosed
}

impl Connection {
    pub(crate) async fn new(
        stream: EngineStream,
        stamps: Arc<Stamps>,
    ) -> Result<Self, hyper::Error> {
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, driver: Some(driver), stamps })
    }

    /// Lets the connection make progress.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && Pin::new(driver).poll(cx).is_ready()
        {
            self.driver = None;
        }
    }

    /// Whether it can take another request, as far as can be known now.
    pub(crate) fn is_reusable(&mut self, cx: &mut Context<'_>) -> bool {
        self.drive(cx);
        self.driver.is_some() && self.sender.is_ready()
    }

    /// Starts a request; the future must be polled through [`Self::poll_response`].
    pub(crate) fn start(&mut self, request: Request<Payload>) -> Pin<Box<ResponseFuture>> {
        Box::pin(self.sender.try_send_request(request))
    }

    pub(crate) fn poll_response(
        &mut self,
        cx: &mut Context<'_>,
        response: &mut Pin<Box<ResponseFuture>>,
    ) -> Poll<Result<Response<Incoming>, SendError>> {
        self.drive(cx);
        response.as_mut().poll(cx).map_err(|mut error| {
            let unsent = error.take_message().map(|request| SendError::NotSent(Box::new(request)));
            unsent.unwrap_or_else(|| SendError::Broken(fault_of(error.error())))
        })
    }

    /// Waits for a piece of the answer's body.
    pub(crate) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut Incoming,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        // The first look may only tell the connection that more is wanted.
        if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        self.drive(cx);
        Pin::new(body).poll_frame(cx)
    }
}

/// The answer to come.
pub(crate) type ResponseFuture =
    dyn Future<Output = Result<Response<Incoming>, TrySendError<Request<Payload>>>> + Send;
