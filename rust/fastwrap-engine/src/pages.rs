//! The fixed answers of an engine: models, health, and the routes by which it is recognised.

use bytes::Bytes;

use crate::answer::unix_seconds;
use crate::failure::json_type;
use crate::flavor::Flavor;
use crate::lexicon::escape;
use crate::options::Options;

/// A context length for the engines that state one.
const CONTEXT: u32 = 32_768;

/// One route that answers `GET` with bytes that never change.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) path: &'static str,
    pub(crate) content_type: Option<&'static str>,
    pub(crate) body: Bytes,
}

/// Return the pages of an engine.
pub(crate) fn pages(options: &Options) -> Vec<Page> {
    let flavor = options.flavor;
    let model = escape(&options.model, flavor.escapes_html());
    let json = |path, body: String| Page {
        path,
        content_type: Some(json_type(flavor)),
        body: body.into(),
    };
    let empty = |path| Page { path, content_type: None, body: Bytes::new() };
    let mut pages = vec![json("/v1/models", models(flavor, &model))];
    match flavor {
        Flavor::Openai => pages.push(json("/health", r#"{"status":"ok"}"#.to_owned())),
        Flavor::Vllm => pages.extend([
            empty("/health"),
            empty("/ping"),
            json("/version", r#"{"version":"0.32.0"}"#.to_owned()),
        ]),
        Flavor::Sglang => {
            let server = format!(
                r#"{{"model_path":"{model}","served_model_name":"{model}","tokenizer_path":"{model}","tp_size":1,"dp_size":1,"status":"ready","version":"0.5.23","internal_states":[]}}"#
            );
            let about = format!(
                r#"{{"model_path":"{model}","served_model_name":"{model}","tokenizer_path":"{model}","is_generation":true,"preferred_sampling_params":null,"weight_version":"default"}}"#
            );
            pages.extend([
                empty("/health"),
                empty("/health_generate"),
                empty("/ready"),
                json("/model_info", about.clone()),
                json("/get_model_info", about),
                json("/server_info", server.clone()),
                json("/get_server_info", server),
            ]);
        }
        Flavor::Tgi => pages.extend([
            empty("/health"),
            empty("/ping"),
            json(
                "/info",
                format!(
                    r#"{{"model_id":"{model}","model_sha":null,"model_pipeline_tag":"text-generation","max_concurrent_requests":128,"max_best_of":2,"max_stop_sequences":4,"max_input_tokens":{},"max_total_tokens":{CONTEXT},"validation_workers":2,"max_client_batch_size":4,"router":"text-generation-router","version":"3.3.7","sha":null,"docker_label":null}}"#,
                    CONTEXT - 1
                ),
            ),
        ]),
        Flavor::Transformers => pages.push(json("/health", r#"{"status":"ok"}"#.to_owned())),
        Flavor::Llamacpp => {
            let health = r#"{"status":"ok"}"#.to_owned();
            pages.extend([
                json("/models", models(flavor, &model)),
                json("/health", health.clone()),
                json("/v1/health", health),
                json(
                    "/props",
                    format!(
                        r#"{{"default_generation_settings":{{"n_ctx":{CONTEXT}}},"total_slots":4,"model_alias":"{model}","model_path":"{model}","modalities":{{"vision":false,"audio":false}},"chat_template":"","bos_token":"<s>","eos_token":"</s>","build_info":"{}","is_sleeping":false}}"#,
                        crate::event::LLAMACPP_BUILD
                    ),
                ),
            ]);
        }
        Flavor::Ollama => pages.extend([
            Page { path: "/", content_type: Some("text/plain; charset=utf-8"), body: "Ollama is running".into() },
            empty("/health"),
            json("/api/version", r#"{"version":"0.17.4"}"#.to_owned()),
            json(
                "/api/tags",
                format!(
                    r#"{{"models":[{{"name":"{model}","model":"{model}","modified_at":"2026-01-01T00:00:00Z","size":1048576,"digest":"{:064x}","details":{{"parent_model":"","format":"gguf","family":"llama","families":["llama"],"parameter_size":"1M","quantization_level":"F16"}}}}]}}"#,
                    0xfa57
                ),
            ),
        ]),
    }
    pages
}

fn models(flavor: Flavor, model: &str) -> String {
    let created = unix_seconds();
    let card = match flavor {
        Flavor::Openai => {
            format!(
                r#"{{"id":"{model}","object":"model","created":{created},"owned_by":"openai"}}"#
            )
        }
        Flavor::Vllm => format!(
            concat!(
                r#"{{"id":"{m}","object":"model","created":{c},"owned_by":"vllm","root":"{m}","parent":null,"#,
                r#""max_model_len":{l},"permission":[{{"id":"modelperm-0000fa57","object":"model_permission","#,
                r#""created":{c},"allow_create_engine":false,"allow_sampling":true,"allow_logprobs":true,"#,
                r#""allow_search_indices":false,"allow_view":true,"allow_fine_tuning":false,"#,
                r#""organization":"*","group":null,"is_blocking":false}}]}}"#
            ),
            m = model,
            c = created,
            l = CONTEXT
        ),
        Flavor::Sglang => format!(
            r#"{{"id":"{model}","object":"model","created":{created},"owned_by":"sglang","root":"{model}","parent":null,"max_model_len":{CONTEXT}}}"#
        ),
        // TGI owns a model under its own name, and created it at the epoch.
        Flavor::Tgi => {
            format!(r#"{{"id":"{model}","object":"model","created":0,"owned_by":"{model}"}}"#)
        }
        Flavor::Transformers => {
            let author = model.split_once('/').map_or("", |(author, _)| author);
            format!(
                r#"{{"owned_by":"{author}","id":"{model}","object":"model","created":{created}}}"#
            )
        }
        Flavor::Llamacpp => {
            return format!(
                concat!(
                    r#"{{"models":[{{"name":"{m}","model":"{m}","modified_at":"","size":"","digest":"","type":"model","#,
                    r#""description":"","tags":[""],"capabilities":["completion"],"parameters":"","details":"#,
                    r#"{{"parent_model":"","format":"gguf","family":"","families":[""],"parameter_size":"","#,
                    r#""quantization_level":""}}}}],"object":"list","data":[{{"id":"{m}","aliases":["{m}"],"tags":[],"#,
                    r#""object":"model","created":{c},"owned_by":"llamacpp","meta":{{"vocab_type":1,"n_vocab":32000,"#,
                    r#""n_ctx_train":{l},"n_embd":64,"n_params":1000000,"size":2000000}}}}]}}"#
                ),
                m = model,
                c = created,
                l = CONTEXT
            );
        }
        Flavor::Ollama => {
            format!(
                r#"{{"id":"{model}","object":"model","created":{created},"owned_by":"library"}}"#
            )
        }
    };
    format!(r#"{{"object":"list","data":[{card}]}}"#)
}
