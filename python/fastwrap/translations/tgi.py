"""TGI's ``/generate`` and ``/generate_stream``: all that it has before 1.4."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from fastwrap.translations.base import Part, Translation

if TYPE_CHECKING:
    from collections.abc import Mapping


class Tgi(Translation):
    """It takes no temperature of 0 and no ``top_p`` of 1: both are what it does without them."""

    members: ClassVar = {
        "max_tokens": "max_new_tokens",
        "temperature": "temperature",
        "top_p": "top_p",
        "top_k": "top_k",
        "stop": "stop",
        "seed": "seed",
    }

    def request(self, prompt: str) -> tuple[str, Mapping[str, Any]]:
        """Details are asked for: they have the counts, and why the answer ended."""
        named = self.named_options
        samples = named.get("temperature") != 0
        if not samples:
            del named["temperature"]
        if named.get("top_p") == 1:
            del named["top_p"]
        parameters = {"details": True, "do_sample": samples, "return_full_text": False, **named}
        path = "/generate_stream" if self.chat.stream else "/generate"
        return path, {"inputs": prompt, "parameters": parameters}

    def answer(self, value: Any) -> Part:
        """A whole answer."""
        return self._ended(value["generated_text"], value["details"])

    def event(self, value: Any) -> Part:
        """A token each; a special one's text, the end's, is not the answer's."""
        token = value["token"]
        text = "" if token.get("special") else token["text"]
        return Part(text=text) if value.get("generated_text") is None else self._ended(text, value["details"])

    def _ended(self, text: str, details: Any) -> Part:
        # `input_length` since 2.2; before, only who asks for all of the prompt's log probabilities learns it.
        return Part(
            text=text,
            finish_reason="length" if details["finish_reason"] == "length" else "stop",
            prompt_tokens=details.get("input_length"),
            completion_tokens=details["generated_tokens"],
        )


TRANSLATION = Tgi
