"""The Rust side of fastwrap: the measuring core, the relay, the counters, the simulated engine.

All times are nanoseconds of the monotonic clock (``time.monotonic_ns()``). Headers are lists of pairs of bytes, as in
ASGI. A *fault* is the stable word for an error of fastwrap's own: ``engine_unreachable``, ``connect_timeout``,
``engine_closed_connection``, ``first_byte_timeout``, ``idle_timeout``, ``total_timeout``, ``body_too_large``,
``headers_too_large``, ``body_timeout``, ``overloaded``, ``invalid_api_key``, ``bad_request``, ``internal_error``.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from typing import final

from fastwrap.relays.base import HeaderList, Headers

__all__ = [
    "AnswerAborted",
    "Edges",
    "Exchange",
    "GpuLog",
    "HookQueue",
    "Measured",
    "Meter",
    "Observed",
    "Panic",
    "Relay",
    "Reply",
    "Samples",
    "Server",
    "__version__",
    "bench_metrics",
    "check_certificate",
    "check_origins",
    "check_upstream",
    "is_request_acceptable",
    "model_of",
    "now_ns",
    "refusal",
    "run_bench",
    "serve_engine",
]

__version__: str

class AnswerAborted(Exception):
    """The engine's answer broke off where no error event could be sent: abort the client's connection."""

class Panic(BaseException):
    """Native code panicked: a fault of fastwrap's own. Its text is not logged: it may quote what was being read."""

def now_ns() -> int:
    """Return the time of the clock that every stamp is taken with."""

def model_of(body: bytes) -> str | None:
    """Return the model that a request's body names; None if it is no JSON, or the name longer than names are."""

def check_certificate(chain: bytes, key: bytes) -> None:
    """Check that rustls, which ends TLS under Granian, can serve with a certificate.

    Args:
        chain: PEM of the certificate and those above it.
        key: PEM of its private key.

    Raises:
        ValueError: If it cannot; says why.
    """

def check_origins(origins: str) -> None:
    """Check a list of origins.

    Args:
        origins: ``https://app.example,http://localhost:3000``, or ``*``.

    Raises:
        ValueError: If one of them is not written as browsers write it; says which and why.
    """

def check_upstream(upstream: str) -> None:
    """Check an engine's address without connecting to it.

    Args:
        upstream: ``http://HOST:PORT``, ``https://HOST`` or ``unix:/PATH``.

    Raises:
        ValueError: If it is none of these; says why.
    """

def is_request_acceptable(method: str, target: bytes, headers: Headers, version: str) -> bool:
    """Return whether nobody can read the request in two ways; others get the ``bad_request`` of :func:`refusal`."""

def refusal(fault: str) -> tuple[int, HeaderList, bytes]:
    """Return status, headers and body of fastwrap's answer to a fault.

    Raises:
        ValueError: If there is no such fault.
    """

def serve_engine(
    *,
    host: str,
    port: int,
    flavor: str,
    ttft_ms: float,
    itl_ms: float,
    tokens: int,
    tokens_per_chunk: int,
    seed: int,
    model: str,
    on_ready: Callable[[int], object],
) -> None:
    """Serve the simulated engine until SIGINT or SIGTERM.

    Args:
        host: Address to listen on.
        port: Port; 0 takes a free one.
        flavor: Whose wire format: openai, vllm, sglang, tgi, transformers, llamacpp, ollama.
        ttft_ms: Time to the first token, in milliseconds.
        itl_ms: Time between two tokens, in milliseconds.
        tokens: Tokens in an answer, unless the request asks for fewer.
        tokens_per_chunk: Tokens in one event of a stream.
        seed: Decides the text.
        model: The model's name.
        on_ready: Called with the port once it listens.

    Raises:
        ValueError: If an option cannot be used.
        OSError: If the address cannot be bound.
    """

def bench_metrics() -> list[str]:
    """Return the names of all metrics that :func:`run_bench` reports, in the order of the report."""

