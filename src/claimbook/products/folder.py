"""A folder of pictures with a table beside them, CSV or JSON Lines.

Knows the two formats; not what the columns are used for, nor which rows are.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from claimbook.errors import ProductsError
from claimbook.products.pictures import FilePicture
from claimbook.products.rows import Columns, Row, Table, cell, check_column, make_rows
from claimbook.workspace import nearest


def read_folder(folder: Path, table: str, columns: Columns) -> list[Row]:
    """The rows of `folder/table`; pictures lie at their path relative to the table's folder, unread yet.

    Raises ProductsError that names file and line when the table is not whole.
    """
    path = folder / table
    if not folder.is_dir():
        raise ProductsError(
            "there is no such folder", fix="mend `path`, or put the pictures there", where=folder
        )
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl}
    if path.suffix not in readers:
        raise ProductsError(
            f"{table!r} is no table", fix="name a .csv or .jsonl file in `table`", where=folder
        )
    if not path.is_file():
        known = sorted(p.name for p in folder.iterdir() if p.suffix in readers)
        raise ProductsError(
            f"there is no table {table!r}{nearest(table, known)}",
            fix=f"name one in `table`: {', '.join(known) or 'there is no .csv or .jsonl here'}",
            where=folder,
        )
    content = readers[path.suffix](path)
    images = _image_cells(content, columns.image, path)
    return make_rows(
        content,
        columns,
        str(path),
        default_item=lambda i: images[i],
        picture=lambda i: FilePicture(path.parent / images[i]),
    )


def _image_cells(table: Table, column: str, path: Path) -> list[str]:
    check_column(column, table.columns, str(path), "columns.image")
    images = [cells[column] for cells in table.cells]
    if "" in images:
        place = table.places[images.index("")]
        count = images.count("")
        raise ProductsError(
            f"{column} is empty here and names no picture ({count} such row{'s' * (count > 1)})",
            fix="write the picture's path, relative to the table, or take the row out",
            where=place,
        )
    return images


def _read_jsonl(path: Path) -> Table:
    objects, places = [], []
    for number, line in enumerate(_lines(path), 1):
        if line.strip():
            place = f"{path}:{number}"
            objects.append(_object(line, place))
            places.append(place)
    columns = tuple(dict.fromkeys(name for entry in objects for name in entry))
    if not objects:
        _empty(path)
    return Table(columns, [{name: cell(entry.get(name)) for name in columns} for entry in objects], places)


def _object(line: str, place: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise ProductsError(
            f"no JSON: {error.msg} at column {error.colno}",
            fix="mend the line: one object a line",
            where=place,
        ) from error
    if not isinstance(value, dict):
        raise ProductsError("no JSON object", fix='write {"column": "value", …}, one a line', where=place)
    return value


def _read_csv(path: Path) -> Table:
    reader = csv.reader(_lines(path), strict=True)
    records, places = [], []
    start = 1
    try:
        for record in reader:
            if record:
                records.append([cell(value) for value in record])
                places.append(f"{path}:{start}")
            start = reader.line_num + 1
    except csv.Error as error:
        raise ProductsError(f"no CSV: {error}", fix="mend the quotes", where=f"{path}:{start}") from error
    if len(records) < 2:
        _empty(path)
    header = records[0]
    if len(set(header)) < len(header) or "" in header:
        raise ProductsError(
            "a column has no name, or two have the same", fix="name every column once", where=places[0]
        )
    for record, place in zip(records[1:], places[1:], strict=True):
        if len(record) != len(header):
            raise ProductsError(
                f"{len(record)} cells where the header has {len(header)}",
                fix='mend the row; a cell with a comma stands in "quotes"',
                where=place,
            )
    return Table(tuple(header), [dict(zip(header, r, strict=True)) for r in records[1:]], places[1:])


def _lines(path: Path) -> Iterator[str]:
    number = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise ProductsError(
                    f"no UTF-8: {error.reason}", fix="save the table as UTF-8", where=f"{path}:{number}"
                ) from error


def _empty(path: Path) -> NoReturn:
    raise ProductsError("the table has no rows", fix="write a row for each picture", where=path)
