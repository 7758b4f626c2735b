"""Sealed experiments made again: verdicts that held, flipped, or no longer run. Real kernels."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from claimbook import surroundings
from claimbook.errors import JudgeError
from claimbook.experiments import Experiment
from claimbook.judge.of_experiment import judge_experiment
from claimbook.records import Rerun
from claimbook.records.batch import Ended, Line
from claimbook.runner import batch, sealing
from claimbook.runner.local import LocalEngine
from claimbook.runner.replication import prepare, replicate
from claimbook.runner.slots import Limits, places
from claimbook.verification import verify_here
from claimbook.workspace import Workspace

QUICK = Limits(seconds=60, threads=1)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first workspace is kept for the tests that come after."""
    return tmp_path_factory.mktemp("replicated") / "workspace"


@pytest.fixture
def space(toy, edit, kept) -> Workspace:
    """The toy experiment about two checkpoints, judged: two runs, 0.2 and 0.6, and nothing left to chance."""
    if not kept.exists():
        edit("seeds    = [0, 1, 2, 3, 4, 5]", 'seeds    = [0]\nscope    = "checkpoints"')
        edit("\n[controls.shuffled]\nshuffle = true\n", "")
        experiment = Experiment.of(toy, "toy")
        sealing.seal(toy, experiment)
        batch.execute(toy, [batch.plan(toy, experiment)], engine=LocalEngine(QUICK, places(2)))
        experiment.save_verdict(judge_experiment(toy, experiment))
        shutil.copytree(toy.root, kept)
    shutil.copytree(kept, toy.root, dirs_exist_ok=True)
    return toy


@pytest.fixture
def experiment(space) -> Experiment:
    return Experiment.of(space, "toy")


@pytest.fixture
def another_environment(tmp_path, monkeypatch) -> str:
    """One more distribution is installed, as far as Python can tell; returns its name."""
    folder = tmp_path / "site" / "shelf_reader-9.9.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: shelf-reader\nVersion: 9.9\n")
    monkeypatch.syspath_prepend(str(folder.parent))
    return "shelf-reader"


def change_notebook(space: Workspace, old: str, new: str) -> None:
    path = space.notebook("toy")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def nothing(event: Line) -> None:
    """Report to nobody."""


def made_again(space: Workspace, experiment: Experiment) -> Rerun:
    (rerun,) = replicate(
        space, [prepare(space, experiment)], engine=LocalEngine(QUICK, places(2)), report=nothing
    )
    return rerun


