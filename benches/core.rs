//! What the core costs: `cargo bench -p fastwrap-core --bench core`. Every bench asserts its answer before it is timed.

#![allow(missing_docs, clippy::indexing_slicing, clippy::unwrap_used)] // here as in a test a panic is the report

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fastwrap_core::event::{Dialect, read};
use fastwrap_core::request::Facts;
use fastwrap_core::sse::Decoder;
use fastwrap_core::stream::Places;

const EVENT: &str = concat!(
    r#"data: {"id":"chatcmpl-af4f91370afc1c0b","object":"chat.completion.chunk","created":1795385975,"model":"tiny","#,
    r#""choices":[{"index":0,"delta":{"content":" over"},"logprobs":null,"finish_reason":null,"token_ids":null}]}"#,
    "\n\n"
);
const EVENTS: usize = 64;
const BLOCK: &[u8] = br#"{"latency_ms":35.333,"ttft_ms":20.369,"tpot_ms":4.988}"#;

fn read_all(stream: &[u8]) -> usize {
    let mut decoder = Decoder::default();
    let (mut at, mut texts) = (0, 0);
    while let Some(frame) = decoder.next_event(&stream[at..]) {
        let data = frame.data(&stream[at..]).unwrap();
        texts += usize::from(read(Dialect::Choices, &data).unwrap().has_text());
        at += frame.end;
    }
    texts
}

fn answer(bytes: usize) -> String {
    let text = "All work and no play makes Jack a dull boy. ".repeat(bytes / 44);
    format!(
        r#"{{"id":"1","choices":[{{"index":0,"message":{{"content":"{text}"}}}}],"usage":{{"prompt_tokens":5}}}}"#
    )
}

fn events(criterion: &mut Criterion) {
    let stream = EVENT.repeat(EVENTS);
    assert_eq!(read_all(stream.as_bytes()), EVENTS);
    let mut group = criterion.benchmark_group("events");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("decode and read", |bench| {
        bench.iter(|| read_all(black_box(stream.as_bytes())))
    });
}

fn splice(criterion: &mut Criterion) {
    let places = Places { body: true, usage: false };
    let mut group = criterion.benchmark_group("splice");
    for bytes in [1 << 10, 1 << 20] {
        let text = answer(bytes);
        let spliced = places.splice(text.as_bytes(), BLOCK).unwrap();
        assert_eq!(spliced.len(), text.len() + BLOCK.len() + r#","performance":"#.len());
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(format!("{bytes} bytes"), |bench| {
            bench.iter(|| places.splice(black_box(text.as_bytes()), BLOCK));
        });
        group.bench_function(format!("{bytes} bytes, memcpy"), |bench| {
            bench.iter(|| black_box(text.as_bytes()).to_vec());
        });
    }
}

fn request(criterion: &mut Criterion) {
    let body = Bytes::from(answer(1 << 10).replace(r#""id":"1""#, r#""stream":true"#));
    let patched = Facts::read(&body).unwrap().ask_for_usage(body.clone());
    assert_eq!(patched.len(), body.len() + r#","stream_options":{"include_usage":true}"#.len());
    criterion.bench_function("ask for usage, 1 KiB", |bench| {
        bench.iter(|| Facts::read(black_box(&body)).map(|facts| facts.ask_for_usage(body.clone())));
    });
}

criterion_group!(benches, events, splice, request);
criterion_main!(benches);