def run_bench(
    targets: Sequence[tuple[str, str, int | None]],
    *,
    reference: str | None,
    mode: str,
    concurrency: int,
    rate: float | None,
    arrivals: str,
    check: str,
    path: str,
    model: str | None,
    max_tokens: int | None,
    request_bytes: int | None,
    body: str,
    transit: bool,
    headers: Sequence[tuple[str, str]],
    ramp: float,
    duration: float,
    rounds: int,
    warmup: int,
    timeout: float,
    seed: int,
    on_progress: Callable[[int, int, int, str], object],
) -> str:
    """Drive targets interleaved, and return what was seen as JSON.

    Args:
        targets: Name, URL (``http://HOST:PORT`` or ``unix:/PATH``) and process of each; the first is the baseline.
        reference: The target that the others are divided by; None for the baseline.
        mode: ``json`` or ``sse``.
        concurrency: Connections; with a rate, the most of them.
        rate: Requests a second of an open loop; None for a closed loop.
        arrivals: Of an open loop: ``poisson`` or ``constant``.
        check: What must be the baseline's: ``status``, ``content`` (the text, too) or ``events`` (their number, too).
        path: The requests' path.
        model: The model; None asks the baseline.
        max_tokens: The most tokens of an answer, if it is to be limited.
        request_bytes: The size that a request's body is padded to.
        body: A JSON object, whose members every request's body gets.
        transit: Ask a simulated engine to stamp the events of its streams, so that their way can be timed.
        headers: Headers of every request.
        ramp: Seconds over which the clients of a closed loop start, before those of ``duration``.
        duration: Seconds that a target gets in a round.
        rounds: Rounds that count.
        warmup: Rounds before them that do not.
        timeout: Seconds that an answer may take after the end of its slice.
        seed: Decides orders, arrivals and resampling.
        on_progress: Called before each slice, never during one, with the slices done, their total, the round (0 in
            the warm-up) and the target that comes (empty at the end); what it raises ends the run.

    Returns:
        A JSON object: ``settings``, and ``targets`` with ``metrics``, ``rounds``, ``distributions`` and ``errors``.

    Raises:
        ValueError: If an argument cannot be used.
        RuntimeError: If a target cannot be reached, or does not answer what the baseline does; says what to do.
    """

@final
class GpuLog:
    """What the GPUs say over time: one process of the node writes, each reads for its relay.

    Reasons are those of ``fastwrap.gpu.Reason``.
    """

    def share(self, path: str | PathLike[str] | None = None) -> None:
        """Read and write the board in this file, which processes share; without one, a board of this process alone.

        From now on the requests of this process count as being in flight. A second call does nothing.

        Raises:
            OSError: If the file cannot be made or mapped.
        """

    def begin(self) -> None:
        """Begin to sample, for all who read the board: forget what another sampler failed of."""

    def devices(self, uuids: Sequence[str]) -> None:
        """Name the devices that will be sampled, in the order of the rows; if they are others, all starts anew."""

    def push(self, kind: str, at_ns: int, rows: Sequence[Sequence[int | str]]) -> None:
        """Add one round of readings.

        Args:
            kind: What the columns are. ``memory``: bytes used, reserved by the driver, in all. ``power``: mJ of the
                energy counter, mW, 1 if these are an average (else 0). ``utilization``: percent. ``condition``: degrees
                Celsius, MHz of the SM clock, bits of the throttle reasons.
            at_ns: When the round began.
            rows: A row a device; in place of a number, the reason why there is none.

        Raises:
            ValueError: If a kind or a reason is unknown.
        """

    def failed(self, reason: str) -> None:
        """Say to all who read the board that nothing can be sampled (any more), and why."""

    def unavailable(self, reason: str) -> None:
        """Say that this process has no readings, and why."""

    def catch_up(self) -> str | None:
        """Read what is new on the board; return why its sampler has failed, if it has."""

    def in_flight(self) -> int:
        """Return the number of requests in flight in all processes that share the board."""

    def was_idle(self) -> bool:
        """Whether no request was in flight when energy was last read."""

    def forget_dead(self) -> None:
        """Count no more what processes that died had in flight."""

    def wait(self, timeout_ns: int) -> bool:
        """Wait, without the GIL, until a request begins or ends (True; at once if one did since) or the timeout."""

    def wake(self) -> None:
        """End the wait of the sampler, wherever it is."""

    def latest(
        self,
    ) -> list[tuple[str, int | None, int | None, int | None, int | None, int | None, int | None]]:
        """Return the last readings of each device; nothing where nothing is sampled.

        Returns:
            UUID; bytes used and in all; percent of utilization; mW; microjoules since it is sampled; degrees Celsius.
        """

