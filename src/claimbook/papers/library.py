"""The library on disk: which files make a paper, and how papers come in, change, go and come back.

    papers/<slug>/meta.json        the machine's: what arXiv says
    papers/<slug>/README.md        a person's: only the line of a field that was asked for is changed
    papers/.trash/<slug>-<time>/   papers that were removed, whole
    papers/.<slug>.<random>.tmp/   a paper that is being made; nobody reads it, the next to add clears it away

A new paper is made whole beside its place and renamed into it, so that a process killed at any point leaves
the paper or none. Knows nothing of the network, of how a paper is judged or shown.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from claimbook.errors import ClaimbookError, PaperError, RecordError, WorkspaceError
from claimbook.experiments import Experiment, written_or_sealed
from claimbook.papers import scaffold
from claimbook.papers.front_matter import Value, set_fields
from claimbook.papers.ids import ArxivId, parse
from claimbook.papers.metadata import metadata
from claimbook.papers.outcomes import Entry
from claimbook.papers.titles import slug_of
from claimbook.records import Paper, PaperMeta, decode_json, encode_json
from claimbook.records.paper import Status, read_paper
from claimbook.workspace import Workspace, check_slug, move, nearest, write_bytes, write_json

_LOCK_SECONDS = 30
_LEFT_BEHIND = re.compile(r"\..+\.[0-9a-f]{12}\.tmp")
"""What a process that was killed while writing leaves: of `workspace.write_bytes`, and of a new paper."""
_NOTE_ID = re.compile(r"^id:[ \t]*[\"']?([^\"'#\s]+)", re.MULTILINE)


@dataclass(frozen=True)
class Holdings:
    """The papers of a library as far as they can be read."""

    papers: list[Paper]
    problems: dict[str, ClaimbookError]
    """What is wrong with each of the others, by slug."""


@dataclass(frozen=True)
class Card:
    """What the catalogue says of a paper, from its meta.json as far as that can be read."""

    id: str
    """arXiv id without version, else that of the note; empty where neither file tells it."""
    title: str
    """Empty where meta.json does not tell it."""
    versions: list[int] = field(default_factory=list)
    fetched_at: str | None = None
    """None where nobody has fetched it."""


@dataclass(frozen=True)
class Added:
    """What became of a paper that was to be added."""

    slug: str
    change: Literal["added", "restored", "new version", "updated", "there already"]
    """Restored: it lay in the trash. Updated: the same version, and arXiv says something of it that meta.json
    did not."""
    before: int | None
    """The newest version known before; None where there was no meta.json."""
    latest: int
    """The newest version known now."""


def library(workspace: Workspace) -> list[Paper]:
    """All papers with a README.md, by slug. Raises RecordError for the first that cannot be read."""
    return [load(workspace, slug) for slug in workspace.slugs("papers")]


def holdings(workspace: Workspace) -> Holdings:
    """All papers that can be read, by slug, and what is wrong with the others: it stops at none."""
    papers: list[Paper] = []
    problems: dict[str, ClaimbookError] = {}
    for slug in catalogue(workspace):
        try:
            papers.append(load(workspace, slug))
        except ClaimbookError as error:
            problems[slug] = error
    return Holdings(papers, problems)


def load(workspace: Workspace, slug: str) -> Paper:
    """One paper of the library.

    Raises WorkspaceError when there is no such folder, RecordError when one of its two files is missing or
    broken.
    """
    folder = workspace.paper(slug)
    readme = _read(folder / "README.md", "write it: front matter with the arXiv id, then the note")
    return read_paper(slug, _read_meta(folder), _text(readme, folder / "README.md").removeprefix("\ufeff"))


def catalogue(workspace: Workspace) -> dict[str, Card]:
    """Every paper by slug. Quick, for it reads no note where there is a meta.json, and stops at nothing."""
    try:
        names = sorted(name for name in os.listdir(workspace.papers) if not name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    cards = ((name, card_of(workspace.papers, name)) for name in names)
    return {name: card for name, card in cards if card is not None}


def find(workspace: Workspace, name: str) -> str:
    """The slug of a paper that is named by its slug, its arXiv id or an address of it.

    Raises PaperError that names the nearest slug.
    """
    cards = catalogue(workspace)
    if name in cards:
        return name
    paper = parse(name)
    if isinstance(paper, ArxivId):
        slug = _slug_with(cards, paper.number)
        if slug is not None:
            return slug
        raise PaperError(f"{paper.number} is not in the library", fix=f"`claimbook paper add {paper.number}`")
    raise PaperError(
        f"there is no paper {name!r}{nearest(name.lower(), list(cards))}",
        fix="`claimbook paper list` shows all, `claimbook paper search` finds words in them",
        where=workspace.papers,
    )


def experiments_on(workspace: Workspace) -> dict[str, list[Experiment]]:
    """The experiments on each paper, by the paper's slug. One that cannot be read is left out."""
    found: dict[str, list[Experiment]] = {}
    for experiment in written_or_sealed(workspace):
        with suppress(ClaimbookError, OSError):
            for slug in _papers_of(experiment):
                found.setdefault(slug, []).append(experiment)
    return found


