"""Runs under supervision: a worker, a kernel each, time limits, and the record of how each one ended.

The record is ours alone. papermill's own metadata calls every cell completed after a time-out or a kill.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import msgspec
import psutil

from claimbook.experiments import HEARTBEAT, Experiment, beat
from claimbook.records import Failure, Run
from claimbook.session import RUN_VARIABLE, completed, now
from claimbook.surroundings import redacted


@dataclass(frozen=True)
class Progress:
    """Where a run is."""

    run: Run
    cell: int | None = None
    """Index of the cell under way; None before the first."""
    cells: int = 0
    """Cells in all; 0 before the kernel is up."""
    step: int | None = None
    """The last step that the notebook logged."""
    values: dict[str, float] | None = None
    """What it logged there."""


@dataclass(frozen=True)
class Limits:
    """What a run may take."""

    seconds: float | None = None
    """Wall clock for the whole run, kernel start included; None for no limit."""
    threads: int | None = None
    """Processor threads of the numeric libraries; None leaves their own choice."""


class Slot:
    """A place where runs are made one after another, with a worker process that is reused.

    A context manager: when it is left, neither worker nor kernel lives on.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._worker: _Worker | None = None

    def __enter__(self) -> Slot:
        return self

    def __exit__(self, *exception: object) -> None:
        self._end_worker()

    def run(
        self,
        experiment: Experiment,
        run: Run,
        notebook: Path,
        stop: threading.Event,
        report: Callable[[Progress], None],
    ) -> Run:
        """Execute a notebook as the run that is recorded as running; return its record as it ended.

        The caller writes it down. However it ended, the kernel is gone. `stop` cancels.
        """
        began = time.monotonic()
        if self._worker is None:
            self._worker = _Worker(self._limits)
        self._worker.begin(experiment, run, notebook)
        healthy = False
        try:
            ending, healthy = _follow(self._worker, experiment, run, self._limits, stop, report, began)
        finally:
            if healthy:
                self._worker.end_kernel()
            else:
                self._end_worker()
        return _ended(experiment, run, ending, time.monotonic() - began)

    def _end_worker(self) -> None:
        if self._worker is not None:
            self._worker.end()
            self._worker = None


class _Worker:
    """A worker process and the events that it sends; kernels are its children."""

    def __init__(self, limits: Limits) -> None:
        self.events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._limits = limits
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (closed in `end`)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "claimbook.runner.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,  # Ctrl-C reaches the supervisor alone, which ends its workers in order
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def begin(self, experiment: Experiment, run: Run, notebook: Path) -> None:
        """Give it a job; `next` tells how it goes."""
        job = {
            "notebook": str(notebook),
            "output": str(experiment.notebook_path(run.id)),
            "folder": str(notebook.parent),
            "parameters": run.parameters,
            "environment": _environment(experiment.run_folder(run.id), self._limits),
        }
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it died; `next` will say so
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.flush()

    def next(self, seconds: float) -> dict[str, Any] | None:
        """The next event, an empty one when none came in time, or None when the worker is gone."""
        try:
            return self.events.get(timeout=seconds)
        except queue.Empty:
            return {"event": ""}

    def death(self) -> Failure:
        """Why the worker ended without saying so."""
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        last = lines[-1] if lines else "no message"
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return Failure(error="WorkerDied", message=redacted(f"{how}: {last}"))

    def end(self) -> None:
        """Leave neither worker nor kernel. Safe to call at any time."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        children = self._children()
        with suppress(BrokenPipeError):
            self._process.stdin.close()  # the worker kills its kernel and goes
        try:
            self._process.wait(timeout=1.5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _kill(children)
        self._reader.join(timeout=1)
        self._process.stdout.close()
        self._errors.close()

    def end_kernel(self) -> None:
        """Make sure that the kernel, and what it started, is gone."""
        _kill(self._children())

    def _children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.events.put(json.loads(line))
        self.events.put(None)


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=2)


_Ending = tuple[str, Failure | None]
"""A status and why, when it is not `finished`."""


def _follow(
    worker: _Worker,
    experiment: Experiment,
    run: Run,
    limits: Limits,
    stop: threading.Event,
    report: Callable[[Progress], None],
    began: float,
) -> tuple[_Ending, bool]:
    """How the run ended, and whether the worker can make another."""
    progress = Progress(run)
    report(progress)
    beaten = 0.0
    while True:
        event = worker.next(0.2)
        if time.monotonic() - beaten > HEARTBEAT:
            beat(experiment.run_folder(run.id))
            beaten = time.monotonic()
        if stop.is_set():
            return ("cancelled", Failure(error="Cancelled", message="stopped from outside")), False
        if limits.seconds is not None and time.monotonic() - began > limits.seconds:
            message = f"the run took longer than {limits.seconds:g} s"
            failure = Failure(error="RunTimeout", message=message, cell=progress.cell)
            return ("timed-out", failure), False
        if event is None:
            return ("failed", worker.death()), False
        match event["event"]:
            case "finished":
                return ("finished", None), True
            case "failed":
                return ("failed", msgspec.convert(event, Failure)), True
            case "cell":
                progress = replace(progress, cell=event["index"], cells=event["count"])
                report(progress)
            case "":
                progress = _with_last_step(progress, experiment)
                report(progress)


def _with_last_step(progress: Progress, experiment: Experiment) -> Progress:
    last = experiment.last_step(progress.run.id)
    return progress if last is None else replace(progress, step=last.step, values=last.values)


def _ended(experiment: Experiment, run: Run, ending: _Ending, seconds: float) -> Run:
    """The record of a run as it ended.

    What the notebook said in run.finish(…) is its result, whatever came after: a cell that fails behind it
    must not be a way to throw a result away and draw another.
    """
    status, failure = ending
    _, finish = experiment.steps(run.id)
    if finish is not None:
        return msgspec.structs.replace(completed(run, finish, seconds), failure=failure)
    if status == "finished":
        status = "failed"
        failure = Failure(error="NotFinished", message="the notebook ended without run.finish(…)")
    return msgspec.structs.replace(
        run, status=status, ended=now(), seconds=round(seconds, 3), failure=failure
    )


def _environment(folder: Path, limits: Limits) -> dict[str, str]:
    """Variables that a run's kernel gets on top of ours. It works elsewhere, so paths must be absolute."""
    folder = folder.resolve()
    environment = {
        RUN_VARIABLE: str(folder),
        "CLAIMBOOK_ROOT": str(folder.parents[3]),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    if "CLAIMBOOK_CACHE" in os.environ:
        environment["CLAIMBOOK_CACHE"] = str(Path(os.environ["CLAIMBOOK_CACHE"]).resolve())
    if limits.threads:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            environment[name] = str(limits.threads)
    return environment
