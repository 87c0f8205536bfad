"""Where a value comes from, and what is said of one that cannot be used."""

from __future__ import annotations

import datetime as dt
import http.client
import re
import signal
import socket
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from pathlib import Path

Run = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Any]
Until = Callable[[Callable[[], object], str], None]
UPSTREAM = ("--upstream", "http://127.0.0.1:1")


def error(done: subprocess.CompletedProcess[str], status: int = 2) -> str:
    """What a failed command said, on one line; never a traceback."""
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return " ".join(done.stderr.split("Error: ", 1)[1].split())


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / "fastwrap.toml"
        path.write_text(text)
        return str(path)

    return write


def test_command_line_before_environment_before_file(run: Run, config: Callable[[str], str]) -> None:
    file = config('upstream = "of-file"')
    environment = {"FASTWRAP_UPSTREAM": "of-environment"}
    assert f'upstream in {file}: "of-file"' in error(run("serve", "--config", file))
    said = error(run("serve", "--config", file, env=environment))
    assert 'FASTWRAP_UPSTREAM in the environment: "of-environment"' in said
    said = error(run("serve", "--config", file, "--upstream", "of-command-line", env=environment))
    assert "'--upstream': \"of-command-line\"" in said


def test_file_is_named_by_the_environment_too(run: Run, config: Callable[[str], str]) -> None:
    assert '"of-file"' in error(run("serve", env={"FASTWRAP_CONFIG": config('upstream = "of-file"')}))


def status_of(address: str, method: str, path: str, body: str | None = None) -> int:
    """The status of an answer, 0 if nobody listens yet."""
    connection = http.client.HTTPConnection(address, timeout=20)
    try:
        connection.request(method, path, body)
        return connection.getresponse().status
    except ConnectionRefusedError:
        return 0
    finally:
        connection.close()


def test_values_take_effect(start: Start, until: Until, config: Callable[[str], str]) -> None:
    file = config('max-body-bytes = 8\nport = 0\ngpu = "off"\nupstream = "http://127.0.0.1:1/v1/"\n')
    proxy = start("serve", "--config", file)
    address = proxy.until(r"fastwrap on http://(127\.0\.0\.1:[1-9]\d*) -> http://127\.0\.0\.1:1\n")[1]
    until(lambda: status_of(address, "GET", "/-/healthy") == 200, "the first answer")
    assert status_of(address, "POST", "/v1/chat/completions", "x" * 9) == 413
    assert status_of(address, "POST", "/v1/chat/completions", "x" * 8) == 502
    proxy.end(signal.SIGTERM)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--port", "70000"), ("--port", "http"), ("--workers", "0"), ("--backend", "vlm"), ("--relay", "curl"),
        ("--enrich", "body,head"), ("--gpu", "on"), ("--max-body-bytes", "0"), ("--max-header-bytes", "1.5"),
        ("--max-inflight", "-1"), ("--connect-timeout", "inf"), ("--first-byte-timeout", "nan"),
        ("--idle-timeout", "-1"), ("--total-timeout", "1e300"), ("--stall-ms", "x"), ("--grace", "-0.5"),
        ("--log-level", "loud"), ("--server", "apache"), ("--upstream", "127.0.0.1:8000"),
        ("--hook-timeout", "-1"), ("--translate-chat", "tig"), ("--translate-chat", "os:path"),
        ("--translate-chat", "fastwrap.translations.base:Translation"),
        ("--api-key-file", "/"), ("--tls-certificate", "/"), ("--tls-key", "/"), ("--cors-origins", "https://a.example/"),
        ("--upstream", "ftp://engine"), ("--upstream", "http://user:secret@engine"), ("--upstream", "unix:engine.sock"),
    ],
)  # fmt: skip
def test_bad_value_is_named_with_where_it_came_from(run: Run, option: str, value: str) -> None:
    variable = "FASTWRAP_" + option[2:].replace("-", "_").upper()
    base = () if option == "--upstream" else UPSTREAM
    assert error(run("serve", *base, f"{option}={value}")).startswith(f"Invalid value for '{option}': ")
    said = error(run("serve", *base, env={variable: value}))
    assert said.startswith(f"Invalid value for {variable} in the environment: ")


def test_bad_address_says_what_one_looks_like(run: Run) -> None:
    assert "use http://HOST:PORT, https://HOST or unix:/PATH" in error(run("serve", "--upstream", "localhost:8000"))


