"""Which designs are sealed, what an amendment costs, and who belongs to a family. No kernel runs here."""

from __future__ import annotations

import shutil

import pytest
from msgspec.structs import replace

from claimbook import integrity
from claimbook.errors import RecordError, SealError
from claimbook.experiments import Experiment, register, this_process
from claimbook.judge.of_experiment import family
from claimbook.records import Run
from claimbook.runner import batch, sealing


@pytest.fixture
def experiment(toy) -> Experiment:
    return Experiment.of(toy, "toy")


def record(toy, experiment, arm: str, seed: int, score: float, changes=None) -> Run:
    """A finished run as a batch of this moment would leave it, without its kernel."""
    if changes is None and seed in range(6):
        plan = batch.plan(toy, experiment)
    else:
        plan = batch.plan(toy, experiment, seeds=[seed], changes=changes)
    run = Run(
        id=f"{arm}-s{seed}-{score}", experiment="toy", arm=arm, seed=seed,
        kind="confirmatory" if plan.seal else "exploratory", why_exploratory=plan.why_exploratory,
        seal=plan.seal, notebook="toy", parameters=plan.state.parameters[arm, seed],
        fingerprints=plan.state.fingerprints, environment={}, git={}, status="finished",
        started="2026-11-23T00:00:00Z", process=this_process(), metrics={"hit@1": score},
    )  # fmt: skip
    experiment.save_run(run)
    return run


def test_amending_back_to_an_old_state_is_a_new_seal(toy, experiment, edit):
    first = sealing.seal(toy, experiment)
    old = record(toy, experiment, "baseline", 0, 0.2)
    assert old.seal == first.hash
    edit("scores higher", "scores lower")
    edit("seeds    = [0, 1, 2, 3, 4, 5]", "seeds    = [0, 1, 2, 3, 4, 5, 6]")
    sealing.amend(toy, experiment, "a slip")
    edit("scores lower", "scores higher")
    third, changed = sealing.amend(toy, experiment, "no slip")
    assert changed == ["hypothesis (title)"]
    assert third.hash != first.hash
    assert batch.plan(toy, experiment).reused == []


def test_a_seal_under_which_a_run_finished_stays_in_the_family(toy, experiment, edit):
    first = sealing.seal(toy, experiment)
    edit("margin   = 0.05", "margin   = 0.04")
    sealing.amend(toy, experiment, "nobody has seen anything yet")
    assert sealing.check(toy, experiment).family == []
    second = experiment.seal().current
    record(toy, experiment, "baseline", 0, 0.2)
    edit("margin   = 0.04", "margin   = 0.03")
    edit("seeds    = [0, 1, 2, 3, 4, 5]", "seeds    = [6, 7, 8, 9, 10, 11, 12]")
    sealing.amend(toy, experiment, "now somebody has")
    members = {one.name: one.p for one in family(toy, experiment, first.data, "hit@1")}
    assert members == {f"toy, seal {second.hash[:8]}": None}


def test_an_amendment_that_makes_the_design_undecidable_is_refused(toy, experiment, edit):
    sealing.seal(toy, experiment)
    record(toy, experiment, "baseline", 0, 0.2)
    edit("margin   = 0.05", "margin   = 0.04")
    with pytest.raises(SealError, match="7 seeds"):
        sealing.amend(toy, experiment, "six seeds cannot reach alpha in a family of two")


def test_another_experiment_on_the_same_products_and_metric_joins_the_family(toy, experiment):
    sealing.seal(toy, experiment)
    other = toy.experiments / "other"
    other.mkdir()
    text = (experiment.folder / "hypothesis.toml").read_text()
    (other / "hypothesis.toml").write_text(text.replace("[0, 1, 2, 3, 4, 5]", "[0, 1, 2, 3, 4, 5, 6]"))
    assert sealing.check(toy, Experiment(other)).family == ["toy"]
    (experiment.folder / "hypothesis.toml").unlink()  # it stays in the family by its seal
    assert sealing.check(toy, Experiment(other)).family == ["toy"]


def test_seeds_whose_result_has_been_seen_cannot_be_sealed(toy, experiment):
    record(toy, experiment, "baseline", 3, 0.2)
    with pytest.raises(SealError, match="seeds 3 were run with these parameters before the seal") as caught:
        sealing.seal(toy, experiment)
    assert "such as 6 to 11" in str(caught.value)


def test_a_pilot_with_other_seeds_is_welcome_and_tells_the_smallest_effect(toy, experiment):
    for seed, difference in ((101, 0.30), (102, 0.40), (103, 0.35)):
        record(toy, experiment, "baseline", seed, 0.2)
        record(toy, experiment, "treatment", seed, 0.2 + difference)
    record(toy, experiment, "treatment", 104, 0.9, changes={"effect": 0.9})  # another setting: no part of it
    checked = sealing.check(toy, experiment)
    assert checked.pilot.seeds == [101, 102, 103]
    assert checked.design.pilot_sd == pytest.approx(0.05)
    assert checked.design.problems == ()


def test_arms_that_differ_only_by_a_default_written_out_are_refused(toy, experiment, edit):
    edit("[arms.baseline]\neffect = 0.2", "[arms.baseline]")
    edit("effect = 0.6", "effect = 0.1")  # the notebook's default
    with pytest.raises(SealError, match="baseline gives the notebook the same parameters as the treatment"):
        sealing.seal(toy, experiment)