def add(
    workspace: Workspace,
    entry: Entry,
    fetched_at: datetime,
    *,
    slug: str | None = None,
    tags: Sequence[str] = (),
    status: Status = "queued",
    remark: str = "",
) -> Added:
    """Take a paper in, or what arXiv says of one that is here: a note that is there is never touched.

    slug: of a new paper, else made from its title; tags, status and a remark begin its note. A paper in the
    trash comes back with its note. Raises PaperError when the slug is another paper's, RecordError when the
    paper's meta.json cannot be read.
    """
    with writing(workspace):
        cards = catalogue(workspace)
        there = _slug_with(cards, entry.id.number)
        if there is not None:
            return _merge(workspace, there, entry, fetched_at)
        removed = _removed(workspace, entry.id.number)
        if removed is not None and (was := _removed_slug(removed)) not in cards:
            move(removed, workspace.papers / was)
            merged = _merge(workspace, was, entry, fetched_at)
            return Added(was, "restored", merged.before, merged.latest)
        if slug is not None and check_slug(slug) in cards:
            raise PaperError(
                f"{slug!r} is another paper's: {cards[slug].id or 'one that does not tell its arXiv id'}",
                fix=f'choose another name, or write the id into its README.md: id: "{entry.id.number}"',
                where=f"papers/{slug}",
            )
        taken = {path.name.lower() for path in workspace.papers.glob("*")}
        name = slug or slug_of(entry.title, entry.id.number, taken)
        meta = metadata(entry, fetched_at)
        note = scaffold.note(meta.id, meta.title, workspace.language, status, tags, remark)
        return _make(workspace, name, meta, note)


def update(
    workspace: Workspace, slug: str, entry: Entry, fetched_at: datetime
) -> tuple[PaperMeta, PaperMeta]:
    """Enter what arXiv says of a paper into its meta.json; returns what that said before, and says now.

    The file is left as it is when there is nothing new but the time. Raises RecordError when it cannot be
    read, WorkspaceError when there is no such paper.
    """
    with writing(workspace):
        return _update(workspace.paper(slug), entry, fetched_at)


def remove(workspace: Workspace, slug: str) -> Path:
    """Put a paper into the trash; returns where it lies now. `restore` brings it back.

    Raises PaperError when an experiment rests on it, RecordError when it cannot be told.
    """
    with writing(workspace):
        folder = workspace.paper(slug)
        resting = [one.slug for one in written_or_sealed(workspace) if slug in _papers_of(one)]
        if resting:
            raise PaperError(
                f"{', '.join(resting)} {'rest' if len(resting) > 1 else 'rests'} on this paper: "
                "its claims are needed to read the verdict",
                fix=f"keep it, or move experiments/{resting[0]} away first",
                where=f"papers/{slug}",
            )
        trash = _trash(workspace) / f"{slug}-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
        move(folder, trash)
    return trash


def restore(workspace: Workspace, slug: str) -> None:
    """Bring back the paper that was removed last under a slug.

    Raises PaperError when there is none in the trash, or when another paper has taken its place.
    """
    with writing(workspace):
        removed = sorted(_trash(workspace).glob("*"), key=lambda path: path.name)
        named = [path for path in removed if _removed_slug(path) == slug]
        if not named:
            known = sorted({_removed_slug(path) for path in removed})
            raise PaperError(
                f"there is no {slug!r} in the trash{nearest(slug, known)}",
                fix=f"name one of: {', '.join(known)}" if known else "there is nothing to bring back",
                where=_trash(workspace),
            )
        card = card_of(named[-1].parent, named[-1].name)
        there = _slug_with(catalogue(workspace), card.id) if card else None
        if there not in (None, slug):
            raise PaperError(
                f"the same paper is in the library as {there!r}",
                fix=f"remove that one first: `claimbook paper remove {there}`",
                where=f"papers/{there}",
            )
        if (workspace.papers / slug).exists():
            raise PaperError(
                f"another paper is called {slug!r} by now",
                fix=f"rename one of the two folders: papers/{slug}, or {named[-1].name} in the trash",
                where=_trash(workspace),
            )
        move(named[-1], workspace.papers / slug)


