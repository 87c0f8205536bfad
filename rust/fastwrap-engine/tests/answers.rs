//! What is true of the answers of every flavour.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a panic is the report, in helpers too"
)]

mod common;

use common::{chat, post, start, start_flavor};
use fastwrap_engine::{Flavor, Options};
use serde_json::{Value, json};

/// Concatenate a member of the deltas of one choice.
fn joined(objects: &[Value], choice: u64, member: &str) -> String {
    let choices = objects.iter().flat_map(|event| event["choices"].as_array().unwrap());
    choices
        .filter(|of| of["index"] == choice)
        .filter_map(|of| of["delta"][member].as_str())
        .collect()
}

fn usages(objects: &[Value]) -> Vec<&Value> {
    objects.iter().map(|event| &event["usage"]).filter(|usage| !usage.is_null()).collect()
}

#[tokio::test]
async fn streamed_text_equals_the_whole_text() {
    for flavor in Flavor::ALL {
        for tokens_per_chunk in [1, 3, 100] {
            let options =
                Options { flavor, tokens: 200, tokens_per_chunk, seed: 5, ..Options::default() };
            let address = start(options).await;
            let whole = chat(address, json!({})).await;
            let streamed = chat(address, json!({"stream": true})).await;
            let text =
                whole.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
            assert!(
                text.contains('"') && text.contains('<') && text.contains('\u{65e5}'),
                "{text}"
            );
            assert_eq!(joined(&streamed.objects(), 0, "content"), text, "{flavor}");
            assert_eq!(whole.json()["usage"]["completion_tokens"], 200);
            assert_eq!(whole.json()["usage"]["prompt_tokens"], 3);
            assert_eq!(whole.json()["choices"][0]["finish_reason"], "stop");
        }
    }
}

#[tokio::test]
async fn completions_stream_the_same_text_too() {
    for flavor in Flavor::ALL {
        let address = start_flavor(flavor).await;
        let request = |stream| json!({"model": "tiny", "prompt": "one two", "stream": stream});
        let whole = post(address, "/v1/completions", &request(false)).await.json();
        let streamed = post(address, "/v1/completions", &request(true)).await.objects();
        let choices = streamed.iter().flat_map(|event| event["choices"].as_array().unwrap());
        let text: String = choices.map(|choice| choice["text"].as_str().unwrap()).collect();
        assert_eq!(whole["choices"][0]["text"], text, "{flavor}");
        assert_eq!(whole["usage"]["total_tokens"], 18, "{flavor}");
        assert_eq!(streamed[0]["object"], "text_completion");
    }
}

#[tokio::test]
async fn usage_is_sent_where_each_engine_sends_it() {
    for flavor in Flavor::ALL {
        let address = start_flavor(flavor).await;
        let asked =
            chat(address, json!({"stream": true, "stream_options": {"include_usage": true}}))
                .await
                .objects();
        let unasked = chat(address, json!({"stream": true})).await.objects();
        let always = flavor == Flavor::Transformers;
        assert_eq!(usages(&unasked).len(), usize::from(always), "{flavor}");
        assert_eq!(usages(&asked).len(), 1, "{flavor}");
        assert_eq!(usages(&asked)[0]["completion_tokens"], 16);
        assert_eq!(asked.last().unwrap()["choices"].as_array().unwrap().is_empty(), !always);
    }
}

#[tokio::test]
async fn two_choices_are_interleaved() {
    for flavor in Flavor::ALL {
        let address = start_flavor(flavor).await;
        let include = json!({"stream": true, "n": 2, "stream_options": {"include_usage": true}});
        let whole = chat(address, json!({"n": 2})).await.json();
        let events = chat(address, include).await.objects();
        let choices = whole["choices"].as_array().unwrap();
        let single = matches!(flavor, Flavor::Ollama | Flavor::Tgi | Flavor::Transformers);
        assert_eq!(choices.len(), if single { 1 } else { 2 }, "{flavor}");
        for choice in choices {
            let index = choice["index"].as_u64().unwrap();
            assert_eq!(
                joined(&events, index, "content"),
                choice["message"]["content"].as_str().unwrap()
            );
        }
        let order: Vec<_> =
            events.iter().filter_map(|event| event["choices"][0]["index"].as_u64()).collect();
        if !single {
            assert_ne!(choices[0]["message"], choices[1]["message"]);
            assert!(order.windows(4).any(|window| window == [0, 1, 0, 1]), "{flavor}: {order:?}");
        }
        if flavor == Flavor::Llamacpp {
            let counts: Vec<_> =
                usages(&events).into_iter().map(|usage| &usage["completion_tokens"]).collect();
            assert_eq!(counts, [16, 16]);
            assert!(events.last().unwrap()["usage"].is_object());
        } else {
            let last = usages(&events).pop().unwrap();
            assert_eq!(last["completion_tokens"], 16 * choices.len(), "{flavor}");
        }
    }
}

