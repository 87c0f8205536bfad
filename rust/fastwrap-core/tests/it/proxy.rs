//! Drives an exchange as the proxy does, and takes the block out again.

use std::sync::Arc;

use bytes::Bytes;
use fastwrap_core::counters::{Counters, private_cells};
use fastwrap_core::exchange::{Exchange, Plan};
use fastwrap_core::meter::{Meter, Settings};
use fastwrap_core::performance::Outcome;
use fastwrap_core::profile::Profile;
use fastwrap_core::route::Route;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::Value;

/// Settings that put the block at `places`.
pub(crate) fn settings(places: &str) -> Settings {
    Settings {
        enrich: places.parse().unwrap(),
        stall_ns: 1_000_000_000,
        json_as_stream: false,
        max_body_bytes: 1 << 20,
        max_header_bytes: 1 << 14,
        max_inflight: 0,
    }
}

/// A meter that puts the block at `places`, for an engine with `profile`.
pub(crate) fn meter(places: &str, profile: Profile) -> Arc<Meter> {
    let meter = Meter::new(settings(places), Counters::new(private_cells()));
    meter.set_profile(profile);
    Arc::new(meter)
}

pub(crate) fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let name = |name: &str| name.parse::<HeaderName>().unwrap();
    pairs.iter().map(|(key, value)| (name(key), HeaderValue::from_str(value).unwrap())).collect()
}

/// An engine's answer.
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) pieces: Vec<&'a [u8]>,
}

/// What came of a request.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) request: Bytes,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) outcome: Outcome,
}

/// One request through a meter of its own or a shared one, at times that rise by a millisecond a step.
pub(crate) fn exchange(meter: &Arc<Meter>, target: &str, body: &str, answer: Answer<'_>) -> Got {
    const MS: u64 = 1_000_000;
    let before = meter.counters.snapshot();
    let mut exchange =
        Exchange::begin(meter, &Method::POST, target, &mut HeaderMap::new(), MS).unwrap();
    let request = exchange.body(Bytes::copy_from_slice(body.as_bytes()), 2 * MS);
    exchange.sent(3 * MS);
    let mut head = http::Response::new(()).into_parts().0;
    head.status = StatusCode::from_u16(answer.status).unwrap();
    head.headers = answer.headers;
    let plan = exchange.response(head.status, &mut head.headers);
    let mut out = Vec::new();
    let mut now_ns = 10 * MS;
    for piece in answer.pieces {
        exchange.data(Bytes::copy_from_slice(piece), now_ns, now_ns + 1000, &mut out);
        now_ns += MS;
    }
    let collected = plan == Plan::Collect && exchange.is_collecting();
    exchange.finish(now_ns, collected.then_some(&mut head), &mut out);
    drop(exchange);
    let after = meter.counters.snapshot();
    let route = Route::of(&Method::POST, target);
    let more =
        |outcome: &Outcome| after.requests(route, *outcome) > before.requests(route, *outcome);
    let outcomes: Vec<_> = Outcome::ALL.into_iter().filter(more).collect();
    assert_eq!((outcomes.len(), after.in_flight()), (1, 0), "each request is counted once");
    Got { request, headers: head.headers, body: out.concat(), outcome: outcomes[0] }
}

/// Takes every member `performance` out of a text, with its comma; gives what is left, and the blocks.
pub(crate) fn without_blocks(text: &[u8]) -> (Vec<u8>, Vec<Value>) {
    const KEY: &[u8] = b"\"performance\":";
    let mut left = text.to_vec();
    let mut blocks = Vec::new();
    while let Some(at) = memchr::memmem::find(&left, KEY) {
        let mut values = serde_json::Deserializer::from_slice(&left[at + KEY.len()..]).into_iter();
        blocks.push(values.next().unwrap().unwrap());
        let end = at + KEY.len() + values.byte_offset();
        let start = at - usize::from(left[..at].ends_with(b","));
        left.drain(start..end);
    }
    (left, blocks)
}

/// Every null of a block has a reason, and every reason a null.
pub(crate) fn check_block(block: &Value) {
    let members = block.as_object().unwrap();
    for (field, value) in members {
        assert_eq!(value.is_null(), block["unavailable"].get(field).is_some(), "{field}: {block}");
    }
    assert!(members.contains_key("ttft_ms") && members.contains_key("outcome"));
}

/// The events of a stream that hold JSON, and `[DONE]` as text.
pub(crate) fn events(stream: &[u8]) -> Vec<Value> {
    let (blocks, unfinished) = crate::twins::sse::decode(stream);
    assert_eq!(unfinished.data, None);
    let data = blocks.into_iter().filter_map(|block| block.data);
    data.map(|data| {
        serde_json::from_slice(&data)
            .unwrap_or_else(|_| Value::String(String::from_utf8(data).unwrap()))
    })
    .collect()
}