@final
class Edges:
    """Requests' beginnings and ends, for one sampler."""

    def in_flight(self) -> bool:
        """Return whether this worker serves a request."""

    def wake(self) -> None:
        """End a wait, as if a request had begun."""

    def wait(self, timeout_ns: int) -> bool:
        """Wait, without the GIL, until a request begins or ends (True; at once if one did since) or the timeout."""

@final
class Samples:
    """What is sampled of the engine, over time: one worker at a time samples for all, and all read.

    A sample is up to three numbers; None is one that is not known. For ``Meter.gauges``, in millionths: usage of the KV
    cache (0 to 1), requests running, requests waiting. For ``Meter.host_memory``: resident bytes, processes.
    """

    def refresh(self) -> None:
        """Take over what other workers sampled; to be called now and then, or some are missed."""

    def claim(self, until_ns: int) -> bool:
        """Return whether it falls to the caller to sample: it is time, and no other worker is at it.

        Args:
            until_ns: When a caller that has not called :meth:`release` is taken for dead.
        """

    def release(self, next_ns: int) -> None:
        """Say that the sample that was claimed is done, and before when nobody is to take the next."""

    def push(self, at_ns: int, values: Sequence[int | None]) -> None:
        """Add a sample that was begun at this time.

        Raises:
            ValueError: If there are more than three values.
        """

    def unavailable(self, reason: str) -> None:
        """Say why nothing can be read.

        Args:
            reason: ``disabled``, ``not_offered``, ``unauthorized``, ``unreadable``, ``engine_remote``,
                ``process_not_found``, ``no_permission``, ``not_supported`` or ``unknown_error``.

        Raises:
            ValueError: If the reason is none of these.
        """

    def last(self) -> tuple[int, list[int | None]] | None:
        """Return when the last sample was begun, and its values; None if there is none, or it is too old."""

