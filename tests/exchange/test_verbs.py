"""export and import as a user types them."""

from __future__ import annotations

import json
import subprocess
import sys


def claimbook(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", "from claimbook.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
    )
    assert not check or done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_to_a_server_and_back(toy, experiment, add_run, server):
    add_run()
    shown = claimbook("export", "mlflow", "--to", server.address).stdout
    assert shown == f"{server.address}: claimbook/{experiment.slug}\n1 runs sent, 0 there already\n"
    again = claimbook("export", "mlflow", experiment.slug, "--to", server.address, "--json").stdout
    assert json.loads(again) == {
        "address": server.address,
        "experiments": [f"claimbook/{experiment.slug}"],
        "sent": 0,
        "unchanged": 1,
        "warnings": [],
    }
    back = claimbook("import", "mlflow", f"claimbook/{experiment.slug}", "--from", server.address, "--json")
    assert json.loads(back.stdout) == {"runs": [], "known": 1, "warnings": []}


def test_to_files(toy, experiment, add_run, tmp_path):
    add_run()
    runs, items = tmp_path / "runs.csv", tmp_path / "items.parquet"
    assert claimbook("export", "csv", str(runs)).stdout == f"{runs}: 1 runs\n"
    assert len(runs.read_text("utf-8").splitlines()) == 2
    shown = claimbook("export", "parquet", str(items), experiment.slug, "--items").stdout
    assert shown == f"{items}: 4 item scores\n"


def test_what_cannot_be_done_is_said_in_two_lines(toy, experiment, add_run):
    add_run()
    done = claimbook("export", "mlflow", "--to", "http://team:hush@127.0.0.1:9", check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 2
    assert "hush" not in done.stdout + done.stderr
    assert claimbook("export", "csv", "runs.xlsx", check=False).returncode == 2
    assert claimbook("export", "csv", "runs.csv", "--items", check=False).returncode == 2
