"""The verbs of the week as a user types them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from claimbook.cli.week import week
from claimbook.errors import PaperError
from claimbook.week import Week
from claimbook.workspace import Workspace


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(week, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def as_json(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


def put_paper(workspace: Workspace, slug: str, front_matter: str, title: str = "A title") -> None:
    folder = workspace.papers / slug
    folder.mkdir(parents=True)
    meta = json.loads((workspace.papers / "toy" / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, "title": title}))
    (folder / "README.md").write_text(f'---\nid: "2303.15343"\n{front_matter}\n---\n', "utf-8")


def test_this_weeks_paper_its_gaps_the_streak_and_the_year(counting: Workspace, ended: datetime) -> None:
    shown = run().stdout
    this = ended.strftime("%G-W%V")
    assert shown.startswith(f"{this}   ")
    assert "◐ open" in shown
    assert "toy  A toy" in shown
    assert "  ✓ judged\n  ○ page built: not built\n      → claimbook site build\n" in shown
    assert "streak     0 weeks, longest 0 weeks" in shown
    assert len(re.findall(r"\d{4}-W\d\d to W\d\d", shown)) == 4
    assert shown.count("[◐]") == 1
    assert "\x1b" not in shown


def test_scripts_read_the_same(counting: Workspace, ended: datetime) -> None:
    told = as_json()
    this = ended.strftime("%G-W%V")
    assert (told["week"], told["this_week"], told["state"]) == (this, this, "open")
    assert [item["step"] for item in told["papers"][0]["items"] if not item["done"]] == ["page"]
    assert told["year"][this] == "open"
    assert len(told["year"]) == datetime(ended.year, 12, 28).isocalendar().week
    assert told["catch_up"] == told["problems"] == []


def test_a_year_that_is_over_is_shown_in_four_rows(
    counting: Workspace, write_note: Callable[..., None]
) -> None:
    """The runs are later than 2020: the week of the paper was caught up, what followed was missed."""
    write_note(counting.papers / "toy", "2020-W52")
    shown = run("--year", "2020").stdout
    rows = [line for line in shown.splitlines() if " to W" in line]
    assert [len(re.findall("[·+✕]", row)) for row in rows] == [13, 13, 13, 14]
    assert rows[3].endswith(" ·  +  ✕ ")
    assert "+ caught up 1   ✕ missed 1   · before 51" in shown


def test_another_week_can_be_asked_for(counting: Workspace, write_note: Callable[..., None]) -> None:
    write_note(counting.papers / "toy", "2020-W53")
    told = as_json("--week", "2020-W53")
    assert (told["begins"], told["ends"], told["state"]) == ("2020-12-28", "2021-01-03", "caught up")
    assert [item["step"] for item in told["papers"][0]["items"]][-1] == "judged"
    assert "no paper has this week in its front matter\n" in run("--week", "2021-W01").stdout


@pytest.mark.parametrize("name", ["2025-W53", "2026-48", "next", "", "0001-W01"])
def test_what_is_no_week_is_refused(toy: Workspace, name: str) -> None:
    with pytest.raises(PaperError, match="is no week"):
        run("--week", name)


def test_without_a_paper_this_week_the_proposal_is_named(toy: Workspace) -> None:
    assert "no paper has this week in its front matter; `claimbook week next` proposes one" in run().stdout


def test_missed_weeks_are_listed_with_what_they_lack(counting: Workspace, ended: datetime) -> None:
    this = Week.named(ended.strftime("%G-W%V"))
    put_paper(counting, "older", f'status: read\nweek: "{this + -3}"', title="이미지 \u202e검색\x07")
    shown = run().stdout
    assert "to catch up: 3 weeks, the nearest to complete first" in shown
    lacks = "lacks: note filled in, hypothesis sealed, runs finished, judged"
    assert f"  {this + -3}  older  {lacks}\n            → papers/older/README.md\n" in shown
    assert f"  {this + -2}  no paper\n" in shown
    assert "\u202e" not in shown + run("--week", str(this + -3)).stdout


def test_a_week_that_is_excused_says_why(counting: Workspace) -> None:
    settings = counting.root / "pyproject.toml"
    settings.write_text(settings.read_text() + '\n[tool.claimbook.excused]\n"2026-W01" = "새해"\n', "utf-8")
    put_paper(counting, "older", 'status: read\nweek: "2025-W52"')
    assert "– excused: 새해\nno paper has this week" in run("--week", "2026-W01").stdout
    assert as_json("--week", "2026-W01")["excused"] == "새해"


def test_an_unreadable_paper_is_named_and_the_rest_is_shown(counting: Workspace) -> None:
    put_paper(counting, "broken", "status: maybe")
    result = run()
    assert "left out: papers/broken/README.md:3" in result.stderr
    assert "toy  A toy" in result.stdout
    assert "papers/broken/README.md:3" in as_json()["problems"][0]


# next


def test_the_next_paper_is_proposed_with_reasons_and_how_to_take_it(
    counting: Workspace, ended: datetime
) -> None:
    put_paper(counting, "plain", "status: queued")
    put_paper(counting, "shop", "status: queued", title="Retrieval of products")
    shown = run("next").stdout
    assert shown.splitlines()[:5] == [
        "shop  Retrieval of products   score -1",
        "  why: -1  nobody has written what it takes: `reproduction:` in its README.md",
        "       -2  its note lists no claim yet",
        "       +1  speaks of product",
        "       +1  speaks of retrieval",
    ]
    free = Week.named(ended.strftime("%G-W%V")) + 1  # this one has its paper
    assert shown.splitlines()[-1] == f"to take one: claimbook paper status shop reading --week {free}"
    assert [one["slug"] for one in as_json("next")] == ["shop", "plain"]
    assert as_json("next")[0]["score"] == -1
    only = run("next", "-n", "1").stdout
    assert "plain" not in only
    assert "1 of 2 in the queue; -n shows more" in only


def test_an_empty_library_says_how_to_begin(toy: Workspace) -> None:
    shutil.rmtree(toy.papers)
    assert run("next").stdout == "the library is empty: `claimbook paper add ID` adds a paper\n"
    assert as_json("next") == []
    assert "`claimbook week next` proposes one" in run().stdout


def test_an_empty_queue_says_how_to_fill_it(toy: Workspace) -> None:
    assert run("next").stdout.startswith("nothing is queued: `claimbook paper add ID` adds a paper")


def test_a_library_that_cannot_be_read_says_what_to_mend(toy: Workspace) -> None:
    (toy.papers / "toy" / "meta.json").unlink()
    result = run("next")
    assert result.stdout == "no paper can be read: mend the files that are named above\n"
    assert "left out: papers/toy/meta.json: the file is missing" in result.stderr


def test_options_of_the_week_are_not_lost_before_next(toy: Workspace) -> None:
    result = CliRunner().invoke(week, ["--json", "next"])
    assert result.exit_code == 2
    assert "claimbook week next" in result.output


def test_the_verb_in_a_process_of_its_own(counting: Workspace) -> None:
    """Plain text in a pipe, also where the locale knows ASCII only; torch and matplotlib stay unloaded."""
    code = (
        "import sys; from claimbook.cli import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'matplotlib', 'scipy', 'pyarrow'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "week"], capture_output=True, cwd=counting.root, env={"LC_ALL": "C"}
    )
    assert done.returncode == 0, done.stderr.decode()
    assert "✓ judged" in done.stdout.decode("utf-8")
    assert done.stdout.decode("utf-8").endswith("\n[]\n")


def test_nothing_is_written(counting: Workspace) -> None:
    def stamps() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in counting.root.rglob("*") if path.is_file()}

    before = stamps()
    run()
    run("next")
    assert stamps() == before
