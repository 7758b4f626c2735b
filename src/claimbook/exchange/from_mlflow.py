"""A team's runs from an MLflow server into the log: exploratory, without a hypothesis, never counted.

A run is recognised by its folder, mlflow-<id>, and is not read twice. MLflow keeps parameters as text, and
text they stay. What is no number to us (NaN, and the largest float, which MLflow's database writes for
infinity) is read past with a warning.
"""

from __future__ import annotations

import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from claimbook.errors import ExchangeError
from claimbook.exchange.mlflow_names import EXPERIMENT, RUN, SUMMARY, original_names
from claimbook.exchange.mlflow_server import all_runs, connect
from claimbook.experiments import BY_HAND, Experiment, this_process
from claimbook.records import Failure, Finish, Run, Step
from claimbook.records.run import Status
from claimbook.workspace import Workspace, nearest, write_bytes

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment as MlflowExperiment
    from mlflow.entities import Metric
    from mlflow.entities import Run as MlflowRun

IMPORTED = ["imported from MLflow"]
"""Why such a run is exploratory."""

_STATUS: Mapping[str, Status] = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "cancelled"}
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,200}")


@dataclass
class Imported:
    """What an import did."""

    runs: list[str] = field(default_factory=list)
    """Ids of the runs that are new here."""
    known: int = 0
    """Runs that were here already, or come from this workspace."""
    warnings: list[str] = field(default_factory=list)


