"""Papers from their folders: papers/<slug>/meta.json and README.md become one record.

Knows which file is missing and how to get it; what the files mean is the records' business, and nothing
here writes.
"""

from __future__ import annotations

from pathlib import Path

from claimbook.errors import RecordError
from claimbook.records import Paper
from claimbook.records.paper import read_paper
from claimbook.workspace import Workspace


def library(workspace: Workspace) -> list[Paper]:
    """All papers with a README.md, by slug. Raises RecordError for the first that cannot be read."""
    return [load(workspace, slug) for slug in workspace.slugs("papers")]


def load(workspace: Workspace, slug: str) -> Paper:
    """One paper of the library.

    Raises WorkspaceError when there is no such folder, RecordError when one of its two files is missing or
    broken.
    """
    folder = workspace.paper(slug)
    readme = _read(folder / "README.md", "write it: front matter with the arXiv id, then the note")
    meta = _read(
        folder / "meta.json", f'run `claimbook paper add ID --as {slug}`, or write it with "source": "manual"'
    )
    return read_paper(slug, meta, _text(readme, folder / "README.md"))


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
