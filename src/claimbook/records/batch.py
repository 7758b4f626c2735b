"""A batch: what it set out to do and what came of each job, as lines that say one thing each.

The lines of a batch's journal are what `--json` prints, and what the terminal shows. And the batch file, in
which a person writes what is made again and again.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from claimbook.records.experiment import Value
from claimbook.records.run import Failure, Process, Status
from claimbook.records.schema import MachineRecord, Record, convert, decode_toml, parse_json

JobState = Literal[
    "queued",
    "running",
    "finished",
    "failed",
    "timed-out",
    "out-of-memory",
    "cancelled",
    "lost",
    "reused",
    "made elsewhere",
]


class Job(MachineRecord, frozen=True, omit_defaults=True):
    """One run to be made: an arm and a seed of an experiment, at one point of a grid."""

    experiment: str
    arm: str
    seed: int
    changes: dict[str, Value] = {}
    """Parameters that differ from the hypothesis: one point of a grid; empty for the design itself."""

    @property
    def key(self) -> tuple[str, str, int, tuple[tuple[str, str], ...]]:
        """What tells jobs apart."""
        return (
            self.experiment,
            self.arm,
            self.seed,
            tuple(sorted((k, repr(v)) for k, v in self.changes.items())),
        )

    @property
    def label(self) -> str:
        """Arm, seed and grid point, to be read."""
        point = "".join(f" {name}={value}" for name, value in self.changes.items())
        return f"{self.arm} seed {self.seed}{point}"


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event", tag=str.lower):
    """Base of what a batch says."""


class Opened(Event, frozen=True):
    """The first line: who makes the batch, and how."""

    batch: str
    name: str
    """The batch file's stem, or `run` or `rerun`."""
    at: str
    """ISO time in UTC."""
    process: Process
    engine: Literal["local", "ray"]
    slots: int
    """Runs at a time."""
    gpus: list[str] = []
    """The GPU of each slot that has one."""


class Queued(Event, frozen=True):
    """A job that the batch will make."""

    job: Job


class Reused(Event, frozen=True):
    """A job that is done: a finished run of this very state exists."""

    job: Job
    run: str


class Started(Event, frozen=True):
    """A run of a job begins."""

    job: Job
    run: str
    at: str
    attempt: int = 1
    slot: int = 0


class Progress(Event, frozen=True):
    """Where a run is. Shown and not kept: its own files tell."""

    job: Job
    run: str
    cell: int | None = None
    """Index of the cell under way; None before the first."""
    cells: int = 0
    """Cells in all; 0 before the kernel is up."""
    kernel: Literal["warm", "cold"] | None = None
    step: int | None = None
    """The last step that the notebook logged."""
    values: dict[str, float] = {}
    """What it logged there."""
    memory: int | None = None
    """Resident memory of the kernel and its children now, bytes."""
    checking: bool = False
    """Whether the run has ended and is being repeated cold."""


class Ended(Event, frozen=True):
    """A run of a job has ended, however."""

    job: Job
    run: str
    at: str
    status: Status
    seconds: float | None = None
    kernel: Literal["warm", "cold"] | None = None
    cpu_seconds: float | None = None
    peak_memory: int | None = None
    peak_gpu_memory: int | None = None
    gpu_energy: float | None = None
    metrics: dict[str, float] = {}
    failure: Failure | None = None
    again: bool = False
    """Whether the batch will make the job again: the next attempt is queued."""


class Elsewhere(Event, frozen=True):
    """Another batch made the job meanwhile."""

    job: Job
    run: str


class Notice(Event, frozen=True):
    """What the user should know and no job owns, such as why kernels start cold."""

    text: str
    at: str


class Closed(Event, frozen=True):
    """The last line: what came of it."""

    at: str
    seconds: float
    """Wall clock of the whole batch."""
    run_seconds: float
    """Sum over its runs."""
    counts: dict[str, int]
    """How many jobs ended in each state."""
    stopped: bool = False
    """Whether it was told to stop before its end."""
    gpu_seconds: float = 0.0
    gpu_energy: float | None = None
    """Joules; None where no run told."""
    verdicts: dict[str, str] = {}
    """The outcome of each experiment that was judged at the end."""
    left_out: list[str] = []
    """The experiments that were asked for and could not be planned, or not be judged; a notice says why."""


