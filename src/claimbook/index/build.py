"""The index's tables, and how the files of a workspace get into them. Knows no query.

Every file is remembered with its time of change, its size and its inode; only files in which one of these
differs are read again. A file that cannot be read is left out, and its complaint remembered until it changes.

One wide row per run, a column per name of metric, chance and parameter, and an index only to sort by a
metric. Measured with 100,000 runs on two cores: a scan with three tests takes 7 ms, whatever is tested and
found, when the rows are short (long and repeated texts lie in `words`), pages are 16 KiB and the file is
mapped into memory; with texts in place and pages of 4 KiB it took 19 to 33 ms. Tests through indices answer a
sparse one in 0.1 ms, but led the planner to take 60 to 130 ms for two dense tests that rarely hold together,
and rows by key and value need a look-up per run and test. A run's number begins with its time: the newest
come first unsorted.
"""

from __future__ import annotations

import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from claimbook.errors import ClaimbookError, RecordError
from claimbook.experiments import Experiment, as_it_is
from claimbook.index import sql
from claimbook.index.text import fold, tokens
from claimbook.papers import load
from claimbook.papers.library import card_of
from claimbook.records import Hypothesis, Paper, Run, decode_json
from claimbook.workspace import Workspace

VERSION = 4
"""Of the tables; an index of another version is built anew."""

TABLES = """
CREATE TABLE files(
    path TEXT PRIMARY KEY,
    changed INTEGER, size INTEGER, inode INTEGER,
    run INTEGER,                             -- its row in runs
    live TEXT,                               -- how a run reads whose file says that it is running
    problem TEXT, fix TEXT, place TEXT       -- what is wrong with the file
) WITHOUT ROWID;
CREATE TABLE documents(                      -- papers and experiments
    n INTEGER PRIMARY KEY, kind TEXT, slug TEXT,
    title TEXT, paper TEXT, claim TEXT, verdict TEXT, text TEXT,
    UNIQUE(kind, slug)
);
CREATE VIRTUAL TABLE fulltext USING fts5(title, own, paper, tokenize = 'ascii');
CREATE TABLE seals(experiment INTEGER, data TEXT, PRIMARY KEY(experiment, data)) WITHOUT ROWID;
CREATE TABLE words(id INTEGER PRIMARY KEY, text UNIQUE, folded TEXT);
CREATE TABLE environments(
    environment INTEGER, name TEXT, value TEXT, PRIMARY KEY(environment, name)
) WITHOUT ROWID;
CREATE TABLE names(number INTEGER PRIMARY KEY, family TEXT, name TEXT);
CREATE TABLE runs(                           -- and a column v<number> for each of the first names
    n INTEGER PRIMARY KEY, experiment INTEGER, deleted INTEGER, status TEXT, kind TEXT, arm TEXT,
    seed INTEGER, seconds REAL, notebook TEXT,
    seal INTEGER, error INTEGER, environment INTEGER, data INTEGER
);
CREATE TABLE details(                        -- what is seldom asked for, apart, so that the rows are short
    n INTEGER PRIMARY KEY, ended INTEGER, memory INTEGER, gpu_memory INTEGER, energy REAL,
    id TEXT, folded TEXT                     -- NULL where it is the same
);
CREATE INDEX runs_by_seconds ON runs(seconds);
CREATE TABLE rare(n INTEGER, name INTEGER, value, PRIMARY KEY(name, n)) WITHOUT ROWID;
CREATE INDEX rare_of_run ON rare(n);
"""

