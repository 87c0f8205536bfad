//! Response bodies.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};

use crate::stream::EventStream;

/// The body of a response.
pub(crate) enum Reply {
    /// Bytes that are all there.
    Full(Option<Bytes>),
    /// Server-sent events.
    Stream(Box<EventStream>),
    /// The first half of these bytes, then the connection closes.
    Cut { rest: Option<Bytes>, announced: u64, flushed: bool },
}

impl Reply {
    /// Begin a body that breaks off in its middle.
    pub(crate) fn cut(mut body: Bytes) -> Self {
        let announced = body.len() as u64;
        body.truncate(body.len() / 2);
        Self::Cut { rest: Some(body), announced, flushed: false }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(stream) => stream.poll_next(cx),
            Self::Cut { rest, flushed, .. } => {
                if let Some(bytes) = rest.take() {
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                if !std::mem::replace(flushed, true) {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Stream(_) | Self::Cut { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Stream(_) => SizeHint::default(),
            Self::Cut { announced, .. } => SizeHint::with_exact(*announced),
        }
    }
}

/// Build a response from what is known beforehand.
pub(crate) fn respond(
    status: StatusCode,
    content_type: Option<&'static str>,
    reply: Reply,
) -> Response<Reply> {
    let mut response = Response::new(reply);
    *response.status_mut() = status;
    if let Some(content_type) = content_type {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    response
}
