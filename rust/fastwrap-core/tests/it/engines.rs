//! One stream of each engine as its own wire format has it, with usage asked for where the engine offers it.

use fastwrap_core::profile::Profile;

/// An engine's habits and a stream of it.
pub(crate) struct Engine {
    pub(crate) name: &'static str,
    pub(crate) profile: Profile,
    pub(crate) stream: &'static str,
}

fn profile(name: &str) -> Profile {
    let mut profile = Profile { backend: name.into(), ..Profile::default() };
    match name {
        "llamacpp" => {
            profile.usage_per_choice = true;
            profile.engine_members = vec!["timings".to_owned()];
        }
        "ollama" => profile.usage_in_chunks = true,
        "transformers" => (profile.stream_usage, profile.done) = (false, false),
        _ => {}
    }
    profile
}

/// The profile that the adapter of this name hands over; `vllm-tools` is vLLM, recorded with other options.
pub(crate) fn profile_of(folder: &str) -> Profile {
    profile(folder.split('-').next().unwrap_or(folder))
}

/// Every engine.
pub(crate) fn engines() -> Vec<Engine> {
    STREAMS.iter().map(|(name, stream)| Engine { name, profile: profile(name), stream }).collect()
}

const STREAMS: [(&str, &str); 8] = [
    ("vllm", VLLM),
    ("sglang", SGLANG),
    ("tgi", TGI),
    ("transformers", TRANSFORMERS),
    ("llamacpp", LLAMACPP),
    ("ollama", OLLAMA),
    ("lmdeploy", LMDEPLOY),
    ("tensorrt", TENSORRT),
];

const VLLM: &str = r#"data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}

: keep-alive

data: {"id":"c","choices":[{"index":0,"delta":{"reasoning":"hm"},"finish_reason":null}]}

data: {"id":"c","choices":[{"index":0,"delta":{"content":"é中😀"},"finish_reason":null}]}

data: {"id":"c","choices":[{"index":0,"delta":{"content":" x"},"finish_reason":"stop","stop_reason":null}]}

data: {"id":"c","choices":[],"usage":{"prompt_tokens":5,"total_tokens":9,"completion_tokens":4},"system_fingerprint":"vllm-0.32.0"}

data: [DONE]

"#;

const SGLANG: &str = r#"data: {"id":"s","choices":[{"index":0,"delta":{"reasoning_content":null,"role":"assistant","content":""},"finish_reason":null,"matched_stop":null}]}

event: sglext_ids
data: {"ids":[1]}

data: {"id":"s","choices":[{"index":0,"delta":{"reasoning_content":null,"content":"ab cd"},"finish_reason":null}]}

data: {"id":"s","choices":[{"index":0,"delta":{"reasoning_content":null},"finish_reason":"length","matched_stop":null}]}

data: {"id":"s","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"prompt_tokens_details":null,"reasoning_tokens":0}}

data: [DONE]

"#;

const TGI: &str = r#"data:{"id":"","choices":[{"index":0,"delta":{"role":"assistant","content":"a"},"finish_reason":null}]}

:

data:{"id":"","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":"eos_token"}]}

data:{"id":"","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}

data:[DONE]

"#;

const TRANSFORMERS: &str = r#"data: {"id":"r","choices":[{"delta":{"role":"assistant"},"index":0}]}

data: {"id":"r","choices":[{"delta":{"content":"a"},"index":0}]}

data: {"id":"r","choices":[{"delta":{},"index":0,"finish_reason":"stop"}],"usage":{"completion_tokens":2,"prompt_tokens":5,"total_tokens":7}}

"#;

const LLAMACPP: &str = r#"data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],"id":"l"}

data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"ab"}}],"id":"l"}

data: {"choices":[{"finish_reason":"stop","index":0,"delta":{}}],"id":"l"}

data: {"choices":[],"id":"l","usage":{"completion_tokens":5,"prompt_tokens":5},"timings":{"prompt_ms":0.3}}

data: {"choices":[{"finish_reason":null,"index":1,"delta":{"content":"cd"}}],"id":"l"}

data: {"choices":[{"finish_reason":"stop","index":1,"delta":{}}],"id":"l"}

data: {"choices":[],"id":"l","usage":{"completion_tokens":4,"prompt_tokens":5},"timings":{"prompt_ms":0.4}}

data: [DONE]

"#;

const OLLAMA: &str = r#"data: {"id":"o","choices":[{"index":0,"delta":{"role":"assistant","content":"\u003ca\u003e"},"finish_reason":null}],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}

data: {"id":"o","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":"stop"}],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}

data: {"id":"o","choices":[],"usage":{"prompt_tokens":52,"completion_tokens":2,"total_tokens":54}}

data: [DONE]

"#;

const LMDEPLOY: &str = r#"data: {"id": "1", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "\u4e2d"}, "finish_reason": null}], "usage": null}

data: {"id": "1", "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}], "usage": null}

data: {"id": "1", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}

data: [DONE]

"#;

const TENSORRT: &str = "data: {\"id\":\"t\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\"}}]} \n\n\
data: {\"id\":\"t\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"}}]}\n\n\
data: {\"id\":\"t\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\n\
data: {\"id\":\"t\",\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}\n\n\
data: [DONE]\n\n";
