"""LiteLLM's proxy server."""

from __future__ import annotations

from dataclasses import dataclass
from string import Template
from typing import TYPE_CHECKING

from harness import environment
from harness.process import KEY
from harness.proxy import MODEL, Launch

if TYPE_CHECKING:
    from harness.proxy import Seat

_VERSION = "1.108.7"
_CONFIGURATION = Template("""
model_list:
- model_name: $model
  litellm_params: {model: hosted_vllm/$model, api_base: "$engine/v1", api_key: "-"}
litellm_settings: {telemetry: false}
""")


@dataclass(frozen=True)
class LiteLlm:
    """One worker, under uvicorn, as it comes."""

    name: str = "litellm"
    about: str = "its proxy server (Python), one worker under uvicorn, no database"

    def install(self) -> str:
        """From PyPI; it brings a hundred packages."""
        environment.install(self.name, f"litellm[proxy]=={_VERSION}")
        return _VERSION

    def launch(self, seat: Seat) -> Launch:
        """It asks the world for prices of models unless it is told to use its own list."""
        file = seat.directory / "litellm.yaml"
        file.write_text(_CONFIGURATION.substitute(model=MODEL, engine=seat.engine), encoding="utf-8")
        program = environment.root() / self.name / "bin" / "litellm"
        options = ("--config", str(file), "--host", "127.0.0.1", "--port", str(seat.port), "--telemetry", "False")
        env = {"LITELLM_MASTER_KEY": KEY, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
        return Launch((str(program), *options), env)
