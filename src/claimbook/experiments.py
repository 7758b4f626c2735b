"""An experiment's folder as records, and back: which record lies in which file.

    hypothesis.toml, README.md     a person's: read here, never written
    seal.json, verdict.json        the machine's
    sealed/<hash>.json             the sources behind a seal's hashes
    ledger.jsonl                   which runs were started, how each ended
    runs/<run>/                    run.json, metrics.jsonl, items.parquet, notebook.ipynb
    deleted/<run>/                 exploratory runs that were put away
    reruns/<id>.json               replications of the whole experiment
    ../seals.jsonl                 every seal of the workspace, in the order of sealing

Knows nothing of how runs are made, judged or shown.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import IO, Any, Literal

import msgspec

from claimbook.errors import RecordError, RunError
from claimbook.records import (
    Decision,
    Finish,
    Hypothesis,
    ItemScores,
    Ledger,
    LedgerLine,
    Process,
    Register,
    Rerun,
    Run,
    Seal,
    SealedSources,
    SealEntry,
    SealLine,
    Step,
    Verdict,
    decode_json,
    encode_json,
    read_steps,
)
from claimbook.records.experiment import read_decision, read_hypothesis, seal_digest
from claimbook.records.ledger import ledger_line, read_ledger, read_register
from claimbook.records.schema import parse_json
from claimbook.workspace import (
    Durable,
    Workspace,
    append_line,
    move,
    nearest,
    open_lines,
    sync_folder,
    write_bytes,
    write_json,
)

BY_HAND = "exploratory"
"""The folder under experiments/ for runs that belong to no hypothesis."""
BATCHES = "batches"
"""The folder under experiments/ for the journals of batches."""
RUN_FILES = ("run.json", "metrics.jsonl", "items.parquet", "notebook.ipynb")
"""What the ledger fixes of a run's folder when it has ended."""
HEARTBEAT = 15.0
"""Seconds between two signs of life of a run under way."""
HEARTBEAT_LOST = 300.0
"""Seconds without one after which a run on another machine is lost; their clocks may differ by minutes."""


