"""The index of a workspace: a SQLite file that is built from the records, asked, and thrown away at will.

It lies at .claimbook/index.sqlite. It is a cache: whatever is wrong with it, it is built anew, and where it
cannot be kept, on a read-only or a full disk, it is built in memory.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from zoneinfo import ZoneInfo

from claimbook.errors import ClaimbookError, WorkspaceError
from claimbook.index import build, sql
from claimbook.index.mounts import is_network
from claimbook.index.query import Query, parse
from claimbook.index.text import fold, match_all, match_any, shared_words, snippet, tokens
from claimbook.workspace import Workspace

if TYPE_CHECKING:
    import pandas

T = TypeVar("T")
Kind = Literal["paper", "experiment"]

_APPLICATION = 0x636C6D62  # "clmb", for file(1) and for telling our file from another
_LOCK_SECONDS = 300
_BUSY_SECONDS = 60
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_UNWRITABLE = {
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_PERM,
}
_WEIGHTS = "10.0, 3.0, 1.0"
"""Of a word in the title, in the own text, and in the text of an experiment's paper, for bm25."""
_RESEMBLANCE = 0.2
"""The share of a text's words that another must hold to resemble it."""
_COMMON_METRICS = 3
_FEW = 2_000
"""Runs that are sorted in a millisecond or two."""


@dataclass(frozen=True)
class Page:
    """A part of the runs that a query finds."""

    rows: list[dict[str, Any]]
    """A run each: its fields by name, and `metric.…`, `chance.…`, `param.…` as far as it has them. Times are
    ISO in UTC; what a run does not have is None."""
    total: int
    """All runs that the query finds, its own `limit` aside. Counted in full: it costs one scan of the
    rows."""
    columns: list[str]
    """The fields that a table of these rows does best to show: the usual ones, then those that the query
    names, or else the three metrics that most of the rows have."""


@dataclass(frozen=True)
class Hit:
    """A paper or an experiment that a text search finds."""

    kind: Kind
    slug: str
    title: str
    snippet: str
    """The surroundings of the first word found."""
    score: float
    """bm25, the larger the better; comparable within one search only."""


@dataclass(frozen=True)
class Wear:
    """How much a product set has been used: every use makes its test split say a little less."""

    runs: int
    """Finished runs of any kind that were scored on it, deleted ones too."""
    experiments: int
    """Experiments with such a run."""
    hypotheses: int
    """Experiments with a seal on it."""


