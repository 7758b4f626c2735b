"""A tracker in a process of its own, doing what the benchmark asks: one JSON line in, one JSON line out.

The time is taken here, around the tracker's own calls, so that neither imports nor the conversation count.
Every tracker gets the same runs: `values(number)`. Knows no tracker and only the standard library, since it
runs in each peer's own environment.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

PARAMETERS = [f"p{index}" for index in range(10)]
"""p0 is "sigmoid" or "softmax", p1 to p8 are numbers, p9 is the run's own number."""
METRICS = [f"m{index}" for index in range(5)]
NEWEST = "of the runs with m0 > 0.5, the 50 newest"
BEST = "of the runs with m0 > 0.5 and p0 = sigmoid, the 50 with the highest m1"
SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")
"""SQLite's names for the values of PRAGMA synchronous."""
_PRIME = 100_003  # so that up to this many runs, no two share a value


def values(number: int) -> tuple[dict[str, Any], dict[str, float]]:
    """Ten parameters and five metrics of a run: scattered over 0…1, and the same in every tracker."""
    spread = [(number * 7919 + index * 10_473) % _PRIME / _PRIME for index in range(13)]
    parameters: dict[str, Any] = dict(zip(PARAMETERS[1:9], spread[5:], strict=True))
    parameters |= {"p0": "sigmoid" if number % 2 else "softmax", "p9": number}
    return parameters, dict(zip(METRICS, spread[:5], strict=True))


class Tracker(ABC):
    """What a tracker must be able to do, on a store that is empty at first and lies in `folder`."""

    bulk = "its API"
    """How `fill` puts runs into the store."""

    @abstractmethod
    def about(self) -> dict[str, str]:
        """`versions`, and `durability`: what the store says about its journal and its syncing."""

    @abstractmethod
    def closed_run(self, number: int) -> None:
        """A whole run, from its start to its end: ten parameters, five metrics."""

    @abstractmethod
    def open_run(self) -> str:
        """Begin the run that `log` writes to; returns what `logged` finds it by."""

    @abstractmethod
    def log(self, step: int, loss: float) -> None:
        """One step metric of the open run."""

    @abstractmethod
    def close_run(self) -> None:
        """End the open run; everything logged is stored when this returns."""

    @abstractmethod
    def logged(self, run: str) -> int:
        """How many step metrics a run has in the store, as a reader finds it."""

    @abstractmethod
    def newest(self) -> list[int]:
        """The numbers of the runs that `NEWEST` names, in its order."""

    @abstractmethod
    def best(self) -> list[int]:
        """The numbers of the runs that `BEST` names, in its order."""

    def fill(self, count: int, seconds: float) -> int:
        """Put runs 0 to count − 1 into the store, as far as one comes in this time; returns how many."""
        end = time.perf_counter() + seconds
        for number in range(count):
            self.closed_run(number)
            if time.perf_counter() > end:
                return number + 1
        return count


class Desk:
    """Serves the requests for one tracker."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._next = 0

    def about(self) -> dict[str, Any]:
        return dict(self._tracker.about())

    def runs(self, count: int) -> dict[str, Any]:
        begin = time.perf_counter()
        for number in range(self._next, self._next + count):
            self._tracker.closed_run(number)
        seconds = time.perf_counter() - begin
        self._next += count
        return {"seconds": seconds}

    def steps(self, count: int) -> dict[str, Any]:
        self._tracker.open_run()
        begin = time.perf_counter()
        for step in range(count):
            self._tracker.log(step, 1 / (step + 1))
        returned = time.perf_counter() - begin
        self._tracker.close_run()
        return {"returned": returned, "stored": time.perf_counter() - begin}

    def logged(self, run: str) -> dict[str, Any]:
        return {"count": self._tracker.logged(run)}

    def fill(self, count: int, seconds: float) -> dict[str, Any]:
        begin = time.perf_counter()
        reached = self._tracker.fill(count, seconds)
        return {"count": reached, "seconds": time.perf_counter() - begin, "how": self._tracker.bulk}

    def search(self, which: str) -> dict[str, Any]:
        query: Callable[[], list[int]] = getattr(self._tracker, which)
        begin = time.perf_counter()
        found = query()
        return {"seconds": time.perf_counter() - begin, "found": found}

    def until_killed(self, pause: float, say: Callable[[Any], None]) -> None:
        """Log for ever and acknowledge each step once its call has returned."""
        say({"run": self._tracker.open_run()})
        step = 0
        while True:
            self._tracker.log(step, 1 / (step + 1))
            step += 1
            say({"acknowledged": step})
            time.sleep(pause)


def serve(make: Callable[[Path, list[str]], Tracker]) -> None:
    """Answer requests until stdin ends. Arguments: the store's folder, then the tracker's own options."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a tracker prints must not get between the answers

    def say(answer: Any) -> None:
        answers.write(json.dumps(answer) + "\n")

    try:
        desk = Desk(make(Path(sys.argv[1]), sys.argv[2:]))
    except Exception:
        say({"error": traceback.format_exc(limit=-3)})
        return
    say({"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        verb = request.pop("do")
        try:
            if verb == "until_killed":
                desk.until_killed(**request, say=say)
            say(getattr(desk, verb)(**request))
        except Exception:
            say({"error": traceback.format_exc(limit=-3)})


def timestamps(count: int) -> list[datetime]:
    """A start for each of so many copied runs, a second apart, in the future of those made by hand."""
    begin = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    return [begin + timedelta(seconds=number) for number in range(count)]


def copy_rows(
    database: sqlite3.Connection, table: str, change: Callable[[dict[str, Any], int], None], count: int
) -> None:
    """Fill a table with what the rows of run 0 would be for runs 1 to count − 1.

    `change` makes a row of run 0 one of run `number`. All indexes stay in place, as after the API's inserts.
    """
    cursor = database.execute(f"SELECT * FROM {table}")  # a name from our own code
    names = [column[0] for column in cursor.description]
    template = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def copies() -> Iterable[tuple[Any, ...]]:
        for number in range(1, count):
            for original in template:
                row = dict(original)
                change(row, number)
                yield tuple(row.values())

    database.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(names))})", copies())
