"""What `params` and `explain` print, as a user sees it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from claimbook.cli.notebook import explain, params
from claimbook.errors import RunError, WorkspaceError
from claimbook.experiments import Experiment, this_process
from claimbook.records import Run
from claimbook.runner.state import current_state

CELL = """\
from typing import Annotated, Literal
from annotated_types import Gt, Le
# 손실 함수: 논문의 두 가지
loss: Literal["softmax", "sigmoid"] = "softmax"
lr: Annotated[float, Gt(0), Le(1)] = 1e-3  # peak learning rate, reached after the warm-up, then kept
seed: int = 0
"""


def shown(command, *arguments: str) -> str:
    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


@pytest.fixture
def run(toy) -> Run:
    """A finished exploratory run of the toy experiment, without its kernel."""
    experiment = Experiment.of(toy, "toy")
    state = current_state(toy, experiment)
    run = Run(
        id="baseline-s0-1", experiment="toy", arm="baseline", seed=0, kind="exploratory",
        why_exploratory=["not sealed"], seal=None, notebook="toy", parameters=state.parameters["baseline", 0],
        fingerprints=state.fingerprints, environment={"python": "3.9"}, git={}, status="finished",
        started="2026-11-24T00:00:00Z", process=this_process(),
    )  # fmt: skip
    experiment.save_run(run)
    return run


def test_parameters_are_readable_in_80_columns(toy, make_notebook):
    make_notebook(toy.notebooks / "wide.ipynb", CELL)
    lines = shown(params, "wide").splitlines()
    assert max(map(len, lines)) <= 80
    assert lines == [
        "loss: Literal['softmax', 'sigmoid'] = 'softmax'",
        "    손실 함수: 논문의 두 가지",
        "lr: float = 0.001   > 0, <= 1",
        "    peak learning rate, reached after the warm-up, then kept",
        "seed: int = 0",
    ]


def test_a_notebook_may_be_named_by_its_path(toy, make_notebook, tmp_path):
    make_notebook(toy.notebooks / "wide.ipynb", CELL)
    make_notebook(tmp_path / "다른 곳" / "own.ipynb", "seed: int = 3")
    assert shown(params, "notebooks/wide.ipynb") == shown(params, "wide.ipynb") == shown(params, "wide")
    assert shown(params, str(tmp_path / "다른 곳" / "own.ipynb")) == "seed: int = 3\n"
    with pytest.raises(WorkspaceError, match="there is no notebook 'wid', did you mean 'wide'"):
        CliRunner().invoke(params, ["notebooks/wid.ipynb"], catch_exceptions=False)


def test_parameters_as_json_have_choices_and_range_where_there_are_any(toy, make_notebook):
    make_notebook(toy.notebooks / "wide.ipynb", CELL)
    loss, lr, seed = json.loads(shown(params, "wide", "--json"))
    assert loss["choices"] == ["softmax", "sigmoid"]
    assert (lr["type"], lr["range"]) == ("Annotated[float, Gt(0), Le(1)]", {"gt": 0, "le": 1})
    assert seed == {"name": "seed", "type": "int", "default": 0, "comment": ""}


def test_a_reused_run_is_said_to_be_one(toy, run):
    told = shown(explain, run.id)
    assert told.startswith("baseline-s0-1: finished, exploratory, no seal\nreused\n")
    assert "  python: '3.9' → " in told
    assert told.endswith("what to do: nothing to do: `claimbook run toy` reuses it\n")


def test_a_run_that_is_not_reused_is_explained_with_the_difference(toy, run, edit):
    edit("effect = 0.2", "effect = 0.3")
    told = shown(explain, run.id)
    assert "not reused: other parameters (effect 0.2 → 0.3)\n  parameter effect: 0.2 → 0.3\n" in told
    assert told.endswith("what to do: `claimbook run toy --set effect=0.2` reuses it\n")
    read = json.loads(shown(explain, run.id, "--json"))
    assert read["parameters"] == [{"what": "effect", "was": 0.2, "now": 0.3}]
    assert read["reused"] is False


def test_a_deleted_run_is_explained_too(toy, run):
    Experiment.of(toy, "toy").delete(run.id)
    assert "not reused: it was put away" in shown(explain, run.id)


def test_an_experiment_is_explained_arm_by_seed(toy, run):
    told = shown(explain, "toy")
    assert told.startswith("toy: 1 reused, 17 to make (exploratory: not sealed)\n")
    assert [line.split() for line in told.splitlines() if line.startswith("baseline seed 0")] == [
        ["baseline", "seed", "0", "reused", "baseline-s0-1"]
    ]
    read = json.loads(shown(explain, "toy", "--json"))
    assert len(read["prospects"]) == 18
    assert read["prospects"][1]["hinders"] == ["never run"]


def test_the_nearest_name_is_suggested(toy, run):
    for wrong, near in [("baseline-s0-2", "baseline-s0-1"), ("toys", "toy"), ("../toy/runs/x", None)]:
        with pytest.raises(RunError) as caught:
            CliRunner().invoke(explain, [wrong], catch_exceptions=False)
        assert caught.value.problem == f"there is no run and no experiment {wrong!r}" + (
            f", did you mean {near!r}?" if near else ""
        )


def test_a_run_whose_experiment_is_broken_is_explained(toy, run, edit):
    edit("margin   = 0.05", "margin   = ")
    assert (
        "not reused: no run can be made now: experiments/toy/hypothesis.toml: Invalid value (at line 6"
        in shown(explain, run.id)
    )
