"""What anybody would write first: FastAPI and httpx, and a performance block computed in Python.

Run by uvicorn in an environment of its own. ``NAIVE_UPSTREAM`` is the engine; ``NAIVE_CLIENT`` is ``shared`` for one
httpx client that keeps connections, or ``per-request`` for a new client for each request, as examples often have it.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

UPSTREAM = os.environ["NAIVE_UPSTREAM"]
SHARED = os.environ["NAIVE_CLIENT"] == "shared"


def new_client() -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx.AsyncClient(base_url=UPSTREAM, timeout=60, limits=limits)


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with new_client() as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


@contextlib.asynccontextmanager
async def client() -> AsyncIterator[httpx.AsyncClient]:
    if SHARED:
        yield app.state.client
    else:
        async with new_client() as own:
            yield own


def block(began: float, first: float | None, chunks: int) -> dict[str, Any]:
    now = time.perf_counter()
    return {
        "latency_ms": (now - began) * 1e3,
        "ttft_ms": None if first is None else (first - began) * 1e3,
        "tpot_ms": (now - first) * 1e3 / (chunks - 1) if first and chunks > 1 else None,
    }


@app.post("/v1/{path:path}")
async def proxy(path: str, request: Request) -> Any:
    began = time.perf_counter()
    body = await request.body()
    if json.loads(body).get("stream"):
        return StreamingResponse(stream(path, body, began), media_type="text/event-stream")
    async with client() as http:
        answer = await http.post(f"/v1/{path}", content=body, headers={"content-type": "application/json"})
    content = answer.json()
    content["performance"] = block(began, None, 0)
    return JSONResponse(content, answer.status_code)


async def stream(path: str, body: bytes, began: float) -> AsyncIterator[str]:
    first, chunks = None, 0
    headers = {"content-type": "application/json"}
    async with client() as http, http.stream("POST", f"/v1/{path}", content=body, headers=headers) as answer:
        async for line in answer.aiter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                yield line + "\n"
                continue
            event = json.loads(line.removeprefix("data: "))
            choices = event.get("choices") or [{}]
            if choices[0].get("delta", {}).get("content"):
                chunks += 1
                first = first or time.perf_counter()
            if choices[0].get("finish_reason"):
                event["performance"] = block(began, first, chunks)
            yield f"data: {json.dumps(event)}\n"
