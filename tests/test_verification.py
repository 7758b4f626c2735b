"""A verdict is computed anew in a clean process: what verifies, what does not, and what is only noted."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from claimbook.experiments import Experiment
from claimbook.judge.of_experiment import judge_experiment
from claimbook.records import Process, Rerun, SealEntry, Verdict
from claimbook.runner import sealing
from claimbook.runner.local import LocalEngine
from claimbook.runner.replication import prepare, replicate
from claimbook.runner.slots import Limits, places
from claimbook.verification import Verification, verify, verify_here
from claimbook.workspace import Workspace

VERDICT = "experiments/toy/verdict.json"


@pytest.fixture
def experiment(judged) -> Experiment:
    return Experiment.of(judged, "toy")


def claimbook(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from claimbook.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def edit_json(path: Path, change: Callable[[Any], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def complaints(found: Verification, field: str) -> list[str]:
    return [text for text in found.problems if text.startswith(f"{VERDICT}: {field}")]


def another(
    space: Workspace, slug: str, sealed_at: str | None = None, **changes: Any
) -> tuple[Experiment, SealEntry]:
    """Another hypothesis on the same products and metric: sealed now, or entered as of another time."""
    toy = Experiment.of(space, "toy")
    folder = space.experiments / slug
    folder.mkdir()
    text = (toy.folder / "hypothesis.toml").read_text()
    fresh = text.replace("[0, 1, 2, 3, 4, 5]", "[10, 11, 12, 13, 14, 15, 16, 17]")
    (folder / "hypothesis.toml").write_text(fresh)
    other, seal = Experiment(folder), toy.seal()
    assert seal is not None
    if sealed_at is None:
        return other, sealing.seal(space, other)
    entry = msgspec.structs.replace(
        seal.current, hypothesis=other.hypothesis(), sealed_at=sealed_at, **changes
    )
    entry = msgspec.structs.replace(entry, hash=entry.digest)
    sources = toy.sealed_sources(seal.current)
    assert sources is not None
    other.add_seal(entry, sources)
    return other, entry


# what verifies


def test_a_fresh_verdict_verifies_and_its_numbers_are_those_computed_by_hand(judged, experiment):
    (found,) = verify(judged, ["toy"])
    assert found == Verification("toy", "verified", "supported", [], [])
    verdict = experiment.verdict()
    assert verdict.effect == pytest.approx(0.4025, abs=1e-12)
    assert verdict.means["shuffled"] == 0.5
    # differences 0.4 + (0, 0, 2, -1, 1, 1) / 200: sd of six = sqrt(5.5 / 5) / 200, Student's t of 5 degrees
    half = 2.5705818356 * math.sqrt(5.5 / 5) / 200 / math.sqrt(6)
    assert verdict.interval == pytest.approx([0.4025 - half, 0.4025 + half], abs=1e-9)
    assert verdict.p == 2 / 2**6


def test_verifying_changes_nothing_and_says_the_same_again(judged):
    def files() -> dict[str, str]:
        paths = [path for path in judged.experiments.rglob("*") if path.is_file()]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}

    before = files()
    first = verify_here(judged, "toy")
    assert verify_here(judged, "toy") == first
    assert files() == before


def test_modules_that_lie_in_the_way_do_not_reach_the_verifying_process(judged, tmp_path, monkeypatch):
    trap = tmp_path / "trap"
    (trap / "claimbook").mkdir(parents=True)
    (trap / "claimbook" / "__init__.py").write_text("raise SystemExit('caught')\n")
    for folder in (trap, judged.root):
        (folder / "json.py").write_text("raise SystemExit('caught')\n")
    monkeypatch.setenv("PYTHONPATH", str(trap))
    monkeypatch.setenv("PYTHONSTARTUP", str(trap / "json.py"))
    monkeypatch.setenv("CLAIMBOOK_ROOT", str(tmp_path))
    caught = subprocess.run([sys.executable, "-c", "import json"], capture_output=True, check=False)
    assert b"caught" in caught.stderr
    (found,) = verify(judged, ["toy"])
    assert found.state == "verified"


def test_no_variable_of_the_caller_reaches_the_verifying_process(judged, monkeypatch):
    seen: dict[str, dict[str, str]] = {}
    start = subprocess.run

    def spied(command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        seen["environment"] = options["env"]
        return start(command, **options)

    monkeypatch.setenv("HF_TOKEN", "hunter2-hunter2")
    monkeypatch.setattr(subprocess, "run", spied)
    verify(judged, [])
    assert seen["environment"].keys() <= os.environ.keys() - {"HF_TOKEN", "PYTHONPATH"}
    assert "hunter2-hunter2" not in seen["environment"].values()


def test_an_experiment_without_a_verdict_is_no_fault(toy):
    assert verify_here(toy, "toy") == Verification("toy", "no verdict", None, [], [])
    sealing.seal(toy, Experiment.of(toy, "toy"))
    assert verify_here(toy, "toy").state == "no verdict"


def test_a_clone_without_executed_notebooks_verifies(judged, experiment):
    for path in experiment.folder.glob("runs/*/notebook.ipynb"):
        path.unlink()
    assert verify_here(judged, "toy").state == "verified"


# what does not


def last_digit(number: float) -> float:
    """The nearest other number: its last binary digit changed."""
    return math.nextafter(number, math.inf)


def test_every_number_of_a_verdict_is_compared_to_the_last_digit(judged, experiment):
    """All of them changed at once, in the real process: each must be named for itself."""

    def change(value: Any) -> Any:
        if isinstance(value, bool) or value is None or isinstance(value, str):
            return value
        if isinstance(value, float):
            return last_digit(value)
        if isinstance(value, int):
            return value + 1
        if isinstance(value, list):
            return [change(one) for one in value]
        return {name: change(one) for name, one in value.items()}

    fields = ("effect", "interval", "narrow_interval", "p_adjusted", "smallest_p", "units", "pairs",
              "controls", "margin", "alpha", "ordinal", "means", "our_scale", "family")  # fmt: skip
    edit_json(experiment.verdict_path, lambda v: v.update({name: change(v[name]) for name in fields}))
    (found,) = verify(judged, ["toy"])
    assert found.state == "does not verify"
    assert found.outcome == "supported"
    for name in fields:
        assert complaints(found, name), f"{name} is not named: {found.problems}"
    for name in ("means.baseline", "means.treatment", "means.shuffled", "our_scale.resolution"):
        assert complaints(found, name), f"{name} is not named: {found.problems}"
    assert all("what to do" in text for text in found.problems)


CHANGES: list[tuple[str, Any]] = [
    ("outcome", "refuted"), ("reasons", ["because"]), ("kind", "equivalence"), ("scope", "checkpoints"),
    ("metric", "hit@5"), ("direction", "lower"), ("margin", 0.04), ("alpha", 0.04), ("effect", None),
    ("effect", 0.41), ("interval", None), ("p", 0.03), ("p", None), ("p_adjusted", 0.001),
    ("smallest_p", 0.01), ("equivalent", True), ("units", 7), ("means", {}), ("pairs", []), ("controls", []),
    ("replication", 0.0),
    ("data", "0" * 64), ("data_description", "many"), ("our_scale", None), ("test", "mcnemar"),
    ("narrow_interval", None), ("ordinal", 2), ("attempts", {"treatment s0": ["failed", "finished"]}),
    ("means", {"baseline": 0.195, "treatment": 0.5975}),
    ("family", {}), ("family", {"toy": 0.04}), ("family", {"toy": None}),
    ("fallbacks", {"treatment": 1}), ("uneven_seeds", [0]), ("uneven_surroundings", [0]),
    ("unlike_cold", ["treatment-s0"]),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), CHANGES)
def test_an_edited_field_of_a_verdict_is_named(judged, experiment, field, value):
    edit_json(experiment.verdict_path, lambda v: v.update({field: value}))
    found = verify_here(judged, "toy")
    assert found.state == "does not verify"
    assert complaints(found, field), found.problems


def test_every_field_of_a_verdict_is_among_those_edited_here_or_elsewhere():
    elsewhere = {"experiment", "seal", "ledger", "schema", "paper_scale", "reported"}
    assert {field for field, _ in CHANGES} == set(Verdict.__struct_fields__) - elsewhere


@pytest.mark.parametrize(
    ("field", "value"), [("experiment", "other"), ("seal", "0" * 64), ("ledger", ["0" * 64]), ("ledger", [])]
)
def test_a_verdict_of_something_else_does_not_verify(judged, experiment, field, value):
    edit_json(experiment.verdict_path, lambda v: v.update({field: value}))
    assert verify_here(judged, "toy").state == "does not verify"


@pytest.mark.parametrize("field", ["narrow_interval", "ordinal", "test", "ledger"])
def test_a_field_taken_out_of_a_verdict_is_found(judged, experiment, field):
    edit_json(experiment.verdict_path, lambda v: v.pop(field))
    assert verify_here(judged, "toy").state == "does not verify"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"effect": "large"}'])
def test_a_verdict_that_cannot_be_read_is_named(judged, experiment, text):
    experiment.verdict_path.write_text(text)
    found = verify_here(judged, "toy")
    assert found.state == "does not verify"
    assert any(text.startswith(f"{VERDICT}: ") for text in found.problems)


def test_one_broken_experiment_does_not_keep_others_from_being_verified(judged, experiment):
    broken = judged.experiments / "broken"
    shutil.copytree(experiment.folder, broken)
    (broken / "verdict.json").write_text("{")
    next(broken.glob("runs/treatment-s3-*/items.parquet")).write_bytes(b"no Parquet")
    shutil.rmtree(next(broken.glob("runs/treatment-s4-*")))
    found = {one.experiment: one for one in verify(judged, ["broken", "toy"])}
    assert found["broken"].state == "does not verify"
    assert any(text.startswith("experiments/broken/verdict.json") for text in found["broken"].problems)
    assert "toy" in found


def test_a_forged_run_whose_scores_are_no_numbers_does_not_end_the_process(judged, experiment):
    """Record, steps and items agree, and the items are valid Parquet of another type."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = next(experiment.folder.glob("runs/treatment-s3-*"))
    table = pq.read_table(folder / "items.parquet")
    words = pa.array(["맞음"] * table.num_rows)
    pq.write_table(table.set_column(2, "hit@1", words), folder / "items.parquet")
    said = {"items_sha256": hashlib.sha256((folder / "items.parquet").read_bytes()).hexdigest()}
    edit_json(folder / "run.json", lambda r: r.update(said))
    *steps, finish = (folder / "metrics.jsonl").read_text().splitlines()
    lines = [*steps, json.dumps({**json.loads(finish), **said})]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    (found,) = verify(judged, ["toy"])
    assert any(f"{folder.name}/items.parquet" in text for text in found.problems)