@final
class Meter:
    """What all requests of a worker share: limits, what is known of engine and GPUs, counters."""

    def __new__(
        cls,
        *,
        enrich: str,
        stall_ns: int,
        json_as_stream: bool,
        max_body_bytes: int,
        max_header_bytes: int,
        max_inflight: int,
        counters_directory: str | PathLike[str] | None = None,
        gate: str | PathLike[str] | None = None,
    ) -> Meter:
        """Start with nothing counted.

        Args:
            enrich: Any of ``body,usage,header,server-timing``, or ``none``.
            stall_ns: Gaps over this count as stalls.
            json_as_stream: Ask for a stream where the client asks for JSON, and assemble the JSON.
            max_body_bytes: Largest request body.
            max_header_bytes: Most bytes of request headers.
            max_inflight: Most requests in flight; 0 for any number.
            counters_directory: Shared by the workers of one server: each counts in a file of its own there.
            gate: A file of :class:`fastwrap.gate.Gate`: requests are refused with 503 as long as it is shut.

        Raises:
            ValueError: If ``enrich`` names an unknown place.
            OSError: If the counters' file cannot be made, or the gate's.
        """

    @property
    def gpu(self) -> GpuLog:
        """Where readings of GPUs go."""

    @property
    def gauges(self) -> Samples:
        """Where the engine's own gauges go."""

    @property
    def host_memory(self) -> Samples:
        """Where the memory of the engine's processes goes."""

    @property
    def is_open(self) -> bool:
        """Whether requests go to the engine; False as long as the gate is shut."""

    def edges(self) -> Edges:
        """Return what wakes a sampler, for one more of them."""

    @property
    def backend(self) -> str:
        """The adapter in use."""

    def set_profile(
        self,
        *,
        backend: str,
        stream_usage: bool,
        done: bool,
        usage_per_choice: bool,
        usage_in_chunks: bool,
        closes_after_stream: bool,
        engine_members: Sequence[str],
        engine_member_with_usage: bool,
        engine_fields: Sequence[tuple[str, str, float]],
        engine_headers: Sequence[tuple[str, str, float]],
        json_form: tuple[str, str, str, str | None] | None,
    ) -> None:
        """Say what the engine is, for requests that begin from now on (see ``fastwrap.backends``).

        Raises:
            ValueError: If a template of ``json_form`` cannot be used.
        """

    def set_keys(self, keys: Sequence[str]) -> None:
        """Let in, from now on, only requests that carry one of these; with none nobody.

        Raises:
            OSError: If the system gives no random bytes.
        """

    def set_engine_key(self, key: str) -> None:
        """Give the engine this key, in the place of the client's.

        Raises:
            ValueError: If it cannot stand in a header.
        """

    def set_cors(self, origins: str) -> None:
        """Let pages of these origins read answers, see :func:`check_origins`; to be called once at most.

        Raises:
            ValueError: If one of them cannot be used.
        """

    def guard_own(
        self, method: str, headers: Headers, *, is_open: bool
    ) -> tuple[tuple[int, HeaderList, bytes] | None, HeaderList]:
        """Look at a request for one of fastwrap's own routes.

        Args:
            method: Its method.
            headers: Its headers.
            is_open: Whether it needs no key.

        Returns:
            Status, headers and body of the answer that it gets instead, or None; headers to be added to its own.
        """

    def begin(self, method: str, target: bytes, headers: Headers, version: str) -> Measured:
        """Admit a request whose I/O is done in Python; its ``answer`` tells if it is not for the engine."""

    def observe(self, method: str, path: str, headers: Iterable[Iterable[bytes]]) -> Observed | None:
        """Begin to measure a request to an application in this process; None if such a one is not measured.

        Raises:
            ValueError: If the headers are malformed.
            TypeError: Likewise.
        """

    def in_flight(self) -> int:
        """Return the number of requests in flight in all workers."""

    def internal_error(self) -> None:
        """Count an exception: a fault of fastwrap's own that was met outside of any request to the engine."""

    def internal_errors(self) -> int:
        """Return the number of panics and exceptions in all workers."""

    def set_hooks(self, told: Sequence[str], enrich: Callable[[bytes], bytes] | None) -> HookQueue:
        """Tell hooks of requests that begin from now on; once.

        Args:
            told: Those that are to be told: ``on_request``, ``on_first_token``, ``on_record``.
            enrich: Called with a record as JSON when its block is being written; returns more members of the block,
                as ``,"name":value``.

        Raises:
            ValueError: If there is no such hook.
        """

    def hook_error(self, hook: str) -> None:
        """Count that a hook failed, or took too long.

        Raises:
            ValueError: If there is no such hook.
        """

    def hooks(self) -> list[tuple[str, list[int]]]:
        """Return each hook with how often it failed, and how often it was not told, in all workers."""

    def requests(self) -> list[tuple[str, str, int]]:
        """Return operation, outcome and count of requests that ended, in all workers."""

    def routes(self) -> list[tuple[str, list[int], list[tuple[list[float], list[int], float]]]]:
        """Return what was measured, a row an operation, in all workers.

        Returns:
            Operation; prompt and completion tokens; and the histograms of duration, time to first token and time per
            output token, each as bounds in seconds, counts (one more than bounds, not cumulated) and sum in seconds.
        """

@final
class HookQueue:
    """What waits for hooks to be told: bounded, and what comes when it is full is dropped and counted."""

    def take(self) -> list[tuple[str, float, bytes]]:
        """Wait for events, and a little longer for others.

        Returns:
            Of each the hook, when it happened in seconds since 1970, and what as JSON; empty when it is closed and all
            have been taken.
        """

    def close(self) -> None:
        """Take no more events."""

