"""A notebook's typed parameters, read from the syntax tree of its parameters cell, and how runs get theirs.

    loss: Literal["softmax", "sigmoid"] = "softmax"   # which loss to train with
    lr: Annotated[float, Gt(0), Le(1)] = 1e-3         # peak learning rate
    weights: Path = Path("data/clip.pt")
    paper: ArxivId = ArxivId("2103.00020")

Declared types decide, never the look of a value: "2103.00020" stays a string. Nothing is executed. Which
types there are stands in `annotations`.

A run records a Path and an ArxivId as text, and its kernel gets what the cell declares: an ArxivId, and a
Path, a relative one below the workspace. Plain papermill hands over the text instead, and by hand a relative
Path is below the folder one works in. `weights = workspace.find().root / weights` and `str(paper)` in the
next cell are right in all three.
"""

from __future__ import annotations

import ast
import io
import json
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claimbook.errors import RunError
from claimbook.papers.ids import ArxivId, parse
from claimbook.records.experiment import Value
from claimbook.runner.annotations import Declaration, Kind, Misfit, imported_names, shown
from claimbook.workspace import nearest


@dataclass(frozen=True)
class Parameter:
    """One typed parameter of a notebook."""

    name: str
    type: str
    """As written in the notebook."""
    default: Value
    comment: str
    """The comment lines above it and what stands behind the `#` of its line, joined."""
    kind: Kind
    """What the type allows."""

    def check(self, value: object, where: str) -> Value:
        """The value as it is recorded. Raises RunError when it is of another type or out of its range."""
        described = ", ".join(filter(None, [str(self.kind), self.kind.range]))
        fix = f"write a value such as {shown(self.default)} ({described})"
        return _fitted(self.name, self.kind, value, where, fix)


def read_cells(notebook: Path, kind: str = "code") -> list[dict[str, Any]]:
    """The cells of one kind, with their `source` as one string. Raises RunError when it is no notebook."""
    try:
        cells = json.loads(notebook.read_text("utf-8"))["cells"]
        return [{**cell, "source": "".join(cell["source"])} for cell in cells if cell["cell_type"] == kind]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(
            f"no readable notebook: {type(error).__name__} {error}",
            fix="open it in JupyterLab and save it, or restore it (git checkout)",
            where=notebook,
        ) from error


def notebook_parameters(notebook: Path) -> dict[str, Parameter]:
    """The typed parameters of a notebook, in the order of its parameters cell.

    Raises RunError when the cell is missing, comes twice, or holds anything but imports, texts, comments and
    `name: type = value` lines.
    """
    tagged = [
        cell for cell in read_cells(notebook) if "parameters" in (cell.get("metadata") or {}).get("tags", [])
    ]
    if len(tagged) != 1:
        raise RunError(
            f"{len(tagged)} cells are tagged `parameters`",
            fix="tag one code cell `parameters` (in JupyterLab: property inspector, cell tags)",
            where=notebook,
        )
    source = tagged[0]["source"].replace("\r\n", "\n").replace("\r", "\n")
    try:
        statements = ast.parse(source).body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        line = getattr(error, "lineno", None) or 1
        raise RunError(
            f"parameters cell, line {line}: {getattr(error, 'msg', error)}",
            fix="mend the line",
            where=notebook,
        ) from error
    comments, imports = _comments(source), imported_names(statements)
    parameters: dict[str, Parameter] = {}
    for statement in statements:
        if isinstance(statement, ast.Import | ast.ImportFrom) or _is_text(statement):
            continue
        where = f"{notebook}: parameters cell, line {statement.lineno}"
        line = source.split("\n")[statement.lineno - 1].strip()
        parameter = _parameter(statement, line, imports, comments, where)
        if parameter.name in parameters:
            raise RunError(f"{parameter.name} is declared twice", fix="remove one of the two", where=where)
        parameters[parameter.name] = parameter
    return parameters


