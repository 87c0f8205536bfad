//! An event that passes costs no allocation. A process of its own, whose allocator counts.
#![allow(clippy::unwrap_used)] // in a test a panic is the report
#![allow(unsafe_code)] // there is no other way to see allocations

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use fastwrap_core::event::Dialect;
use fastwrap_core::framing::Framing;
use fastwrap_core::stream::{Places, Render, Stream, StreamSettings};
use fastwrap_core::timeline::Timeline;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// In one read; Miri takes a second for each few.
const EVENTS: usize = if cfg!(miri) { 10 } else { 1000 };

struct Counting;

// SAFETY: everything is the system's; counting in a `const` thread-local of a plain number allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

struct Nothing;

impl Render for Nothing {
    fn render(&mut self, _: &Timeline) -> Option<Bytes> {
        None
    }
    fn engine_numbers(&mut self, _: &[u8]) {}
}

fn settings(dialect: Dialect) -> StreamSettings {
    StreamSettings {
        dialect,
        framing: Framing::Events,
        places: Places { body: true, usage: false },
        strip_usage: true,
        usage_per_choice: false,
        usage_in_chunks: false,
        stall_ns: 1,
    }
}

/// What `events` in one read cost a stream that has seen some already.
fn allocations(dialect: Dialect, event: &dyn Fn(usize) -> String, events: usize) -> usize {
    let mut stream = Stream::new(settings(dialect));
    let mut timeline = Timeline::new(0);
    let mut out = Vec::with_capacity(8);
    for at_ns in 1..4 {
        let read = Bytes::from((0..2).map(event).collect::<String>());
        stream.data(read, at_ns * 1_000_000, &mut timeline, &mut Nothing, &mut out);
    }
    out.clear();
    let read = Bytes::from((0..events).map(event).collect::<String>());
    // The first copy of a `Bytes` makes its reference count: once a read.
    let copy = read.clone();
    let before = ALLOCATIONS.get();
    stream.data(copy, 4_000_000, &mut timeline, &mut Nothing, &mut out);
    let count = ALLOCATIONS.get() - before;
    assert_eq!(out.concat(), read);
    assert_eq!(timeline.text.chunks, 6 + events as u64);
    count
}

#[test]
fn an_event_that_passes_costs_none() {
    let same = |at: usize| {
        format!(
            "data: {{\"id\":\"c\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"word {at}\"}},\"finish_reason\":null}}]}}\n\n"
        )
    };
    // Two choices take turns, and so no event is like the one before it.
    let other = |at: usize| same(at).replace("\"index\":0", &format!("\"index\":{}", at % 2));
    let typed = |at: usize| {
        format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"delta\":{{\"type\":\"text_delta\",\"text\":\"{at}\"}}}}\n\n"
        )
    };
    for (dialect, event) in [
        (Dialect::Choices, &same as &dyn Fn(usize) -> String),
        (Dialect::Choices, &other),
        (Dialect::Messages, &typed),
    ] {
        assert_eq!(allocations(dialect, event, EVENTS), 0, "{}", event(0));
    }
}
