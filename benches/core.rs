//! What the core costs: `cargo bench -p fastwrap-core --bench core`. Every bench asserts its answer before it is timed.

#![allow(missing_docs, clippy::indexing_slicing, clippy::unwrap_used)] // here as in a test a panic is the report

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fastwrap_core::event::{Dialect, Series, read};
use fastwrap_core::guard::{Guard, Keys};
use fastwrap_core::request::Facts;
use fastwrap_core::splice::Layout;
use fastwrap_core::sse::Decoder;
use fastwrap_core::stream::{BLOCK_NAMES, Places};
use http::{HeaderMap, Method, header};

/// Events of 240 bytes on the average, as vLLM writes them.
const EVENT: &str = concat!(
    r#"data: {"id":"chatcmpl-af4f91370afc1c0b9d2e84f1c0b7a635","object":"chat.completion.chunk","created":1795385975,"#,
    r#""model":"tiny-llama","choices":[{"index":0,"delta":{"content":"TEXT"},"logprobs":null,"finish_reason":null,"#,
    r#""token_ids":null}]}"#,
    "\n\n"
);
const TEXTS: [&str; 4] = [" over", " the", " lazy", r"\n\n"];
const EVENTS: usize = 64;
const BLOCK: &[u8] = br#"{"latency_ms":35.333,"ttft_ms":20.369,"tpot_ms":4.988}"#;

fn read_all(stream: &[u8], mut read: impl FnMut(&[u8]) -> bool) -> usize {
    let mut decoder = Decoder::default();
    let (mut at, mut texts) = (0, 0);
    while let Some(frame) = decoder.next_event(&stream[at..]) {
        let data = frame.data(&stream[at..]).unwrap();
        texts += usize::from(read(&data));
        at += frame.end;
    }
    texts
}

fn read_as_stream(stream: &[u8]) -> usize {
    let mut series = Series::new(Dialect::Choices);
    read_all(stream, |data| series.read(data).unwrap().has_text())
}

fn read_anew(stream: &[u8]) -> usize {
    read_all(stream, |data| read(Dialect::Choices, data).unwrap().has_text())
}

const TEXT: &str = "All work and no play makes Jack a dull boy. ";
const OTHER_TEXT: &str = "只工作不玩耍，聪明孩子也变傻。";

fn answer(text: &str, bytes: usize) -> String {
    let text = text.repeat(bytes / text.len());
    format!(
        r#"{{"id":"1","choices":[{{"index":0,"message":{{"content":"{text}"}}}}],"usage":{{"prompt_tokens":5}}}}"#
    )
}

fn events(criterion: &mut Criterion) {
    let texts = TEXTS.iter().cycle().take(EVENTS);
    let stream: String = texts.map(|text| EVENT.replace("TEXT", text)).collect();
    let mut group = criterion.benchmark_group("events");
    group.throughput(Throughput::Elements(EVENTS as u64));
    for (name, read) in [
        ("decode and read", read_as_stream as fn(&[u8]) -> usize),
        ("decode and read, nothing known of the one before", read_anew),
    ] {
        assert_eq!(read(stream.as_bytes()), EVENTS);
        group.bench_function(name, |bench| bench.iter(|| read(black_box(stream.as_bytes()))));
    }
}

/// As an answer is spliced that was read to its end.
fn spliced(body: &Bytes) -> Vec<Bytes> {
    let layout = Layout::of(body, &BLOCK_NAMES).unwrap();
    Places { body: true, usage: false }.splice_pieces(layout, body, BLOCK).unwrap()
}

fn splice(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("splice");
    for (name, bytes, text) in [
        ("1 KiB", 1 << 10, TEXT),
        ("1 MiB", 1 << 20, TEXT),
        ("16 MiB, beyond the cache", 16 << 20, TEXT),
        ("1 MiB, not ASCII", 1 << 20, OTHER_TEXT),
    ] {
        let body = Bytes::from(answer(text, bytes));
        let length: usize = spliced(&body).iter().map(Bytes::len).sum();
        assert_eq!(length, body.len() + BLOCK.len() + r#","performance":"#.len());
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |bench| bench.iter(|| spliced(black_box(&body))));
        group.bench_function(format!("{name}, memcpy"), |bench| {
            bench.iter(|| black_box(&body).to_vec());
        });
    }
}

fn request(criterion: &mut Criterion) {
    let body = Bytes::from(answer(TEXT, 1 << 10).replace(r#""id":"1""#, r#""stream":true"#));
    let patched = Facts::read(&body).unwrap().ask_for_usage(body.clone());
    assert_eq!(patched.len(), body.len() + r#","stream_options":{"include_usage":true}"#.len());
    criterion.bench_function("ask for usage, 1 KiB", |bench| {
        bench.iter(|| Facts::read(black_box(&body)).map(|facts| facts.ask_for_usage(body.clone())));
    });
}

fn keys(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("keys");
    let key = |number: usize| format!("sk-{number:032x}");
    let given: HeaderMap = [(header::AUTHORIZATION, format!("Bearer {}", key(0)).parse().unwrap())]
        .into_iter()
        .collect();
    for (name, count) in [("none", 0), ("1", 1), ("1,000", 1_000), ("100,000", 100_000)] {
        let guard = Guard::default();
        if count > 0 {
            guard.set_keys(Keys::new((0..count).map(key)).unwrap());
            assert!(guard.own(&Method::GET, &mut HeaderMap::new(), false).is_err());
        }
        let admits = |given: &HeaderMap| guard.own(&Method::GET, &mut given.clone(), false).is_ok();
        assert!(admits(&given));
        group.bench_function(name, |bench| bench.iter(|| admits(black_box(&given))));
    }
}

criterion_group!(benches, events, splice, request, keys);
criterion_main!(benches);
