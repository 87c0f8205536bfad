//! The hand-over between the relay's thread and a coroutine: bounded both ways, and no byte is looked at in Python.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use fastwrap_core::error::Fault;
use fastwrap_core::exchange::{Exchange as CoreExchange, Transit};
use fastwrap_core::headers;
use fastwrap_relay::{Aborted, Answer, Payload, Relay, now_ns};
use http::{HeaderMap, Response, StatusCode, request};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::convert::{Headers, header_list, joined, response};
use crate::measured::{owned, parse_fault};
use crate::reactor::Reactor;
use crate::task::Task;

create_exception!(fastwrap._native, AnswerAborted, PyException);

/// Status and headers, body, and whether more will come.
type Part<'py> = (Option<(u16, Bound<'py, PyList>)>, Bound<'py, PyBytes>, bool);

/// Bytes of an answer that may wait for the coroutine before the engine is no longer read.
const MAX_WAITING_BYTES: usize = 64 << 10;
/// Bytes of an upload that may wait for the engine before the client is no longer read.
const MAX_UPLOAD_BYTES: usize = 256 << 10;

#[derive(Default)]
struct State {
    head: Option<(StatusCode, HeaderMap)>,
    out: Vec<Bytes>,
    out_bytes: usize,
    /// When the oldest of `out` left the engine's socket.
    read_ns: u64,
    ended: bool,
    aborted: bool,
    /// The futures of the coroutine that waits for the answer, and of the one that waits to go on with its upload.
    reader: Option<Py<PyAny>>,
    writer: Option<Py<PyAny>>,
    /// The relay's task, waiting for room.
    relay: Option<Waker>,
    upload: VecDeque<Bytes>,
    upload_bytes: usize,
    upload_ended: bool,
    upload_fault: Option<Fault>,
    upload_waker: Option<Waker>,
}

impl State {
    fn has_part(&self) -> bool {
        self.head.is_some() || self.out_bytes > 0 || self.ended || self.aborted
    }

    fn has_room(&self) -> bool {
        self.upload_bytes < MAX_UPLOAD_BYTES || self.ended || self.aborted
    }
}

/// What both sides see.
#[derive(Default)]
pub(crate) struct Shared {
    state: Mutex<State>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The futures that have become due.
    pub(crate) fn due(&self) -> impl Iterator<Item = Py<PyAny>> {
        let mut state = self.lock();
        let reader = if state.has_part() { state.reader.take() } else { None };
        let writer = if state.has_room() { state.writer.take() } else { None };
        [reader, writer].into_iter().flatten()
    }

    fn is_awaited(&self) -> bool {
        let state = self.lock();
        (state.reader.is_some() && state.has_part()) || (state.writer.is_some() && state.has_room())
    }

    fn respond(&self, response: Response<Bytes>) {
        let (head, body) = response.into_parts();
        let mut state = self.lock();
        state.head = Some((head.status, head.headers));
        state.out_bytes = body.len();
        state.out = vec![body];
        state.ended = true;
    }

    /// Moves what the answer has to give into the state, until it has no more, ends, or there is no room.
    fn poll_fill(&self, cx: &mut Context<'_>, answer: &mut Answer) -> Poll<()> {
        loop {
            {
                let mut state = self.lock();
                if state.out_bytes >= MAX_WAITING_BYTES {
                    state.relay = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
            let Poll::Ready(frame) = Pin::new(&mut *answer).poll_frame(cx) else {
                return Poll::Pending;
            };
            let mut state = self.lock();
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => {
                    if state.out_bytes == 0 {
                        state.read_ns = answer.read_ns();
                    }
                    state.out_bytes += data.len();
                    state.out.push(data);
                }
                Some(Ok(Err(_trailers))) => {}
                Some(Err(Aborted)) => {
                    state.aborted = true;
                    return Poll::Ready(());
                }
                None => {
                    state.ended = true;
                    return Poll::Ready(());
                }
            }
        }
    }
}

/// An upload on its way to the engine.
struct Upload {
    shared: Arc<Shared>,
    reactor: Arc<Reactor>,
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let mut state = self.shared.lock();
        if let Some(fault) = state.upload_fault.take() {
            return Poll::Ready(Some(Err(fault.into())));
        }
        let Some(chunk) = state.upload.pop_front() else {
            if state.upload_ended {
                return Poll::Ready(None);
            }
            state.upload_waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        state.upload_bytes -= chunk.len();
        drop(state);
        if self.shared.is_awaited() {
            self.reactor.ready.add(Arc::clone(&self.shared));
        }
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }
}

/// Says that the answer broke off if the relay's task ends in any other way than it should: a panic.
struct Finish {
    shared: Arc<Shared>,
    reactor: Arc<Reactor>,
}

impl Drop for Finish {
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            state.aborted |= !state.ended;
        }
        self.reactor.ready.add(Arc::clone(&self.shared));
    }
}