def import_mlflow(
    workspace: Workspace,
    uri: str,
    experiment_name: str,
    *,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Imported:
    """Read the runs of an MLflow experiment into experiments/exploratory/.

    Parameters, step metrics, last values, times, status and git commit are taken; artifacts stay where they
    are. report: called with the runs read and their number. A run that still goes on is left for later.

    Raises ExchangeError when the server cannot be reached or refuses, or has no such experiment.
    """
    done = Imported()
    with workspace.lock("exchange"), connect(uri) as client:
        reader = _Reader(workspace, client, _experiment_named(client, experiment_name), done)
        runs = list(all_runs(client, reader.source.experiment_id))
        for number, theirs in enumerate(runs, start=1):
            reader.read(theirs)
            report(number, len(runs))
    return done


@dataclass
class _Reader:
    """One experiment's way from the server."""

    workspace: Workspace
    client: MlflowClient
    source: MlflowExperiment
    done: Imported

    def read(self, theirs: MlflowRun) -> None:
        """Write the records of a run, unless they are here, or it goes on there."""
        run_id = _local_id(theirs.info.run_id)
        if theirs.data.tags.get(RUN) == SUMMARY:
            return
        if self._is_here(run_id) or self._is_ours(theirs.data.tags):
            self.done.known += 1
        elif theirs.info.status not in _STATUS:
            self.done.warnings.append(
                f"{theirs.info.run_name or run_id} is {theirs.info.status} on the server and was left there; "
                "import again once it has ended"
            )
        else:
            self._write(run_id, theirs)
            self.done.runs.append(run_id)

    def _write(self, run_id: str, theirs: MlflowRun) -> None:
        names = original_names(theirs.data.tags)
        points = self._points(run_id, theirs, names)
        began = theirs.info.start_time or min((point.timestamp for point in points), default=0)
        run = _record(self.source, theirs, run_id, began, names)
        write_bytes(self._home.metrics_path(run_id), _metrics_file(run, points, began, names))
        self._home.save_run(run)  # last: a folder without run.json is no run, and is imported anew

    def _points(self, run_id: str, theirs: MlflowRun, names: Mapping[str, str]) -> list[Metric]:
        """All values of all metrics that are numbers, in the order in which they were logged."""
        history = self.client.get_metric_history
        points = [point for key in theirs.data.metrics for point in history(theirs.info.run_id, key)]
        left_out = Counter(names.get(p.key, p.key) for p in points if not _is_number(p.value))
        self.done.warnings += [
            f"{run_id}: {count} value{'s' if count > 1 else ''} of {name} left out, no finite number"
            for name, count in left_out.items()
        ]
        return sorted((p for p in points if _is_number(p.value)), key=lambda p: (p.timestamp, p.step))

    @property
    def _home(self) -> Experiment:
        return Experiment(self.workspace.experiments / BY_HAND)

    def _is_here(self, run_id: str) -> bool:
        """Whether a run was imported before, even if it was put away since."""
        folders = (self._home.folder / where / run_id for where in ("runs", "deleted"))
        return any((folder / "run.json").is_file() for folder in folders)

    def _is_ours(self, tags: Mapping[str, str]) -> bool:
        """Whether a run was exported from this workspace."""
        run = self.workspace.experiments / tags.get(EXPERIMENT, "-") / "runs" / tags.get(RUN, "-")
        return (run / "run.json").is_file()


def _record(
    source: MlflowExperiment, theirs: MlflowRun, run_id: str, began: int, names: Mapping[str, str]
) -> Run:
    tags, info = theirs.data.tags, theirs.info
    parameters = {names.get(key, key): value for key, value in theirs.data.params.items()}
    status = _STATUS[info.status]
    ended = info.end_time
    return Run(
        id=run_id,
        experiment=BY_HAND,
        arm="imported",
        seed=int(parameters["seed"]) if parameters.get("seed", "").isdecimal() else 0,
        kind="exploratory",
        why_exploratory=IMPORTED,
        seal=None,
        notebook=_notebook(tags.get("mlflow.source.name", "")),
        parameters=parameters,
        fingerprints={},
        environment={"imported_from": f"MLflow experiment {source.name}, run {info.run_name or info.run_id}"},
        git={"commit": tags.get("mlflow.source.git.commit"), "diff": None},
        status=status,
        started=_iso(began),
        process=this_process(),
        ended=_iso(ended) if ended else None,
        seconds=(ended - began) / 1000 if ended else None,
        metrics={
            names.get(key, key): value for key, value in theirs.data.metrics.items() if _is_number(value)
        },
        failure=None
        if status == "finished"
        else Failure(error=info.status, message="MLflow does not record why"),
    )


def _metrics_file(run: Run, points: list[Metric], began: int, names: Mapping[str, str]) -> bytes:
    lines: list[Step | Finish] = list(_steps(points, began, names))
    if run.status == "finished":
        lines.append(Finish(metrics=run.metrics, chance={}, items_sha256=None))
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def _steps(points: list[Metric], began: int, names: Mapping[str, str]) -> Iterator[Step]:
    """Points of one moment and step as one line; a second value of the same name begins another."""
    for (at, step), together in groupby(points, key=lambda point: (point.timestamp, point.step)):
        values: dict[str, float] = {}
        for point in together:
            name = names.get(point.key, point.key)
            if name in values:
                yield Step(step=step, values=values, at=(at - began) / 1000)
                values = {}
            values[name] = point.value
        yield Step(step=step, values=values, at=(at - began) / 1000)


def _experiment_named(client: MlflowClient, name: str) -> MlflowExperiment:
    there = client.get_experiment_by_name(name)
    if there is None:
        known = sorted(one.name for one in client.search_experiments(max_results=100))
        raise ExchangeError(
            f"the server has no experiment {name!r}{nearest(name, known)}",
            fix=f"name one that it has: {', '.join(known) or 'none yet'}",
        )
    return there


def _local_id(run_id: str) -> str:
    """The id here. It names a folder, so a server may not choose it freely."""
    if not _RUN_ID.fullmatch(run_id):
        raise ExchangeError(
            f"the server calls a run {run_id!r}", fix="ask who runs it; no MLflow run is called so"
        )
    return f"mlflow-{run_id}"


def _is_number(value: float) -> bool:
    return math.isfinite(value) and abs(value) < sys.float_info.max


def _notebook(source: str) -> str:
    path = PurePosixPath(source.replace("\\", "/"))
    return path.stem if path.suffix == ".ipynb" else "unknown"


def _iso(moment: int) -> str:
    time = datetime.fromtimestamp(moment / 1000, UTC)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
