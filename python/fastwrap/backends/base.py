"""What an adapter says of its engine."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastwrap._native import Meter
    from fastwrap.upstream import Reply

#: Asks the engine for a path; raises EngineError if it cannot be asked, or is still loading.
Ask = Callable[[str], Awaitable["Reply"]]


@dataclass(frozen=True, kw_only=True)
class JsonForm:
    """The form of an engine's JSON answers, for those that are made of its streams (``--measure-json-as-stream``).

    A template is an answer whose values say what stands there. None: what the stream tells, or null; null too for a
    text that stayed empty beside another that did not. ``""``: the same, but a text that the stream does not tell is
    empty. A dictionary: the object that the stream tells, its members in this order; null if it tells none. Any other:
    that, whatever the stream tells. What the stream tells beside stands behind.

    Attributes:
        chat: The template of chat completions.
        completions: The template of completions.
        end: What stands behind the object.
        fingerprint: What the engine's ``system_fingerprint`` begins with: other versions may have other members.
        parted_by: The member of ``usage`` that tells that a stream's texts may be parted otherwise than those of JSON.
    """

    chat: Mapping[str, Any]
    completions: Mapping[str, Any]
    end: str = ""
    fingerprint: str = ""
    parted_by: str | None = None

    def row(self) -> tuple[str, str, str, str | None]:
        """Return it as :meth:`fastwrap._native.Meter.set_profile` takes it."""
        chat, completions = (json.dumps(one, separators=(",", ":")) for one in (self.chat, self.completions))
        return chat + self.end, completions + self.end, self.fingerprint, self.parted_by


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One engine's habits: data, handed to the hot path once.

    Attributes:
        name: As in ``--backend`` and in the ``performance`` block.
        health_path: Answers 200 when the engine can serve, and costs the engine nothing.
        recognises: Whether the engine that answers is this one.
        stream_usage: It understands ``stream_options.include_usage``.
        done: Its streams end with ``[DONE]``.
        usage_per_choice: With ``n`` > 1 every choice gets usage of its own.
        usage_in_chunks: Who asks for usage gets it in every chunk, not only in one of its own.
        closes_after_stream: It closes the connection after a stream, though it promised to keep it.
        engine_members: The member of an answer, or of a chunk, that holds the engine's own numbers; several where it
            depends on the route. ``a.b`` if it lies in ``a``, an object or a list of one; ``""`` for the answer itself.
        engine_member_with_usage: In a stream the first of them comes only to those who ask for usage.
        engine_fields: Which of them are taken over: its name, or ``a.b``; the name under ``engine``; a factor.
        engine_headers: The same of those in the headers of an answer.
        json_form: How its JSON answers are made of its streams; None if its streams do not tell all that its JSON does.
        metrics_path: Its page of gauges in Prometheus' format. Reading it must take nothing from other readers.
        gauges: Which of them are taken over: its name, and one of ``fastwrap.gauges.NAMES``.
    """

    name: str
    health_path: str
    recognises: Callable[[Ask], Awaitable[bool]]
    stream_usage: bool = True
    done: bool = True
    usage_per_choice: bool = False
    usage_in_chunks: bool = False
    closes_after_stream: bool = False
    engine_members: tuple[str, ...] = ()
    engine_member_with_usage: bool = False
    engine_fields: tuple[tuple[str, str, float], ...] = ()
    engine_headers: tuple[tuple[str, str, float], ...] = ()
    json_form: JsonForm | None = None
    metrics_path: str = "/metrics"
    gauges: tuple[tuple[str, str], ...] = ()

    def apply(self, meter: Meter) -> None:
        """Tell the hot path."""
        meter.set_profile(
            backend=self.name,
            stream_usage=self.stream_usage,
            done=self.done,
            usage_per_choice=self.usage_per_choice,
            usage_in_chunks=self.usage_in_chunks,
            closes_after_stream=self.closes_after_stream,
            engine_members=self.engine_members,
            engine_member_with_usage=self.engine_member_with_usage,
            engine_fields=self.engine_fields,
            engine_headers=self.engine_headers,
            json_form=self.json_form.row() if self.json_form else None,
        )


def json_object(reply: Reply) -> dict[str, Any]:
    """The JSON object of a successful reply; empty if it is anything else."""
    if reply.status != 200:  # noqa: PLR2004 (HTTP's OK)
        return {}
    try:
        value = json.loads(reply.body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def owns_models(models: Reply, name: str) -> bool:
    """Whether a reply to ``/v1/models`` names this owner of one of them."""
    data = json_object(models).get("data")
    return isinstance(data, list) and any(isinstance(one, dict) and one.get("owned_by") == name for one in data)
