"""How batches that run at once share the work: a claim per job, and what the others have made meanwhile.

Also what a batch that was killed left behind: results that were said and not recorded, ends not entered.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from claimbook.experiments import Experiment, LedgerReader
from claimbook.records import Run
from claimbook.records.batch import Job
from claimbook.records.experiment import Value
from claimbook.runner.reuse import Fingerprints, as_said
from claimbook.workspace import Workspace


class Sharing:
    """One batch among others on a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self.ours: set[str] = set()
        """Ids of the runs that this batch has started."""
        self._workspace = workspace
        self._ledgers: dict[str, _Others] = {}
        self._lock = threading.Lock()

    def catch_up(self, experiment: Experiment, states: Sequence[Fingerprints]) -> list[Run]:
        """Record what a killed batch left behind, and return the runs there are.

        A result whose supervisor died counts while the state is one of `states`: nobody looked whether the
        code changed under it.
        """
        others = self._ledgers[experiment.slug] = _Others(experiment, states)
        with self._mending(experiment):
            runs = [others.mended(run) for run in experiment.runs()]
            experiment.enter_late()
        others.settled |= {run.id for run in runs if run.status != "running"}
        return runs

    def claim(
        self, experiment: Experiment, job: Job, parameters: Mapping[str, Value]
    ) -> AbstractContextManager[Any] | None:
        """The right to make a job, until it is left; None while another batch has it."""
        what = json.dumps([job.arm, job.seed, parameters], sort_keys=True).encode()
        return self._workspace.claim(f"{experiment.slug}/{hashlib.sha256(what).hexdigest()[:24]}")

    def made_elsewhere(self, experiment: Experiment, job: Job) -> list[Run]:
        """The runs of a claimed job that others have made since this batch began.

        Those under way are of this arm and seed with other parameters: this job's claim is held.
        """
        others = self._ledgers[experiment.slug]
        with self._lock:
            unknown = others.started(job) - self.ours - others.settled
        if not unknown:
            return []
        with self._mending(experiment):
            made = [others.mended(experiment.run(run_id)) for run_id in unknown]
            experiment.enter_late(but=self.ours)
        with self._lock:
            others.settled |= {run.id for run in made if run.status != "running"}
        return made

    def _mending(self, experiment: Experiment) -> AbstractContextManager[Any]:
        """Two batches must not both mend one run."""
        return self._workspace.turn(f"{experiment.slug}-mending")


class _Others:
    """The runs that a ledger tells of, as it grows."""

    def __init__(self, experiment: Experiment, states: Sequence[Fingerprints]) -> None:
        self.settled: set[str] = set()
        """Ids of runs that need not be looked at again."""
        self._experiment = experiment
        self._states = states
        self._reader = LedgerReader(experiment)
        self._started: dict[tuple[str, int], set[str]] = defaultdict(set)

    def started(self, job: Job) -> set[str]:
        for line in self._reader.added():
            if line.event == "started":
                self._started[line.arm, line.seed].add(line.run)
        return self._started[job.arm, job.seed]

    def mended(self, run: Run) -> Run:
        """A lost run as finished, where its notebook had said its result before its supervisor died."""
        said = as_said(self._experiment, run, self._states)
        if said is not run:
            self._experiment.save_run(said)
        return said
