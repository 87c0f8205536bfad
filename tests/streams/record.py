"""Record what a running inference engine answers, byte for byte, as test fixtures.

Usage: python record.py BASE_URL MODEL OUT_DIR [CASE ...]

For each case below: one POST, and the response body as it was sent (transfer coding removed, nothing else) in
OUT_DIR/<case>.sse, .ndjson or .json, named by the response's content type (.txt: any other).
OUT_DIR/cases.json: for each case the request, the status, the response headers (without `date`) and the name of the
body's file. OUT_DIR/routes.json: what a fixed list of GETs answers, to tell engines apart.
With CASE arguments only these cases are recorded anew (`routes` is one). Standard library only.
"""

import http.client
import json
import sys
import urllib.parse
from pathlib import Path
from typing import Any

Json = dict[str, Any]

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
LIMITS: Json = {"temperature": 0, "max_tokens": 8, "seed": 1}
TWO: Json = {"n": 2, "temperature": 1}  # vLLM refuses n > 1 at temperature 0
USER: list[Json] = [{"role": "user", "content": "hello world"}]
PROMPT = "<|user|>hello world<|assistant|>"  # what the chat template of the tiny model makes
USAGE: Json = {"include_usage": True}
CONTINUOUS: Json = {"include_usage": True, "continuous_usage_stats": True}
TOOL: Json = {
    "name": "get_weather",
    "description": "Weather of a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Rome", "Oslo"]}},
        "required": ["city"],
    },
}
FORCED: Json = {"type": "function", "function": {"name": "get_weather"}}

ROUTES = [
    "/",
    "/health",
    "/ready",
    "/version",
    "/v1/models",
    "/info",
    "/props",
    "/slots",
    "/api/version",
    "/api/tags",
    "/model_info",
    "/get_model_info",
    "/server_info",
    "/get_server_info",
    "/load",
    "/load_model",
    "/ping",
    "/metrics",
    "/openapi.json",
]


def chat(**members: Any) -> tuple[str, Json]:
    return CHAT, {"messages": USER, **LIMITS, **members}


def completions(**members: Any) -> tuple[str, Json]:
    return COMPLETIONS, {"prompt": PROMPT, **LIMITS, **members}


def tools(**members: Any) -> tuple[str, Json]:
    return CHAT, {
        "messages": USER,
        **LIMITS,
        "max_tokens": 64,
        "tools": [{"type": "function", "function": TOOL}],
        **members,
    }


def responses(**members: Any) -> tuple[str, Json]:
    return "/v1/responses", {"input": "hello world", "temperature": 0, "max_output_tokens": 8, **members}


def messages(**members: Any) -> tuple[str, Json]:
    return "/v1/messages", {"messages": USER, "temperature": 0, "max_tokens": 8, **members}


# Each case: path and JSON body (`model` is put in front). A string body is sent as it stands.
CASES: dict[str, tuple[str, Json | str]] = {
    "chat": chat(),
    "chat-n2": chat(**TWO),
    "chat-stream": chat(stream=True),
    "chat-stream-usage": chat(stream=True, stream_options=USAGE),
    "chat-stream-usage-false": chat(stream=True, stream_options={"include_usage": False}),
    "chat-stream-options-empty": chat(stream=True, stream_options={}),
    "chat-stream-options-null": chat(stream=True, stream_options=None),
    "chat-stream-options-unknown": chat(stream=True, stream_options={"include_usage": True, "unknown": 1}),
    "chat-stream-continuous": chat(stream=True, stream_options=CONTINUOUS),
    "chat-stream-continuous-only": chat(stream=True, stream_options={"continuous_usage_stats": True}),
    "chat-stream-n2": chat(stream=True, **TWO),
    "chat-stream-n2-usage": chat(stream=True, **TWO, stream_options=USAGE),
    "chat-stream-n2-continuous": chat(stream=True, **TWO, stream_options=CONTINUOUS),
    "chat-stream-1-token": chat(stream=True, max_tokens=1),
    "chat-stream-1-token-usage": chat(stream=True, max_tokens=1, stream_options=USAGE),
    "chat-stream-long-usage": chat(stream=True, max_tokens=64, temperature=1, stream_options=USAGE),
    "chat-stream-logprobs": chat(stream=True, logprobs=True, top_logprobs=1),
    "chat-options-without-stream": chat(stream_options=USAGE),
    "completions": completions(),
    "completions-n2": completions(**TWO),
    "completions-stream": completions(stream=True),
    "completions-stream-usage": completions(stream=True, stream_options=USAGE),
    "completions-stream-continuous": completions(stream=True, stream_options=CONTINUOUS),
    "completions-stream-n2": completions(stream=True, **TWO),
    "completions-stream-n2-usage": completions(stream=True, **TWO, stream_options=USAGE),
    "completions-stream-echo": completions(stream=True, echo=True),
    "completions-stream-2-prompts-usage": completions(stream=True, prompt=[PROMPT, "hello"], stream_options=USAGE),
    "responses": responses(),
    "responses-stream-false": responses(stream=False),  # transformers streams unless told not to
    "responses-stream": responses(stream=True),
    "responses-stream-options": responses(stream=True, stream_options=USAGE),
    "responses-bad-model": responses(model="no-such-model"),
    "messages": messages(),
    "messages-stream": messages(stream=True),
    "messages-bad-model": messages(model="no-such-model"),
    "tools": tools(),
    "tools-stream": tools(stream=True),
    "tools-forced": tools(tool_choice=FORCED),
    "tools-forced-stream": tools(tool_choice=FORCED, stream=True),
    "tools-forced-stream-usage": tools(tool_choice=FORCED, stream=True, stream_options=USAGE),
    "error-model": chat(model="no-such-model"),
    "error-model-stream": chat(model="no-such-model", stream=True),
    "error-json": (CHAT, '{"model": '),
    "error-no-messages": (CHAT, {"stream": True}),
    "error-bad-member": chat(stream=True, temperature="warm"),
    "error-too-long-stream": chat(stream=True, messages=[{"role": "user", "content": "hello world " * 3000}]),
    "error-path": ("/v1/no/such/path", {}),
    # the request body itself in chunked transfer coding
    "chunked-request-chat": chat(),
    "chunked-request-chat-stream-usage": chat(stream=True, stream_options=USAGE),
    # the engines' own APIs
    "native-sglang-generate": (
        "/generate",
        {"text": "hello", "sampling_params": {"temperature": 0, "max_new_tokens": 8}},
    ),
    "native-sglang-generate-stream": (
        "/generate",
        {"text": "hello", "sampling_params": {"temperature": 0, "max_new_tokens": 8}, "stream": True},
    ),
    "native-llamacpp-completion": ("/completion", {"prompt": "hello", "n_predict": 8, "temperature": 0}),
    "native-llamacpp-completion-stream": (
        "/completion",
        {"prompt": "hello", "n_predict": 8, "temperature": 0, "stream": True},
    ),
    "native-llamacpp-chat-stream-timings": chat(stream=True, timings_per_token=True, return_progress=True),
    "native-ollama-chat": (
        "/api/chat",
        {"messages": USER, "options": {"temperature": 0, "num_predict": 8}, "stream": False},
    ),
    "native-ollama-chat-stream": ("/api/chat", {"messages": USER, "options": {"temperature": 0, "num_predict": 8}}),
    "native-ollama-generate": (
        "/api/generate",
        {"prompt": "hello", "options": {"temperature": 0, "num_predict": 8}, "stream": False},
    ),
    "native-ollama-generate-stream": (
        "/api/generate",
        {"prompt": "hello", "options": {"temperature": 0, "num_predict": 8}},
    ),
    "native-ollama-error-model": ("/api/chat", {"model": "no-such-model", "messages": USER}),
}

