from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from claimbook.errors import ProductsError
from claimbook.products import load
from claimbook.workspace import Workspace

Make = Callable[..., Workspace]
datasets = pytest.importorskip("datasets", reason="the extra claimbook[hub] is not installed")


@pytest.fixture
def dataset() -> Any:
    features = {
        "name": datasets.Value("string"),
        "image": datasets.Image(),
        "year": datasets.Value("int64"),
        "kind": datasets.ClassLabel(names=["cap", "mug"]),
    }
    columns = {
        "name": [f"title {i}" for i in range(20)],
        "image": [Image.new("RGB", (12, 8), (i, 0, 90)) for i in range(20)],
        "year": [*range(19), None],
        "kind": [i % 2 for i in range(20)],
    }
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


@pytest.fixture
def saved(dataset: Any, tmp_path: Path, make_workspace: Make) -> Workspace:
    dataset.save_to_disk(tmp_path / "saved")
    return make_workspace("hub", 'source = "hub"', 'id = "saved"', 'columns = { title = "name" }')


def test_a_dataset_saved_to_disk_is_read_whole(saved: Workspace) -> None:
    data = load("hub", workspace=saved)
    assert data.items == tuple(str(i) for i in range(20))
    assert data.attributes == {"year": (*map(str, range(19)), ""), "kind": ("cap", "mug") * 10}
    assert data.picture(7).size == (12, 8)
    assert data.picture(7).getpixel((0, 0)) == (7, 0, 90)


def test_parquet_files_say_the_same(
    saved: Workspace, dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hf"))
    (tmp_path / "parquet").mkdir()
    dataset.to_parquet(tmp_path / "parquet" / "train.parquet")
    from_disk = load("hub", workspace=saved)
    saved.products["hub"]["id"] = "parquet"
    assert load("hub", workspace=saved).fingerprint == from_disk.fingerprint


def test_a_split_of_a_saved_dictionary_is_chosen_by_name(
    saved: Workspace, dataset: Any, tmp_path: Path
) -> None:
    datasets.DatasetDict({"train": dataset, "extra": dataset.select(range(10))}).save_to_disk(
        tmp_path / "both"
    )
    saved.products["hub"] |= {"id": "both", "hub_split": "extra"}
    assert len(load("hub", workspace=saved)) == 10
    saved.products["hub"]["hub_split"] = "extras"
    with pytest.raises(ProductsError, match=r"no split 'extras', did you mean 'extra'\?"):
        load("hub", workspace=saved)


def test_a_row_without_a_picture_is_named(dataset: Any, tmp_path: Path, make_workspace: Make) -> None:
    rows = dataset.map(lambda row, i: {"image": None if i == 4 else row["image"]}, with_indices=True)
    rows.save_to_disk(tmp_path / "holes")
    workspace = make_workspace("hub", 'source = "hub"', 'id = "holes"', 'columns = { title = "name" }')
    with pytest.raises(ProductsError, match="holes: row 4"):
        load("hub", workspace=workspace)


def test_a_wrong_image_column_is_answered_with_the_right_one(saved: Workspace) -> None:
    saved.products["hub"]["columns"] = {"title": "name", "image": "name"}
    with pytest.raises(ProductsError, match="name one of: image"):
        load("hub", workspace=saved)


def test_without_the_datasets_library_it_says_how_to_install_it(
    saved: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ProductsError, match=r'pip install "claimbook\[hub\]"'):
        load("hub", workspace=saved)


def test_without_network_it_fails_within_seconds_and_says_what_to_do(
    make_workspace: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    # an address that nothing answers, so that the test is the same on a machine with a network
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    workspace = make_workspace("hub", 'source = "hub"', 'id = "claimbook/no-such-dataset"')
    before = huggingface_hub.constants.HF_HUB_OFFLINE
    start = time.monotonic()
    with pytest.raises(ProductsError, match="HF_HOME"):
        load("hub", workspace=workspace)
    assert time.monotonic() - start < 10
    assert before == huggingface_hub.constants.HF_HUB_OFFLINE
