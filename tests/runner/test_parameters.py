"""Typed parameters: read without running anything, refused before a kernel starts, injected as declared."""

from __future__ import annotations

from pathlib import Path

import pytest

from claimbook.errors import RunError
from claimbook.papers.ids import ArxivId
from claimbook.runner.parameters import effective_parameters, injected_source, notebook_parameters

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

RICH = '''\
"""What may be set."""
import pathlib
import typing as t
from typing import Annotated, List
import annotated_types as at
from annotated_types import Gt, Le
from claimbook import ArxivId
lr: Annotated[float, Gt(0), Le(1)] = 1e-3
depth: t.Annotated[int, at.Interval(ge=1, lt=12), "layers"] = 4
rates: list[Annotated[float, Gt(0)]] = [0.1, 1]
mode: t.Literal["a", -1, True] = -1
folds: List[int] = []
weights: pathlib.Path = pathlib.Path("data", "clip.pt")
extra: list[pathlib.Path] = [pathlib.Path("a/"), "b//c"]
paper: ArxivId = ArxivId("2103.00020", 2)
other: ArxivId = "https://arxiv.org/abs/2303.15343v4"
name: str = "한글 # kein Kommentar"
'''


@pytest.fixture
def declare(tmp_path, make_notebook):
    """The parameters of a notebook with one cell."""

    def read(cell: str):
        path = tmp_path / "n.ipynb"
        make_notebook(path, cell)
        return notebook_parameters(path)

    return read


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


def test_types_are_read_as_people_write_them(declare):
    read = declare(RICH)
    assert {name: (str(p.kind), p.kind.range) for name, p in read.items()} == {
        "lr": ("float", "> 0, <= 1"),
        "depth": ("int", ">= 1, < 12"),
        "rates": ("list[float]", "> 0"),
        "mode": ("Literal['a', -1, True]", ""),
        "folds": ("list[int]", ""),
        "weights": ("Path", ""),
        "extra": ("list[Path]", ""),
        "paper": ("ArxivId", ""),
        "other": ("ArxivId", ""),
        "name": ("str", ""),
    }


def test_the_defaults_of_paths_and_papers_are_kept_as_normal_text(declare):
    read = declare(RICH)
    assert read["weights"].default == "data/clip.pt"
    assert read["extra"].default == ["a", "b/c"]
    assert read["paper"].default == "2103.00020v2"
    assert read["other"].default == "2303.15343v4"
    assert read["name"].default == "한글 # kein Kommentar"


def test_nothing_in_the_cell_is_executed(declare, tmp_path):
    sign = tmp_path / "executed"
    with pytest.raises(RunError, match="the default of x is computed"):
        declare(f"x: str = open({str(sign)!r}, 'w').name")
    with pytest.raises(RunError, match="x has the type"):
        declare(f"x: open({str(sign)!r}, 'w') = 1")
    assert not sign.exists()


def test_comments_above_belong_to_a_parameter_up_to_an_empty_line(declare):
    read = declare(
        "# of the whole cell\n"
        "\n"
        "# the peak,\n"
        "# not the mean\n"
        "lr: float = 0.1  # 학습률\n"
        "sizes: list[int] = [\n"
        "    8,  # inside, not its comment\n"
        "    16,\n"
        "]  # sides\n"
        'text: str = """a\n# no comment"""\n'
    )
    assert read["lr"].comment == "the peak, not the mean 학습률"
    assert (read["sizes"].default, read["sizes"].comment) == ([8, 16], "sides")
    assert (read["text"].default, read["text"].comment) == ("a\n# no comment", "")


def test_a_comment_behind_wide_characters_is_whole(declare):
    assert declare('이름: str = "가나다라마바사"  # 상품 이름')["이름"].comment == "상품 이름"


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
        ({"loss": "sigmod"}, "did you mean 'sigmoid'"),
        ({"arxiv": 2103.0002}, r"arxiv is 2103\.0002, which is no str"),
        ({"steps": 1.5}, r"steps is 1\.5, which is no int"),
        ({"steps": True}, "steps is True, which is no int"),
        ({"steps": 2**63}, "steps is 9223372036854775808, which does not fit into 64 bits"),
        ({"steps": 10**5000}, "steps is a number of thousands of digits, which does not fit"),
        ({"shuffle": 1}, "shuffle is 1, which is no bool"),
        ({"lr": "1e-3"}, "lr is '1e-3', which is no float"),
        ({"lr": float("nan")}, "lr is nan, which is no finite number"),
        ({"lr": float("-inf")}, "lr is -inf, which is no finite number"),
        ({"lr": 2**53 + 1}, "which no float is exactly"),
        ({"lr": 10**400}, "which no float is exactly"),
        ({"tag": "\ud800"}, "which is no text that a file can hold"),
        ({"sizes": [8, "16"]}, r"sizes is \[8, '16'\], in which '16' is no int"),
        ({"sizes": 8}, "sizes is 8"),
        ({"sizes": [[8]]}, r"in which \[8\] is no int"),
    ],
)
def test_what_does_not_fit_its_type_is_refused(notebook, given, complaint):
    with pytest.raises(RunError, match=complaint) as caught:
        effective_parameters(notebook_parameters(notebook), given, "hypothesis.toml: arm treatment")
    assert "hypothesis.toml: arm treatment" in str(caught.value)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"lr": 0}, "lr is 0, which is not > 0"),
        ({"lr": 1.5}, "lr is 1.5, which is not <= 1"),
        ({"depth": 0}, "depth is 0, which is not >= 1"),
        ({"depth": 12}, "depth is 12, which is not < 12"),
        ({"rates": [0.1, -2.0]}, r"in which -2\.0 is not > 0"),
        ({"mode": 1}, "mode is 1, which is no Literal"),
        ({"weights": ""}, "weights is '', which names no file"),
        ({"weights": 3}, "weights is 3, which is no Path"),
        ({"paper": 2103.0002}, 'no ArxivId\n  what to do: write it in quotes, such as "2103.00020"'),
        ({"paper": "2113.00020"}, "2113 is no year and month"),
        ({"paper": "Attention is all you need"}, "looks like a title"),
    ],
)
def test_what_is_out_of_its_range_is_refused(declare, given, complaint):
    with pytest.raises(RunError, match=complaint):
        effective_parameters(declare(RICH), given, "here")