SUFFIXES = {"text/event-stream": ".sse", "application/json": ".json", "application/x-ndjson": ".ndjson"}


def exchange(
    base: str, method: str, path: str, body: bytes | None, *, chunked: bool = False
) -> tuple[int, list[tuple[str, str]], bytes]:
    url = urllib.parse.urlsplit(base)
    connection = http.client.HTTPConnection(url.hostname or "127.0.0.1", url.port or 80, timeout=120)
    headers = {"content-type": "application/json", "accept": "*/*"} if body is not None else {"accept": "*/*"}
    try:
        if chunked and body is not None:
            headers["transfer-encoding"] = "chunked"
            half = len(body) // 2
            connection.request(
                method, path, body=iter([body[:half], body[half:]]), headers=headers, encode_chunked=True
            )
        else:
            connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        try:
            content = response.read()
        except http.client.IncompleteRead as error:
            sys.stderr.write(f"  {path}: the body was cut off\n")
            content = error.partial
        return response.status, [(k.lower(), v) for k, v in response.getheaders() if k.lower() != "date"], content
    finally:
        connection.close()


def record_case(base: str, model: str, out: Path, name: str) -> Json:
    path, request = CASES[name]
    body = request if isinstance(request, str) else json.dumps({"model": model, **request})
    status, headers, content = exchange(base, "POST", path, body.encode(), chunked=name.startswith("chunked-request"))
    kind = dict(headers).get("content-type", "").split(";")[0].strip()
    for old in [*SUFFIXES.values(), ".txt"]:
        (out / f"{name}{old}").unlink(missing_ok=True)
    file = f"{name}{SUFFIXES.get(kind, '.txt')}"
    (out / file).write_bytes(content)
    sys.stdout.write(f"{status} {len(content):6} {file}\n")
    return {
        "path": path,
        "request": body,
        "status": status,
        "headers": [list(header) for header in headers],
        "file": file,
    }


def record_routes(base: str) -> Json:
    routes: Json = {}
    for path in ROUTES:
        status, headers, content = exchange(base, "GET", path, None)
        text = content.decode(errors="replace")
        routes[f"GET {path}"] = {"status": status, "headers": dict(headers), "body": text[:500]}
        if path == "/openapi.json" and status == 200:  # long: what tells engines apart
            schema = json.loads(content)
            info = {name: schema.get("info", {}).get(name) for name in ("title", "version")}
            routes[f"GET {path}"].update(body=json.dumps({"info": info}), paths=sorted(schema.get("paths", {})))
        if path == "/metrics" and status == 200:  # the body may begin with Python's own families: name the engine's
            families = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")]
            routes[f"GET {path}"]["families"] = [
                name for name in families if not name.startswith(("python_", "process_"))
            ][:8]
    return routes


def main() -> None:
    base, model, out = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    only = sys.argv[4:]
    for name in only:
        if name not in CASES and name != "routes":
            sys.exit(f"no such case: {name}")
    out.mkdir(parents=True, exist_ok=True)
    index = out / "cases.json"
    cases: Json = json.loads(index.read_text()) if only and index.exists() else {}
    engine = out.name.split("-")[0]
    for name in only or CASES:
        if name == "routes" or (not only and name.startswith("native-") and name.split("-")[1] != engine):
            continue
        cases[name] = record_case(base, model, out, name)
    index.write_text(json.dumps({name: cases[name] for name in CASES if name in cases}, indent=1) + "\n")
    if not only or "routes" in only:
        (out / "routes.json").write_text(json.dumps(record_routes(base), indent=1) + "\n")


if __name__ == "__main__":
    main()
