"""Why a run is reused, or is not: each thing that decides, and what decides nothing. No kernel runs here."""

from __future__ import annotations

import msgspec
import papermill
import pytest

from claimbook.experiments import BY_HAND, Experiment, Metrics, this_process
from claimbook.records import Failure, Finish, Run
from claimbook.runner import batch, sealing
from claimbook.runner.explanation import explain
from claimbook.runner.reuse import as_said, coverage, outlook, reusable
from claimbook.runner.state import current_state


@pytest.fixture
def experiment(toy) -> Experiment:
    """The toy experiment, whose notebook imports a module beside it."""
    (toy.notebooks / "shelf.py").write_text("WIDTH = 1\nDEPTH = 2\n")
    change(toy, "import os, random", "import shelf, os, random")
    return Experiment.of(toy, "toy")


def change(toy, old: str, new: str) -> None:
    notebook = toy.notebook("toy")
    text = notebook.read_text()
    assert old in text
    notebook.write_text(text.replace(old, new))


def record(toy, experiment, arm: str = "treatment", seed: int = 0, changes=None, **fields) -> Run:
    """A run as a batch of this moment would leave it, without its kernel."""
    state = current_state(toy, experiment, seeds=[seed], changes=changes)
    covered = coverage(experiment, state, changes or {})
    run = Run(
        id=f"{arm}-s{seed}-{len(experiment.runs())}", experiment="toy", arm=arm, seed=seed,
        kind="confirmatory" if covered.seal else "exploratory", why_exploratory=covered.why_exploratory,
        seal=covered.seal, notebook="toy", parameters=state.parameters[arm, seed],
        fingerprints=state.fingerprints, environment={}, git={}, status="finished",
        started=f"2026-11-24T00:00:0{len(experiment.runs())}Z", process=this_process(),
    )  # fmt: skip
    run = msgspec.structs.replace(run, **fields)
    experiment.save_run(run)
    return run


def explained(toy, experiment, run: Run):
    return explain(toy, experiment, experiment.run(run.id))


def test_a_run_of_this_very_state_is_reused(toy, experiment):
    sealing.seal(toy, experiment)
    run = record(toy, experiment)
    told = explained(toy, experiment, run)
    assert (told.reused, told.hinders, told.difference) == (True, [], "")
    assert told.advice == "nothing to do: `claimbook run toy` reuses it"
    assert batch.plan(toy, experiment).reused == [run]


def test_versions_hardware_and_git_are_shown_and_hinder_nothing(toy, experiment):
    sealing.seal(toy, experiment)
    was = {"python": "3.9.1", "torch": "1.0", "gone": "7", "gpu": "H100", "threads": "8"}
    run = record(toy, experiment, environment=was, git={"commit": "abc", "diff": None}, kernel="warm")
    told = explained(toy, experiment, run)
    assert told.reused
    beside = {one.what: (one.was, one.now) for one in told.beside}
    assert beside["python"][0] == "3.9.1"
    assert beside["gone"] == ("7", None)
    assert beside["git commit"] == ("abc", None)
    assert told.made_with == {"gpu": "H100", "threads": "8", "kernel": "warm"}


def test_a_changed_notebook_is_named_by_cell_and_shown(toy, experiment):
    sealing.seal(toy, experiment)
    run = record(toy, experiment)
    change(toy, "n = 200", "n = 400")
    told = explained(toy, experiment, run)
    assert "notebook code changed" in told.hinders
    assert told.cells == ["code cell 3 changed"]
    assert told.difference.splitlines()[:2] == ["--- run/notebook", "+++ now/notebook"]
    changed = [line for line in told.difference.splitlines()[2:] if line[:1] in "-+"]
    assert changed == ["-n = 200", "+n = 400"]
    assert told.advice.startswith("undo what changed, and it is reused; else `claimbook run toy` makes one, ")
    change(toy, "n = 400", "n = 200")
    assert explained(toy, experiment, run).reused