class Index:
    """The runs, papers and experiments of a workspace, to be asked."""

    def __init__(self, workspace: Workspace, progress: build.Progress | None = None) -> None:
        """Use `Index.open`, which also brings the index up to date."""
        self.workspace = workspace
        self.note: str | None = None
        """Why the index is not kept, a line to be shown; None where all is well."""
        self.problems: list[ClaimbookError] = []
        """The files that were left out at the last refresh, and why."""
        self._path = workspace.root / ".claimbook" / "index.sqlite"
        self._progress = progress
        self._db = self._connect()

    @classmethod
    def open(cls, workspace: Workspace, progress: build.Progress | None = None) -> Index:
        """The index of a workspace, made where there is none, and up to date with the files.

        progress: told how many files of how many have been read, in this and in later refreshes. Raises
        WorkspaceError when another process has been writing the index for five minutes.
        """
        index = cls(workspace, progress)
        index.refresh()
        return index

    def refresh(self) -> build.Refreshed:
        """Take in the files that were added, changed or removed since the last time.

        A file that cannot be read stops nothing: it is left out, and named in `problems`.
        """
        try:
            refreshed = build.refresh(self._db, self.workspace, self._lock(), self._progress)
        except (sqlite3.DatabaseError, OSError) as error:
            self._recover(error)
            refreshed = build.refresh(self._db, self.workspace, self._lock(), self._progress)
        self.problems = refreshed.problems
        return refreshed

    def runs(
        self, query: str = "", *, limit: int | None = 50, offset: int = 0, deleted: bool = False
    ) -> Page:
        """The runs that a query finds, see `claimbook.index.query`; the newest first unless it says
        otherwise.

        limit: at most so many rows, None for all; a limit in the query comes before it. deleted: show deleted
        runs too, as does a query that names the field `deleted`. Raises QueryError.
        """
        return self._asked(lambda: self._page(query, limit, offset, deleted))

    def frame(self, query: str = "") -> pandas.DataFrame:
        """All runs that a query finds as a pandas frame, a row each, with every metric and parameter that one
        of them has as a column. Times are in the workspace's time zone. Raises QueryError."""
        import pandas

        page = self.runs(query, limit=None)
        values = {name for row in page.rows for name in row} - set(_ROW)
        frame = pandas.DataFrame(page.rows, columns=[*_ROW, *sorted(values, key=_family_first)])
        for name in ("started", "ended"):
            moments = pandas.to_datetime(frame[name], utc=True, format="ISO8601")
            frame[name] = moments.dt.tz_convert(self.workspace.timezone)
        return frame

    def search(
        self,
        text: str,
        kinds: Iterable[Kind] = ("paper", "experiment"),
        limit: int = 10,
        *,
        every: bool = True,
    ) -> list[Hit]:
        """Papers and experiments that hold every word of a text, best first; see `text.match_all`.

        every: False for those that hold at least one of its longer words.
        """
        expression = match_all(text) if every else match_any(text)
        if expression is None:
            return []
        return self._asked(lambda: self._hits(expression, text, set(kinds), limit))

    def titles(self, kind: Kind) -> dict[str, str]:
        """The titles of all papers or experiments, by slug; empty for one that cannot be read."""
        select = "SELECT slug, title FROM documents WHERE kind = ? ORDER BY slug"
        return self._asked(lambda: dict(self._db.execute(select, (kind,)).fetchall()))

    def similar(self, text: str, *, exclude: str | None = None, limit: int = 5) -> list[Hit]:
        """Experiments that share words with a text, best first, besides the one with the slug `exclude`.

        They are looked for by their own titles, questions and notes, not by their papers, and must hold a
        fifth of the text's words, so that a common word makes no resemblance.
        """
        expression = match_any(text)
        if expression is None:
            return []
        words = shared_words(text)

        def resembling() -> list[Hit]:
            candidates = self._hits(f"{{title own}} : ({expression})", text, {"experiment"}, 4 * limit + 1)
            others = [hit for hit in candidates if hit.slug != exclude]
            return [hit for hit in others if self._shares(hit.slug, words)][:limit]

        return self._asked(resembling)

    def wear(self, data: str) -> Wear:
        """How often the product set of a fingerprint was used; see `Wear`."""

        def count() -> Wear:
            runs, experiments = self._db.execute(
                "SELECT count(*), count(DISTINCT experiment) FROM runs "
                "WHERE status = 'finished' AND data = (SELECT id FROM words WHERE text = ?)",
                (data,),
            ).fetchone()
            (sealed,) = self._db.execute("SELECT count(*) FROM seals WHERE data = ?", (data,)).fetchone()
            return Wear(runs, experiments, sealed)

        return self._asked(count)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def __enter__(self) -> Index:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _page(self, text: str, limit: int | None, offset: int, deleted: bool) -> Page:
        query = parse(text, ZoneInfo(self.workspace.timezone))
        statement = sql.Statement(query, build.names(self._db), self._environments())
        condition = statement.condition
        if not deleted and not any(str(named) == "deleted" for named in query.fields()):
            condition = f"deleted = 0 AND {condition}"
        most = limit if query.limit is None else query.limit
        numbers, total = self._found(statement, condition, most, offset)
        rows = self._rows(numbers)
        return Page(rows, total, _columns(query, rows))

    def _found(
        self, statement: sql.Statement, condition: str, limit: int | None, offset: int
    ) -> tuple[list[int], int]:
        """The numbers of a page of runs, and how many there are in all.

        A condition that few runs meet takes one scan, and what it has found is sorted afterwards. A condition
        that many meet takes a scan to count them, and the page is found early in an index or in the rows.
        """
        few = f"SELECT n FROM runs WHERE {condition} LIMIT {_FEW + 1}"
        numbers = [number for (number,) in self._db.execute(few, statement.bound)]
        if len(numbers) <= _FEW:
            condition, bound, total = f"n IN ({', '.join('?' * len(numbers))})", numbers, len(numbers)
        else:
            bound = statement.bound
            (total,) = self._db.execute(f"SELECT count(*) FROM runs WHERE {condition}", bound).fetchone()
        page = self._db.execute(
            f"SELECT n FROM runs WHERE {condition} ORDER BY {statement.order} LIMIT ? OFFSET ?",
            [*bound, *statement.order_bound, -1 if limit is None else limit, offset],
        )
        return [number for (number,) in page], total

    def _environments(self) -> set[str]:
        return {name for (name,) in self._db.execute("SELECT DISTINCT name FROM environments")}

    def _rows(self, numbers: list[int]) -> list[dict[str, Any]]:
        labels = {number: f"{family}.{name}" for (family, name), number in build.names(self._db).items()}
        wide = [number for number in sorted(labels) if number < sql.WIDE]
        columns = "".join(f", v{number}" for number in wide)
        found: dict[int, dict[str, Any]] = {}
        for start in range(0, len(numbers), 10_000):
            part = numbers[start : start + 10_000]
            marks = ", ".join("?" * len(part))
            for record in self._db.execute(f"{_SELECT_ROWS % columns} IN ({marks})", part):
                row = _row(record)
                for number, value in zip(wide, record[len(_ROW) + 1 :], strict=True):
                    if value is not None:
                        row[labels[number]] = sql.decode_value(value)
                found[record[0]] = row
            for run, number, value in self._db.execute(f"SELECT * FROM rare WHERE n IN ({marks})", part):
                found[run][labels[number]] = sql.decode_value(value)
        return [found[number] for number in numbers]

    def _hits(self, expression: str, text: str, kinds: set[Kind], limit: int) -> list[Hit]:
        marks = ", ".join("?" * len(kinds))
        found = self._db.execute(
            f"SELECT kind, slug, documents.title, text, -bm25(fulltext, {_WEIGHTS}) AS score FROM fulltext "
            f"JOIN documents ON n = fulltext.rowid WHERE fulltext MATCH ? AND kind IN ({marks}) "
            "ORDER BY score DESC, slug LIMIT ?",
            [expression, *sorted(kinds), limit],
        )
        return [Hit(kind, slug, title, snippet(own, text), score) for kind, slug, title, own, score in found]

    def _shares(self, slug: str, words: set[str]) -> bool:
        title, own = self._db.execute(
            "SELECT title, text FROM documents WHERE kind = 'experiment' AND slug = ?", (slug,)
        ).fetchone()
        return len(words & set(tokens(f"{title}\n{own}"))) >= _RESEMBLANCE * len(words)

    def _asked(self, work: Callable[[], T]) -> T:
        """Ask the file; when that shows it broken, build it anew and ask again."""
        try:
            return work()
        except (sqlite3.DatabaseError, OSError) as error:
            self._recover(error)
            self.refresh()
            return work()

    def _recover(self, error: sqlite3.DatabaseError | OSError) -> None:
        """Make a new index in place of a broken file, in memory where there can be none; else raise."""
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if code in _CORRUPT and self.note is None:
            self._db.close()
            with self._lock():
                _remove(self._path)
            self._db = self._connect()
        elif self.note is None and (isinstance(error, OSError) or code in _UNWRITABLE):
            self._db.close()
            self._db = self._in_memory(error)
        elif code == sqlite3.SQLITE_BUSY:
            raise WorkspaceError(
                "another program holds the index", fix="close it, then try again", where=self._path
            ) from error
        else:
            raise error

    def _connect(self) -> sqlite3.Connection:
        try:
            with self._lock():
                return _opened(self._path)
        except (OSError, sqlite3.OperationalError) as error:
            code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
            if isinstance(error, sqlite3.Error) and code not in _UNWRITABLE | {sqlite3.SQLITE_BUSY}:
                raise
            return self._in_memory(error)

    def _in_memory(self, error: Exception) -> sqlite3.Connection:
        reason = getattr(error, "strerror", None) or str(error)
        self.note = f"{self._path} cannot be written ({reason}): the index was built in memory, for this once"
        return _created(":memory:")

    def _lock(self) -> Any:
        """A lock between processes, which the operating system frees when its holder dies."""
        if self.note is not None:
            return nullcontext()
        return _Lock(self.workspace.root / ".claimbook" / "locks" / "index.lock")


