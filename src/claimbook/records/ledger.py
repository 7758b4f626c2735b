"""The ledger of an experiment: which runs were started and how each ended, one line per event.

A line names the line before it by its hash, so one that is edited or taken out of the middle leaves a gap.
Two branches of a repository may be merged line by line: then two lines name the same one, which is no gap.
"""

from __future__ import annotations

import hashlib
import json
from typing import Literal

import msgspec

from claimbook.errors import RecordError
from claimbook.records.run import Status
from claimbook.records.schema import MachineRecord, convert


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
        """Numbers (from 1) of the lines that follow a line which is not in the file."""
        known = set(self.hashes)
        return [
            number
            for number, line in enumerate(self.lines, start=1)
            if (line.previous not in known if line.previous else number > 1)  # the first alone follows none
        ]

    def started(self) -> dict[str, LedgerLine]:
        """The starting line of each run."""
        return {line.run: line for line in self.lines if line.event == "started"}

    def ended(self) -> dict[str, LedgerLine]:
        """The ending line of each run that has one."""
        return {line.run: line for line in self.lines if line.event == "ended"}


def ledger_line(line: LedgerLine) -> bytes:
    """A line as it is written, its end included."""
    return msgspec.json.encode(line) + b"\n"


def read_ledger(data: bytes, where: str) -> Ledger:
    """A ledger from its bytes; a torn last line, never acknowledged, is read past.

    Raises RecordError with file and line for any other line that is no event.
    """
    whole, _, _torn = data.rpartition(b"\n")
    lines, hashes = [], []
    for number, text in enumerate(whole.split(b"\n") if whole else [], start=1):
        place = f"{where}:{number}"
        try:
            raw = json.loads(text)
        except ValueError as error:
            raise RecordError(
                f"no JSON: {error}",
                fix="restore the file (git checkout); after a merge keep the lines of both branches",
                where=place,
            ) from error
        lines.append(convert(raw, LedgerLine, place))
        hashes.append(hashlib.sha256(text).hexdigest())
    return Ledger(lines=lines, hashes=hashes)
