"""MLflow on its SQLite store, through its fluent API with the batch calls.

With the option WAL every connection gets `journal_mode = WAL, synchronous = NORMAL`, which MLflow does not
offer by itself: it shows how much of the time is the waiting for the disk.
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from pathlib import Path
from typing import Any

from worker import SYNCHRONOUS, Tracker, copy_rows, serve, timestamps, values


class MLflow(Tracker):
    """One experiment in one database."""

    bulk = "one run through its API, its rows copied in SQL"

    def __init__(self, folder: Path, options: list[str]) -> None:
        os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
        if "WAL" in options:
            relax_sqlite()
        import mlflow

        self._mlflow = mlflow
        self._path = folder / "mlflow.db"
        mlflow.set_tracking_uri(f"sqlite:///{self._path}")
        name = "benchmark"
        if mlflow.get_experiment_by_name(name) is None:
            mlflow.create_experiment(name, artifact_location=(folder / "artifacts").as_uri())
        self._experiment = mlflow.set_experiment(name).experiment_id
        self._client = mlflow.MlflowClient()

    def about(self) -> dict[str, str]:
        from mlflow.tracking._tracking_service.utils import _get_store

        with _get_store().engine.connect() as connection:
            journal = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
            synchronous = connection.exec_driver_sql("PRAGMA synchronous").scalar()
        return {
            "versions": f"MLflow {self._mlflow.__version__}, SQLite {sqlite3.sqlite_version}",
            "durability": f"journal_mode {journal}, synchronous {SYNCHRONOUS[synchronous]}",
        }

    def closed_run(self, number: int) -> None:
        parameters, metrics = values(number)
        with self._mlflow.start_run():
            self._mlflow.log_params(parameters)
            self._mlflow.log_metrics(metrics)

    def open_run(self) -> str:
        return str(self._mlflow.start_run().info.run_id)

    def log(self, step: int, loss: float) -> None:
        self._mlflow.log_metric("loss", loss, step=step)

    def close_run(self) -> None:
        self._mlflow.end_run()

    def logged(self, run: str) -> int:
        return len(self._client.get_metric_history(run, "loss"))

    def newest(self) -> list[int]:
        return self._numbers("metrics.m0 > 0.5", "attributes.start_time DESC")

    def best(self) -> list[int]:
        return self._numbers("metrics.m0 > 0.5 and params.p0 = 'sigmoid'", "metrics.m1 DESC")

    def fill(self, count: int, seconds: float) -> int:
        self.closed_run(0)
        starts = [int(start.timestamp() * 1000) for start in timestamps(count)]
        ids = [uuid.uuid4().hex for _ in range(count)]

        def change(row: dict[str, Any], number: int) -> None:
            parameters, metrics = values(number)
            row["run_uuid"] = ids[number]
            if "start_time" in row:
                row["start_time"] = row["end_time"] = starts[number]
            elif row["key"] in parameters:
                row["value"] = str(parameters[row["key"]])
            elif row["key"] in metrics:
                row["value"] = metrics[row["key"]]

        with sqlite3.connect(self._path) as database:
            for table in ("runs", "params", "metrics", "latest_metrics", "tags"):
                copy_rows(database, table, change, count)
        database.close()
        return count

    def _numbers(self, query: str, order: str) -> list[int]:
        found = self._client.search_runs([self._experiment], query, max_results=50, order_by=[order])
        return [int(run.data.params["p9"]) for run in found]


def relax_sqlite() -> None:
    """Every connection that SQLAlchemy opens writes ahead and does not wait for the disk at each commit."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    @event.listens_for(Engine, "connect")
    def relax(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")


if __name__ == "__main__":
    serve(MLflow)
