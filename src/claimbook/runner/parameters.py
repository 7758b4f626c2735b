"""A notebook's typed parameters, read from the syntax tree of its parameters cell.

    loss: Literal["softmax", "sigmoid"] = "softmax"   # which loss to train with

Types are int, float, str, bool, Literal[...] and list[...] of these. Declared types decide, never the look
of a value: "2103.00020" stays a string. Nothing is executed.
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claimbook.errors import RunError
from claimbook.records.experiment import Value
from claimbook.workspace import nearest

_SCALARS: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}


@dataclass(frozen=True)
class Parameter:
    """One typed parameter of a notebook."""

    name: str
    type: str
    """As written in the notebook."""
    default: Value
    comment: str
    """What stands behind the `#` of its line."""

    def check(self, value: object, where: str) -> Value:
        """The value as its type. Raises RunError when it is of another type; an int may stand for a float."""
        fitted: Value | None = _fit(value, ast.parse(self.type, mode="eval").body)
        if fitted is None:
            raise RunError(
                f"{self.name} is {value!r}, which is no {self.type}",
                fix=f"write a value such as {self.default!r}",
                where=where,
            )
        return fitted


def read_cells(notebook: Path, kind: str = "code") -> list[dict[str, Any]]:
    """The cells of one kind, with their `source` as one string. Raises RunError when it is no notebook."""
    try:
        cells = json.loads(notebook.read_text("utf-8"))["cells"]
        return [{**cell, "source": "".join(cell["source"])} for cell in cells if cell["cell_type"] == kind]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"no readable notebook: {type(error).__name__} {error}",
            fix="open it in JupyterLab and save it, or restore it (git checkout)",
            where=notebook,
        ) from error


def notebook_parameters(notebook: Path) -> dict[str, Parameter]:
    """The typed parameters of a notebook, in the order of its parameters cell.

    Raises RunError when the cell is missing, comes twice, or holds anything but `name: type = value` lines.
    """
    tagged = [c for c in read_cells(notebook) if "parameters" in c.get("metadata", {}).get("tags", [])]
    if len(tagged) != 1:
        raise RunError(
            f"{len(tagged)} cells are tagged `parameters`",
            fix="tag one code cell `parameters` (in JupyterLab: property inspector, cell tags)",
            where=notebook,
        )
    source = tagged[0]["source"]
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        raise RunError(
            f"parameters cell, line {error.lineno}: {error.msg}", fix="mend the line", where=notebook
        ) from error
    lines = source.splitlines()
    parameters = {}
    for statement in statements:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            continue  # `from typing import Literal`
        parameter = _parameter(statement, lines, notebook)
        parameters[parameter.name] = parameter
    return parameters


def effective_parameters(
    parameters: Mapping[str, Parameter], given: Mapping[str, object], where: str
) -> dict[str, Value]:
    """All parameters with their values, defaults included.

    Raises RunError for a name that the notebook does not declare and for a value of another type.
    """
    for name in given:
        if name not in parameters:
            raise RunError(
                f"the notebook has no parameter {name!r}{nearest(name, list(parameters))}",
                fix=f"use one of: {', '.join(parameters)}",
                where=where,
            )
    return {
        name: parameter.check(given[name], where) if name in given else parameter.default
        for name, parameter in parameters.items()
    }


def _parameter(statement: ast.stmt, lines: list[str], notebook: Path) -> Parameter:
    where = f"{notebook}: parameters cell, line {statement.lineno}"
    shape = "write each parameter as `name: type = value`"
    if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
        raise RunError(
            f"`{lines[statement.lineno - 1].strip()}` is no typed parameter", fix=shape, where=where
        )
    name, kind = statement.target.id, ast.unparse(statement.annotation)
    if statement.value is None:
        raise RunError(f"{name} has no default", fix=shape, where=where)
    try:
        default = ast.literal_eval(statement.value)
    except ValueError:
        raise RunError(
            f"the default of {name} is computed",
            fix="write a plain value here and derive from it in the next cell: "
            "a value derived here would stay at its default when the parameter is changed",
            where=where,
        ) from None
    if not _known(statement.annotation):
        raise RunError(
            f"{name} has the type {kind}",
            fix="use int, float, str, bool, Literal[...] or list[...] of these",
            where=where,
        )
    comment = lines[statement.end_lineno - 1][statement.end_col_offset :] if statement.end_lineno else ""
    unchecked = Parameter(name, kind, default, comment.strip().removeprefix("#").strip())
    return Parameter(name, kind, unchecked.check(default, where), unchecked.comment)


def _known(annotation: ast.expr) -> bool:
    if isinstance(annotation, ast.Name):
        return annotation.id in _SCALARS
    if isinstance(annotation, ast.Subscript) and isinstance(annotation.value, ast.Name):
        if annotation.value.id == "Literal":
            return all(isinstance(choice, ast.Constant) for choice in _choices(annotation))
        return annotation.value.id == "list" and _known(annotation.slice)
    return False


def _choices(annotation: ast.Subscript) -> list[ast.expr]:
    inner = annotation.slice
    return inner.elts if isinstance(inner, ast.Tuple) else [inner]


def _fit(value: object, annotation: ast.expr) -> Any:
    """The value as the annotated type, or None when it does not fit."""
    if isinstance(annotation, ast.Name):
        wanted = _SCALARS[annotation.id]
        if wanted is float and type(value) is int:
            return float(value)
        if isinstance(value, float) and not math.isfinite(value):
            return None
        return value if type(value) is wanted else None  # a bool is an int to isinstance, not to us
    assert isinstance(annotation, ast.Subscript)
    if isinstance(annotation.value, ast.Name) and annotation.value.id == "Literal":
        choices = [choice.value for choice in _choices(annotation) if isinstance(choice, ast.Constant)]
        return next((c for c in choices if type(c) is type(value) and c == value), None)
    if not isinstance(value, list):
        return None
    fitted = [_fit(element, annotation.slice) for element in value]
    return None if any(element is None for element in fitted) else fitted
