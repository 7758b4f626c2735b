from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from claimbook.errors import ProductsError
from claimbook.products import load
from claimbook.workspace import Workspace

Shop = Callable[..., Workspace]
TEN: list[dict[str, Any]] = [{"kind": "mug" if i % 2 else "cap"} for i in range(10)]


def change_line(workspace: Workspace, number: int, text: str) -> None:
    path = workspace.root / "shop" / "items.jsonl"
    lines = path.read_text("utf-8").splitlines()
    lines[number - 1] = text
    path.write_text("\n".join(lines) + "\n", "utf-8")


def refused(workspace: Workspace) -> ProductsError:
    with pytest.raises(ProductsError) as caught:
        load("shop", workspace=workspace)
    return caught.value


def test_rows_keep_their_order_and_every_further_column_is_an_attribute(shop: Shop) -> None:
    data = load("shop", workspace=shop([*TEN, {"kind": None, "year": 2011}]))
    assert data.items == tuple(f"i{i}" for i in range(11))
    assert data.products == data.items
    assert data.titles[3] == "title 3"
    assert data.attributes["kind"] == ("cap", "mug") * 5 + ("",)
    assert data.attributes["year"] == ("",) * 10 + ("2011",)


def test_a_csv_table_says_the_same_as_json_lines(shop: Shop) -> None:
    workspace = shop(TEN)
    as_json = load("shop", workspace=workspace)
    lines = ["id,image,title,kind"] + [
        f'i{i},images/{i}.png,"title {i}",{row["kind"]}' for i, row in enumerate(TEN)
    ]
    (workspace.root / "shop" / "items.csv").write_text("\r\n".join(lines), "utf-8-sig")
    workspace.products["shop"]["table"] = "items.csv"
    assert load("shop", workspace=workspace).fingerprint == as_json.fingerprint


def test_without_an_item_column_the_path_is_the_id(shop: Shop) -> None:
    data = load("shop", workspace=shop(TEN, "columns = { title = 'title' }"))
    assert data.items[1] == "images/1.png"
    assert data.attributes["id"][1] == "i1"


def test_a_table_column_with_one_of_our_names_is_kept_under_another(shop: Shop) -> None:
    rows = [{"title": f"old {i}", "title_ko": f"머그컵 {i}"} for i in range(10)]
    data = load("shop", workspace=shop(rows, 'columns = { item = "id", title = "title_ko" }'))
    assert data.titles[0] == "머그컵 0"
    assert data.attributes["source_title"][0] == "old 0"


