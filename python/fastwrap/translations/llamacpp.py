"""llama.cpp's ``/completion``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from fastwrap.translations.base import Part, Translation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastwrap.translations.base import Ask


class LlamaCpp(Translation):
    """Its model's own template makes the prompt, where it has ``/apply-template`` (since December 2024)."""

    members: ClassVar = {
        "max_tokens": "n_predict",
        "temperature": "temperature",
        "top_p": "top_p",
        "top_k": "top_k",
        "min_p": "min_p",
        "stop": "stop",
        "seed": "seed",
        "frequency_penalty": "frequency_penalty",
        "presence_penalty": "presence_penalty",
    }

    async def prompt(self, ask: Ask) -> str:
        """Ask the engine."""
        messages = [{"role": message.role, "content": message.text} for message in self.chat.messages]
        found = await ask("/apply-template", {"messages": messages})
        if isinstance(found, dict) and isinstance(text := found.get("prompt"), str):
            return text
        return await super().prompt(ask)

    def request(self, prompt: str) -> tuple[str, Mapping[str, Any]]:
        """``/completion``, a stream or not."""
        return "/completion", {"prompt": prompt, "stream": self.chat.stream, **self.named_options}

    def answer(self, value: Any) -> Part:
        """Answers and events are alike; the last event has ``stop``."""
        if not value["stop"]:
            return Part(text=value["content"])
        is_cut = value.get("stopped_limit") or value.get("stop_type") == "limit"  # before and since December 2024
        timings = value.get("timings") or {}
        return Part(
            text=value["content"],
            finish_reason="length" if is_cut else "stop",
            prompt_tokens=value.get("tokens_evaluated"),
            completion_tokens=value.get("tokens_predicted"),
            cached_tokens=timings.get("cache_n"),
            engine={"timings": timings} if timings else {},
        )


TRANSLATION = LlamaCpp
