"""A week that counts: the judged experiment of the tests, with its paper read and its note filled in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from claimbook.experiments import Experiment
from claimbook.workspace import Workspace

SECTIONS = "\n".join(f"## Question {number}\n\nAn answer.\n" for number in range(1, 8))
NOTE = """\
---
id: "2303.15343"
status: {status}
week: "{week}"
claims:
  - id: larger
    text: Larger is better
    metric: hit@1
---

# A toy

{sections}"""


def week_name(moment: datetime) -> str:
    """The ISO week of a moment, by the standard library alone."""
    return moment.strftime("%G-W%V")


@pytest.fixture
def write_note() -> Callable[..., None]:
    """Write the note of a paper; every section filled, status read."""

    def write(paper: Path, week: str, status: str = "read", sections: str = SECTIONS) -> None:
        (paper / "README.md").write_text(NOTE.format(week=week, status=status, sections=sections), "utf-8")

    return write


@pytest.fixture
def ended(judged: Workspace) -> datetime:
    """When the last run of the judged experiment ended, in the workspace's zone, Asia/Seoul."""
    from zoneinfo import ZoneInfo

    runs = Experiment.of(judged, "toy").runs()
    last = max(datetime.fromisoformat(run.ended or "") for run in runs)
    return last.astimezone(ZoneInfo("Asia/Seoul"))


@pytest.fixture
def counting(judged: Workspace, ended: datetime, write_note: Callable[..., None]) -> Workspace:
    """The judged workspace, in whose last runs' week the paper `toy` counts."""
    write_note(judged.papers / "toy", week_name(ended))
    return judged