def set_status(
    workspace: Workspace, slug: str, status: Status, week: str | None = None, read_version: int | None = None
) -> Paper:
    """Say how far the reading is, for which ISO week, and which version was read; returns the paper then.

    Raises RecordError when the note cannot be read or the week is none, PaperError when there is no such
    version or the note's form forbids the change.
    """

    def fields(paper: Paper) -> dict[str, Value]:
        fetched = paper.meta.source == "arxiv"
        if fetched and read_version is not None and read_version > paper.meta.latest:
            raise PaperError(
                f"v{read_version} is not known; the newest is v{paper.meta.latest}",
                fix="name a version that exists; `claimbook paper sync` asks arXiv for newer ones",
                where=f"papers/{slug}/meta.json",
            )
        given = {"read_version": read_version, "status": status, "week": week}
        return {name: value for name, value in given.items() if value is not None}

    return _edit(workspace, slug, fields)


def tag(workspace: Workspace, slug: str, add: Sequence[str] = (), remove: Sequence[str] = ()) -> Paper:
    """Add tags to a paper and remove others; returns the paper then.

    Raises PaperError for a tag that is empty or has line breaks, and for one to remove that is not there.
    """
    add = list(map(check_tag, add))

    def fields(paper: Paper) -> dict[str, Value]:
        tags = paper.note.tags
        for one in remove:
            if one not in tags:
                raise PaperError(
                    f"there is no tag {one!r}{nearest(one, tags)}",
                    fix=f"name one of: {', '.join(tags)}" if tags else "the paper has no tags",
                    where=f"papers/{slug}/README.md",
                )
        kept = [one for one in tags if one not in remove]
        return {"tags": list(dict.fromkeys([*kept, *add]))}

    return _edit(workspace, slug, fields)


def check_tag(text: str) -> str:
    """A tag without the space around it. Raises PaperError when it is empty or more than a line."""
    if not text.strip() or not text.isprintable():
        raise PaperError(f"{text!r} is no tag", fix="write a word or a few, on one line")
    return text.strip()


@contextmanager
def writing(workspace: Workspace) -> Iterator[None]:
    """Be the one process that writes papers/; waits a while for another that does.

    What a process left there that was killed while writing is cleared away first. Raises WorkspaceError when
    another takes longer than half a minute.
    """
    from filelock import FileLock, Timeout

    path = workspace.root / ".claimbook" / "locks" / "papers.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=_LOCK_SECONDS)
    try:
        lock.acquire()
    except Timeout:
        raise WorkspaceError(
            f"another process has been writing the library for more than {_LOCK_SECONDS} seconds",
            fix="wait until it has finished, or stop it; the lock goes with the process",
            where=path,
        ) from None
    try:
        _sweep(workspace.papers)
        yield
    finally:
        lock.release()


def _make(workspace: Workspace, slug: str, meta: PaperMeta, note: str) -> Added:
    """A new paper's folder, whole from the moment it can be seen."""
    temporary = workspace.papers / f".{slug}.{secrets.token_hex(6)}.tmp"
    try:
        write_bytes(temporary / "README.md", note.encode())
        write_json(temporary / "meta.json", encode_json(meta))
        move(temporary, workspace.papers / slug)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return Added(slug, "added", None, meta.latest)


def _merge(workspace: Workspace, slug: str, entry: Entry, fetched_at: datetime) -> Added:
    """What arXiv says of a paper that is here; a file of it that is missing is made."""
    folder = workspace.papers / slug
    if not (folder / "meta.json").exists():
        meta = metadata(entry, fetched_at)
        write_json(folder / "meta.json", encode_json(meta))
        return Added(slug, "updated", None, meta.latest)
    before, after = _update(folder, entry, fetched_at)
    if not (folder / "README.md").exists():
        note = scaffold.note(after.id, after.title, workspace.language)
        write_bytes(folder / "README.md", note.encode())
    if after.latest > before.latest:
        return Added(slug, "new version", before.latest, after.latest)
    return Added(slug, "there already" if after == before else "updated", before.latest, after.latest)


