"""A plugin of fastwrap: what an answer cost in dollars, and nothing longer than somebody will pay for."""

from __future__ import annotations

from typing import Any

from fastwrap.hooks import Record, Reject, Request, hookimpl


class Price:
    """Adds ``price_usd`` to the block, and refuses requests that want too many tokens.

    Args:
        dollars_per_million_tokens: Of prompt and answer.
        most_tokens: That a request may ask for.
    """

    def __init__(self, dollars_per_million_tokens: float = 1.0, most_tokens: int = 4096) -> None:
        self.dollars_per_token = dollars_per_million_tokens / 1e6
        self.most_tokens = most_tokens

    @hookimpl
    def validate(self, request: Request) -> Reject | None:
        """Refuse what is too long."""
        wanted = request.json.get("max_tokens") if isinstance(request.json, dict) else None
        if isinstance(wanted, int) and wanted > self.most_tokens:
            return Reject(f"max_tokens may be {self.most_tokens} at most.", code="too_many_tokens")
        return None

    @hookimpl
    def enrich(self, record: Record) -> dict[str, Any]:
        """Tell the price, where the engine has counted the tokens."""
        counts = [record.performance[name] for name in ("prompt_tokens", "completion_tokens")]
        known = [count for count in counts if count is not None]
        return {"price_usd": round(sum(known) * self.dollars_per_token, 9) if known else None}
