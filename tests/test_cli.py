"""The verbs as a user types them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from claimbook import cli as command_line
from claimbook.experiments import Experiment


def claimbook(*arguments: str, cwd=None, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", "from claimbook.cli import main; main()", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
    )
    assert not check or done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_the_whole_way_from_seal_to_page(toy):
    """seal → run → judge → site build, then once more: nothing is made again, the verdict is the same."""
    checked = json.loads(claimbook("check", "toy", "--json").stdout)
    assert checked["smallest_p"] == 0.03125
    assert checked["problems"] == []
    assert "sealed toy" in claimbook("seal", "toy").stdout
    events = [json.loads(line) for line in claimbook("run", "toy", "-j", "2", "--json").stdout.splitlines()]
    ended = [event for event in events if event["event"] == "ended"]
    assert len(ended) == 18
    assert {event["status"] for event in ended} == {"finished"}
    assert (events[0]["event"], events[-1]["counts"]) == ("opened", {"finished": 18})
    assert {run.kind for run in Experiment.of(toy, "toy").runs()} == {"confirmatory"}
    first = claimbook("judge", "toy").stdout
    assert "hit@1" in first
    verdict = (toy.experiments / "toy" / "verdict.json").read_bytes()
    assert json.loads(verdict)["outcome"] == "supported"

    assert "0 runs to make, 18 finished ones reused" in claimbook("run", "toy").stdout
    assert claimbook("judge", "toy").stdout == first
    assert (toy.experiments / "toy" / "verdict.json").read_bytes() == verdict

    built = claimbook("site", "build")
    index = toy.site / "index.html"
    assert str(index) in built.stdout
    assert "A larger effect scores higher" in index.read_text()


def test_a_user_error_is_two_lines_and_exit_code_1(toy, edit):
    edit('metric   = "hit@1"', 'metrik   = "hit@1"')
    done = claimbook("seal", "toy", check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: experiments/toy/hypothesis.toml:5: there is no field 'metrik', did you mean 'metric'?",
        "  what to do: remove it or mend its name; known: title, paper, claim, notebook, metric, margin, "
        "seeds, arms, direction, kind, alpha, scope, questions, parameters, controls, control_margin, "
        "fallback",
    ]


def test_a_wrong_option_is_exit_code_2(toy):
    assert claimbook("run", "toy", "--seeds", "a", check=False).returncode == 2
    assert claimbook("run", "toy", "--sedes", "1", check=False).returncode == 2


def test_a_design_that_cannot_be_decided_is_not_sealed(toy, edit):
    edit("seeds    = [0, 1, 2, 3, 4, 5]", "seeds    = [0, 1, 2, 3, 4]")
    done = claimbook("seal", "toy", check=False)
    assert done.returncode == 1
    assert "6 seeds" in done.stderr
    assert not (toy.experiments / "toy" / "seal.json").exists()


def test_an_unanswered_question_is_not_sealed(toy, edit):
    edit('service      = "Search would find more."', 'service      = " "')
    done = claimbook("seal", "toy", check=False)
    assert done.returncode == 1
    assert "service" in done.stderr


def test_judging_before_the_runs_names_what_is_missing(toy):
    assert "claimbook seal toy" in claimbook("judge", "toy", check=False).stderr
    claimbook("seal", "toy")
    done = claimbook("judge", "toy", check=False)
    assert done.returncode == 1
    assert "claimbook run toy" in done.stderr


def test_a_hypothesis_changed_after_the_seal_is_not_judged_but_amended(toy, edit):
    claimbook("seal", "toy")
    edit("margin   = 0.05", "margin   = 0.01")
    done = claimbook("judge", "toy", check=False)
    assert "not the one that was sealed" in done.stderr
    done = claimbook("seal", "toy", check=False)
    assert "hypothesis (margin)" in done.stderr
    assert "claimbook amend toy" in done.stderr
    assert "hypothesis (margin)" in claimbook("amend", "toy", "--reason", "a slip").stdout
    entries = Experiment.of(toy, "toy").seal().entries
    assert [entry.reason for entry in entries] == [None, "a slip"]
    assert entries[0].hypothesis.margin == 0.05


def test_an_edited_seal_is_refused(toy):
    claimbook("seal", "toy")
    path = toy.experiments / "toy" / "seal.json"
    path.write_text(path.read_text().replace('"margin": 0.05', '"margin": 0.0001'))
    done = claimbook("judge", "toy", check=False)
    assert "experiments/toy/seal.json: entries[0] does not fit its hash" in done.stderr


def test_sealing_the_same_state_again_changes_nothing(toy):
    claimbook("seal", "toy")
    before = (toy.experiments / "toy" / "seal.json").read_bytes()
    claimbook("seal", "toy")
    assert (toy.experiments / "toy" / "seal.json").read_bytes() == before


def test_an_edited_run_is_refused(toy, edit):
    edit("\n[controls.shuffled]\nshuffle = true\n", "")
    claimbook("seal", "toy")
    claimbook("run", "toy", "-j", "2")
    assert "Supported" in claimbook("judge", "toy").stdout
    (record,) = toy.experiments.glob("toy/runs/treatment-s3-*/run.json")
    record.write_text(record.read_text().replace('"hit@1": 0.6', '"hit@1": 0.9'))
    done = claimbook("judge", "toy", check=False)
    assert f"experiments/toy/runs/{record.parent.name}/run.json: run.json was changed" in done.stderr


def test_a_failed_run_makes_the_command_fail_and_says_where_to_look(toy, edit):
    edit("seeds    = [0, 1, 2, 3, 4, 5]", "seeds    = [0]")
    edit("\n[controls.shuffled]\nshuffle = true\n", "")
    done = claimbook("run", "toy", "--set", "crash=raise", check=False)
    assert done.returncode == 1
    assert "2 of 2 runs did not finish" in done.stderr
    assert "ValueError: the shelf is empty" in done.stderr
    assert "experiments/toy/runs/baseline-s0-" in done.stderr


def test_a_new_experiment_is_scaffolded_and_refused_until_it_is_filled_in(toy):
    claimbook("new", "bigger", "--paper", "toy", "--claim", "larger", "--notebook", "toy")
    text = (toy.experiments / "bigger" / "hypothesis.toml").read_text()
    assert 'title    = "Larger is better"' in text
    done = claimbook("check", "bigger", check=False)
    assert "arms.baseline and arms.treatment are the same" in done.stderr
    again = claimbook(
        "new", "bigger", "--paper", "toy", "--claim", "larger", "--notebook", "toy", check=False
    )
    assert "exists already" in again.stderr
    wrong = claimbook("new", "x", "--paper", "toy", "--claim", "largest", "--notebook", "toy", check=False)
    assert "no claim 'largest'" in wrong.stderr


def test_parameters_are_listed_with_type_default_and_comment(toy):
    table = claimbook("params", "toy").stdout
    assert "effect" in table
    assert "share of hits" in table
    (first, *_) = json.loads(claimbook("params", "toy", "--json").stdout)
    assert first == {"name": "effect", "type": "float", "default": 0.1, "comment": "share of hits"}


def test_init_makes_a_workspace_from_the_package(tmp_path):
    claimbook("init", str(tmp_path / "mine"))
    assert sorted(p.name for p in (tmp_path / "mine").iterdir()) == [
        ".gitattributes", ".gitignore", "experiments", "notebooks", "papers", "pyproject.toml",
    ]  # fmt: skip
    assert (tmp_path / "mine" / "notebooks" / "siglip.ipynb").is_file()
    done = claimbook("init", str(tmp_path / "mine"), check=False)
    assert done.returncode == 1
    assert "already" in done.stderr
    parameters = claimbook("params", "siglip", cwd=tmp_path / "mine").stdout
    assert "shuffle_pairs" in parameters


def test_outside_a_workspace_every_verb_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delenv("CLAIMBOOK_ROOT", raising=False)
    done = claimbook("judge", "toy", cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "claimbook init DIR" in done.stderr


@pytest.mark.parametrize("verb", ["--help", "run --help", "site build --help", "--version"])
def test_help_is_there(verb):
    result = CliRunner().invoke(command_line.cli, verb.split())
    assert result.exit_code == 0
    assert "claimbook" in result.output
