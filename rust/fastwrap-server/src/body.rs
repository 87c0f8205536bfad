//! Bodies: the client's on its way in, the answer's on its way out.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::drain::Drain;
use crate::patience::Patience;
use bytes::{Bytes, BytesMut};
use fastwrap_core::error::Fault;
use fastwrap_core::exchange::Transit;
use fastwrap_core::upload::SharedReader;
use fastwrap_relay::{Aborted, Answer, now_ns};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// A larger body is not waited for: it goes on while it comes. Below this, to wait costs less than to go piece by
/// piece, and the engine is told the length.
pub(crate) const MAX_COLLECTED_BYTES: usize = 256 << 10;

/// A measured request's body.
pub(crate) enum Collected {
    /// All of it.
    Whole(Bytes),
    /// What has come of a large one, and where the rest comes from.
    Start(Bytes, Upload),
}

/// A client's body: no larger than is allowed, and in time.
pub(crate) struct Upload {
    body: Incoming,
    left_bytes: u64,
    patience: Patience,
}

impl Upload {
    pub(crate) fn new(body: Incoming, max_bytes: u64, timeout: Option<Duration>) -> Self {
        Self { body, left_bytes: max_bytes, patience: Patience::new(timeout) }
    }

    /// Reads all of it, unless it is large.
    pub(crate) async fn collect(mut self, max_bytes: usize) -> Result<Collected, Fault> {
        let mut first = Bytes::new();
        let mut all = BytesMut::new();
        while let Some(data) = std::future::poll_fn(|cx| self.poll_data(cx)).await {
            let data = data?;
            if first.is_empty() && all.is_empty() {
                first = data;
                continue;
            }
            if all.is_empty() {
                all.extend_from_slice(&first);
            }
            all.extend_from_slice(&data);
            if all.len() > max_bytes {
                return Ok(Collected::Start(all.freeze(), self));
            }
        }
        Ok(Collected::Whole(if all.is_empty() { first } else { all.freeze() }))
    }

    /// Reads all of it.
    pub(crate) async fn whole(self) -> Result<Bytes, Fault> {
        self.collect(usize::MAX)
            .await
            .map(|(Collected::Whole(body) | Collected::Start(body, _))| body)
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        loop {
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                ready!(self.patience.poll(cx));
                return Poll::Ready(Some(Err(Fault::BodyTimeout)));
            };
            let Some(frame) = frame else {
                return Poll::Ready(None);
            };
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => return Poll::Ready(Some(Err(fault_of(&error)))),
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let Some(left_bytes) = self.left_bytes.checked_sub(data.len() as u64) else {
                return Poll::Ready(Some(Err(Fault::BodyTooLarge)));
            };
            self.left_bytes = left_bytes;
            self.patience.restore(data.len());
            return Poll::Ready(Some(Ok(data)));
        }
    }
}

/// Why a body broke off: hyper tells malformed chunks by the kind of an I/O error.
fn fault_of(error: &hyper::Error) -> Fault {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref());
    match source.map(io::Error::kind) {
        Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => Fault::BadRequest,
        _ => Fault::ClientLeft,
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let data = ready!(self.get_mut().poll_data(cx));
        Poll::Ready(data.map(|data| data.map(Frame::data).map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A large body of a measured request, read as it passes.
pub(crate) struct Passing {
    reader: Arc<SharedReader>,
    rest: Upload,
    out: VecDeque<Bytes>,
    ended: bool,
}

impl Passing {
    pub(crate) fn new(start: Bytes, rest: Upload, reader: Arc<SharedReader>) -> Self {
        let mut out = Vec::new();
        reader.data(&start, &mut out);
        Self { reader, rest, out: out.into(), ended: false }
    }
}

impl Body for Passing {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        loop {
            match this.out.pop_front() {
                Some(bytes) if bytes.is_empty() => continue,
                Some(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                None if this.ended => return Poll::Ready(None),
                None => {}
            }
            let mut out = Vec::new();
            match ready!(this.rest.poll_data(cx)) {
                Some(Ok(chunk)) => this.reader.data(&chunk, &mut out),
                Some(Err(fault)) => return Poll::Ready(Some(Err(fault.into()))),
                None => {
                    this.reader.finish(now_ns(), &mut out);
                    this.ended = true;
                }
            }
            this.out.extend(out);
        }
    }
}

/// What the client gets.
pub(crate) enum Download {
    /// fastwrap's own answer.
    Whole(Option<Bytes>),
    /// The engine's.
    Relayed(Box<Relayed>),
}

/// The engine's answer, with what is to be done on its way.
pub(crate) struct Relayed {
    pub(crate) answer: Answer,
    pub(crate) transit: Arc<Transit>,
    pub(crate) drain: Arc<Drain>,
    /// It broke off, and hyper was given the time to write what came before.
    pub(crate) failed: bool,
}

impl Relayed {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        if self.failed {
            return Poll::Ready(Some(Err(Aborted)));
        }
        if self.drain.is_over() {
            self.answer.stop(Fault::Stopping);
        }
        let frame = ready!(Pin::new(&mut self.answer).poll_frame(cx));
        if matches!(frame, Some(Err(Aborted))) {
            // hyper drops what it has not written when a body fails: fail in the next turn.
            self.failed = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if frame.is_some() && self.answer.read_ns() > 0 {
            self.transit.handed_over(self.answer.read_ns(), now_ns());
        }
        Poll::Ready(frame)
    }
}

impl From<Bytes> for Download {
    fn from(body: Bytes) -> Self {
        Self::Whole(Some(body).filter(|body| !body.is_empty()))
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        match self.get_mut() {
            Self::Whole(body) => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
            Self::Relayed(relayed) => relayed.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_none(),
            Self::Relayed(relayed) => relayed.answer.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, Bytes::len) as u64),
            Self::Relayed(relayed) => relayed.answer.size_hint(),
        }
    }
}
