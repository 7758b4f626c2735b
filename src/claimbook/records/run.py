"""A run: who made it, in which state, how it ended, and the score of every test item."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from claimbook.errors import RecordError
from claimbook.records.experiment import Value
from claimbook.records.paper import Scale
from claimbook.records.schema import MachineRecord, convert, parse_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Status = Literal["running", "finished", "failed", "timed-out", "out-of-memory", "cancelled", "lost"]


class Process(MachineRecord, frozen=True):
    """Which process supervises a run: enough to tell later whether it is still the same one."""

    pid: int
    created: float
    """When the process began, seconds since the epoch, from the operating system."""
    host: str
    """A hash of the machine's name: a process id means nothing on another machine."""


class Failure(MachineRecord, frozen=True):
    """Why a run did not finish."""

    error: str
    """Name of the exception, or what the supervisor saw."""
    message: str
    cell: int | None = None
    """Index of the failing cell, from 0, where one failed."""


class ColdCheck(MachineRecord, frozen=True):
    """A warm run repeated with a cold kernel, to see whether the numbers are the same."""

    same: bool | None
    """Every metric and every item score, to the last digit; None when it could not be repeated."""
    largest_difference: float | None = None
    """Of a metric."""
    cold_alike: bool | None = None
    """Where they differ: whether two cold runs agree. If not, the notebook itself gives no fixed result."""


class Run(MachineRecord, frozen=True):
    """run.json: the supervisor's record of one execution of a notebook."""

    id: str
    experiment: str
    arm: str
    seed: int
    kind: Literal["confirmatory", "exploratory", "replication"]
    """Covered by a seal; not covered; or made again later, under whatever code and environment there was."""
    why_exploratory: list[str]
    """What was not as sealed; empty for a confirmatory run."""
    seal: str | None
    """Hash of the seal that covers the run, or that a replication repeats."""
    notebook: str
    """Slug of the notebook, or "unknown" for a run by hand whose notebook cannot be told."""
    parameters: dict[str, Value]
    """The effective parameters, defaults included."""
    fingerprints: dict[str, str | dict[str, str]]
    """`notebook` and `data`: a sha256 each; `code`: a sha256 per source file."""
    environment: dict[str, str]
    """Python, the versions of the distributions that matter, processor, GPU, driver, threads."""
    git: dict[str, str | None]
    """`commit` and `diff` (sha256 of the uncommitted changes, None when there are none)."""
    status: Status
    started: str
    """ISO time in UTC."""
    process: Process
    metric: str | None = None
    """The registered metric, for which the notebook owes item scores; None for a run by hand."""
    rerun: str | None = None
    """Id of the rerun that a replication belongs to."""
    ended: str | None = None
    seconds: float | None = None
    """Wall clock, kernel start included."""
    batch: str | None = None
    """Id of the batch that made it."""
    attempt: int = 1
    """Which one of its batch for this arm and seed: 2 after one that was lost or ran out of memory."""
    fallbacks: int = 0
    """How often the hypothesis's declared fallback was applied, because memory ran out."""
    kernel: Literal["warm", "cold"] | None = None
    """Forked from a process with the imports done, or a fresh interpreter."""
    why_cold: str | None = None
    """Why a kernel that could have been warm was not."""
    cold_check: ColdCheck | None = None
    cpu_seconds: float | None = None
    """Processor time of the kernel and its children, as last seen."""
    peak_memory: int | None = None
    """Largest resident memory of the kernel and its children, bytes, as seen from inside or outside."""
    peak_gpu_memory: int | None = None
    """Largest memory on the GPU, bytes: what torch held, else what the driver saw; None without one."""
    gpu_energy: float | None = None
    """Joules of the run's GPU while it ran; None where it is not told, or when runs shared the GPU."""
    metrics: dict[str, float] = {}
    chance: dict[str, float] = {}
    scale: Scale | None = None
    items_sha256: str | None = None
    """Of items.parquet, so that a later change shows."""
    failure: Failure | None = None
    schema: int = 1


class Step(MachineRecord, frozen=True):
    """One line of metrics.jsonl while a run goes on."""

    step: int
    values: dict[str, float]
    at: float
    """Seconds since the run began."""


class Finish(MachineRecord, frozen=True):
    """The last line of metrics.jsonl: the notebook said that it is done."""

    metrics: dict[str, float]
    chance: dict[str, float]
    items_sha256: str | None
    environment: dict[str, str] = {}
    """What only the kernel knows: device, GPU, driver, threads."""
    peak_memory: int | None = None
    """Largest resident memory of the kernel, bytes."""
    peak_gpu_memory: int | None = None
    scale: Scale | None = None
    finished: Literal[True] = True


