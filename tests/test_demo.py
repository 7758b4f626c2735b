"""The demo, as a new user meets it. Minutes long, so slow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from claimbook import workspace
from claimbook.experiments import Experiment

ROOT = Path(__file__).parent.parent


def demo(folder: Path) -> dict:
    """Run the demo in a new folder; its verdict, without what names runs, seal and time."""
    environment = {**os.environ, "CLAIMBOOK_CACHE": str(folder.parent / "cache")}
    command = [sys.executable, "-c", "from claimbook.cli import main; main()", "demo", str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    index = folder / "site" / "index.html"
    assert f"open {index.resolve()}" in done.stdout
    path = folder / "experiments" / "siglip-small-batch" / "verdict.json"
    before = path.read_bytes()
    command[-2:] = ["judge", "siglip-small-batch"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    assert path.read_bytes() == before
    verdict = json.loads(before)
    for pair in verdict["pairs"]:
        del pair["runs"]
    del verdict["seal"]
    return verdict


@pytest.mark.slow
def test_the_demo_gives_the_same_numbers_twice_and_the_committed_outcome(tmp_path):
    first, second = demo(tmp_path / "one"), demo(tmp_path / "two")
    assert first == second
    committed = Experiment.of(workspace.find(ROOT), "siglip-small-batch").verdict()
    assert committed is not None
    # another processor rounds differently, so only the outcome and the size are the same everywhere
    assert first["outcome"] == committed.outcome
    assert first["effect"] == pytest.approx(committed.effect, abs=0.02)
