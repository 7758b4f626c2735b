"""The journals of batches: experiments/batches/<id>.jsonl, kept so that this week can be set beside the last.

A journal tells what a batch set out to do and what came of each job; what a run gave stands in its record.
Knows nothing of how runs are made. Killed at any moment, a journal is readable up to its last whole line.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import IO, Literal, get_args

from claimbook.errors import ClaimbookError, RecordError
from claimbook.experiments import BATCHES, HEARTBEAT_LOST, Experiment, is_alive, this_process
from claimbook.records import Process
from claimbook.records.batch import (
    Closed,
    Elsewhere,
    Ended,
    Job,
    JobState,
    Line,
    Notice,
    Opened,
    Progress,
    Reused,
    Started,
    encode_event,
    read_events,
    states,
)
from claimbook.workspace import Workspace, append_line, nearest, open_lines, write_bytes

State = JobState | Literal["never begun"]
DONE: frozenset[State] = frozenset({"finished", "reused", "made elsewhere"})
"""The states of a job of which nothing is left to do."""
_ABANDONED: dict[State, State] = {"running": "lost", "queued": "never begun"}
"""What jobs under way are once nobody makes them any more."""
_TIMED = (Opened, Started, Ended, Notice, Closed)
BatchState = Literal["running", "done", "incomplete", "stopped", "lost"]


class Journal:
    """The journal of a batch under way. A context manager; lines may be entered from any thread."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._lock = threading.Lock()

    @classmethod
    def open(cls, workspace: Workspace, opened: Opened) -> Journal:
        """Begin the journal of a new batch with its first line."""
        path = _folder(workspace) / f"{opened.batch}.jsonl"
        write_bytes(path, encode_event(opened), durable="no")  # so that no journal is without its first line
        return cls(open_lines(path))

    def enter(self, event: Line) -> None:
        """Add a line, but for progress, which is not kept. The line that closes it is on the disk on return.

        Lines before that outlive the process and not a power cut, which the runs' own records do.
        """
        if isinstance(event, Progress):
            return
        with self._lock:
            append_line(self._file, encode_event(event))
            if isinstance(event, Closed):
                os.fsync(self._file.fileno())

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()


@dataclass(frozen=True)
class JobNow:
    """A job, and what has become of it by now."""

    job: Job
    state: State
    run: str | None
    """Id of its last run, or of the run that made it unnecessary; None before the first."""
    ended: Ended | None
    """How its last run ended, as far as the batch lived to say."""


@dataclass(frozen=True)
class Batch:
    """A batch as its journal tells, and as it is now."""

    opened: Opened
    state: BatchState
    """done: nothing is left to do. incomplete: made to its end, and a job did not finish, or an experiment
    was left out. lost: its process was killed."""
    jobs: list[JobNow]
    endings: list[Ended]
    """Every run that it made, retries and failures too."""
    notices: list[Notice]
    closed: Closed | None
    seconds: float
    """Wall clock so far."""

    @property
    def counts(self) -> dict[str, int]:
        """How many jobs are in each state, in the order of `JobState`."""
        order = [*get_args(JobState), "never begun"]
        found = [one.state for one in self.jobs]
        return {state: found.count(state) for state in order if state in found}

    @property
    def run_seconds(self) -> float:
        """Sum over the runs that it made."""
        return sum(one.seconds or 0.0 for one in self.endings)

    @property
    def cpu_seconds(self) -> float | None:
        """Of the processors, over the runs that it made; None when none of them was told."""
        told = [one.cpu_seconds for one in self.endings if one.cpu_seconds is not None]
        return sum(told) if told else None

    @property
    def failures(self) -> list[JobNow]:
        """The jobs that were tried and came to nothing."""
        untried = {"queued", "running", "never begun"}
        return [one for one in self.jobs if one.state not in DONE | untried]

    @property
    def verdicts(self) -> dict[str, str]:
        """The outcome of each experiment that was judged at its end."""
        return self.closed.verdicts if self.closed else {}


def read(workspace: Workspace, name: str) -> Batch:
    """The batch of an id, or the newest of a name. Raises RecordError when there is none, or it is broken."""
    path = _folder(workspace) / f"{name}.jsonl"
    if "/" not in name and path.is_file():
        return _read(workspace, path)
    found, _ = journals(workspace)
    named = [one for one in found if one.opened.name == name]
    if not named:
        known = sorted({one.opened.name for one in found} | {one.opened.batch for one in found})
        raise RecordError(
            f"there is no batch {name!r}{nearest(name, known)}",
            fix="`claimbook batches` lists them",
            where="experiments/batches",
        )
    return named[-1]


