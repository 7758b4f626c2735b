"""The engine of this machine: its slots, and the fork server that their kernels come from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal

from claimbook.runner.gpu import unmeasured
from claimbook.runner.slots import Limits, Place, environment
from claimbook.runner.supervise import Slot
from claimbook.runner.warm.client import ForkServer


class LocalEngine:
    """Slots on this machine. A context manager: when it is left, neither kernel nor fork server lives on."""

    name: Literal["local"] = "local"

    def __init__(
        self, limits: Limits, places: Sequence[Place], *, preload: Sequence[str] | None = None
    ) -> None:
        """preload: what the fork server imports beforehand; None for cold kernels only."""
        self._limits = limits
        self._places = places
        self._unmeasured = unmeasured(self.gpus)
        # what libraries read while they are imported must be the same for the server as for its kernels
        variables = {**os.environ, **environment(limits, places[0])}
        self._server = None if preload is None else ForkServer(preload, variables)

    def __enter__(self) -> LocalEngine:
        if self._server is not None:
            self._server.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._server is not None:
            self._server.__exit__(*exception)

    @property
    def slots(self) -> int:
        """How many."""
        return len(self._places)

    @property
    def gpus(self) -> Sequence[str]:
        """The GPU of each slot that has one."""
        return [place.gpu for place in self._places if place.gpu]

    @property
    def notes(self) -> Sequence[str]:
        """What could not be imported beforehand, and what cannot be measured."""
        left_out = self._server.left_out if self._server else {}
        cold = [f"not imported before the kernels start: {module}: {why}" for module, why in left_out.items()]
        return cold if self._unmeasured is None else [*cold, self._unmeasured]

    def stop(self) -> None:
        """End the fork server, which may still be importing; kernels that run go on."""
        if self._server is not None:
            self._server.close()

    def open(self, number: int) -> Slot:
        """The slot of a number below `slots`."""
        return Slot(self._limits, self._places[number], self._server.address if self._server else None)
