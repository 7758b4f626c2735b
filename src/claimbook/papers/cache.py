"""What arXiv has answered, as raw Atom: for ever by version, for a day as "the newest" or "there is none".

A file's time of change is the time of its answer. Everything here can be deleted; nothing here asks arXiv.

    versions/2303.15343v4.xml    that version, for ever
    latest/2303.15343.xml        the paper as it was when asked without a version
    absent/2303.15343v9          asked for and not there; empty
    searches/<hash>.xml          a page of a search, by its address
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from claimbook.papers.ids import ArxivId
from claimbook.workspace import write_bytes

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Kept:
    """An answer, and when arXiv gave it."""

    body: bytes
    at: datetime

    @property
    def age(self) -> timedelta:
        """Since the answer; a day too much where the clock stands before it."""
        passed = datetime.now(UTC) - self.at
        return passed if passed >= timedelta(0) else passed + DAY


class Cache:
    """The answers under one folder, shared by processes: each file is written whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def paper(self, paper: ArxivId) -> Kept | None:
        """The answer about a paper or a version of it, of whatever age."""
        return self._kept(self._path(paper))

    def newest_version(self, paper: ArxivId) -> Kept | None:
        """The answer about the highest version that was ever asked for by its number."""
        pattern = re.compile(rf"{re.escape(Path(paper.number).name)}v(\d+)\.xml")
        folder = (self.folder / "versions" / paper.number).parent
        files = folder.iterdir() if folder.is_dir() else ()
        versions = [int(match[1]) for file in files if (match := pattern.fullmatch(file.name))]
        return self.paper(ArxivId(paper.number, max(versions))) if versions else None

    def is_absent(self, paper: ArxivId) -> bool:
        """True when arXiv said within a day that there is none."""
        kept = self._kept(self._absent(paper))
        return kept is not None and kept.age < DAY

    def keep(self, asked: ArxivId, found: ArxivId, body: bytes) -> None:
        """Keep the answer to a question: which version was found, and its raw Atom."""
        write_bytes(self._path(found), body, durable="no")
        if asked.version is None:
            write_bytes(self._path(asked), body, durable="no")
        self._absent(asked).unlink(missing_ok=True)

    def keep_absent(self, asked: ArxivId) -> None:
        """Keep that arXiv has no such paper or version."""
        write_bytes(self._absent(asked), b"", durable="no")

    def search(self, url: str) -> Kept | None:
        """A page of a search, of whatever age."""
        return self._kept(self._search(url))

    def keep_search(self, url: str, body: bytes) -> None:
        """Keep a page of a search."""
        write_bytes(self._search(url), body, durable="no")

    def _path(self, paper: ArxivId) -> Path:
        return self.folder / ("latest" if paper.version is None else "versions") / f"{paper}.xml"

    def _absent(self, paper: ArxivId) -> Path:
        return self.folder / "absent" / str(paper)

    def _search(self, url: str) -> Path:
        return self.folder / "searches" / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.xml"

    @staticmethod
    def _kept(path: Path) -> Kept | None:
        try:
            return Kept(path.read_bytes(), datetime.fromtimestamp(path.stat().st_mtime, UTC))
        except (FileNotFoundError, NotADirectoryError):
            return None