def _update(folder: Path, entry: Entry, fetched_at: datetime) -> tuple[PaperMeta, PaperMeta]:
    path = folder / "meta.json"
    before = decode_json(_read_meta(folder), PaperMeta, _name(path))
    after = metadata(entry, fetched_at, before)
    if msgspec.structs.replace(after, fetched_at=before.fetched_at) == before:
        return before, before
    _sweep(folder)
    write_json(path, encode_json(after))
    return before, after


def _edit(workspace: Workspace, slug: str, fields: Callable[[Paper], Mapping[str, Value]]) -> Paper:
    """Set fields of a note's front matter; `fields` says which, from the paper as it is."""
    folder = workspace.paper(slug)
    path = (folder / "README.md").resolve()  # a note may be a link to where its writer keeps notes
    with writing(workspace):
        paper = load(workspace, slug)
        before = _text(path.read_bytes(), folder / "README.md")
        after = set_fields(before, fields(paper), _name(folder / "README.md"))
        edited = read_paper(slug, _read_meta(folder), after.removeprefix("\ufeff"))
        if after != before:
            _sweep(path.parent)
            write_bytes(path, after.encode())
    return edited


def _sweep(folder: Path) -> None:
    """Clear away what killed processes left half-written in a folder; to be called within `writing`."""
    for path in folder.glob(".*.tmp"):
        if _LEFT_BEHIND.fullmatch(path.name):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _papers_of(experiment: Experiment) -> set[str]:
    """The papers that an experiment rests on: the one it is written on, and the one it is sealed on."""
    seal = experiment.seal()
    written = {experiment.hypothesis().paper} if (experiment.folder / "hypothesis.toml").exists() else set()
    return written | ({seal.current.hypothesis.paper} if seal else set())


def card_of(parent: Path, name: str) -> Card | None:
    """What a folder tells of its paper; None when it has neither of a paper's files."""
    try:
        with open(f"{parent}/{name}/meta.json", "rb", buffering=0) as file:
            return _decoder.decode(file.read())
    except (FileNotFoundError, NotADirectoryError):
        note = parent / name / "README.md"
        return Card(_id_in_note(note), "") if note.is_file() else None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return Card(_id_in_note(parent / name / "README.md"), "")


_decoder = msgspec.json.Decoder(Card)


def _id_in_note(path: Path) -> str:
    """The id of a note's front matter, also where the rest cannot be read; empty where there is none."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return ""
    front, end, _ = text.removeprefix("---").partition("\n---")
    found = _NOTE_ID.search(front) if end else None
    return found[1] if found else ""


def _slug_with(cards: Mapping[str, Card], number: str) -> str | None:
    return next((slug for slug, card in cards.items() if number and card.id == number), None)


def _trash(workspace: Workspace) -> Path:
    return workspace.papers / ".trash"


def _removed(workspace: Workspace, number: str) -> Path | None:
    """The folder of the trash that a paper was put into last."""
    folders = sorted(_trash(workspace).glob("*"), key=lambda path: path.name[len(_removed_slug(path)) :])
    cards = ((folder, card_of(folder.parent, folder.name)) for folder in reversed(folders))
    return next((folder for folder, card in cards if card and card.id == number), None)


def _removed_slug(path: Path) -> str:
    """The slug that a folder of the trash had."""
    return re.sub(r"-\d{8}-\d{6}-\d{6}$", "", path.name)


def _read_meta(folder: Path) -> bytes:
    fix = f'run `claimbook paper add ID --as {folder.name}`, or write it with "source": "manual"'
    return _read(folder / "meta.json", fix)


def _read(path: Path, fix: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise RecordError("the file is missing", fix=fix, where=_name(path)) from None
    except OSError as error:
        raise RecordError(
            f"the file cannot be read: {error.strerror}",
            fix="mend its permissions, or restore it",
            where=_name(path),
        ) from error


def _text(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecordError(
            f"byte {error.start} is no UTF-8", fix="save the file as UTF-8", where=_name(path)
        ) from error


def _name(path: Path) -> str:
    """How an error calls a file: from papers/ on."""
    return path.relative_to(path.parent.parent.parent).as_posix()
