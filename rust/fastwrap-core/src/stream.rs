//! The way of an event stream through fastwrap: every byte passes at once, except one event.
//!
//! That one is the event which may turn out to be the last that has `choices`. It is held until what follows shows
//! whether it was; then it carries the `performance` block. A usage chunk that only fastwrap asked for is taken out,
//! and what it holds besides usage goes back into the held event, where the engine would have put it.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::event::{Dialect, Reading, Series};
use crate::framing::{Decoder, Framing};
use crate::splice::{self, Layout, Slot};
use crate::sse::Frame;
use crate::timeline::Timeline;

/// Largest event that is read; a stream with a larger one passes untouched from there on.
pub const MAX_EVENT_BYTES: usize = 16 << 20;

/// Most bytes that may wait behind the held event.
const MAX_TAIL_BYTES: usize = 64 << 10;

/// A longer text is not copied when the block is spliced in: to handle three pieces costs what copying this much does.
const MAX_COPIED_BYTES: usize = 16 << 10;

/// The names under which the block appears, in order of preference.
pub const BLOCK_NAMES: [&str; 2] = ["performance", "fastwrap_performance"];

/// Where the block is spliced in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Places {
    /// As a member of the JSON object itself.
    pub body: bool,
    /// As a member of its `usage`.
    pub usage: bool,
}

impl Places {
    /// Whether there is any.
    #[must_use]
    pub fn any(self) -> bool {
        self.body || self.usage
    }

    /// Adds `block` to a JSON object; `None` if the text must be left alone.
    #[must_use]
    pub fn splice(self, text: &[u8], block: &[u8]) -> Option<Vec<u8>> {
        self.splice_at(Layout::of(text, &BLOCK_NAMES).ok()?, text, block)
    }

    fn splice_at(self, layout: Layout, text: &[u8], block: &[u8]) -> Option<Vec<u8>> {
        splice::insert(text, &self.slots(layout), block).ok()
    }

    /// Adds `block` to a JSON object that has been read already, and gives the pieces of what comes out.
    #[must_use]
    pub fn splice_pieces(self, layout: Layout, text: &Bytes, block: &[u8]) -> Option<Vec<Bytes>> {
        if text.len() <= MAX_COPIED_BYTES {
            return self.splice_at(layout, text, block).map(|text| vec![text.into()]);
        }
        splice::insert_between(text, &self.slots(layout), block).ok()
    }

    fn slots(self, layout: Layout) -> Vec<Slot> {
        let mut slots = Vec::with_capacity(2);
        slots.extend(layout.usage.filter(|_| self.usage));
        slots.extend(self.body.then_some(layout.body));
        slots.sort_by_key(|slot| slot.at);
        slots
    }
}

/// How a stream is to be treated.
#[derive(Debug, Clone, Copy)]
pub struct StreamSettings {
    /// The API its events belong to.
    pub dialect: Dialect,
    /// How they are told apart.
    pub framing: Framing,
    /// Where the block goes.
    pub places: Places,
    /// The usage chunk was asked for by fastwrap, not by the client: take it out.
    pub strip_usage: bool,
    /// Every choice gets usage of its own.
    pub usage_per_choice: bool,
    /// Usage that was asked for stands in every chunk: with `strip_usage`, take it out there too.
    pub usage_in_chunks: bool,
    /// Gaps over this many nanoseconds count as stalls.
    pub stall_ns: u64,
}

/// Renders the block when the moment has come; `None` if there is none to add.
pub trait Render {
    /// `data` is the data of the event that will carry the block.
    fn render(&mut self, timeline: &Timeline) -> Option<Bytes>;
    /// Looks at the data of an event that may hold the engine's own numbers.
    fn engine_numbers(&mut self, data: &[u8]);
    /// Looks at the data of every event but `[DONE]`; it has no reading if it is no JSON object.
    fn event(&mut self, _reading: Option<&Reading>, _data: &[u8]) {}
    /// The first text has come.
    fn first_text(&mut self, _timeline: &Timeline) {}
    /// The member that the engine sends only to those who ask for usage, if there is one.
    fn comes_with_usage(&self) -> Option<&str> {
        None
    }
}

#[derive(Debug)]
struct Held {
    raw: Bytes,
    data: Range<usize>,
}