@dataclass(frozen=True)
class Experiment:
    """One folder under experiments/. Reads anew at every call: files are the truth."""

    folder: Path

    @classmethod
    def of(cls, workspace: Workspace, slug: str) -> Experiment:
        """The experiment of a slug. Raises WorkspaceError when there is none."""
        return cls(workspace.experiment(slug))

    @property
    def slug(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def seal_path(self) -> Path:
        """seal.json, which need not exist."""
        return self.folder / "seal.json"

    @property
    def verdict_path(self) -> Path:
        """verdict.json, which need not exist."""
        return self.folder / "verdict.json"

    @property
    def ledger_path(self) -> Path:
        """ledger.jsonl, which need not exist."""
        return self.folder / "ledger.jsonl"

    def run_folder(self, run_id: str) -> Path:
        """Where a run's records lie."""
        return self.folder / "runs" / run_id

    def notebook_path(self, run_id: str) -> Path:
        """The executed notebook of a run; it may be missing, since git ignores it."""
        return self.run_folder(run_id) / "notebook.ipynb"

    def metrics_path(self, run_id: str) -> Path:
        """The step metrics of a run."""
        return self.run_folder(run_id) / "metrics.jsonl"

    def hypothesis(self) -> Hypothesis:
        """What hypothesis.toml says now. Raises RecordError with file and line."""
        path = self.folder / "hypothesis.toml"
        return read_hypothesis(self._text(path), self._name(path))

    def seal(self) -> Seal | None:
        """The seals, or None before the first. Raises RecordError when the file was edited."""
        if not self.seal_path.exists():
            return None
        name = self._name(self.seal_path)
        data = self._read(self.seal_path)
        seal = decode_json(data, Seal, name)
        raws = parse_json(data, name)["entries"]
        for number, (entry, raw) in enumerate(zip(seal.entries, raws, strict=True)):
            previous = seal.entries[number - 1].hash if number else None
            if entry.hash != seal_digest(raw) or entry.previous != previous:
                raise RecordError(
                    f"entries[{number}] does not fit its hash: it was edited after sealing",
                    fix="restore the file (git checkout); `claimbook amend` changes a sealed hypothesis",
                    where=name,
                )
        if not seal.entries:
            raise RecordError("there is no entry", fix="restore the file (git checkout)", where=name)
        return seal

    def verdict(self) -> Verdict | None:
        """The verdict as recorded, or None before the first judgement."""
        if not self.verdict_path.exists():
            return None
        return decode_json(self._read(self.verdict_path), Verdict, self._name(self.verdict_path))

    def decision(self) -> tuple[Decision, str] | None:
        """Front matter and Markdown body of README.md, or None when there is none yet."""
        path = self.folder / "README.md"
        if not path.exists():
            return None
        return read_decision(self._text(path), self._name(path))

    def runs(self) -> list[Run]:
        """All runs, oldest first. A run whose supervisor is gone reads as lost."""
        return sorted(self._runs("runs"), key=lambda run: (run.started, run.id))

    def run(self, run_id: str) -> Run:
        """One run by its id, also one that was put away. Raises RunError when there is none."""
        put_away = (self.folder / "deleted" / run_id).exists()
        return self._one(run_id, "deleted" if put_away else "runs")

    def deleted_runs(self) -> list[Run]:
        """The exploratory runs that were put away, oldest first."""
        return sorted(self._runs("deleted"), key=lambda run: (run.started, run.id))

    def steps(self, run_id: str) -> tuple[list[Step], Finish | None]:
        """Step metrics of a run and its finishing line, if it came so far."""
        path = self.metrics_path(run_id)
        if not path.exists():
            return [], None
        return read_steps(self._read(path), self._name(path))

    def last_step(self, run_id: str) -> Step | None:
        """The last step metrics of a run, from the end of the file alone: cheap while it is being written."""
        path = self.metrics_path(run_id)
        try:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - 65_536))
                lines = file.read().split(b"\n")
        except FileNotFoundError:
            return None
        for line in reversed(lines[:-1]):  # what stands behind the last line's end is still being written
            with suppress(msgspec.MsgspecError):
                return msgspec.json.decode(line, type=Step)
        return None

    def items(self, run: Run) -> ItemScores:
        """Item scores of a finished run.

        Raises RecordError when they are missing, or when they or run.json are not what the notebook said in
        metrics.jsonl as it finished.
        """
        path = self.run_folder(run.id) / "items.parquet"
        data = self._read(path)
        _, finish = self.steps(run.id)
        said = finish and (finish.metrics, finish.chance, finish.items_sha256)
        recorded = (run.metrics, run.chance, hashlib.sha256(data).hexdigest())
        if said != recorded or run.items_sha256 != recorded[2]:
            changed = "items.parquet" if said and said[2] != recorded[2] else "run.json or metrics.jsonl"
            raise RecordError(
                f"{changed} was changed after the run had finished",
                fix="restore the files (git checkout); if they are lost for good, "
                f"`claimbook amend {self.slug}` and run again",
                where=self._name(path.parent),
            )
        return ItemScores.from_parquet(data, self._name(path))

    def sealed_sources(self, entry: SealEntry) -> SealedSources | None:
        """The sources that a seal fixed; None where they were not kept, or are not what it fixed."""
        path = self._sources_path(entry)
        if not path.exists():
            return None
        sources = decode_json(self._read(path), SealedSources, self._name(path))
        return sources if sources.fit(entry) else None

    def add_seal(self, entry: SealEntry, sources: SealedSources) -> None:
        """Append an entry to seal.json, with the sources that it fixes; earlier entries stay as they are.

        Cut off in between, `complete_seal` does the rest. Sources that are there alone say that an entry is
        gone.
        """
        sealed = self.seal_path.exists()
        document = json.loads(self._read(self.seal_path)) if sealed else encode_json(Seal(entries=[]))
        document["entries"].append(encode_json(entry))
        write_json(self.seal_path, document)
        self.complete_seal(entry, sources)

    def complete_seal(self, entry: SealEntry, sources: SealedSources) -> None:
        """Enter a seal in the workspace's register and keep its sources, as far as that was not done yet."""
        if entry.hash not in {line.seal for line in register(self.folder.parent).lines}:
            self._register(entry)
        if self.sealed_sources(entry) is None:
            write_json(self._sources_path(entry), encode_json(sources))

    def _register(self, entry: SealEntry) -> None:
        path = self.folder.parent / "seals.jsonl"
        with _chained(path, "seals") as file:
            before = register(self.folder.parent).hashes
            line = SealLine(
                experiment=self.slug,
                seal=entry.hash,
                data=entry.data,
                metric=entry.hypothesis.metric,
                at=entry.sealed_at,
                previous=before[-1] if before else None,
            )
            append_line(file, ledger_line(line))

    def ledger(self) -> Ledger:
        """Which runs were started and how each ended; empty where there is no ledger yet."""
        path = self.ledger_path
        return read_ledger(self._read(path) if path.exists() else b"", self._name(path))

    def enter_start(self, run: Run) -> None:
        """Enter a run in the ledger, before its notebook is executed. On the disk when this returns."""
        self._enter("started", run, at=run.started)

    def enter_end(self, run: Run, *, late: bool = False) -> None:
        """Enter how a run ended, with a hash of every file of its folder. On the disk when this returns."""
        self._enter("ended", run, at=run.ended or run.started, status=run.status, late=late)

    def enter_late(self, *, but: Collection[str] = ()) -> list[str]:
        """Enter the ends that a supervisor recorded and did not live to enter; returns their runs' ids.

        One that lives will do so itself; so will whoever asks, for the runs named in `but`.
        """
        ledger = self.ledger()
        waiting = ledger.started().keys() - ledger.ended().keys() - {*but}
        found = [
            run
            for run in self.runs()
            if run.id in waiting
            and run.status not in ("running", "lost")
            and (run.process == this_process() or not _lives(run, self.run_folder(run.id)))
        ]
        for run in found:
            self.enter_end(run, late=True)
        return [run.id for run in found]

    def file_hashes(self, run_id: str) -> dict[str, str]:
        """sha256 of each file that a run's folder holds, a deleted run's too."""
        put_away = self.folder / "deleted" / run_id
        folder = put_away if put_away.exists() else self.run_folder(run_id)
        return {
            name: hashlib.sha256(self._read(path)).hexdigest()
            for name in RUN_FILES
            if (path := folder / name).exists()
        }

    def save_verdict(self, verdict: Verdict) -> None:
        """Write verdict.json whole."""
        write_json(self.verdict_path, encode_json(verdict))

    def save_run(self, run: Run, *, durable: Durable = "yes") -> None:
        """Write a run's run.json whole."""
        write_json(self.run_folder(run.id) / "run.json", encode_json(run), durable=durable)

    def save_items(self, run_id: str, scores: ItemScores) -> str:
        """Write items.parquet and return its sha256."""
        data = scores.to_parquet()
        # the run's record follows and brings the folder to the disk
        write_bytes(self.run_folder(run_id) / "items.parquet", data, durable="contents")
        return hashlib.sha256(data).hexdigest()

    def reruns(self) -> list[Rerun]:
        """The reruns of this experiment that came to an end, oldest first."""
        paths = sorted((self.folder / "reruns").glob("[!.]*.json"))
        return [decode_json(self._read(path), Rerun, self._name(path)) for path in paths]

    def save_rerun(self, rerun: Rerun) -> None:
        """Write a rerun's record whole."""
        write_json(self.folder / "reruns" / f"{rerun.id}.json", encode_json(rerun))

    def delete(self, run_id: str) -> None:
        """Put an exploratory run away; `restore` brings it back. What it has seen of a test set still counts.

        Raises RunError for a run that a seal covers, for one under way, and when there is none of this id.
        """
        run = self._one(run_id, "runs")
        if run.kind != "exploratory":
            raise RunError(
                f"run {run_id} is {run.kind}: what was run under a seal is never deleted",
                fix=f'`claimbook amend {self.slug} --reason "…"` begins anew and keeps it',
            )
        if run.status == "running":
            raise RunError(f"run {run_id} is under way", fix="stop it first, or wait until it has ended")
        move(self.run_folder(run_id), self.folder / "deleted" / run_id)

    def restore(self, run_id: str) -> None:
        """Bring a deleted run back. Raises RunError when there is none of this id."""
        self._one(run_id, "deleted")
        move(self.folder / "deleted" / run_id, self.run_folder(run_id))

    def _one(self, run_id: str, where: str) -> Run:
        path = self.folder / where / run_id / "run.json"
        if not path.exists():
            found = [folder.name for folder in (self.folder / where).glob("*/")]
            what = "deleted run" if where == "deleted" else "run"
            raise RunError(
                f"there is no {what} {run_id!r}{nearest(run_id, found)}",
                fix="`claimbook runs` lists them, `claimbook runs 'deleted = true'` the deleted ones",
                where=f"experiments/{self.slug}/{where}",
            )
        return self._run_at(path)

    def _runs(self, where: str) -> Iterator[Run]:
        for path in (self.folder / where).glob("*/run.json"):
            yield self._run_at(path)

    def _run_at(self, path: Path) -> Run:
        run = decode_json(self._read(path), Run, self._name(path))
        if run.id != path.parent.name:
            raise RecordError(
                f"id is {run.id!r}, the folder is called {path.parent.name!r}",
                fix="a run keeps the folder that it was made in; move it back",
                where=self._name(path),
            )
        return as_it_is(run, path.parent)

    def _enter(self, event: Literal["started", "ended"], run: Run, **fields: Any) -> None:
        with _chained(self.ledger_path, f"{self.slug}-ledger") as file:
            line = LedgerLine(
                event=event,
                run=run.id,
                arm=run.arm,
                seed=run.seed,
                seal=run.seal,
                files=self.file_hashes(run.id) if event == "ended" else {},
                previous=_last_hash(self),
                **fields,
            )
            append_line(file, ledger_line(line))

    def _sources_path(self, entry: SealEntry) -> Path:
        return self.folder / "sealed" / f"{entry.hash[:16]}.json"

    def _read(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise RecordError(
                "the file is missing", fix="restore it (git checkout)", where=self._name(path)
            ) from None
        except OSError as error:
            raise RecordError(
                f"the file cannot be read: {error.strerror}",
                fix="mend its permissions, or restore it (git checkout)",
                where=self._name(path),
            ) from error

    def _text(self, path: Path) -> str:
        data = self._read(path)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise RecordError(
                f"byte {error.start} is no UTF-8", fix="save the file as UTF-8", where=self._name(path)
            ) from error

    def _name(self, path: Path) -> str:
        """How an error calls a file: from experiments/ on."""
        return path.relative_to(self.folder.parent.parent).as_posix()


def register(folder: Path) -> Register:
    """Every seal that was ever made under experiments/, by seals.jsonl; empty where there is none yet."""
    path = folder / "seals.jsonl"
    return read_register(path.read_bytes() if path.exists() else b"", "experiments/seals.jsonl")


@contextmanager
def _chained(path: Path, lock: str) -> Iterator[IO[bytes]]:
    """A file of chained lines, held by this process, to append one to; on the disk when this is left."""
    from filelock import FileLock

    folder = next(parent for parent in path.parents if parent.name == "experiments").parent
    lock_path = folder / ".claimbook" / "locks" / f"{lock}.lock"
    lock_path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with FileLock(lock_path), open_lines(path) as file:
        yield file
        os.fsync(file.fileno())
        if new:
            sync_folder(path.parent)


class LedgerReader:
    """A ledger as it grows: what was added is read, what was read before is not read again."""

    def __init__(self, experiment: Experiment) -> None:
        self._path = experiment.ledger_path
        self._name = f"experiments/{experiment.slug}/{self._path.name}"
        self._size = self._lines = 0
        self.last: str | None = None
        """Hash of the last line that was read."""

    def added(self) -> list[LedgerLine]:
        """The lines that were added since the last call. Raises RecordError as `Experiment.ledger` does."""
        try:
            with self._path.open("rb") as file:
                if file.seek(0, os.SEEK_END) < self._size:  # another file: a branch was checked out
                    self._size, self._lines, self.last = 0, 0, None
                file.seek(self._size)
                data = file.read()
        except FileNotFoundError:
            return []
        ledger = read_ledger(data, self._name, first=self._lines + 1)
        self._size += data.rfind(b"\n") + 1
        self._lines += len(ledger.lines)
        if ledger.hashes:
            self.last = ledger.hashes[-1]
        return ledger.lines


_readers: dict[Path, LedgerReader] = {}


def _last_hash(experiment: Experiment) -> str | None:
    """Hash of a ledger's last line; the lines before were read when this process appended its last one."""
    reader = _readers.setdefault(experiment.ledger_path.resolve(), LedgerReader(experiment))
    reader.added()
    return reader.last


def finished_runs(entry: SealEntry, runs: Iterable[Run]) -> dict[tuple[str, int], Run]:
    """Of each arm and seed that a sealed hypothesis plans, the run under this seal that finished first."""
    planned = {(arm, seed) for arm in entry.hypothesis.arm_names() for seed in entry.hypothesis.seeds}
    found: dict[tuple[str, int], Run] = {}
    for run in sorted(runs, key=lambda run: run.ended or run.started):
        counts = run.kind == "confirmatory" and run.status == "finished" and run.seal == entry.hash
        if counts and (run.arm, run.seed) in planned:
            found.setdefault((run.arm, run.seed), run)
    return found


def written_or_sealed(workspace: Workspace) -> list[Experiment]:
    """The experiments of a workspace, by slug, also those whose hypothesis.toml has gone missing."""
    marks = ("hypothesis.toml", "seal.json")
    folders = {path.parent for mark in marks for path in workspace.experiments.glob(f"[!.]*/{mark}")}
    return [Experiment(folder) for folder in sorted(folders) if folder.name != BY_HAND]


def experiments(workspace: Workspace) -> list[Experiment]:
    """All experiments of a workspace that have a hypothesis, by slug."""
    return [Experiment.of(workspace, slug) for slug in workspace.slugs("experiments")]


def this_process() -> Process:
    """Who supervises a run from here."""
    return _process(os.getpid())


@cache
def _process(pid: int) -> Process:
    import psutil

    return Process(pid=pid, created=psutil.Process(pid).create_time(), host=_host())


class Metrics:
    """metrics.jsonl of a run, open for its one writer."""

    def __init__(self, experiment: Experiment, run_id: str) -> None:
        self._path = experiment.metrics_path(run_id)
        self._file: IO[bytes] | None = None

    def append(self, record: Step | Finish) -> None:
        """Append one line. It outlives this process when this returns; a finishing line is on the disk."""
        self._file = self._file or open_lines(self._path)
        append_line(self._file, msgspec.json.encode(record) + b"\n")
        if isinstance(record, Finish):
            os.fsync(self._file.fileno())
            self._file.close()


def beat(folder: Path) -> None:
    """Say that the run of a folder is under way: to be called every `HEARTBEAT` seconds."""
    with suppress(OSError):  # a disk that is full, or away for a moment, must not end the run
        (folder / "heartbeat").touch()


class Pulse:
    """The signs of life of a run that something watches: as many as it takes, however often it looks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._beaten = -HEARTBEAT

    def beat(self) -> None:
        """Give one, where it is time to."""
        if time.monotonic() - self._beaten >= HEARTBEAT:
            self._beaten = time.monotonic()
            beat(self._folder)


def end_beat(folder: Path) -> None:
    """Say that it is no longer."""
    (folder / "heartbeat").unlink(missing_ok=True)


def as_it_is(run: Run, folder: Path) -> Run:
    """A run read from its folder, as lost when it claims to be running and its process is gone.

    On this machine the process itself tells, by its id and the time of its creation; on another one the
    heartbeat does.
    """
    if run.status != "running" or _lives(run, folder):
        return run
    return msgspec.structs.replace(run, status="lost")


def _lives(run: Run, folder: Path) -> bool:
    """Whether the process that supervises a run is there."""
    return is_alive(run.process) if run.process.host == _host() else _beats(run, folder)


def _beats(run: Run, folder: Path) -> bool:
    """Whether a run of another machine has given a sign of life lately.

    The first one is its start as recorded, not the file's time: a clone makes all files new.
    """
    sign = 0.0
    with suppress(ValueError):  # an edited file
        sign = datetime.fromisoformat(run.started).timestamp()
    with suppress(FileNotFoundError):
        sign = (folder / "heartbeat").stat().st_mtime
    return abs(time.time() - sign) < HEARTBEAT_LOST


def is_alive(process: Process) -> bool:
    """Whether a process of this machine still lives."""
    import psutil

    try:
        found = psutil.Process(process.pid)
        # a process id is given again after a while: the time of creation tells the two apart; and a dead
        # process keeps both until its parent has waited for it
        return found.status() != psutil.STATUS_ZOMBIE and abs(found.create_time() - process.created) < 1.0
    except psutil.AccessDenied:  # another user's, so it is there
        return True
    except (psutil.NoSuchProcess, ValueError, OverflowError):  # an id that cannot be one, in an edited file
        return False


@cache
def _host() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:12]
