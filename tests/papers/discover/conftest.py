"""A workspace without papers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from claimbook.workspace import Workspace

sys.path.insert(0, str(Path(__file__).parent))  # for snapshots


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """An empty one, with a cache of its own."""
    monkeypatch.delenv("CLAIMBOOK_CACHE", raising=False)
    return Workspace(tmp_path / "workspace")