impl Held {
    fn text(&self) -> Bytes {
        self.raw.slice(self.data.clone())
    }

    fn set_text(&mut self, text: &[u8]) {
        let (before, after) = (self.raw.slice(..self.data.start), self.raw.slice(self.data.end..));
        self.raw = Bytes::from([&*before, text, &*after].concat());
        self.data.end = self.data.start + text.len();
    }

    /// Adds members of a stripped usage chunk, written as `"a":1,"b":2`.
    fn add_members(&mut self, members: &[u8]) {
        let text = self.text();
        if let (false, Ok(layout)) = (members.is_empty(), Layout::of(&text, &[])) {
            self.set_text(&splice::append(&text, layout.body, members));
        }
    }
}

/// How a stream stood when it ended, or broke.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamEnd {
    /// Its last event was there: `[DONE]`, or the dialect's own.
    pub done: bool,
    /// An error was sent inside the stream; its type, which may be empty.
    pub error: Option<String>,
    /// It broke off inside an event.
    pub inside_event: bool,
}

/// The state of one stream.
#[derive(Debug)]
pub struct Stream {
    settings: StreamSettings,
    decoder: Decoder,
    series: Series,
    /// The start of an event that is not whole yet.
    pending: BytesMut,
    held: Option<Held>,
    tail: BytesMut,
    end: StreamEnd,
    /// An event was too large: nothing is read any more.
    blind: bool,
    closed: bool,
    /// The block has been put out.
    told: bool,
}

impl Stream {
    /// Starts a stream.
    #[must_use]
    pub fn new(settings: StreamSettings) -> Self {
        Self {
            settings,
            decoder: Decoder::new(settings.framing),
            series: Series::new(settings.dialect),
            pending: BytesMut::new(),
            held: None,
            tail: BytesMut::new(),
            end: StreamEnd::default(),
            blind: false,
            closed: false,
            told: false,
        }
    }

    /// How its events are told apart.
    #[must_use]
    pub fn framing(&self) -> Framing {
        self.settings.framing
    }

    /// Whether an event was too large to be read.
    #[must_use]
    pub fn is_blind(&self) -> bool {
        self.blind
    }

    /// Takes bytes that left the socket at `read_ns`, and puts into `out` what may go on.
    pub fn data(
        &mut self,
        chunk: Bytes,
        read_ns: u64,
        timeline: &mut Timeline,
        render: &mut impl Render,
        out: &mut Vec<Bytes>,
    ) {
        if self.blind {
            out.push(chunk);
            return;
        }
        let (buffer, mut found) = if self.pending.is_empty() {
            let found = self.decoder.next_event(&chunk);
            (chunk, found)
        } else {
            self.pending.extend_from_slice(&chunk);
            let Some(found) = self.decoder.next_event(&self.pending) else {
                self.limit_pending(out);
                return;
            };
            (std::mem::take(&mut self.pending).freeze(), Some(found))
        };
        let mut cut = Cut { buffer, start: 0, sent: 0 };
        // One that is too large stays in `rest`, as it would have if it had come in pieces.
        while let Some(frame) = found.filter(|frame| frame.end <= MAX_EVENT_BYTES) {
            self.event(&mut cut, &frame, read_ns, timeline, render, out);
            cut.start += frame.end;
            found = self.decoder.next_event(cut.rest());
        }
        cut.flush(cut.start, &mut self.tail, self.held.is_some(), out);
        self.pending.extend_from_slice(cut.rest());
        self.limit_pending(out);
    }

    fn limit_pending(&mut self, out: &mut Vec<Bytes>) {
        if self.pending.len() > MAX_EVENT_BYTES {
            self.release(out);
            self.blind = true;
            out.push(self.pending.split().freeze());
        }
    }