class _Lock:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        from filelock import FileLock, Timeout

        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self._path, timeout=_LOCK_SECONDS)
        try:
            self._lock.acquire()
        except Timeout:
            raise WorkspaceError(
                f"another process has been writing the index for more than {_LOCK_SECONDS} seconds",
                fix="wait until it has finished, or stop it; the lock goes with the process",
                where=self._path,
            ) from None

    def __exit__(self, *error: object) -> None:
        self._lock.release()


_ROW = (
    "id",
    "experiment",
    "arm",
    "seed",
    "kind",
    "status",
    "notebook",
    "paper",
    "claim",
    "verdict",
    "seal",
    "started",
    "ended",
    "seconds",
    "memory",
    "gpu_memory",
    "energy",
    "error",
    "deleted",
)
_SELECT_ROWS = f"""
SELECT runs.n, details.id, slug, arm, seed, runs.kind, status, notebook, paper, claim, verdict, sealed.text,
    runs.n >> {sql.MOMENT_BITS}, ended, seconds, memory, gpu_memory, energy, failed.text, deleted%s
FROM runs
JOIN details ON details.n = runs.n
JOIN documents ON documents.n = experiment
LEFT JOIN words AS sealed ON sealed.id = seal
LEFT JOIN words AS failed ON failed.id = error
WHERE runs.n"""


