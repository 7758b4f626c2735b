"""claimbook through what a notebook says: `start()`, `run.log`, `run.finish`.

Each closed run also records the scores of ten test items with their Parquet file, the versions installed and
the process, which no other tracker here does. With the option git the workspace is a repository of 200 files,
whose commit and changes every run records too. With the option refresh each search looks first whether any
file has changed, as `claimbook runs` does; without it, it asks an index that was opened before.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from worker import PARAMETERS, Tracker, serve, timestamps, values

NOTEBOOK = compile(
    "from claimbook import start\n"
    + "\n".join(f"{name}: {'str' if name == 'p0' else 'float'} = given[{name!r}]" for name in PARAMETERS)
    + "\nrun = start()\n",
    "notebook",
    "exec",
)
"""`start()` reads the annotated values of the parameters cell, so there must be such a cell."""
ITEMS = {"item": [f"i{number}" for number in range(10)], "cluster": [number // 2 for number in range(10)]}


class Claimbook(Tracker):
    """One workspace, all runs exploratory."""

    bulk = "one run through its API, its files copied with new values, and the index built"

    def __init__(self, folder: Path, options: list[str]) -> None:
        if not (folder / "pyproject.toml").exists():
            (folder / "pyproject.toml").write_text('[tool.claimbook]\nlanguage = "en"\n')
            if "git" in options:
                make_repository(folder)
        os.chdir(folder)
        from claimbook import workspace
        from claimbook.experiments import BY_HAND, Experiment

        self._workspace = workspace.find()
        self._experiment = Experiment(self._workspace.experiments / BY_HAND)
        self._refresh = "refresh" in options
        self._index: Any = None
        self._run: Any = None

    def about(self) -> dict[str, str]:
        import claimbook

        return {
            "versions": f"claimbook {claimbook.__version__}",
            "durability": "files, synced as a run is finished; step metrics before that handed to the system",
        }

    def closed_run(self, number: int) -> None:
        parameters, metrics = values(number)
        run = self._start(parameters)
        run.finish(metrics=metrics, chance={"m0": 0.5}, items={**ITEMS, "m0": [metrics["m0"]] * 10})

    def open_run(self) -> str:
        self._run = self._start(values(0)[0])
        return str(self._run.run.id)

    def log(self, step: int, loss: float) -> None:
        self._run.log(step=step, loss=loss)

    def close_run(self) -> None:
        metrics = values(0)[1]
        self._run.finish(metrics=metrics, items={**ITEMS, "m0": [metrics["m0"]] * 10})

    def logged(self, run: str) -> int:
        return len(self._experiment.steps(run)[0])

    def newest(self) -> list[int]:
        return self._numbers("metric.m0 > 0.5 order by started desc")

    def best(self) -> list[int]:
        return self._numbers("metric.m0 > 0.5 and param.p0 = sigmoid order by metric.m1 desc")

    def fill(self, count: int, seconds: float) -> int:
        from claimbook.index import Index

        self.closed_run(0)
        (original,) = (self._experiment.folder / "runs").iterdir()
        record = json.loads((original / "run.json").read_bytes())
        steps, items = ((original / name).read_bytes() for name in ("metrics.jsonl", "items.parquet"))
        for number, start in enumerate(timestamps(count)):
            if number == 0:
                continue
            parameters, metrics = values(number)
            folder = original.with_name(f"copy-{number}")
            stamp = start.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            copy = {"id": folder.name, "started": stamp, "parameters": parameters, "metrics": metrics}
            folder.mkdir()
            (folder / "run.json").write_text(json.dumps(record | copy, indent=2))
            (folder / "metrics.jsonl").write_bytes(steps)
            (folder / "items.parquet").write_bytes(items)
        self._index = Index.open(self._workspace)
        return count

    def _start(self, parameters: dict[str, Any]) -> Any:
        cell: dict[str, Any] = {"given": parameters}
        exec(NOTEBOOK, cell)
        return cell["run"]

    def _numbers(self, query: str) -> list[int]:
        if self._refresh:
            self._index.refresh()
        return [int(row["param.p9"]) for row in self._index.runs(query, limit=50).rows]


def make_repository(folder: Path) -> None:
    """A repository of 200 small files with one commit; exploratory runs are ignored, as in a workspace."""
    (folder / "src").mkdir()
    for number in range(200):
        (folder / "src" / f"file{number}.py").write_text(f"number = {number}\n" * 50)
    (folder / ".gitignore").write_text("experiments/exploratory/\n.claimbook/\n")
    author = ["-c", "user.name=benchmark", "-c", "user.email=benchmark@example.org"]
    for command in (["init", "--quiet"], ["add", "."], [*author, "commit", "--quiet", "--message", "files"]):
        subprocess.run(["git", *command], cwd=folder, check=True)


if __name__ == "__main__":
    serve(Claimbook)
