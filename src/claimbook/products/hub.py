"""A dataset of the Hugging Face hub, or a folder of one. Knows the `datasets` library only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claimbook.errors import ProductsError
from claimbook.products.pictures import EncodedPicture, UnreadablePictureError
from claimbook.products.rows import Columns, Row, Table, cell, make_rows
from claimbook.workspace import nearest


@dataclass(frozen=True, slots=True, eq=False)
class _HubPicture(EncodedPicture):
    pictures: Any
    """A dataset with the image column alone, undecoded: {"bytes": …, "path": …} a row."""
    row: int

    def read(self) -> bytes:
        (value,) = self.pictures[self.row].values()
        if value is None:
            raise UnreadablePictureError("the row has no picture")
        if value["bytes"] is not None:
            return bytes(value["bytes"])
        try:
            return Path(value["path"]).read_bytes()
        except OSError as error:
            raise UnreadablePictureError(f"{value['path']}: {error.strerror or error}") from error


def read_hub(
    id: str, folder: Path | None, hub_split: str, revision: str | None, columns: Columns
) -> list[Row]:
    """The rows of one split of a dataset; pictures are undecoded yet.

    folder: where the dataset lies when it is a local one (saved with `save_to_disk`, an imagefolder, parquet
    files), else None and `id` is fetched. Raises ProductsError, also without network or without `datasets`.
    """
    dataset = _dataset(id, folder, hub_split, revision)
    return make_rows(
        _table(dataset, columns, id),
        columns,
        id,
        default_item=str,
        picture=_pictures(dataset, columns.image, id),
    )


def _dataset(id: str, folder: Path | None, hub_split: str, revision: str | None) -> Any:
    try:
        import datasets
    except ImportError:
        raise ProductsError(
            "the `datasets` library is not installed", fix='run `pip install "claimbook[hub]"`', where=id
        ) from None
    try:
        if folder is not None and _is_saved(folder):
            return _one_split(datasets.load_from_disk(str(folder)), hub_split, id)
        if folder is not None:
            return datasets.load_dataset(str(folder), split=hub_split)
        with _offline_when_unreachable():
            return datasets.load_dataset(id, split=hub_split, revision=revision)
    except ProductsError:
        raise
    except Exception as error:  # the library raises some forty kinds, from six packages
        raise ProductsError(
            f"the dataset cannot be loaded: {(str(error) or repr(error)).strip().splitlines()[0][:200]}",
            fix="check id, hub_split and the network; offline, set HF_HOME to a cache that has it, "
            "or let `id` be a folder written with Dataset.save_to_disk",
            where=id,
        ) from error


@contextmanager
def _offline_when_unreachable() -> Iterator[None]:
    """Let the libraries use their cache at once; of themselves they try an unreachable hub again for 24 s."""
    import datasets
    import huggingface_hub

    switches = [huggingface_hub.constants, datasets.config]
    before = [module.HF_HUB_OFFLINE for module in switches]
    try:
        huggingface_hub.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=5)
    except Exception:  # whichever client the installed version brings, it means: not reachable
        for module in switches:
            module.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for module, value in zip(switches, before, strict=True):
            module.HF_HUB_OFFLINE = value


def _one_split(saved: Any, hub_split: str, id: str) -> Any:
    if not isinstance(saved, dict):  # a Dataset of its own; a DatasetDict is a dict of them
        return saved
    if hub_split not in saved:
        known = sorted(map(str, saved))
        raise ProductsError(
            f"there is no split {hub_split!r}{nearest(hub_split, known)}",
            fix=f"set hub_split to one of: {', '.join(known)}",
            where=id,
        )
    return saved[hub_split]


def _is_saved(folder: Path) -> bool:
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def _table(dataset: Any, columns: Columns, id: str) -> Table:
    text = dataset.remove_columns([columns.image]) if columns.image in dataset.column_names else dataset
    labels = {name: f.int2str for name, f in text.features.items() if hasattr(f, "int2str")}
    cells = [
        {
            name: cell(labels[name](value) if name in labels and value is not None else value)
            for name, value in row.items()
        }
        for row in text
    ]
    names = tuple(text.column_names)
    return Table(names, cells or [], [f"{id}: row {i}" for i in range(len(dataset))])


def _pictures(dataset: Any, column: str, id: str) -> Any:
    import datasets

    if column not in dataset.column_names or not isinstance(dataset.features[column], datasets.Image):
        images = [name for name, f in dataset.features.items() if isinstance(f, datasets.Image)]
        raise ProductsError(
            f"columns.image names {column!r}, which is no image column{nearest(column, images)}",
            fix=f"name one of: {', '.join(images) or 'there is none'}",
            where=id,
        )
    undecoded = dataset.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    return lambda i: _HubPicture(undecoded, i)
