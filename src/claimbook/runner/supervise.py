"""Runs under supervision: a worker, a kernel each, limits, and the record of how each one ended.

The record is ours alone. papermill's own metadata calls every cell completed after a time-out or a kill.
"""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec

from claimbook.errors import RecordError, RunError
from claimbook.experiments import Experiment, Pulse
from claimbook.records import Failure, Run
from claimbook.records.run import Status
from claimbook.runner.engine import Update
from claimbook.runner.gpu import Meter
from claimbook.runner.memory import ran_out, show_bytes, system_kills
from claimbook.runner.processes import ProcessTree, Sample
from claimbook.runner.slots import Limits, Place, environment
from claimbook.runner.sockets import socket_folder
from claimbook.session import RUN_VARIABLE, completed, now
from claimbook.surroundings import redacted

Warm = Callable[[], tuple[Path | None, str | None]]
"""The socket of a server that forks warm kernels, or None and why there is none."""

_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt)\b")
"""How the line of a traceback begins that tells the exception: libraries may write more behind it."""

_TICK = 0.25
"""Seconds between two looks at a run: its processes, its steps, its limits."""


class Slot:
    """A place where runs are made one after another, with a worker process that is reused.

    A context manager: when it is left, neither worker nor kernel lives on.
    """

    def __init__(self, limits: Limits, place: Place | None = None, warm: Warm | None = None) -> None:
        self._limits = limits
        self._place = place or Place()
        self._warm = warm
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
        report: Callable[[Update], None],
        *,
        cold: bool = False,
    ) -> Run:
        """Execute a notebook as the run that is recorded as running; return its record as it ended.

        As `engine.Slot` has it. Raises RunError when a process of the run cannot be ended.
        """
        worker = self._worker = self._worker or _Worker()
        folder = experiment.run_folder(run.id).resolve()
        # before the clock is started: the first run of a batch waits for the fork server's imports
        server, why_cold = (None, None) if cold or self._warm is None else _told(self._warm, stop, folder)
        watch = _Watch(worker, experiment, run, self._limits, self._place, report, time.monotonic())
        watch.why_cold = why_cold
        ending = _Ending("failed", None, healthy=False)
        try:
            worker.begin(
                {
                    "notebook": str(notebook),
                    "output": str(experiment.notebook_path(run.id)),
                    "folder": str(notebook.parent),
                    "parameters": run.parameters,
                    "environment": _environment(folder, notebook, self._limits, self._place),
                    "warm": str(server) if server else None,
                }
            )
            ending = watch.follow(stop)
        finally:
            if not ending.healthy:
                self._end_worker()
            left = watch.end(thorough=not ending.healthy, patience=1.0 if stop.is_set() else 10.0)
        if left and not stop.is_set():
            self._end_worker()
            raise RunError(
                f"processes of run {run.id} do not die: {', '.join(map(str, left))}",
                fix="they hang inside the system, over a GPU or a network disk say: `ps` shows where",
            )
        return watch.record(ending)

    def _end_worker(self) -> None:
        if self._worker is not None:
            self._worker.end()
            self._worker = None


class _Worker:
    """A worker process and the events that it sends."""

    def __init__(self) -> None:
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (closed in `end`)
        self._sockets = socket_folder()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "claimbook.runner.worker", str(self._sockets)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,  # Ctrl-C reaches the supervisor alone, which ends its workers in order
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def begin(self, job: dict[str, Any]) -> None:
        """Give it a job; `next` tells how it goes."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it died; `next` will say so
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.flush()

    def next(self, seconds: float) -> dict[str, Any] | None:
        """The next event, an empty one when none came in time, or None when the worker is gone."""
        try:
            return self._events.get(timeout=seconds)
        except queue.Empty:
            return {"event": ""}

    def death(self) -> tuple[Status, Failure]:
        """How a run ends whose worker ended without saying so: lost, when something killed it."""
        code = self._process.wait()
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - 65536))
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines() or ["no message"]
        last = next((line for line in reversed(lines) if _EXCEPTION.match(line)), lines[-1])
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        failure = Failure(error="WorkerDied", message=redacted(f"{how}: {last}"))
        return "lost" if code < 0 else "failed", failure

    def end(self) -> None:
        """Let it kill its kernel and go. Safe to call at any time."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(timeout=1)
        self._process.stdout.close()
        self._errors.close()
        shutil.rmtree(self._sockets, ignore_errors=True)  # a killed one has left it

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with suppress(ValueError):  # killed in the middle of a line
                self._events.put(json.loads(line))
        self._events.put(None)


