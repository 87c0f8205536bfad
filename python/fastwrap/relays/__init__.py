"""The two relays: the native one, and the reference on httpx that it is compared with."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastwrap._native import Meter
from fastwrap._native import Relay as NativeRelay

if TYPE_CHECKING:
    from fastwrap.relays.base import Relay
    from fastwrap.settings import Settings


def open_relay(settings: Settings, meter: Meter) -> Relay:
    """Return the relay that the settings ask for, bound to the running event loop."""
    if settings.relay == "native" and not settings.translate_chat:
        return NativeRelay(meter, settings.upstream, asyncio.get_running_loop(), **settings.timeouts)
    from fastwrap.relays.httpx import HttpxRelay  # noqa: PLC0415 (httpx costs 0.1 s to import)

    return HttpxRelay(settings, meter)
