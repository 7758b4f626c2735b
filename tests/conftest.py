"""Shared fixtures: a small but real workspace with a notebook that runs in a second."""

from __future__ import annotations

import json
import os
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from claimbook import workspace
from claimbook.experiments import Experiment
from claimbook.judge.of_experiment import judge_experiment
from claimbook.runner import batch, sealing
from claimbook.runner.local import LocalEngine
from claimbook.runner.slots import Limits, places
from claimbook.workspace import Workspace

HYPOTHESIS = """\
title    = "A larger effect scores higher"
paper    = "toy"
claim    = "larger"
notebook = "toy"
metric   = "hit@1"
margin   = 0.05
seeds    = [0, 1, 2, 3, 4, 5]

[questions]
problem      = "Queries miss their product."
difficulty   = "There are few products."
tried        = "By hand."
similar      = "By other hands."
method       = "A larger effect."
verification = "On generated scores."
service      = "Search would find more."

[parameters]
products = "tiny"

[arms.baseline]
effect = 0.2
[arms.treatment]
effect = 0.6

[controls.shuffled]
shuffle = true
"""

PARAMETERS = """\
effect: float = 0.1  # share of hits
products: str = "tiny"
shuffle: bool = False
crash: str = ""  # "raise", "kill", "hang" or "forget"
seed: int = 0
"""

BODY = """\
import os, random, signal, time
from claimbook import start
from claimbook.products import load
run = start()
"""

WORK = """\
data = load(products).test
if crash == "raise":
    raise ValueError("the shelf is empty")
if crash == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if crash == "hang":
    run.log(step=0, loss=1.0)
    time.sleep(600)
random.seed(seed)
share = 0.5 if shuffle else effect
n = 200
hits = [1.0 if i < n * share else 0.0 for i in range(n)]
if not shuffle:
    hits[: seed % 3] = [0.0] * (seed % 3)
run.log(step=1, loss=0.5)
"""

FINISH = """\
if crash != "forget":
    run.finish(
        metrics={"hit@1": sum(hits) / n},
        chance={"hit@1": 0.5},
        items={"item": list(range(n)), "cluster": [i // 2 for i in range(n)], "hit@1": hits},
    )
"""


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real products and recorded answers; tests that need it are skipped elsewhere."""
    named = os.environ.get("CLAIMBOOK_TEST_DATA")
    if not named or not Path(named).is_dir():
        pytest.skip("CLAIMBOOK_TEST_DATA names no folder with real products")
    return Path(named)


def write_notebook(path: Path, parameters: str, *code: str) -> None:
    """A notebook of code cells, the first of them tagged `parameters`."""
    cells: list[dict[str, Any]] = [
        {
            "cell_type": "code",
            "id": f"cell-{index}",
            "metadata": {"tags": ["parameters"]} if index == 0 else {},
            "execution_count": None,
            "outputs": [],
            "source": source,
        }
        for index, source in enumerate([parameters, *code])
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))


def write_products(folder: Path) -> None:
    """Twelve products, a small picture each, and their table."""
    folder.mkdir(parents=True)
    lines = []
    for number in range(12):
        Image.new("RGB", (8, 8), (20 * number, 90, 160)).save(folder / f"{number}.png")
        lines.append(json.dumps({"id": f"p{number}", "image": f"{number}.png", "name": f"mug {number}"}))
    (folder / "items.jsonl").write_text("\n".join(lines) + "\n")


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace with one product set, one paper, one notebook and the unsealed experiment `toy`."""
    root = tmp_path / "workspace"
    write_products(root / "data")
    (root / "pyproject.toml").write_text(
        textwrap.dedent("""\
        [tool.claimbook]
        language = "en"
        timezone = "Asia/Seoul"

        [tool.claimbook.products.tiny]
        source  = "folder"
        path    = "data"
        table   = "items.jsonl"
        columns = { item = "id", image = "image", title = "name" }
        split   = { train = 0.5, val = 0.0, test = 0.5 }
        """)
    )
    paper = root / "papers" / "toy"
    paper.mkdir(parents=True)
    (paper / "meta.json").write_text(
        json.dumps(
            {
                "id": "2303.15343",
                "title": "A toy",
                "authors": ["A. Author"],
                "abstract": "About toys.",
                "categories": ["cs.CV"],
                "published": "2023-03-27",
                "updated": "2023-09-27",
                "versions": [1],
                "source": "manual",
            }
        )
    )
    (paper / "README.md").write_text(
        '---\nid: "2303.15343"\nstatus: read\nclaims:\n'
        "  - id: larger\n    text: Larger is better\n    metric: hit@1\n---\n\nA note.\n"
    )
    write_notebook(root / "notebooks" / "toy.ipynb", PARAMETERS, BODY, WORK, FINISH)
    experiment = root / "experiments" / "toy"
    experiment.mkdir(parents=True)
    (experiment / "hypothesis.toml").write_text(HYPOTHESIS)
    monkeypatch.chdir(root)
    monkeypatch.setenv("TOY_WORKSPACE", str(root))  # by which the processes that a test starts are found
    monkeypatch.delenv("CLAIMBOOK_ROOT", raising=False)
    monkeypatch.delenv("CLAIMBOOK_CACHE", raising=False)
    return workspace.find(root)


@pytest.fixture(scope="session")
def judged_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first `judged` workspace is kept for the tests that come after."""
    return tmp_path_factory.mktemp("judged") / "workspace"


@pytest.fixture
def judged(toy: Workspace, judged_once: Path) -> Workspace:
    """The toy workspace once its experiment was sealed, run and judged: 18 real runs, made once.

    The notebook says its scale, and its treatment loses hits by other seeds than its baseline. Of 200 hits
    the baseline loses 0, 1, 2, 0, 1, 2 of its 40 and the treatment 0, 1, 0, 1, 0, 1 of its 120, so the mean
    difference is 0.4 + 0.5 / 200 = 0.4025.
    """
    if not judged_once.exists():
        notebook = toy.notebook("toy")
        text = notebook.read_text().replace("seed % 3", "seed % (2 if effect > 0.5 else 3)")
        scale = "scale={'parameters': 1e3, 'pairs_seen': 6e3, 'resolution': 8},"
        notebook.write_text(text.replace("chance=", f"{scale}\\n        chance="))
        experiment = Experiment.of(toy, "toy")
        sealing.seal(toy, experiment)
        batch.execute(toy, [batch.plan(toy, experiment)], engine=LocalEngine(Limits(threads=1), places(2)))
        experiment.save_verdict(judge_experiment(toy, experiment))
        shutil.copytree(toy.root, judged_once)
    shutil.copytree(judged_once, toy.root, dirs_exist_ok=True)
    return toy


@pytest.fixture
def make_notebook() -> Callable[..., None]:
    """`write_notebook`, for tests that cannot import this file."""
    return write_notebook


@pytest.fixture
def edit(toy: Workspace) -> Callable[[str, str], None]:
    """Replace a text in the toy hypothesis, as a person would."""

    def replace(old: str, new: str) -> None:
        path = toy.experiments / "toy" / "hypothesis.toml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return replace
