"""What of a workspace travels with a run, and how a difference on arrival shows."""

from __future__ import annotations

import json

import pytest

from claimbook.errors import RunError
from claimbook.experiments import Experiment
from claimbook.runner import parcel
from claimbook.runner.state import current_state
from claimbook.workspace import find

PARAMETERS = {"products": "tiny", "seed": 0}


@pytest.fixture
def notebook(toy):
    """The toy notebook, importing a module beside it and a package of the workspace."""
    (toy.notebooks / "shelf.py").write_text("from goods.mugs import MUGS\n")
    (toy.root / "src" / "goods").mkdir(parents=True)
    (toy.root / "src" / "goods" / "__init__.py").write_text("")
    (toy.root / "src" / "goods" / "mugs.py").write_text("MUGS = 12\n")
    (toy.root / "src" / "unused.py").write_text("")
    path = toy.notebook("toy")
    path.write_text(path.read_text().replace("import os, random", "import shelf, os, random"))
    return path


def fingerprints(toy):
    return current_state(toy, Experiment.of(toy, "toy")).fingerprints


def test_settings_notebook_sources_and_products_travel_and_nothing_else(toy, notebook):
    (toy.root / ".env").write_text("TOKEN=1")
    (toy.root / "data" / ".git").mkdir()
    (toy.root / "data" / ".git" / "config").write_text("")
    files = parcel.pack(toy, notebook, PARAMETERS)
    assert sorted(files) == sorted(
        [
            "pyproject.toml",
            "notebooks/toy.ipynb",
            "notebooks/shelf.py",
            "src/goods/__init__.py",
            "src/goods/mugs.py",
            "data/items.jsonl",
            *(f"data/{number}.png" for number in range(12)),
        ]
    )
    assert files["data/3.png"] == (toy.root / "data" / "3.png").read_bytes()


def test_products_at_an_absolute_path_stay_where_they_are(toy, notebook):
    settings = toy.root / "pyproject.toml"
    settings.write_text(settings.read_text().replace('"data"', f'"{toy.root / "data"}"'))
    assert not any(name.startswith("data/") for name in parcel.pack(find(toy.root), notebook, PARAMETERS))


def test_what_is_unpacked_is_the_same_and_lies_there_once(toy, notebook, tmp_path):
    files = parcel.pack(toy, notebook, PARAMETERS)
    root = parcel.unpack(files, tmp_path / "there")
    assert parcel.unpack(files, tmp_path / "there") == root
    assert [path.name for path in (tmp_path / "there").iterdir()] == [root.name]
    assert parcel.differences(root, "notebooks/toy.ipynb", PARAMETERS, fingerprints(toy)) == []
    files["src/goods/mugs.py"] += b"# more\n"
    assert parcel.unpack(files, tmp_path / "there") != root


def test_every_part_that_differs_is_named(toy, notebook, tmp_path):
    expected = fingerprints(toy)
    files = parcel.pack(toy, notebook, PARAMETERS)
    document = json.loads(files["notebooks/toy.ipynb"])
    document["cells"][1]["source"] += "\n1"
    files["notebooks/toy.ipynb"] = json.dumps(document).encode()
    files["notebooks/shelf.py"] += b"CUPS = 3\n"
    files["data/items.jsonl"] = files["data/items.jsonl"].replace(b"mug 3", b"cup 3")
    root = parcel.unpack(files, tmp_path)
    assert parcel.differences(root, "notebooks/toy.ipynb", PARAMETERS, expected) == [
        "the notebook's code is another one",
        "the technique code is another one",
        "the product set tiny is another one",
    ]
    (root / "data" / "3.png").unlink()
    assert "the product set tiny cannot be loaded: " in "".join(
        parcel.differences(root, "notebooks/toy.ipynb", PARAMETERS, expected)
    )


def test_what_is_too_large_is_refused_with_its_size(toy, notebook):
    with (toy.root / "data" / "film.bin").open("wb") as file:
        file.truncate(parcel.LARGEST)  # sparse: it takes no room
    with pytest.raises(RunError, match="are 512 MiB, and 512 MiB travel") as error:
        parcel.pack(toy, notebook, PARAMETERS)
    assert "absolute path" in error.value.fix


def test_a_source_that_is_a_link_to_elsewhere_is_refused(toy, notebook, tmp_path):
    (toy.notebooks / "shelf.py").unlink()
    (tmp_path / "elsewhere.py").write_text("")
    (toy.notebooks / "shelf.py").symlink_to(tmp_path / "elsewhere.py")
    with pytest.raises(RunError, match="which the notebook imports, is a link"):
        parcel.pack(toy, notebook, PARAMETERS)
