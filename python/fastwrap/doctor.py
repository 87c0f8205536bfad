"""What serving needs, looked for without changing anything; every look has a time limit."""

from __future__ import annotations

import asyncio
import http
import json
import os
import platform
import resource
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar
from urllib.parse import urlsplit

from fastwrap import _native, gauges, gpu
from fastwrap.errors import EngineError, KeyFileError, PortError
from fastwrap.keys import OTHERS_MAY_READ, read_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastwrap.backends.base import Backend
    from fastwrap.upstream import Reply

Status = Literal["ok", "warning", "problem"]
T = TypeVar("T")

_OLDEST_PYTHON = (3, 10)
#: A request in flight holds two descriptors: below this, a few thousand clients at once are too many.
_FEW_FILES = 4096
_CONNECT_SECONDS = 3.0
_ASK_SECONDS = 2.0
_NO_ANSWER = 0
#: For all questions to an engine together; and for a driver that does not answer.
_ENGINE_SECONDS = 15.0
_NVML_SECONDS = 10.0
_PROCESSES_SECONDS = 10.0
_MANY_MODELS = 3
_MEBIBYTE = 1 << 20
_UNIX = "unix:"
_SERVERS = (
    "--server granian: ASGI, composes and can be mounted; adds about 0.3 ms to a request\n"
    "--server native: no Python on a request's way; adds about as much as nginx (x 1.4)"
)


@dataclass(frozen=True)
class Check:
    """One thing that was looked for.

    Attributes:
        name: What was looked for.
        status: ``problem`` only where fastwrap cannot serve.
        found: What is there.
        advice: What to do; empty where all is well.
    """

    name: str
    status: Status
    found: str
    advice: str = ""


def examine(  # noqa: PLR0913 (the command's options)
    upstream: str, host: str, port: int, uds: str, *, api_key_file: str, upstream_api_key_file: str
) -> list[Check]:
    """Look for everything; ``upstream`` and the files may be empty."""
    clients, _ = _keys("keys", "--api-key-file", api_key_file)
    own, engine_keys = _keys("engine's key", "--upstream-api-key-file", upstream_api_key_file)
    return [
        _python(),
        Check("fastwrap", "ok", f"{_native.__version__}, native module loaded"),
        _package("granian"),
        _package("uvloop"),
        Check("servers", "ok", _SERVERS),
        *_gpu(),
        _files(),
        _path(Path(uds).absolute()) if uds else _port(host, port),
        *clients,
        *own,
        *_engine(upstream, *engine_keys[:1]),
    ]


def worst(checks: Sequence[Check]) -> Status:
    """Return the status of the whole."""
    found = {check.status for check in checks}
    return "problem" if "problem" in found else "warning" if "warning" in found else "ok"


def to_json(checks: Sequence[Check]) -> str:
    """Return the checks for machines."""
    return json.dumps({"status": worst(checks), "checks": [asdict(check) for check in checks]}, indent=2)


def show(checks: Sequence[Check]) -> None:
    """Print the checks as a table, and a verdict."""
    from rich.console import Console  # noqa: PLC0415 (start-up time)
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    colours = {"ok": "green", "warning": "yellow", "problem": "bold red"}
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        found = Text(check.found)
        if check.advice:
            found.append(f"\n-> {check.advice}", style="bold")
        table.add_row(Text(check.status, style=colours[check.status]), check.name, found)
    console = Console(highlight=False)
    console.print(table)
    verdict = {
        "ok": "Everything is there.",
        "warning": "fastwrap can serve; the warnings say what will be missing.",
        "problem": "fastwrap cannot serve like this: see the problems above.",
    }
    console.print()
    console.print(Text(verdict[worst(checks)], style=colours[worst(checks)]))


def leave(code: int) -> NoReturn:
    """Exit, without waiting for a look that hangs in a library."""
    if not any(thread.name.startswith("asyncio") for thread in threading.enumerate()):
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def reach(upstream: str, seconds: float | None) -> None:
    """Connect to a valid address, and hang up.

    Raises:
        OSError: If nobody listens.
    """
    if upstream.startswith(_UNIX):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(seconds)
            connection.connect("/" + upstream.removeprefix(_UNIX).lstrip("/"))
        return
    parts = urlsplit(upstream)
    port = parts.port or (443 if parts.scheme.lower() == "https" else 80)
    socket.create_connection((parts.hostname or "", port), seconds).close()


