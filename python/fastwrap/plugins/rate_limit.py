"""Requests and tokens per minute, for each key and model: ``--plugin fastwrap.plugins.rate_limit:RateLimit?…``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from fastwrap.errors import PluginError
from fastwrap.hooks import Reject, hookimpl

if TYPE_CHECKING:
    from limits import RateLimitItem
    from limits.strategies import RateLimiter

    from fastwrap.hooks import Record, Request

_NAMESPACE = "fastwrap"
_MEMORY = "memory://"
_TIMEOUTS = ("socket_timeout", "socket_connect_timeout")
#: What a limit is kept by, where there is no key or no model.
_NONE = "-"
#: What waits for a storage that is away must not pile up.
_STORAGE_SECONDS = 0.5


class RateLimit:
    """Limits what each key may ask of each model, in windows of a minute.

    Requests count when they come, tokens when the answer has ended: a request passes as long as any are left.

    Args:
        requests_per_minute: 0 for any number.
        tokens_per_minute: Prompt and completion; 0 for any number.
        storage: ``memory://``, for each worker alone; or, shared by all, ``redis://HOST:PORT/0``.
        per_model: Whether each model has a limit of its own. False is for an engine that takes any name for its one
            model, where a client would have as many limits as it has names.
        fail_closed: Whether requests are refused while the storage cannot be reached.

    Raises:
        PluginError: If limits is not installed.
    """

    def __init__(
        self,
        requests_per_minute: int = 0,
        tokens_per_minute: int = 0,
        storage: str = _MEMORY,
        *,
        per_model: bool = True,
        fail_closed: bool = False,
    ) -> None:
        try:
            import limits  # noqa: PLC0415 (optional)
            from limits.storage import storage_from_string  # noqa: PLC0415
            from limits.strategies import FixedWindowRateLimiter  # noqa: PLC0415
        except ImportError as error:
            raise PluginError("limits is needed for this: pip install 'fastwrap[rate-limit]'") from error
        if not (requests_per_minute or tokens_per_minute):
            raise PluginError("name a limit: ?requests_per_minute=60, or tokens_per_minute=100000, or both with &")
        options = {} if storage == _MEMORY else dict.fromkeys(_TIMEOUTS, _STORAGE_SECONDS)
        made: Any = storage_from_string(storage, **options)
        self._limiter: RateLimiter = FixedWindowRateLimiter(made)
        self._per_model = per_model
        self._requests = _minute(limits, requests_per_minute)
        self._tokens = _minute(limits, tokens_per_minute)
        self.fail_closed = fail_closed

    @hookimpl
    def validate(self, request: Request) -> Reject | None:
        """Refuse what is beyond a limit."""
        if request.method != "POST":
            return None
        who = self._who(request.key_id, request.model)
        if self._tokens is not None and not self._limiter.test(self._tokens, "tokens", *who):
            return self._refusal(self._tokens, "tokens", who)
        if self._requests is not None and not self._limiter.hit(self._requests, "requests", *who):
            return self._refusal(self._requests, "requests", who)
        return None

    @hookimpl
    def on_record(self, record: Record) -> None:
        """Count the tokens."""
        cost = sum(record.performance[name] or 0 for name in ("prompt_tokens", "completion_tokens"))
        if self._tokens is not None and cost:
            self._limiter.hit(self._tokens, "tokens", *self._who(record.key_id, record.model), cost=cost)

    def _who(self, key_id: str | None, model: str | None) -> tuple[str, str]:
        return key_id or _NONE, (self._per_model and model) or _NONE

    def _refusal(self, limit: RateLimitItem, what: str, who: tuple[str, str]) -> Reject:
        reset = self._limiter.get_window_stats(limit, what, *who).reset_time
        message = f"The limit of {limit.amount} {what} per minute is reached for this key and model. Try again later."
        return Reject(message, 429, "rate_limit_exceeded", what, retry_after=max(1.0, reset - time.time()))


def _minute(limits: Any, amount: int) -> RateLimitItem | None:
    item: RateLimitItem | None = limits.RateLimitItemPerMinute(amount, namespace=_NAMESPACE) if amount else None
    return item
