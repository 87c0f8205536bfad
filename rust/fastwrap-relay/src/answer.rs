//! An answer's body, on its way from the engine to the server.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use fastwrap_core::error::Fault;
use fastwrap_core::exchange::{Broken, Exchange};
use http::response::Parts;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::connection::Connection;
use crate::relay::Relay;
use crate::wait::Wait;
use fastwrap_clock::now_ns;

/// The answer broke off inside an event or a body: the client's connection must be aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aborted;

impl fmt::Display for Aborted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the engine's answer broke off")
    }
}

impl std::error::Error for Aborted {}

/// Pieces that have arrived are joined up to this many bytes: a copy of so few costs less than what the server, the
/// kernel and the client spend on a piece of its own.
const MAX_JOINED_BYTES: usize = 16 << 10;

/// Where the rest of the body comes from.
pub(crate) struct Source {
    pub(crate) connection: Connection,
    pub(crate) body: Incoming,
    pub(crate) relay: Arc<Relay>,
    pub(crate) wait: Wait,
}

/// The body of an answer. Dropping it before its end tells the engine that the client has left.
pub struct Answer {
    exchange: Option<Box<Exchange>>,
    source: Option<Box<Source>>,
    /// What may go on.
    out: Vec<Bytes>,
    aborted: bool,
    /// When the first of the bytes that `out` was made of left the socket, and since when the engine has been waited for.
    read_ns: u64,
    waiting_ns: u64,
}

impl fmt::Debug for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Answer").field("exchange", &self.exchange).finish_non_exhaustive()
    }
}

impl Answer {
    pub(crate) fn new(exchange: Box<Exchange>, source: Source) -> Self {
        let waiting_ns = now_ns();
        Self {
            exchange: Some(exchange),
            source: Some(Box::new(source)),
            out: Vec::new(),
            aborted: false,
            read_ns: 0,
            waiting_ns,
        }
    }

    pub(crate) fn whole(body: Bytes) -> Self {
        Self {
            exchange: None,
            source: None,
            out: vec![body],
            aborted: false,
            read_ns: 0,
            waiting_ns: 0,
        }
    }

    /// When the first of the bytes that were given last left the engine's socket; 0 if they are fastwrap's own.
    #[must_use]
    pub fn read_ns(&self) -> u64 {
        self.read_ns
    }

    /// Waits until the head may go on, for a body that changes it.
    pub(crate) fn poll_collected(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut Parts,
    ) -> Poll<Result<(), Fault>> {
        while self.exchange.as_ref().is_some_and(|exchange| exchange.is_collecting()) {
            if let Some(fault) = ready!(self.poll_source(cx, Some(head))) {
                return Poll::Ready(Err(fault));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Ends the exchange with an error that the client is told as a whole answer.
    pub(crate) fn refuse(mut self, fault: Fault) -> http::Response<Bytes> {
        self.exchange
            .take()
            .map_or_else(|| fault.response(), |mut exchange| exchange.refuse(fault, now_ns()))
    }

    /// Takes one piece from the engine; gives the fault if the answer broke off there.
    fn poll_source(
        &mut self,
        cx: &mut Context<'_>,
        head: Option<&mut Parts>,
    ) -> Poll<Option<Fault>> {
        if let Poll::Ready(fault) = self.poll_arrived(cx, head) {
            return Poll::Ready(fault);
        }
        let wait = self.source.as_mut().map(|source| &mut source.wait);
        wait.map_or(Poll::Ready(None), |wait| wait.poll_idle(cx, self.waiting_ns).map(Some))
    }

    /// Does the same, and does not look at the time while there is nothing.
    fn poll_arrived(
        &mut self,
        cx: &mut Context<'_>,
        head: Option<&mut Parts>,
    ) -> Poll<Option<Fault>> {
        let (Some(exchange), Some(source)) = (&mut self.exchange, &mut self.source) else {
            return Poll::Ready(None);
        };
        let frame = ready!(source.connection.poll_body(cx, &mut source.body));
        let now_ns = now_ns();
        self.waiting_ns = now_ns;
        let ended = match frame {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    let read_ns = source.connection.stamps.read_ns();
                    if self.out.is_empty() {
                        self.read_ns = read_ns;
                    }
                    exchange.data(data, read_ns, now_ns, &mut self.out);
                }
                // A server that has sent the announced length asks for no more: the end is known here already.
                source.body.is_end_stream()
            }
            Some(Err(_)) => return Poll::Ready(Some(Fault::EngineClosed)),
            None => true,
        };
        if ended {
            exchange.finish(now_ns, head, &mut self.out);
            let keep = exchange.keeps_connection();
            self.exchange = None;
            if let Some(source) = self.source.take().filter(|_| keep) {
                source.relay.pool.give(source.connection, cx);
            }
        }
        Poll::Ready(None)
    }

    /// Ends the answer here: the client is told, and the engine's connection is closed.
    pub fn stop(&mut self, fault: Fault) {
        self.source = None;
        if let Some(mut exchange) = self.exchange.take() {
            self.aborted = exchange.fail(fault, now_ns(), &mut self.out) == Broken::Abort;
        }
    }

    /// Takes what has arrived beside that which is there, as much as one piece may hold.
    fn fill(&mut self, cx: &mut Context<'_>) {
        while self.exchange.is_some() && self.out_bytes() < MAX_JOINED_BYTES {
            match self.poll_arrived(cx, None) {
                Poll::Ready(None) => {}
                Poll::Ready(Some(fault)) => self.stop(fault),
                Poll::Pending => return,
            }
        }
    }

    fn out_bytes(&self) -> usize {
        self.out.iter().map(Bytes::len).sum()
    }

    /// The next piece, made of as many as may be joined; `None` if there is none.
    fn take_out(&mut self) -> Option<Bytes> {
        self.out.retain(|bytes| !bytes.is_empty());
        let mut joined_bytes = 0;
        let fits = |bytes: &&Bytes| {
            joined_bytes += bytes.len();
            joined_bytes <= MAX_JOINED_BYTES
        };
        let count = self.out.iter().take_while(fits).count();
        match self.out.get(..count) {
            Some(pieces) if count > 1 => {
                let joined = pieces.concat();
                self.out.drain(..count);
                Some(joined.into())
            }
            _ => (!self.out.is_empty()).then(|| self.out.remove(0)),
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        let this = self.get_mut();
        while this.out_bytes() == 0 && this.exchange.is_some() {
            if let Some(fault) = ready!(this.poll_source(cx, None)) {
                this.stop(fault);
            }
        }
        this.fill(cx);
        if let Some(bytes) = this.take_out() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        Poll::Ready(std::mem::take(&mut this.aborted).then_some(Err(Aborted)))
    }

    fn is_end_stream(&self) -> bool {
        self.exchange.is_none() && !self.aborted && self.out_bytes() == 0
    }

    fn size_hint(&self) -> SizeHint {
        if self.exchange.is_some() || self.aborted {
            return SizeHint::default();
        }
        SizeHint::with_exact(self.out_bytes() as u64)
    }
}
