"""A table's cells become rows of pictures with product, title and attributes, or an error that names lines.

Knows the meaning of columns; not where the table came from, nor which rows will be used.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from claimbook.errors import ProductsError
from claimbook.products.pictures import Picture
from claimbook.workspace import nearest

SPLITS = ("train", "val", "test")
OWN_NAMES = ("item", "product", "title", "split")
"""What every product set has; a table's column that has such a name by chance becomes `source_<name>`."""


class Columns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which columns of a table mean what; all others stay attributes."""

    image: str = "image"
    """The picture: a path beside the table, or an image column of a hub dataset."""
    title: str = "title"
    item: str | None = None
    """The picture's id, unique; absent: its path (folder) or row number (hub)."""
    product: str | None = None
    """The product's id, shared by its pictures; absent: the item's."""
    split: str | None = None
    """train, val or test, where the table has an official split."""


@dataclass(frozen=True, slots=True)
class Row:
    """One picture, before any choice is made; nothing of it is decoded yet."""

    place: str
    """File and line, for messages."""
    item: str
    product: str
    title: str
    split: str
    """train, val, test, or empty where the source has no official split."""
    attributes: dict[str, str]
    picture: Picture


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as text, row by row; every row has every column."""

    columns: tuple[str, ...]
    cells: Sequence[dict[str, str]]
    places: Sequence[str]
    """File and line of each row."""


def cell(value: Any) -> str:
    """A value as an attribute: nothing is "", text is stripped, anything else as JSON writes it."""
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def make_rows(
    table: Table,
    columns: Columns,
    where: str,
    default_item: Callable[[int], str],
    picture: Callable[[int], Picture],
) -> list[Row]:
    """Rows in the table's order; `where` names the table, the callables take a row number.

    Raises ProductsError for a column that is not there, an id that stands twice, a split that is none.
    """
    named = {
        field: name for field in ("title", "item", "product", "split") if (name := getattr(columns, field))
    }
    for field, name in named.items():
        check_column(name, table.columns, where, f"columns.{field}")
    own = {*named.values(), columns.image}
    further = {name: _attribute_name(name, table.columns) for name in table.columns if name not in own}
    rows = []
    for i, cells in enumerate(table.cells):
        item = cells[named["item"]] if "item" in named else default_item(i)
        rows.append(
            Row(
                place=table.places[i],
                item=item,
                product=cells[named["product"]] if "product" in named else item,
                title=cells[named["title"]],
                split=cells[named["split"]] if "split" in named else "",
                attributes={attribute: cells[name] for name, attribute in further.items()},
                picture=picture(i),
            )
        )
    _check_ids(rows)
    if "split" in named:
        _check_splits(rows, named["split"])
    return rows


def check_column(name: str, known: Sequence[str], where: str, field: str) -> None:
    """Raise ProductsError unless the table has the column; field: the setting that names it."""
    if name not in known:
        raise ProductsError(
            f"{field} names {name!r}, and there is no such column{nearest(name, list(known))}",
            fix=f"name one of: {', '.join(known)}",
            where=where,
        )


def refuse(rows: Sequence[Row], problems: Sequence[str], what: str, fix: str) -> None:
    """Raise ProductsError that names the first five rows; nothing when there are no rows.

    what: the kind of problem, with {n} for how many.
    """
    if not rows:
        return
    told = [f"{row.place}: {problem}" for row, problem in zip(rows[:5], problems, strict=False)]
    more = f"\n  … and {len(rows) - 5} more" if len(rows) > 5 else ""
    lines = "".join(f"\n  {line}" for line in told)
    raise ProductsError(f"{what.format(n=len(rows))}{lines}{more}", fix=fix, where=rows[0].place)


def _attribute_name(name: str, columns: Sequence[str]) -> str:
    renamed = f"source_{name}"
    return renamed if name in OWN_NAMES and renamed not in columns else name


def _check_ids(rows: Sequence[Row]) -> None:
    empty = [row for row in rows if not row.item or not row.product]
    refuse(empty, ["the id is empty"] * 5, "{n} rows without an item or product id", "give every row an id")
    first: dict[str, Row] = {}
    twice = [row for row in rows if first.setdefault(row.item, row) is not row]
    problems = [f"{row.item!r} stands already at {first[row.item].place}" for row in twice[:5]]
    fix = "give every picture an id of its own; pictures of one product share the column in columns.product"
    refuse(twice, problems, "{n} item ids stand twice", fix)


def _check_splits(rows: Sequence[Row], column: str) -> None:
    wrong = [row for row in rows if row.split not in SPLITS]
    problems = [f"{column} is {row.split!r}{nearest(row.split, list(SPLITS))}" for row in wrong[:5]]
    refuse(wrong, problems, "{n} rows without a known split", "write train, val or test")
