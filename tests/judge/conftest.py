"""A small experiment to judge: a hypothesis, its seal, one run per arm and seed, and their item scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from claimbook.judge import judge
from claimbook.records import Hypothesis, ItemScores, Process, Questions, Run, SealEntry, Verdict

NOTEBOOK, CODE, DATA = "n" * 64, {"vlm/loss.py": "c" * 64}, "d" * 64
ANSWERED = Questions(**{name: "A sentence." for name in Questions.__struct_fields__})
OFFSETS = (-0.2, -0.1, 0.1, 0.2)


def a_hypothesis(**changes: Any) -> Hypothesis:
    fields: dict[str, Any] = {
        "title": "A sigmoid loss beats the softmax loss",
        "paper": "siglip",
        "claim": "small-batch",
        "notebook": "siglip",
        "metric": "recall@1",
        "margin": 0.01,
        "seeds": [0, 1, 2, 3, 4, 5],
        "arms": {"baseline": {"loss": "softmax"}, "treatment": {"loss": "sigmoid"}},
        "parameters": {"epochs": 6},
        "questions": ANSWERED,
    }
    return Hypothesis(**{**fields, **changes})


def a_seal(hypothesis: Hypothesis) -> SealEntry:
    entry = SealEntry(
        hash="",
        sealed_at="2026-11-23T00:00:00Z",
        hypothesis=hypothesis,
        notebook=NOTEBOOK,
        code=CODE,
        data=DATA,
        data_description="catalog, 400 products",
    )
    return msgspec.structs.replace(entry, hash=entry.digest)


@dataclass
class Study:
    """Seal, runs and scores of one experiment; a test changes what it is about and judges."""

    seal: SealEntry
    runs: list[Run] = field(default_factory=list)
    items: dict[str, ItemScores] = field(default_factory=dict)

    def add(self, arm: str, seed: int, columns: Mapping[str, Sequence[Any]], **changes: Any) -> Run:
        """A finished confirmatory run with these item columns, and the changes that a test asks for."""
        scores = ItemScores.of(columns)
        sealed = self.seal.hypothesis
        known = arm in sealed.arm_names()
        fields: dict[str, Any] = {
            "id": f"{len(self.runs):03d}-{arm}-{seed}",
            "experiment": "siglip-small-batch",
            "arm": arm,
            "seed": seed,
            "kind": "confirmatory",
            "why_exploratory": [],
            "seal": self.seal.hash,
            "notebook": "siglip",
            "parameters": {**(sealed.parameters_of(arm, seed) if known else {}), "width": 32},
            "fingerprints": {"notebook": NOTEBOOK, "code": dict(CODE), "data": DATA},
            "environment": {},
            "git": {"commit": None, "diff": None},
            "status": "finished",
            "started": f"2026-11-23T00:{len(self.runs):02d}:00Z",
            "process": Process(pid=1, created=0.0, host="h"),
            "metrics": {name: scores.mean(name) for name in scores.scores},
        }
        run = Run(**{**fields, **changes})
        self.runs.append(run)
        self.items[run.id] = scores
        return run

    def change(self, arm: str, seed: int, **changes: Any) -> Run:
        """Put other fields into the run of an arm and seed."""
        (place,) = [n for n, run in enumerate(self.runs) if (run.arm, run.seed) == (arm, seed)]
        self.runs[place] = msgspec.structs.replace(self.runs[place], **changes)
        return self.runs[place]

    def judge(self, **options: Any) -> Verdict:
        return judge("siglip-small-batch", self.seal, self.runs, lambda run: self.items[run.id], **options)


def columns(score: float, metric: str = "recall@1") -> dict[str, list[Any]]:
    """Four items of two products whose scores have this mean."""
    return {
        "item": ["a1", "a2", "b1", "b2"],
        "cluster": ["a", "a", "b", "b"],
        metric: [score + offset for offset in OFFSETS],
    }


@pytest.fixture
def hypothesis() -> Callable[..., Hypothesis]:
    return a_hypothesis


@pytest.fixture
def four_items() -> Callable[..., dict[str, list[Any]]]:
    return columns


@pytest.fixture
def by_seed() -> Callable[..., Study]:
    """A study of scope method from treatment − baseline per seed, and control − chance per seed."""

    def build(
        differences: Sequence[float], controls: Mapping[str, Sequence[float]] | None = None, **changes: Any
    ) -> Study:
        names = {name: {"shuffle_pairs": True} for name in controls or {}}
        sealed = a_hypothesis(seeds=list(range(len(differences))), controls=names, **changes)
        study = Study(a_seal(sealed))
        for seed, difference in enumerate(differences):
            baseline = 0.4 + 0.001 * seed
            study.add("baseline", seed, columns(baseline))
            study.add("treatment", seed, columns(baseline + difference))
        for name, excesses in (controls or {}).items():
            for seed, excess in enumerate(excesses):
                study.add(name, seed, columns(0.25 + excess), chance={"recall@1": 0.25})
        return study

    return build


@pytest.fixture
def by_item() -> Callable[..., Study]:
    """A study of scope checkpoints from the item scores of both arms and the cluster of each item."""

    def build(
        baseline: Sequence[float],
        treatment: Sequence[float],
        clusters: Sequence[str] | None = None,
        **changes: Any,
    ) -> Study:
        study = Study(a_seal(a_hypothesis(seeds=[0], scope="checkpoints", **changes)))
        names = [f"item-{number:05d}" for number in range(len(baseline))]
        for arm, scores in (("baseline", baseline), ("treatment", treatment)):
            study.add(arm, 0, {"item": names, "cluster": clusters or names, "recall@1": scores})
        return study

    return build
