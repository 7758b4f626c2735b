"""Typed parameters: read without running anything, refused before a kernel starts."""

from __future__ import annotations

import pytest

from claimbook.errors import RunError
from claimbook.runner.parameters import effective_parameters, notebook_parameters

CELL = """\
from typing import Literal
loss: Literal["softmax", "sigmoid"] = "softmax"  # which loss
arxiv: str = "2103.00020"  # an id, never a number: # is part of "a#b"
lr: float = 1e-3
steps: int = 300
sizes: list[int] = [8, 16]
shuffle: bool = False
tag: str = "a#b"
seed: int = 0
"""


@pytest.fixture
def notebook(tmp_path, make_notebook):
    path = tmp_path / "n.ipynb"
    make_notebook(path, CELL, "print(1)")
    return path


def test_types_defaults_and_comments_are_read(notebook):
    read = notebook_parameters(notebook)
    assert list(read) == ["loss", "arxiv", "lr", "steps", "sizes", "shuffle", "tag", "seed"]
    assert read["loss"].type == "Literal['softmax', 'sigmoid']"
    assert read["loss"].comment == "which loss"
    assert read["arxiv"].default == "2103.00020"
    assert read["arxiv"].comment == 'an id, never a number: # is part of "a#b"'
    assert read["tag"].default == "a#b"
    assert read["tag"].comment == ""


def test_effective_parameters_hold_the_defaults(notebook):
    read = notebook_parameters(notebook)
    effective = effective_parameters(read, {"loss": "sigmoid", "lr": 1}, "here")
    assert effective["loss"] == "sigmoid"
    assert effective["lr"] == 1.0
    assert isinstance(effective["lr"], float)
    assert effective["steps"] == 300


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"losss": "sigmoid"}, "no parameter 'losss', did you mean 'loss'"),
        ({"loss": "hinge"}, "loss is 'hinge', which is no Literal"),
        ({"arxiv": 2103.0002}, r"arxiv is 2103\.0002, which is no str"),
        ({"steps": 1.5}, r"steps is 1\.5, which is no int"),
        ({"steps": True}, "steps is True, which is no int"),
        ({"shuffle": 1}, "shuffle is 1, which is no bool"),
        ({"lr": "1e-3"}, "lr is '1e-3', which is no float"),
        ({"sizes": [8, "16"]}, r"sizes is \[8, '16'\]"),
        ({"sizes": 8}, "sizes is 8"),
    ],
)
def test_what_does_not_fit_its_type_is_refused(notebook, given, complaint):
    with pytest.raises(RunError, match=complaint) as caught:
        effective_parameters(notebook_parameters(notebook), given, "hypothesis.toml: arm treatment")
    assert "hypothesis.toml: arm treatment" in str(caught.value)


@pytest.mark.parametrize(
    ("cell", "complaint"),
    [
        ("a, b = 1, 2", "line 1: `a, b = 1, 2` is no typed parameter"),
        ("x = 1", "`x = 1` is no typed parameter"),
        ("x: int = 1\ny: int = x + 1", "line 2: the default of y is computed"),
        ("x: dict = {}", "x has the type dict"),
        ("x: int", "x has no default"),
        ("x: int = 'a'", "x is 'a', which is no int"),
        ("x: int = ", "line 1: invalid syntax"),
    ],
)
def test_a_cell_that_cannot_be_trusted_is_refused(tmp_path, make_notebook, cell, complaint):
    path = tmp_path / "n.ipynb"
    make_notebook(path, cell)
    with pytest.raises(RunError, match=complaint):
        notebook_parameters(path)


def test_a_file_that_is_no_notebook_is_named(tmp_path):
    path = tmp_path / "n.ipynb"
    path.write_text("{}")
    with pytest.raises(RunError, match=r"n\.ipynb: no readable notebook"):
        notebook_parameters(path)
