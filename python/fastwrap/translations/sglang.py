"""SGLang's ``/generate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from fastwrap.translations.base import AnsweredError, Part, Translation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastwrap.translations.base import Chat


class Sglang(Translation):
    """Every event of its streams has the whole text so far."""

    members: ClassVar = {
        "max_tokens": "max_new_tokens",
        "temperature": "temperature",
        "top_p": "top_p",
        "top_k": "top_k",
        "min_p": "min_p",
        "stop": "stop",
        "seed": "sampling_seed",
        "frequency_penalty": "frequency_penalty",
        "presence_penalty": "presence_penalty",
    }

    def __init__(self, chat: Chat) -> None:
        super().__init__(chat)
        self._told = ""

    def request(self, prompt: str) -> tuple[str, Mapping[str, Any]]:
        """``/generate``, a stream or not."""
        return "/generate", {"text": prompt, "stream": self.chat.stream, "sampling_params": self.named_options}

    def answer(self, value: Any) -> Part:
        """Tell what is new in the text."""
        meta, whole = value["meta_info"], value["text"]
        reason = meta["finish_reason"]
        if reason and reason["type"] == "abort":
            raise AnsweredError(str(reason.get("message")), "abort")
        if not whole.startswith(self._told):
            raise ValueError("a stream of new texts only: leave --incremental-streaming-output away")
        text = whole[len(self._told) :]
        self._told = whole
        if not reason:
            return Part(text=text)
        return Part(
            text=text,
            finish_reason="length" if reason["type"] == "length" else "stop",
            prompt_tokens=meta["prompt_tokens"],
            completion_tokens=meta["completion_tokens"],
            cached_tokens=meta.get("cached_tokens"),
            engine={"meta_info": meta},
        )


TRANSLATION = Sglang
