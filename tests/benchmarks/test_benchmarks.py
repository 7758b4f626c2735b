"""That the benchmark runs, at a size where its times say nothing: the figures belong to `make bench`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

LOG = Path(__file__).parent / "log.py"
SMALL = ("--rounds", "1", "--runs", "3", "--steps", "4", "--size", "300")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, LOG, *arguments], capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def results() -> dict[str, dict[str, Any]]:
    """claimbook beside the floor, from one run of the benchmark."""
    done = run("--json", "--only", "claimbook;claimbook in git;claimbook, refreshing;sqlite3", *SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    return {result["name"]: result for result in json.loads(done.stdout)["results"]}


@pytest.mark.parametrize("name", ["claimbook", "claimbook in git", "sqlite3"])
def test_every_round_times_the_runs_and_the_steps(results, name):
    result = results[name]
    assert [len(result[key]) for key in ("run_ms", "metric_ms", "stored_metric_ms")] == [1, 1, 1]
    assert all(number > 0 for number in result["run_ms"] + result["metric_ms"])


@pytest.mark.parametrize("name", ["claimbook", "claimbook, refreshing", "sqlite3"])
def test_both_queries_find_the_right_runs(results, name):
    """The driver compares each answer with the values themselves, and fails the tracker otherwise."""
    assert results[name]["error"] is None
    assert results[name]["size"] == 300
    assert len(results[name]["newest_ms"]) == len(results[name]["best_ms"]) == 1


@pytest.mark.parametrize("name", ["claimbook", "sqlite3"])
def test_a_kill_loses_no_acknowledged_metric(results, name):
    assert min(results[name]["acknowledged"]) >= 150
    assert results[name]["lost"] == [0]


def test_a_closed_run_of_claimbook_is_three_files(results):
    """run.json, metrics.jsonl and items.parquet."""
    assert results["claimbook"]["files_per_run"] == 3


def test_a_tracker_that_is_not_there_is_shown_with_its_error(tmp_path):
    """A copy of the benchmark elsewhere has no environments beside it."""
    copy = tmp_path / "tests" / "benchmarks"
    for file in LOG.parent.rglob("*.py"):
        target = copy / file.relative_to(LOG.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    command = [sys.executable, copy / "log.py", "--only", "MLflow;sqlite3", *SMALL]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "not installed: .venv-peers/mlflow/bin/python is missing" in done.stdout


def test_the_right_answers_of_the_queries_by_hand():
    """Of ten runs, whose m0 are 0, 0.079, 0.158 …: none is above 0.5 before run 7."""
    code = "import log; print(log.expected('newest', 10), log.expected('best', 10))"
    done = subprocess.run([sys.executable, "-c", code], cwd=LOG.parent, capture_output=True, text=True)
    assert done.stdout == "[9, 8, 7] [9, 7]\n", done.stderr