@pytest.mark.parametrize(
    ("number", "text", "says"),
    [
        (3, '{"id": "i2", "image": ', "items.jsonl:3: no JSON"),
        (4, "[1, 2]", "items.jsonl:4: no JSON object"),
        (5, json.dumps({"id": "i1", "image": "images/4.png", "title": "t"}), "items.jsonl:2"),
        (6, json.dumps({"id": "i5", "image": "images/5.png", "title": "  "}), "the title is empty"),
        (7, json.dumps({"id": "", "image": "images/6.png", "title": "t"}), "the id is empty"),
        (8, json.dumps({"id": "i7", "image": "images/none.png", "title": "t"}), "there is no such file"),
        (9, json.dumps({"id": "i8", "title": "t"}), "names no picture"),
    ],
)
def test_a_row_that_is_not_whole_is_named_with_file_and_line(
    shop: Shop, number: int, text: str, says: str
) -> None:
    workspace = shop(TEN)
    change_line(workspace, number, text)
    error = refused(workspace)
    assert f"items.jsonl:{number}" in str(error)
    assert says in str(error)


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_a_picture_that_does_not_decode_is_named_by_its_row(shop: Shop, damage: str) -> None:
    workspace = shop(TEN)
    path = workspace.root / "shop" / "images" / "4.png"
    Image.effect_noise((64, 64), 80).save(path)
    whole = path.read_bytes()
    path.write_bytes({"truncated": whole[: len(whole) // 2], "text": b"no picture", "empty": b""}[damage])
    error = refused(workspace)
    assert "items.jsonl:5" in str(error)
    assert "'i4'" in str(error)


def test_a_picture_damaged_after_a_good_load_is_found(shop: Shop) -> None:
    workspace = shop(TEN)
    data = load("shop", workspace=workspace)
    (workspace.root / "shop" / "images" / "4.png").write_bytes(b"no picture")
    assert "items.jsonl:5" in str(refused(workspace))
    with pytest.raises(ProductsError, match="has changed since it was loaded"):
        data.picture(4)


def test_the_first_five_of_many_are_named_and_all_are_counted(shop: Shop) -> None:
    workspace = shop(TEN)
    for i in range(2, 10):
        (workspace.root / "shop" / "images" / f"{i}.png").unlink()
    message = str(refused(workspace))
    assert "8 pictures cannot be read" in message
    assert message.count("there is no such file") == 5
    assert "and 3 more" in message


def test_a_csv_row_with_a_cell_too_many_is_named_by_its_line(shop: Shop) -> None:
    workspace = shop(TEN)
    text = 'id,image,title\na,images/0.png,"two\nlines"\nb,images/1.png,mug, red\n'
    (workspace.root / "shop" / "items.csv").write_text(text, "utf-8")
    workspace.products["shop"]["table"] = "items.csv"
    assert "items.csv:4: 4 cells where the header has 3" in str(refused(workspace))


def test_a_wrong_column_name_is_answered_with_the_nearest(shop: Shop) -> None:
    message = str(refused(shop(TEN, 'columns = { item = "id", title = "titel" }')))
    assert "columns.title names 'titel'" in message
    assert "did you mean 'title'?" in message
    assert "name one of: id, image, title, kind" in message


def test_an_official_split_is_kept(shop: Shop) -> None:
    rows = [{"part": ("train", "val", "test")[i % 3]} for i in range(9)]
    data = load("shop", workspace=shop(rows, 'columns = { item = "id", split = "part" }'))
    assert data.splits == ("train", "val", "test") * 3


def test_an_official_split_that_tears_a_product_apart_is_refused(shop: Shop) -> None:
    rows = [{"part": "train" if i < 6 else "test", "sku": "s" if i in (1, 7) else f"s{i}"} for i in range(9)]
    error = refused(shop(rows, 'columns = { item = "id", split = "part", product = "sku" }'))
    assert "items.jsonl:8: 'i7' in test goes with 'i1' in train" in str(error)


def test_an_unknown_word_in_the_split_column_is_refused(shop: Shop) -> None:
    rows = [{"part": "train" if i else "tain"} for i in range(9)]
    error = refused(shop(rows, 'columns = { item = "id", split = "part" }'))
    assert "items.jsonl:1" in str(error)
    assert "did you mean 'train'?" in str(error)


def test_transparency_becomes_white_and_a_camera_turn_is_undone(shop: Shop) -> None:
    workspace = shop(TEN)
    images = workspace.root / "shop" / "images"
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(images / "0.png")
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held upright: show it turned by 90 degrees
    Image.new("RGB", (12, 8)).save(images / "1.png", exif=turned)
    data = load("shop", workspace=workspace)
    assert data.picture(0).getpixel((1, 1)) == (255, 255, 255)
    assert data.picture(1).size == (8, 12)


def test_real_products_are_split_by_title_without_leakage(real_data: Path, make_workspace: Shop) -> None:
    workspace = make_workspace(
        "fashion",
        'source = "folder"',
        'path = "$CLAIMBOOK_TEST_DATA/fashion-products"',
        'table = "items.jsonl"',
        'columns = { item = "id", image = "image", title = "productDisplayName" }',
        'where = { masterCategory = ["Apparel", "Footwear"] }',
        "n = 2400",
        'stratify = "articleType"',
        'group = "title"',
        "split = { train = 0.8, val = 0.0, test = 0.2 }",
    )
    data = load("fashion", workspace=workspace)
    assert len(data) == 2400
    assert len(data.val) == 0
    assert abs(len(data.test) - 480) < 25
    normal = [
        {" ".join(title.casefold().split()) for title in part.titles} for part in (data.train, data.test)
    ]
    assert not normal[0] & normal[1]
    shirts = [
        part.attributes["articleType"].count("Tshirts") / len(part) for part in (data, data.train, data.test)
    ]
    assert max(shirts) - min(shirts) < 0.02
