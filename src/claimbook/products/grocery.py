"""The Grocery Store dataset as published. Knows its files, not what is done with the rows.

Klasson et al. 2019, https://github.com/marcusklasson/GroceryStoreDataset

The product is the class: its 5,421 photos show 81 kinds of fruit, vegetables and packages. The official split
is one of photos, so that every class stands in train and test alike: it asks whether a new photo of a known
product is recognised, and the rule that no product lies in two splits cannot hold. With `split = {…}` it
holds: whole classes are held out.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from claimbook.errors import ProductsError
from claimbook.products.pictures import FilePicture
from claimbook.products.rows import SPLITS, Row

Titles = Literal["name", "description"]


@dataclass(frozen=True, slots=True)
class _Class:
    name: str
    coarse: str
    title: str


def read_grocery(folder: Path, title: Titles = "name") -> list[Row]:
    """The rows of train.txt, val.txt and test.txt, with the official split; pictures are unread yet.

    title: the class name with spaces, or the shop's description of the class. Attributes: kind, coarse.
    Raises ProductsError that names file and line.
    """
    if not folder.is_dir():
        raise ProductsError(
            "there is no such folder", fix="mend `path`: the folder with classes.csv", where=folder
        )
    classes = _classes(folder, title)
    return [row for split in SPLITS for row in _photos(folder, split, classes)]


def _classes(folder: Path, title: Titles) -> dict[str, _Class]:
    classes = {}
    path = folder / "classes.csv"
    for number, cells in enumerate(csv.reader(_text(path).splitlines()), 1):
        if number == 1 or not cells:
            continue
        if len(cells) != 6:
            raise ProductsError(
                f"{len(cells)} cells where a class has 6",
                fix="take the published file",
                where=f"{path}:{number}",
            )
        name, number_of_class, coarse, _, _, description = cells
        words = name.replace("-", " ")
        text = _text(folder / description.lstrip("/")) if title == "description" else words
        classes[number_of_class] = _Class(name, coarse.replace("-", " "), " ".join(text.split()))
    return classes


def _photos(folder: Path, split: str, classes: dict[str, _Class]) -> list[Row]:
    rows: dict[str, Row] = {}
    path = folder / f"{split}.txt"
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        cells = [part.strip() for part in line.split(",")]
        if len(cells) != 3 or cells[1] not in classes:
            raise ProductsError(
                f"{line.strip()!r} is no photo of a known class",
                fix="write `path, class id, coarse class id`, the class as in classes.csv",
                where=place,
            )
        photo, known = cells[0], classes[cells[1]]
        if photo in rows:
            raise ProductsError(
                f"{photo!r} stands already at {rows[photo].place}", fix="list every photo once", where=place
            )
        rows[photo] = Row(
            place=place,
            item=photo,
            product=known.name,
            title=known.title,
            split=split,
            attributes={"kind": known.name.replace("-", " "), "coarse": known.coarse},
            picture=FilePicture(folder / photo),
        )
    return list(rows.values())


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no UTF-8"
        raise ProductsError(
            f"cannot be read: {reason}", fix="let `path` be the dataset folder as published", where=path
        ) from error
