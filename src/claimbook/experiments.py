"""An experiment's folder as records, and back: which record lies in which file.

    hypothesis.toml, README.md     a person's: read here, never written
    seal.json, verdict.json        the machine's
    runs/<run>/                    run.json, metrics.jsonl, items.parquet, notebook.ipynb

Knows nothing of how runs are made, judged or shown.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from claimbook.errors import RecordError
from claimbook.records import (
    Decision,
    Finish,
    Hypothesis,
    ItemScores,
    Process,
    Run,
    Seal,
    Step,
    Verdict,
    decode_json,
    encode_json,
    read_steps,
)
from claimbook.records.experiment import read_decision, read_hypothesis
from claimbook.workspace import Workspace, write_bytes, write_json

BY_HAND = "exploratory"
"""The folder under experiments/ for runs that belong to no hypothesis."""


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

    def run_folder(self, run_id: str) -> Path:
        """Where a run's records lie."""
        return self.folder / "runs" / run_id

    def notebook_path(self, run_id: str) -> Path:
        """The executed notebook of a run; it may be missing, since git ignores it."""
        return self.run_folder(run_id) / "notebook.ipynb"

    def hypothesis(self) -> Hypothesis:
        """What hypothesis.toml says now. Raises RecordError with file and line."""
        path = self.folder / "hypothesis.toml"
        return read_hypothesis(self._text(path), self._name(path))

    def seal(self) -> Seal | None:
        """The seals, or None before the first. Raises RecordError when the file was edited."""
        if not self.seal_path.exists():
            return None
        name = self._name(self.seal_path)
        seal = decode_json(self._read(self.seal_path), Seal, name)
        for number, entry in enumerate(seal.entries):
            previous = seal.entries[number - 1].hash if number else None
            if entry.hash != entry.digest or entry.previous != previous:
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
        return sorted(self._runs(), key=lambda run: (run.started, run.id))

    def steps(self, run_id: str) -> tuple[list[Step], Finish | None]:
        """Step metrics of a run and its finishing line, if it came so far."""
        path = self.run_folder(run_id) / "metrics.jsonl"
        if not path.exists():
            return [], None
        return read_steps(self._text(path), self._name(path))

    def last_step(self, run_id: str) -> Step | None:
        """The last step metrics of a run, from the end of the file alone: cheap while it is being written."""
        path = self.run_folder(run_id) / "metrics.jsonl"
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

    def save_seal(self, seal: Seal) -> None:
        """Write seal.json whole."""
        write_json(self.seal_path, encode_json(seal))

    def save_verdict(self, verdict: Verdict) -> None:
        """Write verdict.json whole."""
        write_json(self.verdict_path, encode_json(verdict))

    def save_run(self, run: Run) -> None:
        """Write a run's run.json whole."""
        write_json(self.run_folder(run.id) / "run.json", encode_json(run))

    def save_items(self, run_id: str, scores: ItemScores) -> str:
        """Write items.parquet and return its sha256."""
        data = scores.to_parquet()
        write_bytes(self.run_folder(run_id) / "items.parquet", data)
        return hashlib.sha256(data).hexdigest()

    def append_metrics(self, run_id: str, record: Step | Finish) -> None:
        """Append one line to metrics.jsonl; a finishing line is on the disk when this returns."""
        path = self.run_folder(run_id) / "metrics.jsonl"
        line = msgspec.json.encode(record) + b"\n"
        with path.open("ab") as file:
            file.write(line)
            file.flush()
            if isinstance(record, Finish):
                os.fsync(file.fileno())

    def _runs(self) -> Iterator[Run]:
        for path in (self.folder / "runs").glob("*/run.json"):
            run = decode_json(self._read(path), Run, self._name(path))
            if run.id != path.parent.name:
                raise RecordError(
                    f"id is {run.id!r}, the folder is called {path.parent.name!r}",
                    fix="a run keeps the folder that it was made in; move it back",
                    where=self._name(path),
                )
            if run.status == "running" and not is_alive(run.process):
                run = msgspec.structs.replace(run, status="lost")
            yield run

    def _read(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise RecordError(
                "the file is missing", fix="restore it (git checkout)", where=self._name(path)
            ) from None

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


def experiments(workspace: Workspace) -> list[Experiment]:
    """All experiments of a workspace that have a hypothesis, by slug."""
    return [Experiment.of(workspace, slug) for slug in workspace.slugs("experiments")]


def this_process() -> Process:
    """Who supervises a run from here."""
    import psutil

    process = psutil.Process()
    return Process(pid=process.pid, created=process.create_time(), host=_host())


def is_alive(process: Process) -> bool:
    """Whether a run's supervisor still lives. On another machine that cannot be told: taken as alive."""
    import psutil

    if process.host != _host():
        return True
    try:
        # a process id is given again after a while; the time of creation tells the two apart
        return abs(psutil.Process(process.pid).create_time() - process.created) < 1.0
    except psutil.NoSuchProcess:
        return False


def _host() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:12]
