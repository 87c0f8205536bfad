"""The files of deploy/ hold to their published schemas, and to what fastwrap is: its routes, options and times."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from fastwrap.cli import serve
from fastwrap.options import settings_from
from fastwrap.run.launch import recognise
from fastwrap.settings import Settings, Supervision
from proxy.client import ask
from proxy.processes import COMMAND, DEADLINE_S, Process, Proxy

DEPLOY = Path(__file__).parents[2] / "deploy"
BIN = Path(sys.executable).parent
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
#: Native sidecars are there by default since 1.29, and `preStop.sleep` since 1.30.
KUBERNETES = ("1.30", "1.37")
OWN_ROUTES = {"/-/healthy", "/-/ready"}


def done(*command: str) -> None:
    ran = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def documents(path: Path) -> dict[str, Any]:
    return {one["kind"]: one for one in yaml.safe_load_all(path.read_text())}


def pod(path: Path) -> dict[str, Any]:
    spec: dict[str, Any] = documents(path)["Deployment"]["spec"]["template"]["spec"]
    return spec


def containers(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in spec["containers"] + spec.get("initContainers", [])}


def serving(spec: dict[str, Any]) -> dict[str, Any]:
    """The container that fastwrap is in."""
    found = containers(spec)
    return found.get("fastwrap", found["engine"])


manifest = pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)


@pytest.mark.parametrize("version", KUBERNETES)
@manifest
def test_a_manifest_is_valid(path: Path, version: str) -> None:
    assert set(documents(path)) == {"Deployment", "Service"}
    for document in documents(path).values():
        kubernetes_validate.validate(document, version, strict=True)


@manifest
def test_a_pod_may_do_little(path: Path) -> None:
    spec = pod(path)
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers(spec).values():
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert (context["allowPrivilegeEscalation"], context["capabilities"]) == (False, {"drop": ["ALL"]})
        assert "/tmp" in [mount["mountPath"] for mount in container["volumeMounts"]]  # noqa: S108 (a mount)


@manifest
def test_only_fastwrap_is_reached(path: Path) -> None:
    spec = pod(path)
    [port] = documents(path)["Service"]["spec"]["ports"]
    ports = [one for container in containers(spec).values() for one in container.get("ports", [])]
    assert ports == serving(spec)["ports"] == [{"name": port["targetPort"], "containerPort": Settings.port}]
    engine = containers(spec)["engine"]
    launch = recognise([*engine.get("command", []), *engine["args"]], {})
    assert launch is not None
    assert (launch.backend, launch.upstream) == ("vllm", "http://127.0.0.1:8000")
    assert engine["args"][engine["args"].index("--host") + 1] == "127.0.0.1"


@manifest
def test_probes_ask_fastwraps_own_routes(path: Path, one: Proxy) -> None:
    container = serving(pod(path))
    probes = {name: container[name]["httpGet"] for name in container if name.endswith("Probe")}
    assert {probe["path"] for probe in probes.values()} == OWN_ROUTES
    assert {probe["port"] for probe in probes.values()} == {"http"}
    assert (probes["readinessProbe"]["path"], probes["livenessProbe"]["path"]) == ("/-/ready", "/-/healthy")
    if container.get("restartPolicy") == "Always":  # else it would wait for the engine, which waits for it
        assert probes["startupProbe"]["path"] == "/-/healthy"
    assert {ask(one.url, "GET", route).status for route in OWN_ROUTES} <= {200, 503}


@pytest.fixture(scope="module")
def one() -> Iterator[Proxy]:
    proxy = Proxy("http://127.0.0.1:1", "--server", "native")
    yield proxy
    proxy.stop()


@manifest
def test_there_is_time_to_end(path: Path) -> None:
    spec = pod(path)
    environment = {one["name"]: one["value"] for one in serving(spec).get("env", [])}
    arguments = serving(spec)["args"]
    if "--grace" in arguments:
        grace = float(arguments[arguments.index("--grace") + 1])
        wait = containers(spec)["engine"]["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert wait >= grace, "the engine is there as long as fastwrap lets requests end"
        stop = Supervision.stop_timeout
    else:
        grace, stop = float(environment["FASTWRAP_GRACE"]), float(environment["FASTWRAP_STOP_TIMEOUT"])
    assert spec["terminationGracePeriodSeconds"] >= grace + stop + 10


def test_the_sidecar_is_native_where_it_says_so() -> None:
    [sidecar] = pod(DEPLOY / "kubernetes/native-sidecar.yaml")["initContainers"]
    assert (sidecar["name"], sidecar["restartPolicy"]) == ("fastwrap", "Always")


def test_compose_is_valid() -> None:
    done(str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(DEPLOY / "compose.yaml"))
    services = COMPOSE["services"]
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published == ["127.0.0.1:8080:8080", "127.0.0.1:3000:3000"]
    for service in services.values():
        assert (service["cap_drop"], service["read_only"]) == (["ALL"], True)
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (DEPLOY / source).is_dir() if source.startswith("./") else source in COMPOSE["volumes"]
    build, command = services["llm"]["build"], services["llm"]["command"]
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert int(services["llm"]["stop_grace_period"].removesuffix("s")) >= Settings.grace + Supervision.stop_timeout + 10
    assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()


def test_the_dockerfile_is_clean_and_starts_an_engine() -> None:
    done(str(BIN / "hadolint"), str(DEPLOY / "Dockerfile"))
    text = (DEPLOY / "Dockerfile").read_text()
    words = [re.findall(r'"([^"]*)"', line) for line in text.splitlines() if line.startswith(("ENTRYPOINT", "CMD"))]
    sidecar, entry, command = words
    assert entry[:4] == ["fastwrap", "run", "--server", "native"]
    assert sidecar[:4] == ["fastwrap", "serve", "--server", "native"]
    launch = recognise(command, {})
    assert launch is not None
    assert launch.upstream == "http://127.0.0.1:8000"
    for line in re.findall(r"^COPY (?!--)(.*) \S+$", text, re.MULTILINE):
        assert all((DEPLOY.parent / source).exists() for source in line.split())


def test_the_sidecars_options_are_fastwraps() -> None:
    lists = [serving(pod(path))["args"] for path in MANIFESTS if "fastwrap" in containers(pod(path))]
    assert len(lists) == 2
    for arguments in lists:
        values = serve.make_context("serve", ["--server", "native", *arguments]).params
        assert settings_from(values).upstream == "http://127.0.0.1:8000"


def unit(tmp_path: Path) -> Path:
    """The unit, with what is here in the place of what it starts."""
    text = (DEPLOY / "systemd/fastwrap.service").read_text()
    text = text.replace("/opt/fastwrap/bin/fastwrap", COMMAND)
    path = tmp_path / "fastwrap.service"
    path.write_text(text)
    return path


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_the_unit_is_valid(tmp_path: Path) -> None:
    done("systemd-analyze", "verify", str(unit(tmp_path)))


def test_the_unit_serves_with_its_file(tmp_path: Path) -> None:
    [line] = re.findall(r"^ExecStart=\S+ (.*)$", unit(tmp_path).read_text(), re.MULTILINE)
    command, *arguments = shlex.split(line.replace("/etc/fastwrap", str(DEPLOY / "systemd")))
    running = Process(command, *arguments, "--gpu", "off")
    running.stop()
    assert "-> http://127.0.0.1:8000" in running.log


@pytest.mark.skipif(shutil.which("promtool") is None, reason="Prometheus is not here")
def test_prometheus_takes_its_configuration() -> None:
    done("promtool", "check", "config", str(DEPLOY / "prometheus/prometheus.yml"))