async fn run(
    relay: Arc<Relay>,
    exchange: Box<CoreExchange>,
    head: request::Parts,
    payload: Payload,
    finish: Finish,
) {
    let (shared, reactor) = (&finish.shared, &finish.reactor);
    let (head, answer) = relay.send(exchange, head, payload).await.into_parts();
    shared.lock().head = Some((head.status, head.headers));
    let mut answer = pin!(answer);
    poll_fn(|cx| {
        let filled = shared.poll_fill(cx, &mut answer);
        if shared.is_awaited() {
            reactor.ready.add(Arc::clone(shared));
        }
        filled
    })
    .await;
}

/// A request whose body is still on its way from the client.
struct Opening {
    exchange: Box<CoreExchange>,
    head: request::Parts,
    body: BytesMut,
}

#[pyclass(module = "fastwrap._native")]
pub(crate) struct Exchange {
    relay: Arc<Relay>,
    reactor: Arc<Reactor>,
    shared: Arc<Shared>,
    transit: Arc<Transit>,
    opening: Option<Box<Opening>>,
    announced_bytes: Option<u64>,
    received_bytes: u64,
    uploaded: bool,
    /// The head has been taken.
    headed: bool,
    task: Option<Arc<Task>>,
}

impl Exchange {
    pub(crate) fn new(
        relay: &Arc<Relay>,
        reactor: &Arc<Reactor>,
        begun: Result<(Box<CoreExchange>, request::Parts), Box<Response<Bytes>>>,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let (transit, announced_bytes, opening) = match begun {
            Ok((exchange, head)) => {
                let (transit, announced_bytes) =
                    (exchange.transit(), headers::body_bytes(&head.headers));
                let opening = Box::new(Opening { exchange, head, body: BytesMut::new() });
                (transit, announced_bytes, Some(opening))
            }
            Err(answer) => {
                shared.respond(*answer);
                (Arc::default(), None, None)
            }
        };
        Self {
            relay: Arc::clone(relay),
            reactor: Arc::clone(reactor),
            shared,
            transit,
            opening,
            announced_bytes,
            received_bytes: 0,
            uploaded: false,
            headed: false,
            task: None,
        }
    }

    fn start(&mut self, exchange: Box<CoreExchange>, head: request::Parts, payload: Payload) {
        let finish =
            Finish { shared: Arc::clone(&self.shared), reactor: Arc::clone(&self.reactor) };
        let work = run(Arc::clone(&self.relay), exchange, head, payload, finish);
        self.task = Some(self.reactor.start_task(work));
    }

    fn upload(&mut self, chunk: Bytes, more: bool) -> bool {
        if let Some(opening) = self.opening.take() {
            let body = BodyExt::boxed_unsync(Upload {
                shared: Arc::clone(&self.shared),
                reactor: Arc::clone(&self.reactor),
            });
            self.start(opening.exchange, opening.head, Payload::Streamed(body));
        }
        let mut state = self.shared.lock();
        state.upload_bytes += chunk.len();
        state.upload.push_back(chunk);
        state.upload_ended |= !more;
        if let Some(waker) = state.upload_waker.take() {
            waker.wake();
        }
        state.has_room()
    }

    /// Wakes the coroutine that waits for what this side has just put there.
    fn wake(&self) {
        if self.shared.is_awaited() {
            self.reactor.ready.add(Arc::clone(&self.shared));
            self.reactor.ready.wake();
        }
    }

    /// Where hooks add to blocks, the relay's thread may wait for the interpreter while it has the task.
    fn cancel_task(&self, task: &Task) {
        if self.relay.meter.hooks().is_none() {
            task.cancel();
        } else {
            Python::try_attach(|py| py.detach(|| task.cancel()));
        }
    }

    fn refuse_with(&mut self, fault: Fault) {
        if let Some(mut opening) = self.opening.take() {
            self.shared.respond(opening.exchange.refuse(fault, now_ns()));
            self.wake();
            return;
        }
        let mut state = self.shared.lock();
        state.upload_fault = Some(fault);
        if let Some(waker) = state.upload_waker.take() {
            waker.wake();
        }
    }
}

