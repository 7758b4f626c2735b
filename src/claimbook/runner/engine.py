"""Where runs are made: slots on this machine, or anything that keeps the same promises.

An engine knows how a run is executed. It knows nothing of which runs are needed, or of what becomes of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from claimbook.experiments import Experiment
from claimbook.records import Run


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run is."""

    cell: int | None = None
    """Index of the cell under way; None before the first."""
    cells: int = 0
    """Cells in all; 0 before the kernel is up."""
    kernel: Literal["warm", "cold"] | None = None
    step: int | None = None
    """The last step that the notebook logged."""
    values: dict[str, float] = {}
    """What it logged there."""
    memory: int | None = None
    """Resident memory of the kernel and its children now, bytes."""
    checking: bool = False
    """Whether the run has ended and is being repeated cold."""


class Slot(Protocol):
    """A place where runs are made one after another."""

    def run(
        self,
        experiment: Experiment,
        run: Run,
        notebook: Path,
        stop: threading.Event,
        report: Callable[[Update], None],
        *,
        cold: bool = False,
    ) -> Run:
        """Execute a notebook as the run that is recorded as running; return its record as it ended.

        The caller writes the record. When this returns, the kernel and all that it started are gone, and what
        the notebook wrote lies in the run's folder. `stop` cancels. `cold` asks for a fresh interpreter.
        A run whose machine or worker died comes back as `lost`: it may be made again.
        """


class Engine(Protocol):
    """Slots, as many as may be used at a time. A context manager: when it is left, nothing lives on."""

    @property
    def name(self) -> Literal["local", "ray"]:
        """As the journal calls it."""

    @property
    def slots(self) -> int:
        """How many."""

    @property
    def gpus(self) -> Sequence[str]:
        """The GPU of each slot that has one."""

    @property
    def notes(self) -> Sequence[str]:
        """What the user should know of how it starts kernels, as far as it is known by now."""

    def stop(self) -> None:
        """Begin nothing new; a slot that waits for a kernel to begin is told."""

    def open(self, number: int) -> AbstractContextManager[Slot]:
        """The slot of a number below `slots`; each is used from one thread."""
