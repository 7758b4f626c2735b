from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from claimbook.errors import ProductsError
from claimbook.products import Products, load
from claimbook.products.drawing import COLOURS, SHAPES
from claimbook.workspace import Workspace

Make = Callable[..., Workspace]


@pytest.fixture
def catalog(make_workspace: Make) -> Products:
    return load("catalog", workspace=make_workspace("other", 'source = "catalog"'))


def test_every_product_has_its_own_attributes_and_its_own_titles(catalog: Products) -> None:
    first = catalog.first_picture_per_product()
    columns = [
        first.attributes[name] for name in ("kind", "colour", "pattern", "material", "print_size", "logo")
    ]
    assert len(first) == len(set(zip(*columns, strict=True))) == 1000
    assert len(set(first.titles)) == len(set(first.attributes["title_ko"])) == 1000


def test_two_views_of_a_product_have_one_title_and_two_pictures(catalog: Products) -> None:
    assert catalog.attributes["view"] == ("0", "1") * 1000
    assert catalog.titles[0::2] == catalog.titles[1::2]
    assert catalog.attributes["title_ko"][0::2] == catalog.attributes["title_ko"][1::2]
    assert len(set(catalog.digests)) == 2000
    assert not np.array_equal(catalog.picture(0), catalog.picture(1))


@pytest.mark.parametrize(("column", "n"), [("kind", 16), ("colour", 12), ("pattern", 7)])
def test_kinds_colours_and_patterns_are_balanced(catalog: Products, column: str, n: int) -> None:
    counts = Counter(catalog.first_picture_per_product().attributes[column])
    assert len(counts) == n
    assert max(counts.values()) - min(counts.values()) <= 3
    assert abs(sum(map(bool, catalog.attributes["logo"])) / 2000 - 0.5) < 0.1


def test_a_title_says_what_the_attributes_say(catalog: Products) -> None:
    for i, title in enumerate(catalog.titles):
        attributes = {name: column[i] for name, column in catalog.attributes.items()}
        assert attributes["colour"] in title.lower()
        assert attributes["material"] in title.lower()
        assert attributes["logo"] in title
        assert attributes["logo"] in attributes["title_ko"]
        assert "  " not in title + attributes["title_ko"]


def test_korean_titles_can_be_the_titles(catalog: Products, make_workspace: Make) -> None:
    settings = ('source = "catalog"', 'columns = { title = "title_ko" }')
    korean = load("ko", workspace=make_workspace("ko", *settings))
    assert korean.titles == catalog.attributes["title_ko"]
    assert korean.attributes["title_en"] == catalog.titles
    assert korean.splits == catalog.splits


def test_a_larger_catalog_begins_with_the_smaller_one(catalog: Products, make_workspace: Make) -> None:
    small = load("small", workspace=make_workspace("small", 'source = "catalog"', "n_products = 50"))
    assert small.items == catalog.items[:100]
    assert small.titles == catalog.titles[:100]
    assert small.digests == catalog.digests[:100]


def test_all_that_can_be_made_of_one_cell_is_made_once(make_workspace: Make) -> None:
    # mugs: 2 materials × (plain + 2 sizes × 8 logos) = 34 when solid, of one colour
    cell = ('source = "catalog"', 'kinds = ["mug"]', 'colours = ["red"]', 'patterns = ["solid"]', "views = 1")
    assert len(load("all", workspace=make_workspace("all", *cell, "n_products = 34"))) == 34
    with pytest.raises(ProductsError, match="34 different ones can be drawn"):
        load("more", workspace=make_workspace("more", *cell, "n_products = 35"))


def test_another_process_draws_the_same(catalog: Products, make_workspace: Make) -> None:
    workspace = make_workspace("catalog", 'source = "catalog"', "n_products = 20")
    code = (
        "from claimbook.products import load; d = load('catalog'); import hashlib; "
        "print(d.fingerprint, hashlib.sha256(d.picture(3).tobytes()).hexdigest())"
    )
    said = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "CLAIMBOOK_ROOT": str(workspace.root)}
        run = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        said.add(run.stdout)
    assert len(said) == 1
    assert load("catalog", workspace=workspace).fingerprint in said.pop()


@pytest.mark.parametrize("kind", SHAPES)
def test_every_silhouette_stays_in_the_studio_and_shows_its_colour(make_workspace: Make, kind: str) -> None:
    settings = (
        'source = "catalog"',
        f'kinds = ["{kind}"]',
        'patterns = ["solid"]',
        "n_products = 12",
        "views = 1",
    )
    data = load("one", workspace=make_workspace("one", *settings))
    assert Counter(data.attributes["colour"]) == Counter(list(COLOURS))
    pixels = data.pixels(64).astype(int)
    red = pixels[data.attributes["colour"].index("red")]
    is_red = (red[..., 0] > red[..., 1] + 60) & (red[..., 0] > red[..., 2] + 60)
    assert 0.1 < is_red.mean() < 0.7
    border = np.concatenate([is_red[0], is_red[-1], is_red[:, 0], is_red[:, -1]])
    assert not border.any()


def test_the_size_of_a_picture_can_be_chosen(make_workspace: Make) -> None:
    settings = ('source = "catalog"', "n_products = 5", "size = 224")
    data = load("big", workspace=make_workspace("big", *settings))
    assert data.picture(0).size == (224, 224)


def test_importing_products_brings_no_heavy_library() -> None:
    code = "import sys, claimbook.products; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "pandas", "datasets", "scipy", "matplotlib", "transformers", "pyarrow"}
    assert not heavy & set(run.stdout.split())