def claimbook(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from claimbook.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# held


def test_on_the_same_code_a_verdict_holds_without_a_difference_and_nothing_else_changes(space, experiment):
    """On the command line: two replications, the verdict untouched, n as it was."""
    before = experiment.verdict_path.read_bytes()
    done = claimbook("rerun", "toy", "-j", "2", "--json")
    assert done.returncode == 0, done.stderr
    (rerun,) = experiment.reruns()
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert (events[-1]["event"], events[-1]["id"]) == ("rerun", rerun.id)
    assert events[-2]["verdicts"] == {"toy": "held"}
    assert (rerun.result, rerun.was, rerun.now) == ("held", "supported", "supported")
    assert (rerun.largest_difference, rerun.changed, rerun.failure) == (0.0, [], None)
    replications = sorted(
        (run for run in experiment.runs() if run.kind == "replication"), key=lambda run: run.arm
    )
    assert [(run.arm, run.seed, run.status, run.metrics) for run in replications] == [
        ("baseline", 0, "finished", {"hit@1": 0.2}),
        ("treatment", 0, "finished", {"hit@1": 0.6}),
    ]
    assert {run.rerun for run in replications} == {rerun.id}

    assert experiment.verdict_path.read_bytes() == before
    assert rerun.verdict.pairs[0].runs == [run.id for run in replications]
    assert rerun.verdict.units == experiment.verdict().units == 100

    plan = batch.plan(space, experiment)  # `claimbook run` afterwards
    assert plan.missing == []
    assert [run.kind for run in plan.reused] == ["confirmatory", "confirmatory"]

    old, heads = json.loads(before), experiment.ledger().heads
    experiment.save_verdict(judge_experiment(space, experiment))
    assert json.loads(experiment.verdict_path.read_bytes()) == {**old, "ledger": heads}
    assert old["ledger"] != heads
    assert verify_here(space, "toy").state == "verified"

    shutil.rmtree(experiment.run_folder(plan.reused[0].id))  # a replication does not take its place
    assert batch.plan(space, experiment).missing == [(plan.reused[0].arm, 0)]
    assert "the run is gone" in "".join(verify_here(space, "toy").problems)


def test_a_verdict_that_holds_with_other_numbers_names_the_largest_difference_and_what_changed(
    space, experiment
):
    change_notebook(space, "else effect", "else effect + 0.1 * (effect > 0.5)")
    rerun = made_again(space, experiment)
    assert (rerun.result, rerun.now) == ("held", "supported")
    assert rerun.largest_difference == pytest.approx(0.7 - 0.6)
    assert rerun.largest_where == "treatment s0"
    assert rerun.changed == ["notebook code"]
    assert rerun.verdict.effect == pytest.approx(0.7 - 0.2)
    assert experiment.verdict().effect == pytest.approx(0.6 - 0.2)
    assert verify_here(space, "toy").problems == []


def test_another_environment_is_named(space, experiment, another_environment):
    first = experiment.runs()[0].environment["distributions"]
    rerun = made_again(space, experiment)
    now = surroundings.distributions()["distributions"]
    assert now != first
    assert rerun.result == "held"
    assert rerun.changed == [f"distributions {first} → {now}"]


def test_what_hypothesis_toml_says_today_does_not_matter(space, experiment, edit):
    edit("effect = 0.6", "effect = 0.1")
    prepared = prepare(space, experiment)
    assert prepared.plan.state.parameters["treatment", 0]["effect"] == 0.6
    assert prepared.changed == []


# flipped


def test_a_verdict_flips_where_the_treatment_no_longer_does_better(space, experiment):
    change_notebook(space, "else effect", "else min(effect, 0.2)")
    table = space.root / "data" / "items.jsonl"
    table.write_text(table.read_text().replace("mug 3", "cup 3"))
    rerun = made_again(space, experiment)
    assert (rerun.result, rerun.was, rerun.now) == ("flipped", "supported", "refuted")
    assert rerun.largest_difference == pytest.approx(0.4)
    assert rerun.largest_where == "treatment s0"
    assert rerun.changed == ["notebook code", "product set"]
    assert experiment.verdict().outcome == "supported"
    assert verify_here(space, "toy").state == "verified"


def test_an_edited_record_of_a_rerun_does_not_verify(space, experiment):
    """Every field that can be computed anew; on the runs of one rerun, which flips."""
    change_notebook(space, "else effect", "else min(effect, 0.2)")
    rerun = made_again(space, experiment)
    path = experiment.folder / "reruns" / f"{rerun.id}.json"
    recorded = json.loads(path.read_text())
    assert verify_here(space, "toy").problems == []
    edits = {
        "result": "held", "was": "refuted", "now": "supported", "largest_difference": 0.0,
        "largest_where": "baseline s0", "seal": "0" * 64, "ledger": ["0" * 64], "verdict": None,
    }  # fmt: skip
    numbers = {"outcome": "supported", "effect": 0.4, "p": 0.5, "p_adjusted": 0.5, "means": {}, "units": 6}
    edits |= {f"verdict.{name}": value for name, value in numbers.items()}
    missed = []
    for field, value in edits.items():
        changed = json.loads(json.dumps(recorded))
        name = field.removeprefix("verdict.")
        (changed["verdict"] if name != field else changed)[name] = value
        path.write_text(json.dumps(changed))
        found = verify_here(space, "toy")
        if not any(f"reruns/{rerun.id}.json" in text for text in found.problems):
            missed.append(field)
    assert missed == []
    path.write_text("{")
    assert any(f"reruns/{rerun.id}.json" in text for text in verify_here(space, "toy").problems)


def test_a_removed_record_of_a_rerun_is_noted(space, experiment):
    """Its replications are still there: a rerun that flipped must not vanish without a word."""
    change_notebook(space, "else effect", "else min(effect, 0.2)")
    rerun = made_again(space, experiment)
    (experiment.folder / "reruns" / f"{rerun.id}.json").unlink()
    found = verify_here(space, "toy")
    assert rerun.id in "\n".join([*found.problems, *found.notes])


# no longer runs


def no_parameter(space: Workspace) -> None:
    change_notebook(space, "effect", "share_of_hits")


def no_notebook(space: Workspace) -> None:
    space.notebook("toy").unlink()


def no_products(space: Workspace) -> None:
    shutil.rmtree(space.root / "data")
    shutil.rmtree(space.root / ".claimbook")


@pytest.mark.parametrize(
    ("breaks", "error", "message", "changed"),
    [
        (no_parameter, "RunError", "no parameter 'effect'", "notebook code"),
        (no_notebook, "WorkspaceError", "there is no notebook 'toy'", "notebook"),
        (no_products, "ProductsError", "data", "product set"),
    ],
)
def test_what_cannot_even_be_started_is_told_with_what_changed(
    space, experiment, breaks, error, message, changed
):
    breaks(space)
    rerun = made_again(space, experiment)
    assert (rerun.result, rerun.was, rerun.now) == ("no longer runs", "supported", None)
    assert rerun.verdict is None
    assert rerun.failure.error == error
    assert message in rerun.failure.message
    assert any(changed in phrase for phrase in rerun.changed), rerun.changed
    assert len(experiment.runs()) == 2
    assert experiment.reruns() == [rerun]


def test_a_run_that_raises_is_told_with_its_error_and_what_changed(space, experiment):
    change_notebook(space, "random.seed(seed)", "raise ValueError('선반이 비었습니다')")
    done = claimbook("rerun", "toy", "-j", "2")
    assert done.returncode == 1
    assert "1 of 1 experiments no longer run: toy" in done.stderr
    assert "Traceback" not in done.stderr
    (rerun,) = experiment.reruns()
    assert (rerun.result, rerun.now, rerun.changed) == ("no longer runs", None, ["notebook code"])
    assert rerun.failure.error == "ValueError"
    assert "선반이 비었습니다" in rerun.failure.message
    assert "ValueError" in done.stdout
    assert [run.status for run in experiment.runs() if run.kind == "replication"] == ["failed", "failed"]
    assert experiment.verdict().outcome == "supported"
    assert verify_here(space, "toy").state == "verified"


# interrupted


@pytest.fixture
def interrupted(space, experiment) -> str:
    """A rerun that Ctrl-C has stopped after its first run; returns its id."""

    def ctrl_c(event: Line) -> None:
        if isinstance(event, Ended) and event.status == "finished":
            os.kill(os.getpid(), signal.SIGINT)

    prepared = prepare(space, experiment)
    with pytest.raises(KeyboardInterrupt):
        replicate(space, [prepared], engine=LocalEngine(QUICK, places(1)), report=ctrl_c)
    assert experiment.reruns() == []
    return prepared.plan.rerun


def test_an_interrupted_rerun_is_continued_with_the_runs_that_had_finished(space, experiment, interrupted):
    first = [run for run in experiment.runs() if run.kind == "replication" and run.status == "finished"]
    assert [(run.arm, run.rerun) for run in first] == [("baseline", interrupted)]
    prepared = prepare(space, experiment)
    assert prepared.plan.rerun == interrupted
    assert prepared.plan.reused == first
    assert prepared.plan.missing == [("treatment", 0)]
    (rerun,) = replicate(space, [prepared], engine=LocalEngine(QUICK, places(1)), report=nothing)
    assert (rerun.id, rerun.result, rerun.largest_difference) == (interrupted, "held", 0.0)
    finished = [run for run in experiment.runs() if run.kind == "replication" and run.status == "finished"]
    assert [run.arm for run in finished] == ["baseline", "treatment"]
    assert rerun.verdict.pairs[0].runs == [run.id for run in finished]
    assert prepare(space, experiment).plan.reused == []  # it is concluded: the next one begins anew


def test_an_interrupted_rerun_is_not_continued_under_other_code_or_versions(
    space, experiment, interrupted, request
):
    change_notebook(space, "share = 0.5", "share = 0.25 + 0.25")
    prepared = prepare(space, experiment)
    assert prepared.plan.rerun != interrupted
    assert prepared.plan.reused == []
    change_notebook(space, "share = 0.25 + 0.25", "share = 0.5")
    assert prepare(space, experiment).plan.rerun == interrupted
    request.getfixturevalue("another_environment")
    prepared = prepare(space, experiment)
    assert prepared.plan.rerun != interrupted
    assert prepared.plan.reused == []


# refused


def test_without_a_verdict_of_the_seal_in_force_there_is_nothing_to_replicate(space, experiment, edit):
    verdict = experiment.verdict_path.read_bytes()
    experiment.verdict_path.unlink()
    with pytest.raises(
        JudgeError, match=r"no verdict of the seal in force to replicate\n.*claimbook judge toy"
    ):
        prepare(space, experiment)
    experiment.verdict_path.write_bytes(verdict)
    edit("scores higher", "scores better")
    sealing.amend(space, experiment, "a better word")
    with pytest.raises(JudgeError, match="no verdict of the seal in force"):
        prepare(space, experiment)
