"""What there is here to reproduce a paper with: memory, disk, a GPU, pretrained weights.

Asks the operating system and this Python alone: no network, and no torch, which takes seconds to import.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

GIB = 2**30
_WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx"}
"""How files of weights end."""


@dataclass(frozen=True)
class Machine:
    """What a run could use now."""

    memory: float
    """Memory that is free, GiB."""
    disk: float
    """Space that is free where the workspace lies, GiB."""
    gpu: bool
    """Whether there is an NVIDIA GPU."""
    gpu_memory: float | None = None
    """Memory of the largest one, GiB; None where nvidia-smi does not tell."""


def this_machine(folder: Path) -> Machine:
    """The machine as it is now; `folder` names the disk."""
    import psutil

    cards = Path("/proc/driver/nvidia/gpus")
    memories = _gpu_memories()
    gpu = bool(memories) or (cards.is_dir() and any(cards.iterdir()))
    return Machine(
        psutil.virtual_memory().available / GIB,
        shutil.disk_usage(folder).free / GIB,
        gpu,
        max(memories, default=None),
    )


def weights_are_here(name: str) -> bool:
    """Whether weights load without a network: an installed package, or a hub id in the local cache."""
    return _in_hub_cache(name) if "/" in name else _is_installed(name)


def _gpu_memories() -> list[float]:
    """GiB of each GPU that nvidia-smi lists; empty without one, or when it fails."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    query = [command, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    with suppress(OSError, ValueError, subprocess.SubprocessError):
        said = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
        return [float(line) / 1024 for line in said.splitlines()]
    return []


def _is_installed(name: str) -> bool:
    """Whether a distribution, or else a top-level module, is installed; nothing of it is imported."""
    from importlib import metadata, util

    with suppress(metadata.PackageNotFoundError, ValueError):
        metadata.distribution(name)
        return True
    return re.fullmatch(r"\w+", name) is not None and util.find_spec(name) is not None


def _in_hub_cache(name: str) -> bool:
    """Whether the Hugging Face hub's cache holds a snapshot of a repository with weights in it."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    with suppress(HFValidationError, LocalEntryNotFoundError):
        snapshot = Path(snapshot_download(name, local_files_only=True))
        return any(path.suffix in _WEIGHTS for path in snapshot.rglob("*"))
    return False
