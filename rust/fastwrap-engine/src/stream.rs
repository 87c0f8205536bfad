//! A stream's body: events written when they are due, and the faults a request asks for.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use fastwrap_clock::Alarm;
use http_body::Frame;
use tokio::time::Instant;

use crate::event::Renderer;
use crate::request::Faults;
use crate::script::{Script, Step};

/// How much is rendered before it is handed to hyper, where events are not paced.
const FRAME_BYTES: usize = 32 * 1024;

/// How a stream goes on after the events that were rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Live,
    /// Nothing more is sent, and the connection stays open.
    Stalled,
    /// What was rendered is still to be flushed before the connection is closed.
    Dying,
    Dead,
}

/// The body of one streamed answer.
pub(crate) struct EventStream {
    script: Script,
    renderer: Renderer,
    faults: Faults,
    started: Instant,
    /// How far the clock was last seen to have gone, so that it is not read for every event.
    elapsed: Duration,
    alarm: Alarm,
    next: Option<(Duration, Step)>,
    sent: u32,
    failed: bool,
    fate: Fate,
}

impl EventStream {
    /// Begin an answer to a request that was read at `started`.
    pub(crate) fn new(script: Script, faults: Faults, started: Instant) -> Self {
        Self {
            renderer: Renderer::new(&script.answer),
            script,
            faults,
            started,
            elapsed: Duration::ZERO,
            alarm: Alarm::default(),
            next: None,
            sent: 0,
            failed: false,
            fate: Fate::Live,
        }
    }

    /// Return the next piece of the body; an error closes the connection.
    pub(crate) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.fate {
            Fate::Live => {}
            Fate::Stalled => return Poll::Pending,
            Fate::Dying => {
                // One turn in which hyper flushes what it has.
                self.fate = Fate::Dead;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Fate::Dead => return Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into()))),
        }
        let paced = !self.script.answer.itl.is_zero();
        let mut out = String::with_capacity(if paced { 512 } else { self.expected_bytes() });
        while self.fate == Fate::Live && out.len() < FRAME_BYTES {
            let Some((due, step)) = self.next.take().or_else(|| self.script.next()) else {
                self.end();
                break;
            };
            if due > self.elapsed {
                self.elapsed = self.started.elapsed();
            }
            if due > self.elapsed {
                self.next = Some((due, step));
                if out.is_empty() {
                    ready!(self.poll_due(due, cx));
                    continue;
                }
                break;
            }
            self.write(&mut out, step);
            if paced && !out.is_empty() {
                break;
            }
        }
        if !out.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(out.into()))));
        }
        if self.fate == Fate::Live { Poll::Ready(None) } else { self.poll_next(cx) }
    }

    /// Return roughly what is left to render, at most a frame.
    fn expected_bytes(&self) -> usize {
        let answer = &self.script.answer;
        let events =
            (answer.tokens as usize).saturating_mul(answer.choices as usize).saturating_add(4);
        events.saturating_mul(320).min(FRAME_BYTES + 1024)
    }

    fn poll_due(&mut self, due: Duration, cx: &mut Context<'_>) -> Poll<()> {
        match self.started.checked_add(due) {
            Some(deadline) => self.alarm.poll_until(deadline, cx),
            // A time that cannot be represented never comes.
            None => Poll::Pending,
        }
    }

    /// Render one event, unless a fault takes its place.
    fn write(&mut self, out: &mut String, step: Step) {
        if step != Step::Ping {
            let reached = |limit: Option<u32>| limit == Some(self.sent);
            if reached(self.faults.die_after_chunks) {
                if self.faults.die_in_event {
                    self.write_half(out, &step);
                }
                self.fate = Fate::Dying;
                return;
            }
            if reached(self.faults.stall_after_chunks) {
                self.fate = Fate::Stalled;
                return;
            }
            if reached(self.faults.error_after_chunks) && !self.failed {
                self.failed = true;
                self.script.fail();
                return;
            }
            self.sent = self.sent.saturating_add(1);
        }
        self.renderer.push(out, &self.script.answer, &step);
    }

    /// Keep the body from ending where a fault was asked for after the last event.
    fn end(&mut self) {
        if self.faults.die_after_chunks == Some(self.sent) {
            self.fate = Fate::Dying;
        } else if self.faults.stall_after_chunks == Some(self.sent) {
            self.fate = Fate::Stalled;
        }
    }

    fn write_half(&self, out: &mut String, step: &Step) {
        let mut event = String::new();
        self.renderer.push(&mut event, &self.script.answer, step);
        let mut half = event.len() / 2;
        while !event.is_char_boundary(half) {
            half -= 1;
        }
        event.truncate(half);
        out.push_str(&event);
    }
}
