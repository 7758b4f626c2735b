"""Settings and grids: texts of the command line and tables of a file, as values of their declared types."""

from __future__ import annotations

import pytest

from claimbook.errors import RunError
from claimbook.runner.grid import changes_of, grid_of, points_of
from claimbook.runner.parameters import notebook_parameters

CELL = """\
loss: Literal["softmax", "sigmoid", 1, 0.5, True] = "softmax"
arxiv: str = "2103.00020"
lr: Annotated[float, Gt(0)] = 1e-3
steps: int = 300
sizes: list[int] = [8, 16]
tags: list[str] = []
shuffle: bool = False
weights: Path = "data"
paper: ArxivId = "2103.00020"
seed: int = 0
"""


@pytest.fixture
def declared(tmp_path, make_notebook):
    make_notebook(tmp_path / "n.ipynb", CELL)
    return notebook_parameters(tmp_path / "n.ipynb")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("arxiv=2103.00020", "2103.00020"),
        ("arxiv=[a, b]=c", "[a, b]=c"),
        ("arxiv=", ""),
        ("arxiv= 한글, 둘 ", " 한글, 둘 "),
        ("lr=1", 1.0),
        ("lr=.5", 0.5),
        ("steps=-3", -3),
        ("shuffle=True", True),
        ("shuffle=false", False),
        ("loss=sigmoid", "sigmoid"),
        ("loss=1", 1),
        ("loss=5e-1", 0.5),
        ("loss=true", True),
        ("sizes=8,16", [8, 16]),
        ("sizes=[8, 16]", [8, 16]),
        ("sizes=", []),
        ("tags=a, b", ["a", "b"]),
        ('tags=["a, b"]', ["a, b"]),
        ("weights=내 자료/x", "내 자료/x"),
        ("paper=2103.00020v2", "2103.00020v2"),
    ],
)
def test_a_setting_is_read_by_its_declared_type(declared, text, value):
    (name,) = changes = changes_of([text], declared)
    assert changes[name] == value
    assert type(changes[name]) is type(value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("lr", "'lr' sets nothing"),
        ("=3", "'=3' sets nothing"),
        ("lrr=1", "no parameter 'lrr', did you mean 'lr'"),
        ("lr=fast", "lr is 'fast', which is no float"),
        ("lr=nan", "lr is nan, which is no finite number"),
        ("lr=-1", "lr is -1.0, which is not > 0"),
        ("steps=1e3", "steps is '1e3', which is no int"),
        ("steps=99999999999999999999", "does not fit into 64 bits"),
        ("shuffle=1", "shuffle is '1', which is no bool"),
        ("loss=sigmod", "did you mean 'sigmoid'"),
        ("sizes=8,b", "in which 'b' is no int"),
        ("sizes=[8,", r"'\[8,' is no JSON list"),
        ("sizes=[true]", "in which True is no int"),
        ("paper=2103.2", "lacks a zero"),
        ("seed=3", "seed is no setting\n  what to do: name the seeds: --seeds"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(declared, text, complaint):
    with pytest.raises(RunError, match=complaint) as caught:
        changes_of([text], declared)
    assert str(caught.value).startswith("--set: ")


def test_a_grid_holds_all_combinations_the_first_name_slowest(declared):
    assert grid_of(["lr=0.1, 0.2", "loss=softmax,sigmoid"], declared) == [
        {"lr": 0.1, "loss": "softmax"},
        {"lr": 0.1, "loss": "sigmoid"},
        {"lr": 0.2, "loss": "softmax"},
        {"lr": 0.2, "loss": "sigmoid"},
    ]


def test_without_a_grid_there_is_one_point(declared):
    assert grid_of([], declared) == [{}]
    assert grid_of([], declared, {"steps": 3}) == [{"steps": 3}]


def test_a_json_list_holds_lists_and_texts_with_commas(declared):
    assert grid_of(["sizes=[[32, 64], [128], []]"], declared) == [
        {"sizes": [32, 64]},
        {"sizes": [128]},
        {"sizes": []},
    ]
    assert grid_of(['arxiv=["a, b", ""]'], declared) == [{"arxiv": "a, b"}, {"arxiv": ""}]


def test_every_point_holds_what_is_fixed(declared):
    assert grid_of(["lr=0.1,0.2"], declared, {"steps": 3}) == [
        {"steps": 3, "lr": 0.1},
        {"steps": 3, "lr": 0.2},
    ]


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        (["lr=0.1", "lr=0.2"], "lr comes twice"),
        (["lr=0.001,1e-3"], r"lr takes 0\.001 twice"),
        (["lr="], "a value is missing in ''"),
        (["loss=softmax,,sigmoid"], "a value is missing"),
        (["lr=[]"], r"lr is \[\], which is no list of values"),
        (["sizes=32,64"], "could be one list or several"),
        (["sizes=[32, 64]"], "sizes is 32, which is no list"),
        (["arxiv=[a],[b]"], "is no JSON list"),
        (["steps=1,2"], "steps has one value for all and a grid too"),
        (["seed=1,2"], "seed is no setting"),
        (['arxiv=["a", 2103.0002]'], r"arxiv is 2103\.0002, which is no str"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(declared, texts, complaint):
    with pytest.raises(RunError, match=complaint) as caught:
        grid_of(texts, declared, {"steps": 3})
    assert str(caught.value).startswith("--grid: ")


def test_a_grid_too_large_to_be_meant_is_refused_before_it_is_made(declared):
    lr = ",".join(str(n) for n in range(1, 1000))
    steps = ",".join(str(n) for n in range(1000))
    with pytest.raises(RunError, match="999 × 1000 = 999,000 points"):
        grid_of([f"lr={lr}", f"steps={steps}"], declared)


def test_a_table_of_a_file_is_checked_and_never_converted(declared):
    assert points_of({"lr": [1, 0.5], "sizes": [[8]]}, declared, "nightly.toml: grid") == [
        {"lr": 1.0, "sizes": [8]},
        {"lr": 0.5, "sizes": [8]},
    ]
    for table, complaint in [
        ({"lr": ["0.1"]}, r"nightly\.toml: grid: lr is '0\.1', which is no float"),
        ({"lr": 0.1}, r"lr is 0\.1, which is no list of values"),
        ({"lrr": [0.1]}, "no parameter 'lrr'"),
    ]:
        with pytest.raises(RunError, match=complaint):
            points_of(table, declared, "nightly.toml: grid")