def _within(seconds: float, look: Callable[[], T]) -> T:
    """Return what ``look`` does, or raise TimeoutError: it then goes on in a thread that nobody waits for."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(look())
        except BaseException as error:  # noqa: BLE001 (handed to the caller)
            errors.append(error)

    thread = threading.Thread(target=run, name="fastwrap-doctor", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return results[0]


def _python() -> Check:
    system = f"{platform.system()} {platform.machine()}"
    found = f"{platform.python_implementation()} {platform.python_version()} on {system}"
    if sys.version_info < _OLDEST_PYTHON:
        return Check("Python", "problem", found, "fastwrap needs CPython 3.10 or newer")
    return Check("Python", "ok", found)


def _package(name: str) -> Check:
    try:
        return Check(name, "ok", metadata.version(name))
    except metadata.PackageNotFoundError:
        return Check(name, "problem", "not installed", f"{sys.executable} -m pip install {name}")


def _gpu() -> list[Check]:
    try:
        driver, devices = _within(_NVML_SECONDS, _devices)
    except TimeoutError as error:
        return [_no_gpu("sampler_stalled", f"NVML: {error}")]
    except gpu.GpuError as error:
        return [_no_gpu(error.reason, str(error))]
    if not devices:
        return [_no_gpu("no_visible_device", "the driver shows no GPU")]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    only = "" if visible is None else f"; CUDA_VISIBLE_DEVICES={visible}"
    return [Check("NVML", "ok", f"driver {driver}, {len(devices)} GPU(s){only}"), *devices]


def _devices() -> tuple[str, list[Check]]:
    nvml = gpu.Nvml()
    try:
        driver = str(nvml.call("SystemGetDriverVersion"))
        return driver, [_device(nvml, index) for index in range(nvml.call("DeviceGetCount"))]
    finally:
        nvml.call("Shutdown")


def _device(nvml: gpu.Nvml, index: int) -> Check:
    try:
        name = nvml.call("DeviceGetName", nvml.call("DeviceGetHandleByIndex", index))
        devices = nvml.devices(index)
        found = "\n".join(_readings(nvml, device) for device in devices)
    except gpu.GpuError as error:
        return _no_gpu(error.reason, str(error), f"GPU {index}")
    in_instances = "" if [device for device in devices if not device.is_instance] else ", in MIG mode"
    return Check(f"GPU {index}", "ok", f"{name}{in_instances}\n{found}")


def _readings(nvml: gpu.Nvml, device: gpu.Device) -> str:
    """What can be read of a device, which is tried."""
    readings = gpu.Readings(nvml, device)
    used, _, total = readings.read("memory")
    averaged = readings.read("power")[2]
    for kind in ("utilization", "condition"):
        readings.read(kind)
    memory = ""
    if isinstance(used, int) and isinstance(total, int):
        memory = f", {round(used / _MEBIBYTE):,} of {round(total / _MEBIBYTE):,} MiB in use"
    gives = ", ".join(
        "power (average of 1 s)" if name == "power" and averaged == 1 else name for name in readings.gives
    )
    lacks = "".join(f"; no {name}: {reason}" for name, reason in readings.lacks.items())
    return f"{device.uuid}{memory}\nread: {gives or 'nothing'}{lacks}"


_GPU_ADVICE = {
    "library_not_found": "with an NVIDIA GPU: install its driver; in a container: docker run --gpus all",
    "driver_not_loaded": "load the driver (modprobe nvidia), or restart the machine after an update of it",
    "version_mismatch": "the driver was updated under way: restart the machine",
    "no_visible_device": "give the container a device (--gpus all)",
    "no_permission": "give the user, or the container, access to /dev/nvidia*",
    "gpu_lost": "restart the machine: the driver has lost the GPU",
    "sampler_stalled": "look into dmesg: the driver does not answer",
}


def _no_gpu(reason: str, detail: str, name: str = "NVML") -> Check:
    advice = _GPU_ADVICE.get(reason, "see the driver's documentation")
    return Check(name, "warning", f"{reason} ({detail}): memory and energy will be null", advice)


def _files() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    shown = {resource.RLIM_INFINITY: "any number"}
    found = f"{shown.get(soft, soft)} (at most {shown.get(hard, hard)})"
    if soft == resource.RLIM_INFINITY or soft >= _FEW_FILES:
        return Check("open files", "ok", found)
    advice = f"a request in flight takes two: ulimit -n {hard if _FEW_FILES < hard < _MEBIBYTE else 65536}"
    return Check("open files", "warning", found, advice)


def _port(host: str, port: int) -> Check:
    from fastwrap.servers.base import claim_port  # noqa: PLC0415 (start-up time of serve's warning)

    try:
        claim_port(host, port)
    except OverflowError:
        return Check("port", "problem", f"{port} is no port", "use 0 to 65535")
    except PortError as error:
        found, _, hint = str(error).partition(" is taken: ")
        if hint:
            return Check("port", "problem", f"{found} is taken", hint)
        return Check("port", "problem", str(error), "choose another one with --host and --port")
    return Check("port", "ok", f"{host}:{port} is free" if port else f"{host}: a free one will be taken")


def _path(path: Path) -> Check:
    from fastwrap.servers.base import is_listened_on, is_socket  # noqa: PLC0415 (start-up time of serve's warning)

    if is_socket(path):
        if is_listened_on(path):
            return Check("socket", "problem", f"{path} is taken", "stop what listens there, or choose another --uds")
        return Check("socket", "ok", f"{path} was left behind, and will be replaced")
    if os.path.lexists(path):
        return Check("socket", "problem", f"{path} is no socket", "choose another one with --uds")
    if not os.access(path.parent, os.W_OK):
        return Check("socket", "problem", f"{path.parent} cannot be written to", "choose another one with --uds")
    return Check("socket", "ok", f"{path} is free")


def _keys(name: str, option: str, path: str) -> tuple[list[Check], list[str]]:
    """Look at a file of keys, if one is given; also return them."""
    if not path:
        return [], []
    try:
        keys = read_keys(path)
    except KeyFileError as error:
        return [Check(name, "problem", str(error), f"correct {option}")], []
    found = f"{path}: {len(keys)} {'keys' if len(keys) > 1 else 'key'}"
    if Path(path).stat().st_mode & OTHERS_MAY_READ:
        return [Check(name, "warning", f"{found}, and others can read it", f"chmod 600 {path}")], keys
    return [Check(name, "ok", found)], keys


def _engine(upstream: str, key: str = "") -> list[Check]:
    if not upstream:
        return [Check("engine", "warning", "not looked for", "fastwrap doctor --upstream http://127.0.0.1:8000")]
    try:
        _native.check_upstream(upstream)
        # As in the settings: of an OpenAI base URL the root is meant.
        root = upstream.rstrip("/").removesuffix("/v1")
        began = time.monotonic()
        _within(_CONNECT_SECONDS + 1, lambda: reach(root, _CONNECT_SECONDS))
        took_ms = (time.monotonic() - began) * 1e3
        checks = _within(_ENGINE_SECONDS, lambda: asyncio.run(_ask(root, took_ms, key)))
        return [*checks, _processes(root)]
    except ValueError as error:
        return [Check("engine", "problem", str(error), "correct --upstream")]
    except OSError as error:  # TimeoutError is one
        advice = "start the engine, or correct --upstream; in a container 127.0.0.1 is the container itself"
        return [Check("engine", "problem", f"{upstream}: {error.strerror or error}", advice)]


async def _ask(upstream: str, took_ms: float, key: str) -> list[Check]:
    from fastwrap import backends  # noqa: PLC0415 (start-up time)
    from fastwrap.backends.base import json_object  # noqa: PLC0415
    from fastwrap.upstream import Reply, Upstream  # noqa: PLC0415

    client = Upstream(upstream, connect_timeout=_ASK_SECONDS)

    async def ask(path: str) -> Reply:
        try:
            return await client.get(path, _ASK_SECONDS, key)
        except EngineError:
            return Reply(_NO_ANSWER, {}, b"")

    try:
        try:
            await client.get("/", _ASK_SECONDS, key)  # some engines generate a token for /health
        except EngineError as error:
            advice = "is it an HTTP server? https:// or http://? Is the engine still loading?"
            return [Check("engine", "problem", f"{upstream} accepts connections, but: {error}", advice)]
        backend = await backends.recognise(ask)
        health = await ask(backend.health_path)
        page = await ask(backend.metrics_path) if backend.gauges else None
        models = json_object(await ask("/v1/models")).get("data")
    finally:
        await client.close()
    found = f"{upstream}: {backend.name}, connects in {took_ms:.1f} ms"
    kind = Check("engine", "ok", found)
    if backend.name == "openai":
        advice = "if it is one of those that fastwrap knows: --backend NAME"
        kind = Check("engine", "ok", f"{found} (not recognised: taken for any OpenAI API)", advice)
    return [kind, _health(backend.health_path, health.status), _models(models), _gauges(backend, page)]


#: What has to be given to an engine that has gauges, but shows none.
_GAUGES_ADVICE = {
    "sglang": "start the engine with --enable-metrics",
    "lmdeploy": "start the engine with --enable-metrics",
    "llamacpp": "start the engine with --metrics",
    "vllm": "start the engine without --disable-log-stats",
}


def _gauges(backend: Backend, page: Reply | None) -> Check:
    """Say which of its gauges the engine shows; one that has none is well, too."""
    if page is None:
        return Check("gauges", "ok", f"{backend.name} has none: its KV cache and queue will be null")
    try:
        values = gauges.read(page.body, backend.gauges) if page.status == http.HTTPStatus.OK else []
    except ValueError as error:
        return Check("gauges", "warning", f"{backend.metrics_path}: {error}", "is this the engine's own page?")
    known = [name for name, value in zip(gauges.NAMES, values, strict=False) if value is not None]
    if not known:
        found = f"{backend.metrics_path}: {page.status or 'no answer'}, without them: they will be null"
        advice = _GAUGES_ADVICE.get(backend.name, "see the engine's documentation of its metrics")
        return Check("gauges", "warning", found, advice)
    return Check("gauges", "ok", f"{backend.metrics_path}: {', '.join(known)}")


_PROCESSES_ADVICE = {
    "engine_remote": "run fastwrap beside the engine, if its processes' memory is wanted",
    "process_not_found": "in containers: let fastwrap share the engine's PID namespace",
    "no_permission": "run fastwrap as the engine's user",
}


def _processes(upstream: str) -> Check:
    from fastwrap import processes  # noqa: PLC0415 (start-up time)

    memory = processes.EngineMemory(upstream)
    try:
        _within(_PROCESSES_SECONDS, memory.look)
        rss_bytes, count = memory.read()
    except TimeoutError as error:
        return Check("processes", "warning", f"{error}: host_memory will be null", "look into dmesg")
    except processes.ProcessesError as error:
        found = f"{error.reason} ({error}): host_memory will be null"
        return Check("processes", "warning", found, _PROCESSES_ADVICE[error.reason])
    return Check("processes", "ok", f"{count} of the engine's, {rss_bytes / _MEBIBYTE:,.0f} MiB")


def _health(path: str, status: int) -> Check:
    if _NO_ANSWER < status < 500:  # noqa: PLR2004 (HTTP's first server error)
        return Check("health", "ok", f"{path}: {status}")
    advice = "the engine is still loading, or ill: see its log; /-/ready will answer 503 until then"
    return Check("health", "warning", f"{path}: {status or 'no answer'}", advice)


def _models(models: Any) -> Check:
    names = [str(model.get("id")) for model in models or [] if isinstance(model, dict)]
    if not names:
        return Check(
            "models",
            "warning",
            "/v1/models names none",
            "is one loaded? does the engine want a key (--upstream-api-key-file)?",
        )
    more = f" and {len(names) - _MANY_MODELS} more" if len(names) > _MANY_MODELS else ""
    return Check("models", "ok", ", ".join(names[:_MANY_MODELS]) + more)
