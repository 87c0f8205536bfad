"""nginx: what a proxy costs that looks at nothing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from string import Template
from typing import TYPE_CHECKING

from fastwrap import descriptors
from harness.proxy import Launch, UnavailableError

if TYPE_CHECKING:
    from harness.proxy import Seat

#: ``keepalive_requests`` is above all that a run asks: by default every thousandth request needs a new connection.
_CONFIGURATION = Template("""
daemon off;
$user
worker_processes 1;
worker_rlimit_nofile $descriptors;
pid nginx.pid;
error_log stderr error;
events { worker_connections $descriptors; }
http {
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  client_max_body_size 0;
  keepalive_requests 1000000000;
  upstream engine {
    server 127.0.0.1:$engine_port;
    keepalive 8192;
    keepalive_requests 1000000000;
  }
  server {
    listen 127.0.0.1:$port backlog=4096;
    location / {
      proxy_pass http://engine;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_request_buffering $request_buffering;
    }
  }
}
""")


@dataclass(frozen=True)
class Nginx:
    """One worker; everything is passed on as it comes, request bodies only if ``request_buffering`` is off."""

    name: str
    about: str
    request_buffering: bool

    def install(self) -> str:
        """Look for it: systems have it, package indexes of Python do not."""
        program = _program()
        said = subprocess.run([program, "-v"], capture_output=True, text=True, check=False).stderr  # noqa: S603
        found = re.search(r"nginx/(\S+)", said)
        return found[1] if found else "?"

    def launch(self, seat: Seat) -> Launch:
        """One process, and a worker."""
        text = _CONFIGURATION.substitute(
            # As root its worker would be nobody, who may not enter the seat's directory.
            user="user root;" if os.geteuid() == 0 else "",
            descriptors=min(descriptors.raise_limit(), 65_536),
            engine_port=seat.engine_port,
            port=seat.port,
            request_buffering="on" if self.request_buffering else "off",
        )
        (seat.directory / "nginx.conf").write_text(text, encoding="utf-8")
        return Launch((_program(), "-p", str(seat.directory), "-c", "nginx.conf"))


def _program() -> str:
    program = shutil.which("nginx", path=os.pathsep.join((os.environ["PATH"], "/usr/sbin")))
    if program is None:
        raise UnavailableError("nginx is not installed: apt-get install nginx-light, or brew install nginx")
    return program