def test_without_a_seal_the_executed_notebook_tells_what_it_was(toy, experiment):
    run = record(toy, experiment)
    notebook = toy.notebook("toy")
    papermill.execute_notebook(
        notebook, experiment.notebook_path(run.id), {"effect": 0.6}, prepare_only=True, progress_bar=False
    )
    change(toy, "n = 200", "n = 400")
    told = explained(toy, experiment, run)
    assert told.cells == ["code cell 3 changed"]
    assert "-n = 200" in told.difference.splitlines()


def test_a_text_that_is_not_kept_is_said_to_be_lost(toy, experiment):
    run = record(toy, experiment)
    change(toy, "n = 200", "n = 400")
    (toy.notebooks / "shelf.py").write_text("WIDTH = 3\n")
    told = explained(toy, experiment, run)
    assert told.hinders == ["notebook code changed", "technique code changed"]
    assert told.cells == []
    assert told.difference.splitlines() == [
        "# notebook: its earlier text was not kept",
        "# notebooks/shelf.py: its earlier text was not kept",
    ]


def test_code_that_changed_came_or_went_is_told_apart(toy, experiment):
    (toy.notebooks / "old.py").write_text("OLD = 1\n")
    (toy.notebooks / "shelf.py").write_text("import old\nWIDTH = 1\n")
    sealing.seal(toy, experiment)
    run = record(toy, experiment)
    (toy.notebooks / "new.py").write_text("NEW = 1\n")
    (toy.notebooks / "shelf.py").write_text("import new\nWIDTH = 1\n")
    told = explained(toy, experiment, run)
    assert {one.what: (bool(one.was), bool(one.now)) for one in told.code} == {
        "notebooks/old.py": (True, False),
        "notebooks/shelf.py": (True, True),
        "notebooks/new.py": (False, True),
    }
    changed = [line for line in told.difference.splitlines() if line[:2] in ("-i", "+i", "-O", "+N")]
    assert sorted(changed) == ["+NEW = 1", "+import new", "-OLD = 1", "-import old"]


def test_a_changed_product_set_hinders(toy, experiment):
    run = record(toy, experiment)
    table = toy.root / "data" / "items.jsonl"
    table.write_text(table.read_text().replace("mug 3", "컵 3"))
    told = explained(toy, experiment, run)
    assert told.hinders == ["product set changed"]
    assert told.data.was == run.fingerprints["data"]


def test_changed_parameters_are_named_with_both_values_and_the_pilot_that_reuses_the_run(toy, experiment):
    run = record(toy, experiment, seed=101, changes={"effect": 0.5, "crash": "강 남"})
    told = explained(toy, experiment, run)
    assert told.hinders == ["other parameters (effect 0.5 → 0.6, crash '강 남' → '')"]
    assert told.advice == ("`claimbook run toy --seeds 101 --set effect=0.5 --set 'crash=강 남'` reuses it")
    plan = batch.plan(toy, experiment, seeds=[101], changes={"effect": 0.5, "crash": "강 남"})
    assert plan.reused == [run]


def test_a_pilot_of_another_seed_is_reused_by_the_same_pilot(toy, experiment):
    sealing.seal(toy, experiment)
    told = explained(toy, experiment, record(toy, experiment, seed=101))
    assert (told.reused, told.command) == (True, "claimbook run toy --seeds 101")


def test_a_run_made_before_the_seal_never_counts(toy, experiment):
    sealing.seal(toy, experiment)
    run = record(toy, experiment, kind="exploratory", seal=None, why_exploratory=["not sealed"])
    told = explained(toy, experiment, run)
    assert told.hinders == ["no seal covers it: not sealed"]
    assert told.advice == "`claimbook run toy` makes one under the seal in force"


