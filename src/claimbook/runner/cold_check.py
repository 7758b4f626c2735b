"""Whether warm kernels give what cold ones give: one in so many runs is made again and compared.

What is made again is no run: it lies under .claimbook/, is compared, and is removed.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from claimbook.errors import ClaimbookError
from claimbook.experiments import Experiment, Pulse
from claimbook.records import ColdCheck, Run
from claimbook.runner.engine import Slot, Update
from claimbook.workspace import Workspace

UNLIKE = {False: "gave other numbers", None: "did not finish"}
"""What is said of a run whose repetition was not the same, by `ColdCheck.same`."""


_Execute = Callable[[Experiment, Run], Run]
"""Executes a run with a cold kernel, as one of an experiment that lies elsewhere."""


class ColdChecks:
    """Counts the warm runs of a batch and repeats each `every`-th; None for none."""

    def __init__(self, workspace: Workspace, every: int | None) -> None:
        self._workspace = workspace
        self._every = every
        self._warm = 0
        self.same = 0
        """How many of those gave the same."""
        self._lock = threading.Lock()

    def checked(
        self,
        experiment: Experiment,
        run: Run,
        slot: Slot,
        notebook: Path,
        stop: threading.Event,
        report: Callable[[Update], None],
    ) -> Run:
        """The run, with what its repetition showed when it was its turn; as it is when `stop` came first.

        `report` is told where the repetition is, marked as one.
        """
        if self._every is None or run.status != "finished" or run.kernel != "warm":
            return run
        with self._lock:
            self._warm += 1
            turn = self._warm % self._every == 0
        if not turn:
            return run
        pulse = Pulse(experiment.run_folder(run.id))  # the run itself is under way until it was compared

        def checking(update: Update) -> None:
            pulse.beat()
            report(msgspec.structs.replace(update, checking=True))

        def execute(aside: Experiment, again: Run) -> Run:
            return slot.run(aside, again, notebook, stop, checking, cold=True)

        checking(Update())
        check = self._compared(run, execute)
        with self._lock:
            self.same += bool(check.same)
        return run if stop.is_set() else msgspec.structs.replace(run, cold_check=check)

    def _compared(self, run: Run, execute: _Execute) -> ColdCheck:
        first = self._again(run, execute)
        if first is None:
            return ColdCheck(same=None)
        if _same(run, first):
            return ColdCheck(same=True, largest_difference=0.0)
        second = self._again(run, execute)
        alike = None if second is None else _same(first, second)
        return ColdCheck(same=False, largest_difference=_difference(run, first), cold_alike=alike)

    def _again(self, run: Run, execute: _Execute) -> Run | None:
        """The run made again; None where that did not finish, which is no reason to end a batch."""
        aside = Experiment(self._workspace.root / ".claimbook" / "cold" / "experiments" / run.experiment)
        again = msgspec.structs.replace(
            run, status="running", metrics={}, items_sha256=None, ended=None, kernel=None
        )
        try:
            aside.save_run(again, durable="no")
            made = execute(aside, again)
        except (ClaimbookError, OSError):
            return None
        finally:
            shutil.rmtree(aside.run_folder(run.id), ignore_errors=True)
        return made if made.status == "finished" else None


def _same(one: Run, other: Run) -> bool:
    """Whether metrics and item scores are the same, to the last digit."""
    return (one.metrics, one.items_sha256) == (other.metrics, other.items_sha256)


def _difference(one: Run, other: Run) -> float:
    common = one.metrics.keys() & other.metrics.keys()
    return max((abs(one.metrics[name] - other.metrics[name]) for name in common), default=0.0)