    fn event(
        &mut self,
        cut: &mut Cut,
        frame: &Frame,
        read_ns: u64,
        timeline: &mut Timeline,
        render: &mut impl Render,
        out: &mut Vec<Bytes>,
    ) {
        let end = cut.start + frame.end;
        let decision = self.decide(frame, cut.rest(), read_ns, timeline, render);
        if matches!(decision, Decision::Pass) {
            // Counted by events, not by reads: the limit must not depend on how the stream is cut.
            if self.held.is_some() && self.tail.len() + end - cut.sent > MAX_TAIL_BYTES {
                cut.flush(end, &mut self.tail, true, out);
                self.release(out);
            }
            return;
        }
        if matches!(decision, Decision::Settle { .. }) && self.held.is_none() {
            return;
        }
        cut.flush(cut.start, &mut self.tail, self.held.is_some(), out);
        if matches!(decision, Decision::Settle { last: true }) {
            self.finish_held(timeline, render, out);
        } else if !matches!(decision, Decision::Strip { .. }) {
            self.release(out);
        }
        let whole = cut.buffer.slice(cut.start..end);
        match decision {
            Decision::Pass | Decision::Settle { .. } => return,
            Decision::Strip { members } => {
                self.held.iter_mut().for_each(|held| held.add_members(&members));
            }
            Decision::Hold(data) => self.held = Some(self.hold(whole, data)),
            Decision::Rewrite(data) => out.push(self.hold(whole, data).raw),
            Decision::Splice(data) => {
                self.held = Some(self.hold(whole, data));
                self.finish_held(timeline, render, out);
            }
        }
        cut.sent = end;
    }

    /// Reads one event into the timeline and decides what becomes of it.
    fn decide(
        &mut self,
        frame: &Frame,
        buffer: &[u8],
        read_ns: u64,
        timeline: &mut Timeline,
        render: &mut impl Render,
    ) -> Decision {
        if frame.raw_json {
            self.end.error.get_or_insert_default();
            return Decision::Settle { last: false };
        }
        let Some(data) = frame.data(buffer) else {
            return Decision::Pass;
        };
        if data.trim_ascii() == b"[DONE]" {
            self.end.done = true;
            return Decision::Settle { last: true };
        }
        let Ok(reading) = self.series.read(&data) else {
            render.event(None, &data);
            timeline.first_chunk_ns.get_or_insert(read_ns);
            if data.trim_ascii_start().starts_with(b"{\"error\"") {
                self.end.error.get_or_insert_default();
                return Decision::Settle { last: false };
            }
            return Decision::Pass;
        };
        render.event(Some(&reading), &data);
        if timeline.event(&reading, read_ns, self.settings.stall_ns) {
            render.first_text(timeline);
        }
        if let Some(usage) = reading.usage.filter(|usage| !usage.is_zero()) {
            timeline.count(usage, reading.choices, self.settings.usage_per_choice);
        }
        if !reading.finished.is_empty() || reading.usage.is_some() {
            render.engine_numbers(&data);
        }
        // The data of several lines cannot be changed without changing the framing: it passes as it is.
        let place = frame.data.clone().filter(|_| frame.more_data.is_empty());
        self.decide_reading(reading, &data, place, render.comes_with_usage())
    }

    fn decide_reading(
        &mut self,
        reading: Reading,
        data: &[u8],
        place: Option<Range<usize>>,
        comes_with_usage: Option<&str>,
    ) -> Decision {
        if let Some(error) = reading.error {
            self.end.error.get_or_insert(error);
            return Decision::Settle { last: false };
        }
        if reading.last {
            self.end.done = true;
            return match place.filter(|_| self.settings.places.any()) {
                Some(place) => Decision::Splice(place),
                None => Decision::Settle { last: false },
            };
        }
        let counted = reading.usage.is_some() && !reading.choices.is_empty();
        if counted && reading.finished.is_empty() && !self.settings.usage_in_chunks {
            // Running counts that nobody asked for: the engine gives usage to everybody, so all of it stays.
            self.settings.strip_usage = false;
        }
        if reading.is_usage_only() && self.settings.strip_usage {
            let except = ["usage", comes_with_usage.unwrap_or("usage")];
            let into = self.held.as_ref().map(Held::text).unwrap_or_default();
            let members = splice::missing_members(data, &into, &except).unwrap_or_default();
            return Decision::Strip { members };
        }
        let rewrite = self.removes_usage() && counted;
        let may_be_last = !reading.finished.is_empty() || reading.is_usage_only();
        let hold = may_be_last && (self.settings.places.any() || self.settings.strip_usage);
        match place.filter(|_| hold || rewrite) {
            Some(place) if hold => Decision::Hold(place),
            Some(place) => Decision::Rewrite(place),
            None if reading.has_choices => Decision::Settle { last: false },
            None => Decision::Pass,
        }
    }

