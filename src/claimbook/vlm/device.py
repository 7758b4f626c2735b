"""Where tensors live and in which precision: CPU, CUDA or MPS. Knows nothing of models."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext

import torch

from claimbook.errors import TechniqueError


def pick_device(name: str = "auto") -> torch.device:
    """The device of a name: `auto` takes CUDA, then Apple's MPS, then the CPU.

    Raises TechniqueError when the named device is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:
        raise TechniqueError(
            f"device {name!r} cannot be used: {str(error).splitlines()[0]}",
            fix='name "auto", "cpu", "cuda" or "mps"; `python -c "import torch; '
            'print(torch.cuda.is_available())"` says whether this torch sees a GPU',
        ) from error
    return device


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """bfloat16 matrix products on CUDA; float32 elsewhere, where bfloat16 gained nothing."""
    return torch.autocast("cuda", dtype=torch.bfloat16) if device.type == "cuda" else nullcontext()


def make_deterministic(seed: int) -> None:
    """Seed torch and ask for deterministic kernels: the same seed gives the same run on the same machine.

    On CUDA kernels without a deterministic form only warn.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS needs it to be deterministic
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # our code reads no memory before writing it; filling it first costs 5 % of a tiny training
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
