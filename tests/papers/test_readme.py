"""The README's section on papers and the week, its commands run as they are printed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from arxiv_server import ArxivServer

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
SECTION = README.split("\n## Papers and the reading week\n")[1].split("\n## ")[0]


def run(command: str, cwd: Path) -> str:
    program, *arguments = shlex.split(command)
    assert program == "claimbook"
    done = subprocess.run(
        [sys.executable, "-c", "from claimbook.cli import main; main()", *arguments],
        cwd=cwd, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def test_the_papers_section_works_as_printed(tmp_path: Path, arxiv: ArxivServer) -> None:
    """In a new workspace; the server knows all papers of the library, and what the section names besides."""
    space = tmp_path / "my claims"
    run(f"claimbook init {shlex.quote(str(space))}", tmp_path)
    ids = [
        re.search(r'^id: "(.+)"', note.read_text("utf-8"), re.M)[1] for note in space.glob("papers/*/*.md")
    ]
    for number in {*ids, "2502.14786"}:
        arxiv.add(number, title=f"SigLIP and {number}", categories=("cs.CV",))
    (block,) = re.findall(r"```console\n(.*?)```", SECTION, re.DOTALL)
    add, query, status, search, sync, week, following = [line[2:] for line in block.splitlines()]
    assert "added" in run(add, space)
    assert "3 of " in run(query, space)
    assert run(status, space).startswith("e-clip: reading in 20")
    assert "e-clip" in run(search, space)
    assert "papers: nothing new" in run(sync, space)
    shown = run(week, space)
    assert "e-clip" in shown
    assert "claimbook paper status e-clip read" in shown
    assert "to take one: claimbook paper status" in run(following, space)
