"""trackio with its local SQLite storage. `trackio.log` queues; a thread writes twice a second."""

from __future__ import annotations

import os
import sqlite3
import uuid
from pathlib import Path
from typing import Any

from worker import SYNCHRONOUS, Tracker, copy_rows, serve, timestamps, values

PROJECT = "benchmark"
SELECT = """
SELECT json_extract(c.config, '$.p9') AS number FROM configs c JOIN metrics m USING (run_id)
WHERE json_extract(m.metrics, '$.m0') > 0.5"""


class Trackio(Tracker):
    """One project, without the capture of processor and GPU load."""

    bulk = "one run through its API, its rows copied in SQL"

    def __init__(self, folder: Path, options: list[str]) -> None:
        os.environ |= {"TRACKIO_DIR": str(folder), "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        import trackio
        from trackio.sqlite_storage import SQLiteStorage

        self._trackio = trackio
        self._storage = SQLiteStorage
        self._path = Path(SQLiteStorage.get_project_db_path(PROJECT))

    def about(self) -> dict[str, str]:
        self._storage.init_db(PROJECT)
        with self._storage._get_connection(self._path) as connection:
            journal = connection.execute("PRAGMA journal_mode").fetchone()[0]
            synchronous = connection.execute("PRAGMA synchronous").fetchone()[0]
        return {
            "versions": f"trackio {self._trackio.__version__}, SQLite {sqlite3.sqlite_version}",
            "durability": f"journal_mode {journal}, synchronous {SYNCHRONOUS[synchronous]}, "
            "written by a thread up to half a second after log() has returned",
        }

    def closed_run(self, number: int) -> None:
        parameters, metrics = values(number)
        run = self._new(parameters)
        run.log(metrics)
        run.finish()

    def open_run(self) -> str:
        self._run = self._new({})
        return f"{self._run.name} {self._run.id}"

    def log(self, step: int, loss: float) -> None:
        self._run.log({"loss": loss}, step=step)

    def close_run(self) -> None:
        self._run.finish()

    def logged(self, run: str) -> int:
        name, run_id = run.split()
        return len(self._storage.get_logs(PROJECT, name, run_id=run_id))

    def newest(self) -> list[int]:
        return self._numbers("ORDER BY c.created_at DESC LIMIT 50")

    def best(self) -> list[int]:
        return self._numbers(
            "AND json_extract(c.config, '$.p0') = 'sigmoid'"
            " ORDER BY json_extract(m.metrics, '$.m1') DESC LIMIT 50"
        )

    def fill(self, count: int, seconds: float) -> int:
        self.closed_run(0)
        starts = [start.isoformat() for start in timestamps(count)]
        ids = [uuid.uuid4().hex for _ in range(count)]

        def change(row: dict[str, Any], number: int) -> None:
            import orjson

            parameters, metrics = values(number)
            row |= {"id": number + 1, "run_id": ids[number], "run_name": f"run-{number}"}
            if "config" in row:
                config = orjson.loads(row["config"]) | parameters
                row |= {"config": orjson.dumps(config), "created_at": starts[number]}
            else:
                row |= {"metrics": orjson.dumps(metrics), "timestamp": starts[number]}
                row["log_id"] = uuid.uuid4().hex

        with sqlite3.connect(self._path) as database:
            for table in ("configs", "metrics"):
                copy_rows(database, table, change, count)
        database.close()
        return count

    def _new(self, parameters: dict[str, Any]) -> Any:
        return self._trackio.init(
            project=PROJECT, config=parameters, embed=False, auto_log_gpu=False, auto_log_cpu=False
        )

    def _numbers(self, rest: str) -> list[int]:
        """Through what `trackio query project` calls: SQL is the search that trackio has."""
        found = self._storage.query_project(PROJECT, f"{SELECT} {rest}")
        return [int(row["number"]) for row in found["rows"]]


if __name__ == "__main__":
    serve(Trackio)
