"""What is recorded of what is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from claimbook.surroundings import distributions


def test_what_is_installed_while_a_process_lives_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    before = distributions()
    told = tmp_path / "shelf-1.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: shelf\nVersion: 1.0\n")
    after = distributions()
    assert after.pop("distributions") != before.pop("distributions")
    assert after == before


def test_what_a_library_brings_along_and_puts_on_the_path_is_not_installed() -> None:
    """Ray has packages of its own, and puts them on the path when it is imported."""
    code = (
        "import sys\n"
        "from claimbook.surroundings import distributions\n"
        "before, path = distributions(), list(sys.path)\n"
        "import ray\n"
        "assert sys.path != path\n"
        "assert distributions() == before\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
