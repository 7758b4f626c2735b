"""A query's tree as SQL over the tables of `build`. No text of a query becomes SQL: all of it is bound.

Every test is true, false, or NULL where the run lacks the field. `AND` and `OR` of SQL take NULL as false as
soon as the whole is asked whether it is true; `not` is therefore `IS NOT TRUE`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from claimbook.index import query as q
from claimbook.index.text import fold, match_all

WIDE = 256
"""Names of metrics, chances and parameters that have a column of their own; further ones lie in `rare`."""
MOMENT_BITS = 20
"""A run's number is its start in milliseconds, shifted by so much, plus a hash of its name."""

Names = Mapping[tuple[str, str], int]
"""The number of each family and name of value, in the order in which they were first met."""

_OF_EXPERIMENT = {"experiment": "slug", "paper": "paper", "claim": "claim", "verdict": "verdict"}
_OF_WORD = ("seal", "error")
_OF_DETAILS = ("id", "ended", "memory", "gpu_memory", "energy")
_INT64 = 2**63 - 1


@dataclass(frozen=True)
class _Operand:
    """Where a field lies: a column, and how a test of that column becomes a test of the run."""

    column: str
    """Written `+column` where there is an index to sort by: a test through an index looks up each run."""
    frame: str = "{}"
    bound: list[Any] = field(default_factory=list)
    """What the frame's own question marks stand for; they come before the test's."""
    folded: str = ""
    """The condition that the column contains a folded text."""
    key: str = ""
    """The column as a value of the run, to order by; empty where it is `column`."""


class Statement:
    """What a query says in SQL: a condition on the table `runs`, and an order of it."""

    def __init__(self, query: q.Query, names: Names, environments: set[str]) -> None:
        """Raises QueryError for a metric, chance, parameter or environment name that no run has."""
        self._query, self._names, self._environments = query, names, environments
        self.bound: list[Any] = []
        """The values of the condition's question marks."""
        self.condition = "1" if query.where is None else self._node(query.where)
        self.order_bound: list[Any] = []
        """The values of the order's question marks."""
        self.order = self._order()

    def _node(self, node: q.Node) -> str:
        match node:
            case q.And(parts):
                return "(" + " AND ".join(self._node(part) for part in parts) + ")"
            case q.Or(parts):
                return "(" + " OR ".join(self._node(part) for part in parts) + ")"
            case q.Not(part):
                return f"({self._node(part)}) IS NOT TRUE"
            case q.Text(words):
                self.bound.append(match_all(words))
                return "experiment IN (SELECT rowid FROM fulltext WHERE fulltext MATCH ?)"
            case q.Compare(where, operator, value):
                operand = self._operand(where)
                return self._framed(operand, *_comparison(operand.column, operator, value, where))
            case q.In(where, values):
                operand = self._operand(where)
                tests = [_comparison(operand.column, "=", value, where) for value in values]
                if any(isinstance(value, q.Moment) for value in values):
                    parts_, bound = [test for test, _ in tests], [b for _, part in tests for b in part]
                    return self._framed(operand, "(" + " OR ".join(parts_) + ")", bound)
                marks = ", ".join("?" * len(tests))
                return self._framed(operand, f"{operand.column} IN ({marks})", [part[0] for _, part in tests])
            case q.Contains(where, part_):
                operand = self._operand(where)
                return self._framed(operand, operand.folded, [fold(part_)])
            case q.Has(where):
                operand = self._operand(where)
                return self._framed(operand, f"{operand.column} IS NOT NULL", [])

    def _framed(self, operand: _Operand, test: str, bound: list[Any]) -> str:
        self.bound += [*operand.bound, *bound]
        return operand.frame.format(test)

    def _order(self) -> str:
        keys: list[str] = []
        for number, key in enumerate(self._query.order, start=1):
            operand = self._operand(key.field)
            column = operand.key or operand.column
            if column == "n":
                if number == len(self._query.order):
                    return ", ".join([*keys, f"n {_direction(key)}"])
                column = f"(n >> {MOMENT_BITS})"
            self.order_bound += operand.bound if "?" in column else []
            keys.append(f"{column} {_direction(key)} NULLS LAST")
        return ", ".join([*keys, "n DESC"])

    def _operand(self, where: q.Field) -> _Operand:
        if where.family == "run":
            return _run_operand(where.name)
        if where.family == "env":
            self._check_known(where, self._environments)
            selected = "(SELECT value FROM environments WHERE environment = runs.environment AND name = ?)"
            return _Operand(
                "value",
                "environment IN (SELECT environment FROM environments WHERE name = ? AND {})",
                [where.name],
                "instr(fold(value), ?)",
                selected,
            )
        self._check_known(where, {name for family, name in self._names if family == where.family})
        number = self._names[where.family, where.name]
        if number < WIDE:
            column = f"+v{number}"
            return _Operand(column, folded=_listed(column, "text"), key=f"v{number}")
        return _Operand(
            "value",
            "n IN (SELECT n FROM rare WHERE name = ? AND {})",
            [number],
            _listed("value", "text"),
            "(SELECT value FROM rare WHERE name = ? AND rare.n = runs.n)",
        )

    def _check_known(self, where: q.Field, known: set[str]) -> None:
        if where.name in known:
            return
        family = {"metric": "metric", "chance": "chance", "param": "parameter", "env": "environment entry"}
        shown = ", ".join(f"{where.family}.{name}" for name in sorted(known)[:8]) or "none yet"
        q.refuse(
            self._query.text,
            where.place,
            f"no run has a {family[where.family]} {where.name!r}{q.near(where.name, sorted(known))}",
            f"name one of: {shown}{', …' if len(known) > 8 else ''}",
        )


