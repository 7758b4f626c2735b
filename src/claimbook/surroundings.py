"""What a result may depend on besides its code and data: versions, hardware, git state. No variable's value.

Knows nothing of records; returns plain values that go into them.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

SHOWN = (
    "claimbook",
    "torch",
    "transformers",
    "tokenizers",
    "numpy",
    "pillow",
    "scipy",
    "statsmodels",
    "papermill",
)
"""The distributions whose versions are shown; all others are covered by one hash."""


@cache
def distributions() -> dict[str, str]:
    """Python, the versions that matter most, and a hash over every installed distribution."""
    installed = {d.name.lower(): d.version for d in metadata.distributions() if d.name}
    lines = "\n".join(f"{name}=={version}" for name, version in sorted(installed.items()))
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **{name: installed[name] for name in SHOWN if name in installed},
        "distributions": hashlib.sha256(lines.encode()).hexdigest()[:16],
    }


def kernel_environment() -> dict[str, str]:
    """Processor, threads, and the GPU with its driver, as the process that computes sees them."""
    environment = {"processor": _processor(), "cores": str(os.cpu_count())}
    torch = sys.modules.get("torch")
    if torch is not None:
        environment["threads"] = str(torch.get_num_threads())
        if torch.cuda.is_available():
            environment["gpu"] = torch.cuda.get_device_name()
            environment["cuda"] = str(torch.version.cuda)
            environment["driver"] = _driver()
    return environment


def peak_memory() -> int | None:
    """Largest resident memory of this process so far, bytes; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


def git_state(folder: Path) -> dict[str, str | None]:
    """`commit`, and `diff`: a hash of what differs from it (tracked files), None when nothing does.

    Both are None outside a git repository or without git.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "diff", "HEAD") if commit else None
    return {
        "commit": commit.strip() if commit else None,
        "diff": hashlib.sha256(changes.encode()).hexdigest()[:16] if changes else None,
    }


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace")


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _driver() -> str:
    try:
        return Path("/proc/driver/nvidia/version").read_text().split("Kernel Module")[1].split()[0]
    except (OSError, IndexError):
        return "unknown"
