"""Plugins that cannot be loaded, and hooks where a process shows nothing more."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from fastwrap._native import Meter
from fastwrap.cli import main
from fastwrap.errors import PluginError
from fastwrap.hooks.calls import Hooks
from fastwrap.hooks.loading import load


@pytest.mark.parametrize("server", ["granian", "native"])
@pytest.mark.parametrize("place", ["option", "environment", "file"])
def test_a_plugin_that_cannot_be_loaded_ends_the_command(server: str, place: str, tmp_path: Path) -> None:
    file = tmp_path / "fastwrap.toml"
    file.write_text('plugin = ["fastwrap.plugins.access_log:AccessLog", "nowhere:No"]' if place == "file" else "")
    option = ("--plugin", "nowhere:No") if place == "option" else ()
    env = {"FASTWRAP_PLUGIN": "fastwrap.plugins.access_log:AccessLog nowhere:No"} if place == "environment" else {}
    command = ("serve", "--upstream", "http://127.0.0.1:9", "--port", "0", "--server", server, "--config", str(file))
    result = CliRunner().invoke(main, [*command, *option], env=env)
    assert result.exit_code == 1
    assert "the plugin nowhere:No cannot be loaded" in result.output
    assert "is its package installed" in result.output


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("hooks.planted:None", "has no attribute 'None'"),
        ("nowhere", "name it as module:object"),
        ("hooks.planted:Misspelt", "on_recrd"),
        ("hooks.planted:Hookless", "@fastwrap.hooks.hookimpl"),
        ("hooks.planted:SECRET?a=b", "takes no options"),
        ("hooks.planted:Notes", "its options are path"),
        ("hooks.planted:Notes?path=a&secret=sk", "its options are path"),
        ("fastwrap.plugins.rate_limit:RateLimit?requests_per_minute=sk", "must be a whole number"),
        ("fastwrap.plugins.rate_limit:RateLimit", "name a limit"),
        ("fastwrap.plugins.schema:Schema?path=/nowhere.json", "FileNotFoundError"),
    ],
)
def test_an_error_says_what_to_do_and_not_what_an_option_was(name: str, says: str) -> None:
    with pytest.raises(PluginError) as caught:
        load([name])
    assert says in str(caught.value)
    assert "sk" not in str(caught.value).replace("SECRET", "")


def test_plugins_are_called_in_the_order_in_which_they_are_named() -> None:
    manager = load(["hooks.planted:Moody", "hooks.planted:Closed"])
    calls = reversed(manager.hook.validate.get_hookimpls())
    assert [call.plugin_name for call in calls] == ["hooks.planted:Moody", "hooks.planted:Closed"]


@pytest.fixture
def meter() -> Meter:
    return Meter(
        enrich="body", stall_ns=1, json_as_stream=False, max_body_bytes=100, max_header_bytes=1000, max_inflight=0
    )


def test_a_plugin_that_fails_closed_lets_nothing_pass_unseen(meter: Meter) -> None:
    hooks = Hooks(meter, ["hooks.planted:Closed"], hides_keys=False)
    for answer in (hooks.validate("id", None, "POST", b"/", [], b""), hooks.late()):
        assert answer is not None
        assert (answer[0], answer[3]) == (503, "validation_unavailable")
    assert dict(meter.hooks())["validate"] == [2, 0]


def test_what_a_hanging_hook_is_not_told_is_counted(meter: Meter) -> None:
    meter.set_hooks(["on_record"], None)  # nobody takes anything
    for _ in range(9000):
        meter.begin("POST", b"/v1/chat/completions", [], "1.1").cancel()
    errors, dropped = dict(meter.hooks())["on_record"]
    assert (errors, dropped) == (0, 9000 - 8192)
    assert dict(meter.hooks())["on_request"] == [0, 0]