@final
class Measured:
    """One request measured while Python does its I/O. The methods are to be called in the order they stand in."""

    def answer(self) -> tuple[int, HeaderList, bytes] | None:
        """Return status, headers and body of fastwrap's own answer, if the request is not for the engine; but once."""

    @property
    def is_measured(self) -> bool:
        """Whether the body is wanted whole."""

    def request_headers(self, host: str) -> HeaderList:
        """Return the headers that the engine is to get."""

    def body(self, body: bytes) -> bytes:
        """Take the client's whole body; return what the engine is to get."""

    def received(self) -> None:
        """Note that the last byte of a body that is not wanted has arrived."""

    def response(self, status: int, headers: Headers, sent_ns: int) -> bool:
        """Take the head of the answer; return whether it must wait for the body (see ``is_collecting``)."""

    @property
    def is_collecting(self) -> bool:
        """Whether the head still has to wait."""

    @property
    def response_status(self) -> int:
        """The status that the client is to get."""

    def response_headers(self) -> HeaderList:
        """Return the headers that the client is to get."""

    def data(self, chunk: bytes, read_ns: int) -> bytes:
        """Take bytes of the answer that arrived at ``read_ns``; return those that may go on."""

    def handed_over(self, read_ns: int) -> None:
        """Note that bytes that arrived at ``read_ns`` were given to the server."""

    def finish(self) -> bytes:
        """End a whole answer; return its last bytes."""

    def fail(self, fault: str) -> tuple[bytes, bool]:
        """End an answer that broke off; return its last bytes, and whether the connection must be aborted."""

    def caller(self) -> tuple[str, str | None]:
        """Return the request's id, and what names its client's key, where hooks want to know."""

    def arrived(self) -> None:
        """Note that the last byte has arrived, and that hooks look at the request: what they take counts."""

    def reject(self, status: int, headers: Headers, body: bytes, code: str) -> tuple[int, HeaderList, bytes]:
        """End the request with a hook's answer, an error of this name; return what the client gets.

        Raises:
            ValueError: If status or headers are malformed.
        """

    def refuse(self, fault: str) -> tuple[int, HeaderList, bytes]:
        """End a request that got no answer; return status, headers and body of fastwrap's own."""

    def cancel(self) -> None:
        """End a request whose client left."""

@final
class Observed:
    """One request to an application in this process. The methods are to be called in the order they stand in.

    Raises:
        RuntimeError: From each of them, if it is over.
    """

    def request(self, body: bytes) -> bytes:
        """Take the client's whole body; return what the application is to get: that very object if that is the same."""

    def head(self, status: int, headers: HeaderList) -> HeaderList | None:
        """Take the head of the answer.

        Returns:
            The headers that the client is to get, that very list if they are the same; None if the head must wait until
            :meth:`body` has returned something.

        Raises:
            ValueError: If status or headers are malformed.
        """

    def body(self, chunk: bytes, more: bool) -> bytes | None:
        """Take bytes of the answer, which arrive now.

        Args:
            chunk: The bytes; a memoryview will do.
            more: Whether others will come; if not, the request is over.

        Returns:
            Those that may go on, ``chunk`` itself if these are they; None if nothing may yet.
        """

    def headers(self) -> HeaderList:
        """Return the headers of a head that had to wait."""

    def end(self, fault: str | None = None) -> bytes:
        """Measure no more, because of a fault or, without one, because the client has left.

        Returns:
            What was held back.

        Raises:
            ValueError: If there is no such fault.
        """

@final
class Relay:
    """The native way to the engine: a thread of its own with pooled connections."""

    def __new__(
        cls,
        meter: Meter,
        upstream: str,
        event_loop: asyncio.AbstractEventLoop,
        *,
        connect_timeout: float,
        first_byte_timeout: float,
        idle_timeout: float,
        total_timeout: float,
    ) -> Relay:
        """Start the thread; nothing is connected yet.

        Args:
            meter: What its requests share.
            upstream: ``http://HOST:PORT``, ``https://HOST`` or ``unix:/PATH``.
            event_loop: The running loop on which answers are handed over.
            connect_timeout: Seconds; 0 for no limit. So are the others.
            first_byte_timeout: From the request's last byte to the answer's head.
            idle_timeout: Between two pieces of the answer.
            total_timeout: For a whole request.

        Raises:
            ValueError: If the upstream or a timeout cannot be used.
        """

    def open(self, method: str, target: bytes, headers: Headers, version: str) -> Exchange:
        """Begin a request, of HTTP's ``version`` as in ASGI. A refused one answers at once."""

    def close(self) -> None:
        """End the thread; requests in flight are dropped."""

