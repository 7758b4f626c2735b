"""The house holds itself: who imports whom, what is documented, how notebooks are kept."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from claimbook.cli import cli
from claimbook.runner.parameters import notebook_parameters, read_cells

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "claimbook"

ROWS = [
    "errors", "workspace", "records", "experiments", "integrity", "surroundings", "papers", "week", "index",
    "products", "vlm", "judge", "verification", "plots", "session", "trainer", "runner", "exchange",
    "display", "starter", "site", "cli",
]  # fmt: skip
"""The rows of the house, from the ground up: a module imports only from those before it."""

SOURCES = sorted(PACKAGE.rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def row_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Dotted names of the house that a file imports, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path.name}:{node.lineno}: write the import in full"
            names.add(node.module)
            if node.module == "claimbook":
                names |= {f"claimbook.{alias.name}" for alias in node.names}
    return {name for name in names if name.startswith("claimbook.")}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_from_rows_above_it(path):
    row = row_of(path)
    if row == "__init__":
        return
    assert row in ROWS, f"{row} has no row: add it to the house"
    for name in imported(path):
        other = name.split(".")[1]
        if other.startswith("__") or other not in ROWS:
            continue
        assert ROWS.index(other) <= ROWS.index(row), f"{row} imports {name}, which lies below it"


def test_every_row_is_there():
    present = {row_of(path) for path in SOURCES} - {"__init__"}
    assert present == set(ROWS)


@pytest.mark.parametrize(
    "path", sorted((PACKAGE / "vlm" / "techniques").glob("[!_]*.py")), ids=lambda p: p.stem
)
def test_a_technique_keeps_its_mathematics_free_of_the_house_and_names_its_paper(path):
    assert imported(path) == set()
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    assert "https://arxiv.org/abs/" in docstring
    assert "$$" in docstring


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_module_and_public_name_has_a_docstring(path):
    tree = ast.parse(path.read_text("utf-8"))
    assert ast.get_docstring(tree), "the module says nothing about itself"
    missing = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            if not ast.get_docstring(node):
                missing.append(node.name)
            if isinstance(node, ast.ClassDef):
                missing += [
                    f"{node.name}.{method.name}"
                    for method in node.body
                    if isinstance(method, ast.FunctionDef)
                    and not method.name.startswith("_")
                    and not ast.get_docstring(method)
                ]
    assert not missing


def verbs(group: click.Group, prefix: str = "") -> list[tuple[str, click.Command]]:
    found: list[tuple[str, click.Command]] = []
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found += verbs(command, f"{prefix}{name} ")
        else:
            found.append((prefix + name, command))
    return found


@pytest.mark.parametrize(
    ("verb", "command"), verbs(cli), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_verb_has_an_example_and_a_line_in_the_readme(verb, command):
    assert command.epilog
    assert f"claimbook {verb}" in command.epilog
    assert command.help
    assert f"claimbook {verb}" in (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_is_short_typed_and_without_outputs(path):
    cells = read_cells(path)
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells)
    lines = [line for cell in cells for line in cell["source"].splitlines() if line.strip()]
    assert len(lines) <= 60, f"{len(lines)} lines of code"
    parameters = notebook_parameters(path)
    assert {"seed", "products"} <= parameters.keys()
    ids = [cell["id"] for cell in json.loads(path.read_text("utf-8"))["cells"]]
    assert len(set(ids)) == len(ids)
    source = "\n".join(cell["source"] for cell in cells)
    assert source.count("= start()") == 1
    assert source.count("run.finish(") == 1


def test_there_is_a_notebook():
    assert NOTEBOOKS


def libraries_after(statement: str) -> set[str]:
    """Top-level modules outside the standard library that a statement loads."""
    code = f"import sys\nbefore = set(sys.modules)\n{statement}\nprint('\\n'.join(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.splitlines()}
    return loaded - sys.stdlib_module_names - {"claimbook", "_distutils_hack"}


def test_importing_claimbook_loads_no_library():
    """0.3 s is the aim; what is loaded decides it and does not depend on the machine's load."""
    assert libraries_after("import claimbook") == set()


def test_help_loads_click_alone():
    """0.5 s is the aim, Python's own start included."""
    show_help = "CliRunner().invoke(cli, ['--help'])"
    statement = f"from click.testing import CliRunner; from claimbook.cli import cli; {show_help}"
    assert libraries_after(statement) == {"click"}


def test_starting_a_session_leaves_the_heavy_libraries_to_the_notebook():
    heavy = {"torch", "transformers", "scipy", "statsmodels", "matplotlib", "papermill", "pandas", "IPython"}
    assert not libraries_after("from claimbook import start") & heavy