def test_a_hypothesis_left_out_of_the_family_is_found(judged, experiment):
    another(judged, "earlier", "2026-01-01T00:00:00.000Z")
    experiment.save_verdict(judge_experiment(judged, experiment))
    verdict = experiment.verdict()
    assert verdict.family == {"earlier": None, "toy": 0.03125}
    assert verdict.p_adjusted == 0.0625
    assert (verdict.outcome, verdict.ordinal) == ("inconclusive", 2)
    assert verify_here(judged, "toy").state == "verified"
    left_out = {"family": {"toy": 0.03125}, "p_adjusted": 0.03125, "outcome": "supported"}
    edit_json(experiment.verdict_path, lambda v: v.update(left_out))
    found = verify_here(judged, "toy")
    assert any("family leaves out earlier" in text for text in found.problems)


def test_an_earlier_seal_left_out_of_the_family_is_found(judged, experiment, edit):
    """Who has seen a result and amends has tested twice: 0.03125 becomes 0.0625."""
    first = experiment.seal().current
    edit("seeds    = [0, 1, 2, 3, 4, 5]", "seeds    = [0, 1, 2, 3, 4, 5, 6]")
    second, _ = sealing.amend(judged, experiment, "one seed more")
    copied_under(experiment, second, seeds=range(7))
    experiment.save_verdict(judge_experiment(judged, experiment))
    verdict = experiment.verdict()
    earlier = f"toy, seal {first.hash[:8]}"
    assert verdict.family == {"toy": 2 / 2**7, earlier: None}
    assert verdict.p_adjusted == 4 / 2**7
    assert verify_here(judged, "toy").state == "verified"
    edit_json(experiment.verdict_path, lambda v: v.update(family={"toy": 2 / 2**7}, p_adjusted=2 / 2**7))
    assert any("family leaves out" in text for text in verify_here(judged, "toy").problems)


