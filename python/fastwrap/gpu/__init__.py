"""What the GPUs do, sampled in the background through NVML: the relay reads it, and no answer waits for Python.

One sampler a node: the processes that sample the same devices elect one (`election`), the others read what it writes.
"""

from fastwrap.gpu.devices import Selection
from fastwrap.gpu.nvml import Device, GpuError, Nvml, Reason
from fastwrap.gpu.readings import Readings
from fastwrap.gpu.sampler import GpuSampler, Mode, start_sampler

__all__ = ["Device", "GpuError", "GpuSampler", "Mode", "Nvml", "Readings", "Reason", "Selection", "start_sampler"]