@dataclass(frozen=True)
class _Ending:
    """How a run ended, before what the notebook said is considered."""

    status: Status
    failure: Failure | None
    healthy: bool
    """Whether the worker can make another run."""


class _Watch:
    """One run as it is watched: where it is, what it takes, and what it may take."""

    def __init__(
        self,
        worker: _Worker,
        experiment: Experiment,
        run: Run,
        limits: Limits,
        place: Place,
        report: Callable[[Update], None],
        began: float,
    ) -> None:
        self.why_cold: str | None = None
        self._worker = worker
        self._experiment = experiment
        self._run = run
        self._limits = limits
        self._report = report
        self._began = self._cell_began = began
        self._now = Update()
        self._tree = ProcessTree(worker.pid)
        self._gpu = Meter(place)
        self._peak = 0
        self._cpu_seconds = 0.0
        self._kills = deque([system_kills()], maxlen=20)
        """The system's, for want of memory, in the last 5 s of the kernel's life: it counts one before the
        process is gone."""
        self._looked = 0.0
        self._pulse = Pulse(experiment.run_folder(run.id))

    def follow(self, stop: threading.Event) -> _Ending:
        """Watch until the run has ended, is stopped, or takes more than it may."""
        self._report(self._now)
        while True:
            event = self._worker.next(_TICK)
            if stop.is_set():
                return _Ending("cancelled", Failure(error="Cancelled", message="stopped from outside"), False)
            if event is None:
                return _Ending(*self._worker.death(), healthy=False)
            if (ending := self._taken(event)) or (ending := self._over_time()):
                return ending
            if time.monotonic() - self._looked >= _TICK and (ending := self._look()):
                return ending

    def end(self, *, thorough: bool, patience: float) -> list[int]:
        """End every process of the run; returns the ids of those that would not die."""
        folder = str(self._experiment.run_folder(self._run.id).resolve())
        return self._tree.end(patience=patience, marker=(RUN_VARIABLE, folder) if thorough else None)

    def record(self, ending: _Ending) -> Run:
        """The record of the run as it ended.

        What the notebook said in run.finish(…) is its result, whatever came after: a cell that fails behind
        it must not be a way to throw a result away and draw another.
        """
        status, failure = ending.status, ending.failure
        seconds = time.monotonic() - self._began
        run = self._with_costs()
        try:
            _, finish = self._experiment.steps(run.id)
        except RecordError as error:  # a data loader's process that logs, say
            finish = None
            if status == "finished":
                status, failure = "failed", Failure(error="RecordError", message=redacted(str(error)))
        if finish is not None:
            said = completed(run, finish, seconds)
            return msgspec.structs.replace(
                said,
                failure=failure,
                peak_memory=max(said.peak_memory or 0, run.peak_memory or 0) or None,
                peak_gpu_memory=said.peak_gpu_memory or run.peak_gpu_memory,
            )
        if status == "finished":
            status = "failed"
            failure = Failure(error="NotFinished", message="the notebook ended without run.finish(…)")
        return msgspec.structs.replace(
            run, status=status, ended=now(), seconds=round(seconds, 3), failure=failure
        )

    def _taken(self, event: dict[str, Any]) -> _Ending | None:
        """Take up what the worker says."""
        match event["event"]:
            case "finished":
                return _Ending("finished", None, healthy=True)
            case "failed":
                return self._failed(msgspec.convert(event, Failure))
            case "kernel":
                self._tree.add(event["pid"], event["keeper"])
                self.why_cold = event["why"] or self.why_cold
                self._update(kernel=event["kind"])
            case "cell":
                self._cell_began = time.monotonic()
                self._update(cell=event["index"], cells=event["count"])
        return None

    def _failed(self, failure: Failure) -> _Ending:
        if ran_out(failure):
            return _Ending("out-of-memory", failure, healthy=True)
        if failure.error == "KernelDied":
            failure = msgspec.structs.replace(failure, cell=self._now.cell)
            if (system_kills() or 0) > (self._kills[0] or 0):
                message = f"the system killed the kernel; it last held {show_bytes(self._now.memory or 0)}"
                failure = msgspec.structs.replace(failure, error="OutOfMemoryKill", message=message)
                return _Ending("out-of-memory", failure, healthy=True)
        return _Ending("failed", failure, healthy=True)

    def _over_time(self) -> _Ending | None:
        now, limits = time.monotonic(), self._limits
        if limits.seconds is not None and now - self._began > limits.seconds:
            return self._stopped("timed-out", "RunTimeout", f"the run took longer than {limits.seconds:g} s")
        in_cell = self._now.cell is not None and limits.cell_seconds is not None
        if in_cell and now - self._cell_began > (limits.cell_seconds or 0):
            return self._stopped(
                "timed-out", "CellTimeout", f"the cell took longer than {limits.cell_seconds:g} s"
            )
        return None

    def _look(self) -> _Ending | None:
        """Measure, tell, and give a sign of life."""
        self._looked = time.monotonic()
        self._pulse.beat()
        if self._tree.kernel_lives:
            self._kills.append(system_kills())
        sample = self._tree.sample()
        self._gpu.sample(self._tree.ids)
        if sample is not None:
            self._peak = max(self._peak, sample.memory)
            self._cpu_seconds = max(self._cpu_seconds, sample.cpu_seconds)
        step = self._experiment.last_step(self._run.id)
        self._update(
            memory=sample.memory if sample else None,
            step=step.step if step else None,
            values=step.values if step else {},
        )
        return self._over_memory(sample)

    def _over_memory(self, sample: Sample | None) -> _Ending | None:
        ceiling = self._limits.memory
        if ceiling is not None and sample is not None and sample.memory > ceiling:
            sample = self._tree.sample(exactly=True)
        if ceiling is not None and sample is not None and sample.memory > ceiling:
            message = f"kernel and children held {show_bytes(sample.memory)}, more than {show_bytes(ceiling)}"
            return self._stopped("out-of-memory", "MemoryCeiling", message)
        return None

    def _stopped(self, status: Status, error: str, message: str) -> _Ending:
        return _Ending(status, Failure(error=error, message=message, cell=self._now.cell), healthy=False)

    def _update(self, **changes: Any) -> None:
        self._now = msgspec.structs.replace(self._now, **changes)
        self._report(self._now)

    def _with_costs(self) -> Run:
        """The run with what was seen from outside; it holds for failed ones too."""
        return msgspec.structs.replace(
            self._run,
            kernel=self._now.kernel,
            why_cold=self.why_cold,
            cpu_seconds=round(self._cpu_seconds, 2) or None,
            peak_memory=self._peak or None,
            peak_gpu_memory=self._gpu.peak_memory,
            gpu_energy=self._gpu.energy,
            environment={**self._run.environment, **self._gpu.environment},
        )


