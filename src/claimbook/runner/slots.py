"""Where a run is made and what it may take: the slots of a machine, their GPUs, and the limits of one run.

Knows nothing of kernels. What a kernel is told of its place and limits are environment variables.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from claimbook.errors import RunError
from claimbook.surroundings import distributions

_GPU = re.compile(r"(\d+|(?:GPU|MIG)-[0-9A-Za-z/-]+)(?::(\d*\.?\d+))?", re.ASCII)
_HOW = 'write GPUs such as "0,1", shares of them such as "0:0.5", or "none"'
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",  # torch, Arrow, and whoever finds no variable of its own
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",  # numpy, scipy
    "VECLIB_MAXIMUM_THREADS",  # numpy on a Mac
    "RAYON_NUM_THREADS",  # tokenizers
)


@dataclass(frozen=True)
class Limits:
    """What one run may take; None for no limit."""

    seconds: float | None = None
    """Wall clock for the whole run, kernel start included."""
    cell_seconds: float | None = None
    """Wall clock for any one cell."""
    memory: int | None = None
    """Bytes that the kernel and all that it starts may hold at a time."""
    threads: int | None = None
    """Processor threads of the numeric libraries; None leaves their own choice."""


@dataclass(frozen=True)
class Place:
    """Where the runs of one slot are made."""

    gpu: str | None = None
    """What its runs see: the index or UUID of a GPU, or several, separated by commas; "" for none; None for
    what the environment lets see."""
    gpu_share: float = 1.0
    """How much of that a run may use: below 1 other slots use it too, from 1 on it is theirs alone."""


def places(slots: int | None = None, gpus: str | None = None) -> list[Place]:
    """The slots of this machine.

    slots: how many; None for as many as the GPUs give, or one. gpus: a text such as "0,1" (one run at a time
    on each), "0:0.5,1" (two on GPU 0), UUIDs in place of indices, or "none"; None leaves the choice to the
    environment. Where CUDA_VISIBLE_DEVICES is set, as a cluster does, an index counts among those that it
    shows. Slots are dealt out over the GPUs in turn. Raises RunError when the text cannot be read, when
    there are more slots than the GPUs give, or when the driver knows no such GPU.
    """
    if slots is not None and slots < 1:
        raise RunError(f"there cannot be {slots} slots", fix="ask for one or more", where="-j")
    if gpus is None or gpus.strip() == "none":
        count, gpu = slots or 1, None if gpus is None else ""
        return [Place(gpu, 1 / count)] * count
    shares = _shares(gpus)
    # 1e-9: three times a third is one
    room = {gpu: int(1 / share + 1e-9) for gpu, share in shares.items()}
    turns = [gpu for turn in range(max(room.values())) for gpu in shares if turn < room[gpu]]
    if slots is not None and slots > len(turns):
        raise RunError(
            f"{slots} slots are too many: {gpus} gives {len(turns)}",
            fix=f'ask for {len(turns)}, or let runs share a GPU: "0:0.5" makes two slots of it',
            where="--gpus",
        )
    return [Place(_visible(gpu), shares[gpu]) for gpu in turns[:slots]]


def threads_of(slots: int) -> int:
    """Threads that a run may use when this process's cores are divided among slots; at least one."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, cores // slots)


def environment(limits: Limits, place: Place) -> dict[str, str]:
    """The variables by which a kernel's libraries learn of its limits and its place."""
    found = dict.fromkeys(_THREAD_VARIABLES, str(limits.threads)) if limits.threads else {}
    if place.gpu is None:
        return found
    found["CUDA_VISIBLE_DEVICES"] = place.gpu
    if place.gpu:  # an index is one of nvidia-smi and the driver, where CUDA alone puts the fastest first
        found["CUDA_DEVICE_ORDER"] = os.environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    if place.gpu and place.gpu_share < 1 and _allocator_takes_a_share():
        found |= _allocator_share(place.gpu_share, os.environ)
    return found


def _shares(text: str) -> dict[str, float]:
    """Share of a run by GPU, in the order of the text."""
    found: dict[str, float] = {}
    for part in text.split(","):
        match = _GPU.fullmatch(part.strip())
        share = float(match[2] or 1) if match else 0.0
        if match is None or not 0.01 <= share <= 1:
            raise RunError(f"{part.strip()!r} is no GPU or share of one", fix=_HOW, where="--gpus")
        if match[1] in found:
            raise RunError(
                f"GPU {match[1]} is named twice",
                fix=f'name it once; "{match[1]}:0.5" makes two slots of it',
                where="--gpus",
            )
        found[match[1]] = share
    return found


def _visible(gpu: str) -> str:
    """A GPU as the driver knows it. Raises RunError when it does not, or the environment does not show it."""
    from claimbook.runner.gpu import installed

    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if gpu.isdigit() and shown is not None:
        allowed = [one.strip() for one in shown.split(",") if one.strip()]
        if int(gpu) >= len(allowed):
            raise RunError(
                f"there is no GPU {gpu}: CUDA_VISIBLE_DEVICES shows {len(allowed)}",
                fix="count from 0 among those, or unset the variable",
                where="--gpus",
            )
        gpu = allowed[int(gpu)]
    known = installed()
    missing = int(gpu) >= len(known) if gpu.isdigit() else not any(one.startswith(gpu) for one in known)
    if known and missing and not gpu.startswith("MIG-"):  # those are not listed
        raise RunError(
            f"there is no GPU {gpu}: this machine has {len(known)}",
            fix="`nvidia-smi -L` lists them, counted from 0",
            where="--gpus",
        )
    return gpu


def _allocator_takes_a_share() -> bool:
    """Whether torch's allocator reads a share from the environment; an earlier one refuses the word.

    https://github.com/pytorch/pytorch/pull/161035, in releases from 2.10.
    """
    match = re.match(r"(\d+)\.(\d+)", distributions().get("torch", ""))
    return match is not None and (int(match[1]), int(match[2])) >= (2, 10)


def _allocator_share(share: float, ours: Mapping[str, str]) -> dict[str, str]:
    """The allocator's variable with a share added. It reads one of two names, the older one first."""
    older, newer = "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"
    name = newer if newer in ours and older not in ours else older
    settings = [
        one for one in ours.get(name, "").split(",") if one and "per_process_memory_fraction" not in one
    ]
    return {name: ",".join([*settings, f"per_process_memory_fraction:{share:g}"])}
