"""What a run's numbers depend on besides its product set, as hashes: notebook code and technique code."""

from __future__ import annotations

import ast
import threading
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import claimbook
from claimbook.errors import RunError
from claimbook.records import SealedSources
from claimbook.runner.parameters import read_cells
from claimbook.workspace import Workspace

PACKAGE = Path(claimbook.__file__).parent
_PARSING = threading.Lock()
NUMBERS = ("products", "vlm")
"""The parts of claimbook that decide numbers; how a run is started, stored or shown does not."""


def notebook_fingerprint(notebook: Path) -> str:
    """sha256 of the code cells. Markdown and outputs may change; code may not."""
    return SealedSources(notebook=code_cells(notebook), code={}).notebook_digest


def code_fingerprints(notebook: Path, workspace: Workspace) -> dict[str, str]:
    """sha256 of each file of `code_sources`, by readable name."""
    return SealedSources(notebook=[], code=code_sources(notebook, workspace)).code_digests


def code_cells(notebook: Path) -> list[str]:
    """The sources of the code cells."""
    return [cell["source"] for cell in read_cells(notebook)]


def code_sources(notebook: Path, workspace: Workspace) -> dict[str, str]:
    """Each source file that the notebook imports, directly or through others, by readable name.

    Covers claimbook's `products` and `vlm` and modules beside the notebook or in the workspace; installed
    distributions are covered by the environment instead.
    """
    # slots ask from several threads, and CPython 3.11's parser counts its depth for all of them together:
    # "AST constructor recursion depth mismatch" (https://github.com/python/cpython/issues/106905)
    with _PARSING:
        return _code_sources(notebook, workspace)


def _code_sources(notebook: Path, workspace: Workspace) -> dict[str, str]:
    roots = [notebook.parent, workspace.root, workspace.root / "src"]
    waiting = [name for cell in python_cells(notebook) for name in _imports(cell, notebook)]
    asked: set[str] = set()
    seen: dict[Path, str] = {}
    while waiting:
        name = waiting.pop()
        if name in asked:
            continue
        asked.add(name)
        path = _source_file(name, roots)
        if path is None or path in seen:
            continue
        seen[path] = text = _read(path)
        waiting.extend(_imports(text, path))
    return {_readable(path, workspace): seen[path] for path in sorted(seen)}


def _read(path: Path) -> str:
    """The text of a source file that parses. Raises RunError."""
    try:
        text = path.read_text("utf-8")
        _imports(text, path)
    except (OSError, ValueError, SyntaxError) as error:  # bytes that are no UTF-8 are a ValueError
        what = f"line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) else str(error)
        fix = "mend it: the notebook imports this file"
        raise RunError(f"no readable Python: {what}", fix=fix, where=path) from error
    return text


@lru_cache(maxsize=4096)  # asked for at the end of every run, and parsing takes long
def _imports(text: str, path: Path) -> tuple[str, ...]:
    """Dotted names that a source imports, their packages too: importing a.b runs a's code as well."""
    names = [name.split(".") for name in _imported_names(text, path)]
    return tuple(".".join(parts[:end]) for parts in names for end in range(1, len(parts) + 1))


def _imported_names(text: str, path: Path) -> Iterator[str]:
    """`from a import b` may name a module a.b, so both come."""
    package = package_of(path)
    for node in ast.walk(ast.parse(text, filename=str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parts, base] if base else parts)
            yield base
            for alias in node.names:
                yield f"{base}.{alias.name}"


def package_of(path: Path) -> str:
    """The package that relative imports of a file start from."""
    if path.is_relative_to(PACKAGE):
        return ".".join(["claimbook", *path.relative_to(PACKAGE).parent.parts])
    parts: list[str] = []
    folder = path.parent
    while (folder / "__init__.py").exists():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts)


def _source_file(module: str, roots: list[Path]) -> Path | None:
    """The file of a module whose code decides numbers, else None."""
    parts = module.split(".")
    if parts[0] == "claimbook":
        if len(parts) < 2 or parts[1] not in NUMBERS:
            return None
        return file_at(PACKAGE.joinpath(*parts[1:]))
    return next((found for root in roots if (found := file_at(root.joinpath(*parts)))), None)


def file_at(stem: Path) -> Path | None:
    """The file of a module or package whose path less its suffix is given; None when there is none."""
    for path in (stem.with_suffix(".py"), stem / "__init__.py"):
        if path.is_file():
            return path.resolve()
    return None


def _readable(path: Path, workspace: Workspace) -> str:
    for root, prefix in ((PACKAGE, "claimbook/"), (workspace.root, "")):
        if path.is_relative_to(root.resolve()):
            return prefix + path.relative_to(root.resolve()).as_posix()
    return path.name


def python_cells(notebook: Path) -> Iterator[str]:
    """The code cells as plain Python, magics and `!commands` turned into calls as IPython does.

    Raises RunError with the cell whose syntax is wrong.
    """
    for number, cell in enumerate(read_cells(notebook), start=1):
        try:
            python = _as_python(cell["source"])
        except SyntaxError as error:
            raise RunError(
                f"code cell {number}, line {error.lineno}: {error.msg}",
                fix="mend the line: this notebook would fail there",
                where=notebook,
            ) from error
        yield python


@lru_cache(maxsize=1024)
def _as_python(cell: str) -> str:
    """A cell as Python. Raises SyntaxError."""
    from IPython.core.inputtransformer2 import TransformerManager

    python: str = TransformerManager().transform_cell(cell)
    ast.parse(python)
    return python
