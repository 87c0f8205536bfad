use super::*;

fn choices(data: &str) -> Reading {
    read(Dialect::Choices, data.as_bytes()).unwrap()
}

/// The sorts of text in an event, as initials; of choices `n`, it names how many have each.
fn texts(reading: &Reading) -> String {
    [("a", reading.answer), ("r", reading.reasoning), ("t", reading.tool_call)]
        .iter()
        .filter(|(_, set)| !set.is_empty())
        .map(
            |(name, set)| {
                if set.len() > 1 { format!("{name}{}", set.len()) } else { (*name).to_owned() }
            },
        )
        .collect()
}

fn delta(delta: &str) -> String {
    texts(&choices(&format!(
        r#"{{"id":"x","choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}"#
    )))
}

#[test]
fn text_of_each_engine_is_told_by_its_sort() {
    for (text, sorts) in [
        // vLLM, OpenAI
        (r#"{"content":"a"}"#, "a"),
        (r#"{"reasoning":"a"}"#, "r"),
        (r#"{"role":"assistant","content":""}"#, ""),
        (r#"{"refusal":"a"}"#, "a"),
        // SGLang, LMDeploy, transformers
        (r#"{"reasoning_content":null,"role":"assistant","content":""}"#, ""),
        (r#"{"reasoning_content":"a"}"#, "r"),
        (r#"{"reasoning_content":"a","content":"b"}"#, "ar"),
        // llama.cpp
        (r#"{"role":"assistant","content":null}"#, ""),
        // Ollama
        (r#"{"role":"assistant","content":"\u003c"}"#, "a"),
        (r#"{"role":"assistant","content":"","reasoning":"x"}"#, "r"),
        (r#"{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":""}}]}"#, "t"),
        (r#"{"tool_calls":[{"index":0,"function":{"arguments":"{"}}]}"#, "t"),
        (r#"{"tool_calls":[{"index":0,"function":{"arguments":""}}]}"#, ""),
        (r#"{"tool_calls":[{"index":0,"id":"c","type":"function"}]}"#, ""),
        (r#"{"tool_calls":[]}"#, ""),
        (r#"{"tool_calls":null}"#, ""),
        (r#"{"function_call":{"name":"f"}}"#, "t"),
        (r#"{"content":[{"type":"text","text":"a"}]}"#, "a"),
        (r#"{"content":[{"type":"text","text":""}]}"#, ""),
        (r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"a"}]}]}"#, "a"),
        (r#"{"content":["",null,"a"]}"#, "a"),
        (r#"{"content":[]}"#, ""),
        (r#"{"content":{"text":"a"}}"#, ""),
        ("{}", ""),
        ("null", ""),
    ] {
        assert_eq!(delta(text), sorts, "{text}");
    }
}

#[test]
fn completions_and_whole_answers_have_text_too() {
    assert_eq!(
        texts(&choices(r#"{"choices":[{"index":0,"text":"a","finish_reason":null}]}"#)),
        "a"
    );
    assert_eq!(texts(&choices(r#"{"choices":[{"text":""}]}"#)), "");
    assert_eq!(
        texts(&choices(r#"{"choices":[{"message":{"content":"a","reasoning":"b"}}]}"#)),
        "ar"
    );
}

#[test]
fn choices_are_told_apart() {
    let reading = choices(
        r#"{"choices":[{"index":0,"delta":{"content":"a"}},{"index":2,"delta":{"content":"b"},"finish_reason":"stop"},
            {"index":1,"delta":{"reasoning":"c"}}]}"#,
    );
    assert_eq!((texts(&reading).as_str(), reading.choices.len()), ("a2r", 3));
    assert_eq!(reading.finished.len(), 1);
    let many: Vec<_> = (0..200).map(|index| format!(r#"{{"index":{index}}}"#)).collect();
    assert_eq!(choices(&format!(r#"{{"choices":[{}]}}"#, many.join(","))).choices.len(), 64);
}

#[test]
fn a_choice_finishes_with_a_reason() {
    let finished = |reason: &str| {
        let data =
            format!(r#"{{"choices":[{{"index":0,"delta":{{}},"finish_reason":{reason}}}]}}"#);
        !choices(&data).finished.is_empty()
    };
    assert!(finished("\"stop\"") && finished("\"length\""));
    assert!(!finished("null") && !finished("\"\""));
}

#[test]
fn usage_stands_alone_or_beside_a_choice() {
    let alone =
        choices(r#"{"id":"","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":8}}"#);
    assert!(alone.is_usage_only() && alone.has_choices);
    assert_eq!(alone.usage.map(|usage| (usage.prompt, usage.completion)), Some((Some(5), Some(8))));
    let beside = choices(r#"{"choices":[{"index":0}],"usage":{"completion_tokens":8}}"#);
    assert!(!beside.is_usage_only() && beside.usage.is_some());
    assert!(!choices(r#"{"choices":[],"usage":null}"#).is_usage_only());
    assert!(
        !choices(r#"{"usage":{"prompt_tokens":5}}"#).is_usage_only(),
        "embeddings have no choices"
    );
}

#[test]
fn errors_have_many_forms() {
    let error = |data: &str| choices(data).error;
    for (data, wanted) in [
        (
            r#"{"error":{"message":"m","type":"BadRequestError","param":null,"code":400}}"#,
            Some("BadRequestError"),
        ),
        (r#"{"error":{"code":"context_length"}}"#, Some("context_length")),
        (r#"{"error":{"type":null,"code":503}}"#, Some("503")),
        (r#"{"error":{"message":"m","http_status_code":424}}"#, Some("424")),
        (r#"{"error":{"code":500,"type":"server\u005ferror"}}"#, Some("server_error")),
        (r#"{"error":{"type":"","code":{"x":1}}}"#, Some("")),
        (r#"{"error":"no such model"}"#, Some("")),
        (r#"{"object":"error","message":"m","type":"NotFound","code":404}"#, Some("NotFound")),
        (r#"{"type":"NotFound","code":404,"object":"error"}"#, Some("NotFound")),
        (r#"{"type":"NotFound","object":"chat.completion.chunk"}"#, None),
        (r#"{"error":null,"choices":[]}"#, None),
        (r#"{"object":"chat.completion.chunk"}"#, None),
        (r#"{"choices":[{"delta":{"content":"{\"error\":1}"}}]}"#, None),
    ] {
        assert_eq!(error(data).as_deref(), wanted, "{data}");
    }
    let long = error(&format!(r#"{{"error":{{"type":"{}"}}}}"#, "é".repeat(999))).unwrap();
    assert_eq!(long.chars().count(), 64);
}

#[test]
fn what_is_no_object_cannot_be_read() {
    for data in
        ["", "[]", "[DONE]", "{", "{}{}", "null", r#"{"choices":[1]}"#, r#"{"error": "a "b" c"}"#]
    {
        assert!(read(Dialect::Choices, data.as_bytes()).is_err(), "{data}");
    }
}

#[test]
fn responses() {
    let read = |data: &str| read(Dialect::Responses, data.as_bytes()).unwrap();
    for (name, sorts) in [
        ("response.output_text.delta", "a"),
        ("response.refusal.delta", "a"),
        ("response.reasoning_text.delta", "r"),
        ("response.reasoning_summary_text.delta", "r"),
        ("response.function_call_arguments.delta", "t"),
        ("response.mcp_call_arguments.delta", "t"),
        ("response.output_text.done", ""),
    ] {
        assert_eq!(texts(&read(&format!(r#"{{"type":"{name}","delta":"x"}}"#))), sorts, "{name}");
        assert_eq!(texts(&read(&format!(r#"{{"delta":"x","type":"{name}"}}"#))), sorts, "{name}");
        assert_eq!(texts(&read(&format!(r#"{{"type":"{name}","delta":""}}"#))), "", "{name}");
    }
    let created = read(
        r#"{"type":"response.created","response":{"type":"error","error":null,"usage":null}}"#,
    );
    assert_eq!(created, Reading::default());
    let completed = read(
        r#"{"type":"response.completed","response":{"status":"completed","usage":{"input_tokens":3,"output_tokens":5,
            "output_tokens_details":{"reasoning_tokens":2}}}}"#,
    );
    assert!(completed.last && completed.error.is_none());
    let usage = completed.usage.unwrap();
    assert_eq!((usage.prompt, usage.completion, usage.reasoning), (Some(3), Some(5), Some(2)));
    assert!(read(r#"{"type":"response.incomplete"}"#).last);
    let failed = read(r#"{"type":"response.failed","response":{"error":{"code":"server_error"}}}"#);
    assert_eq!(failed.error.as_deref(), Some("server_error"));
    let flat = read(r#"{"type":"error","code":"x","message":"m"}"#);
    assert_eq!(flat.error.as_deref(), Some("x"));
}

#[test]
fn messages() {
    let read = |data: &str| read(Dialect::Messages, data.as_bytes()).unwrap();
    let start = read(
        r#"{"type":"message_start","message":{"type":"message","content":[],"usage":{"input_tokens":9,"output_tokens":1}}}"#,
    );
    assert_eq!(start.usage.map(|usage| usage.prompt), Some(Some(9)));
    assert!(!start.has_text() && !start.last);
    for (event, sorts) in [
        (
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}"#,
            "a",
        ),
        (r#"{"type":"content_block_delta","delta":{"type":"thinking_delta","thinking":"a"}}"#, "r"),
        (
            r#"{"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"{"}}"#,
            "t",
        ),
        (
            r#"{"type":"content_block_delta","delta":{"type":"signature_delta","signature":"a"}}"#,
            "",
        ),
        (r#"{"type":"content_block_start","content_block":{"type":"text","text":""}}"#, ""),
        (
            r#"{"type":"content_block_start","content_block":{"type":"tool_use","id":"i","name":"f","input":{}}}"#,
            "t",
        ),
        (r#"{"type":"ping"}"#, ""),
        (
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":7}}"#,
            "",
        ),
    ] {
        assert_eq!(texts(&read(event)), sorts, "{event}");
    }
    assert!(read(r#"{"type":"message_stop"}"#).last);
    let error = read(r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#);
    assert_eq!(error.error.as_deref(), Some("overloaded_error"));
    let answer = read(
        r#"{"type":"message","content":[{"type":"text","text":"a"}],"usage":{"input_tokens":1,"output_tokens":2}}"#,
    );
    assert_eq!(answer.usage.map(|usage| usage.completion), Some(Some(2)));
    assert!(answer.error.is_none());
}

#[test]
fn engines_own_apis() {
    let read = |data: &str| read(Dialect::Generate, data.as_bytes()).unwrap();
    let counts = |reading: &Reading| {
        reading.usage.map(|usage| (usage.prompt.unwrap_or(0), usage.completion.unwrap_or(0)))
    };
    for (data, text, finished, tokens) in [
        (
            r#"{"text":"","output_ids":[1],"meta_info":{"finish_reason":null,"prompt_tokens":2,"completion_tokens":1}}"#,
            "",
            false,
            Some((2, 1)),
        ),
        (
            r#"{"text":"é","meta_info":{"finish_reason":{"type":"length"},"prompt_tokens":2,"completion_tokens":3}}"#,
            "answer",
            true,
            Some((2, 3)),
        ),
        (
            r#"{"index":4,"token":{"id":1,"text":"a","special":false},"generated_text":null,"details":null}"#,
            "answer",
            false,
            Some((0, 4)),
        ),
        (
            r#"{"index":5,"token":{"id":2,"text":"</s>","special":true},"generated_text":"aa","details":{"generated_tokens":5,"input_length":7}}"#,
            "",
            true,
            Some((7, 5)),
        ),
        (
            r#"{"index":0,"content":"n","tokens":[85],"stop":false,"tokens_predicted":2,"tokens_evaluated":3}"#,
            "answer",
            false,
            Some((3, 2)),
        ),
        (
            r#"{"index":0,"content":"","stop":true,"tokens_predicted":8,"tokens_evaluated":2}"#,
            "",
            true,
            Some((2, 8)),
        ),
        (r#"{"message":{"role":"assistant","content":"a"},"done":false}"#, "answer", false, None),
        (
            r#"{"message":{"role":"assistant","content":"","thinking":"hm"},"done":false}"#,
            "reasoning",
            false,
            None,
        ),
        (
            r#"{"message":{"content":"","tool_calls":[{"function":{"name":"f","arguments":{}}}]},"done":false}"#,
            "tool_call",
            false,
            None,
        ),
        (r#"{"response":"a","done":false}"#, "answer", false, None),
        (
            r#"{"response":"","done":true,"prompt_eval_count":51,"eval_count":8}"#,
            "",
            true,
            Some((51, 8)),
        ),
    ] {
        let reading = read(data);
        let texts = [
            (reading.answer, "answer"),
            (reading.reasoning, "reasoning"),
            (reading.tool_call, "tool_call"),
        ];
        let found: Vec<_> =
            texts.iter().filter(|(set, _)| !set.is_empty()).map(|(_, name)| *name).collect();
        assert_eq!(found.concat(), text, "{data}");
        assert_eq!((!reading.finished.is_empty(), counts(&reading)), (finished, tokens), "{data}");
        assert_eq!(reading.last, data.contains(r#""done":true"#), "{data}");
        assert!(
            reading.has_choices && reading.choices.len() == 1 && reading.error.is_none(),
            "{data}"
        );
    }
    assert_eq!(read(r#"{"index":1,"text":"a","meta_info":{}}"#).answer.last(), Some(1));
    assert_eq!(
        read(r#"{"error":"out of memory","error_type":"generation"}"#).error.unwrap(),
        "generation"
    );
    assert_eq!(read(r#"{"error":"model not found"}"#).error.unwrap(), "");
    assert_eq!(read(r#"{"error":{"message":"m","type":"t"}}"#).error.unwrap(), "t");
    for data in [r#"{"meta_info":1,"details":[],"token":"x","message":null,"index":"x"}"#, "{}"] {
        assert_eq!(counts(&read(data)), None, "{data}");
    }
}
