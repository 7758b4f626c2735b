"""The floor: what plain sqlite3 in WAL mode needs for the same rows, one transaction per run or step."""

from __future__ import annotations

import itertools
import sqlite3
import time
from pathlib import Path

from worker import SYNCHRONOUS, Tracker, serve, values

SCHEMA = """
CREATE TABLE runs (run INTEGER PRIMARY KEY, started REAL, ended REAL);
CREATE TABLE parameters (run INTEGER, name TEXT, value, PRIMARY KEY (run, name)) WITHOUT ROWID;
CREATE TABLE metrics (
    run INTEGER, name TEXT, step INTEGER, value REAL, PRIMARY KEY (run, name, step)
) WITHOUT ROWID;
"""
NUMBER = "SELECT value FROM parameters p WHERE p.run = runs.run AND p.name = 'p9'"
HALF = "(SELECT value FROM metrics m WHERE m.run = runs.run AND m.name = 'm0') > 0.5"


class Sqlite(Tracker):
    """Three tables."""

    def __init__(self, folder: Path, options: list[str]) -> None:
        self._path = folder / "log.db"
        fresh = not self._path.exists()
        self._database = sqlite3.connect(self._path, isolation_level=None, timeout=20)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute(f"PRAGMA synchronous = {options[0]}")
        if fresh:
            self._database.executescript(SCHEMA)
        last = self._database.execute("SELECT coalesce(max(run), -1) FROM runs").fetchone()[0]
        self._runs = itertools.count(last + 1)
        self._open = -1

    def about(self) -> dict[str, str]:
        journal = self._database.execute("PRAGMA journal_mode").fetchone()[0]
        synchronous = self._database.execute("PRAGMA synchronous").fetchone()[0]
        return {
            "versions": f"SQLite {sqlite3.sqlite_version}",
            "durability": f"journal_mode {journal}, synchronous {SYNCHRONOUS[synchronous]}",
        }

    def closed_run(self, number: int) -> None:
        parameters, metrics = values(number)
        run, now = next(self._runs), time.time()
        execute = self._database.execute
        execute("BEGIN")
        execute("INSERT INTO runs VALUES (?, ?, ?)", (run, now, now))
        many = self._database.executemany
        many("INSERT INTO parameters VALUES (?, ?, ?)", [(run, *pair) for pair in parameters.items()])
        many("INSERT INTO metrics VALUES (?, ?, 0, ?)", [(run, *pair) for pair in metrics.items()])
        execute("COMMIT")

    def open_run(self) -> str:
        self._open = next(self._runs)
        self._database.execute("INSERT INTO runs VALUES (?, ?, NULL)", (self._open, time.time()))
        return str(self._open)

    def log(self, step: int, loss: float) -> None:
        self._database.execute("INSERT INTO metrics VALUES (?, 'loss', ?, ?)", (self._open, step, loss))

    def close_run(self) -> None:
        self._database.execute("UPDATE runs SET ended = ? WHERE run = ?", (time.time(), self._open))

    def logged(self, run: str) -> int:
        rows = self._database.execute("SELECT count(*) FROM metrics WHERE run = ?", (int(run),))
        return int(rows.fetchone()[0])

    def newest(self) -> list[int]:
        return self._numbers(f"SELECT ({NUMBER}) FROM runs WHERE {HALF} ORDER BY started DESC LIMIT 50")

    def best(self) -> list[int]:
        return self._numbers(
            f"SELECT ({NUMBER}) FROM parameters JOIN runs USING (run) JOIN metrics m1 USING (run)"
            f" WHERE parameters.name = 'p0' AND parameters.value = 'sigmoid' AND m1.name = 'm1' AND {HALF}"
            " ORDER BY m1.value DESC LIMIT 50"
        )

    def _numbers(self, query: str) -> list[int]:
        return [int(row[0]) for row in self._database.execute(query)]


if __name__ == "__main__":
    serve(Sqlite)