def journals(workspace: Workspace) -> tuple[list[Batch], list[ClaimbookError]]:
    """All batches, oldest first, and a complaint for each journal that cannot be read."""
    batches: list[Batch] = []
    problems: list[ClaimbookError] = []
    for path in sorted(_folder(workspace).glob("*.jsonl")):
        try:
            batches.append(_read(workspace, path))
        except ClaimbookError as error:
            problems.append(error)
    return sorted(batches, key=lambda one: (one.opened.at, one.opened.batch)), problems


def of_process(workspace: Workspace, process: Process) -> Batch | None:
    """The last batch that a process began; None before the first."""
    found, _ = journals(workspace)
    return next((one for one in reversed(found) if one.opened.process == process), None)


def before(workspace: Workspace, batch: Batch) -> Batch | None:
    """The last batch of the same name that came to its end before this one began."""
    found, _ = journals(workspace)
    earlier = [
        one
        for one in found
        if one.opened.name == batch.opened.name
        and one.opened.at < batch.opened.at
        and one.state in ("done", "incomplete")
    ]
    return earlier[-1] if earlier else None


def _folder(workspace: Workspace) -> Path:
    return workspace.experiments / BATCHES


def _read(workspace: Workspace, path: Path) -> Batch:
    where = f"experiments/batches/{path.name}"
    lines = read_events(path.read_bytes(), where)
    if not lines or not isinstance(lines[0], Opened):
        raise RecordError(
            "the journal does not begin with the line that opens it",
            fix="restore the file (git checkout), or remove it: runs stand in their own records",
            where=f"{where}:1",
        )
    return _as_it_is(workspace, lines[0], lines)


def _as_it_is(workspace: Workspace, opened: Opened, lines: list[Line]) -> Batch:
    closed = lines[-1] if isinstance(lines[-1], Closed) else None
    jobs = _jobs(lines)
    if closed is None:
        jobs = [_as_recorded(workspace, one) for one in jobs]
    last_sign = _moment(next(line.at for line in reversed(lines) if isinstance(line, _TIMED)))
    alive = closed is None and _is_alive(opened, jobs, last_sign)
    if not alive:
        jobs = [replace(one, state=_ABANDONED.get(one.state, one.state)) for one in jobs]
    return Batch(
        opened=opened,
        state=_state(closed, alive, all(one.state in DONE for one in jobs)),
        jobs=jobs,
        endings=[line for line in lines if isinstance(line, Ended)],
        notices=[line for line in lines if isinstance(line, Notice)],
        closed=closed,
        seconds=closed.seconds if closed else (time.time() if alive else last_sign) - _moment(opened.at),
    )


def _state(closed: Closed | None, alive: bool, done: bool) -> BatchState:
    if closed is None:
        return "running" if alive else "lost"
    if closed.stopped:
        return "stopped"
    return "done" if done and not closed.left_out else "incomplete"


def _jobs(lines: list[Line]) -> list[JobNow]:
    runs: dict[object, str] = {}
    ended: dict[object, Ended] = {}
    for line in lines:
        match line:
            case Started() | Reused() | Elsewhere():
                runs[line.job.key] = line.run
                ended.pop(line.job.key, None)
            case Ended():
                ended[line.job.key] = line
    return [JobNow(job, state, runs.get(job.key), ended.get(job.key)) for job, state in states(lines)]


def _as_recorded(workspace: Workspace, one: JobNow) -> JobNow:
    """A job under way by its run's own record, which outlives the batch and is mended by the next one."""
    if one.state != "running" or one.run is None:
        return one
    try:
        status = Experiment(workspace.experiments / one.job.experiment).run(one.run).status
    except ClaimbookError:
        status = "lost"
    return replace(one, state=status)


def _is_alive(opened: Opened, jobs: list[JobNow], last_sign: float) -> bool:
    """Whether a batch that has not closed is under way: by its process, or by what another machine shows.

    There it is alive while a run of it gives signs of life, or when it entered a line a moment ago.
    """
    if opened.process.host == this_process().host:
        return is_alive(opened.process)
    return any(one.state == "running" for one in jobs) or abs(time.time() - last_sign) < HEARTBEAT_LOST


def _moment(at: str) -> float:
    """Seconds since the epoch."""
    return datetime.fromisoformat(at).timestamp()
