"""One run's records as one MLflow run, ready to be sent. Knows MLflow's limits, nothing of servers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple

from claimbook.exchange.mlflow_names import EXPERIMENT, RUN, SUMMARY, legal_keys, original_tags
from claimbook.exchange.tables import counts_for
from claimbook.experiments import Experiment
from claimbook.judge import sentence
from claimbook.records import Run, Step, Verdict
from claimbook.records.run import Status
from claimbook.workspace import Language

MlflowStatus = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]

STATUS: Mapping[Status, MlflowStatus] = {
    "running": "RUNNING",
    "finished": "FINISHED",
    "failed": "FAILED",
    "timed-out": "FAILED",
    "out-of-memory": "FAILED",
    "lost": "FAILED",
    "cancelled": "KILLED",
}
PARAM_LIMIT = 6000
"""Characters that MLflow takes as a parameter's value."""
TAG_LIMIT = 5000
"""Characters that MLflow takes as a tag's value; 8000 from 2.19 on."""


class Point(NamedTuple):
    """A metric at a moment."""

    key: str
    value: float
    at: int
    """Milliseconds since the epoch."""
    step: int


@dataclass(frozen=True)
class Payload:
    """One MLflow run. The same records give the same payload, so what has arrived is recognised."""

    id: str
    """What stands in the tag `claimbook.run`."""
    name: str
    status: MlflowStatus
    started: int
    """Milliseconds since the epoch, as in `ended`."""
    ended: int | None
    params: dict[str, str]
    metrics: list[Point]
    tags: dict[str, str]
    artifacts: list[Path]
    cut: list[str]
    """The parameters whose text is longer than MLflow takes."""

    def digest(self) -> str:
        """sha256 of all that is sent, the artifacts' bytes included."""
        files = [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in self.artifacts]
        fields = [self.name, self.status, self.started, self.ended, self.params, self.metrics, self.tags]
        text = json.dumps([*fields, files], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def run_payload(
    experiment: Experiment, run: Run, verdict: Verdict | None, language: Language, files: Iterable[str]
) -> Payload:
    """A run with its parameters, step metrics, final metrics, tags and those of `files` that are there.

    A final metric stands at the highest step and the run's end, so that MLflow takes it as the latest. The
    verdict's tags go to the runs that it was computed from.
    """
    steps, _ = experiment.steps(run.id)
    started = milliseconds(run.started)
    last = max((step.step for step in steps), default=0)
    ended = milliseconds(run.ended) if run.ended else started + _elapsed(steps)
    keys = legal_keys([*run.parameters, *run.metrics, *(name for step in steps for name in step.values)])
    points = [
        Point(keys[name], value, started + round(1000 * step.at), step.step)
        for step in steps
        for name, value in step.values.items()
    ]
    points += [Point(keys[name], value, ended, last) for name, value in run.metrics.items()]
    own = verdict if verdict and counts_for(run, verdict) else None
    folder = experiment.run_folder(run.id)
    return Payload(
        id=run.id,
        name=run.id,
        status=STATUS[run.status],
        started=started,
        ended=None if run.status == "running" else ended,
        params={keys[name]: _cut(as_text(value), PARAM_LIMIT) for name, value in run.parameters.items()},
        metrics=points,
        tags=_tags(_run_tags(run), original_tags(keys), verdict_tags(own, language)),
        artifacts=[folder / name for name in files if (folder / name).is_file()],
        cut=[name for name, value in run.parameters.items() if len(as_text(value)) > PARAM_LIMIT],
    )


def summary_payload(experiment: Experiment, runs: list[Run], language: Language) -> Payload | None:
    """The parent of an experiment's runs: its verdict as metrics and tags, its files as artifacts.

    None for what has no hypothesis, or neither seal nor run. What can change later is a tag, since MLflow
    keeps a parameter's first value for ever.
    """
    seal, verdict = experiment.seal(), experiment.verdict()
    moments = [run.started for run in runs] + [entry.sealed_at for entry in (seal.entries if seal else [])]
    if not (experiment.folder / "hypothesis.toml").is_file() or not moments:
        return None
    metrics = _verdict_points(experiment, verdict) if verdict else []
    keys = legal_keys(point.key for point in metrics)
    names = ("hypothesis.toml", "seal.json", "ledger.jsonl", "verdict.json", "README.md")
    return Payload(
        id=SUMMARY,
        name=experiment.slug,
        status="FINISHED",
        started=milliseconds(min(moments)),
        ended=milliseconds(max([*moments, *(run.ended for run in runs if run.ended)])),
        params={},
        metrics=[point._replace(key=keys[point.key]) for point in metrics],
        tags=_tags(
            {RUN: SUMMARY},
            original_tags(keys),
            experiment_tags(experiment, language),
            verdict_tags(verdict, language),
        ),
        artifacts=[experiment.folder / name for name in names if (experiment.folder / name).is_file()],
        cut=[],
    )


def experiment_tags(experiment: Experiment, language: Language) -> dict[str, str]:
    """What an experiment is about: slug, and where there is a hypothesis its title, claim and design."""
    tags = {EXPERIMENT: experiment.slug}
    seal, verdict = experiment.seal(), experiment.verdict()
    if (experiment.folder / "hypothesis.toml").is_file():
        hypothesis = seal.current.hypothesis if seal else experiment.hypothesis()
        said = [hypothesis.title, *([sentence(verdict, language)] if verdict else [])]
        tags["mlflow.note.content"] = "\n\n".join(said)  # the text that MLflow shows at the top
        for name in ("paper", "claim", "metric", "direction", "kind", "margin", "alpha", "scope", "seeds"):
            tags[f"claimbook.hypothesis.{name}"] = as_text(getattr(hypothesis, name))
    if seal:
        tags["claimbook.seal"] = seal.current.hash
    return tags


def verdict_tags(verdict: Verdict | None, language: Language) -> dict[str, str]:
    """Outcome and sentence of a verdict, and the seal that it speaks of; nothing without one."""
    if verdict is None:
        return {}
    return {
        "claimbook.verdict": verdict.outcome,
        "claimbook.verdict.sentence": sentence(verdict, language),
        "claimbook.verdict.seal": verdict.seal,
    }


def milliseconds(moment: str) -> int:
    """A record's ISO time as MLflow counts: milliseconds since the epoch."""
    return round(1000 * datetime.fromisoformat(moment).timestamp())


def as_text(value: object) -> str:
    """A value as MLflow keeps it: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _run_tags(run: Run) -> dict[str, str]:
    tags = {
        RUN: run.id,
        EXPERIMENT: run.experiment,
        "claimbook.arm": run.arm,
        "claimbook.seed": str(run.seed),
        "claimbook.kind": run.kind,
        "claimbook.status": run.status,
        "claimbook.environment": as_text(run.environment),
        "mlflow.source.name": f"{run.notebook}.ipynb",
        "mlflow.source.type": "NOTEBOOK",
    }
    for part, value in run.fingerprints.items():
        tags[f"claimbook.fingerprint.{part}"] = value if isinstance(value, str) else _hash_of_all(value)
    optional = {
        "claimbook.seal": run.seal,
        "claimbook.why-exploratory": "; ".join(run.why_exploratory),
        "claimbook.failure": f"{run.failure.error}: {run.failure.message}" if run.failure else None,
        "mlflow.source.git.commit": run.git.get("commit"),
    }
    return tags | {name: value for name, value in optional.items() if value}


def _verdict_points(experiment: Experiment, verdict: Verdict) -> list[Point]:
    # of two verdicts the newer one must be MLflow's latest value, and a verdict carries no time
    at = round(1000 * experiment.verdict_path.stat().st_mtime)
    low, high = verdict.interval or (None, None)
    values = {
        "effect": verdict.effect,
        "interval_low": low,
        "interval_high": high,
        "p": verdict.p,
        "p_adjusted": verdict.p_adjusted,
        **{f"mean/{arm}": mean for arm, mean in verdict.means.items()},
    }
    return [Point(name, value, at, 0) for name, value in values.items() if value is not None]


def _elapsed(steps: list[Step]) -> int:
    return max((round(1000 * step.at) for step in steps), default=0)


def _tags(*parts: Mapping[str, str]) -> dict[str, str]:
    return {name: _cut(value, TAG_LIMIT) for part in parts for name, value in part.items()}


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _hash_of_all(hashes: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()
