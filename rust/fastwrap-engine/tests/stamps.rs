//! Events that say when they were sent.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a panic is the report, in helpers too"
)]

mod common;

use std::time::Duration;

use common::{chat, start, start_flavor};
use fastwrap_clock::now_ns;
use fastwrap_engine::{Flavor, Options};
use serde_json::{Value, json};

fn stamped() -> Value {
    json!({"stream": true, "stream_options": {"include_usage": true}, "fastwrap_sim": {"stamp": true}})
}

fn stamps(objects: &[Value]) -> Vec<u64> {
    objects.iter().map(|object| object["sent_ns"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn every_event_of_every_engine_says_when_it_was_sent() {
    for flavor in Flavor::ALL {
        let address = start_flavor(flavor).await;
        let before_ns = now_ns();
        let answer = chat(address, stamped()).await;
        let mut times = stamps(&answer.objects());
        times.insert(0, before_ns);
        times.push(now_ns());
        assert!(times.is_sorted(), "{flavor}: {times:?}");
        let plain = chat(address, json!({"stream": true})).await;
        assert!(!plain.body.contains("sent_ns"), "{flavor}");
    }
}

#[tokio::test]
async fn a_paced_event_is_stamped_when_it_goes_not_when_it_is_planned() {
    let (ttft, itl) = (Duration::from_millis(20), Duration::from_millis(5));
    let options = Options { flavor: Flavor::Ollama, ttft, itl, tokens: 4, ..Options::default() };
    let address = start(options).await;
    let before_ns = now_ns();
    let answer = chat(address, stamped()).await;
    for (stamp, token) in stamps(&answer.objects()).iter().zip(0..4) {
        let due = ttft + itl * token;
        assert!(Duration::from_nanos(stamp - before_ns) >= due, "{token}");
    }
}

#[tokio::test]
async fn a_fault_may_be_asked_for_beside_stamps() {
    let address = start_flavor(Flavor::Vllm).await;
    let asked = json!({"stamp": true, "die_after_chunks": 2});
    let answer = chat(address, json!({"stream": true, "fastwrap_sim": asked})).await;
    assert!(!answer.complete);
    assert_eq!(stamps(&answer.objects()).len(), 2);
}
