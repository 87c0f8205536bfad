"""What a translation says of its engine's API."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from fastwrap.errors import FastwrapError

#: Posts JSON to a path of the engine's and returns the JSON of its answer; None if that is no 200.
Ask = Callable[[str, Mapping[str, Any]], Awaitable[Any]]
FinishReason = Literal["stop", "length"]


class UntranslatableError(FastwrapError):
    """The request asks for what the engine's API has no words for.

    Attributes:
        member: Which member of the request it is.
    """

    def __init__(self, member: str, message: str) -> None:
        super().__init__(message)
        self.member = member


class AnsweredError(FastwrapError):
    """The engine's answer tells of an error.

    Attributes:
        kind: What the engine calls it.
    """

    def __init__(self, message: str, kind: str = "engine_error") -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Message:
    """One message: text only."""

    role: Literal["system", "user", "assistant"]
    text: str


@dataclass(frozen=True, kw_only=True)
class Chat:
    """A request for a chat completion that can be translated.

    Attributes:
        model: As the client names it.
        messages: At least one.
        stream: A stream is wanted.
        include_usage: Its usage, too, in a chunk of its own.
        options: What else the client asks for, under OpenAI's names: those of :attr:`Translation.members` only, none of
            them null. ``stop`` is a list, and ``max_completion_tokens`` is called ``max_tokens``.
    """

    model: str
    messages: tuple[Message, ...]
    stream: bool = False
    include_usage: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Part:
    """What an answer, or one event of a stream, tells.

    Attributes:
        text: What is new; empty for none.
        finish_reason: Why the answer ended here; None if it has not ended.
        prompt_tokens: How many, where it has ended; None if the engine does not say. So are the others.
        completion_tokens: How many were generated.
        cached_tokens: How many of the prompt's were in the engine's cache.
        engine: Members with the engine's own numbers, passed on as they are.
    """

    text: str = ""
    finish_reason: FinishReason | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    engine: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what an engine may have put in these places.

        Raises:
            TypeError: If the text is none, or a count.
        """
        counts = (self.prompt_tokens, self.completion_tokens, self.cached_tokens)
        if not isinstance(self.text, str) or not all(isinstance(count, (int, type(None))) for count in counts):
            raise TypeError("an answer's text is no string, or a count no number")


class Translation(ABC):
    """One request's way to the engine's own API and back; an engine's is a subclass.

    Whatever :meth:`answer` and :meth:`event` raise of ``LookupError``, ``TypeError``, ``ValueError`` and
    ``AttributeError`` means that the engine's answer is not what its API promises: the client is told of an error.

    Args:
        chat: What the client asks for.
    """

    #: The options that it translates, by OpenAI's name, and the engine's name for each.
    members: ClassVar[Mapping[str, str]] = {}

    def __init__(self, chat: Chat) -> None:
        self.chat = chat

    async def prompt(self, _ask: Ask) -> str:
        """Return the messages as one prompt: a line or more each, with who speaks before it."""
        lines = [f"{message.role.capitalize()}: {message.text}\n" for message in self.chat.messages]
        return "".join(lines) + "Assistant:"

    @abstractmethod
    def request(self, prompt: str) -> tuple[str, Mapping[str, Any]]:
        """Return the path and the body of the engine's request."""

    @abstractmethod
    def answer(self, value: Any) -> Part:
        """Read a whole answer, parsed."""

    def event(self, value: Any) -> Part:
        """Read one event of a stream, parsed."""
        return self.answer(value)

    @property
    def named_options(self) -> dict[str, Any]:
        """The options under the engine's names."""
        return {self.members[name]: value for name, value in self.chat.options.items()}
