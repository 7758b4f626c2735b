"""What the GPU driver tells of a run: which GPU, the memory of its processes, the energy spent meanwhile.

Through NVIDIA's management library, whose permission or absence is never an error here: what is not told is
None. Knows nothing of torch.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

from claimbook.runner.slots import Place

_EVERY = 1.0
"""Seconds between two looks at the memory."""


class Meter:
    """The GPUs of one run while it is made: those that its place lets it see."""

    def __init__(self, place: Place) -> None:
        self.peak_memory: int | None = None
        """Largest memory that the run's processes held together, bytes; None when none was seen there.

        In a container the driver may count processes otherwise than we do, and none is found.
        """
        self._devices = _devices(place.gpu)
        self._alone = place.gpu_share >= 1
        self._before = self._energy()
        self._next = 0.0

    @property
    def environment(self) -> dict[str, str]:
        """`gpu` and `driver`, as far as they are told."""
        names = [name for device in self._devices if (name := _told("nvmlDeviceGetName", device))]
        driver = _told("nvmlSystemGetDriverVersion") if names else None
        told = {"gpu": ", ".join(names), "driver": driver}
        return {name: value for name, value in told.items() if value}

    @property
    def energy(self) -> float | None:
        """Joules that the GPUs have spent since this was made; None where one of them does not tell, or when
        other runs use them too."""
        now = self._energy()
        return None if now is None or self._before is None else round(now - self._before, 3)

    def sample(self, processes: Collection[int]) -> None:
        """Look at the memory of the run's processes, by their ids; at most once a second."""
        if not self._devices or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _EVERY
        held = [
            found.usedGpuMemory
            for device in self._devices
            for found in _told("nvmlDeviceGetComputeRunningProcesses", device) or []
            if found.pid in processes and found.usedGpuMemory is not None
        ]
        if held:
            self.peak_memory = max(sum(held), self.peak_memory or 0)

    def _energy(self) -> float | None:
        """Joules that the GPUs have spent, together, since the driver was loaded."""
        if not self._alone or not self._devices:
            return None
        spent = [_told("nvmlDeviceGetTotalEnergyConsumption", device) for device in self._devices]
        return None if None in spent else sum(spent) / 1000


def installed() -> list[str]:
    """The UUIDs of this machine's GPUs in the driver's order; empty where no driver tells."""
    count = _told("nvmlDeviceGetCount") or 0
    devices = [_told("nvmlDeviceGetHandleByIndex", index) for index in range(count)]
    return [_told("nvmlDeviceGetUUID", device) or "" if device else "" for device in devices]


def unmeasured(gpus: Sequence[str]) -> str | None:
    """What the user of named GPUs should know where NVIDIA's driver tells of none; other makers' can be used.

    None where it does, and where no GPU is named.
    """
    if not gpus or installed():
        return None
    return (
        f"NVIDIA's driver tells of no GPU here: whether there is a GPU {', '.join(dict.fromkeys(gpus))} "
        "cannot be checked, and memory, energy and driver are not recorded"
    )


def _devices(gpu: str | None) -> list[Any]:
    """The driver's handles of a place's GPUs. As CUDA does, it stops at the first that there is not."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES") if gpu is None else gpu
    if named is None:
        names = [str(index) for index in range(_told("nvmlDeviceGetCount") or 0)]
    else:
        names = [name.strip() for name in named.split(",")]
    found = []
    for name in names:
        device = _device(name)
        if device is None:
            break
        found.append(device)
    return found


def _device(name: str) -> Any:
    if name.isdigit():
        return _told("nvmlDeviceGetHandleByIndex", int(name))
    whole = [uuid for uuid in installed() if uuid.startswith(name)] if name.startswith("GPU-") else []
    return _told("nvmlDeviceGetHandleByUUID", whole[0] if len(whole) == 1 else name)


def _told(question: str, *arguments: Any) -> Any:
    """The library's answer to one of its functions, or None: no permission, say, or a GPU that is gone."""
    library = _library()
    if library is None:
        return None
    with suppress(library.NVMLError):
        return getattr(library, question)(*arguments)
    return None


@cache
def _library() -> Any:
    """The management library, ready; None without a driver, which costs 0.3 ms to find out."""
    try:
        ctypes.CDLL("nvml.dll" if os.name == "nt" else "libnvidia-ml.so.1")
    except OSError:
        return None
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml
