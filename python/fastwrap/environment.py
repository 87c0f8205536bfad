"""An engine with fastwrap before it, for as long as a ``with`` block lasts.

with InferenceEnv(engine=["vllm", "serve", "Qwen/Qwen3-0.6B"]) as env:
    answer = env.chat("Hello")
    print(answer.text, answer.performance.ttft_ms)
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastwrap.client import MeasuredStream, Performance
from fastwrap.errors import FastwrapError, SettingsError
from fastwrap.service import Service

if TYPE_CHECKING:
    from types import ModuleType, TracebackType

    from openai import AsyncOpenAI, OpenAI

Messages = Sequence[Mapping[str, Any]]
#: An openai client insists on a key; an engine that wants one gets the caller's.
_NO_KEY = "-"


class ClientError(FastwrapError):
    """The answer cannot be had, or has no block."""


@dataclass(frozen=True)
class Chat:
    """An answer.

    Attributes:
        text: All of its content.
        performance: What it cost.
    """

    text: str
    performance: Performance


class InferenceEnv:
    """Starts an engine behind fastwrap, or attaches fastwrap to a running one, and ends what it started.

    It is a context manager, sync and async. However the block ends, by an exception, Ctrl-C or the end of the
    interpreter, nothing that it started is left.

    Args:
        engine: The command that starts the engine, as behind ``fastwrap run --``.
        upstream: The address of a running engine; or of the one that ``engine`` starts, if its command does not tell.
        start_timeout: Seconds for the engine to get ready; a model may take minutes to load.
        api_key: For engines that want one.
        settings: Any options of ``fastwrap run`` or ``serve``, as ``server="native"``; ``plugin`` may be a list.

    Raises:
        SettingsError: If there is neither engine nor upstream.
    """

    def __init__(
        self,
        engine: Sequence[str] = (),
        *,
        upstream: str = "",
        start_timeout: float = 600.0,
        api_key: str = _NO_KEY,
        **settings: object,
    ) -> None:
        if not engine and not upstream:
            raise SettingsError("upstream", "name the engine: engine=[...], its command, or upstream='http://...'")
        self._arguments = _arguments(engine, {"port": 0, **({"upstream": upstream} if upstream else {}), **settings})
        self._start_timeout = start_timeout
        self._api_key = api_key
        self._service: Service | None = None
        self._records: list[Performance] = []
        self._model = ""
        self._client: OpenAI | None = None
        self._async_client: AsyncOpenAI | None = None

    def __enter__(self) -> InferenceEnv:  # noqa: PYI034 (typing.Self is Python 3.11's)
        self._service = Service(self._arguments)
        try:
            self._service.wait_until_ready(self._start_timeout)
        except BaseException:
            self._service.stop()
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            self._client.close()
        if self._service is not None:
            self._service.stop()
        self._client = self._service = None

    async def __aenter__(self) -> InferenceEnv:  # noqa: PYI034
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._async_client is not None:
            await self._async_client.close()
        self._async_client = None
        await asyncio.to_thread(self.__exit__, kind, error, trace)

    @property
    def base_url(self) -> str:
        """Where OpenAI clients ask, ``http://127.0.0.1:PORT/v1``.

        Raises:
            ClientError: Outside the block.
        """
        if self._service is None:
            raise ClientError("there is no engine yet: use it in a with block")
        return f"{self._service.url}/v1"

    def openai(self) -> OpenAI:
        """Return the client of this engine; it is closed when the block ends.

        Raises:
            ClientError: If openai is not installed.
        """
        if self._client is None:
            self._client = _openai().OpenAI(base_url=self.base_url, api_key=self._api_key)
        return self._client

    def async_openai(self) -> AsyncOpenAI:
        """Return the async client of this engine; it is closed when the block, an async one, ends.

        Raises:
            ClientError: If openai is not installed.
        """
        if self._async_client is None:
            self._async_client = _openai().AsyncOpenAI(base_url=self.base_url, api_key=self._api_key)
        return self._async_client

    def chat(self, messages: str | Messages, *, model: str = "", **parameters: Any) -> Chat:
        """Ask, and wait for the whole answer; it is streamed, for only a stream has a time to first token.

        Args:
            messages: What the user says; or a list of messages.
            model: Its name; else that of the first chat, else the first that the engine lists.
            parameters: Any others of ``chat.completions.create``.

        Raises:
            ClientError: If openai is not installed, or the answer has no block, as under ``enrich="none"``.
            openai.OpenAIError: If the engine answers with an error.
        """
        client = self.openai()
        self._model = self._model or model or client.models.list().data[0].id
        stream = MeasuredStream(client.chat.completions.create(**_body(messages, model or self._model, parameters)))
        return self._chat("".join(map(_text, stream)), stream)

    async def achat(self, messages: str | Messages, *, model: str = "", **parameters: Any) -> Chat:
        """The same as :meth:`chat`, in a coroutine."""
        client = self.async_openai()
        self._model = self._model or model or (await client.models.list()).data[0].id
        body = _body(messages, model or self._model, parameters)
        stream = MeasuredStream(await client.chat.completions.create(**body))
        return self._chat("".join([_text(chunk) async for chunk in stream]), stream)

    def _chat(self, text: str, stream: MeasuredStream[Any]) -> Chat:
        if stream.performance is None:
            raise ClientError("the answer has no performance block: enrich must name body or usage")
        self._records.append(stream.performance)
        return Chat(text, stream.performance)

    def records(self) -> list[Performance]:
        """Return what all chats so far have cost, in the order of their ends."""
        return list(self._records)


class InferenceServerWrapper(InferenceEnv):
    """fastwrap before an engine that the caller brings.

    Args:
        url: The engine's.
        settings: As of :class:`InferenceEnv`.
    """

    def __init__(self, url: str, **settings: Any) -> None:
        super().__init__(upstream=url, **settings)


def _arguments(engine: Sequence[str], settings: Mapping[str, object]) -> list[str]:
    """The command line, less the program's name."""
    options = []
    for name, value in settings.items():
        option = "--" + name.replace("_", "-")
        if value is True:
            options.append(option)
        elif value is not False:
            values = value if isinstance(value, (list, tuple)) else [value]
            options += [f"{option}={one}" for one in values]
    return ["run", *options, "--", *engine] if engine else ["serve", *options]


def _body(messages: str | Messages, model: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    said = [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
    return {**parameters, "model": model, "messages": said, "stream": True}


def _text(chunk: Any) -> str:
    """The content of a chunk's first choice; empty if it has none."""
    return (chunk.choices[0].delta.content or "") if chunk.choices else ""


def _openai() -> ModuleType:
    try:
        import openai  # noqa: PLC0415 (optional)
    except ImportError as error:
        raise ClientError("openai is needed for this: pip install 'fastwrap[client]'") from error
    return openai