_OF_EXPERIMENT = ("hypothesis.toml", "README.md", "seal.json", "verdict.json")
_OF_PAPER = ("README.md", "meta.json")
_MANY = 5_000
"""New files after which the rows are put in order on the disk: it takes 0.4 s for 100,000 runs, and a scan of
them a fifth less time."""
_TICK = 20_000_000
"""Nanoseconds within which a file may change twice and show one time: clocks tick every 10 ms or faster."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

Signature = tuple[int, int, int]
"""Time of change in nanoseconds, size in bytes, inode. The time is that of the last change of content, name
or permissions, which nobody can set; on Windows, which has none, that of the content."""
_CHANGED = "st_ctime_ns" if os.name == "posix" else "st_mtime_ns"
Progress = Callable[[int, int], None]
"""Told how many files of how many have been read."""


@dataclass(frozen=True)
class Refreshed:
    """What bringing the index up to date found, in files."""

    added: int
    changed: int
    removed: int
    problems: list[ClaimbookError]
    """All files that are left out, also those of earlier times."""


def refresh(db: sqlite3.Connection, workspace: Workspace, lock: Any, progress: Progress | None) -> Refreshed:
    """Bring the tables up to date with the files.

    lock: a context manager that keeps other processes from doing the same at once; it is entered when there
    is something to write. All is written in one transaction: a process that dies leaves the tables as they
    were.
    """
    found = _scan(workspace)
    if not _differences(db, workspace, found).any:
        return Refreshed(0, 0, 0, list(_problems(db)))
    with lock:
        found = _settled(workspace, found)
        db.execute("BEGIN IMMEDIATE")
        try:
            differences = _differences(db, workspace, found)
            _apply(_Writer(db, workspace), found, differences, progress)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        if len(differences.added) > _MANY:
            with suppress(sqlite3.OperationalError):  # an untidy index is right all the same
                db.execute("VACUUM")
    return Refreshed(
        len(differences.added), len(differences.changed), len(differences.removed), list(_problems(db))
    )


def names(db: sqlite3.Connection) -> dict[tuple[str, str], int]:
    """The number of each family and name of value."""
    return {(family, name): n for n, family, name in db.execute("SELECT number, family, name FROM names")}


@dataclass(frozen=True)
class _Differences:
    added: list[str]
    changed: list[str]
    removed: list[str]

    @property
    def any(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def _scan(workspace: Workspace) -> dict[str, Signature]:
    """Every file that the index is made of, by its path from the workspace on."""
    found: dict[str, Signature] = {}
    for paper in _folders(workspace.papers):
        _look(found, paper.path, f"papers/{paper.name}", _OF_PAPER)
    for experiment in _folders(workspace.experiments):
        base = f"experiments/{experiment.name}"
        _look(found, experiment.path, base, _OF_EXPERIMENT)
        for part in ("runs", "deleted"):
            for run in _folders(Path(experiment.path, part)):
                _look(found, run.path, f"{base}/{part}/{run.name}", ("run.json",))
    return found


def _folders(parent: Path) -> Iterator[os.DirEntry[str]]:
    try:
        entries = os.scandir(parent)
    except (FileNotFoundError, NotADirectoryError):
        return
    with entries:
        for entry in entries:
            # a name that is no UTF-8 is none that claimbook gave
            if not entry.name.startswith(".") and (entry.name.isascii() or _is_text(entry.name)):
                yield entry


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _look(found: dict[str, Signature], folder: str, base: str, names: Iterable[str]) -> None:
    for name in names:
        try:
            status = os.stat(f"{folder}/{name}")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:  # reading it will say why
            found[f"{base}/{name}"] = (0, 0, 0)
        else:
            found[f"{base}/{name}"] = (getattr(status, _CHANGED), status.st_size, status.st_ino)


def _differences(db: sqlite3.Connection, workspace: Workspace, found: dict[str, Signature]) -> _Differences:
    known = {
        path: ((changed, size, inode), live)
        for path, changed, size, inode, live in db.execute(
            "SELECT path, changed, size, inode, live FROM files"
        )
    }
    added = [path for path in found if path not in known]
    changed = [
        path
        for path, (signature, live) in known.items()
        if path in found and (found[path] != signature or (live and _reads_otherwise(workspace, path, live)))
    ]
    return _Differences(added, changed, [path for path in known if path not in found])


def _reads_otherwise(workspace: Workspace, path: str, live: str) -> bool:
    """Whether a run that its file calls running is lost by now, or found alive after all."""
    try:
        file = workspace.root / path
        return as_it_is(_read_run(file, path), file.parent).status != live
    except (OSError, RecordError):
        return True


def _settled(workspace: Workspace, found: dict[str, Signature]) -> dict[str, Signature]:
    """The files, once the newest is so old that a further change must show in its time."""
    age = time.time_ns() - max((changed for changed, _, _ in found.values()), default=0)
    if 0 <= age < _TICK:
        time.sleep((_TICK - age) / 1e9)
    return _scan(workspace)


def _problems(db: sqlite3.Connection) -> Iterator[ClaimbookError]:
    wrong = db.execute("SELECT problem, fix, place FROM files WHERE problem IS NOT NULL ORDER BY path")
    for problem, fix, place in wrong:
        yield RecordError(problem, fix=fix, where=place)


def _apply(
    writer: _Writer, found: dict[str, Signature], differences: _Differences, progress: Progress | None
) -> None:
    papers: set[str] = set()
    experiments: set[str] = set()
    due = [*differences.removed, *differences.changed, *differences.added]
    for done, path in enumerate(due):
        if progress is not None and done % 500 == 0:
            progress(done, len(due))
        kind, slug, *rest = path.split("/")
        if len(rest) == 1:
            (papers if kind == "papers" else experiments).add(slug)
            continue
        if done < len(due) - len(differences.added):
            writer.drop_run(path)
        if path in found:
            writer.run(path, found[path])
    for slug in sorted(papers):
        writer.paper(slug, found)
    for slug in sorted(experiments | writer.experiments_of(papers)):
        writer.experiment(slug, found)
    if progress is not None:
        progress(len(due), len(due))


class _Writer:
    """Writes rows for files within one transaction."""

    def __init__(self, db: sqlite3.Connection, workspace: Workspace) -> None:
        self.db, self.workspace = db, workspace
        self._names = names(db)
        self._words: dict[str | bytes, int] = {}
        self._experiments: dict[str, int] = {}

    def drop_run(self, path: str) -> None:
        """Remove what is known of one run."""
        for table in ("runs", "details", "rare"):
            self.db.execute(f"DELETE FROM {table} WHERE n = (SELECT run FROM files WHERE path = ?)", (path,))
        self.db.execute("DELETE FROM files WHERE path = ?", (path,))

    def run(self, path: str, signature: Signature) -> None:
        """Add the row of one run, or the complaint about its file."""
        file = self.workspace.root / path
        try:
            run = _read_run(file, path)
            status = as_it_is(run, file.parent).status
            number = self._put_run(run, status, path)
        except FileNotFoundError:
            pass  # moved since it was looked for; the next refresh finds where
        except (OSError, RecordError) as error:
            self._put_file(path, signature, problem=_complaint(error, path))
        else:
            self._put_file(path, signature, number, status if run.status == "running" else None)

    def paper(self, slug: str, found: dict[str, Signature]) -> None:
        """Replace what is known of a paper; its complaint is kept with its note."""
        files = [f"papers/{slug}/{name}" for name in _OF_PAPER]
        paper, problem = None, None
        if files[0] in found:  # without a note it is no paper of the library
            try:
                paper = load(self.workspace, slug)
            except (OSError, ClaimbookError) as error:
                problem = _complaint(error, files[0])
        if paper is None:
            card = card_of(self.workspace.papers, slug)  # a note that cannot be read has a title all the same
            self._put_document("paper", slug, card.title if card else "", "")
        else:
            self._put_document("paper", slug, paper.meta.title, _paper_text(paper))
        self._put_files(files, found, {files[0]: problem} if problem else {})

    def experiment(self, slug: str, found: dict[str, Signature]) -> None:
        """Replace what is known of an experiment besides its runs; each file's complaint is kept with it."""
        folder = Experiment(self.workspace.experiments / slug)
        readers: dict[str, Callable[[], Any]] = {
            "hypothesis.toml": folder.hypothesis,
            "README.md": folder.decision,
            "seal.json": folder.seal,
            "verdict.json": folder.verdict,
        }
        said: dict[str, Any] = {}
        problems: dict[str, ClaimbookError] = {}
        for name, read in readers.items():
            path = f"experiments/{slug}/{name}"
            try:
                said[name] = read() if path in found else None
            except (OSError, ClaimbookError) as error:
                problems[path] = _complaint(error, path)
        hypothesis: Hypothesis | None = said.get("hypothesis.toml")
        seal, verdict, readme = (said.get(name) for name in ("seal.json", "verdict.json", "README.md"))
        if hypothesis is None and seal is not None:
            hypothesis = seal.current.hypothesis
        number = self._put_document(
            "experiment",
            slug,
            hypothesis.title if hypothesis else "",
            _experiment_text(hypothesis, readme[1] if readme else ""),
            paper=hypothesis.paper if hypothesis else None,
            claim=hypothesis.claim if hypothesis else None,
            verdict=verdict.outcome if verdict else None,
        )
        self.db.execute("DELETE FROM seals WHERE experiment = ?", (number,))
        for data in sorted({entry.data for entry in seal.entries} if seal else ()):
            self.db.execute("INSERT INTO seals VALUES (?, ?)", (number, data))
        self._put_files([f"experiments/{slug}/{name}" for name in _OF_EXPERIMENT], found, problems)

    def experiments_of(self, papers: set[str]) -> set[str]:
        """The experiments whose full text holds one of these papers."""
        known = self.db.execute("SELECT slug, paper FROM documents WHERE kind = 'experiment'")
        return {slug for slug, paper in known if paper in papers}

    def _put_run(self, run: Run, status: str, path: str) -> int:
        _, slug, part, *_ = path.split("/")
        started = _milliseconds(run.started, "started", path)
        ended = None if run.ended is None else _milliseconds(run.ended, "ended", path)
        values = self._values(run)
        number = self._free_number(started, f"{slug}/{run.id}")
        data = run.fingerprints.get("data")
        row = (
            number,
            self._experiment_number(slug),
            int(part == "deleted"),
            status,
            run.kind,
            run.arm,
            sql.encode_value(run.seed),
            run.seconds,
            run.notebook,
            None if run.seal is None else self._word(run.seal),
            None if run.failure is None else self._word(f"{run.failure.error}: {run.failure.message}"),
            self._environment(run.environment | ({"kernel": run.kernel} if run.kernel else {})),
            self._word(data) if isinstance(data, str) else None,
        )
        for text in (run.arm, run.notebook, run.kind, status):
            self._word(text)
        wide = [(place, value) for place, value in values if place < sql.WIDE]
        columns = "".join(f", v{place}" for place, _ in wide)
        self.db.execute(
            "INSERT INTO runs(n, experiment, deleted, status, kind, arm, seed, seconds, notebook, seal, "
            f"error, environment, data{columns}) "
            f"VALUES ({', '.join('?' * (len(row) + len(wide)))})",
            (*row, *(value for _, value in wide)),
        )
        folded = fold(run.id)
        self.db.execute(
            "INSERT INTO details VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                number,
                ended,
                run.peak_memory,
                run.peak_gpu_memory,
                run.gpu_energy,
                run.id,
                None if folded == run.id else folded,
            ),
        )
        self.db.executemany(
            "INSERT INTO rare VALUES (?, ?, ?)",
            [(number, place, value) for place, value in values if place >= sql.WIDE],
        )
        return number

    def _values(self, run: Run) -> list[tuple[int, Any]]:
        families = (("metric", run.metrics), ("chance", run.chance), ("param", run.parameters))
        values = []
        for family, table in families:
            for name, value in table.items():
                stored = sql.encode_value(value)
                if isinstance(stored, str | bytes):
                    self._word(stored)
                values.append((self._name(family, name), stored))
        return values

    def _name(self, family: str, name: str) -> int:
        number = self._names.get((family, name))
        if number is None:
            number = self._names[family, name] = len(self._names)
            self.db.execute("INSERT INTO names VALUES (?, ?, ?)", (number, family, name))
            if number < sql.WIDE:
                self.db.execute(f"ALTER TABLE runs ADD COLUMN v{number}")
                if family == "metric":
                    self.db.execute(f"CREATE INDEX runs_by_v{number} ON runs(v{number})")
        return number

    def _word(self, text: str | bytes) -> int:
        number = self._words.get(text)
        if number is None:
            folded = fold(text if isinstance(text, str) else text.decode())
            self.db.execute("INSERT OR IGNORE INTO words(text, folded) VALUES (?, ?)", (text, folded))
            (number,) = self.db.execute("SELECT id FROM words WHERE text = ?", (text,)).fetchone()
            self._words[text] = number
        return int(number)

    def _environment(self, environment: dict[str, str]) -> int:
        """Runs that were made together share an environment, which is kept once."""
        number = self._word(msgspec.json.encode(environment, order="sorted").decode())
        self.db.executemany(
            "INSERT OR IGNORE INTO environments VALUES (?, ?, ?)",
            [(number, name, value) for name, value in environment.items()],
        )
        return number

    def _free_number(self, started: int, label: str) -> int:
        """A number for a run that sorts by its start and does not depend on the order of reading."""
        mask = (1 << sql.MOMENT_BITS) - 1
        offset = zlib.crc32(label.encode()) & mask
        while True:
            number = started << sql.MOMENT_BITS | offset
            if self.db.execute("SELECT 1 FROM runs WHERE n = ?", (number,)).fetchone() is None:
                return number
            offset = (offset + 1) & mask

    def _experiment_number(self, slug: str) -> int:
        if slug not in self._experiments:
            self.db.execute("INSERT OR IGNORE INTO documents(kind, slug) VALUES ('experiment', ?)", (slug,))
            found = self.db.execute("SELECT n FROM documents WHERE kind = 'experiment' AND slug = ?", (slug,))
            (self._experiments[slug],) = found.fetchone()
        return self._experiments[slug]

    def _put_document(
        self,
        kind: str,
        slug: str,
        title: str,
        text: str,
        *,
        paper: str | None = None,
        claim: str | None = None,
        verdict: str | None = None,
    ) -> int:
        (number,) = self.db.execute(
            "INSERT INTO documents(kind, slug, title, paper, claim, verdict, text) "
            "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET title = excluded.title, "
            "paper = excluded.paper, claim = excluded.claim, verdict = excluded.verdict, "
            "text = excluded.text RETURNING n",
            (kind, slug, title, paper, claim, verdict, text),
        ).fetchone()
        self.db.execute("DELETE FROM fulltext WHERE rowid = ?", (number,))
        if title or text:
            about = self._text_of_paper(paper) if paper else ""
            columns = (" ".join(tokens(part)) for part in (title, text, about))
            self.db.execute(
                "INSERT INTO fulltext(rowid, title, own, paper) VALUES (?, ?, ?, ?)", (number, *columns)
            )
        return int(number)

    def _text_of_paper(self, slug: str) -> str:
        found = self.db.execute(
            "SELECT title, text FROM documents WHERE kind = 'paper' AND slug = ?", (slug,)
        )
        return "\n".join(found.fetchone() or ())

    def _put_files(
        self, paths: list[str], found: dict[str, Signature], problems: dict[str, ClaimbookError]
    ) -> None:
        for path in paths:
            if path in found:
                self._put_file(path, found[path], problem=problems.get(path))
            else:
                self.db.execute("DELETE FROM files WHERE path = ?", (path,))

    def _put_file(
        self,
        path: str,
        signature: Signature,
        run: int | None = None,
        live: str | None = None,
        problem: ClaimbookError | None = None,
    ) -> None:
        wrong = (problem.problem, problem.fix, problem.where) if problem else (None, None, None)
        self.db.execute(
            "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (path, *signature, run, live, *wrong),
        )


