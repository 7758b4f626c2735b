"""Where files lie and how they are written: paths, atomic writes, locks. Knows nothing of their meaning.

A workspace is the nearest folder above (or `CLAIMBOOK_ROOT`) whose pyproject.toml has a `[tool.claimbook]`
table. Files are the truth; `.claimbook/` and `site/` can be deleted at any time.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import tomllib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from claimbook.errors import WorkspaceError

if TYPE_CHECKING:
    from filelock import FileLock

Language = Literal["en", "ko"]
_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


@dataclass(frozen=True)
class Workspace:
    """A folder with papers, notebooks and experiments, and its settings."""

    root: Path
    language: Language = "en"
    timezone: str = "UTC"
    week_start: str = "monday"
    products: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The tables `[tool.claimbook.products.<name>]`, as written."""
    excused: dict[str, str] = field(default_factory=dict)
    """Weeks in which no paper is owed, such as 2026-W52, and why: the table `[tool.claimbook.excused]`."""

    @property
    def papers(self) -> Path:
        """Notes and metadata, a folder per paper."""
        return self.root / "papers"

    @property
    def experiments(self) -> Path:
        """A folder per hypothesis."""
        return self.root / "experiments"

    @property
    def notebooks(self) -> Path:
        """One notebook per technique."""
        return self.root / "notebooks"

    @property
    def site(self) -> Path:
        """The built pages."""
        return self.root / "site"

    @property
    def cache(self) -> Path:
        """For what can be made again: `CLAIMBOOK_CACHE`, else .claimbook/cache."""
        elsewhere = os.environ.get("CLAIMBOOK_CACHE")
        return Path(elsewhere) if elsewhere else self.root / ".claimbook" / "cache"

    def experiment(self, slug: str) -> Path:
        """The folder of an experiment that exists. Raises WorkspaceError with the nearest names."""
        return self._existing("experiments", slug, "experiment", "claimbook new")

    def paper(self, slug: str) -> Path:
        """The folder of a paper that exists. Raises WorkspaceError with the nearest names."""
        return self._existing("papers", slug, "paper", "write papers/<slug>/README.md and meta.json")

    def notebook(self, slug: str) -> Path:
        """The notebook of a technique. Raises WorkspaceError with the nearest names."""
        path = self.notebooks / f"{check_slug(slug)}.ipynb"
        if not path.is_file():
            known = [p.stem for p in self.notebooks.glob("*.ipynb")]
            raise WorkspaceError(
                f"there is no notebook {slug!r}{nearest(slug, known)}",
                fix=f"write {path.name}, or name one of: {', '.join(sorted(known)) or 'none yet'}",
                where=self.notebooks,
            )
        return path

    def slugs(self, kind: Literal["papers", "experiments"]) -> list[str]:
        """The folders of a kind, sorted: a paper has a README.md, an experiment a hypothesis.toml."""
        mark = {"papers": "README.md", "experiments": "hypothesis.toml"}[kind]
        return sorted(p.parent.name for p in (self.root / kind).glob(f"[!.]*/{mark}"))

    def lock(self, name: str, *, shared: bool = False) -> AbstractContextManager[None]:
        """A context manager that holds a lock between processes; the operating system frees it on death.

        Any number may hold it `shared`, or one alone. Raises WorkspaceError at once when it cannot be had.
        """
        return _lock(self._lock_path(name), name, shared)

    def claim(self, name: str) -> AbstractContextManager[Any] | None:
        """Claim something that one process does at a time; None when another has claimed it.

        What is returned is held already, until it is left; the operating system frees it on death.
        """
        from filelock import Timeout

        try:
            return self._file_lock(name).acquire(timeout=0)
        except Timeout:
            return None

    def turn(self, name: str) -> AbstractContextManager[Any]:
        """A context manager that waits for its turn at something short that one process does at a time."""
        return self._file_lock(name)

    def _file_lock(self, name: str) -> FileLock:
        from filelock import FileLock

        path = self._lock_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path, thread_local=False)  # it belongs to whoever has the object

    def _lock_path(self, name: str) -> Path:
        return self.root / ".claimbook" / "locks" / f"{name}.lock"

    def _existing(self, kind: Literal["papers", "experiments"], slug: str, what: str, how: str) -> Path:
        path = self.root / kind / check_slug(slug)
        if not path.is_dir():
            known = self.slugs(kind)
            raise WorkspaceError(
                f"there is no {what} {slug!r}{nearest(slug, known)}",
                fix=f"make it ({how}), or name one of: {', '.join(known) or 'none yet'}",
                where=path.parent,
            )
        return path


