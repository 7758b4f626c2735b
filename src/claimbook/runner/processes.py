"""The processes of one run: its kernel and all that this starts, measured while it goes on and ended with it.

They are found from the processes that watch over them, the worker and the keeper of a forked kernel: both
adopt what a dead parent leaves behind (Linux). Knows nothing of notebooks.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

_PAGE = os.sysconf("SC_PAGESIZE") if hasattr(os, "sysconf") else 4096
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_SHARED_EVERY = 5.0
"""Seconds after which the shared pages are counted anew: that takes 16 ms for a process of 400 MB, 84 ms for
one of 2.4 GB, where resident memory takes 0.03 ms."""


@dataclass(frozen=True)
class Sample:
    """What a run's processes hold now."""

    memory: int
    """Bytes: resident, each page that processes share counted in parts, one to each of them."""
    cpu_seconds: float
    """Processor time of the processes that live, and of the children that they have waited for."""


class ProcessTree:
    """Kernel and descendants of one run. What was seen once is remembered by process id and creation time,
    so that it is ended even when its parent is gone."""

    def __init__(self, worker: int) -> None:
        self._worker: psutil.Process | None = None
        self._keeper: psutil.Process | None = None
        self._kernel: int | None = None
        self._seen: dict[int, psutil.Process] = {}
        self._resident = 0
        self._shared = 0
        """What resident memory counts more than once, when it was last looked at."""
        self._looked = 0.0
        with suppress(psutil.Error):
            self._worker = psutil.Process(worker)

    def add(self, kernel: int, keeper: int | None) -> None:
        """Take up the kernel, and the process that watches over it where it was forked."""
        self._kernel = kernel
        self._remember([kernel])
        if keeper is not None:
            with suppress(psutil.Error):
                self._keeper = psutil.Process(keeper)

    @property
    def kernel_lives(self) -> bool:
        """Whether the kernel was up and is not gone."""
        return self._kernel in self._seen and _lives(self._seen[self._kernel])

    @property
    def ids(self) -> set[int]:
        """Process ids of kernel and descendants, as last seen."""
        return set(self._seen)

    def sample(self, *, exactly: bool = False) -> Sample | None:
        """Look for new descendants and measure all; None when there is nothing to measure.

        memory: the sum of proportional set sizes (smaps_rollup), so that neither pages which forked kernels
        share with their server nor those of data loaders count more than once. Resident memory is cheaper by
        far, so the difference of the two is kept while that moves by less than a twentieth, for 5 s at most,
        unless it must be `exactly`.
        """
        self._find()
        resident, cpu = 0, 0.0
        for process in list(self._seen.values()):
            if (measured := _measured(process)) is None:
                del self._seen[process.pid]
            else:
                resident += measured.memory
                cpu += measured.cpu_seconds
        if not self._seen:
            return None
        moved = abs(resident - self._resident) > self._resident / 20
        if exactly or moved or time.monotonic() - self._looked > _SHARED_EVERY:
            self._shared = resident - sum(_proportional(process.pid) for process in self._seen.values())
            self._resident, self._looked = resident, time.monotonic()
        return Sample(max(0, resident - self._shared), cpu)

    def end(self, *, patience: float, marker: tuple[str, str] | None = None) -> list[int]:
        """Kill what still lives and wait until it is gone; the keeper, which does the same, may go by itself.

        marker: a variable and its value that only processes of this run have in their environment; with it,
        what neither worker nor keeper could adopt is found too. Returns the ids of what would not die within
        `patience` seconds: a process that hangs inside the system.
        """
        if marker is not None:
            self._remember(_marked(*marker))
        began = time.monotonic()
        while living := self._living():
            waited = time.monotonic() - began
            if waited > patience:
                return [process.pid for process in living]
            for process in living:
                if process is not self._keeper or waited > 1.0:
                    with suppress(psutil.Error):
                        process.kill()
            time.sleep(0.01)
        return []

    def _living(self) -> list[psutil.Process]:
        self._find()
        everything = [*self._seen.values(), *([self._keeper] if self._keeper else [])]
        return [process for process in everything if _lives(process)]

    def _find(self) -> None:
        """Remember every descendant of the watchers and of what is remembered; forget what is gone."""
        # before anything is asked by its id: another process may have got that since
        self._seen = {pid: process for pid, process in self._seen.items() if process.is_running()}
        if self._keeper is not None and not self._keeper.is_running():
            self._keeper = None
        if self._worker is not None and not self._worker.is_running():
            self._worker = None
        waiting = [*self._watchers(), *self._seen]
        known = set(waiting)
        while waiting:
            children = [pid for pid in _children(waiting.pop()) if pid not in known]
            known.update(children)
            waiting += children
        self._remember(known - set(self._watchers()))

    def _watchers(self) -> list[int]:
        return [process.pid for process in (self._worker, self._keeper) if process]

    def _remember(self, pids: Iterable[int]) -> None:
        for pid in pids:
            if pid not in self._seen:
                with suppress(psutil.Error):
                    self._seen[pid] = psutil.Process(pid)


def _lives(process: psutil.Process) -> bool:
    """A dead process keeps its id until its parent has waited for it; it holds no memory and no GPU."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _children(pid: int) -> list[int]:
    """From the threads of one process, 0.1 ms: to ask every process of the machine for its parent takes 4."""
    if sys.platform != "linux":
        with suppress(psutil.Error):
            return [child.pid for child in psutil.Process(pid).children()]
        return []
    found: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            # the thread may have ended
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    return found


def _measured(process: psutil.Process) -> Sample | None:
    """Resident memory and processor time of one process; None when it is gone."""
    if sys.platform != "linux":
        with suppress(psutil.Error):
            times = process.cpu_times()
            return Sample(process.memory_info().rss, times.user + times.system)
        return None
    with suppress(OSError):
        # the name, in brackets, may hold spaces; what follows it is counted from the process's state
        fields = Path(f"/proc/{process.pid}/stat").read_bytes().rpartition(b")")[2].split()
        if fields[0] != b"Z":
            return Sample(int(fields[21]) * _PAGE, sum(map(int, fields[11:15])) / _TICKS)
    return None


def _proportional(pid: int) -> int:
    """Proportional set size; resident memory where the system does not tell it."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    with suppress(psutil.Error):
        return int(psutil.Process(pid).memory_info().rss)
    return 0


def _marked(variable: str, value: str) -> list[int]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(variable) == value:
                found.append(process.pid)
    return found
