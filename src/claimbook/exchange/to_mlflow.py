"""Experiments to an MLflow tracking server: once, however often it is done. Reads records, writes none.

An experiment becomes the MLflow experiment `claimbook/<slug>`, its hypothesis and verdict a parent run, its
runs the children. A run that has arrived unchanged is left alone; one that was cut off, or has gone on since,
is sent again over itself, which changes nothing that is there already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from claimbook.errors import ExchangeError
from claimbook.exchange.from_mlflow import IMPORTED
from claimbook.exchange.mlflow_names import RUN
from claimbook.exchange.mlflow_payload import (
    Payload,
    experiment_tags,
    run_payload,
    summary_payload,
    verdict_tags,
)
from claimbook.exchange.mlflow_server import all_runs, connect, split_uri
from claimbook.experiments import Experiment
from claimbook.records import Run
from claimbook.workspace import Language, Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment as MlflowExperiment
    from mlflow.entities import Run as MlflowRun

DIGEST = "claimbook.digest"
"""The tag that a run gets once all of it has arrived: a hash of what was sent."""

_FILES = ("run.json", "metrics.jsonl", "items.parquet")
_PROXIED = "mlflow-artifacts:"


@dataclass
class Exported:
    """What an export did."""

    address: str
    """The server, without credentials."""
    experiments: list[str] = field(default_factory=list)
    """Names of the MLflow experiments."""
    sent: int = 0
    """Runs that were sent, whole or again."""
    unchanged: int = 0
    """Runs that had arrived before just as they are."""
    warnings: list[str] = field(default_factory=list)


def export_mlflow(
    workspace: Workspace,
    uri: str,
    slugs: Sequence[str] | None = None,
    *,
    notebooks: bool = True,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Exported:
    """Send experiments (default: all that have a hypothesis) with runs, artifacts and verdicts to a server.

    notebooks: whether the executed notebooks go too; they may show product pictures. report: called with
    the runs done and their number. Runs that came from an MLflow server are not sent.

    Raises ExchangeError when the server cannot be reached or refuses (what has arrived stays, and the next
    export goes on from there), WorkspaceError for a slug that does not exist or while another export goes
    on, RecordError for files that cannot be read.
    """
    chosen = [
        Experiment.of(workspace, slug) for slug in dict.fromkeys(slugs or workspace.slugs("experiments"))
    ]
    runs = {one.slug: [run for run in one.runs() if run.why_exploratory != IMPORTED] for one in chosen}
    total = sum(len(own) for own in runs.values())
    done = Exported(split_uri(uri)[0])
    with workspace.lock("exchange"), connect(uri) as client:
        for experiment in chosen:
            files = (*_FILES, "notebook.ipynb") if notebooks else _FILES
            sender = _Sender(client, experiment, workspace.language, done)
            for _ in sender.send(runs[experiment.slug], files):
                report(done.sent + done.unchanged, total)
    return done


class _Sender:
    """One experiment's way to the server."""

    def __init__(
        self, client: MlflowClient, experiment: Experiment, language: Language, done: Exported
    ) -> None:
        self.client = client
        self.experiment = experiment
        self.language = language
        self.done = done
        self.there = _experiment_named(client, f"claimbook/{experiment.slug}")
        self.known = {run.data.tags[RUN]: run for run in all_runs(client, self._id) if RUN in run.data.tags}
        self.proxied = self.there.artifact_location.startswith(_PROXIED)

    @property
    def _id(self) -> str:
        return str(self.there.experiment_id)

    def send(self, runs: list[Run], files: Sequence[str]) -> Iterator[None]:
        """Send tags, the parent, then run after run; yields after each run."""
        self.done.experiments.append(self.there.name)
        if not self.proxied:
            self.done.warnings.append(
                f"{self.there.name}: the server keeps artifacts where only it can write, so none were sent; "
                "start it with --serve-artifacts and make the experiment anew"
            )
        self._tag_experiment()
        parent: str | None = None
        summary = summary_payload(self.experiment, runs, self.language)
        if summary:
            parent, _ = self._deliver(summary, None)
        verdict = self.experiment.verdict()
        for run in runs:
            payload = run_payload(self.experiment, run, verdict, self.language, files)
            _, new = self._deliver(payload, parent)
            self.done.sent += new
            self.done.unchanged += not new
            self.done.warnings += [
                f"{run.id}: parameter {name} is too long for MLflow and was cut; run.json has all of it"
                for name in payload.cut
            ]
            yield

    def _tag_experiment(self) -> None:
        verdict = self.experiment.verdict()
        tags = {**experiment_tags(self.experiment, self.language), **verdict_tags(verdict, self.language)}
        for name, value in tags.items():
            if self.there.tags.get(name) != value:
                self.client.set_experiment_tag(self._id, name, value)

    def _deliver(self, payload: Payload, parent: str | None) -> tuple[str, bool]:
        """Bring a run to the server unless it is there; its id there, and whether anything was sent."""
        if parent:
            payload = replace(payload, tags=payload.tags | {"mlflow.parentRunId": parent})
        if not self.proxied:
            payload = replace(payload, artifacts=[])
        digest = payload.digest()
        known = self.known.get(payload.id)
        if known and known.data.tags.get(DIGEST) == digest:
            return str(known.info.run_id), False
        if known:
            run_id = str(known.info.run_id)
            self._remove_stale_tags(known, payload)
        else:
            tags = {RUN: payload.id}  # with the run itself, so that one cut off right here is recognised
            made = self.client.create_run(
                self._id, start_time=payload.started, tags=tags, run_name=payload.name
            )
            run_id = str(made.info.run_id)
        self._fill(run_id, payload)
        self.client.set_tag(run_id, DIGEST, digest)
        return run_id, True

    def _fill(self, run_id: str, payload: Payload) -> None:
        from mlflow.entities import Metric, Param, RunTag

        self.client.log_batch(  # splits into the batches that the server takes
            run_id,
            metrics=[Metric(p.key, p.value, p.at, p.step) for p in payload.metrics],
            params=[Param(key, value) for key, value in payload.params.items()],
            tags=[RunTag(key, value) for key, value in payload.tags.items()],
        )
        for path in payload.artifacts:
            self.client.log_artifact(run_id, str(path))
        if payload.ended is None:
            self.client.update_run(run_id, status=payload.status)
        else:
            self.client.set_terminated(run_id, status=payload.status, end_time=payload.ended)

    def _remove_stale_tags(self, known: MlflowRun, payload: Payload) -> None:
        """Take away what no longer holds, such as a verdict that speaks of another seal now."""
        for name in known.data.tags:
            if name.startswith("claimbook.") and name not in {*payload.tags, DIGEST}:
                self.client.delete_tag(known.info.run_id, name)


def _experiment_named(client: MlflowClient, name: str) -> MlflowExperiment:
    """The MLflow experiment of a name, made when it is missing."""
    there = client.get_experiment_by_name(name)
    if there is None:
        return client.get_experiment(client.create_experiment(name))
    if there.lifecycle_stage == "deleted":
        raise ExchangeError(
            f"the experiment {name!r} is deleted on the server",
            fix="restore it there (`mlflow experiments restore`), or have it removed for good (`mlflow gc`)",
        )
    return there
