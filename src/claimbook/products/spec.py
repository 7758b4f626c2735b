"""The table [tool.claimbook.products.<name>]: what may stand in it, and how it becomes a Products.

Filter, then subset, then read every picture of the subset, then split. Knows the order of these steps, not
how any of them is done. Nothing is loaded by halves: a row that is not whole is an error, never left out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from claimbook import workspace
from claimbook.errors import ProductsError, WorkspaceError
from claimbook.products import split as splitting
from claimbook.products.catalog import TITLES as CATALOG_TITLES
from claimbook.products.catalog import draw_catalog
from claimbook.products.folder import read_folder
from claimbook.products.grocery import Titles as GroceryTitles
from claimbook.products.grocery import read_grocery
from claimbook.products.hub import read_hub
from claimbook.products.pictures import checked_digests
from claimbook.products.rows import SPLITS, Columns, Row, refuse
from claimbook.products.subset import Products, matching
from claimbook.workspace import Workspace, nearest

_Struct = TypeVar("_Struct", bound=msgspec.Struct)


class Shares(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which part of the pictures each split gets; together 1."""

    train: float
    test: float
    val: float = 0.0


class _Common(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every source understands."""

    where: dict[str, str | list[str]] = {}
    """Column and the value, or values, to keep."""
    n: int | None = None
    """Pictures in the subset, in whole groups; absent: all."""
    stratify: str | None = None
    """The column whose values keep their shares in the subset and in every split."""
    group: str | None = None
    """Pictures with the same value never lie in two splits, nor do those of one product; absent: product."""
    split: Shares | None = None
    """Absent: the source's official split, or train 0.7, val 0.1, test 0.2."""
    seed: int = 0
    """Of the subset and the split."""


class CatalogColumns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which title is the title; the other stays an attribute."""

    title: str = "title_en"


class GroceryColumns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which text is the title: the class name, or the shop's description of the class."""

    title: GroceryTitles = "name"


class CatalogSpec(_Common, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """source = "catalog": products that claimbook draws."""

    n_products: int = 1000
    views: int = 2
    """Pictures of each product."""
    size: int = 128
    """Side of a picture, pixels."""
    kinds: list[str] | None = None
    """Absent: all that can be drawn; so with colours and patterns."""
    colours: list[str] | None = None
    patterns: list[str] | None = None
    columns: CatalogColumns = CatalogColumns()

    def rows(self, root: Path, where: str) -> list[Row]:
        """The rows of the source, before filters. Raises ProductsError."""
        if self.columns.title not in CATALOG_TITLES:
            raise ProductsError(
                f"columns.title is {self.columns.title!r}{nearest(self.columns.title, list(CATALOG_TITLES))}",
                fix=f"write one of: {', '.join(CATALOG_TITLES)}",
                where=where,
            )
        return draw_catalog(
            n_products=self.n_products,
            views=self.views,
            size=self.size,
            seed=self.seed,
            kinds=self.kinds,
            colours=self.colours,
            patterns=self.patterns,
            title=self.columns.title,
            where=where,
        )


class FolderSpec(_Common, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """source = "folder": a table beside pictures."""

    path: str
    """The folder; variables and ~ are expanded; relative to the workspace."""
    table: str
    """A .csv or .jsonl file in it."""
    columns: Columns = Columns()

    def rows(self, root: Path, where: str) -> list[Row]:
        """The rows of the source, before filters. Raises ProductsError."""
        return read_folder(_expand(self.path, root, where), self.table, self.columns)


class GrocerySpec(_Common, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """source = "grocery": the Grocery Store dataset as published."""

    path: str
    """The folder with classes.csv; variables and ~ are expanded; relative to the workspace."""
    columns: GroceryColumns = GroceryColumns()

    def rows(self, root: Path, where: str) -> list[Row]:
        """The rows of the source, before filters. Raises ProductsError."""
        return read_grocery(_expand(self.path, root, where), self.columns.title)


class HubSpec(_Common, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """source = "hub": a dataset of the Hugging Face hub, or a local folder of one."""

    id: str
    """owner/name, or a folder (variables and ~ are expanded; relative to the workspace)."""
    hub_split: str = "train"
    """The hub's split to take rows from; ours is made by `split`."""
    revision: str | None = None
    """A commit or tag of the hub, for data that cannot move."""
    columns: Columns = Columns()

    def rows(self, root: Path, where: str) -> list[Row]:
        """The rows of the source, before filters. Raises ProductsError."""
        folder = _expand(self.id, root, where)
        local = folder if folder.is_dir() else None
        if local is None and not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", self.id):
            raise ProductsError(
                "there is no such folder", fix="mend `id`: a folder, or owner/name on the hub", where=folder
            )
        return read_hub(self.id, local, self.hub_split, self.revision, self.columns)


Spec = CatalogSpec | FolderSpec | GrocerySpec | HubSpec
_SPECS: dict[str, type[Spec]] = {
    "catalog": CatalogSpec,
    "folder": FolderSpec,
    "grocery": GrocerySpec,
    "hub": HubSpec,
}


def load(name: str, workspace: Workspace | None = None) -> Products:
    """The products of the table [tool.claimbook.products.<name>], whole, or ProductsError.

    "catalog" needs neither a table nor a workspace. workspace: default, the one around the current folder.
    Every picture of the subset is read, decoded and hashed: 6,005 pictures of 224 px take 3 s the first time.
    """
    around = workspace or _around(name)
    tables: dict[str, dict[str, Any]] = {"catalog": {"source": "catalog"}}
    tables |= around.products if around else {}
    if name not in tables:
        raise ProductsError(
            f"there are no products {name!r}{nearest(name, list(tables))}",
            fix=f"write [tool.claimbook.products.{name}], or name one of: {', '.join(tables)}",
            where=around.root / "pyproject.toml" if around else None,
        )
    root = around.root if around else Path.cwd()
    where = f"{root / 'pyproject.toml'}: [tool.claimbook.products.{name}]"
    spec = _read(tables[name], where)
    return _products(name, spec, spec.rows(root, where), _cache(around), where)


def _around(name: str) -> Workspace | None:
    try:
        return workspace.find()
    except WorkspaceError as error:
        # settings that are wrong must be said; only where there are none can the catalog do without
        if name == "catalog" and error.problem.startswith("no pyproject.toml"):
            return None
        raise


def _cache(around: Workspace | None) -> Path:
    if around:
        return around.cache / "products"
    named = os.environ.get("CLAIMBOOK_CACHE")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "claimbook"
    return (Path(named) if named else home) / "products"


def _read(table: dict[str, Any], where: str) -> Spec:
    source = table.get("source")
    if source not in _SPECS:
        raise ProductsError(
            f"source is {source!r}{nearest(str(source), list(_SPECS))}" if source else "there is no source",
            fix=f"write source = one of: {', '.join(_SPECS)}",
            where=where,
        )
    spec = _convert({key: value for key, value in table.items() if key != "source"}, _SPECS[source], where)
    shares = spec.split
    if shares and (
        min(shares.train, shares.val, shares.test) < 0 or abs(sum(_shares(shares).values()) - 1) > 1e-6
    ):
        raise ProductsError("the shares of split do not make 1", fix="write shares from 0 to 1", where=where)
    if shares and not (shares.train and shares.test):
        raise ProductsError("split leaves train or test empty", fix="give both a share above 0", where=where)
    if spec.n is not None and spec.n < 2:
        raise ProductsError(f"n is {spec.n}", fix="ask for 2 pictures or more", where=where)
    return spec


def _convert(table: dict[str, Any], struct: type[_Struct], where: str) -> _Struct:
    _check_keys(table, struct, where, "")
    inner_tables: dict[str, type[msgspec.Struct]] = {"split": Shares, "columns": _columns_of(struct)}
    for field, inner in inner_tables.items():
        if isinstance(table.get(field), dict):
            _check_keys(table[field], inner, where, f"{field}.")
    try:
        return msgspec.convert(table, struct)
    except msgspec.ValidationError as error:
        raise ProductsError(f"{error}", fix="write a value of the kind it names", where=where) from error


def _columns_of(struct: type[msgspec.Struct]) -> type[msgspec.Struct]:
    defaults = {field.name: field.default for field in msgspec.structs.fields(struct)}
    return type(defaults["columns"])


def _check_keys(table: dict[str, Any], struct: type[msgspec.Struct], where: str, prefix: str) -> None:
    known = [field.name for field in msgspec.structs.fields(struct)]
    for key in table.keys() - set(known):
        raise ProductsError(
            f"{prefix}{key} is no setting of this source{nearest(key, known)}",
            fix=f"use {', '.join(prefix + name for name in known)}",
            where=where,
        )


def _expand(path: str, root: Path, where: str) -> Path:
    expanded = os.path.expandvars(path)
    missing = re.search(r"\$(\w+|\{\w+\})", expanded)
    if missing:
        raise ProductsError(
            f"the environment variable {missing[1].strip('{}')} is not set, and {path!r} needs it",
            fix=f"set it: export {missing[1].strip('{}')}=FOLDER",
            where=where,
        )
    return root / Path(expanded).expanduser()


def _products(name: str, spec: Spec, rows: list[Row], cache: Path, where: str) -> Products:
    if spec.where:
        rows = [rows[i] for i in matching(_by_column(rows), dict(spec.where), len(rows), where)]
    nameless = [row for row in rows if not row.title]
    refuse(
        nameless, ["the title is empty"] * 5, "{n} rows without a title", "write one, or leave the row out"
    )
    rows = _subset(spec, rows, where)
    digests, problems = checked_digests([row.picture for row in rows], cache / "whole")
    refuse(
        [rows[i] for i in sorted(problems)],
        [f"{rows[i].item!r}: {problems[i]}" for i in sorted(problems)],
        "{n} pictures cannot be read",
        "put whole pictures there, or take the rows out of the table",
    )
    splits = _splits(spec, rows, digests, where)
    return Products(
        name,
        items=tuple(row.item for row in rows),
        products=tuple(row.product for row in rows),
        titles=tuple(row.title for row in rows),
        splits=tuple(splits),
        attributes={key: tuple(row.attributes[key] for row in rows) for key in rows[0].attributes},
        digests=tuple(digests),
        pictures=tuple(row.picture for row in rows),
        cache=cache,
    )


def _subset(spec: Spec, rows: list[Row], where: str) -> list[Row]:
    if spec.n is None:
        return rows
    if spec.n > len(rows):
        raise ProductsError(
            f"n is {spec.n}, and there are {len(rows)} pictures",
            fix=f"ask for {len(rows)} or fewer",
            where=where,
        )
    strata = _strata(spec, rows, where)
    if _keeps_official(spec, rows):
        # the groups of an official split are its author's business; each split keeps its share
        groups = splitting.make_groups(
            [r.item for r in rows], [f"{r.split}\0{s}" for r, s in zip(rows, strata, strict=True)]
        )
    else:
        groups = splitting.make_groups([r.product for r in rows], strata, *_group_columns(spec, rows, where))
    chosen = splitting.choose(groups, spec.n, spec.seed)
    if not chosen:
        least = min(len(group.rows) for group in groups)
        raise ProductsError(
            f"n is {spec.n}, and the smallest group has {least} pictures",
            fix=f"ask for {least} or more",
            where=where,
        )
    return [rows[i] for i in chosen]


def _splits(spec: Spec, rows: list[Row], digests: Sequence[str], where: str) -> list[str]:
    if _keeps_official(spec, rows):
        splits = [row.split for row in rows]
        _check_official(spec, rows, where)
    else:
        # the same bytes under two ids are one picture: the digest joins like a product does
        groups = splitting.make_groups(
            [r.product for r in rows], _strata(spec, rows, where), *_group_columns(spec, rows, where), digests
        )
        assigned = splitting.assign(
            groups, _shares(spec.split or Shares(train=0.7, val=0.1, test=0.2)), spec.seed
        )
        splits = [assigned[i] for i in range(len(rows))]
    for split in ("train", "test"):
        if split not in splits:
            raise ProductsError(
                f"no picture of the {len(rows)} lies in {split}",
                fix="take more groups (a larger n, a wider filter, a finer group), or give it a larger share",
                where=where,
            )
    return splits


def _keeps_official(spec: Spec, rows: list[Row]) -> bool:
    return spec.split is None and bool(rows[0].split)


def _check_official(spec: Spec, rows: list[Row], where: str) -> None:
    if isinstance(spec, GrocerySpec):
        if spec.group is not None:
            raise ProductsError(
                "group has no say in the official split, which has every class in train and test",
                fix="take `group` out, or give `split = {…}` to hold out whole classes",
                where=where,
            )
        return
    groups = splitting.make_groups(
        [r.product for r in rows], [""] * len(rows), *_group_columns(spec, rows, where)
    )
    for group in groups:
        first = rows[group.rows[0]]
        for row in (rows[i] for i in group.rows):
            if row.split != first.split:
                raise ProductsError(
                    f"{row.item!r} in {row.split} goes with {first.item!r} in {first.split}, {first.place}",
                    fix="mend the split column, or take columns.split out and give `split = {…}`",
                    where=row.place,
                )


def _group_columns(spec: Spec, rows: list[Row], where: str) -> list[list[str]]:
    if spec.group in (None, "product"):
        return []
    if spec.group == "title":
        return [[splitting.normal_title(row.title) for row in rows]]
    return [_column(rows, str(spec.group), "group", where)]


def _strata(spec: Spec, rows: list[Row], where: str) -> list[str]:
    return [""] * len(rows) if spec.stratify is None else _column(rows, spec.stratify, "stratify", where)


def _column(rows: list[Row], name: str, field: str, where: str) -> list[str]:
    columns = _by_column(rows)
    if name not in columns:
        raise ProductsError(
            f"{field} names {name!r}, and there is no such column{nearest(name, list(columns))}",
            fix=f"name one of: {', '.join(columns)}",
            where=where,
        )
    return list(columns[name])


def _by_column(rows: list[Row]) -> dict[str, Sequence[str]]:
    own = {field: [getattr(row, field) for row in rows] for field in ("item", "product", "title")}
    if rows[0].split:
        own["split"] = [row.split for row in rows]
    return {**{name: [row.attributes[name] for row in rows] for name in rows[0].attributes}, **own}


def _shares(shares: Shares) -> dict[str, float]:
    return {split: getattr(shares, split) for split in SPLITS}
