from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from claimbook.errors import ProductsError
from claimbook.products import Products, load
from claimbook.products.pictures import square
from claimbook.workspace import Workspace, find

Shop = Callable[..., Workspace]


def rows_of(n: int = 12) -> list[dict[str, str]]:
    return [{"kind": "mug" if i % 3 else "cap", "colour": "red" if i < 6 else "blue"} for i in range(n)]


@pytest.fixture
def data(shop: Shop) -> Products:
    return load(
        "shop", workspace=shop(rows_of(), 'columns = { item = "id" }', "split = { train = 0.5, test = 0.5 }")
    )


def test_where_keeps_the_rows_that_match_every_column(data: Products) -> None:
    assert data.where(kind="cap", colour=["red", "blue"]).items == ("i0", "i3", "i6", "i9")
    assert data.where(kind="cap", colour="red").items == ("i0", "i3")
    assert data.where(item=["i2"]).titles == ("title 2",)


def test_where_answers_an_unknown_column_or_value_with_the_nearest(data: Products) -> None:
    with pytest.raises(ProductsError, match=r"'color', did you mean 'colour'\?"):
        data.where(color="red")
    with pytest.raises(ProductsError, match=r"no row has kind 'mugs', did you mean 'mug'\?"):
        data.where(kind=["cap", "mugs"])
    with pytest.raises(ProductsError, match="no row has all of item, kind"):
        data.where(item="i0", kind="mug")


def test_the_splits_share_out_all_rows(data: Products) -> None:
    assert len(data.val) == 0
    assert sorted(data.train.items + data.test.items) == sorted(data.items)
    assert set(data.train.splits) == {"train"}
    assert len({data.fingerprint, data.train.fingerprint, data.test.fingerprint, data.val.fingerprint}) == 4


def test_an_empty_test_split_is_never_handed_out(data: Products) -> None:
    with pytest.raises(ProductsError, match="none of its 6 pictures lies in test"):
        _ = data.train.test


def test_the_first_picture_of_each_product_comes_in_row_order(shop: Shop) -> None:
    rows = [{"sku": sku} for sku in "aabbbcddef"]
    data = load("shop", workspace=shop(rows, 'columns = { item = "id", product = "sku" }'))
    assert data.first_picture_per_product().items == ("i0", "i2", "i5", "i6", "i8", "i9")


def test_a_fingerprint_stays_when_the_folder_moves(shop: Shop, tmp_path: Path) -> None:
    before = load("shop", workspace=shop(rows_of())).fingerprint
    (tmp_path / "shop").rename(tmp_path / "moved")
    workspace = find(tmp_path)
    workspace.products["shop"]["path"] = "moved"
    assert load("shop", workspace=workspace).fingerprint == before


def test_a_fingerprint_changes_with_a_pixel_a_title_an_attribute_or_a_split(
    shop: Shop, tmp_path: Path
) -> None:
    seen = {load("shop", workspace=shop(rows_of())).fingerprint}
    image = Image.open(tmp_path / "shop" / "images" / "3.png")
    image.putpixel((5, 5), (1, 2, 3))
    image.save(tmp_path / "shop" / "images" / "3.png")
    seen.add(load("shop", workspace=find(tmp_path)).fingerprint)
    for row in ({"title": "another"}, {"colour": "green"}, {"id": "another"}):
        seen.add(load("shop", workspace=shop([{**rows_of()[0], **row}, *rows_of()[1:]])).fingerprint)
    seen.add(load("shop", workspace=shop(rows_of(), "seed = 1")).fingerprint)
    assert len(seen) == 6


def test_a_square_shows_the_whole_picture_undistorted_on_white() -> None:
    wide = square(Image.new("RGB", (40, 20), (200, 0, 0)), 10)
    pixels = np.asarray(wide)
    # 40 × 20 becomes 10 × 5, from row (10 − 5) // 2 = 2 to 6
    assert (pixels[2:7] == (200, 0, 0)).all()
    assert (np.delete(pixels, slice(2, 7), axis=0) == 255).all()


def test_pixels_are_cached_and_equal_fresh_ones(data: Products) -> None:
    first, again = data.pixels(16), data.pixels(16)
    fresh = np.stack([np.asarray(square(data.picture(i), 16)) for i in range(len(data))])
    assert first.shape == (12, 16, 16, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, fresh)
    assert np.array_equal(again, fresh)
    assert isinstance(again, np.memmap)
    assert not again.flags.writeable
    assert len(list((data.cache / "pixels").iterdir())) == 1


def test_a_cache_file_that_is_not_whole_is_made_again(data: Products) -> None:
    whole = data.pixels(8).copy()
    (path,) = (data.cache / "pixels").iterdir()
    path.write_bytes(path.read_bytes()[:200])
    assert np.array_equal(data.pixels(8), whole)


def test_two_processes_can_fill_the_cache_at_once(make_workspace: Shop) -> None:
    workspace = make_workspace("catalog", 'source = "catalog"', "n_products = 30", "size = 32")
    code = "from claimbook.products import load; print(int(load('catalog').pixels(24).sum(dtype='int64')))"
    environment = {**os.environ, "CLAIMBOOK_ROOT": str(workspace.root)}
    fillers = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    sums = [int(filler.communicate(timeout=60)[0]) for filler in fillers]
    data = load("catalog", workspace=workspace)
    fresh = sum(int(np.asarray(square(data.picture(i), 24)).sum()) for i in range(len(data)))
    assert sums == [fresh, fresh]
    assert [path.suffix for path in (data.cache / "pixels").iterdir()] == [".npy"]


def test_a_cache_that_cannot_be_written_is_said(data: Products) -> None:
    data.cache.mkdir(parents=True, exist_ok=True)
    (data.cache / "pixels").write_text("a file where a folder should be")
    with pytest.raises(ProductsError, match="set CLAIMBOOK_CACHE"):
        data.pixels(8)
