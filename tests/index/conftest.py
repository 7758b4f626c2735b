"""A log to be indexed: a workspace whose files tests write as they need them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from claimbook import workspace
from claimbook.workspace import Workspace

RUN: dict[str, Any] = {
    "experiment": "any",
    "arm": "baseline",
    "seed": 0,
    "kind": "exploratory",
    "why_exploratory": [],
    "seal": None,
    "notebook": "siglip",
    "parameters": {},
    "fingerprints": {},
    "environment": {},
    "git": {},
    "status": "finished",
    "started": "2026-11-24T01:28:28.084Z",
    "process": {"pid": 1, "created": 0.0, "host": "elsewhere"},
}


class Log:
    """Writes the files of a workspace, as the machine and people do."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True)
        (root / "pyproject.toml").write_text('[tool.claimbook]\ntimezone = "Asia/Seoul"\n')
        self.workspace: Workspace = workspace.find(root)

    def run(self, experiment: str, run_id: str, *, deleted: bool = False, **changes: Any) -> Path:
        """One run.json; returns its path."""
        part = "deleted" if deleted else "runs"
        path = self.workspace.experiments / experiment / part / run_id / "run.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"id": run_id, **RUN, "experiment": experiment, **changes}), "utf-8")
        return path

    def hypothesis(self, slug: str, title: str, *, paper: str = "siglip", **questions: str) -> Path:
        """One hypothesis.toml; returns its path."""
        path = self.workspace.experiments / slug / "hypothesis.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = "\n".join(f"{name} = {json.dumps(text)}" for name, text in questions.items())
        path.write_text(
            f'title = {json.dumps(title)}\npaper = "{paper}"\nclaim = "small-batch"\nnotebook = "siglip"\n'
            f'metric = "recall@1"\nmargin = 0.01\nseeds = [0, 1]\n[questions]\n{lines}\n'
            "[arms.baseline]\nx = 0\n[arms.treatment]\nx = 1\n",
            "utf-8",
        )
        return path

    def paper(self, slug: str, title: str, abstract: str, claim: str = "It works.", note: str = "") -> None:
        """A paper's two files."""
        folder = self.workspace.papers / slug
        folder.mkdir(parents=True, exist_ok=True)
        meta = {
            "id": "2303.15343",
            "title": title,
            "authors": ["A. Author"],
            "abstract": abstract,
            "categories": ["cs.CV"],
            "published": "2023-03-27",
            "updated": "2023-09-27",
            "versions": [1],
            "source": "manual",
        }
        (folder / "meta.json").write_text(json.dumps(meta), "utf-8")
        (folder / "README.md").write_text(
            f'---\nid: "2303.15343"\nclaims:\n  - id: small-batch\n    text: {json.dumps(claim)}\n'
            f"    metric: recall@1\n---\n\n{note}\n",
            "utf-8",
        )


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """An empty workspace."""
    return Log(tmp_path / "workspace")


@pytest.fixture(scope="module")
def make_log() -> Callable[[Path], Log]:
    """Makes an empty workspace at a path, for fixtures of a whole module."""
    return Log