def copied_under(experiment: Experiment, sealed: SealEntry, seeds: range) -> None:
    """Runs of a later seal, with the results of earlier ones (seed 6: of seed 0), entered as they ended."""
    first = {(run.arm, run.seed): run for run in experiment.runs()}
    for seed in seeds:
        for arm in sealed.hypothesis.arm_names():
            old = first[arm, seed % 6]
            run = msgspec.structs.replace(
                old,
                id=f"{arm}-s{seed}-again",
                seed=seed,
                seal=sealed.hash,
                started="2999-01-01T00:00:00.000Z",
                parameters={**old.parameters, "seed": seed},
            )
            shutil.copytree(experiment.run_folder(old.id), experiment.run_folder(run.id))
            experiment.save_run(run)
            experiment.enter_start(run)
            experiment.enter_end(run)


def test_a_p_of_the_family_that_its_own_verdict_does_not_say_is_found(judged, experiment):
    other, entry = another(judged, "earlier", "2026-01-01T00:00:00.000Z")
    judged_too = msgspec.structs.replace(experiment.verdict(), experiment="earlier", seal=entry.hash, p=0.02)
    other.save_verdict(judged_too)
    experiment.save_verdict(judge_experiment(judged, experiment))
    assert experiment.verdict().family == {"earlier": 0.02, "toy": 0.03125}
    assert experiment.verdict().p_adjusted == 0.04  # Holm: the smaller twice, and no later one below it
    assert verify_here(judged, "toy").state == "verified"
    edit_json(experiment.verdict_path, lambda v: v["family"].update(earlier=0.9))
    assert complaints(verify_here(judged, "toy"), "family.earlier")