_decoder = msgspec.json.Decoder(Run)


def _read_run(file: Path, path: str) -> Run:
    """The run of a file. Raises RecordError with file and field, OSError when it cannot be read."""
    data = file.read_bytes()
    try:
        run = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        decode_json(data, Run, path)  # says which field it is
        raise RecordError(
            f"no valid JSON: {error}", fix="restore the file (git checkout)", where=path
        ) from error
    if run.id != file.parent.name:
        raise RecordError(
            f"id is {run.id!r}, the folder is called {file.parent.name!r}",
            fix="a run keeps the folder that it was made in; move it back",
            where=path,
        )
    _milliseconds(run.started, "started", path)  # whether it is lost by now is told from it
    return run


def _milliseconds(text: str, field: str, path: str) -> int:
    """An ISO time as milliseconds since 1970."""
    try:
        moment = datetime.fromisoformat(text)
        number = ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // _MILLISECOND
    except (ValueError, OverflowError):
        number = -1
    if not 0 <= number < 1 << (63 - sql.MOMENT_BITS):
        raise RecordError(
            f"{field} is {text!r}, which is no time since 1970",
            fix="restore the file (git checkout); times read 2026-11-24T01:28:28.084Z",
            where=path,
        )
    return number


def _complaint(error: OSError | ClaimbookError, path: str) -> ClaimbookError:
    if isinstance(error, ClaimbookError):
        return error
    return RecordError(
        f"it cannot be read: {error.strerror}", fix="mend its permissions or the disk", where=path
    )


def _paper_text(paper: Paper) -> str:
    claims = [claim.text for claim in paper.note.claims]
    return "\n".join([paper.meta.abstract, *claims, *paper.note.tags, paper.body])


def _experiment_text(hypothesis: Hypothesis | None, readme: str) -> str:
    questions = msgspec.to_builtins(hypothesis.questions).values() if hypothesis else ()
    return "\n".join([*questions, readme])
