"""The ledger of an experiment: which runs were started and how each ended, one line per event.

A line names the line before it by its hash, so one that is edited or taken out of the middle leaves a gap.
Two branches of a repository may be merged line by line: then two lines name the same one, which is no gap.
"""

from __future__ import annotations

import hashlib
from typing import Literal, TypeVar

import msgspec

from claimbook.errors import RecordError
from claimbook.records.run import Status
from claimbook.records.schema import MachineRecord, convert, parse_json

L = TypeVar("L")
_RESTORE = "restore the file (git checkout); after a merge keep the lines of both branches"


class LedgerLine(MachineRecord, frozen=True, omit_defaults=True):
    """One event of one run."""

    event: Literal["started", "ended"]
    run: str
    arm: str
    seed: int
    at: str
    """ISO time in UTC."""
    seal: str | None = None
    """Hash of the seal that covers the run or that it repeats; None for an exploratory run."""
    status: Status | None = None
    """How it ended."""
    files: dict[str, str] = {}
    """sha256 of each file of the run's folder as it ended."""
    late: bool = False
    """Written by a later process: the one that supervised the run died before it could."""
    previous: str | None = None
    """sha256 of the line that was the last one when this was written."""

    @property
    def setup(self) -> tuple[str, int, str | None]:
        """What a run's two lines must agree in."""
        return self.arm, self.seed, self.seal


class SealLine(MachineRecord, frozen=True, omit_defaults=True):
    """One line of seals.jsonl: that a hypothesis was sealed, whatever becomes of its folder."""

    experiment: str
    seal: str
    """The seal's hash."""
    data: str
    """Fingerprint of the product set."""
    metric: str
    at: str
    """ISO time in UTC."""
    previous: str | None = None
    """sha256 of the line that was the last one when this was written."""


class Ledger(MachineRecord, frozen=True):
    """ledger.jsonl as a whole."""

    lines: list[LedgerLine]
    hashes: list[str]
    """sha256 of each line."""

    @property
    def heads(self) -> list[str]:
        """Hashes of the lines that no other line follows, sorted."""
        return sorted(set(self.hashes) - {line.previous for line in self.lines if line.previous})

    def gaps(self) -> list[int]:
        """Numbers (from 1) of the lines that follow none which stands before them, or that come twice."""
        return _gaps([line.previous for line in self.lines], self.hashes)

    def before(self, heads: list[str]) -> set[str]:
        """Hashes of the given lines and of all that they follow."""
        previous = {digest: line.previous for digest, line in zip(self.hashes, self.lines, strict=True)}
        found: set[str] = set()
        waiting: list[str | None] = [*heads]
        while waiting:
            digest = waiting.pop()
            if digest in previous and digest not in found:
                found.add(digest)
                waiting.append(previous[digest])
        return found

    def contradictions(self) -> list[int]:
        """Numbers (from 1) of the lines that say otherwise of a run than an earlier line: a second start, an
        end unlike the first one, an end of what was never started."""
        starts: dict[str, LedgerLine] = {}
        ends: dict[str, LedgerLine] = {}
        found = []
        for number, line in enumerate(self.lines, start=1):
            first = (starts if line.event == "started" else ends).setdefault(line.run, line)
            start = starts.get(line.run)
            if line.event == "started":
                wrong = first is not line
            else:
                # two branches that both entered it late say the same
                wrong = (first.status, first.files) != (line.status, line.files)
            if start is None or wrong or start.setup != line.setup:
                found.append(number)
        return found

    def started(self) -> dict[str, LedgerLine]:
        """The starting line of each run."""
        return self._first("started")

    def ended(self) -> dict[str, LedgerLine]:
        """The ending line of each run that has one."""
        return self._first("ended")

    def _first(self, event: str) -> dict[str, LedgerLine]:
        found: dict[str, LedgerLine] = {}
        for line in self.lines:
            if line.event == event:
                found.setdefault(line.run, line)
        return found


class Register(MachineRecord, frozen=True):
    """seals.jsonl as a whole: every seal of a workspace, those of experiments that are gone too."""

    lines: list[SealLine]
    hashes: list[str]
    """sha256 of each line."""

    def gaps(self) -> list[int]:
        """As of a ledger."""
        return _gaps([line.previous for line in self.lines], self.hashes)


def ledger_line(line: LedgerLine | SealLine) -> bytes:
    """A line of a ledger or of the register as it is written, its end included."""
    return msgspec.json.encode(line) + b"\n"


def read_ledger(data: bytes, where: str, *, first: int = 1) -> Ledger:
    """A ledger from its bytes, line `first` on; a torn last line, never acknowledged, is read past.

    Raises RecordError with file and line for any other line that is no event.
    """
    lines, hashes = _read(data, LedgerLine, where, first)
    return Ledger(lines=lines, hashes=hashes)


def read_register(data: bytes, where: str) -> Register:
    """The register of seals from its bytes, read as a ledger is."""
    lines, hashes = _read(data, SealLine, where)
    return Register(lines=lines, hashes=hashes)


def _read(data: bytes, kind: type[L], where: str, first: int = 1) -> tuple[list[L], list[str]]:
    whole, _, _torn = data.rpartition(b"\n")
    lines, hashes = [], []
    for number, text in enumerate(whole.split(b"\n") if whole else [], start=first):
        place = f"{where}:{number}"
        if text.startswith((b"<<<<<<<", b"=======", b">>>>>>>")):
            raise RecordError(
                "a merge conflict is not resolved",
                fix="take the marker lines out and keep the lines of both branches",
                where=place,
            )
        lines.append(convert(parse_json(text, place, _RESTORE), kind, place))
        hashes.append(hashlib.sha256(text).hexdigest())
    return lines, hashes


def _gaps(previous: list[str | None], hashes: list[str]) -> list[int]:
    seen: set[str] = set()
    found = []
    for number, (before, digest) in enumerate(zip(previous, hashes, strict=True), start=1):
        # two branches may both have written the first line
        if digest in seen or (before is not None and before not in seen):
            found.append(number)
        seen.add(digest)
    return found
