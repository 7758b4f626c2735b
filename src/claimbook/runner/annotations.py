"""What a parameter's annotation allows, read from its syntax tree. Nothing is imported, nothing executed.

    int, float, str, bool              never one for another; only a whole number may stand for a float
    Literal["softmax", "sigmoid"]      one of these
    Path, ArxivId                      a text that names a file, or a paper; both are kept normalised
    list[int]                          a flat list of any of the above
    Annotated[float, Gt(0), Le(1)]     a number within bounds, by annotated-types

Names count as the cell imports them: after `import typing as t`, `t.Literal` is one. Knows no notebooks.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Literal, NoReturn, cast

from claimbook.errors import RunError
from claimbook.papers.ids import ArxivId, Complaint, parse
from claimbook.records.experiment import Value
from claimbook.workspace import nearest

Base = Literal["int", "float", "str", "bool", "Literal", "Path", "ArxivId"]
One = bool | int | float | str

_SCALARS: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}
_BOUND_NAMES = ("Gt", "Ge", "Lt", "Le", "Interval")
_HOMES = {
    **dict.fromkeys(["Literal", "Annotated"], ("typing", "typing_extensions")),
    "List": ("typing",),
    "Path": ("pathlib",),
    "ArxivId": ("claimbook", "claimbook.papers.ids"),
    **dict.fromkeys(_BOUND_NAMES, ("annotated_types",)),
}
"""The modules that a name must come from, where the cell says from which it comes."""
_SIGNS: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "gt": (">", operator.gt),
    "ge": (">=", operator.ge),
    "lt": ("<", operator.lt),
    "le": ("<=", operator.le),
}
_INT64 = range(-(2**63), 2**63)
"""What the log's database and Parquet can hold."""

_TYPES = "use int, float, str, bool, Literal[...], Path, ArxivId, or list[...] of these"
_BOUNDS = "write bounds as Gt(0), Ge(0), Lt(1), Le(1) or Interval(gt=0, le=1), from annotated_types"


@dataclass(frozen=True)
class Bound:
    """One end of a range."""

    name: str
    """`gt`, `ge`, `lt` or `le`, as annotated-types calls it."""
    limit: int | float

    def holds(self, value: float) -> bool:
        """Whether a number keeps to it."""
        return _SIGNS[self.name][1](value, self.limit)

    def __str__(self) -> str:
        return f"{_SIGNS[self.name][0]} {self.limit}"


@dataclass(frozen=True)
class Misfit:
    """Why a value is not of a kind."""

    clause: str
    """What follows behind "lr is 2": ", which is not <= 1"."""
    fix: str | None = None
    """The next step, where one is known that is better than an example."""


@dataclass(frozen=True)
class Kind:
    """The values that an annotation allows."""

    base: Base
    choices: tuple[One, ...] = ()
    """Of a Literal."""
    bounds: tuple[Bound, ...] = ()
    """Of each number."""
    many: bool = False
    """Whether it is a list of such values."""

    def __str__(self) -> str:
        base = f"Literal[{', '.join(map(repr, self.choices))}]" if self.choices else self.base
        return f"list[{base}]" if self.many else base

    @property
    def range(self) -> str:
        """Its bounds to be read, such as "> 0, <= 1"; empty where there are none."""
        return ", ".join(map(str, self.bounds))

    @property
    def element(self) -> Kind:
        """The kind of one value of a list; itself when it is none."""
        return replace(self, many=False)

    def fit(self, value: object) -> Value | Misfit:
        """The value as it is recorded, or why it is none of this kind. Never raises."""
        if not self.many:
            return self._fit_one(value, ", which")
        if not isinstance(value, list):
            return Misfit(f", which is no {self}")
        fitted = [self._fit_one(one, f", in which {shown(one)}") for one in value]
        wrong = next((one for one in fitted if isinstance(one, Misfit)), None)
        return wrong or cast("list[One]", fitted)

    def _fit_one(self, value: object, which: str) -> One | Misfit:
        fitted = self._typed(value, which)
        if isinstance(fitted, int | float):
            broken = [bound for bound in self.bounds if not bound.holds(fitted)]
            if broken:
                return Misfit(f"{which} is not {' and not '.join(map(str, broken))}")
        return fitted

    def _typed(self, value: object, which: str) -> One | Misfit:
        wrong = Misfit(f"{which} is no {self.element}")
        if isinstance(value, str) and not _is_text(value):
            return Misfit(f"{which} is no text that a file can hold")
        if self.base == "Literal":
            same = (choice for choice in self.choices if type(choice) is type(value) and choice == value)
            return next(same, Misfit(f"{wrong.clause}{self._nearest(value)}"))
        if self.base == "Path":
            return _path(value, which) if isinstance(value, str) else wrong
        if self.base == "ArxivId":
            return _arxiv_id(value, which)
        if self.base == "float" and type(value) is int:
            number = _as_float(value)
            return Misfit(f"{which} no float is exactly") if number is None else number
        # type, not isinstance: to the latter a bool is an int
        if type(value) is not _SCALARS[self.base]:
            return wrong
        if isinstance(value, float) and not math.isfinite(value):
            return Misfit(f"{which} is no finite number")
        if type(value) is int and value not in _INT64:
            return Misfit(f"{which} does not fit into 64 bits")
        return cast(One, value)

    def _nearest(self, value: object) -> str:
        texts = [choice for choice in self.choices if isinstance(choice, str)]
        return nearest(value, texts) if isinstance(value, str) else ""