@final
class Exchange:
    """One request on its way to the engine and its answer on the way back."""

    def send(self, chunk: bytes, more: bool) -> bool:
        """Give bytes of the body; return whether more may be given at once (else see ``when_writable``)."""

    def refuse(self, fault: str) -> None:
        """End the request while its body is still to come: it gets the answer of this fault, if it has none yet.

        Raises:
            ValueError: If there is no such fault.
        """

    def caller(self) -> tuple[str, str | None]:
        """Return the request's id, and what names its client's key, where hooks want to know.

        Raises:
            RuntimeError: If it is on its way to the engine, or over.
        """

    def arrived(self) -> None:
        """Note that the last byte has arrived, and that hooks look at the request: what they take counts."""

    def reject(self, status: int, headers: Headers, body: bytes, code: str) -> None:
        """End the request with a hook's answer, an error of this name, if it has none yet.

        Raises:
            ValueError: If status or headers are malformed.
        """

    @property
    def is_uploaded(self) -> bool:
        """Whether the body is whole: its end was told, or it is as long as was announced."""

    def when_writable(self, future: asyncio.Future[None]) -> None:
        """Resolve ``future`` when more of the body may be given."""

    def take(self) -> tuple[tuple[int, HeaderList] | None, bytes, bool] | None:
        """Take all that has arrived.

        Returns:
            None if nothing has; else status and headers the first time, body bytes, and whether more will come.

        Raises:
            AnswerAborted: If the answer broke off.
        """

    def when_ready(self, future: asyncio.Future[None]) -> None:
        """Resolve ``future`` when ``take`` has something."""

    def fail(self) -> tuple[tuple[int, HeaderList] | None, bytes, bool] | None:
        """End the request by a fault of fastwrap's own, and count that.

        Returns:
            What the client gets, as ``take`` returns it; None if it got the head of another answer already, so that its
            connection must be aborted.
        """

    def cancel(self) -> None:
        """Drop the request: the engine sees its connection closed."""

@final
class Reply:
    """Takes the answer to one request for an own route of the native server's."""

    def __call__(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer.

        Raises:
            ValueError: If status or headers are malformed.
            RuntimeError: If it was answered already.
        """

@final
class Server:
    """The native server: threads of its own, no Python on a request's way."""

    def __new__(
        cls,
        meter: Meter,
        upstream: str,
        own: Callable[[str, str, HeaderList, Reply], object],
        *,
        check: tuple[Callable[..., object], Callable[[], object], float] | None,
        host: str,
        port: int,
        uds: PathLike[str] | None,
        workers: int,
        grace: float,
        header_timeout: float,
        body_timeout: float,
        connect_timeout: float,
        first_byte_timeout: float,
        idle_timeout: float,
        total_timeout: float,
    ) -> Server:
        """Listen and serve.

        Args:
            meter: What its requests share.
            upstream: ``http://HOST:PORT``, ``https://HOST`` or ``unix:/PATH``.
            own: Called with method, path, headers and reply for requests under ``/-/``; in a thread of the server's.
            check: What may refuse a request, called with its id, its key's, method, target, headers and body, and
                returning None or status, headers, body and the error's name; what is asked instead when that takes
                longer than so many seconds, 0 for any time. Each in a thread that may hang.
            host: Address to listen on.
            port: Port; 0 takes a free one.
            uds: Path of a Unix-domain socket to listen on instead; its file must not be there.
            workers: Threads, each with a way to the engine of its own.
            grace: Seconds for requests in flight to end.
            header_timeout: Seconds for a client to send a request's head, and between two requests; 0 for no limit.
            body_timeout: Of silence in a request's body, and for all of it, with 2 ms a byte more.
            connect_timeout: As for :class:`Relay`; so are the others.
            first_byte_timeout: From the request's last byte to the answer's head.
            idle_timeout: Between two pieces of the answer.
            total_timeout: For a whole request.

        Raises:
            ValueError: If the upstream or a timeout cannot be used.
            OSError: If the address cannot be listened on.
        """

    def stop(self) -> None:
        """Take no more requests, wait for those in flight as long as the grace allows, and end."""