# what is noted


def noted(found: Verification) -> str:
    assert found.state == "verified", found.problems
    return "\n".join(found.notes)


def test_an_edited_hypothesis_is_noted(judged, edit):
    edit("margin   = 0.05", "margin   = 0.01")
    assert "hypothesis.toml is not what was sealed" in noted(verify_here(judged, "toy"))


def test_a_verdict_under_an_earlier_seal_is_noted(judged, experiment, edit):
    edit("margin   = 0.05", "margin   = 0.04")
    edit("seeds    = [0, 1, 2, 3, 4, 5]", "seeds    = [6, 7, 8, 9, 10, 11, 12]")
    sealing.amend(judged, experiment, "a smaller margin")
    assert "amended since" in noted(verify_here(judged, "toy"))


def test_a_number_of_the_paper_that_was_corrected_in_its_note_is_noted(judged):
    note = judged.papers / "toy" / "README.md"
    note.write_text(note.read_text().replace("metric: hit@1\n", "metric: hit@1\n    reported: 0.83\n"))
    assert "the paper's own numbers were changed" in noted(verify_here(judged, "toy"))


def test_a_paper_that_is_gone_is_noted(judged):
    shutil.rmtree(judged.papers / "toy")
    assert "paper" in noted(verify_here(judged, "toy"))


def test_a_verdict_that_later_hypotheses_make_stale_is_noted_with_what_it_is_today(judged, experiment):
    another(judged, "later")
    said = noted(verify_here(judged, "toy"))
    assert "judged in a family of 1, which has 2 today, judged today it is inconclusive" in said
    assert "`claimbook judge toy` brings it up to date" in said
    experiment.save_verdict(judge_experiment(judged, experiment))
    found = verify_here(judged, "toy")
    assert found == Verification("toy", "verified", "inconclusive", [], [])


def test_an_experiment_of_the_family_that_is_gone_is_noted(judged, experiment):
    earlier, _ = another(judged, "earlier", "2026-01-01T00:00:00.000Z")
    experiment.save_verdict(judge_experiment(judged, experiment))
    shutil.rmtree(earlier.folder)
    assert "of its family these are gone: earlier" in noted(verify_here(judged, "toy"))


def test_another_hypothesis_that_was_amended_before_its_runs_is_no_fault_of_this_one(judged, experiment):
    """Its first seal, which nobody has used, no longer counts: this one was the second and is the first."""
    earlier, _ = another(judged, "earlier", "2026-01-01T00:00:00.000Z")
    experiment.save_verdict(judge_experiment(judged, experiment))
    assert experiment.verdict().ordinal == 2
    path = earlier.folder / "hypothesis.toml"
    path.write_text(path.read_text().replace("margin   = 0.05", "margin   = 0.04"))
    sealing.amend(judged, earlier, "a smaller margin")
    noted(verify_here(judged, "toy"))


def test_another_hypothesis_that_was_amended_and_judged_anew_is_no_fault_of_this_one(judged, experiment):
    """The family holds the p that it had under its first seal; its verdict of today is another one."""
    other, entry = another(judged, "earlier", "2026-01-01T00:00:00.000Z")
    other.save_verdict(
        msgspec.structs.replace(experiment.verdict(), experiment="earlier", seal=entry.hash, p=0.02)
    )
    experiment.save_verdict(judge_experiment(judged, experiment))
    assert experiment.verdict().family == {"earlier": 0.02, "toy": 0.03125}
    path = other.folder / "hypothesis.toml"
    path.write_text(path.read_text().replace("margin   = 0.05", "margin   = 0.04"))
    later, _ = sealing.amend(judged, other, "a smaller margin")
    other.save_verdict(
        msgspec.structs.replace(experiment.verdict(), experiment="earlier", seal=later.hash, p=0.5)
    )
    noted(verify_here(judged, "toy"))