def _run_operand(name: str) -> _Operand:
    if name in _OF_EXPERIMENT:
        column = _OF_EXPERIMENT[name]
        return _Operand(
            column,
            "experiment IN (SELECT n FROM documents WHERE kind = 'experiment' AND {})",
            folded=f"instr(fold({column}), ?)",
            key=f"(SELECT {column} FROM documents WHERE documents.n = runs.experiment)",
        )
    if name in _OF_WORD:
        return _Operand(
            "text",
            f"{name} IN (SELECT id FROM words WHERE {{}})",
            folded="instr(folded, ?)",
            key=f"(SELECT text FROM words WHERE words.id = runs.{name})",
        )
    if name in _OF_DETAILS:
        return _Operand(
            name,
            "n IN (SELECT n FROM details WHERE {})",
            folded="instr(coalesce(folded, id), ?)",
            key=f"(SELECT {name} FROM details WHERE details.n = runs.n)",
        )
    column = "n" if name == "started" else name
    return _Operand(f"+{column}", folded=_listed(f"+{column}", "text"), key=column)


def _listed(column: str, of: str) -> str:
    """Few texts are different ones, so they are searched once each and not once for every run."""
    return f"{column} IN (SELECT {of} FROM words WHERE instr(folded, ?))"


def _direction(key: q.Key) -> str:
    return "DESC" if key.descending else "ASC"


def _comparison(column: str, operator: q.Operator, value: q.Value, where: q.Field) -> tuple[str, list[Any]]:
    """A test of a column and its values. The operator is one of six, checked by the parser."""
    if isinstance(value, q.Moment):
        return _moment(column, operator, value)
    if isinstance(value, bool):
        stored = int(value) if where.family == "run" else encode_value(value)
        return f"{column} {operator} ?", [stored]
    if where.family == "param" and operator not in ("=", "!="):
        # SQLite puts numbers before texts and texts before bytes; a parameter is compared with its kind only
        beyond = {"<": "", ">": f" AND {column} < ''"}
        if isinstance(value, str):
            beyond = {"<": f" AND {column} >= ''", ">": f" AND {column} < x''"}
        return f"({column} {operator} ?{beyond[operator[0]]})", [value]
    return f"{column} {operator} ?", [value]


def _moment(column: str, operator: q.Operator, moment: q.Moment) -> tuple[str, list[Any]]:
    shift = MOMENT_BITS if column == "+n" else 0
    start, end = (max(-_INT64, min(_INT64, bound << shift)) for bound in (moment.start, moment.end))
    return {
        "=": (f"({column} >= ? AND {column} < ?)", [start, end]),
        "!=": (f"({column} < ? OR {column} >= ?)", [start, end]),
        "<": (f"{column} < ?", [start]),
        "<=": (f"{column} < ?", [end]),
        ">": (f"{column} >= ?", [end]),
        ">=": (f"{column} >= ?", [start]),
    }[operator]


def encode_value(value: Any) -> Any:
    """A parameter as SQLite keeps it: truth values and lists are bytes, and so equal to no number or text."""
    if isinstance(value, bool):
        return b"\1" if value else b"\0"
    if isinstance(value, list):
        import json

        return json.dumps(value, ensure_ascii=False).encode()
    if isinstance(value, int) and not -_INT64 <= value <= _INT64:
        return float(value)
    return value


def decode_value(value: Any) -> Any:
    """A parameter as the record has it, from what `encode_value` made of it."""
    if not isinstance(value, bytes):
        return value
    import json

    return json.loads(value) if value.startswith(b"[") else value == b"\1"
