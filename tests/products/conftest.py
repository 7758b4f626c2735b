"""Workspaces and folders of pictures, written for one test."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from claimbook import workspace
from claimbook.workspace import Workspace

MakeWorkspace = Callable[..., Workspace]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CLAIMBOOK_ROOT", "CLAIMBOOK_CACHE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def make_workspace(tmp_path: Path) -> MakeWorkspace:
    """A workspace in tmp_path with one table: make_workspace("name", 'source = "catalog"', …)."""

    def make(name: str, *lines: str) -> Workspace:
        text = "\n".join(["[tool.claimbook]", f"[tool.claimbook.products.{name}]", *lines])
        (tmp_path / "pyproject.toml").write_text(text, "utf-8")
        return workspace.find(tmp_path)

    return make


@pytest.fixture
def shop(tmp_path: Path, make_workspace: MakeWorkspace) -> Callable[..., Workspace]:
    """shop(rows, further settings…): a folder with items.jsonl, a picture for each row, and its table.

    `id`, `image` and `title` of a row are filled in; every picture is of a colour of its own.
    """

    def make(rows: Iterable[dict[str, Any]], *settings: str) -> Workspace:
        folder = tmp_path / "shop"
        (folder / "images").mkdir(parents=True, exist_ok=True)
        lines = []
        for i, row in enumerate(rows):
            whole = {"id": f"i{i}", "image": f"images/{i}.png", "title": f"title {i}", **row}
            Image.new("RGB", (12, 8), (i % 256, i // 256, 90)).save(folder / whole["image"])
            lines.append(json.dumps(whole))
        (folder / "items.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
        if not any(line.startswith("columns") for line in settings):
            settings = ('columns = { item = "id" }', *settings)
        return make_workspace(
            "shop", 'source = "folder"', 'path = "shop"', 'table = "items.jsonl"', *settings
        )

    return make


@pytest.fixture
def real_data(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of real data sets. Skips where there is none."""
    named = os.environ.get("CLAIMBOOK_TEST_DATA")
    if not named or not Path(named).is_dir():
        pytest.skip("CLAIMBOOK_TEST_DATA names no folder with real data sets")
    return Path(named)