def made_again(space: Workspace, experiment: Experiment) -> Rerun:
    """A rerun whose replications are there already, with the results of the first runs: no kernel starts."""
    for run in [one for one in experiment.runs() if one.kind == "confirmatory"]:
        again = msgspec.structs.replace(run, id=f"{run.id}-again", kind="replication", rerun="rerun-1")
        shutil.copytree(experiment.run_folder(run.id), experiment.run_folder(again.id))
        experiment.save_run(again)
        experiment.enter_start(again)
        experiment.enter_end(again)
    prepared = prepare(space, experiment)
    assert prepared.plan is None or prepared.plan.missing == []
    (rerun,) = replicate(
        space, [prepared], engine=LocalEngine(Limits(), places(1)), report=lambda progress: None
    )
    return rerun


def test_a_rerun_stays_true_when_its_verdict_is_judged_anew_in_a_larger_family(judged, experiment):
    rerun = made_again(judged, experiment)
    assert (rerun.result, rerun.was, rerun.largest_difference) == ("held", "supported", 0.0)
    noted(verify_here(judged, "toy"))
    another(judged, "later")
    experiment.save_verdict(judge_experiment(judged, experiment))
    assert experiment.verdict().outcome == "inconclusive"
    noted(verify_here(judged, "toy"))


def test_a_rerun_stays_true_when_another_of_the_family_is_judged_later(judged, experiment):
    other, entry = another(judged, "earlier", "2026-01-01T00:00:00.000Z")
    experiment.save_verdict(judge_experiment(judged, experiment))
    rerun = made_again(judged, experiment)
    assert (rerun.result, rerun.was) == ("held", "inconclusive")
    other.save_verdict(
        msgspec.structs.replace(experiment.verdict(), experiment="earlier", seal=entry.hash, p=0.01)
    )
    experiment.save_verdict(judge_experiment(judged, experiment))
    assert experiment.verdict().outcome == "supported"  # Holm: 0.01 first, then 0.03125 as it is
    noted(verify_here(judged, "toy"))


def test_a_rerun_that_could_not_start_stays_true_when_its_verdict_is_judged_anew(judged, experiment):
    away = judged.notebook("toy").rename(judged.root / "toy.ipynb")
    (rerun,) = replicate(
        judged,
        [prepare(judged, experiment)],
        engine=LocalEngine(Limits(), places(1)),
        report=lambda progress: None,
    )
    assert (rerun.result, rerun.was) == ("no longer runs", "supported")
    away.rename(judged.notebooks / "toy.ipynb")
    another(judged, "later")
    experiment.save_verdict(judge_experiment(judged, experiment))
    assert experiment.verdict().outcome == "inconclusive"
    noted(verify_here(judged, "toy"))


def test_a_clone_made_this_minute_verifies_though_a_first_attempt_was_lost_elsewhere(judged, experiment):
    """Git writes run.json anew, so its time is no sign of life of the process that died months ago."""
    made = next(run for run in experiment.runs() if run.arm == "baseline")
    lost = msgspec.structs.replace(
        made,
        id=f"{made.id}-first",
        status="running",
        started="2026-01-01T00:00:00.000Z",
        process=Process(pid=1, created=0.0, host="another"),
        metrics={},
    )
    experiment.save_run(lost)
    experiment.enter_start(lost)
    record = experiment.run_folder(lost.id) / "run.json"
    os.utime(record, (0, 0))
    experiment.save_verdict(judge_experiment(judged, experiment))
    assert experiment.verdict().attempts == {"baseline s0": ["lost", "finished"]}
    record.touch()
    noted(verify_here(judged, "toy"))


# on the command line


def test_the_command_ends_with_0_where_all_verify_and_with_1_where_something_was_changed(judged, experiment):
    done = claimbook("verify", "toy")
    assert (done.returncode, done.stdout) == (0, "toy: verified (supported)\n")
    edit_json(experiment.verdict_path, lambda v: v.update(effect=last_digit(v["effect"])))
    record = next(experiment.folder.glob("runs/baseline-s1-*/metrics.jsonl"))
    record.write_text(record.read_text().replace('"loss":0.5', '"loss":0.1'))
    done = claimbook("verify", "--json")
    assert done.returncode == 1
    assert "1 of 1 experiments do not verify: toy" in done.stderr
    assert "Traceback" not in done.stderr
    (found,) = json.loads(done.stdout)
    assert found["state"] == "does not verify"
    named = "\n".join(found["problems"])
    assert f"experiments/toy/runs/{record.parent.name}/metrics.jsonl" in named
    assert f"{VERDICT}: effect is" in named
