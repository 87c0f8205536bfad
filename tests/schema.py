"""The published form of a block, which every block that a test sees is held to."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator

SCHEMA: dict[str, Any] = json.loads(files("fastwrap").joinpath("performance.schema.json").read_text(encoding="utf-8"))
_VALIDATOR = Draft202012Validator(SCHEMA)


def check_block(block: Any) -> None:
    """It has the members that the schema names and no other, each of its form; nulls have reasons, and nothing else."""
    _VALIDATOR.validate(block)
    assert list(block) == list(SCHEMA["properties"])
    for one in (block, *(block["gpu"] or ())):
        nulls = {name for name, value in one.items() if value is None}
        assert nulls == {name for name in one["unavailable"] if "." not in name}