def _row(record: tuple[Any, ...]) -> dict[str, Any]:
    row = dict(zip(_ROW, record[1:], strict=False))
    row["started"] = _iso(row["started"])
    row["ended"] = None if row["ended"] is None else _iso(row["ended"])
    row["deleted"] = bool(row["deleted"])
    return row


def _iso(milliseconds: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _columns(query: Query, rows: list[dict[str, Any]]) -> list[str]:
    usual = ["id", "experiment", "arm", "seed", "kind", "status", "started", "seconds"]
    named = [str(field) for field in query.fields() if field.family != "env"]
    if not any(name.startswith("metric.") for name in named):
        counts: dict[str, int] = {}
        for name in (name for row in rows for name in row if name.startswith("metric.")):
            counts[name] = counts.get(name, 0) + 1
        named += sorted(counts, key=lambda name: -counts[name])[:_COMMON_METRICS]
    return list(dict.fromkeys([*usual, *named]))


def _family_first(name: str) -> tuple[int, str]:
    return ("metric", "chance", "param").index(name.partition(".")[0]), name


def _opened(path: Path) -> sqlite3.Connection:
    """A connection to the file, which is created where it is missing, and anew where it is not ours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    network = is_network(path.parent)
    try:
        db = _created(path) if not path.exists() else _connected(path)
        if not _is_current(db):
            db.close()
            _remove(path)
            db = _created(path)
    except sqlite3.DatabaseError as error:
        if (error.sqlite_errorcode or 0) & 0xFF not in _CORRUPT:
            raise
        _remove(path)
        db = _created(path)
    # the write-ahead log and mapped pages need memory that all readers share, which other machines do not
    db.execute(f"PRAGMA journal_mode = {'DELETE' if network else 'WAL'}")
    db.execute("PRAGMA synchronous = NORMAL")
    if not network:
        db.execute(f"PRAGMA mmap_size = {1 << 32}")
    return db


def _connected(path: Path | str) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    # 64 MiB, since a first build writes rows in the order of the files, and not in that of their numbers
    db.execute("PRAGMA cache_size = -65536")
    db.create_function("fold", 1, lambda text: text and fold(text), deterministic=True)
    return db


def _is_current(db: sqlite3.Connection) -> bool:
    (application,), (version,) = (
        db.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
    )
    return (application, version) == (_APPLICATION, build.VERSION)


def _created(path: Path | str) -> sqlite3.Connection:
    db = _connected(path)
    db.execute("PRAGMA page_size = 16384")
    tables = f"PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {build.VERSION}; {build.TABLES}"
    try:
        db.executescript(f"BEGIN IMMEDIATE; {tables} COMMIT;")
    except sqlite3.Error:
        db.close()
        raise
    return db


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
