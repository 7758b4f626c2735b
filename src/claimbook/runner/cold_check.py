"""Whether warm kernels give what cold ones give: one in so many runs is made again and compared.

What is made again is no run: it lies under .claimbook/, is compared, and is removed.
"""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import msgspec

from claimbook.experiments import Experiment
from claimbook.records import ColdCheck, Run
from claimbook.runner.engine import Slot
from claimbook.workspace import Workspace


class ColdChecks:
    """Counts the warm runs of a batch and repeats each `every`-th; None for none."""

    def __init__(self, workspace: Workspace, every: int | None) -> None:
        self._workspace = workspace
        self._every = every
        self._warm = 0
        self._lock = threading.Lock()

    def checked(self, run: Run, slot: Slot, notebook: Path, stop: threading.Event) -> Run:
        """The run, with what its repetition showed when it was its turn."""
        if self._every is None or run.status != "finished" or run.kernel != "warm":
            return run
        with self._lock:
            self._warm += 1
            turn = self._warm % self._every == 0
        if not turn:
            return run
        first = self._cold(run, slot, notebook, stop)
        if stop.is_set() or first.status != "finished":
            return msgspec.structs.replace(run, cold_check=ColdCheck(same=False))
        if _same(run, first):
            return msgspec.structs.replace(run, cold_check=ColdCheck(same=True, largest_difference=0.0))
        second = self._cold(run, slot, notebook, stop)
        alike = _same(first, second) if second.status == "finished" else None
        check = ColdCheck(same=False, largest_difference=_difference(run, first), cold_alike=alike)
        return msgspec.structs.replace(run, cold_check=check)

    def _cold(self, run: Run, slot: Slot, notebook: Path, stop: threading.Event) -> Run:
        aside = Experiment(self._workspace.root / ".claimbook" / "cold" / "experiments" / run.experiment)
        again = msgspec.structs.replace(
            run, status="running", metrics={}, items_sha256=None, ended=None, kernel=None
        )
        try:
            aside.save_run(again, durable="no")
            return slot.run(aside, again, notebook, stop, lambda update: None, cold=True)
        finally:
            shutil.rmtree(aside.run_folder(run.id), ignore_errors=True)


def _same(one: Run, other: Run) -> bool:
    """Whether metrics and item scores are the same, to the last digit."""
    return (one.metrics, one.items_sha256) == (other.metrics, other.items_sha256)


def _difference(one: Run, other: Run) -> float:
    common = one.metrics.keys() & other.metrics.keys()
    return max((abs(one.metrics[name] - other.metrics[name]) for name in common), default=0.0)
