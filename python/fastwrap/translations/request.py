"""Reads a chat request, and refuses what cannot be translated: nothing is left out silently."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fastwrap.translations.base import Chat, Message, UntranslatableError

if TYPE_CHECKING:
    from collections.abc import Mapping

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
#: Options with these values ask for nothing that would not be done without them; null asks for nothing anywhere.
_NOTHING_ASKED: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"},),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "modalities": (["text"],),
    "store": (False,),
}


def read_chat(body: bytes, members: Mapping[str, str]) -> Chat:
    """Return the request of a chat completion.

    Args:
        body: As the client sent it.
        members: The options that can be translated, by OpenAI's name.

    Raises:
        UntranslatableError: If it is none, or asks for more than these; carries the member.
    """
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise UntranslatableError("body", "The request's body is no JSON.") from error
    if not isinstance(value, dict):
        raise UntranslatableError("body", "The request's body is no JSON object.")
    asked = {name: one for name, one in value.items() if one is not None}
    model, messages = str(asked.pop("model", "")), asked.pop("messages", None)
    stream, wants_usage = asked.pop("stream", False), _wants_usage(asked.pop("stream_options", {}))
    if not isinstance(stream, bool):
        raise UntranslatableError("stream", "stream must be true or false.")
    return Chat(
        model=model,
        messages=_messages(messages),
        stream=stream,
        include_usage=stream and wants_usage,
        options=_options(asked, members),
    )


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _wants_usage(options: Any) -> bool:
    if not isinstance(options, dict):
        raise UntranslatableError("stream_options", "stream_options must be an object.")
    for name, value in options.items():
        if value and name != "include_usage":
            raise _unsupported(f"stream_options.{name}", ())
    return bool(options.get("include_usage"))


def _options(asked: dict[str, Any], members: Mapping[str, str]) -> dict[str, Any]:
    if (most := asked.pop("max_completion_tokens", None)) is not None:
        asked["max_tokens"] = most
    found = {}
    for name, value in asked.items():
        if name in members:
            found[name] = [value] if name == "stop" and isinstance(value, str) else value
        elif value not in _NOTHING_ASKED.get(name, ()):
            raise _unsupported(name, members)
    return found


def _messages(messages: Any) -> tuple[Message, ...]:
    if not isinstance(messages, list) or not messages:
        raise UntranslatableError("messages", "messages must be a list, and not empty.")
    return tuple(_message(f"messages[{at}]", message) for at, message in enumerate(messages))


def _message(place: str, message: Any) -> Message:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise UntranslatableError(place, f"{place} must be an object with a role.")
    for name, value in message.items():
        if value and name not in ("role", "content"):
            raise _unsupported(f"{place}.{name}", ())
    role = _ROLES.get(message["role"])
    if role is None:
        raise UntranslatableError(
            f"{place}.role",
            f"The engine's own API has no role {message['role'][:40]!r}: there are {', '.join(_ROLES)}.",
        )
    return Message(role, _text(f"{place}.content", message.get("content")))  # type: ignore[arg-type]


def _text(place: str, content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise UntranslatableError(place, f"{place} must be a text, or a list of texts.")
    return "".join(_text_part(f"{place}[{at}]", part) for at, part in enumerate(content))


def _text_part(place: str, part: Any) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(text := part.get("text"), str):
        return text
    raise UntranslatableError(place, f"{place} is no text: the engine's own API takes nothing else.")


def _unsupported(place: str, members: Mapping[str, str] | tuple[()]) -> UntranslatableError:
    there_are = f" Besides model, messages and stream there are: {', '.join(sorted(members))}." if members else ""
    return UntranslatableError(place, f"{place[:80]} is not supported: the engine's own API cannot do it.{there_are}")