Line = Opened | Queued | Reused | Started | Progress | Ended | Elsewhere | Notice | Closed


def encode_event(event: Line) -> bytes:
    """One line of a journal, its end included."""
    return msgspec.json.encode(event) + b"\n"


def read_events(data: bytes, where: str) -> list[Line]:
    """The lines of a journal; a torn last one, never acknowledged, is read past.

    Raises RecordError with file and line for any other line that says nothing.
    """
    whole, _, _torn = data.rpartition(b"\n")
    return [
        _event(text, f"{where}:{number}")
        for number, text in enumerate(whole.split(b"\n") if whole else [], start=1)
    ]


def _event(text: bytes, where: str) -> Line:
    try:
        return _DECODER.decode(text)
    except msgspec.MsgspecError:
        return convert(parse_json(text, where), Line, where)  # type: ignore[arg-type]  # says what is wrong


_DECODER: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


def states(lines: list[Line]) -> list[tuple[Job, JobState]]:
    """Each job and its last state, in the order in which they were queued."""
    jobs: dict[object, tuple[Job, JobState]] = {}
    for line in lines:
        state: JobState
        match line:
            case Queued() | Started() | Reused() | Elsewhere():
                state = _STATES[type(line)]
            case Ended():
                state = "queued" if line.again else line.status
            case _:
                continue
        jobs[line.job.key] = (line.job, state)
    return list(jobs.values())


_STATES: dict[type[Event], JobState] = {
    Queued: "queued",
    Started: "running",
    Reused: "reused",
    Elsewhere: "made elsewhere",
}


class Slots(Record, frozen=True):
    """How a batch file's runs are made; what is left out is as for `claimbook run`."""

    count: int | None = None
    """Runs at a time."""
    gpus: str | None = None
    """Such as "0,1", or "0:0.5" for runs that take half of it."""
    timeout: float = 3600.0
    """Seconds that one run may take."""
    cell_timeout: float | None = None
    """Seconds that one cell may take."""
    memory: str | None = None
    """What one run may take, such as "8GiB"."""
    cold: bool = False
    verify_cold: int | None = None
    """One in so many warm runs is repeated cold and compared."""
    engine: Literal["local", "ray"] = "local"
    ray_address: str | None = None


class BatchFile(Record, frozen=True):
    """A batch file: what is to be made, such as every night, and how. A person's."""

    title: str = ""
    experiments: list[str] | None = None
    """Slugs, or patterns such as "siglip-*"; None for every experiment that is sealed."""
    make: Literal["missing", "failed", "rerun"] = "missing"
    """The runs that are missing; of those, what was tried before; or replications of judged experiments."""
    arms: list[str] | None = None
    """Only these arms and controls."""
    seeds: list[int] | None = None
    """Only these seeds; with one that is not registered the runs explore."""
    grid: dict[str, list[Value]] = {}
    """Every combination of these parameters' values, as exploratory runs."""
    slots: Slots = Slots()

    def __post_init__(self) -> None:
        for name in ("count", "timeout", "cell_timeout", "verify_cold"):
            number = getattr(self.slots, name)  # here, for a complaint of the inner table has its line alone
            if number is not None and not 1 <= number < float("inf"):
                raise ValueError(f"{name} is {number}; write a number from 1 on")
        for name in ("experiments", "arms", "seeds"):
            values = getattr(self, name)
            if values is None:
                continue
            if not values:
                raise ValueError(f"{name} is empty; write some, or leave the line out")
            if len(set(values)) < len(values):
                raise ValueError(f"{name} names one of them twice; remove it")
        narrowed = [name for name in ("arms", "seeds", "grid") if getattr(self, name)]
        if self.make == "rerun" and narrowed:
            raise ValueError(f"{narrowed[0]} narrows a rerun; remove it: the whole design is replicated")


def read_batch_file(text: str, where: str) -> BatchFile:
    """A batch file from its TOML. Raises RecordError with file and line."""
    return decode_toml(text, BatchFile, where)