def _told(warm: Warm, stop: threading.Event, folder: Path) -> tuple[Path | None, str | None]:
    """What `warm` says, once its server is ready; waiting ends when the run is to be stopped.

    folder: the run's, which shows that it is under way meanwhile.
    """
    answers: queue.Queue[tuple[Path | None, str | None]] = queue.Queue()

    def ask() -> None:
        try:
            answers.put(warm())
        except Exception as error:  # a kernel can always start cold
            answers.put((None, redacted(f"{type(error).__name__}: {error}")))

    threading.Thread(target=ask, daemon=True).start()
    pulse = Pulse(folder)
    while not stop.is_set():
        pulse.beat()
        with suppress(queue.Empty):
            return answers.get(timeout=0.1)
    return None, None


def _environment(folder: Path, notebook: Path, limits: Limits, place: Place) -> dict[str, str]:
    """Variables that a run's kernel gets on top of ours. It works elsewhere, so paths must be absolute."""
    found = {
        RUN_VARIABLE: str(folder),
        "CLAIMBOOK_ROOT": str(notebook.absolute().parents[1]),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        **environment(limits, place),
    }
    if "CLAIMBOOK_CACHE" in os.environ:
        found["CLAIMBOOK_CACHE"] = str(Path(os.environ["CLAIMBOOK_CACHE"]).resolve())
    return found