def test_what_lies_on_a_closed_end_or_inside_is_taken(declare):
    given = {"lr": 1, "depth": 11, "mode": True, "weights": "./x//y/", "paper": "arXiv:2103.00020v1"}
    effective = effective_parameters(declare(RICH), given, "here")
    assert {name: effective[name] for name in given} == {
        "lr": 1.0,
        "depth": 11,
        "mode": True,
        "weights": "x/y",
        "paper": "2103.00020v1",
    }


def test_a_complaint_says_the_range_and_a_value_that_fits(declare):
    with pytest.raises(RunError) as caught:
        declare(RICH)["lr"].check(3.0, "here")
    assert caught.value.fix == "write a value such as 0.001 (float, > 0, <= 1)"


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
        ("x: int = 1\nx: int = 2", "line 2: x is declared twice"),
        ("x: int | None = None", "cannot write None"),
        ("x: Optional[str] = None", "cannot write None"),
        ("x: int | str = 1", "choose one type"),
        ("x: list = []", r"say of what, such as list\[int\]"),
        ("x: list[list[int]] = []", "a list holds plain values"),
        ("x: list[int, str] = []", "a list has one type of element"),
        ("x: Literal[None] = None", "list texts, numbers or True and False"),
        ("x: Literal['a', b] = 'a'", "list texts, numbers or True and False"),
        ("x: Annotated[int, Field(gt=0)] = 1", r"write bounds as Gt\(0\)"),
        ("x: Annotated[int, Gt(y)] = 1", r"write bounds as Gt\(0\)"),
        ("x: Annotated[int, Gt(0, 1)] = 1", r"write bounds as Gt\(0\)"),
        ("x: Annotated[int, Interval(from_=0)] = 1", r"write bounds as Gt\(0\)"),
        ("x: Annotated[str, Gt(0)] = 'a'", "only an int or a float has bounds"),
        ("x: Annotated[list[int], Gt(0)] = [1]", "bound the numbers, not the list"),
        ("x: Annotated[int, Gt(2)] = 1", "x is 1, which is not > 2"),
        ("from upath import Path\nx: Path = Path('a')", "line 2: x has the type Path.*this is upath.Path"),
        ("x: str = Path('a')", "the default of x is computed"),
        ("x: ArxivId = ArxivId(2103.0002)", "x is 2103.0002, which is no ArxivId"),
        ("x: float = 1e999", "x is inf, which is no finite number"),
        ("x: int = {[]: 1}", "the default of x is computed"),
        ("if True:\n    x: int = 1", "`if True:` is no typed parameter"),
    ],
)
def test_a_cell_that_cannot_be_trusted_is_refused(declare, cell, complaint):
    with pytest.raises(RunError, match=f"(?s){complaint}"):
        declare(cell)


def test_a_file_that_is_no_notebook_is_named(tmp_path):
    path = tmp_path / "n.ipynb"
    path.write_text("{}")
    with pytest.raises(RunError, match=r"n\.ipynb: no readable notebook"):
        notebook_parameters(path)


def test_a_kernel_gets_what_its_notebook_declares(declare, tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text("[tool.claimbook]\n")
    monkeypatch.setenv("CLAIMBOOK_ROOT", str(tmp_path))
    read = declare(RICH)
    absolute = str(tmp_path / "elsewhere")
    given = {"extra": ["내 자료/a", absolute], "name": 'quotes " and \\ and 한글\n', "lr": 0.1 + 0.2}
    got: dict[str, object] = {}
    exec(injected_source(effective_parameters(read, given, "here"), read), got)
    assert got["weights"] == tmp_path / "data" / "clip.pt"
    assert got["extra"] == [tmp_path / "내 자료" / "a", Path(absolute)]
    assert (got["paper"], got["other"]) == (ArxivId("2103.00020", 2), ArxivId("2303.15343", 4))
    assert got["name"] == 'quotes " and \\ and 한글\n'
    assert got["lr"] == 0.1 + 0.2
    assert got["rates"] == [0.1, 1.0]
    assert got["mode"] == -1


def test_the_injected_cell_reads_well_and_names_no_folder_of_this_machine(declare, tmp_path):
    read = declare('from pathlib import Path\ndata: Path = Path("data/shop")\nname: str = "머그"\n')
    assert injected_source(effective_parameters(read, {}, "here"), read) == (
        "# Parameters\n"
        "import claimbook.workspace\n"
        "data = claimbook.workspace.find().root / 'data/shop'\n"
        "name = '머그'\n"
    )