    fn removes_usage(&self) -> bool {
        self.settings.strip_usage && self.settings.usage_in_chunks
    }

    fn hold(&self, raw: Bytes, data: Range<usize>) -> Held {
        let mut held = Held { raw, data };
        if self.removes_usage()
            && let Ok(kept) = splice::remove(&held.text(), "usage")
        {
            held.set_text(&kept);
        }
        held
    }

    /// Lets the held event go, and what waits behind it.
    fn release(&mut self, out: &mut Vec<Bytes>) {
        if let Some(held) = self.held.take() {
            out.push(held.raw);
        }
        if !self.tail.is_empty() {
            out.push(self.tail.split().freeze());
        }
    }

    /// Lets the held event go with the block: once a stream, and not after an error, for then it was no answer.
    fn finish_held(&mut self, timeline: &Timeline, render: &mut impl Render, out: &mut Vec<Bytes>) {
        let places = self.settings.places;
        if let Some(held) = self.held.as_mut().filter(|_| self.end.error.is_none() && !self.told) {
            let block = render.render(timeline);
            if let Some(text) = block.and_then(|block| places.splice(&held.text(), &block)) {
                held.set_text(&text);
                self.told = true;
            }
        }
        self.release(out);
    }

    /// The stream ended as HTTP says it should: reads what no blank line has ended, so that it can be told how the
    /// stream stood before [`Self::finish`] lets the last bytes go.
    pub fn close(
        &mut self,
        timeline: &mut Timeline,
        render: &mut impl Render,
        out: &mut Vec<Bytes>,
    ) -> &StreamEnd {
        if self.blind || std::mem::replace(&mut self.closed, true) {
            return &self.end;
        }
        let read_ns = timeline.last_byte_ns.unwrap_or(timeline.received_ns);
        self.decoder.close();
        self.data(Bytes::new(), read_ns, timeline, render, out);
        let rest = std::mem::take(&mut self.pending);
        if let Some(frame) = self.decoder.finish(&rest) {
            // Without its blank line it is no event to a client: read it, but never change it.
            let _ = self.decide(&frame, &rest, read_ns, timeline, render);
        }
        self.pending = rest;
        &self.end
    }

    /// Lets the last bytes go, with the block if the stream was no error.
    pub fn finish(
        &mut self,
        timeline: &mut Timeline,
        render: &mut impl Render,
        out: &mut Vec<Bytes>,
    ) -> StreamEnd {
        self.close(timeline, render, out);
        self.finish_held(timeline, render, out);
        if !self.pending.is_empty() {
            out.push(self.pending.split().freeze());
        }
        self.end.clone()
    }

    /// The stream broke off: what has arrived goes on, and nothing is added.
    pub fn fail(&mut self, out: &mut Vec<Bytes>) -> StreamEnd {
        self.release(out);
        self.end.inside_event = !self.pending.is_empty() || self.blind;
        if !self.pending.is_empty() {
            out.push(self.pending.split().freeze());
        }
        self.end.clone()
    }
}

enum Decision {
    /// Nothing special.
    Pass,
    /// It shows whether the held event was the last.
    Settle { last: bool },
    /// It may be the last: hold it.
    Hold(Range<usize>),
    /// It must go on changed.
    Rewrite(Range<usize>),
    /// It is the last for certain.
    Splice(Range<usize>),
    /// The client did not ask for it.
    Strip { members: Vec<u8> },
}

/// A buffer of whole events, and how far it has been handed on.
struct Cut {
    buffer: Bytes,
    /// Where the event being looked at starts.
    start: usize,
    /// Everything before has gone its way.
    sent: usize,
}

impl Cut {
    fn rest(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// Hands on what lies before `end`: to the client, or behind the held event.
    fn flush(&mut self, end: usize, tail: &mut BytesMut, held: bool, out: &mut Vec<Bytes>) {
        if self.sent >= end {
            return;
        }
        let part = self.buffer.slice(self.sent..end);
        self.sent = end;
        if held { tail.extend_from_slice(&part) } else { out.push(part) }
    }
}

#[cfg(test)]
mod tests;
