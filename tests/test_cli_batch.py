"""`batch` and `batches` as a user, cron and Slurm call them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from claimbook.experiments import Experiment
from claimbook.records.batch import Closed, Opened, read_batch_file, read_events
from claimbook.records.run import Process
from claimbook.runner import journal
from claimbook.runner.journal import Journal

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
SECTION = README.split("\n## Scheduled reruns\n")[1].split("\n## ")[0]


def claimbook(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", "from claimbook.cli import main; main()", *arguments],
        cwd=cwd, capture_output=True, text=True,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


def block(language: str) -> str:
    """The README's only block of a language in this section."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)
    return found


class TestSweep:
    """Two runs of which one fails, then that one again."""

    FILE = """\
    title = "밤의 실험"
    arms = ["baseline"]
    seeds = [101]
    experiments = ["t*"]
    [grid]
    crash = ["", "raise"]
    [slots]
    count = 2
    """

    @pytest.fixture
    def swept(self, toy) -> Path:
        path = toy.root / "밤 실험.toml"
        path.write_text(self.FILE, "utf-8")
        return path

    def test_the_way_of_a_batch_of_which_a_run_fails(self, toy, swept):
        dry = claimbook("batch", swept.name, "--dry-run", "--json")
        assert [(one["changes"], one["missing"]) for one in json.loads(dry.stdout)] == [
            ({"crash": ""}, [["baseline", 101]]),
            ({"crash": "raise"}, [["baseline", 101]]),
        ]
        assert not (toy.experiments / "batches").exists()

        first = claimbook("batch", swept.name)
        assert first.returncode == 1
        assert first.stdout.startswith("밤의 실험\n")
        assert "runs     1 finished, 1 failed" in first.stdout
        assert re.search(
            r"not done toy baseline seed 101 crash=raise failed in cell \d: "
            r"ValueError: the shelf is empty \(baseline-s101-",
            first.stdout,
        )
        assert re.search(r"time     .* for 2 runs, .* together, \d\.\d at a time", first.stdout)

        swept.write_text('make = "failed"\n' + self.FILE, "utf-8")
        second = claimbook("batch", swept.name, "--json")
        assert second.returncode == 1
        events = read_events(second.stdout.encode(), "stdout")
        assert isinstance(events[0], Opened)
        assert isinstance(events[-1], Closed)
        assert events[0].name == "밤 실험"
        assert events[-1].counts == {"failed": 1, "reused": 1}

        listed = json.loads(claimbook("batches", "--json").stdout)
        assert [(one["state"], one["runs"]) for one in listed] == [("incomplete", 1), ("incomplete", 2)]
        shown = claimbook("batches", "밤 실험")
        assert re.search(r"; .* for 2 on \d{4}-\d\d-\d\d$", shown.stdout, re.MULTILINE)
        compared = claimbook("batches", listed[1]["batch"], listed[0]["batch"])
        assert re.search(r"for 2 runs, .*; .* for 1 on ", compared.stdout)
        whole = json.loads(claimbook("batches", "밤 실험", "--json").stdout)
        assert whole["before"]["batch"] == listed[1]["batch"]
        assert [job["state"] for job in whole["jobs"]] == ["reused", "failed"]


def test_what_is_complete_is_judged_and_set_beside_the_last_batch_of_the_name(judged):
    """Everything is there already: nothing is made, the verdict is computed anew."""
    verdict = judged.experiments / "toy" / "verdict.json"
    before = verdict.read_bytes()
    opened = Opened(
        batch="nightly-1", name="nightly", at="2026-01-01T00:00:00.000Z",
        process=Process(pid=1, created=1.0, host="another"), engine="local", slots=1,
    )  # fmt: skip
    with Journal.open(judged, opened) as one:
        one.enter(Closed(at=opened.at, seconds=1.0, run_seconds=1.0, counts={}, verdicts={"toy": "refuted"}))
    (judged.root / "nightly.toml").write_text("")
    done = claimbook("batch", "nightly.toml")
    assert done.returncode == 0, done.stderr
    assert verdict.read_bytes() == before
    assert "verdicts toy supported, was refuted" in done.stdout
    assert "runs     18 reused" in done.stdout
    assert "Supported: hit@1" in done.stderr
    table = claimbook("batches").stdout.splitlines()
    assert re.match(r"nightly-\d{8}-\d{6}-\w{6} +done .* 18 +1 supported", table[1])
    assert re.match(r"nightly-1 +done +2026-01-01 09:00", table[-1])  # Asia/Seoul