def test_no_upstream_says_what_to_do(run: Run) -> None:
    said = error(run("serve"))
    for hint in ("fastwrap serve --upstream http://127.0.0.1:8000", "FASTWRAP_UPSTREAM", "--config", "fastwrap demo"):
        assert hint in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('upstrem = "http://127.0.0.1:1"', "there is no option 'upstrem'; did you mean upstream?"),
        ("first-byte-timout = 1", "there is no option 'first-byte-timout'; did you mean first_byte_timeout?"),
        ("zzz = 1", "there is no option 'zzz'; known are upstream, "),
        ('port = "8080"', "port must be a whole number, not '8080'"),
        ("port = 80.5", "port must be a whole number, not 80.5"),
        ("workers = true", "workers must be a whole number, not True"),
        ("measure_json_as_stream = 1", "measure_json_as_stream must be true or false, not 1"),
        ('grace = "long"', "grace must be a number, not 'long'"),
        ('enrich = ["body"]', "enrich must be a string, not ['body']"),
        ("[serve]\nport = 1", "there are no sections, so no [serve]"),
        ("port =", "is no TOML file: "),
    ],
)
def test_bad_file(run: Run, config: Callable[[str], str], text: str, said: str) -> None:
    file = config(text)
    words = error(run("serve", "--config", file, *UPSTREAM))
    assert words.startswith(f"Invalid value for '--config': {file}")
    assert said in words


@pytest.mark.parametrize(
    ("text", "said"),
    [('backend = "vlm"', "backend in {}: 'vlm' is not one of 'auto'"), ("port = 65536", "port in {}: 65536 cannot")],
)
def test_bad_value_in_file(run: Run, config: Callable[[str], str], text: str, said: str) -> None:
    file = config(text)
    assert said.format(file) in error(run("serve", "--config", file, *UPSTREAM))


def test_missing_file(run: Run, tmp_path: Path) -> None:
    missing = str(tmp_path / "none.toml")
    said = f"File '{missing}' does not exist."
    assert error(run("serve", "--config", missing)) == f"Invalid value for '--config': {said}"
    named = error(run("serve", env={"FASTWRAP_CONFIG": missing}))
    assert named == f"Invalid value for FASTWRAP_CONFIG in the environment: {said}"


def test_slip_in_a_variable_is_spoken_of_and_others_are_not(run: Run) -> None:
    slip = run("serve", env={"FASTWRAP_UPSTREM": "x", "FASTWRAP_SERVICE_HOST": "10.0.0.1"}).stderr
    assert "Warning: FASTWRAP_UPSTREM in the environment is unknown; did you mean FASTWRAP_UPSTREAM?" in slip
    assert "SERVICE_HOST" not in slip


def test_port_variable_that_kubernetes_sets_is_left_out(run: Run) -> None:
    done = run("doctor", "--port", "0", env={"FASTWRAP_PORT": "tcp://10.0.0.1:8080"})
    assert done.returncode == 0, done.stderr
    done = run("serve", env={"FASTWRAP_PORT": "tcp://10.0.0.1:8080"})
    assert "fastwrap must know the engine's address" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("srve",), "there is no command 'srve'; did you mean serve?"),
        (("serve", "--upstrem", "x"), "--upstream"),
        (("engine", "--flavour", "vllm"), "--flavor"),
        (("engine", "--ttft-ms", "nan"), "NaN"),
        (("engine", "--tokens", "0"), "'--tokens': 0"),
    ],
)
def test_slip_on_the_command_line(run: Run, arguments: tuple[str, ...], said: str) -> None:
    assert said in error(run(*arguments))


@pytest.mark.parametrize("server", ["granian", "native"])
def test_taken_port(run: Run, taken_port: int, server: str) -> None:
    said = error(run("serve", *UPSTREAM, "--port", str(taken_port), "--server", server), 1)
    assert said == f"127.0.0.1:{taken_port} is taken: stop what listens there, or choose another one with --port"


@pytest.mark.parametrize(("option", "value"), [("--port", "8080"), ("--host", "127.0.0.1")])
def test_a_socket_takes_the_place_of_host_and_port(
    run: Run, config: Callable[[str], str], tmp_path: Path, option: str, value: str
) -> None:
    socket_options = ("serve", *UPSTREAM, "--uds", str(tmp_path / "fastwrap.sock"))
    hint = "--uds is given too: listen at one place only"
    assert error(run(*socket_options, option, value)) == f"Invalid value for '{option}': {hint}"
    variable = "FASTWRAP_" + option[2:].upper()
    said = error(run(*socket_options, env={variable: value}))
    assert said == f"Invalid value for {variable} in the environment: {hint}"
    file = config(f'uds = "/fastwrap.sock"\n{option[2:]} = {value if option == "--port" else repr(value)}')
    assert error(run("serve", *UPSTREAM, "--config", file)) == f"Invalid value for {option[2:]} in {file}: {hint}"


def test_the_reference_relay_is_granians(run: Run) -> None:
    said = error(run("serve", *UPSTREAM, "--server", "native", "--relay", "httpx"))
    assert said.startswith("Invalid value for '--relay': httpx is for --server granian")
    said = error(run("serve", *UPSTREAM, "--server", "native", "--translate-chat", "tgi"))
    assert said.startswith("Invalid value for '--translate-chat': the native server has no Python")


