"""The SQLite file of the papers: its tables, and how it is built from snapshots. Knows nothing of queries.

It lies in the workspace's cache. A paper's number is the day it was published and a count within that day:
read backwards, the newest come first, and a span of days is a span of numbers. How far a file was read stands
beside the papers that were read from it: killed at any point, a build goes on from its last transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from claimbook.errors import PaperError
from claimbook.papers.discover.snapshot import Complaint, Place, Record, Snapshot
from claimbook.workspace import Workspace

Progress = Callable[[int, int, int], None]
"""Told the lines read by this build, the bytes read of all its files, and their size."""

BUILD = "claimbook discover build FILE"
_VERSION = 1
_APPLICATION = 0x636C6D64  # "clmd", for file(1) and for telling our file from another
_BATCH = 10_000
"""Papers of a transaction: what a kill can cost, some seconds of work."""
_REPORT = 1_000
"""Lines between two words on the progress."""
_SHOWN = 5
"""Complaints that are kept in full."""
_PER_DAY = 1 << 24
"""Numbers of a day, more than arXiv has papers in all."""
_BUSY_SECONDS = 60
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_REFUSED = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}

_TABLES = f"""
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_VERSION};
CREATE TABLE papers (
    n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, authors TEXT NOT NULL,
    categories TEXT NOT NULL, abstract TEXT NOT NULL
);
CREATE TABLE files (
    identity TEXT PRIMARY KEY, byte INTEGER NOT NULL, line INTEGER NOT NULL, finished INTEGER NOT NULL
);
CREATE VIRTUAL TABLE words USING fts5 (
    title, abstract, authors, categories, content = '', columnsize = 0, tokenize = 'porter unicode61'
);
"""
_WORDS = "rowid, title, abstract, authors, categories"
_BETWEEN = "\n"
"""Stands between authors, since it cannot stand in a name."""


@dataclass
class Built:
    """What a build did."""

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    skipped: int = 0
    """Lines that are no record of a paper."""
    complaints: list[Complaint] = field(default_factory=list)
    """Why, of the first few of them."""
    known: list[Path] = field(default_factory=list)
    """Files that had been read to their end by an earlier build."""
    torn: list[str] = field(default_factory=list)
    """Files that break off; what was read of them is kept."""
    total: int = 0
    """Papers in the index now."""

    def count(self, held: Record | None, record: Record) -> None:
        """Count a record by what the index held for its id."""
        if held is None:
            self.added += 1
        elif held == record:
            self.unchanged += 1
        else:
            self.replaced += 1

    def complain(self, complaint: Complaint) -> None:
        """Count a line that is none, and keep the first complaints."""
        self.skipped += 1
        if len(self.complaints) < _SHOWN:
            self.complaints.append(complaint)


def index_path(workspace: Workspace) -> Path:
    """Where the index of a workspace lies."""
    return workspace.cache / "discover.sqlite"


def build(workspace: Workspace, files: Sequence[Path], progress: Progress | None = None) -> Built:
    """Take the papers of snapshots into the index, which is made where there is none.

    A paper that is there already is replaced when the record differs, so of two files the one read last
    holds. A file is read on from where an earlier build had stopped, and not at all when it was read to its
    end. A damaged index is thrown away and built anew. Raises PaperError for a file that is none of arXiv's,
    and where the index cannot be written; WorkspaceError while another process builds it.
    """
    snapshots = [Snapshot(file) for file in files]
    path = index_path(workspace)
    path.parent.mkdir(parents=True, exist_ok=True)
    with workspace.lock("discover"):
        try:
            return _build(path, snapshots, progress)
        except sqlite3.DatabaseError as error:
            if _code(error) in _REFUSED:
                raise PaperError(
                    f"the index cannot be written: {error}",
                    fix="make room or mend the permissions, then run the same command: it goes on from here",
                    where=path,
                ) from error
            if _code(error) not in _DAMAGE:
                raise
            _remove(path)
            return _build(path, snapshots, progress)


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """An index to be asked. Raises PaperError, also within the block, when it is missing or damaged."""
    if not path.is_file():
        raise PaperError("there is no index of papers yet", fix=f"run `{BUILD}`", where=path)
    try:
        # to be read, but a build that was killed may have left a journal to be rolled back
        db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=_BUSY_SECONDS)
        try:
            if not _is_current(db):
                raise PaperError("the index is not of this version", fix=f"run `{BUILD}` again", where=path)
            yield db
        finally:
            db.close()
    except sqlite3.DatabaseError as error:
        if _code(error) in _DAMAGE:
            fix = f"run `{BUILD}` again"
            raise PaperError(f"the index is damaged: {error}", fix=fix, where=path) from error
        if _code(error) in _REFUSED:
            fix = "wait until a build has ended, or mend the permissions"
            raise PaperError(f"the index cannot be read: {error}", fix=fix, where=path) from error
        raise


def first_number(day: date) -> int:
    """The lowest number that a paper of a day can have."""
    return day.toordinal() * _PER_DAY


def last_number(day: date) -> int:
    """The highest number that a paper of a day can have."""
    return first_number(day) + _PER_DAY - 1


def record_of(n: int, identity: str, title: str, authors: str, categories: str, abstract: str) -> Record:
    """The record of a row of the table `papers`."""
    return Record(
        identity,
        title,
        tuple(filter(None, authors.split(_BETWEEN))),
        tuple(categories.split()),
        date.fromordinal(n // _PER_DAY),
        abstract,
    )


def category_word(name: str) -> str:
    """A category or an archive as one word of the column `categories`, left alone by the stemmer: cs0cv0."""
    return name.lower().translate(str.maketrans(".-", "01")) + "0"


def _build(path: Path, snapshots: list[Snapshot], progress: Progress | None) -> Built:
    size = sum(snapshot.size for snapshot in snapshots)

    def report() -> None:
        if progress is not None:
            progress(sum(s.lines for s in snapshots), sum(s.position for s in snapshots), size)

    built = Built()
    with _writable(path) as db:
        for snapshot in snapshots:
            _take_in(db, snapshot, built, report)
        (built.total,) = db.execute("SELECT count(*) FROM papers").fetchone()
    return built


def _take_in(db: sqlite3.Connection, snapshot: Snapshot, built: Built, report: Callable[[], None]) -> None:
    """The papers of one file, transaction by transaction."""
    row = db.execute(
        "SELECT byte, line, finished FROM files WHERE identity = ?", [snapshot.identity]
    ).fetchone()
    byte, line, finished = row or (0, 0, False)
    if finished:
        snapshot.position = snapshot.size
        built.known.append(snapshot.path)
        return report()
    batch: dict[str, Record] = {}
    for item in snapshot.records(Place(byte, line)):
        if isinstance(item, Complaint):
            built.complain(item)
        else:
            earlier = batch.get(item.id)
            if earlier is not None:  # twice within a transaction
                built.count(earlier, item)
            batch[item.id] = item
        if len(batch) == _BATCH:
            _store(db, batch.values(), snapshot, built)
            batch.clear()
        if snapshot.lines % _REPORT == 0:
            report()
    _store(db, batch.values(), snapshot, built, finished=snapshot.torn is None)
    if snapshot.torn:
        built.torn.append(snapshot.torn)
    report()


def _store(
    db: sqlite3.Connection,
    records: Iterable[Record],
    snapshot: Snapshot,
    built: Built,
    *,
    finished: bool = False,
) -> None:
    """One transaction: papers, and the place in the file that is behind them.

    FTS5 writes out what it has gathered whenever a number is lower than the last, hence the sorting.
    """
    new: list[Record] = []
    stale: list[tuple[int, Record]] = []
    with db:
        db.execute("BEGIN IMMEDIATE")
        for record in records:
            row = db.execute("SELECT * FROM papers WHERE id = ?", [record.id]).fetchone()
            held = record_of(*row) if row else None
            built.count(held, record)
            if held is not None and held != record:
                stale.append((row[0], held))
            if held != record:
                new.append(record)
        for n, record in sorted(stale, key=lambda pair: pair[0]):
            db.execute("DELETE FROM papers WHERE n = ?", [n])
            # an index without a copy of its texts has to be told what it held
            db.execute(
                f"INSERT INTO words (words, {_WORDS}) VALUES ('delete', ?, ?, ?, ?, ?)", _words(n, record)
            )
        for record in sorted(new, key=lambda record: record.published):
            n = _next_number(db, record.published)
            db.execute("INSERT INTO papers VALUES (?, ?, ?, ?, ?, ?)", _row(n, record))
            db.execute(f"INSERT INTO words ({_WORDS}) VALUES (?, ?, ?, ?, ?)", _words(n, record))
        place = snapshot.place
        db.execute(
            "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)",
            [snapshot.identity, place.byte, place.line, finished],
        )


def _next_number(db: sqlite3.Connection, day: date) -> int:
    span = [first_number(day), last_number(day)]
    (last,) = db.execute("SELECT max(n) FROM papers WHERE n BETWEEN ? AND ?", span).fetchone()
    return span[0] if last is None else int(last) + 1


def _row(n: int, record: Record) -> tuple[int, str, str, str, str, str]:
    authors, categories = _BETWEEN.join(record.authors), " ".join(record.categories)
    return n, record.id, record.title, authors, categories, record.abstract


def _words(n: int, record: Record) -> tuple[int, str, str, str, str]:
    archives = {name.partition(".")[0] for name in record.categories}
    categories = " ".join(map(category_word, sorted({*record.categories, *archives})))
    return n, record.title, record.abstract, _BETWEEN.join(record.authors), categories


@contextmanager
def _writable(path: Path) -> Iterator[sqlite3.Connection]:
    """The index to be written, made where it is missing or of another version."""
    db = _connected(path)
    try:
        if not _is_current(db):
            db.close()
            _remove(path)
            db = _connected(path)
            db.execute("PRAGMA page_size = 16384")
            db.executescript(f"BEGIN; {_TABLES} COMMIT;")
        yield db
    finally:
        db.close()


def _connected(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)


def _is_current(db: sqlite3.Connection) -> bool:
    names = ("application_id", "user_version")
    return tuple(db.execute(f"PRAGMA {name}").fetchone()[0] for name in names) == (_APPLICATION, _VERSION)


def _remove(path: Path) -> None:
    for suffix in ("", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary code of an error; 0 where the error is not SQLite's."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
