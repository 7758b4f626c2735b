"""Aim in a local repository, without its terminal and system capture, which no other tracker here does."""

from __future__ import annotations

import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

from worker import Tracker, serve, values


class Aim(Tracker):
    """One repository."""

    bulk = "its API, then `aim storage reindex`, without which a query finds no run"

    def __init__(self, folder: Path, options: list[str]) -> None:
        import aim

        self._aim = aim
        self._folder = folder
        new = not (folder / ".aim").exists()
        self._repository = aim.Repo.from_path(str(folder), init=new)
        self._run: Any = None

    def about(self) -> dict[str, str]:
        from importlib.metadata import version

        return {
            "versions": f"Aim {version('aim')}, aimrocks {version('aimrocks')}",
            "durability": "RocksDB with Aim's settings",
        }

    def closed_run(self, number: int) -> None:
        parameters, metrics = values(number)
        run = self._new()
        run["hparams"] = parameters
        for name, value in metrics.items():
            run.track(value, name=name)
        run.close()

    def open_run(self) -> str:
        self._run = self._new()
        return str(self._run.hash)

    def log(self, step: int, loss: float) -> None:
        self._run.track(loss, name="loss", step=step)

    def close_run(self) -> None:
        self._run.close()

    def logged(self, run: str) -> int:
        """After a reindex: a run that was not closed has no metrics before it."""
        self._reindex()
        found = self._aim.Run(run, repo=self._repository, read_only=True)
        metric = found.get_metric("loss", self._context())
        return 0 if metric is None else len(metric.values.values_list())

    def newest(self) -> list[int]:
        """Aim iterates from the newest to the oldest."""
        found = self._query("run.metrics['m0'].last > 0.5")
        return [int(run["hparams", "p9"]) for run in islice(found, 50)]

    def best(self) -> list[int]:
        """Aim sorts only by time, so the sorting is the caller's."""
        found = self._query("run.hparams.p0 == 'sigmoid' and run.metrics['m0'].last > 0.5")
        by_m1 = sorted(found, key=lambda run: run.get_metric("m1", self._context()).values.last()[1])
        return [int(run["hparams", "p9"]) for run in by_m1[:-51:-1]]

    def fill(self, count: int, seconds: float) -> int:
        reached = super().fill(count, seconds)
        self._reindex()
        return reached

    def _reindex(self) -> None:
        command = Path(sys.executable).with_name("aim")
        reindex = [str(command), "storage", "--repo", str(self._folder), "reindex", "-y"]
        subprocess.run(reindex, check=True, capture_output=True)

    def _new(self) -> Any:
        return self._aim.Run(
            repo=self._repository,
            system_tracking_interval=None,
            log_system_params=False,
            capture_terminal_logs=False,
        )

    def _query(self, query: str) -> Any:
        from aim.sdk.types import QueryReportMode

        found = self._repository.query_runs(query, report_mode=QueryReportMode.DISABLED)
        return (item.run for item in found.iter_runs())

    def _context(self) -> Any:
        from aim.storage.context import Context

        return Context({})


if __name__ == "__main__":
    serve(Aim)