def find(start: Path | None = None) -> Workspace:
    """The workspace around `start` (default: the current folder), or the one that CLAIMBOOK_ROOT names.

    Raises WorkspaceError when there is none, or when its settings are wrong.
    """
    named = os.environ.get("CLAIMBOOK_ROOT")
    origin = Path(named) if named and start is None else (start or Path.cwd())
    candidates = [origin] if named and start is None else [origin, *origin.resolve().parents]
    for folder in candidates:
        settings = _settings(folder / "pyproject.toml")
        if settings is not None:
            return _workspace(folder.resolve(), settings)
    raise WorkspaceError(
        "no pyproject.toml with a [tool.claimbook] table here or above",
        fix="run `claimbook init DIR`, change into a workspace, or set CLAIMBOOK_ROOT to one",
        where=origin,
    )


def check_slug(slug: str) -> str:
    """Return a slug unchanged. Raises WorkspaceError unless it is lower-case words joined by hyphens."""
    if not _SLUG.fullmatch(slug):
        raise WorkspaceError(
            f"{slug!r} cannot name a folder", fix="use lower-case letters and digits, joined by hyphens"
        )
    return slug


def is_week(text: str) -> bool:
    """True for an ISO week that exists, such as 2026-W53, from arXiv's first year on; 2025-W53 does not."""
    if not re.fullmatch(r"(?:199[1-9]|[2-8]\d{3})-W\d{2}", text, re.ASCII):
        return False
    try:
        date.fromisocalendar(int(text[:4]), int(text[6:]), 1)
    except ValueError:
        return False
    return True


def nearest(word: str, known: list[str]) -> str:
    """ ", did you mean 'x'?" when a known word is close to this one, else nothing."""
    import difflib

    close = difflib.get_close_matches(word, known, n=1)
    return f", did you mean {close[0]!r}?" if close else ""


Durable = Literal["no", "contents", "yes"]
"""What a write waits for: nothing, the file's contents, or its entry in the folder too. Any write outlives
its process; a power cut may undo what was not waited for."""


def write_bytes(path: Path, data: bytes, *, durable: Durable = "yes") -> None:
    """Replace a file whole: temporary file beside it, fsync, rename, fsync of the folder.

    A reader sees the old bytes or the new ones, also when this process is killed, and, durable, after a
    power cut: "contents" is for one of several files whose last is written with "yes". Makes the folder when
    it is missing.
    """
    temporary = path.parent / f".{path.name}.{secrets.token_hex(6)}.tmp"
    try:
        with _new(temporary) as file:
            with suppress(FileNotFoundError):
                temporary.chmod(path.stat().st_mode & 0o7777)  # a private file stays private
            file.write(data)
            if durable != "no":
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable == "yes":
        sync_folder(path.parent)


def _new(path: Path) -> IO[bytes]:
    """A new file, which the group may read as far as the umask lets it; its folder is made when missing."""
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    try:
        return open(os.open(path, flags, 0o666), "wb")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(os.open(path, flags, 0o666), "wb")


def move(path: Path, target: Path) -> None:
    """Rename a file or folder within a file system; the target's folder is made when it is missing.

    Raises WorkspaceError when the target exists already.
    """
    if target.exists():
        raise WorkspaceError("there is one of this name already", fix="move it away first", where=target)
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    for folder in (path.parent, target.parent):
        sync_folder(folder)


def append_line(file: IO[bytes], line: bytes) -> None:
    """Write a line at the end of an unbuffered file, whole or not at all.

    When this returns, the operating system has it: it outlives the process, whatever ends that. Raises
    OSError when the disk is full; the file is then what it was.
    """
    size = os.fstat(file.fileno()).st_size
    try:
        if file.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        os.ftruncate(file.fileno(), size)
        raise OSError(error.errno, error.strerror, file.name) from error


