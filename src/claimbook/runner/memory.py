"""Memory as people and systems speak of it: sizes in words, and the ways in which it runs out.

Knows failures and the system's own counters; nothing of processes or of how runs are made.
"""

from __future__ import annotations

import re
from contextlib import suppress
from fractions import Fraction
from functools import cache
from pathlib import Path

from claimbook.errors import RunError
from claimbook.records import Failure

_UNITS = {
    "b": 1,
    **{f"{prefix}b": 1000**power for power, prefix in enumerate("kmgt", start=1)},
    **{f"{prefix}ib": 1024**power for power, prefix in enumerate("kmgt", start=1)},
    # a bare letter counts by 1024, as Docker and Slurm read it
    **{prefix: 1024**power for power, prefix in enumerate("kmgt", start=1)},
}

_ERRORS = {"MemoryError", "ArrowMemoryError", "OutOfMemoryError"}
"""Python's and numpy's, Arrow's, torch's."""
_MESSAGES = re.compile(
    r"DefaultCPUAllocator: (?:can't allocate|not enough) memory"
    r"|CUDA out of memory|CUDA error: out of memory"  # torch before 2.5; a call that is not the allocator's
    r"|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED"
    r"|\[Errno 12\]"  # ENOMEM
)


def parse_bytes(text: str, where: str = "--memory") -> int:
    """Bytes of a size such as "8GiB", "512 MB" or "1.5G". Raises RunError that names `where` it stands.

    kB, MB, GB, TB count by 1000; KiB, MiB, GiB, TiB and the bare letters by 1024; B is a byte. Case does not
    matter. A number alone is refused: who writes 8 means no bytes.
    """
    match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([a-z]*)\s*", text, re.IGNORECASE | re.ASCII)
    if match and not match[2]:
        raise RunError(f"{text!r} has no unit", fix=f"write {match[1]}GiB, or another unit", where=where)
    unit = _UNITS.get(match[2].lower()) if match else None
    size = int(Fraction(match[1]) * unit) if match and unit else 0
    if not 0 < size < 2**63:
        raise RunError(f"{text!r} is no size in memory", fix="write one such as 8GiB or 512MB", where=where)
    return size


def show_bytes(size: int) -> str:
    """A size as it is read, in three digits: "812 MiB", "1.5 GiB"."""
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if size >= 999.5 * 1024 ** (power - 1):
            return f"{size / 1024**power:.3g} {unit}"
    return f"{size} B"


def ran_out(failure: Failure) -> bool:
    """Whether an error of a notebook says that there was no memory left, the host's or the GPU's."""
    named = failure.error in _ERRORS
    return named or (failure.error.endswith("Error") and bool(_MESSAGES.search(failure.message)))


def system_kills() -> int | None:
    """How often the system has killed a process because memory had run out; None where it does not tell.

    Counted for our control group, where there is one that tells (version 2: memory.events, version 1:
    memory.oom_control), else for the whole machine (/proc/vmstat).
    """
    for path in (*_control_group_files(), Path("/proc/vmstat")):
        with suppress(OSError):
            if found := re.search(r"^oom_kill (\d+)$", path.read_text(), re.MULTILINE):
                return int(found[1])
    return None


@cache
def _control_group_files() -> list[Path]:
    """Where our group's count may stand; a process stays in its group."""
    root, files = Path("/sys/fs/cgroup"), []
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if not controllers:
                files.append(root / group.lstrip("/") / "memory.events")
            elif "memory" in controllers.split(","):
                files.append(root / "memory" / group.lstrip("/") / "memory.oom_control")
    return files