def test_a_run_of_an_earlier_seal_never_counts_for_the_next(toy, experiment, edit):
    edit("3, 4, 5]", "3, 4, 5, 6]")
    first = sealing.seal(toy, experiment)
    run = record(toy, experiment)
    second, _ = sealing.amend(toy, experiment, "again")
    told = explained(toy, experiment, run)
    assert told.hinders == [f"it counts for seal {first.hash[:12]}, and {second.hash[:12]} is in force"]
    assert told.seal_in_force == second.hash


@pytest.mark.parametrize(
    ("fields", "hinder"),
    [
        (
            {"status": "failed", "failure": Failure(error="ValueError", message="빈 선반\nmore", cell=2)},
            "it failed in cell 2: ValueError: 빈 선반",
        ),
        ({"status": "timed-out"}, "it timed out"),
        ({"status": "out-of-memory"}, "it ran out of memory"),
        ({"status": "cancelled"}, "it was cancelled"),
        ({"status": "running"}, "it is under way"),
        ({"rerun": "rerun-1", "kind": "replication"}, "it replicates for rerun-1"),
    ],
)
def test_how_a_run_ended_is_the_reason(toy, experiment, fields, hinder):
    told = explained(toy, experiment, record(toy, experiment, **fields))
    assert told.hinders == [hinder]
    assert batch.plan(toy, experiment).reused == []


def test_a_lost_run_is_lost_unless_its_notebook_had_said_its_result(toy, experiment):
    dead = msgspec.structs.replace(this_process(), pid=2**22 + 1)
    run = record(toy, experiment, status="running", process=dead)
    assert explained(toy, experiment, run).hinders == ["it was lost: its supervisor or its machine died"]
    Metrics(experiment, run.id).append(Finish(metrics={"hit@1": 0.5}, chance={}, items_sha256=None))
    assert explained(toy, experiment, run).reused
    (prospect,) = [
        one for one in outlook(toy, experiment).prospects if (one.arm, one.seed) == (run.arm, run.seed)
    ]
    assert (prospect.reused, prospect.run) == (True, run.id)
    lost, said = experiment.run(run.id), [current_state(toy, experiment).fingerprints]
    assert as_said(experiment, lost, said).metrics == {"hit@1": 0.5}
    assert as_said(experiment, lost, []) == lost  # nobody looked whether the code changed under it


def test_a_run_that_was_entered_as_lost_stays_lost(toy, experiment):
    """Its batch has seen it die, whatever its notebook had said."""
    run = record(toy, experiment, status="lost")
    Metrics(experiment, run.id).append(Finish(metrics={"hit@1": 0.5}, chance={}, items_sha256=None))
    experiment.enter_start(run)
    experiment.enter_end(run)
    assert explained(toy, experiment, run).hinders == ["it was lost: its supervisor or its machine died"]
    assert not any(one.reused for one in outlook(toy, experiment).prospects)


def test_a_deleted_run_can_be_brought_back(toy, experiment):
    run = record(toy, experiment)
    experiment.delete(run.id)
    told = explained(toy, experiment, run)
    assert told.hinders == ["it was put away"]
    assert told.advice == f"`claimbook restore {run.id}` brings it back"


def test_of_two_runs_alike_the_first_is_taken(toy, experiment):
    first, second = record(toy, experiment), record(toy, experiment)
    assert explained(toy, experiment, first).reused
    told = explained(toy, experiment, second)
    assert told.hinders == [f"{first.id}, made before it, is taken"]
    assert told.advice == f"nothing to do: `claimbook run toy` reuses {first.id} in its place"


def test_where_another_run_stands_for_one_that_failed_nothing_is_to_be_done(toy, experiment):
    failed = record(toy, experiment, status="failed")
    assert explained(toy, experiment, failed).advice.startswith("`claimbook run toy` makes one")
    made = record(toy, experiment)
    told = explained(toy, experiment, failed)
    assert told.hinders == ["it failed"]
    assert told.advice == f"nothing to do: `claimbook run toy` reuses {made.id} in its place"


