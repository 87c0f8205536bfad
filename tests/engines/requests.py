"""What the engines are asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engines.processes import Site
    from engines.wire import Json

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
MESSAGES = "/v1/messages"
RESPONSES = "/v1/responses"

#: Enough for a time per token, and the random model does not end by itself before.
TOKENS = 24
#: For a pace that can be compared with the engine's own; the fastest needs more of them to take as long.
MANY = {"llamacpp": 2000, "vllm": 400}
LIMITS: Json = {"temperature": 0, "seed": 1, "max_tokens": TOKENS}
USER: list[Json] = [{"role": "user", "content": "hello world"}]
TOOL: Json = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Rome", "Oslo"]}},
            "required": ["city"],
        },
    },
}
FORCED: Json = {"type": "function", "function": {"name": "get_weather"}}
#: More than any engine generates before the test is over; the context of vLLM and SGLang has 1024.
ENDLESS = {"llamacpp": 10_000_000, "ollama": 10_000}


def chat(site: Site, **members: Any) -> Json:
    return {"model": site.model, "messages": USER, **LIMITS, **members}


def completions(site: Site, **members: Any) -> Json:
    return {"model": site.model, "prompt": "hello world", **LIMITS, **members}


def tools(site: Site, **members: Any) -> Json:
    return chat(site, tools=[TOOL], **members)


def typed(site: Site, path: str) -> Json:
    if path == MESSAGES:
        return {"model": site.model, "messages": USER, "temperature": 0, "max_tokens": TOKENS, "stream": False}
    return {"model": site.model, "input": "hello world", "temperature": 0, "max_output_tokens": TOKENS, "stream": False}


def endless(site: Site) -> Json:
    members: Json = {"ignore_eos": True} if site.kind.running else {}
    if site.kind.name == "vllm":  # 1000 tokens take it a second or two; of these it serves 8 at a time
        members |= {"n": 32, "temperature": 1}
    return chat(site, stream=True, max_tokens=ENDLESS.get(site.kind.name, 1000), **members)
