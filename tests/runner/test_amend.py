"""What an amendment keeps: the reason, the difference in full, and the earlier seals. No kernel runs here."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from claimbook.cli import cli
from claimbook.errors import JudgeError, SealError
from claimbook.experiments import Experiment, this_process
from claimbook.judge.of_experiment import judge_experiment
from claimbook.records import Run
from claimbook.runner import batch, sealing


@pytest.fixture
def experiment(toy) -> Experiment:
    """The toy experiment, whose notebook imports a module beside it."""
    (toy.notebooks / "shelf.py").write_text("WIDTH = 1\nDEPTH = 2\n")
    notebook = toy.notebook("toy")
    notebook.write_text(notebook.read_text().replace("import os, random", "import shelf, os, random"))
    return Experiment.of(toy, "toy")


def record(toy, experiment, arm: str, seed: int, **changes) -> Run:
    """A finished run as a batch of this moment would leave it, without its kernel."""
    seeds = None if seed in range(6) else [seed]
    plan = batch.plan(toy, experiment, seeds=seeds)
    run = Run(
        id=f"{arm}-s{seed}-{len(experiment.runs())}", experiment="toy", arm=arm, seed=seed, kind=plan.kind,
        why_exploratory=plan.why_exploratory, seal=plan.seal, notebook="toy",
        parameters=plan.state.parameters[arm, seed], fingerprints=plan.state.fingerprints, environment={},
        git={}, status="finished", started="2026-11-23T00:00:00Z", process=this_process(),
        metrics={"hit@1": 0.2},
    )  # fmt: skip
    experiment.save_run(run)
    experiment.enter_start(run)
    experiment.enter_end(run)
    return run


def amended(toy, experiment, reason: str = "더 엄격하게 보려고") -> list[str]:
    """Amend, and return the lines of the difference that begin with - or +."""
    entry, _ = sealing.amend(toy, experiment, reason)
    assert entry.reason == reason
    return [line for line in entry.changes.splitlines() if line[:1] in "-+"]


def test_a_changed_field_of_the_hypothesis_stands_in_the_difference(toy, experiment, edit):
    sealing.seal(toy, experiment)
    edit("margin   = 0.05", "margin   = 0.04")
    edit("effect = 0.6", "effect = 0.7")
    assert amended(toy, experiment) == [
        "--- sealed/hypothesis",
        "+++ now/hypothesis",
        "-margin = 0.05",
        "+margin = 0.04",
        "-arms.treatment.effect = 0.6",
        "+arms.treatment.effect = 0.7",
    ]


def test_korean_text_stands_in_the_difference_as_it_was_written(toy, experiment, edit):
    sealing.seal(toy, experiment)
    edit('"Queries miss their product."', '"검색어가 알맞은 상품을 찾지 못한다."')
    assert '+questions.problem = "검색어가 알맞은 상품을 찾지 못한다."' in amended(toy, experiment)


def test_a_changed_line_of_the_notebook_stands_in_the_difference(toy, experiment):
    sealing.seal(toy, experiment)
    notebook = toy.notebook("toy")
    notebook.write_text(notebook.read_text().replace("n = 200", "n = 400"))
    assert amended(toy, experiment) == ["--- sealed/notebook", "+++ now/notebook", "-n = 200", "+n = 400"]


def test_a_changed_line_of_technique_code_stands_in_the_difference(toy, experiment):
    sealing.seal(toy, experiment)
    (toy.notebooks / "shelf.py").write_text("WIDTH = 1\nDEPTH = 3\n")
    assert amended(toy, experiment) == [
        "--- sealed/notebooks/shelf.py",
        "+++ now/notebooks/shelf.py",
        "-DEPTH = 2",
        "+DEPTH = 3",
    ]


def test_a_code_file_that_came_or_went_stands_in_the_difference(toy, experiment):
    sealing.seal(toy, experiment)
    (toy.notebooks / "board.py").write_text("LENGTH = 9\n")
    (toy.notebooks / "shelf.py").write_text("import board\nWIDTH = 1\nDEPTH = 2\n")
    changes = amended(toy, experiment)
    assert "+++ now/notebooks/board.py" in changes
    assert "+LENGTH = 9" in changes
    (toy.notebooks / "shelf.py").write_text("WIDTH = 1\nDEPTH = 2\n")
    assert "-LENGTH = 9" in amended(toy, experiment, "back")


def test_another_product_set_stands_in_the_difference(toy, experiment):
    first = sealing.seal(toy, experiment)
    table = toy.root / "data" / "items.jsonl"
    table.write_text(table.read_text().replace("mug 3", "cup 3"))
    changes = amended(toy, experiment)
    assert changes[:2] == ["--- sealed/product set", "+++ now/product set"]
    assert f"-fingerprint {first.data}" in changes
    assert f"+fingerprint {experiment.seal().current.data}" in changes


def test_earlier_seals_stay_byte_for_byte_what_they_were(toy, experiment, edit):
    sealing.seal(toy, experiment)
    before = experiment.seal_path.read_text()
    kept = before[: before.rindex("\n    }")]  # all of the first entry
    assert '"reason": null' in kept
    sources = {path: path.read_bytes() for path in experiment.folder.glob("sealed/*.json")}
    for margin in ("0.04", "0.03"):
        edit(f"margin   = {'0.05' if margin == '0.04' else '0.04'}", f"margin   = {margin}")
        sealing.amend(toy, experiment, "a slip")
        assert experiment.seal_path.read_text().startswith(kept)
    first, second, third = experiment.seal().entries
    assert [entry.hypothesis.margin for entry in (first, second, third)] == [0.05, 0.04, 0.03]
    assert (first.previous, second.previous, third.previous) == (None, first.hash, second.hash)
    assert {path: path.read_bytes() for path in sources} == sources
    assert len(list(experiment.folder.glob("sealed/*.json"))) == 3


def test_an_amendment_that_changes_nothing_is_a_new_seal(toy, experiment):
    first = sealing.seal(toy, experiment)
    entry, changed = sealing.amend(toy, experiment, "처음부터 다시 하려고")
    assert (changed, entry.changes) == ([], "")
    assert entry.hash != first.hash
    assert entry.hypothesis == first.hypothesis


def test_starting_over_after_a_result_takes_the_seeds_of_a_family_of_two(toy, experiment):
    first = sealing.seal(toy, experiment)
    run = record(toy, experiment, "baseline", 0)
    assert batch.plan(toy, experiment).reused == [run]
    with pytest.raises(SealError, match=r"in a family of 2.*\n.*7 seeds"):
        sealing.amend(toy, experiment, "기록을 잃어버려서")
    assert experiment.seal().entries == [first]


def test_runs_made_before_an_amendment_never_count_for_it(toy, experiment, edit):
    sealing.seal(toy, experiment)
    record(toy, experiment, "baseline", 0)
    edit("seeds    = [0, 1, 2, 3, 4, 5]", "seeds    = [0, 1, 2, 3, 4, 5, 6]")
    sealing.amend(toy, experiment, "one seed more")
    plan = batch.plan(toy, experiment)
    assert plan.reused == []
    assert len(plan.missing) == 21
    with pytest.raises(JudgeError, match=r"baseline seed 0 \(under another seal\)"):
        judge_experiment(toy, experiment)


def test_an_amendment_needs_a_reason_and_something_sealed(toy, experiment):
    with pytest.raises(SealError, match=r"nothing is sealed yet\n.*claimbook seal toy"):
        sealing.amend(toy, experiment, "too early")
    sealing.seal(toy, experiment)
    with pytest.raises(SealError, match=r'needs a reason\n.*--reason "…"'):
        sealing.amend(toy, experiment, "  ")
    assert len(experiment.seal().entries) == 1


def test_where_the_sealed_text_is_lost_the_difference_names_the_parts(toy, experiment, edit):
    sealing.seal(toy, experiment)
    (path,) = experiment.folder.glob("sealed/*.json")
    path.unlink()
    edit("margin   = 0.05", "margin   = 0.04")
    notebook = toy.notebook("toy")
    notebook.write_text(notebook.read_text().replace("n = 200", "n = 400"))
    entry, changed = sealing.amend(toy, experiment, "a larger test set")
    assert changed == ["hypothesis (margin)", "notebook code"]
    assert "+margin = 0.04" in entry.changes
    assert "# notebook code changed; its sealed text was not kept" in entry.changes
    assert "n = 400" not in entry.changes


def test_checking_a_changed_design_counts_the_seal_whose_result_has_been_seen(toy, experiment, edit):
    first = sealing.seal(toy, experiment)
    assert sealing.check(toy, experiment).family == []
    edit("margin   = 0.05", "margin   = 0.04")
    assert sealing.check(toy, experiment).family == []  # nobody has seen a result
    edit("margin   = 0.04", "margin   = 0.05")
    record(toy, experiment, "baseline", 0)
    assert sealing.check(toy, experiment).family == []  # the state that is sealed
    edit("margin   = 0.05", "margin   = 0.04")
    checked = sealing.check(toy, experiment)
    assert checked.family == [f"toy, seal {first.hash[:8]}"]
    assert checked.design.smallest_p_adjusted == 2 * 2 / 2**6
    assert any("7 seeds" in found.fix for found in checked.design.problems)


def test_a_pilot_that_was_put_away_has_still_seen_its_seeds(toy, experiment):
    pilot = record(toy, experiment, "treatment", 3)
    experiment.delete(pilot.id)
    assert experiment.runs() == []
    with pytest.raises(SealError, match="seeds 3 were run with these parameters before the seal"):
        sealing.seal(toy, experiment)


def test_a_pilot_that_was_put_away_still_tells_the_smallest_effect(toy, experiment):
    for seed in (101, 102):
        for arm in ("baseline", "treatment"):
            experiment.delete(record(toy, experiment, arm, seed).id)
    assert sealing.check(toy, experiment).pilot.seeds == [101, 102]


def test_what_is_written_down_is_what_a_reader_of_the_file_finds(toy, experiment, edit):
    sealing.seal(toy, experiment)
    edit("margin   = 0.05", "margin   = 0.04")
    sealing.amend(toy, experiment, "여백을 퍼센트로 적었던 실수")
    raw = json.loads(experiment.seal_path.read_text())["entries"][1]
    assert raw["reason"] == "여백을 퍼센트로 적었던 실수"
    assert "-margin = 0.05\n+margin = 0.04" in raw["changes"]


def test_the_command_shows_the_difference_and_what_it_costs(toy, experiment, edit):
    sealing.seal(toy, experiment)
    assert CliRunner().invoke(cli, ["amend", "toy"]).exit_code == 2  # no reason
    edit("margin   = 0.05", "margin   = 0.04")
    done = CliRunner().invoke(cli, ["amend", "toy", "--reason", "실수를 바로잡으려고"])
    assert done.exit_code == 0
    assert "  -margin = 0.05\n  +margin = 0.04\n" in done.output
    assert "changed: hypothesis (margin); runs made before do not count any more" in done.output
    assert experiment.seal().current.reason == "실수를 바로잡으려고"
