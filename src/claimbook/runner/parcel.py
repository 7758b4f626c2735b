"""What a run needs of its workspace, as bytes, for a machine that shares no disk with this one.

Knows which files those are, how they are unpacked, and how to tell that they are the same there. Knows
nothing of how they travel.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from claimbook.errors import ClaimbookError, RunError
from claimbook.products.named import fingerprint_of, named_in
from claimbook.records.experiment import Value
from claimbook.runner.fingerprints import PACKAGE, code_fingerprints, code_sources, notebook_fingerprint
from claimbook.workspace import Workspace, find

LARGEST = 512 * 2**20
"""Bytes of a parcel; what is larger belongs on the machines themselves."""

Files = dict[str, bytes]
"""Contents by path relative to the workspace."""


def pack(workspace: Workspace, notebook: Path, parameters: Mapping[str, Value]) -> Files:
    """The settings, the notebook, the project's sources that it imports, and the product folders it names.

    Of the product sets, those that lie at a relative path in the workspace; others are expected at the same
    absolute path on every machine. Raises RunError when a source lies outside the workspace, or when all of
    it is larger than `LARGEST`.
    """
    paths = [workspace.root / "pyproject.toml", notebook, *_sources(workspace, notebook)]
    for folder in _product_folders(workspace, parameters):
        paths += _below(folder)
    size = sum(path.stat().st_size for path in paths)
    if size > LARGEST:
        raise RunError(
            f"{notebook.name} and its product sets are {size / 2**20:.0f} MiB, "
            f"and {LARGEST / 2**20:.0f} MiB travel with a run",
            fix="put the products on every machine, at the same place, and name that by its absolute path",
            where=workspace.root / "pyproject.toml",
        )
    return {path.relative_to(workspace.root).as_posix(): path.read_bytes() for path in paths}


def digest(files: Files) -> str:
    """A hash of names and contents."""
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(f"{name}\0{hashlib.sha256(files[name]).hexdigest()}\n".encode())
    return total.hexdigest()


def unpack(files: Files, folder: Path) -> Path:
    """The root of the workspace that the files make, in a folder of its own below `folder`, whole or not."""
    root = folder / digest(files)[:16]
    if root.exists():
        return root
    unfinished = folder / f".{secrets.token_hex(6)}"
    for name, data in files.items():
        path = unfinished / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    try:
        unfinished.rename(root)
    except OSError:
        shutil.rmtree(unfinished)
        if not root.exists():  # else another one was faster
            raise
    return root


def differences(
    root: Path, notebook: str, parameters: Mapping[str, Value], fingerprints: Mapping[str, object]
) -> list[str]:
    """What of an unpacked workspace is not as it was where it was packed, a phrase each.

    notebook: its path in the workspace. fingerprints: `notebook`, `code` and `data`, as a run records them. A
    product set that cannot be loaded is one of the phrases.
    """
    workspace, path = find(root), root / notebook
    found = []
    if notebook_fingerprint(path) != fingerprints["notebook"]:
        found.append("the notebook's code is another one")
    if code_fingerprints(path, workspace) != fingerprints["code"]:
        found.append("the technique code is another one")
    names = ", ".join(named_in([parameters]))
    try:
        if fingerprint_of([parameters], workspace)[0] != fingerprints["data"]:
            found.append(f"the product set {names} is another one")
    except ClaimbookError as error:
        place = f" ({error.where})" if error.where else ""
        found.append(f"the product set {names} cannot be loaded: {error.problem}{place}")
    return found


@cache
def package_digest() -> str:
    """A hash of the source of claimbook as it is installed here."""
    return digest({str(path.relative_to(PACKAGE)): path.read_bytes() for path in PACKAGE.rglob("*.py")})


def _sources(workspace: Workspace, notebook: Path) -> Iterator[Path]:
    """The files of the project; claimbook's own are installed on every machine."""
    for name in code_sources(notebook, workspace):
        if name.startswith("claimbook/"):
            continue
        path = workspace.root / name
        if not path.is_file():  # what lies elsewhere has its bare name
            raise RunError(
                f"{name}, which the notebook imports, is a link to outside the workspace",
                fix="copy the file into the workspace: another machine could not follow the link",
                where=notebook,
            )
        yield path


def _product_folders(workspace: Workspace, parameters: Mapping[str, Value]) -> Iterator[Path]:
    for name in named_in([parameters]):
        table = workspace.products.get(name, {})
        named = str(table.get("path") or table.get("id") or "")
        folder = Path(os.path.normpath(workspace.root / named))
        inside = folder.is_relative_to(workspace.root) and not Path(named).is_absolute()
        if named and inside and folder.is_dir():
            yield folder


def _below(folder: Path) -> Iterator[Path]:
    """Every file of a folder, links followed; hidden folders, such as .git, are left out."""
    for where, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (path for name in sorted(names) if (path := Path(where) / name).is_file())
