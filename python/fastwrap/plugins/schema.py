"""Requests must keep a JSON Schema: ``--plugin fastwrap.plugins.schema:Schema?path=chat.schema.json``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from fastwrap.errors import PluginError
from fastwrap.hooks import Reject, hookimpl

if TYPE_CHECKING:
    from pathlib import Path

    from fastwrap.hooks import Request


class Schema:
    """Refuses bodies that a schema does not allow, and says which member is the wrong one, but not what stands there.

    Args:
        path: Of the schema.
        target: The path that the requests are sent to.
        fail_closed: Whether a request is refused when it cannot be checked.

    Raises:
        PluginError: If jsonschema is not installed.
    """

    def __init__(self, path: Path, target: str = "/v1/chat/completions", *, fail_closed: bool = False) -> None:
        try:
            from jsonschema.validators import validator_for  # noqa: PLC0415 (optional)
        except ImportError as error:
            raise PluginError("jsonschema is needed for this: pip install 'fastwrap[jsonschema]'") from error
        schema = json.loads(path.read_text(encoding="utf-8"))
        kind = validator_for(schema)
        kind.check_schema(schema)
        self._validator = kind(schema)
        self._target = target
        self.fail_closed = fail_closed

    @hookimpl
    def validate(self, request: Request) -> Reject | None:
        """Check the body."""
        if request.path != self._target or request.method != "POST":
            return None
        if request.json is None:
            return Reject("The body is no JSON.", code="invalid_json")
        for error in self._validator.iter_errors(request.json):
            member = "The body" if error.json_path == "$" else error.json_path.removeprefix("$.")
            return Reject(f"{member} does not keep the schema's {error.validator!r}.", 422, "schema_violation")
        return None
