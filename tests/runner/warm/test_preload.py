"""What a fork server imports is what the notebooks and their sources import, and none of the project."""

from __future__ import annotations

import pytest

from claimbook.errors import RunError
from claimbook.runner.warm.preload import EVERY_RUN, preload_of


def test_modules_names_and_lazy_imports_of_cells_are_found(toy, make_notebook):
    notebook = toy.notebooks / "heavy.ipynb"
    make_notebook(
        notebook,
        "x: int = 1",
        "%matplotlib inline\nimport torch.nn as nn, os",
        "from transformers import CLIPModel as M, AutoProcessor",
        "def train():\n    import scipy.stats\n    return scipy\nfrom PIL.Image import *",
    )
    assert preload_of([notebook], toy)[len(EVERY_RUN) :] == [
        "torch.nn",
        "transformers:CLIPModel",
        "transformers:AutoProcessor",
        "scipy.stats",
        "PIL.Image",
    ]


def test_the_project_s_sources_are_followed_and_not_named(toy, make_notebook):
    notebook = toy.notebooks / "heavy.ipynb"
    make_notebook(notebook, "x: int = 1", "from shelf.top import rows\nimport beside")
    shelf = toy.root / "src" / "shelf"
    shelf.mkdir(parents=True)
    (shelf / "__init__.py").write_text("import numpy as np\n")
    (shelf / "top.py").write_text("from . import bottom\nif True:\n    import PIL.Image\n")
    (shelf / "bottom.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import mlflow\n"
        "def late():\n    import tensorflow\nimport tokenizers\n"
    )
    (toy.root / "notebooks" / "beside.py").write_text("import statsmodels.api\n")
    found = preload_of([notebook], toy)[len(EVERY_RUN) :]
    assert set(found) == {"PIL.Image", "tokenizers", "statsmodels.api"}


def test_claimbook_s_sources_are_followed_into_their_functions(toy, make_notebook):
    notebook = toy.notebooks / "heavy.ipynb"
    make_notebook(notebook, "x: int = 1", "from claimbook.vlm.encoders import tiny_encoder")
    found = preload_of([notebook], toy)
    assert "torch" in found
    assert "transformers:CLIPModel" in found  # imported in a function there
    assert not any(name.startswith("claimbook") for name in found)


@pytest.mark.parametrize(
    ("cell", "preloads"),
    [
        ("import os\nos.environ['HF_HOME'] = '/models'", False),
        ("import os\nos.environ.setdefault('OMP_NUM_THREADS', '1')", False),
        ("from os import environ\nenviron.update(TRANSFORMERS_CACHE='/models')", False),
        ("%env HF_HUB_OFFLINE=1", False),
        ("import os\nprint(os.environ['HOME'], os.environ.get('HF_HOME'))", True),
        ("import os\nos.environ['MY_SHELF'] = 'HF_HOME'", True),
        ("names = {}\nnames.update(HF_HOME=1)", True),
    ],
)
def test_nothing_is_preloaded_where_a_variable_would_come_too_late(toy, make_notebook, cell, preloads):
    notebook = toy.notebooks / "heavy.ipynb"
    make_notebook(notebook, "x: int = 1", cell, "import transformers")
    assert ("transformers" in preload_of([notebook], toy)) == preloads


def test_an_unreadable_cell_is_said_with_its_place(toy, make_notebook):
    make_notebook(toy.notebooks / "heavy.ipynb", "x: int = 1", "import (")
    with pytest.raises(RunError, match="code cell 2"):
        preload_of([toy.notebooks / "heavy.ipynb"], toy)