def effective_parameters(
    parameters: Mapping[str, Parameter], given: Mapping[str, object], where: str
) -> dict[str, Value]:
    """All parameters with their values, defaults included.

    Raises RunError for a name that the notebook does not declare, for a value of another type, and for one
    out of its range.
    """
    for name in given:
        declared_parameter(parameters, name, where)
    return {
        name: parameter.check(given[name], where) if name in given else parameter.default
        for name, parameter in parameters.items()
    }


def declared_parameter(parameters: Mapping[str, Parameter], name: str, where: str) -> Parameter:
    """The parameter of a name. Raises RunError with the nearest name when the notebook declares none."""
    if name not in parameters:
        raise RunError(
            f"the notebook has no parameter {shown(name)}{nearest(name, list(parameters))}",
            fix=f"use one of: {', '.join(parameters)}",
            where=where,
        )
    return parameters[name]


def injected_source(parameters: Mapping[str, Value], declared: Mapping[str, Parameter]) -> str:
    """The cell that sets a run's parameters, each as the type that its notebook declares.

    Stands in for papermill's translation, which knows no paths and writes 한글 as escapes. It brings its own
    imports, and names no folder of this machine.
    """
    kinds = {name: declared[name].kind for name in parameters if name in declared}
    bases = {kind.base for kind in kinds.values()}
    lines = ["# Parameters"]
    lines += ["import claimbook.workspace"] if "Path" in bases else []
    lines += ["import claimbook.papers.ids"] if "ArxivId" in bases else []
    lines += [f"{name} = {_written(value, kinds.get(name))}" for name, value in parameters.items()]
    return "\n".join(lines) + "\n"


def _written(value: Value, kind: Kind | None) -> str:
    """A recorded value as Python source."""
    if isinstance(value, list):
        return f"[{', '.join(_written(one, kind) for one in value)}]"
    if kind is not None and kind.base == "Path":
        return f"claimbook.workspace.find().root / {value!r}"
    if kind is not None and kind.base == "ArxivId":
        paper = parse(str(value))
        assert isinstance(paper, ArxivId), f"{value!r} was checked before it was recorded"
        version = "" if paper.version is None else f", {paper.version}"
        return f"claimbook.papers.ids.ArxivId({paper.number!r}{version})"
    return repr(value)


def _is_text(statement: ast.stmt) -> bool:
    """A text that stands by itself, as a docstring does."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _parameter(
    statement: ast.stmt,
    line: str,
    imports: Mapping[str, str],
    comments: Mapping[int, tuple[str, bool]],
    where: str,
) -> Parameter:
    shape = "write each parameter as `name: type = value`"
    if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
        raise RunError(f"`{line}` is no typed parameter", fix=shape, where=where)
    name = statement.target.id
    if statement.value is None:
        raise RunError(f"{name} has no default", fix=shape, where=where)
    declaration = Declaration(name, imports, where)
    kind = declaration.kind(statement.annotation)
    written = declaration.default(statement.value, kind)
    default = _fitted(name, kind, written, where, fix="let the default fit the type")
    comment = " ".join(_around(statement, comments))
    return Parameter(name, ast.unparse(statement.annotation), default, comment, kind)


def _fitted(name: str, kind: Kind, value: object, where: str, fix: str) -> Value:
    fitted = kind.fit(value)
    if isinstance(fitted, Misfit):
        raise RunError(f"{name} is {shown(value)}{fitted.clause}", fix=fitted.fix or fix, where=where)
    return fitted


def _comments(source: str) -> dict[int, tuple[str, bool]]:
    """The comment of each line that has one, and whether it has the line to itself."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        token.start[0]: (token.string.lstrip("#").strip(), not token.line[: token.start[1]].strip())
        for token in tokens
        if token.type == tokenize.COMMENT
    }


def _around(statement: ast.stmt, comments: Mapping[int, tuple[str, bool]]) -> Iterator[str]:
    """The comment lines right above a statement, from the top, and the one at its end."""
    first = statement.lineno
    while comments.get(first - 1, ("", False))[1]:
        first -= 1
    for line in [*range(first, statement.lineno), statement.end_lineno or statement.lineno]:
        text, _ = comments.get(line, ("", False))
        if text:
            yield text
