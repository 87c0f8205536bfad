//! Each flavour's stream, byte for byte.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a panic is the report, in helpers too"
)]

mod common;

use common::{chat, start, start_flavor};
use fastwrap_engine::{Flavor, Options};
use serde_json::{Value, json};

/// The first answer's id has 16 or 32 hexadecimal digits; they and the time are not what is compared here.
fn without_id_and_time(body: &str, objects: &[Value]) -> String {
    let created = objects[0]["created"].to_string();
    let id = objects[0]["id"].as_str().unwrap();
    let body = body.replace(&format!(r#""created":{created}"#), r#""created":1"#);
    if id.is_empty() { body } else { body.replace(id, "ID") }
}

/// The text of the two tokens that seed 0 decides.
const FIRST: &str = " señor";
const SECOND: &str = " Zürich";

async fn two_tokens(flavor: Flavor, members: Value) -> String {
    let address = start_flavor(flavor).await;
    let mut body = json!({"stream": true, "max_tokens": 2});
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    let answer = chat(address, body).await;
    assert_eq!(answer.status, 200);
    assert!(answer.complete);
    assert!(answer.head.contains("content-type: text/event-stream"));
    without_id_and_time(&answer.body, &answer.objects())
}

fn usage() -> Value {
    json!({"stream_options": {"include_usage": true}})
}

#[tokio::test]
async fn vllm_finishes_with_the_last_token() {
    let head = r#"data: {"id":"ID","object":"chat.completion.chunk","created":1,"model":"tiny","choices":["#;
    let common = format!(
        concat!(
            r#"{h}{{"index":0,"delta":{{"role":"assistant","content":""}},"logprobs":null,"finish_reason":null}}],"prompt_token_ids":null,"prompt_text":null}}"#,
            "\n\n",
            r#"{h}{{"index":0,"delta":{{"content":"{a}"}},"logprobs":null,"finish_reason":null,"token_ids":null}}]}}"#,
            "\n\n",
            r#"{h}{{"index":0,"delta":{{"content":"{b}"}},"logprobs":null,"finish_reason":"length","stop_reason":null,"token_ids":null}}]"#,
        ),
        h = head,
        a = FIRST,
        b = SECOND
    );
    let fingerprint = r#","system_fingerprint":"vllm-0.32.0-0000fa57"}"#;
    let plain = two_tokens(Flavor::Vllm, json!({})).await;
    assert_eq!(plain, format!("{common}{fingerprint}\n\ndata: [DONE]\n\n"));
    let with_usage = two_tokens(Flavor::Vllm, usage()).await;
    let counts = r#"],"usage":{"prompt_tokens":3,"total_tokens":5,"completion_tokens":2}"#;
    assert_eq!(
        with_usage,
        format!("{common}}}\n\n{head}{counts}{fingerprint}\n\ndata: [DONE]\n\n")
    );
}

#[tokio::test]
async fn sglang_keeps_reasoning_content_beside_the_role() {
    let head = r#"data: {"id":"ID","object":"chat.completion.chunk","created":1,"model":"tiny","choices":["#;
    let chunk = |delta: &str, finish: &str| {
        format!(
            r#"{head}{{"index":0,"delta":{{"reasoning_content":null{delta}}},"logprobs":null,"finish_reason":{finish},"matched_stop":null}}]}}"#
        ) + "\n\n"
    };
    let expected = chunk(r#","role":"assistant","content":"""#, "null")
        + &chunk(&format!(r#","content":"{FIRST}""#), "null")
        + &chunk(&format!(r#","content":"{SECOND}""#), "null")
        + &chunk("", r#""length""#);
    let plain = two_tokens(Flavor::Sglang, json!({})).await;
    assert_eq!(plain, format!("{expected}data: [DONE]\n\n"));
    let with_usage = two_tokens(Flavor::Sglang, usage()).await;
    let counts = concat!(
        r#"],"usage":{"prompt_tokens":3,"total_tokens":5,"completion_tokens":2,"prompt_tokens_details":null,"#,
        r#""reasoning_tokens":0,"completion_tokens_details":null}}"#
    );
    assert_eq!(with_usage, format!("{expected}{head}{counts}\n\ndata: [DONE]\n\n"));
}

#[tokio::test]
async fn tgi_puts_no_space_after_data() {
    let head = r#"data:{"object":"chat.completion.chunk","id":"","created":1,"model":"tiny","system_fingerprint":"3.3.7-native","choices":["#;
    let chunk = |text: &str, finish: &str| {
        format!(
            r#"{head}{{"index":0,"delta":{{"role":"assistant","content":"{text}"}},"logprobs":null,"finish_reason":{finish}}}],"usage":null}}"#
        ) + "\n\n"
    };
    let counts = r#"],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#;
    let expected = chunk(FIRST, "null")
        + &chunk(SECOND, r#""length""#)
        + head
        + counts
        + "\n\ndata:[DONE]\n\n";
    assert_eq!(two_tokens(Flavor::Tgi, usage()).await, expected);
}

#[tokio::test]
async fn transformers_drops_nulls_and_sends_no_done() {
    let chunk = |choice: &str, usage: &str| {
        format!(
            r#"data: {{"id":"ID","choices":[{{{choice},"index":0}}],"created":1,"model":"tiny","object":"chat.completion.chunk"{usage}}}"#
        ) + "\n\n"
    };
    let expected = chunk(r#""delta":{"role":"assistant"}"#, "")
        + &chunk(&format!(r#""delta":{{"content":"{FIRST}"}}"#), "")
        + &chunk(&format!(r#""delta":{{"content":"{SECOND}"}}"#), "")
        + &chunk(
            r#""delta":{},"finish_reason":"length""#,
            r#","usage":{"completion_tokens":2,"prompt_tokens":3,"total_tokens":5}"#,
        );
    assert_eq!(two_tokens(Flavor::Transformers, json!({})).await, expected);
}

#[tokio::test]
async fn llamacpp_moves_timings_to_the_usage_event() {
    let plain = two_tokens(Flavor::Llamacpp, json!({})).await;
    let with_usage = two_tokens(Flavor::Llamacpp, usage()).await;
    let tail = r#""created":1,"id":"ID","model":"tiny","system_fingerprint":"b11434-0000fa57","object":"chat.completion.chunk""#;
    let role = format!(
        r#"data: {{"choices":[{{"finish_reason":null,"index":0,"delta":{{"role":"assistant","content":null}}}}],{tail}}}"#
    );
    let finish = format!(
        r#"data: {{"choices":[{{"finish_reason":"length","index":0,"delta":{{}}}}],{tail}"#
    );
    let counts = r#""usage":{"completion_tokens":2,"prompt_tokens":3,"total_tokens":5}"#;
    assert!(plain.starts_with(&(role.clone() + "\n\n")) && with_usage.starts_with(&role));
    assert!(
        plain.contains(&(finish.clone() + r#","timings":{"cache_n":0,"prompt_n":3,"#)),
        "{plain}"
    );
    assert!(
        with_usage.contains(&format!(
            "{finish}}}\n\ndata: {{\"choices\":[],{tail},{counts},\"timings\":{{"
        ))
    );
    assert!(plain.ends_with("}}\n\ndata: [DONE]\n\n") && !plain.contains("usage"));
}

#[tokio::test]
async fn ollama_repeats_the_role_and_escapes_html() {
    let head = r#"data: {"id":"ID","object":"chat.completion.chunk","created":1,"model":"tiny","system_fingerprint":"fp_ollama","choices":["#;
    let chunk = |text: &str, finish: &str| {
        format!(
            r#"{head}{{"index":0,"delta":{{"role":"assistant","content":"{text}"}},"finish_reason":{finish}}}]}}"#
        ) + "\n\n"
    };
    let expected = chunk(FIRST, "null")
        + &chunk(SECOND, "null")
        + &chunk("", r#""length""#)
        + "data: [DONE]\n\n";
    assert_eq!(two_tokens(Flavor::Ollama, json!({})).await, expected);

    let options = Options { flavor: Flavor::Ollama, tokens: 300, ..Options::default() };
    let body = chat(start(options).await, json!({"stream": true})).await.body;
    assert!(body.contains("\\u003cb\\u003e") && body.contains("\\u0026"));
    assert!(!body.contains(['<', '>', '&']));
}

#[tokio::test]
async fn openai_has_a_role_event_and_a_finish_event() {
    let body = two_tokens(Flavor::Openai, usage()).await;
    let events: Vec<_> = body.split_terminator("\n\n").collect();
    assert_eq!(events.len(), 6);
    assert!(events[0].contains(r#""delta":{"role":"assistant","content":"","refusal":null}"#));
    assert!(events[3].ends_with(
        r#"{"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}],"usage":null}"#
    ));
    assert!(events[4].contains(
        r#""choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"#
    ));
    assert_eq!(events[5], "data: [DONE]");
}