#[pymethods]
impl Exchange {
    fn send(&mut self, chunk: &[u8], more: bool) -> bool {
        if self.uploaded {
            return true;
        }
        self.received_bytes += chunk.len() as u64;
        // Granian tells the end of a body by one more message, and that costs two hand-overs between threads.
        let more = more && self.announced_bytes != Some(self.received_bytes);
        self.uploaded = !more;
        if self.received_bytes > self.relay.meter.settings.max_body_bytes {
            self.refuse_with(Fault::BodyTooLarge);
            return true;
        }
        let wants_whole =
            self.opening.as_ref().is_some_and(|opening| opening.exchange.is_measured());
        if !wants_whole && (more || self.opening.is_none()) {
            return self.upload(Bytes::copy_from_slice(chunk), more);
        }
        if more {
            if let Some(opening) = &mut self.opening {
                opening.body.extend_from_slice(chunk);
            }
            return true;
        }
        if let Some(mut opening) = self.opening.take() {
            let body = if opening.body.is_empty() {
                Bytes::copy_from_slice(chunk)
            } else {
                opening.body.extend_from_slice(chunk);
                opening.body.freeze()
            };
            let body = opening.exchange.body(body, now_ns());
            self.start(opening.exchange, opening.head, Payload::from(body));
        }
        true
    }

    fn refuse(&mut self, fault: &str) -> PyResult<()> {
        self.refuse_with(parse_fault(fault)?);
        Ok(())
    }

    #[getter]
    fn is_uploaded(&self) -> bool {
        self.uploaded
    }

    fn take<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Part<'py>>> {
        let (head, out, read_ns, ended) = {
            let mut state = self.shared.lock();
            if !state.has_part() {
                return Ok(None);
            }
            if state.aborted && state.head.is_none() && state.out_bytes == 0 {
                if !self.headed && self.task.is_some() {
                    // The relay's task panicked before it had an answer.
                    drop(state);
                    self.shared.respond(Fault::Internal.response());
                    self.shared.lock().aborted = false;
                    return self.take(py);
                }
                return Err(AnswerAborted::new_err("the engine's answer broke off"));
            }
            state.out_bytes = 0;
            if let Some(waker) = state.relay.take() {
                waker.wake();
            }
            (state.head.take(), std::mem::take(&mut state.out), state.read_ns, state.ended)
        };
        self.headed |= head.is_some();
        if read_ns > 0 && !out.is_empty() {
            self.transit.handed_over(read_ns, now_ns());
        }
        let head = match head {
            Some((status, headers)) => Some((status.as_u16(), header_list(py, &headers)?)),
            None => None,
        };
        Ok(Some((head, joined(py, &out)?, !ended)))
    }

    /// `future` is resolved when [`Self::take`] has something; at once if it has already.
    fn when_ready(&self, py: Python<'_>, future: Py<PyAny>) -> PyResult<()> {
        let mut state = self.shared.lock();
        if state.has_part() {
            drop(state);
            future.call_method1(py, "set_result", (py.None(),))?;
        } else {
            state.reader = Some(future);
        }
        Ok(())
    }

    /// `future` is resolved when more may be sent; at once if it may already.
    fn when_writable(&self, py: Python<'_>, future: Py<PyAny>) -> PyResult<()> {
        let mut state = self.shared.lock();
        if state.has_room() {
            drop(state);
            future.call_method1(py, "set_result", (py.None(),))?;
        } else {
            state.writer = Some(future);
        }
        Ok(())
    }

    fn fail<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Part<'py>>> {
        self.relay.meter.counters.internal_error();
        self.transit.fail();
        self.cancel();
        if self.headed {
            return Ok(None);
        }
        self.shared.respond(Fault::Internal.response());
        self.take(py)
    }

    fn caller(&self) -> PyResult<(String, Option<String>)> {
        let opening = self.opening.as_ref();
        let opening = opening.ok_or_else(|| PyRuntimeError::new_err("it has been sent"))?;
        Ok(owned(opening.exchange.caller()))
    }

    fn arrived(&mut self) {
        if let Some(opening) = &mut self.opening {
            opening.exchange.arrived(now_ns());
        }
    }

    #[allow(clippy::needless_pass_by_value)] // PyO3 hands over what it converts
    fn reject(&mut self, status: u16, headers: Headers, body: &[u8], code: String) -> PyResult<()> {
        let answer = response(status, &headers, body)?;
        if let Some(mut opening) = self.opening.take() {
            self.shared.respond(opening.exchange.reject(answer, code, now_ns()));
            self.wake();
        }
        Ok(())
    }

    fn cancel(&mut self) {
        if self.opening.take().is_some() {
            self.shared.lock().aborted = true;
            self.wake();
        }
        if let Some(task) = self.task.take() {
            self.cancel_task(&task);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.cancel();
    }
}