@pytest.mark.parametrize("option", ["--api-key-file", "--upstream-api-key-file"])
def test_a_file_of_keys_that_cannot_be_used(run: Run, tmp_path: Path, option: str) -> None:
    """It is said what to do, and never what stands in it."""
    path = tmp_path / "keys"

    def said() -> str:
        words = error(run("serve", *UPSTREAM, option, str(path)))
        assert words.startswith(f"Invalid value for '{option}': {path}")
        return words

    assert f"is no file: make one with a key a line, as by: openssl rand -hex 32 > {path}" in said()
    for text, wrong in (
        (b"", "holds no key: write one a line into it"),
        (b"\n# none yet\n", "holds no key"),
        (b"good\ntwo words\n", "line 2 is no key: one a line, of visible ASCII characters, no spaces"),
        ("schlüssel".encode(), "line 1 is no key"),
        (b"\xff\xfe", "is no text"),
        (b"k" * ((1 << 20) + 1), "is larger than 1 MiB"),
    ):
        path.write_bytes(text)
        words = said()
        assert wrong in words
        assert "two" not in words
        assert "schl" not in words


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place with chains and keys: good, another's, encrypted, and of a curve that rustls does not know."""
    place = tmp_path_factory.mktemp("certificates")
    for name in ("good", "other"):
        made = trustme.CA().issue_cert("localhost")
        made.cert_chain_pems[0].write_to_path(str(place / f"{name}.pem"))
        made.private_key_pem.write_to_path(str(place / f"{name}.key"))
    good = serialization.load_pem_private_key((place / "good.key").read_bytes(), None)
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (place / "locked.key").write_bytes(good.private_bytes(*form, serialization.BestAvailableEncryption(b"x")))
    curve = ec.generate_private_key(ec.SECP521R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.timezone.utc)
    built = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(curve.public_key())
    built = built.serial_number(1).not_valid_before(now).not_valid_after(now + dt.timedelta(days=1))
    signed = built.sign(curve, hashes.SHA512())
    (place / "curve.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (place / "curve.key").write_bytes(curve.private_bytes(*form, serialization.NoEncryption()))
    return place


@pytest.mark.parametrize(
    ("chain", "key", "more", "option", "said"),
    [
        ("good.pem", "", (), "certificate", "its private key is needed, too: --tls-key"),
        ("", "good.key", (), "key", "its certificate is needed, too: --tls-certificate"),
        ("good.pem", "good.key", ("--server", "native"), "certificate", "use --server granian, or put"),
        ("good.pem", "good.key", ("--uds", "s"), "certificate", "TLS is for a port"),
        ("none.pem", "good.key", (), "certificate", "none.pem cannot be read: No such file or directory"),
        ("good.pem", "none.key", (), "key", "none.key cannot be read: No such file or directory"),
        ("good.pem", "locked.key", (), "key", "locked.key is encrypted: take its password off"),
        ("good.pem", "other.key", (), "certificate", "both PEM: KEY_VALUES_MISMATCH"),
        ("good.key", "good.pem", (), "certificate", "both PEM: "),
        ("curve.pem", "curve.key", (), "certificate", "both PEM: "),
    ],
)
def test_a_certificate_that_cannot_be_used(
    run: Run, certificates: Path, chain: str, key: str, more: tuple[str, ...], option: str, said: str
) -> None:
    options = [f"--tls-certificate={certificates / chain}"] if chain else []
    options += [f"--tls-key={certificates / key}"] if key else []
    words = error(run("serve", *UPSTREAM, *options, *more))
    assert words.startswith(f"Invalid value for '--tls-{option}': ")
    assert said in words


def test_taken_port_of_the_engine(run: Run, taken_port: int) -> None:
    said = error(run("engine", "--port", str(taken_port)), 1)
    assert said.startswith(f"127.0.0.1:{taken_port} cannot be listened on: ")
    assert said.endswith("choose another port with --port")


def test_foreign_address(run: Run) -> None:
    assert "cannot be listened on" in error(run("serve", *UPSTREAM, "--host", "192.0.2.1"), 1)


def test_unreachable_engine_is_warned_of_and_served_for(start: Start, until: Until, silent_port: int) -> None:
    url = f"http://127.0.0.1:{silent_port}"
    proxy = start("serve", "--port", "0", "--gpu", "off", "--upstream", url)
    proxy.until(rf"Warning: {re.escape(url)} cannot be reached: Connection refused\..*\n")
    address = proxy.until(r"fastwrap on http://(\S+)")[1]
    until(lambda: status_of(address, "GET", "/v1/models") == 502, "the answer in the engine's place")
    proxy.end(signal.SIGTERM)
    assert proxy.text.count("Warning:") == 1


def test_reachable_engine_is_not_warned_of(start: Start) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(20)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        proxy = start("serve", "--port", "0", "--gpu", "off", "--backend", "vllm", "--upstream", url)
        listener.accept()[0].close()  # with a backend that is given, nobody else connects
        proxy.end(signal.SIGTERM)
    assert "fastwrap on " in proxy.text
    assert "Warning" not in proxy.text
