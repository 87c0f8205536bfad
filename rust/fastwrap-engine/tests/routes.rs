//! Fixed routes, refusals and embeddings.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a panic is the report, in helpers too"
)]

mod common;

use common::{chat, exchange, get, post, start, start_flavor};
use fastwrap_engine::{Engine, Flavor, Options};
use serde_json::json;
use tokio::net::TcpStream;

#[tokio::test]
async fn models_are_listed_with_their_owner() {
    for (flavor, owner) in [
        (Flavor::Openai, "openai"),
        (Flavor::Vllm, "vllm"),
        (Flavor::Sglang, "sglang"),
        (Flavor::Tgi, "tiny"),
        (Flavor::Transformers, ""),
        (Flavor::Llamacpp, "llamacpp"),
        (Flavor::Ollama, "library"),
    ] {
        let models = get(start_flavor(flavor).await, "/v1/models").await.json();
        assert_eq!(models["object"], "list");
        assert_eq!(models["data"][0]["id"], "tiny");
        assert_eq!(models["data"][0]["owned_by"], owner, "{flavor}");
    }
}

#[tokio::test]
async fn each_flavor_has_the_routes_it_is_known_by() {
    for (flavor, path, part) in [
        (Flavor::Openai, "/health", "ok"),
        (Flavor::Vllm, "/version", "0.32.0"),
        (Flavor::Sglang, "/ready", ""),
        (Flavor::Sglang, "/model_info", "is_generation"),
        (Flavor::Sglang, "/server_info", "tokenizer_path"),
        (Flavor::Sglang, "/get_server_info", "tokenizer_path"),
        (Flavor::Tgi, "/info", "text-generation-router"),
        (Flavor::Transformers, "/health", "ok"),
        (Flavor::Llamacpp, "/props", "build_info"),
        (Flavor::Ollama, "/", "Ollama is running"),
        (Flavor::Ollama, "/api/version", "0.17.4"),
        (Flavor::Ollama, "/api/tags", "tiny"),
    ] {
        let address = start_flavor(flavor).await;
        let answer = get(address, path).await;
        assert_eq!(answer.status, 200, "{flavor} {path}");
        assert!(answer.body.contains(part), "{flavor} {path}");
        assert_eq!(answer.head.contains("server: llama.cpp"), flavor == Flavor::Llamacpp);
        assert_eq!(get(address, "/health").await.status, 200, "{flavor}");
        assert_eq!(get(address, "/nowhere").await.status, 404, "{flavor}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_json_is_refused() {
    for flavor in Flavor::ALL {
        let address = start_flavor(flavor).await;
        let answer = exchange(address, "POST", "/v1/chat/completions", "{\"messages\": ").await;
        assert_eq!(answer.status, 400, "{flavor}");
        assert!(answer.body.contains("JSON"), "{flavor}");
    }
}

#[tokio::test]
async fn some_refuse_a_model_that_is_not_served() {
    for (flavor, expected) in [
        (
            Flavor::Vllm,
            r#"{"error":{"message":"The model `x` does not exist.","type":"NotFoundError","param":"model","code":404}}"#,
        ),
        (
            Flavor::Ollama,
            r#"{"error":{"message":"model 'x' not found","type":"not_found_error","param":null,"code":null}}"#,
        ),
        (Flavor::Transformers, r#"{"detail":"The model `x` does not exist."}"#),
    ] {
        let answer = chat(start_flavor(flavor).await, json!({"model": "x"})).await;
        assert_eq!((answer.status, answer.body.as_str()), (404, expected));
    }
    for flavor in [Flavor::Openai, Flavor::Sglang, Flavor::Tgi, Flavor::Llamacpp] {
        let answer = chat(start_flavor(flavor).await, json!({"model": "x"})).await;
        assert_eq!((answer.status, &answer.json()["model"]), (200, &json!("x")));
    }
}

#[tokio::test]
async fn vllm_refuses_stream_options_without_a_stream() {
    let members = json!({"stream_options": {"include_usage": true}});
    assert_eq!(chat(start_flavor(Flavor::Vllm).await, members.clone()).await.status, 400);
    assert_eq!(chat(start_flavor(Flavor::Sglang).await, members).await.status, 200);
}

#[tokio::test]
async fn embeddings_are_the_same_for_the_same_text() {
    for flavor in Flavor::ALL {
        let address = start_flavor(flavor).await;
        let request = json!({"model": "tiny", "input": ["a b", "c", "a b"]});
        let answer = post(address, "/v1/embeddings", &request).await.json();
        let vector = |index: usize| answer["data"][index]["embedding"].as_array().unwrap().clone();
        assert_eq!(vector(0), vector(2));
        assert_ne!(vector(0), vector(1));
        assert_eq!((vector(0).len(), &answer["usage"]["prompt_tokens"]), (8, &json!(5)));
        let longer = post(address, "/v1/embeddings", &json!({"input": "a b", "dimensions": 12}))
            .await
            .json();
        assert_eq!(longer["data"][0]["embedding"].as_array().unwrap().len(), 12);
    }
}

#[tokio::test]
async fn the_model_name_is_escaped() {
    let options = Options { model: "a\"b".to_owned(), ..Options::default() };
    let address = start(options).await;
    assert_eq!(chat(address, json!({"model": "a\"b"})).await.json()["model"], "a\"b");
    assert_eq!(get(address, "/v1/models").await.json()["data"][0]["id"], "a\"b");
}

#[tokio::test]
async fn a_shutdown_closes_the_socket() {
    let engine = Engine::bind("127.0.0.1", 0, Options::default()).await.unwrap();
    let address = engine.local_addr();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served = tokio::spawn(engine.serve(async { drop(stopped.await) }));
    assert_eq!(get(address, "/health").await.status, 200);
    stop.send(()).unwrap();
    served.await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}
