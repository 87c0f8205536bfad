"""What goes wrong in one request, and how it may end: decided by a seed, known to the client and to the engine."""

from __future__ import annotations

import enum
import json
import random
from dataclasses import asdict, dataclass
from typing import Any

#: Silence that is longer than fastwrap is told to bear.
IDLE_S = 3.0
#: An upload that goes on while it comes, and one that is waited for.
_UPLOADS = (64, 64, 64, 4_000, 400_000)
#: Sizes of a chunk's text.
_TEXTS = (1, 3, 8, 8, 8, 60, 2_000, 30_000)


class Fault(str, enum.Enum):
    """What the engine does in the middle of its answer."""

    NONE = "none"
    CLOSE = "close"
    RESET = "reset"
    STALL = "stall"
    ERROR = "error"


class Manner(str, enum.Enum):
    """What the client does."""

    STAYS = "stays"
    READS_SLOWLY = "reads_slowly"
    LEAVES = "leaves"
    LEAVES_AT_ONCE = "leaves_at_once"
    LEAVES_UPLOADING = "leaves_uploading"


@dataclass(frozen=True)
class Plan:
    """One request.

    Attributes:
        number: Its own.
        stream: An event stream, or JSON.
        texts: Characters of each chunk.
        gap_s: Between two pieces of the answer.
        fault: What the engine does,
        at: and after how many bytes of its answer's body; -1: instead of an answer.
        manner: What the client does,
        after: and after how many bytes of the body that it gets.
        reset: A client that leaves resets its connection instead of closing it.
        upload_bytes: Padding of the request.
    """

    number: int
    stream: bool
    texts: tuple[int, ...]
    gap_s: float
    fault: Fault
    at: int
    manner: Manner
    after: int
    reset: bool
    upload_bytes: int

    @classmethod
    def drawn(cls, number: int, dice: random.Random) -> Plan:
        """Draw one."""
        plan = cls(
            number=number,
            stream=dice.random() < 0.75,
            texts=tuple(dice.choices(_TEXTS, k=dice.randint(1, 24))),
            gap_s=dice.choice((0.0, 0.0, 0.002, 0.01)),
            fault=dice.choices(list(Fault), (60, 12, 12, 4, 6))[0],
            at=-1,
            manner=dice.choices(list(Manner), (60, 8, 16, 8, 4))[0],
            after=0,
            reset=dice.random() < 0.5,
            upload_bytes=dice.choice(_UPLOADS),
        )
        size = len(plan.answer)
        # An engine that closes behind a whole JSON answer may do so while the next request is being sent: nobody can
        # tell whether it was executed, so that one would fail, whatever its own plan.
        at = -1 if dice.random() < 0.15 else dice.randrange(size + plan.stream)
        return cls(**{**asdict(plan), "at": at, "after": dice.randrange(size + 1)})

    @property
    def request(self) -> bytes:
        """The request's body; the engine reads its orders in it."""
        orders = {name: value for name, value in asdict(self).items() if name not in ("manner", "after", "reset")}
        message = {"role": "user", "content": "x" * self.upload_bytes}
        return json.dumps({"model": "chaos", "messages": [message], "stream": self.stream, "orders": orders}).encode()

    @property
    def answer(self) -> bytes:
        """What the engine's whole answer is to a client that did not ask for usage."""
        return b"".join(self.events) if self.stream else _json(self.number, "".join(map(_text, self.texts)))

    @property
    def events(self) -> list[bytes]:
        """The events of its stream, without usage."""
        last = len(self.texts) - 1
        events = [_event(self.number, _text(size), finish=at == last) for at, size in enumerate(self.texts)]
        return [*events, b"data: [DONE]\n\n"]

    @property
    def outcomes(self) -> frozenset[str]:
        """How fastwrap may count it."""
        if self.manner is Manner.LEAVES_UPLOADING:
            return frozenset({"cancelled"})
        if self.fault is Fault.NONE:
            own = {"complete"}
        elif self.fault is Fault.ERROR or self.at < len(self.answer):
            own = {"error"}
        else:  # behind the last event there is nothing that could be missed
            own = {"error", "complete"}
        return frozenset(own | {"cancelled"} if self.leaves else own)

    @property
    def leaves(self) -> bool:
        """Whether the client does not wait for the end."""
        return self.manner not in (Manner.STAYS, Manner.READS_SLOWLY)


def ordered(body: bytes) -> Plan:
    """The plan that a request's body tells, as far as the engine has to know it."""
    orders: dict[str, Any] = json.loads(body)["orders"]
    return Plan(
        **{**orders, "texts": tuple(orders["texts"]), "fault": Fault(orders["fault"])},
        manner=Manner.STAYS,
        after=0,
        reset=False,
    )


def _text(size: int) -> str:
    return "é" + "t" * (size - 1)


def _event(number: int, text: str, *, finish: bool) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": "stop" if finish else None}
    chunk = {"id": f"chaos-{number}", "object": "chat.completion.chunk", "choices": [choice]}
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n"


def usage_event(number: int) -> bytes:
    """What the engine sends besides to whoever asks for usage."""
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    return b"data: " + json.dumps({"id": f"chaos-{number}", "choices": [], "usage": usage}).encode() + b"\n\n"


def _json(number: int, text: str) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    return json.dumps({"id": f"chaos-{number}", "choices": [choice], "usage": usage}, ensure_ascii=False).encode()
