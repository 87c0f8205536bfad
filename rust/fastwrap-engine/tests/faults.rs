//! Faults that a request asks for, and the schedule.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a panic is the report, in helpers too"
)]

mod common;

use std::time::{Duration, Instant};

use common::{chat, connect, start, start_flavor};
use fastwrap_engine::{Flavor, Options};
use serde_json::json;
use tokio::io::AsyncReadExt;

#[tokio::test]
async fn a_dead_engine_closes_the_connection_after_whole_events() {
    for flavor in Flavor::ALL {
        let address = start_flavor(flavor).await;
        for count in [0, 1, 3] {
            let faults = json!({"die_after_chunks": count});
            let answer = chat(address, json!({"stream": true, "fastwrap_sim": faults})).await;
            assert!(!answer.complete, "{flavor}");
            assert_eq!(answer.objects().len(), count, "{flavor}");
            assert!(count == 0 || answer.body.ends_with("\n\n"));
        }
    }
}

#[tokio::test]
async fn a_dead_engine_may_die_inside_an_event() {
    for flavor in Flavor::ALL {
        let address = start_flavor(flavor).await;
        let faults = json!({"die_after_chunks": 2, "die_in_event": true});
        let answer = chat(address, json!({"stream": true, "fastwrap_sim": faults})).await;
        assert!(!answer.complete);
        assert_eq!(answer.body.matches("\n\n").count(), 2);
        assert!(!answer.body.ends_with('\n') && answer.body.contains("\n\ndata:"));
    }
}

#[tokio::test]
async fn an_answer_that_is_not_streamed_is_cut_in_its_middle() {
    let address = start_flavor(Flavor::Vllm).await;
    let answer = chat(address, json!({"fastwrap_sim": {"die_after_chunks": 1}})).await;
    assert!(!answer.complete && answer.body.starts_with("{\"id\""));
}

#[tokio::test]
async fn an_error_ends_the_stream_as_each_engine_ends_it() {
    for flavor in Flavor::ALL {
        let address = start_flavor(flavor).await;
        let faults = json!({"error_after_chunks": 2});
        let answer = chat(address, json!({"stream": true, "fastwrap_sim": faults})).await;
        let events = answer.events();
        let done = matches!(flavor, Flavor::Vllm | Flavor::Sglang | Flavor::Tgi);
        assert!(answer.complete, "{flavor}");
        assert_eq!(events.len(), if done { 4 } else { 3 }, "{flavor}");
        assert!(events[2].starts_with("{\"error\":"), "{flavor}: {}", events[2]);
        assert_eq!(events.last() == Some(&"[DONE]"), done);
    }
}

#[tokio::test]
async fn a_status_is_answered_at_once() {
    for flavor in Flavor::ALL {
        let slow = Options { flavor, ttft: Duration::from_secs(3600), ..Options::default() };
        let answer =
            chat(start(slow).await, json!({"stream": true, "fastwrap_sim": {"status": 503}})).await;
        assert_eq!(answer.status, 503);
        assert!(answer.body.contains("simulated failure"));
    }
}

#[tokio::test]
async fn a_stalled_engine_is_silent_after_its_events() {
    let address = start_flavor(Flavor::Llamacpp).await;
    let body = json!({"messages": [], "stream": true, "fastwrap_sim": {"stall_after_chunks": 2}})
        .to_string();
    let mut stream = connect(address, "POST", "/v1/chat/completions", &body).await;
    let mut text = Vec::new();
    while text.windows(2).filter(|window| window == b"\n\n").count() < 2 {
        assert_ne!(stream.read_buf(&mut text).await.unwrap(), 0);
    }
    let more = tokio::time::timeout(Duration::from_millis(20), stream.read_buf(&mut text)).await;
    assert!(more.is_err(), "{more:?}");
}

#[tokio::test]
async fn events_keep_to_the_schedule() {
    let (ttft, itl) = (Duration::from_millis(20), Duration::from_millis(10));
    for flavor in Flavor::ALL {
        let address = start(Options { flavor, ttft, itl, tokens: 4, ..Options::default() }).await;
        let before = Instant::now();
        let streamed = chat(address, json!({"stream": true})).await;
        assert!(before.elapsed() >= ttft + itl * 3, "{flavor}");
        // Each event is an HTTP chunk of its own.
        let pings = usize::from(flavor == Flavor::Tgi);
        assert_eq!(streamed.chunks.len(), streamed.events().len() + pings, "{flavor}");
        assert_eq!(streamed.body.starts_with(":\n\n"), flavor == Flavor::Tgi);
        let before = Instant::now();
        chat(address, json!({})).await;
        assert!(before.elapsed() >= ttft + itl * 3, "{flavor}");
    }
}

#[tokio::test]
async fn without_pacing_events_share_an_http_chunk() {
    let answer = chat(start_flavor(Flavor::Vllm).await, json!({"stream": true})).await;
    assert_eq!(answer.chunks.len(), 1);
    assert_eq!(answer.events().len(), 18);
}

#[tokio::test]
async fn transformers_sends_the_role_before_it_generates() {
    let slow = Options {
        flavor: Flavor::Transformers,
        ttft: Duration::from_secs(3600),
        ..Options::default()
    };
    let address = start(slow).await;
    let body = json!({"messages": [], "stream": true}).to_string();
    let mut stream = connect(address, "POST", "/v1/chat/completions", &body).await;
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains(r#"{"role":"assistant"}"#) {
        assert_ne!(stream.read_buf(&mut text).await.unwrap(), 0);
    }
}