def test_a_control_that_changes_nothing_is_refused(toy, experiment, edit):
    edit("shuffle = true", "shuffle = false")
    with pytest.raises(SealError, match="shuffled gives the notebook the same parameters"):
        sealing.seal(toy, experiment)


def test_a_claim_that_the_paper_does_not_make_is_refused(toy, experiment, edit):
    edit('claim    = "larger"', 'claim    = "largest"')
    with pytest.raises(RecordError, match=r"papers/toy/README\.md: the paper has no claim 'largest'"):
        sealing.seal(toy, experiment)


def sealed_other(toy, experiment) -> Experiment:
    """A second experiment on the same products and metric, sealed after the first one."""
    folder = toy.experiments / "other"
    folder.mkdir()
    text = (experiment.folder / "hypothesis.toml").read_text()
    (folder / "hypothesis.toml").write_text(text.replace("[0, 1, 2, 3, 4, 5]", "[0, 1, 2, 3, 4, 5, 6]"))
    sealing.seal(toy, Experiment(folder))
    return Experiment(folder)


def test_what_was_sealed_counts_when_its_folder_is_gone(toy, experiment):
    sealing.seal(toy, experiment)
    other = sealed_other(toy, experiment)
    gone = other.seal().current
    shutil.rmtree(other.folder)
    checked = sealing.check(toy, experiment)
    assert checked.family == [f"other, seal {gone.hash[:8]}, gone"]
    assert checked.design.family_size == 2


def test_a_renamed_experiment_counts_once(toy, experiment):
    sealing.seal(toy, experiment)
    sealed_other(toy, experiment).folder.rename(toy.experiments / "renamed")
    assert sealing.check(toy, experiment).family == ["renamed"]


def test_a_seal_taken_out_of_the_register_leaves_a_gap(toy, experiment):
    sealing.seal(toy, experiment)
    sealed_other(toy, experiment)
    path = toy.experiments / "seals.jsonl"
    assert integrity.register_problems(toy) == []
    path.write_bytes(path.read_bytes().split(b"\n", 1)[1])
    (problem,) = integrity.register_problems(toy)
    assert "experiments/seals.jsonl:1: the line before this one was changed or taken out" in str(problem)


def test_sealing_again_completes_a_seal_that_was_cut_off(toy, experiment):
    entry = sealing.seal(toy, experiment)
    (toy.experiments / "seals.jsonl").unlink()
    shutil.rmtree(experiment.folder / "sealed")
    assert integrity.problems(experiment)
    assert sealing.seal(toy, experiment) == entry
    assert integrity.problems(experiment) == []
    assert [line.seal for line in register(toy.experiments).lines] == [entry.hash]


def test_seeds_chosen_after_looking_cannot_be_amended_in(toy, experiment, edit):
    """The best eight of ten, all noise: kept in part, the seeds of an earlier seal decide the outcome."""
    edit("[0, 1, 2, 3, 4, 5]", "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]")
    sealing.seal(toy, experiment)
    plan = batch.plan(toy, experiment)
    for arm in ("baseline", "treatment"):
        for seed in range(10):
            run = record(toy, experiment, arm, 0, 0.2)
            parameters = plan.state.parameters[arm, seed]
            experiment.save_run(replace(run, id=f"{arm}-{seed}", seed=seed, parameters=parameters))
    edit("[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]", "[0, 1, 2, 3, 5, 6, 7, 9]")
    with pytest.raises(SealError, match="0, 1, 2, 3, 5, 6, 7, 9 are kept and 4, 8 left out") as caught:
        sealing.amend(toy, experiment, "fewer seeds suffice")
    assert "such as 10 to 17" in str(caught.value)
    edit("[0, 1, 2, 3, 5, 6, 7, 9]", "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]")
    sealing.amend(toy, experiment, "one more, and all of the others")


def test_seeds_seen_in_another_experiment_cannot_be_sealed(toy, experiment):
    other = toy.experiments / "looked"
    other.mkdir()
    (other / "hypothesis.toml").write_text((experiment.folder / "hypothesis.toml").read_text())
    for arm in ("baseline", "treatment"):
        run = record(toy, experiment, arm, 3, 0.2)
        shutil.rmtree(experiment.run_folder(run.id))
        Experiment(other).save_run(replace(run, experiment="looked"))
    with pytest.raises(SealError, match="seeds 3 were run with these parameters before the seal"):
        sealing.seal(toy, experiment)


def test_a_margin_cannot_be_moved_for_seeds_whose_results_are_known(toy, experiment, edit):
    edit("margin   = 0.05", 'margin   = 0.05\nkind     = "equivalence"')
    sealing.seal(toy, experiment)
    record(toy, experiment, "baseline", 0, 0.2)
    edit("margin   = 0.05", "margin   = 0.5")
    edit("[0, 1, 2, 3, 4, 5]", "[0, 1, 2, 3, 4, 5, 6]")
    with pytest.raises(SealError, match="margin would be changed for seeds whose results are known: 0"):
        sealing.amend(toy, experiment, "a wider margin makes anything equivalent")
    edit("[0, 1, 2, 3, 4, 5, 6]", "[7, 8, 9, 10, 11, 12, 13]")
    sealing.amend(toy, experiment, "on seeds that nobody has seen")