def read_steps(data: bytes, where: str) -> tuple[list[Step], Finish | None]:
    """Steps and the finishing line, if there is one, of metrics.jsonl.

    A last line without its end was never acknowledged and is read past: its process died while writing it.
    Any other broken line raises RecordError with its number.
    """
    steps: list[Step] = []
    whole, _, _torn = data.rpartition(b"\n")
    for number, line in enumerate(whole.split(b"\n") if whole else [], start=1):
        raw = parse_json(line, f"{where}:{number}")
        if isinstance(raw, dict) and raw.get("finished") is True:
            return steps, convert(raw, Finish, f"{where}:{number}")
        steps.append(convert(raw, Step, f"{where}:{number}"))
    return steps, None


def agree(metric: float, mean: float) -> bool:
    """Whether a metric is the mean of its item scores, up to the rounding of a sum taken in another order."""
    return abs(metric - mean) <= 1e-9 * max(1.0, abs(mean))


@dataclass(frozen=True, eq=False)
class ItemScores:
    """The score of every test item in a run."""

    item: tuple[str, ...]
    """Unique ids of the test items, such as pictures."""
    cluster: tuple[str, ...]
    """What makes items dependent: the product or the query of each."""
    scores: dict[str, NDArray[np.float64]]
    """One array of len(item) finite numbers per metric."""

    @classmethod
    def of(cls, columns: Mapping[str, Sequence[Any]], where: str = "items") -> ItemScores:
        """Item scores from equal-length columns `item`, `cluster` and one per metric.

        Raises RecordError when a column is missing, of another length, not finite, or an item comes twice.
        """
        import numpy as np

        for name in ("item", "cluster"):
            if name not in columns:
                raise RecordError(
                    f"there is no column {name!r}",
                    fix="give items={'item': ids, 'cluster': product_ids, '<metric>': scores}",
                    where=where,
                )
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1 or lengths["item"] == 0:
            raise RecordError(
                f"the columns have lengths {lengths}", fix="give every column one value per item", where=where
            )
        item = tuple(str(value) for value in columns["item"])
        if len(set(item)) < len(item):
            twice = next(value for value in item if item.count(value) > 1)
            raise RecordError(
                f"item {twice!r} comes twice", fix="give every item an id of its own", where=where
            )
        scores = {}
        for name in columns.keys() - {"item", "cluster"}:
            try:
                column = np.asarray(columns[name], dtype=np.float64)
            except (TypeError, ValueError):
                raise RecordError(
                    f"{name} is no column of numbers", fix="give one number per item", where=where
                ) from None
            if column.ndim != 1:
                raise RecordError(
                    f"{name} has shape {column.shape}", fix="give one number per item", where=where
                )
            if not np.isfinite(column).all():
                bad = item[int(np.flatnonzero(~np.isfinite(column))[0])]
                raise RecordError(
                    f"{name} of item {bad!r} is not a finite number",
                    fix="find out why the score is missing; an item without a score cannot be judged",
                    where=where,
                )
            scores[name] = column
        return cls(item, tuple(str(v) for v in columns["cluster"]), dict(sorted(scores.items())))

    def mean(self, metric: str) -> float:
        """The mean over items. Raises RecordError when the metric has no scores."""
        if metric not in self.scores:
            known = ", ".join(self.scores) or "none"
            raise RecordError(
                f"there are no item scores of {metric!r}",
                fix=f"give run.finish(items=…) a column {metric!r}; there are: {known}",
            )
        return math.fsum(self.scores[metric]) / len(self.item)

    def to_parquet(self) -> bytes:
        """Parquet with the columns item, cluster and one per metric."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table({"item": list(self.item), "cluster": list(self.cluster), **self.scores})
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        return sink.getvalue()

    @classmethod
    def from_parquet(cls, data: bytes, where: str) -> ItemScores:
        """Read what `to_parquet` wrote. Raises RecordError when it is no Parquet or not item scores."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            # not read_table: the threads of its dataset can abort a process that ends soon after
            # (https://github.com/apache/arrow/issues/34314: 13 of 60 processes here)
            table = pq.ParquetFile(io.BytesIO(data)).read(use_threads=False)
            columns = {name: table[name].to_pylist() for name in table.column_names}
        except (
            pa.ArrowException,
            OSError,
            ValueError,
            KeyError,
        ) as error:  # flipped bits come as any of these
            raise RecordError(
                f"no readable Parquet: {error}",
                fix="restore the file, or run this arm and seed again",
                where=where,
            ) from error
        return cls.of(columns, where)
