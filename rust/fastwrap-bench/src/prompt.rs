//! The request that is sent again and again.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::error::BenchError;
use crate::settings::{Mode, Settings};

/// What a prompt is padded with: words, so that an engine may count tokens.
const PADDING: &[u8] = b"measure ";

/// Writes the body: a chat completion, or a completion if the path says so.
pub(crate) fn body(settings: &Settings, model: &str) -> Result<Bytes, BenchError> {
    let prompt_member = if is_chat(&settings.path) { "messages" } else { "prompt" };
    let own_prompt = settings.members.contains_key(prompt_member);
    if own_prompt && settings.request_bytes.is_some() {
        return Err(BenchError::Settings(format!(
            "the body brings its own {prompt_member}, which cannot be padded to a size"
        )));
    }
    let with_prompt = |prompt: &str| {
        let mut body = json!({"model": model, "temperature": 0, "seed": 0});
        if let Value::Object(members) = &mut body {
            if let Some(limit) = settings.max_tokens {
                members.insert("max_tokens".to_owned(), limit.into());
            }
            if settings.mode == Mode::Sse {
                members.insert("stream".to_owned(), true.into());
            }
            members.extend(settings.members.clone());
            if settings.transit
                && let Value::Object(simulation) =
                    members.entry("fastwrap_sim").or_insert_with(|| json!({}))
            {
                simulation.insert("stamp".to_owned(), true.into());
            }
            // Last, as the long one.
            if !own_prompt {
                let prompt = if is_chat(&settings.path) {
                    json!([{"role": "user", "content": prompt}])
                } else {
                    prompt.into()
                };
                members.insert(prompt_member.to_owned(), prompt);
            }
        }
        body.to_string()
    };
    let question = "Say how to measure a proxy. ";
    let shortest = with_prompt(question).len();
    let padding = match settings.request_bytes {
        None => 0,
        Some(wanted) => wanted.checked_sub(shortest).ok_or_else(|| {
            BenchError::Settings(format!(
                "a request of {wanted} bytes is too short: this one has {shortest} at least"
            ))
        })?,
    };
    let filler = PADDING.iter().cycle().take(padding).map(|byte| char::from(*byte));
    Ok(with_prompt(&question.chars().chain(filler).collect::<String>()).into())
}

fn is_chat(path: &str) -> bool {
    !path.trim_end_matches('/').ends_with("/completions") || path.contains("/chat/")
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use serde_json::Map;

    use super::*;
    use crate::settings::{Check, Load};

    pub(crate) fn settings() -> Settings {
        Settings {
            targets: Vec::new(),
            reference: None,
            mode: Mode::Json,
            load: Load::Closed { concurrency: 1 },
            check: Check::Events,
            path: "/v1/chat/completions".to_owned(),
            model: None,
            max_tokens: None,
            request_bytes: None,
            members: Map::new(),
            transit: false,
            headers: Vec::new(),
            ramp: Duration::ZERO,
            duration: Duration::from_millis(50),
            rounds: 3,
            warmup: 0,
            timeout: Duration::from_secs(10),
            seed: 0,
        }
    }

    #[test]
    fn a_request_is_as_long_as_it_is_asked_to_be() {
        for size in [300, 1024, 1 << 20] {
            let settings = Settings { request_bytes: Some(size), ..settings() };
            assert_eq!(body(&settings, "tiny").unwrap().len(), size);
        }
        let error = body(&Settings { request_bytes: Some(10), ..settings() }, "tiny").unwrap_err();
        assert!(error.to_string().contains("too short"), "{error}");
    }

    #[test]
    fn the_path_and_the_mode_decide_its_form() {
        let parsed = |settings: &Settings| {
            serde_json::from_slice::<Value>(&body(settings, "m").unwrap()).unwrap()
        };
        let with = |members: Value| Settings {
            members: members.as_object().unwrap().clone(),
            ..settings()
        };
        let hot = parsed(&with(json!({"temperature": 1, "top_p": 0.5})));
        assert_eq!((&hot["temperature"], &hot["top_p"]), (&json!(1), &json!(0.5)));
        assert_eq!(hot["messages"][0]["role"], "user");
        let own = with(json!({"messages": [], "fastwrap_sim": {"die_after_chunks": 1}}));
        let own = Settings { transit: true, ..own };
        let sent = parsed(&own);
        assert_eq!(sent["messages"], json!([]));
        assert_eq!(sent["fastwrap_sim"], json!({"die_after_chunks": 1, "stamp": true}));
        let error = body(&Settings { request_bytes: Some(1024), ..own }, "m").unwrap_err();
        assert!(error.to_string().contains("own messages"), "{error}");
        let chat = parsed(&settings());
        assert_eq!(chat["messages"][0]["role"], "user");
        assert_eq!((&chat["stream"], &chat["fastwrap_sim"]), (&Value::Null, &Value::Null));
        let stream = parsed(&Settings {
            mode: Mode::Sse,
            max_tokens: Some(5),
            path: "/v1/completions".to_owned(),
            ..settings()
        });
        assert!(stream["prompt"].is_string());
        assert_eq!((&stream["stream"], &stream["max_tokens"]), (&json!(true), &json!(5)));
    }
}
