"""The index at 100,000 runs: built from files, brought up to date, asked. Its own speed, no peer beside it.

    .venv/bin/python tests/benchmarks/index.py [RUNS]

100 experiments with two arms; a run has 10 parameters and 5 metrics out of 30 and 12 names, and a run.json of
about 3 kB as the runner writes it. Build and refresh are timed once and thrice, queries as the median of
nine. The files lie in a temporary folder and were just written: they are read from memory, not from a disk.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from claimbook import workspace
from claimbook.index import Index

RUNS = 100_000
EXPERIMENTS = 100
METRICS = ["recall@1", "recall@5", "recall@10", "loss", *(f"metric-{n}" for n in range(8))]
PARAMETERS = ["loss", "lr", "batch_size", *(f"parameter-{n}" for n in range(27))]
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)

QUERIES = {
    "newest 50": ("", 0),
    "dense filter, newest 50": ("status = finished", 0),
    "three filters, newest 50": ("metric.recall@1 > 0.4 and arm = treatment and status = finished", 0),
    "dense filter, offset 40,000": ("status = finished and arm = treatment", 40_000),
    "sparse filter": ("metric.recall@1 > 0.999 and arm = treatment and seed = 3", 0),
    "nothing found": ("param.loss = sigmoid and metric.recall@1 > 2", 0),
    "filter by parameter": ("param.loss = sigmoid and param.lr < 0.01", 0),
    "sort by metric": ("order by metric.recall@1 desc", 0),
    "filter, sort by metric": ("status = finished order by metric.recall@1 desc", 0),
    "filter, sort by metric, offset 1,000": ("status = finished order by metric.recall@1 desc", 1_000),
    "filter, sort by metric, offset 40,000": ("status = finished order by metric.recall@1 desc", 40_000),
    "or, not, in": ("not status in (failed, lost) and (arm = treatment or metric.recall@5 > 0.9)", 0),
    "one experiment": ("experiment = experiment-42 order by seconds", 0),
    "full text": ('"sigmoid" and status = finished', 0),
    "full text, Korean, sort by metric": ("text contains 검색 order by metric.recall@1 desc", 0),
    "contains in ids": ("id contains ab3", 0),
}


def main(runs: int = RUNS) -> list[tuple[str, float, str]]:
    """Print and return (what, median in ms, note)."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_workspace(root, runs)
        space = workspace.find(root)
        rows = [("build from files", *timed(lambda: Index.open(space).close(), times=1))]
        index = Index.open(space)
        rows.append(("refresh, nothing changed", *timed(index.refresh, times=3)))
        add_run(root, "experiment-7", runs)
        rows.append(("refresh, one run added", *timed(index.refresh, times=1)))
        for name, (query, offset) in QUERIES.items():
            milliseconds, page = timed(lambda q=query, o=offset: index.runs(q, offset=o))
            rows.append((name, milliseconds, f"{page.total:,} found"))
        rows.append(("full text, search()", *timed(lambda: index.search("이미지 검색"))))
        rows.append(("resembling experiments, similar()", *timed(lambda: index.similar(korean(3)))))
        size = (root / ".claimbook" / "index.sqlite").stat().st_size
        rows.append(("size of the index, MB", size / 1e6, ""))
        index.close()
    table = [(name, round(number, 2), note if isinstance(note, str) else "") for name, number, note in rows]
    for name, number, note in table:
        print(f"{name:40s} {number:10.2f}  {note}")
    return table


def timed(work: Callable[[], Any], times: int = 9) -> tuple[float, Any]:
    """The median time in milliseconds, and the last result."""
    spent = []
    for _ in range(times):
        begin = time.perf_counter()
        result = work()
        spent.append((time.perf_counter() - begin) * 1000)
    return statistics.median(spent), result


def korean(number: int) -> str:
    """Korean sentences that differ between experiments."""
    subjects = ("이미지검색 모델은", "상품 추천 모델은", "작은 배치로 학습한 모델은", "문장 부호화기는")
    verbs = ("재현율이 높다", "학습이 느리다", "새 상품을 찾지 못한다")
    return f"{subjects[number % 4]} {verbs[number % 3]}"


def write_workspace(root: Path, runs: int) -> None:
    """A workspace with so many runs."""
    (root / "pyproject.toml").write_text('[tool.claimbook]\ntimezone = "Asia/Seoul"\n')
    for number in range(EXPERIMENTS):
        folder = root / "experiments" / f"experiment-{number}"
        folder.mkdir(parents=True)
        loss = ("sigmoid", "softmax", "triplet")[number % 3]
        (folder / "hypothesis.toml").write_text(
            f'title = "The {loss} loss, variation {number}"\npaper = "paper"\nclaim = "claim"\n'
            f'notebook = "notebook-{number % 10}"\nmetric = "recall@1"\nmargin = 0.01\nseeds = [0, 1]\n'
            f'[questions]\nproblem = "{korean(number)}"\n[arms.baseline]\nx = 0\n[arms.treatment]\nx = 1\n'
        )
    for number in range(runs):
        add_run(root, f"experiment-{number % EXPERIMENTS}", number)


def add_run(root: Path, experiment: str, number: int) -> None:
    """One run.json."""
    draw = random.Random(number)
    kinds = random.Random(experiment)
    arm = draw.choice(["baseline", "treatment"])
    started = BEGIN + timedelta(seconds=draw.randrange(10_000_000))
    run_id = f"{arm}-s{number % 20}-{started:%Y%m%d-%H%M%S}-{draw.getrandbits(24):06x}{number:x}"
    status = draw.choices(["finished", "failed", "lost", "timed-out"], [94, 3, 2, 1])[0]
    parameters: dict[str, Any] = {
        "loss": draw.choice(["sigmoid", "softmax"]),
        "lr": draw.choice([0.1, 0.01, 0.001]),
        "batch_size": draw.choice([32, 64, 128]),
        **{name: draw.choice([draw.random(), 7, "auto", True]) for name in kinds.sample(PARAMETERS[3:], 7)},
    }
    metrics = {name: draw.random() for name in ["recall@1", *kinds.sample(METRICS[1:], 4)]}
    record = {
        "id": run_id,
        "experiment": experiment,
        "arm": arm,
        "seed": number % 20,
        "kind": draw.choice(["confirmatory", "exploratory"]),
        "why_exploratory": [],
        "seal": f"{kinds.getrandbits(256):064x}",
        "notebook": "notebook",
        "parameters": parameters,
        "fingerprints": {
            "notebook": f"{kinds.getrandbits(256):064x}",
            "code": {f"claimbook/vlm/module_{n}.py": f"{n:064x}" for n in range(20)},
            "data": "5d67fc043b7be589b36762bcaf308aba2a150bab05fc553e5cdc04e08b9f0d55",
        },
        "environment": {"python": "3.11.7", "torch": "2.13.0", "cores": "2"},
        "git": {"commit": "a548a2f0fbd11b56fb3efd43d68b8b0970d27d67", "diff": None},
        "status": status,
        "started": started.isoformat().replace("+00:00", "Z"),
        "process": {"pid": 1, "created": 0.0, "host": "elsewhere"},
        "metric": "recall@1",
        "ended": (started + timedelta(seconds=60)).isoformat().replace("+00:00", "Z"),
        "seconds": round(60 * draw.random(), 3),
        "peak_memory": draw.randrange(10**9),
        "metrics": metrics if status == "finished" else {},
        "chance": {"recall@1": 0.005},
        "failure": None if status == "finished" else {"error": "ValueError", "message": "the shelf is empty"},
    }
    folder = root / "experiments" / experiment / "runs" / run_id
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(record, indent=2))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else RUNS)
