"""The proxies that are measured, in the order of the tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxies.echo import Echo
from proxies.envoy import Envoy
from proxies.fastwrap import Fastwrap
from proxies.litellm import LiteLlm
from proxies.naive import Naive
from proxies.nginx import Nginx
from proxies.routers import SGLANG_ROUTER, SMG, VLLM_ROUTER

if TYPE_CHECKING:
    from harness.proxy import Proxy

PROXIES: dict[str, Proxy] = {
    proxy.name: proxy
    for proxy in (
        Nginx("nginx", "streams unbuffered, kept-alive connections to the engine", request_buffering=True),
        Nginx("nginx-unbuffered", "the same with proxy_request_buffering off", request_buffering=False),
        Fastwrap("fastwrap-native", "fastwrap serve --server native", server="native"),
        Fastwrap("fastwrap-granian", "fastwrap serve --server granian", server="granian"),
        Echo(),
        Envoy(),
        VLLM_ROUTER,
        SMG,
        SGLANG_ROUTER,
        LiteLlm(),
        Naive("fastapi-shared", "FastAPI and one shared httpx client, under uvicorn[standard]", client="shared"),
        Naive("fastapi-per-request", "the same with an httpx client for each request", client="per-request"),
    )
}