def open_lines(path: Path) -> IO[bytes]:
    """A file of lines, made when it is missing, open for `append_line`.

    A torn last line, which a process left that died while writing it, was never acknowledged: it is cut off.
    There must be one writer at a time.
    """
    file = path.open("ab", buffering=0)
    with path.open("rb") as reader:
        size = end = reader.seek(0, os.SEEK_END)
        while end > 0:
            begin = max(0, end - 65_536)
            reader.seek(begin)
            newline = reader.read(end - begin).rfind(b"\n")
            if newline >= 0:
                end = begin + newline + 1
                break
            end = begin
    if end < size:
        os.ftruncate(file.fileno(), end)
    return file


def write_json(path: Path, value: Any, *, durable: Durable = "yes") -> None:
    """Replace a JSON file whole: two-space indent, UTF-8, keys in the order given, a final newline."""
    import msgspec

    # json refuses NaN, msgspec indents: json does that in Python, which takes three times as long
    text = msgspec.json.format(json.dumps(value, ensure_ascii=False, allow_nan=False), indent=2)
    write_bytes(path, f"{text}\n".encode(), durable=durable)


@contextmanager
def _lock(path: Path, name: str, shared: bool) -> Iterator[None]:
    from filelock import ReadWriteLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = ReadWriteLock(path, is_singleton=False)  # a shared object would let one process in twice
    try:
        held = lock.acquire_read(timeout=0) if shared else lock.acquire_write(timeout=0)
    except Timeout:
        raise WorkspaceError(
            f"another claimbook process is working on {name!r}",
            fix="wait until it has finished, or stop it; the lock goes with the process",
            where=path,
        ) from None
    with held:
        yield


def sync_folder(folder: Path) -> None:
    """Bring a folder's entries to the disk: files that were made, renamed or removed in it."""
    if os.name != "posix":  # elsewhere a folder cannot be opened, and rename is as durable as it gets
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _settings(pyproject: Path) -> dict[str, Any] | None:
    try:
        document = tomllib.loads(pyproject.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WorkspaceError(str(error), fix="mend the TOML", where=pyproject) from error
    tool = document.get("tool")
    settings = tool.get("claimbook") if isinstance(tool, dict) else None
    return settings if isinstance(settings, dict) else None


def _workspace(root: Path, settings: dict[str, Any]) -> Workspace:
    where = f"{root / 'pyproject.toml'}: [tool.claimbook]"
    known = {"language", "timezone", "week_start", "products", "excused"}
    for key in settings.keys() - known:
        raise WorkspaceError(
            f"{key!r} is no setting{nearest(key, sorted(known))}",
            fix=f"use {', '.join(sorted(known))}",
            where=where,
        )
    language = settings.get("language", "en")
    if language not in get_args(Language):
        raise WorkspaceError(f"language is {language!r}", fix='write "en" or "ko"', where=where)
    week_start = settings.get("week_start", "monday")
    if week_start not in WEEKDAYS:
        raise WorkspaceError(f"week_start is {week_start!r}", fix="write a weekday in English", where=where)
    timezone = settings.get("timezone", "UTC")
    try:
        ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        raise WorkspaceError(
            f"timezone is {timezone!r}", fix='write an IANA name such as "Asia/Seoul"', where=where
        ) from None
    products = settings.get("products", {})
    if not isinstance(products, dict) or not all(isinstance(spec, dict) for spec in products.values()):
        raise WorkspaceError(
            "products is no table of tables", fix="write [tool.claimbook.products.<name>]", where=where
        )
    excused = settings.get("excused", {})
    if not isinstance(excused, dict):
        fix = 'write [tool.claimbook.excused] and below it "2026-W52" = "holiday"'
        raise WorkspaceError("excused is no table", fix=fix, where=where)
    for week, reason in excused.items():
        if not is_week(week) or not isinstance(reason, str):
            raise WorkspaceError(
                f"excused: {week!r} = {reason!r} is no week and its reason",
                fix='write a week and why, such as "2026-W52" = "holiday"',
                where=where,
            )
    return Workspace(root, language, timezone, week_start, products, excused)