def test_a_run_that_took_the_fallback_shows_what_it_made_of_the_batch(toy, experiment, edit):
    change(toy, "seed: int", "batch: int = 8\\naccumulate: int = 1\\nseed: int")
    edit('products = "tiny"', 'products = "tiny"\nbatch = 8\naccumulate = 1')
    fallback = '\n[fallback]\nhalve = "batch"\ndouble = "accumulate"\n'
    edit("shuffle = true\n", "shuffle = true\n" + fallback)
    planned = current_state(toy, experiment).parameters["treatment", 0]
    run = record(toy, experiment, fallbacks=2, parameters={**planned, "batch": 2, "accumulate": 4})
    told = explained(toy, experiment, run)
    assert told.reused
    assert told.made_with == {"fallbacks": "2, because memory ran out: batch 8 → 2, accumulate 1 → 4"}
    edit(fallback, "")
    told = explained(toy, experiment, run)
    assert told.hinders == ["the fallback that it took is not declared"]
    assert told.made_with == {"fallbacks": "2, because memory ran out"}


def test_a_run_by_hand_belongs_to_no_hypothesis(toy, experiment):
    hand = Experiment(toy.experiments / BY_HAND)
    run = msgspec.structs.replace(
        record(toy, experiment),
        id="by-hand-1",
        experiment=BY_HAND,
        fingerprints={},
        why_exploratory=["run by hand"],
    )
    hand.save_run(run)
    told = explain(toy, hand, hand.run("by-hand-1"))
    assert told.hinders == ["no hypothesis plans it (run by hand)"]
    assert "claimbook new" in told.advice


def test_a_state_that_cannot_be_told_is_part_of_the_explanation(toy, experiment):
    run = record(toy, experiment)
    change(toy, "effect: float", "effectt: float")
    told = explained(toy, experiment, run)
    assert not told.reused
    assert "no run can be made now: experiments/toy/hypothesis.toml: arm baseline: " in told.hinders[0]
    assert "did you mean 'effectt'" in told.hinders[0]


def test_an_arm_that_is_gone_is_named(toy, experiment, edit):
    run = record(toy, experiment, arm="shuffled")
    edit("\n[controls.shuffled]\nshuffle = true\n", "")
    told = explained(toy, experiment, run)
    assert told.hinders == ["no run of shuffled with seed 0 is planned"]
    assert told.advice == "hypothesis.toml has no arm 'shuffled'; it has baseline, treatment"


def test_the_rule_takes_a_replication_for_its_own_rerun_alone(toy, experiment):
    entry = sealing.seal(toy, experiment)
    run = record(toy, experiment, kind="replication", rerun="rerun-1")
    state = current_state(toy, experiment)
    assert reusable(run, state, entry.hash, "rerun-1") == []
    assert reusable(run, state, entry.hash, "rerun-2") == ["it replicates for rerun-1"]
    assert reusable(record(toy, experiment), state, entry.hash, "rerun-1") == [
        "it is no replication for rerun-1"
    ]


def test_the_outlook_agrees_with_the_plan_and_names_the_nearest_run(toy, experiment):
    sealing.seal(toy, experiment)
    done = [record(toy, experiment, "baseline", 0), record(toy, experiment, "treatment", 0)]
    record(toy, experiment, "baseline", 1, status="failed", fingerprints={})
    failed = record(toy, experiment, "baseline", 1, status="cancelled")
    seen = outlook(toy, experiment)
    plan = batch.plan(toy, experiment)
    assert plan.reused == done
    assert [(p.arm, p.seed) for p in seen.prospects if not p.reused] == plan.missing
    by_pair = {(p.arm, p.seed): p for p in seen.prospects}
    assert len(by_pair) == 18
    assert by_pair["treatment", 0].run == done[1].id
    assert (by_pair["baseline", 1].run, by_pair["baseline", 1].hinders) == (failed.id, ["it was cancelled"])
    assert by_pair["shuffled", 5].hinders == ["never run"]