def shown(value: object) -> str:
    """A value as a message shows it: as Python writes it, not too long."""
    try:
        text = repr(value)
    except ValueError:  # an int of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:77]}…"


def _is_text(value: str) -> bool:
    """Half of a surrogate pair is none: it cannot be written as UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _as_float(value: int) -> float | None:
    """A whole number as a float; None where that would change it."""
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if int(number) == value else None


def _path(text: str, which: str) -> str | Misfit:
    if not text or "\0" in text:
        return Misfit(f"{which} names no file", "write a path, or . for the folder itself")
    return PurePosixPath(text).as_posix()


def _arxiv_id(value: object, which: str) -> str | Misfit:
    if not isinstance(value, str):  # 2103.00020 without quotes is the number 2103.0002
        return Misfit(f"{which} is no ArxivId", 'write it in quotes, such as "2103.00020"')
    found = parse(value)
    return Misfit(f": {found.problem}", found.fix) if isinstance(found, Complaint) else str(found)


def imported_names(statements: list[ast.stmt]) -> dict[str, str]:
    """What each name that a cell imports stands for: `import typing as t` gives t → typing."""
    names: dict[str, str] = {}
    for statement in statements:
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                package = alias.name.split(".")[0]
                names[alias.asname or package] = alias.name if alias.asname else package
        elif isinstance(statement, ast.ImportFrom):
            module = "." * statement.level + (statement.module or "")
            names |= {alias.asname or alias.name: f"{module}.{alias.name}" for alias in statement.names}
    return names


@dataclass(frozen=True)
class Declaration:
    """A line `name: type = value` as it is read."""

    name: str
    imports: Mapping[str, str]
    """`imported_names` of its cell."""
    where: str

    def kind(self, annotation: ast.expr) -> Kind:
        """The kind that an annotation stands for. Raises RunError for any that is not known."""
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            try:
                annotation = ast.parse(annotation.value.strip(), mode="eval").body
            except SyntaxError:
                self._refuse(annotation, _TYPES)
        if not isinstance(annotation, ast.Subscript):
            return self._plain(annotation)
        match self._known(annotation.value):
            case "Literal":
                return self._literal(annotation)
            case "Annotated":
                return self._annotated(annotation)
            case "list" | "List":
                if isinstance(annotation.slice, ast.Tuple):
                    self._refuse(annotation, "a list has one type of element, such as list[int]")
                kind = self.kind(annotation.slice)
                if kind.many:
                    self._refuse(annotation, "a list holds plain values; take two parameters, or a text")
                return replace(kind, many=True)
        if self._dotted(annotation.value).endswith("Optional"):
            self._refuse_none(annotation)
        self._refuse(annotation, _TYPES)

    def default(self, value: ast.expr, kind: Kind) -> object:
        """The value that is written as a default: a literal, or Path("…"), ArxivId("…") where it is declared.

        Raises RunError when it would have to be computed.
        """
        if isinstance(value, ast.List):
            return [self.default(element, kind) for element in value.elts]
        if isinstance(value, ast.Call) and self._known(value.func) == kind.base:
            return self._made(value, kind)
        return self._constant(value, self._computed)

    def _made(self, call: ast.Call, kind: Kind) -> object:
        """What Path(…) or ArxivId(…) would be, as text."""
        arguments = [self._constant(argument, self._computed) for argument in call.args]
        named = {word.arg or "": self._constant(word.value, self._computed) for word in call.keywords}
        try:
            if kind.base == "Path":
                return str(PurePosixPath(*arguments, **named))  # type: ignore[arg-type]
            paper = ArxivId(*arguments, **named)  # type: ignore[arg-type]
        except TypeError:
            self._computed()
        return str(paper) if isinstance(paper.number, str) else paper.number

    def _plain(self, annotation: ast.expr) -> Kind:
        known = self._known(annotation)
        if known in (*_SCALARS, "Path", "ArxivId"):
            return Kind(cast(Base, known))
        if known in ("list", "List"):
            self._refuse(annotation, "say of what, such as list[int]")
        if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
            if "None" in map(ast.unparse, (annotation.left, annotation.right)):
                self._refuse_none(annotation)
            self._refuse(annotation, f"choose one type; {_TYPES}")
        imported = ".".join(self._resolved(annotation))
        self._refuse(annotation, f"{_TYPES}; this is {imported}" if self._seen(annotation) else _TYPES)

    def _literal(self, annotation: ast.Subscript) -> Kind:
        def refuse() -> NoReturn:
            self._refuse(annotation, "list texts, numbers or True and False in a Literal")

        choices = [self._constant(choice, refuse) for choice in _elements(annotation.slice)]
        if not choices or not all(isinstance(choice, One) for choice in choices):
            refuse()
        return Kind("Literal", choices=tuple(cast("list[One]", choices)))

    def _annotated(self, annotation: ast.Subscript) -> Kind:
        declared, *notes = _elements(annotation.slice)
        kind = self.kind(declared)
        bounds = [bound for note in notes for bound in self._bounds(note, annotation)]
        if bounds and kind.many:
            self._refuse(annotation, "bound the numbers, not the list: list[Annotated[int, Gt(0)]]")
        if bounds and kind.base not in ("int", "float"):
            self._refuse(annotation, f"only an int or a float has bounds; {_TYPES}")
        return replace(kind, bounds=(*kind.bounds, *bounds))

    def _bounds(self, note: ast.expr, annotation: ast.expr) -> list[Bound]:
        def refuse() -> NoReturn:
            self._refuse(annotation, _BOUNDS)

        if isinstance(note, ast.Constant) and isinstance(note.value, str):
            return []  # a text explains
        called = self._known(note.func) if isinstance(note, ast.Call) else None
        if not isinstance(note, ast.Call) or called not in _BOUND_NAMES:
            refuse()
        names = list(_SIGNS) if called == "Interval" else [called.lower()]
        limits = [*zip(names, note.args, strict=False), *((word.arg, word.value) for word in note.keywords)]
        if not limits or len(note.args) > len(names):
            refuse()
        return [
            Bound(name, self._limit(limit, refuse)) for name, limit in limits if name in names or refuse()
        ]

    def _limit(self, value: ast.expr, refuse: Callable[[], NoReturn]) -> int | float:
        limit = self._constant(value, refuse)
        if type(limit) not in (int, float) or not math.isfinite(cast(float, limit)):
            refuse()
        return cast(float, limit)

    def _constant(self, value: ast.expr, refuse: Callable[[], NoReturn]) -> object:
        try:
            return cast(object, ast.literal_eval(value))
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            refuse()

    def _known(self, expression: ast.expr) -> str | None:
        """The name that an expression stands for, if it is one that annotations may use."""
        *module, name = self._resolved(expression)
        if name in (*_SCALARS, "list"):
            return name if module in ([], ["builtins"]) else None
        # what an earlier cell imported is taken at its name
        fits = not self._seen(expression) or ".".join(module) in _HOMES.get(name, ())
        return name if name in _HOMES and fits else None

    def _seen(self, expression: ast.expr) -> bool:
        """Whether the cell imports a name, or what stands before its first point."""
        return self._dotted(expression).split(".")[0] in self.imports

    def _resolved(self, expression: ast.expr) -> list[str]:
        """The parts of a dotted name, its first one as the cell imports it; empty texts for other code."""
        first, *rest = self._dotted(expression).split(".")
        return [*self.imports.get(first, first).split("."), *rest]

    def _dotted(self, expression: ast.expr) -> str:
        return ast.unparse(expression) if isinstance(expression, ast.Name | ast.Attribute) else ""

    def _refuse(self, annotation: ast.expr, fix: str) -> NoReturn:
        raise RunError(
            f"{self.name} has the type {ast.unparse(annotation)}", fix=fix, where=self.where
        ) from None

    def _refuse_none(self, annotation: ast.expr) -> NoReturn:
        self._refuse(
            annotation,
            "hypothesis.toml cannot write None, so no arm could choose it: take a default that says that "
            'nothing is chosen, such as "" or 0',
        )

    def _computed(self) -> NoReturn:
        raise RunError(
            f"the default of {self.name} is computed",
            fix="write a plain value here and derive from it in the next cell: "
            "a value derived here would stay at its default when the parameter is changed",
            where=self.where,
        ) from None


def _elements(inner: ast.expr) -> list[ast.expr]:
    return inner.elts if isinstance(inner, ast.Tuple) else [inner]
