"""Takes fastwrap's block out of an answer again: what is left must be the engine's own bytes."""

from __future__ import annotations

import json
from typing import Any

from proxy.client import Answer
from schema import check_block

Block = dict[str, Any]
_DECODER = json.JSONDecoder()


def without_blocks(body: bytes, name: str = "performance") -> tuple[bytes, list[Block]]:
    """The bytes without any block, and the blocks, which are checked."""
    stripped, blocks = cut_out(body, name)
    for block in blocks:
        check_block(block)
    return stripped, blocks


def cut_out(body: bytes, name: str = "performance") -> tuple[bytes, list[Block]]:
    """The same without the check, which takes a millisecond."""
    mark = f'"{name}":'
    text = body.decode(errors="surrogateescape")
    blocks: list[Block] = []
    at = text.find(mark)
    while at >= 0:
        block, end = _DECODER.raw_decode(text, at + len(mark))
        blocks.append(block)
        start = at
        if text[at - 1] == ",":
            start -= 1
        elif text[end] == ",":
            end += 1
        text = text[:start] + text[end:]
        at = text.find(mark)
    return text.encode(errors="surrogateescape"), blocks


def block_of(answer: Answer) -> Block:
    """The one block in an answer."""
    _, blocks = without_blocks(answer.body)
    assert len(blocks) == 1, answer.body
    return blocks[0]
