"""A product subset in memory: rows, filters, splits, pixels, and the fingerprint of exactly what is in it.

Does not know where it came from: `spec.load` makes it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from PIL import Image

from claimbook.errors import ProductsError
from claimbook.products.pictures import Picture, Pixels, UnreadablePictureError, cached_squares, digest
from claimbook.workspace import nearest


@dataclass(frozen=True, eq=False, repr=False)
class Products:
    """Pictures of products with titles and attributes: row i is one picture, all columns have one length."""

    name: str
    """The table it was loaded from, also for parts of it; not in the fingerprint."""
    items: tuple[str, ...]
    """The picture's id, unique."""
    products: tuple[str, ...]
    """The product's id: pictures of one product are one cluster."""
    titles: tuple[str, ...]
    """What the shop calls the product; never empty."""
    splits: tuple[str, ...]
    """"train", "val" or "test"."""
    attributes: dict[str, tuple[str, ...]]
    """Every further column by its name; "" where the source says nothing."""
    digests: tuple[str, ...]
    """sha256 of each picture's bytes, or of the definition from which it is drawn; hex."""
    pictures: tuple[Picture, ...]
    """How to read each picture; read on demand."""
    cache: Path
    """The folder for arrays of pixels; safe to delete."""

    def __post_init__(self) -> None:
        columns = [
            self.products,
            self.titles,
            self.splits,
            self.digests,
            self.pictures,
            *self.attributes.values(),
        ]
        if any(len(column) != len(self.items) for column in columns):
            raise ProductsError(
                "columns of different lengths", fix="give every column a value a row", where=self.name
            )
        if len(set(self.items)) < len(self.items):
            raise ProductsError(
                "two pictures have the same id", fix="give each an id of its own", where=self.name
            )

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        counts = ", ".join(f"{split} {self.splits.count(split)}" for split in ("train", "val", "test"))
        products = len(set(self.products))
        size = f"{len(self)} pictures of {products} products"
        return f"<Products {self.name}: {size} ({counts}), {self.fingerprint[:12]}>"

    @cached_property
    def fingerprint(self) -> str:
        """sha256, hex, over the rows in order: item, product, title, split, attributes, sha256 of picture.

        Neither name nor place is in it: the same rows from a folder that was moved have the same fingerprint.
        """
        whole = hashlib.sha256()
        for i in range(len(self)):
            attributes = {name: column[i] for name, column in self.attributes.items()}
            row = [
                self.items[i],
                self.products[i],
                self.titles[i],
                self.splits[i],
                attributes,
                self.digests[i],
            ]
            whole.update(json.dumps(row, sort_keys=True).encode() + b"\n")
        return whole.hexdigest()

    @property
    def train(self) -> Products:
        """The rows to learn from. Raises ProductsError when there are none."""
        return self._split("train")

    @property
    def val(self) -> Products:
        """The rows to choose by; may be empty."""
        return self._take(i for i, split in enumerate(self.splits) if split == "val")

    @property
    def test(self) -> Products:
        """The rows to score. Raises ProductsError when there are none."""
        return self._split("test")

    def where(self, **values: str | Iterable[str]) -> Products:
        """The rows whose columns have these values: one, or any of several; all columns must match.

        A column is an attribute, or item, product, title or split. Raises ProductsError for a column or value
        that is not there, and when nothing is left.
        """
        rows = matching(self._columns(), values, len(self), self.name)
        return self._take(rows)

    def first_picture_per_product(self) -> Products:
        """One row a product, its first in order: what a retrieval test ranks."""
        first: dict[str, int] = {}
        for i, product in enumerate(self.products):
            first.setdefault(product, i)
        return self._take(first.values())

    def pixels(self, size: int) -> Pixels:
        """uint8, shape (n, size, size, 3), RGB: each whole picture on a white square, undistorted.

        Made once, then memory-mapped read-only from the cache. Raises ProductsError when a picture has
        changed since it was loaded, or when the cache cannot be written.
        """
        if size < 1:
            raise ProductsError(f"pictures of {size} pixels a side", fix="ask for 1 or more", where=self.name)
        images = (self.picture(i) for i in range(len(self)))
        return cached_squares(self.cache / "pixels", self.digests, images, size)

    def picture(self, i: int) -> Image.Image:
        """The picture of row i: RGB, full size. Raises ProductsError when it has changed since loading."""
        try:
            data = self.pictures[i].read()
            if digest(data) != self.digests[i]:
                raise UnreadablePictureError("it has changed since it was loaded")
            return self.pictures[i].decode(data)
        except UnreadablePictureError as error:
            raise ProductsError(
                f"picture {self.items[i]!r}: {error}", fix="load the products again", where=self.name
            ) from error

    def _columns(self) -> dict[str, Sequence[str]]:
        own = {"item": self.items, "product": self.products, "title": self.titles, "split": self.splits}
        return {**self.attributes, **own}

    def _split(self, split: str) -> Products:
        rows = [i for i, own in enumerate(self.splits) if own == split]
        if not rows:
            raise ProductsError(
                f"none of its {len(self)} pictures lies in {split}",
                fix="filter less, or take the split before the filter",
                where=self.name,
            )
        return self._take(rows)

    def _take(self, rows: Iterable[int]) -> Products:
        chosen = tuple(rows)
        return Products(
            self.name,
            items=tuple(self.items[i] for i in chosen),
            products=tuple(self.products[i] for i in chosen),
            titles=tuple(self.titles[i] for i in chosen),
            splits=tuple(self.splits[i] for i in chosen),
            attributes={name: tuple(column[i] for i in chosen) for name, column in self.attributes.items()},
            digests=tuple(self.digests[i] for i in chosen),
            pictures=tuple(self.pictures[i] for i in chosen),
            cache=self.cache,
        )


def matching(
    columns: dict[str, Sequence[str]], values: dict[str, str | Iterable[str]], n: int, where: str
) -> Iterator[int]:
    """The numbers of the rows, of `n`, whose columns have the values.

    Raises ProductsError for a column or value that is not there, and when no row is left.
    """
    wanted = {name: {value} if isinstance(value, str) else set(value) for name, value in values.items()}
    for name, accepted in wanted.items():
        if name not in columns:
            raise ProductsError(
                f"there is no column {name!r}{nearest(name, list(columns))}",
                fix=f"name one of: {', '.join(columns)}",
                where=where,
            )
        known = sorted(set(columns[name]) - {""})
        for value in sorted(accepted - set(columns[name])):
            raise ProductsError(
                f"no row has {name} {value!r}{nearest(value, known)}",
                fix=f"name some of: {', '.join(known[:20])}{', …' * (len(known) > 20)}",
                where=where,
            )
    rows = [i for i in range(n) if all(columns[name][i] in accepted for name, accepted in wanted.items())]
    if not rows:
        raise ProductsError(
            f"no row has all of {', '.join(wanted)} as asked",
            fix="ask for values that stand together",
            where=where,
        )
    return iter(rows)
