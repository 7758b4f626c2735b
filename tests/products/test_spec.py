from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from claimbook.errors import ProductsError, WorkspaceError
from claimbook.products import load
from claimbook.workspace import Workspace

Make = Callable[..., Workspace]
TWENTY = [{"kind": "mug" if i % 4 else "cap", "title": f"mug {i // 2}"} for i in range(20)]


def test_the_catalog_needs_no_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = load("catalog")
    assert len(data) == 2000
    assert data.cache == tmp_path / "cache" / "claimbook" / "products"


def test_settings_that_are_wrong_are_said_even_for_the_catalog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[tool.claimbook]\nlanguage = 'xx'\n")
    with pytest.raises(WorkspaceError, match="language"):
        load("catalog")


def test_a_name_without_a_table_is_answered_with_the_nearest(make_workspace: Make) -> None:
    workspace = make_workspace("fashion", 'source = "catalog"')
    with pytest.raises(ProductsError, match="'fashoin', did you mean 'fashion'"):
        load("fashoin", workspace=workspace)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('source = "catalogue"', "did you mean 'catalog'?"),
        (
            'source = "catalog"\nn_product = 3',
            "n_product is no setting of this source, did you mean 'n_products'?",
        ),
        ('source = "catalog"\nn = "many"', "Expected `int | null`, got `str` - at `$.n`"),
        ('source = "catalog"\nn = 5000', "n is 5000, and there are 2000 pictures"),
        ('source = "catalog"\nn = 1', "n is 1"),
        ('source = "catalog"\nn_products = 0', "n_products is 0"),
        ('source = "catalog"\nkinds = ["mugg"]', "did you mean 'mug'?"),
        ('source = "catalog"\ncolumns = { title = "title_kr" }', "did you mean 'title_ko'?"),
        ('source = "catalog"\nsplit = { train = 0.5, test = 0.4 }', "do not make 1"),
        ('source = "catalog"\nsplit = { train = 1.0, test = 0.0 }', "leaves train or test empty"),
        ('source = "catalog"\nsplit = { train = 0.8, tset = 0.2 }', "did you mean 'test'?"),
        ('source = "catalog"\nstratify = "color"', "stratify names 'color'"),
        ('source = "catalog"\ngroup = "logos"', "did you mean 'logo'?"),
        ('source = "catalog"\nwhere = { kind = "mugs" }', "did you mean 'mug'?"),
        (
            'source = "catalog"\ngroup = "material"\nkinds = ["mug"]\nwhere = { material = "matte" }',
            "lies in test",
        ),
        ('source = "folder"\npath = "nowhere"\ntable = "items.csv"', "there is no such folder"),
        ('source = "grocery"\npath = "nowhere"', "there is no such folder"),
        ('source = "folder"\ntable = "items.csv"', "path"),
        ('source = "hub"\nid = "./nowhere"', "there is no such folder"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(make_workspace: Make, line: str, says: str) -> None:
    with pytest.raises(ProductsError) as caught:
        load("shop", workspace=make_workspace("shop", line))
    assert says in str(caught.value)


def test_a_variable_that_is_not_set_is_named_and_no_value_is_shown(
    make_workspace: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SHOP_DATA", raising=False)
    workspace = make_workspace("shop", 'source = "folder"', 'path = "${SHOP_DATA}/x"', 'table = "items.csv"')
    with pytest.raises(ProductsError, match="the environment variable SHOP_DATA is not set"):
        load("shop", workspace=workspace)


def test_filter_subset_and_split_come_in_this_order(shop: Make) -> None:
    settings = (
        "where = { kind = 'mug' }",
        "n = 10",
        "group = 'title'",
        "split = { train = 0.5, test = 0.5 }",
    )
    data = load("shop", workspace=shop(TWENTY, *settings))
    assert len(data) == 10
    assert set(data.attributes["kind"]) == {"mug"}
    assert not set(data.train.titles) & set(data.test.titles)
    assert abs(len(data.train) - 5) <= 1  # groups of two


def test_one_picture_under_two_ids_lies_in_one_split(shop: Make, tmp_path: Path) -> None:
    workspace = shop([{} for _ in range(40)], "split = { train = 0.5, test = 0.5 }")
    images = tmp_path / "shop" / "images"
    for i in range(0, 40, 2):
        (images / f"{i}.png").write_bytes((images / f"{i + 1}.png").read_bytes())
    data = load("shop", workspace=workspace)
    assert not set(data.train.digests) & set(data.test.digests)
    assert len(data.train) == 20


def test_a_title_that_stands_on_two_products_joins_them(shop: Make) -> None:
    # a chain: product i has titles i and i + 1, so that all hang together and nothing is left for test
    rows = [{"sku": f"s{i // 2}", "title": f"t{(i + 1) // 2}"} for i in range(12)]
    workspace = shop(rows, 'columns = { item = "id", product = "sku" }', 'group = "title"')
    with pytest.raises(ProductsError, match="no picture of the 12 lies in test"):
        load("shop", workspace=workspace)