def test_what_would_not_count_is_left_out_and_the_others_are_done(judged):
    other = judged.experiments / "other"
    other.mkdir()
    hypothesis = (judged.experiments / "toy" / "hypothesis.toml").read_text()
    (other / "hypothesis.toml").write_text(hypothesis)
    broken = judged.experiments / "broken"
    broken.mkdir()
    (broken / "hypothesis.toml").write_text(hypothesis.replace("metric ", "metrik "))
    (judged.root / "nightly.toml").write_text('experiments = ["*"]\n')
    done = claimbook("batch", "nightly.toml")
    assert done.returncode == 1
    assert "left out: other: no run of it would count: not sealed" in done.stderr
    assert "left out: broken: experiments/broken/hypothesis.toml:5: there is no field 'metrik'" in done.stderr
    assert "verdicts toy supported" in done.stdout
    assert "experiments were left out: broken, other" in done.stderr
    assert not (other / "runs").exists()
    assert re.match(r"nightly-\S+ +incomplete ", claimbook("batches").stdout.splitlines()[1])


def test_a_batch_of_which_all_was_left_out_is_kept_with_the_reasons(toy):
    (toy.root / "nightly.toml").write_text('experiments = ["toy"]\n')
    assert claimbook("batch", "nightly.toml").returncode == 1
    told = claimbook("batches", "nightly").stdout
    assert ": incomplete, after " in told
    assert "left out: toy: no run of it would count: not sealed" in told


def test_records_that_cannot_be_judged_are_named(judged):
    (record,) = judged.experiments.glob("toy/runs/treatment-s3-*/run.json")
    record.write_text(re.sub(r'"hit@1": 0\.\d+', '"hit@1": 0.9', record.read_text()))
    (judged.root / "nightly.toml").write_text("")
    done = claimbook("batch", "nightly.toml")
    assert done.returncode == 1
    assert "left out: toy: " in done.stderr
    assert "run.json: run.json was changed" in done.stderr
    assert "toy supported" not in done.stdout
    assert re.match(r"nightly-\S+ +incomplete ", claimbook("batches").stdout.splitlines()[1])
    assert "not judged: toy: " in claimbook("batches", "nightly").stdout


def test_where_nothing_is_sealed_there_is_nothing_to_make(toy):
    (toy.root / "nightly.toml").write_bytes(b"\xef\xbb\xbf# from an editor that marks UTF-8\r\n")
    done = claimbook("batch", "nightly.toml")
    assert done.returncode == 0, done.stderr
    assert "nothing to make" in done.stderr
    assert not (toy.experiments / "batches").exists()


def test_a_rerun_of_what_has_no_verdict_is_left_out(toy):
    (toy.root / "weekly.toml").write_text('make = "rerun"\nexperiments = ["toy"]\n')
    done = claimbook("batch", "weekly.toml")
    assert done.returncode == 1
    assert "left out: toy: there is no verdict of the seal in force to replicate" in done.stderr
    (toy.root / "weekly.toml").write_text('make = "rerun"\n')
    assert claimbook("batch", "weekly.toml").returncode == 0


PILOT = 'experiments = ["toy"]\nseeds = [101]\n[slots]\n'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("sedes = [0]\n", "error: b.toml:1: there is no field 'sedes'"),
        ("[slots]\ncount = 0\n", "error: b.toml:2: count is 0"),
        ("[slots]\ncuont = 2\n", "error: b.toml:2: there is no field 'cuont', did you mean 'count'?"),
        ('experiments = ["toj"]\n', "no experiment is called 'toj', did you mean 'toy'?"),
        ('experiments = ["x-*"]\n', "no experiment is called 'x-*'"),
        ('experiments = ["toy"]\n[grid]\nefect = [0.1]\n', "did you mean 'effect'?"),
        ('experiments = ["toy"]\narms = ["basline"]\nseeds = [101]\n', "there is no arm 'basline'"),
        (f'{PILOT}memory = "8"\n', "error: b.toml: slots.memory: '8' has no unit"),
        (f'{PILOT}count = 3\ngpus = "0"\n', "error: b.toml: slots.gpus: 3 slots are too many"),
        (
            f"{PILOT}cold = true\nverify_cold = 2\n",
            "error: b.toml: slots.verify_cold: with --cold there are no",
        ),
        (f'{PILOT}ray_address = "h:1"\n', "error: b.toml: slots.ray_address: it names a cluster"),
    ],
)
def test_a_file_that_asks_for_what_there_is_not_makes_nothing(toy, text, complaint):
    (toy.root / "b.toml").write_text(text)
    done = claimbook("batch", "b.toml")
    assert done.returncode == 1
    assert complaint in done.stderr
    assert "what to do: " in done.stderr
    assert not (toy.experiments / "toy" / "runs").exists()


