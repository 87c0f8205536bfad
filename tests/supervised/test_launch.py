"""Which engine a command starts, and where it will listen."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastwrap.errors import SettingsError
from fastwrap.run.launch import Launch, recognise

LOCAL = "http://127.0.0.1"
COMMANDS = {
    "vllm serve m": ("vllm", f"{LOCAL}:8000"),
    "vllm serve m --port 9": ("vllm", f"{LOCAL}:9"),
    "vllm serve m --port=9 --host 0.0.0.0": ("vllm", f"{LOCAL}:9"),
    "vllm serve m --port 9 --port 10": ("vllm", f"{LOCAL}:10"),
    "/opt/bin/vllm serve --uds /run/vllm.sock m": ("vllm", "unix:/run/vllm.sock"),
    "python -m vllm.entrypoints.openai.api_server --model m --host ::": ("vllm", "http://[::1]:8000"),
    "python3.12 -u -m sglang.launch_server --model-path m": ("sglang", f"{LOCAL}:30000"),
    "sglang serve --model-path m --host 10.0.0.1": ("sglang", "http://10.0.0.1:30000"),
    "text-generation-launcher --model-id m": ("tgi", f"{LOCAL}:3000"),
    "text-generation-launcher -p 80 --hostname 0.0.0.0": ("tgi", f"{LOCAL}:80"),
    "env PORT=81 text-generation-launcher": ("tgi", f"{LOCAL}:81"),
    "transformers serve m --host localhost --port 9": ("transformers", "http://localhost:9"),
    "llama-server -m m.gguf": ("llamacpp", f"{LOCAL}:8080"),
    "env LLAMA_ARG_PORT=9 LLAMA_ARG_HOST=:: llama-server": ("llamacpp", "http://[::1]:9"),
    "llama-server -m m.gguf --host /run/llama.sock": ("llamacpp", "unix:/run/llama.sock"),
    "ollama serve": ("ollama", f"{LOCAL}:11434"),
    "env OLLAMA_HOST=0.0.0.0 ollama serve": ("ollama", f"{LOCAL}:11434"),
    "env OLLAMA_HOST=:9 ollama serve": ("ollama", f"{LOCAL}:9"),
    "env OLLAMA_HOST=http://10.0.0.1 ollama serve": ("ollama", "http://10.0.0.1:80"),
    "env OLLAMA_HOST=[::1]:9 ollama serve": ("ollama", "http://[::1]:9"),
    "nice -n 5 numactl -N 0 vllm serve m": ("vllm", f"{LOCAL}:8000"),
    "fastwrap engine --port 9": ("auto", f"{LOCAL}:9"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_known_engine(command: str) -> None:
    assert recognise(command.split(), {}) == Launch(*COMMANDS[command])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "command", ["./start.sh", "vllm bench serve", "ollama run m", "python -m http.server", "serve vllm"]
)
def test_any_other_command(command: str) -> None:
    assert recognise(command.split(), {}) is None


def test_the_environment_is_heeded_and_comes_after_options() -> None:
    environment = {"PORT": "81", "HOSTNAME": "10.0.0.1", "env LLAMA_ARG_PORT": "82", "OLLAMA_HOST": "10.0.0.2:83"}
    found = [
        recognise(command.split(), environment) for command in ("text-generation-launcher", "llama-server --port 9")
    ]
    assert found == [Launch("tgi", "http://10.0.0.1:81"), Launch("llamacpp", f"{LOCAL}:9")]
    assert recognise(["ollama", "serve"], environment) == Launch("ollama", "http://10.0.0.2:83")


def test_a_socket_is_found_from_where_the_engine_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert recognise(["vllm", "serve", "m", "--uds", "v.sock"], {}) == Launch("vllm", f"unix:{tmp_path}/v.sock")


@pytest.mark.parametrize("port", ["0", "x", "65536", "-1"])
def test_a_port_that_cannot_be_asked(port: str) -> None:
    with pytest.raises(SettingsError, match=f"names '{port}' as its port"):
        recognise(["vllm", "serve", "m", "--port", port], {})
