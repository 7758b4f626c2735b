"""A real judged experiment makes a week count, and each gap alone is named with what mends it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec

from claimbook.experiments import Experiment, finished_runs
from claimbook.site import build
from claimbook.week import Item, Progress, read
from claimbook.workspace import Workspace

TOY = "papers/toy/README.md"


def the_paper(workspace: Workspace, now: datetime) -> Progress:
    (papers,) = read(workspace, now).papers.values()
    return papers[0]


def gaps(workspace: Workspace, now: datetime) -> dict[str, tuple[str | None, str]]:
    return {item.step: (item.missing, item.mend) for item in the_paper(workspace, now).missing}


def later(ended: datetime) -> datetime:
    """When the week of the runs is over."""
    return ended + timedelta(weeks=1)


def test_a_judged_experiment_makes_its_week_count(counting: Workspace, ended: datetime) -> None:
    paper = the_paper(counting, later(ended))
    assert [item.step for item in paper.items] == ["read", "note", "sealed", "runs", "judged"]
    assert paper.missing == []
    assert paper.last == ended
    assert paper.experiment == "toy"


def test_an_unread_paper_is_named(counting: Workspace, ended: datetime) -> None:
    readme = counting.root / TOY
    readme.write_text(readme.read_text().replace("status: read", "status: reading"))
    expected = ("status is reading", "claimbook paper status toy read")
    assert gaps(counting, later(ended)) == {"read": expected}


def test_an_empty_section_is_named(counting: Workspace, ended: datetime) -> None:
    readme = counting.root / TOY
    readme.write_text(readme.read_text().replace("## Question 4\n\nAn answer.", "## Question 4\n"))
    assert gaps(counting, later(ended)) == {"note": ("empty: Question 4", TOY)}


def test_a_missing_run_is_named(counting: Workspace, ended: datetime) -> None:
    experiment = Experiment.of(counting, "toy")
    shutil.rmtree(experiment.run_folder(experiment.runs()[0].id))
    assert gaps(counting, later(ended)) == {"runs": ("17 of 18 finished", "claimbook run toy")}


def test_a_missing_verdict_is_named(counting: Workspace, ended: datetime) -> None:
    Experiment.of(counting, "toy").verdict_path.unlink()
    expected = ("no verdict under this seal", "claimbook judge toy")
    assert gaps(counting, later(ended)) == {"judged": expected}


def test_a_verdict_under_another_seal_is_none(counting: Workspace, ended: datetime) -> None:
    path = Experiment.of(counting, "toy").verdict_path
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seal": "0" * 64}))
    assert list(gaps(counting, later(ended))) == ["judged"]


def test_without_a_seal_nothing_that_was_run_counts(counting: Workspace, ended: datetime) -> None:
    Experiment.of(counting, "toy").seal_path.unlink()
    found = gaps(counting, later(ended))
    assert list(found) == ["sealed", "runs", "judged"]
    assert found["sealed"] == (
        "experiment toy is not sealed",
        "claimbook check toy && claimbook seal toy",
    )


def test_an_experiment_on_no_claim_of_the_note_is_none(counting: Workspace, ended: datetime) -> None:
    readme = counting.root / TOY
    readme.write_text(readme.read_text().replace("id: larger", "id: other"))
    missing = "experiment toy tests 'larger', no claim of the note"
    assert gaps(counting, later(ended))["sealed"] == (missing, TOY)


def test_a_paper_without_an_experiment_is_told_how_to_begin_one(counting: Workspace, ended: datetime) -> None:
    shutil.rmtree(counting.experiments / "toy")
    begin = "claimbook new toy --paper toy --claim larger --notebook toy"
    assert gaps(counting, later(ended))["sealed"] == ("no experiment on one of its claims", begin)
    counting.notebook("toy").unlink()
    assert gaps(counting, later(ended))["sealed"][1] == begin.replace("notebook toy", "notebook NOTEBOOK")


def test_of_several_experiments_the_furthest_counts(counting: Workspace, ended: datetime) -> None:
    """A copy under another name, not even sealed, and one with fewer runs take nothing away."""
    for slug in ("a-first", "z-last"):
        shutil.copytree(counting.experiments / "toy", counting.experiments / slug)
    (counting.experiments / "a-first" / "seal.json").unlink()
    shutil.rmtree(counting.experiments / "z-last" / "runs")
    paper = the_paper(counting, later(ended))
    assert (paper.experiment, paper.missing) == ("toy", [])


def test_a_run_counts_once_and_the_first_that_finished(counting: Workspace) -> None:
    experiment = Experiment.of(counting, "toy")
    seal = experiment.seal()
    assert seal is not None
    runs = experiment.runs()
    again = [msgspec.structs.replace(run, id=f"{run.id}-again", ended="2099-01-01T00:00:00Z") for run in runs]
    assert finished_runs(seal.current, [*again, *runs]) == {(run.arm, run.seed): run for run in runs}


def test_the_page_is_asked_of_the_current_week_only(counting: Workspace, ended: datetime) -> None:
    assert gaps(counting, ended) == {"page": ("not built", "claimbook site build")}
    assert gaps(counting, later(ended)) == {}


def test_a_page_older_than_its_records_is_built_again(counting: Workspace, ended: datetime) -> None:
    build(counting)
    assert gaps(counting, ended) == {}
    for record in (TOY, "experiments/toy/verdict.json", "papers/toy/meta.json"):
        path = counting.root / record
        before = path.stat()
        newer = (counting.site / "index.html").stat().st_mtime_ns + 1_000_000_000
        os.utime(path, ns=(newer, newer))
        assert gaps(counting, ended) == {"page": ("older than the records", "claimbook site build")}, record
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    (counting.site / "experiments" / "toy.html").unlink()
    assert gaps(counting, ended)["page"][0] == "not built"


def test_while_the_pages_are_being_built_they_count(counting: Workspace, ended: datetime) -> None:
    (papers,) = read(counting, ended, building=True).papers.values()
    assert papers[0].items[-1] == Item("page", None, "claimbook site build")
    shutil.rmtree(counting.experiments / "toy")
    (papers,) = read(counting, ended, building=True).papers.values()
    assert papers[0].items[-1].missing == "no experiment to show"


def test_deleting_the_site_changes_nothing_of_the_past(
    counting: Workspace, ended: datetime, write_note: Callable[..., None]
) -> None:
    build(counting)
    before = read(counting, later(ended))
    shutil.rmtree(counting.site)
    assert read(counting, later(ended)) == before
    assert before.streak == 1
