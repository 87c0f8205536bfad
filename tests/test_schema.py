"""The schema is one, and the page about the numbers speaks of each of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from schema import SCHEMA, check_block

_PAGE = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text(encoding="utf-8")


def names(schema: dict[str, Any]) -> Iterator[str]:
    for name, member in schema.get("properties", {}).items():
        yield name
        yield from names(member)
        yield from names(member.get("items", {}))


def test_it_is_a_schema_and_has_a_version() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$id"] == "urn:fastwrap:performance:1"


@pytest.mark.parametrize("name", sorted(set(names(SCHEMA))))
def test_every_number_is_explained(name: str) -> None:
    assert f"`{name}`" in _PAGE


def test_what_is_no_block_is_refused() -> None:
    with pytest.raises(ValidationError):
        check_block({"latency_ms": 1.0})