#[tokio::test]
async fn continuous_usage_counts_each_choice() {
    for flavor in [Flavor::Vllm, Flavor::Sglang] {
        let address = start_flavor(flavor).await;
        let options = json!({"include_usage": true, "continuous_usage_stats": true});
        let events =
            chat(address, json!({"stream": true, "max_tokens": 3, "stream_options": options}))
                .await
                .objects();
        let counts: Vec<_> = usages(&events)
            .iter()
            .map(|usage| usage["completion_tokens"].as_u64().unwrap())
            .collect();
        assert!(
            counts.starts_with(&[0, 1, 2, 3]) && counts.ends_with(&[3]),
            "{flavor}: {counts:?}"
        );
    }
}

#[tokio::test]
async fn a_tool_call_is_answered_with_arguments() {
    let tools = json!([{"type": "function", "function": {"name": "weather", "parameters": {}}}]);
    for flavor in Flavor::ALL {
        let address = start_flavor(flavor).await;
        let whole = chat(address, json!({"tools": tools})).await.json();
        let call = &whole["choices"][0]["message"]["tool_calls"][0];
        assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls", "{flavor}");
        assert_eq!(call["function"]["name"], "weather");
        let arguments = call["function"]["arguments"].as_str().unwrap();
        assert_eq!(serde_json::from_str::<Value>(arguments).unwrap(), json!({"location": "Paris"}));

        let events = chat(address, json!({"tools": tools, "stream": true})).await.objects();
        let deltas: Vec<_> = events
            .iter()
            .map(|event| &event["choices"][0]["delta"]["tool_calls"][0])
            .filter(|call| !call.is_null())
            .collect();
        let pieces: String =
            deltas.iter().filter_map(|call| call["function"]["arguments"].as_str()).collect();
        assert_eq!(pieces, arguments, "{flavor}");
        assert_eq!(deltas[0]["function"]["name"], "weather");
        let whole_call = matches!(flavor, Flavor::Ollama | Flavor::Transformers);
        assert_eq!(deltas.len(), if whole_call { 1 } else { 6 }, "{flavor}");
        assert!(events.iter().any(|event| event["choices"][0]["finish_reason"] == "tool_calls"));

        let refused = chat(address, json!({"tools": tools, "tool_choice": "none"})).await.json();
        assert!(refused["choices"][0]["message"]["tool_calls"].is_null());
    }
}

#[tokio::test]
async fn reasoning_comes_first_in_the_flavors_own_field() {
    for flavor in Flavor::ALL {
        let address = start(Options { flavor, tokens_per_chunk: 5, ..Options::default() }).await;
        let field = match flavor {
            Flavor::Vllm | Flavor::Ollama => "reasoning",
            Flavor::Sglang | Flavor::Transformers | Flavor::Llamacpp => "reasoning_content",
            Flavor::Openai | Flavor::Tgi => continue,
        };
        let whole = chat(address, json!({"reasoning_effort": "low"})).await.json();
        let plain = chat(address, json!({"reasoning_effort": "none"})).await.json();
        let events =
            chat(address, json!({"reasoning_effort": "low", "stream": true})).await.objects();
        let message = &whole["choices"][0]["message"];
        assert_eq!(joined(&events, 0, field), message[field].as_str().unwrap(), "{flavor}");
        assert_eq!(joined(&events, 0, "content"), message["content"].as_str().unwrap(), "{flavor}");
        let both =
            format!("{}{}", message[field].as_str().unwrap(), message["content"].as_str().unwrap());
        assert_eq!(plain["choices"][0]["message"]["content"], both);
        assert!(plain["choices"][0]["message"][field].is_null());
        assert_eq!(whole["usage"]["completion_tokens"], 16);
    }
}
