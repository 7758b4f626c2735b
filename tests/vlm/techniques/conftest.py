from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="session")
def open_clip_loss() -> Callable[[str], Any]:
    """Make a loss of open_clip from its loss.py, loaded by path: its package needs torchvision."""
    package = importlib.util.find_spec("open_clip")
    if package is None or not package.submodule_search_locations:
        pytest.skip("open_clip is not installed (pip install --no-deps -r tests/oracles.txt)")
    path = f"{package.submodule_search_locations[0]}/loss.py"
    spec = importlib.util.spec_from_file_location("open_clip_loss_file", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda name: getattr(module, name)()
