from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from claimbook.errors import ProductsError
from claimbook.products import load
from claimbook.workspace import Workspace

Make = Callable[..., Workspace]
HEADER = "Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int),Iconic,Description"


@pytest.fixture
def small_store(tmp_path: Path, make_workspace: Make) -> Workspace:
    """Six classes, two photos of each in train and one in test."""
    store = tmp_path / "store"
    classes = [f"Big-Apple-{c},{c},Apple,0,/i.jpg,/about/{c}.txt" for c in range(6)]
    photos = {
        "train": [(c, k) for c in range(6) for k in range(2)],
        "val": [],
        "test": [(c, 9) for c in range(6)],
    }
    (store / "about").mkdir(parents=True)
    (store / "classes.csv").write_text("\n".join([HEADER, *classes]))
    for c in range(6):
        (store / "about" / f"{c}.txt").write_text(f"A crisp apple,\nsort {c}.\n")
    for split, entries in photos.items():
        (store / split).mkdir()
        (store / f"{split}.txt").write_text("".join(f"{split}/{c}_{k}.png, {c}, 0\n" for c, k in entries))
        for c, k in entries:
            Image.new("RGB", (9, 9), (c * 9, k * 9, 5)).save(store / split / f"{c}_{k}.png")
    return make_workspace("store", 'source = "grocery"', 'path = "store"')


def test_the_class_is_the_product_and_the_official_split_is_kept(small_store: Workspace) -> None:
    data = load("store", workspace=small_store)
    assert (len(data.train), len(data.val), len(data.test)) == (12, 0, 6)
    assert data.items[0] == "train/0_0.png"
    assert data.products[0] == "Big-Apple-0"
    assert data.titles[0] == "Big Apple 0"
    assert data.attributes == {"kind": data.titles, "coarse": ("Apple",) * 18}


def test_the_description_can_be_the_title(small_store: Workspace) -> None:
    small_store.products["store"]["columns"] = {"title": "description"}
    assert load("store", workspace=small_store).titles[0] == "A crisp apple, sort 0."


def test_a_split_of_ones_own_holds_out_whole_classes(small_store: Workspace) -> None:
    small_store.products["store"]["split"] = {"train": 0.5, "test": 0.5}
    data = load("store", workspace=small_store)
    assert not set(data.train.products) & set(data.test.products)
    assert len(data.train) == 9


def test_a_subset_keeps_the_shares_of_the_official_split(small_store: Workspace) -> None:
    small_store.products["store"]["n"] = 9
    data = load("store", workspace=small_store)
    assert (len(data.train), len(data.test)) == (6, 3)


def test_group_beside_the_official_split_is_refused(small_store: Workspace) -> None:
    small_store.products["store"]["group"] = "product"
    with pytest.raises(ProductsError, match="group has no say in the official split"):
        load("store", workspace=small_store)


def test_a_photo_of_an_unknown_class_is_named_by_its_line(small_store: Workspace) -> None:
    path = small_store.root / "store" / "train.txt"
    path.write_text(path.read_text() + "train/x.png, 77, 0\n")
    with pytest.raises(ProductsError, match=r"train\.txt:13: .* no photo of a known class"):
        load("store", workspace=small_store)


def test_the_real_dataset_has_its_published_numbers(real_data: Path, make_workspace: Make) -> None:
    settings = ('source = "grocery"', 'path = "$CLAIMBOOK_TEST_DATA/grocery-store/dataset"')
    data = load("grocery", workspace=make_workspace("grocery", *settings))
    assert (len(data.train), len(data.val), len(data.test)) == (2640, 296, 2485)
    assert len(set(data.products)) == 81
    assert len(set(data.attributes["coarse"])) == 43
    assert str(real_data) not in repr(data.items[:1] + data.titles[:1])
