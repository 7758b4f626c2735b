"""What a fork server should import for some notebooks, read from syntax trees. Nothing is imported here."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from claimbook.runner.fingerprints import PACKAGE, file_at, package_of, python_cells
from claimbook.runner.warm.server import READ_AT_IMPORT
from claimbook.workspace import Workspace

EVERY_RUN = (
    "matplotlib_inline.config",
    "msgspec",
    "filelock",
    "psutil",
    "numpy",
    "pyarrow.parquet",
    "pyarrow.pandas_compat",
    "pandas",  # pyarrow imports it, 0.4 s, when it is given its first list
)
"""What a kernel, `start()` and `run.finish(…)` import in any notebook."""

_Import = ast.Import | ast.ImportFrom


def preload_of(notebooks: Sequence[Path], workspace: Workspace) -> list[str]:
    """The installed modules that notebooks and the sources which they import will ask for.

    As the fork server takes them: "torch", and "transformers:CLIPModel" for a name, since a package may load
    its names lazily. Of the project's sources what they import when imported themselves; of cells, and of
    claimbook's sources, what their functions import too. Nothing at all where a notebook or the project sets
    a variable that libraries read as they are imported, since it would come too late.
    Raises RunError for an unreadable notebook.
    """
    found = dict.fromkeys(EVERY_RUN)
    followed: set[Path] = set()
    for notebook in notebooks:
        roots = [notebook.parent, workspace.root, workspace.root / "src"]
        waiting: list[tuple[Path, str]] = [(notebook, cell) for cell in python_cells(notebook)]
        while waiting:
            path, text = waiting.pop(0)
            try:
                tree = ast.parse(text, filename=str(path))
            except (SyntaxError, ValueError):  # the run will say so; this is to be quick only
                continue
            of_project = path != notebook and not path.is_relative_to(PACKAGE)
            if not path.is_relative_to(PACKAGE) and any(map(_sets_what_is_read_at_import, ast.walk(tree))):
                return []
            for statement in _imports(tree, in_functions=not of_project):
                found.update(dict.fromkeys(_installed(statement, roots)))
            for statement in _imports(tree, in_functions=path == notebook):
                for source in _sources(statement, path, roots):
                    if source not in followed:
                        followed.add(source)
                        waiting.append((source, source.read_text("utf-8")))
    return list(found)


def _sets_what_is_read_at_import(node: ast.AST) -> bool:
    """Whether it is `os.environ["HF_HOME"] = …`, a call such as os.environ.update(…), or `%env HF_HOME=…`."""
    match node:
        case ast.Subscript(
            value=ast.Attribute(attr="environ") | ast.Name("environ"), ctx=ast.Store() | ast.Del()
        ):
            named = node.slice
        case ast.Call(func=ast.Attribute(attr="setdefault" | "update" | "pop" | "putenv" | "run_line_magic")):
            if not any(word in ast.unparse(node) for word in ("environ", "putenv", "env'")):
                return False
            named = node
        case _:
            return False
    words = [part.value for part in ast.walk(named) if isinstance(part, ast.Constant)]
    words += [part.arg for part in ast.walk(named) if isinstance(part, ast.keyword)]
    return any(isinstance(word, str) and READ_AT_IMPORT.match(word.split("=")[0]) for word in words)


def _imports(node: ast.AST, *, in_functions: bool) -> Iterator[_Import]:
    """Import statements, but those that only type checkers see."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Import):
            yield child
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        elif in_functions or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _imports(child, in_functions=in_functions)


def _installed(statement: _Import, roots: list[Path]) -> Iterator[str]:
    """What a statement imports from outside claimbook, the project and the standard library."""
    if isinstance(statement, ast.Import):
        names = [alias.name for alias in statement.names]
    elif statement.module is None or statement.level:
        return
    elif statement.names[0].name == "*":
        names = [statement.module]
    else:
        names = [f"{statement.module}:{alias.name}" for alias in statement.names]
    for name in names:
        package = name.partition(":")[0].partition(".")[0]
        if package not in sys.stdlib_module_names and _source(package, roots) is None:
            yield name


def _sources(statement: _Import, path: Path, roots: list[Path]) -> Iterator[Path]:
    """The files of claimbook and of the project that a statement runs, packages first."""
    if isinstance(statement, ast.Import):
        modules = [alias.name for alias in statement.names]
    else:
        package = package_of(path).split(".")
        above = package[: len(package) - statement.level + 1] if statement.level else []
        base = ".".join([*above, *([statement.module] if statement.module else [])])
        modules = [f"{base}.{alias.name}" for alias in statement.names]  # a name may be a module
    for module in modules:
        parts = module.split(".")
        for end in range(1, len(parts) + 1):
            if source := _source(".".join(parts[:end]), roots):
                yield source


def _source(module: str, roots: list[Path]) -> Path | None:
    parts = module.split(".")
    if parts[0] == "claimbook":
        return file_at(PACKAGE.joinpath(*parts[1:]))
    return next((found for root in roots if (found := file_at(root.joinpath(*parts)))), None)
