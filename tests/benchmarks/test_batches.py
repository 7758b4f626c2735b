"""The benchmark of batches runs, and its ratios are right; its times are `make bench`'s."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console


@pytest.fixture(scope="module")
def batches() -> ModuleType:
    """The benchmark, its heavy notebook as light as the other one."""
    spec = importlib.util.spec_from_file_location("batches", Path(__file__).parent / "batches.py")
    assert spec
    assert spec.loader
    module = sys.modules["batches"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.IMPORTS = "import json\n"
    return module


@pytest.mark.parametrize("name", ["claimbook run, a further run", "papermill, library", "papermill, command"])
def test_a_contestant_executes_the_notebook(batches, tmp_path, name):
    measure = batches.heavy(batches.Contest(tmp_path))[name]
    (result,) = batches.in_turn({name: measure}, 1, lambda text: None)
    assert result.error is None
    assert result.seconds[0] > 0


def test_ploomber_engine_executes_the_same_notebook(batches, tmp_path):
    if not batches.PLOOMBER.exists():
        pytest.skip("ploomber-engine is not installed; `make peers` installs it")
    contestants = batches.heavy(batches.Contest(tmp_path))
    ours = {name: measure for name, measure in contestants.items() if name.startswith("ploomber-engine")}
    results = batches.in_turn(ours, 1, lambda text: None)
    assert [result.error for result in results] == [None, None]


def test_a_contestant_that_is_not_installed_is_out_and_says_why(batches, tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "PLOOMBER", tmp_path / "nowhere")
    contest = batches.Contest(tmp_path)
    (result,) = batches.in_turn({"ploomber": contest.ploomber_command}, 2, lambda text: None)
    assert result.seconds == []
    assert "nowhere" in result.error


def test_the_runner_is_watched_over_all_of_its_runs(batches, tmp_path):
    books = batches.bookkeeping(tmp_path / "trivial", runs=4, slots=2)
    shares = [share for share, _ in books.resident]
    assert shares == sorted(shares)
    assert set(shares) <= {0, 0.25, 0.5, 0.75, 1}
    assert 20 < books.resident[-1][1] < 1000
    assert 0.1 < books.runner < books.seconds
    assert books.workers > 0


def test_a_ratio_is_the_median_of_those_within_a_round(batches):
    """4/1, 6/2 and 5/5 have the median 3; the medians themselves, 5 and 2, would give 2.5."""
    ours, theirs = batches.Result("ours", [1.0, 2.0, 5.0]), batches.Result("theirs", [4.0, 6.0, 5.0])
    console = Console(width=100)
    with console.capture() as shown:
        console.print(batches.compared("", [ours, theirs], "ours"))
    row = next(line for line in shown.get().splitlines() if "theirs" in line)
    assert [cell.strip() for cell in row.split("│")[1:-1]] == ["theirs", "5.00", "4.00 to 6.00", "3.0"]