def test_a_file_that_is_no_text_or_not_there(toy):
    (toy.root / "b.toml").write_bytes(b"title = '\xff'\n")
    assert "b.toml: byte 9 is no UTF-8" in claimbook("batch", "b.toml").stderr
    assert claimbook("batch", "c.toml").returncode == 2


def test_without_batches_the_list_says_what_makes_them(toy):
    assert "there are no batches yet" in claimbook("batches").stdout
    assert json.loads(claimbook("batches", "--json").stdout) == []
    assert "there is no batch 'nightly'" in claimbook("batches", "nightly").stderr


class TestScheduled:
    """The README's lines, as cron and Slurm run them."""

    PILOT = 'arms = ["baseline"]\n'

    @pytest.fixture
    def at_home(self, toy, tmp_path) -> Path:
        """The README's folder: my-claims in the home, with claimbook in its .venv."""
        home = tmp_path / "home"
        home.mkdir()
        (home / "my-claims").symlink_to(toy.root)
        (toy.root / ".venv").symlink_to(sys.prefix)
        return home

    def test_the_readmes_file_is_one(self):
        asked = read_batch_file(block("toml"), "README.md")
        assert (asked.experiments, asked.make, asked.slots.count) == (["siglip-*"], "missing", 2)

    def test_the_cron_line_needs_neither_path_nor_terminal(self, toy, at_home):
        """cron gives HOME, SHELL and hardly more."""
        (toy.root / "nightly.toml").write_text(f"{self.PILOT}experiments = ['toy']\nseeds = [101]\n")
        schedule, _, command = block("cron").strip().partition("  ")
        assert len(schedule.split()) == 5
        assert "%" not in command  # which cron takes for the end of a line
        done = subprocess.run(
            ["/bin/sh", "-c", command], env={"HOME": str(at_home)}, cwd="/", stdin=subprocess.DEVNULL
        )
        log = (toy.root / "nightly.log").read_text("utf-8")
        assert done.returncode == 0, log
        assert re.search(r"^  1/1 baseline seed 101 finished in", log, re.MULTILINE)
        assert re.search(r"^nightly-\S+: done, after", log, re.MULTILINE)
        assert "\x1b" not in log

    def test_a_slurm_job_that_is_told_to_end_is_continued_by_the_next(self, toy, at_home):
        """sbatch wraps the command in a script, and sends TERM to the shell that runs it."""
        (toy.root / "nightly.toml").write_text(
            f"{self.PILOT}experiments = ['toy']\nseeds = [101, 102, 103, 104]\n"
        )
        (command,) = re.findall(r"--wrap '([^']+)'", block("sh"))
        assert "--signal=B:TERM@60" in block("sh")
        script = toy.root / "slurm_script"
        script.write_text(f"#!/bin/sh\n# This script was created by sbatch --wrap.\n\n{command}\n")
        log = toy.root / "nightly.log"
        with log.open("ab") as output:
            job = subprocess.Popen(["/bin/sh", str(script)], cwd=toy.root, stdout=output, stderr=output)
        deadline = time.monotonic() + 120
        while b"  1/4 " not in log.read_bytes():
            assert time.monotonic() < deadline, log.read_text()
            assert job.poll() is None, log.read_text()
            time.sleep(0.05)
        started = psutil.Process(job.pid).children(recursive=True)
        os.kill(job.pid, signal.SIGTERM)
        assert job.wait(timeout=60) == 130
        assert not [process for process in started if process.is_running()]
        assert journal.read(toy, "nightly").state == "stopped"

        again = subprocess.run(["/bin/sh", str(script)], cwd=toy.root, capture_output=True, text=True)
        assert again.returncode == 0, again.stderr
        runs = Experiment.of(toy, "toy").runs()
        assert sorted(run.seed for run in runs if run.status == "finished") == [101, 102, 103, 104]
        assert {run.status for run in runs} <= {"finished", "cancelled"}
