"""Processes that write a workspace's files and are killed while they do.

    lives.py lines LIFE ROOT EVERY     kill at each EVERY-th line that the package executes, a workspace each
    lives.py moments LIFE ROOT KILLS   kill at KILLS moments, all in one workspace

Every write is acknowledged on a pipe after its call has returned. What was acknowledged is printed as JSON
lines, one per process: `{"root": …, "killed": …, "said": [["step", RUN, 0], …]}`. The processes are forked
from one that has lived such a life and imported all that it takes, so that a kill costs milliseconds.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from claimbook import experiments, session, start, workspace
from claimbook.experiments import Experiment, Metrics, beat, end_beat, this_process
from claimbook.records import (
    Finish,
    Hypothesis,
    ItemScores,
    Rerun,
    Run,
    SealedSources,
    SealEntry,
    Step,
    Verdict,
)
from claimbook.session import completed, new_run_id, now

Say = Callable[..., None]
ITEMS = {"item": ["a", "b"], "cluster": ["p", "p"], "hit@1": [1.0, 0.0]}
SOURCES = SealedSources(notebook=["run = start()"], code={"claimbook/vlm/loss.py": "# 손실\n"})
WATCHED = {str(module.__file__) for module in (workspace, experiments, session)}


def by_hand(root: Path, say: Say) -> None:
    """What a notebook does: start, log, finish."""
    run = start()
    say("begun", run.run.id)
    for step in range(3):
        run.log(step=step, 손실=1 / (step + 1))
        say("step", run.run.id, step)
    run.finish(metrics={"hit@1": 0.5}, items=ITEMS)
    say("finished", run.run.id)


def supervised(root: Path, say: Say) -> None:
    """What `seal`, `run`, `judge`, `rerun` and the deletion of a run write."""
    experiment = Experiment(root / "experiments" / "toy")
    earlier = experiment.seal()
    if earlier:
        experiment.complete_seal(earlier.current, SOURCES)  # as `seal` does where it was cut off
    entry = next_seal(experiment)
    experiment.add_seal(entry, SOURCES)
    say("sealed", entry.hash)
    experiment.enter_late()
    run_once(experiment, entry, say)
    verdict = verdict_of(entry)
    experiment.save_verdict(verdict)
    say("judged", entry.hash)
    rerun = rerun_of(entry, verdict, experiment.ledger().heads)
    experiment.save_rerun(rerun)
    say("rerun", rerun.id)
    for restored in (False, True):
        pilot = a_run(kind="exploratory", status="failed", seal=None)
        experiment.save_run(pilot)
        experiment.delete(pilot.id)
        say("deleted", pilot.id)
        if restored:
            experiment.restore(pilot.id)
            say("restored", pilot.id)


def run_once(experiment: Experiment, entry: SealEntry, say: Say) -> None:
    """One run that counts, as its supervisor and its notebook write it."""
    run = a_run(seal=entry.hash)
    experiment.save_run(run)
    say("begun", run.id)
    experiment.enter_start(run)
    say("started", run.id)
    beat(experiment.run_folder(run.id))
    metrics = Metrics(experiment, run.id)
    metrics.append(Step(step=0, values={"손실": 1.0}, at=0.0))
    say("step", run.id, 0)
    digest = experiment.save_items(run.id, ItemScores.of(ITEMS))
    finish = Finish(metrics={"hit@1": 0.5}, chance={}, items_sha256=digest)
    metrics.append(finish)
    ended = completed(run, finish, 1.0)
    experiment.save_run(ended)
    say("finished", run.id)
    experiment.enter_end(ended)
    say("ended", run.id)
    end_beat(experiment.run_folder(run.id))


def a_run(**changes: Any) -> Run:
    run = Run(
        id=new_run_id("treatment-s0"),
        experiment="toy",
        arm="treatment",
        seed=0,
        kind="confirmatory",
        why_exploratory=[],
        seal=None,
        notebook="toy",
        parameters={},
        fingerprints={},
        environment={},
        git={},
        status="running",
        started=now(),
        process=this_process(),
    )
    return msgspec.structs.replace(run, **changes)


def next_seal(experiment: Experiment) -> SealEntry:
    """The entry that amends the seal in force, or the first one."""
    earlier = experiment.seal()
    entry = SealEntry(
        hash="",
        sealed_at=now(),
        hypothesis=Hypothesis(
            title="더 큰 효과가 더 높은 점수를 낸다",
            paper="toy",
            claim="larger",
            notebook="toy",
            metric="hit@1",
            margin=0.05,
            seeds=[0],
            arms={"baseline": {"effect": 0.2}, "treatment": {"effect": 0.6}},
        ),
        notebook=SOURCES.notebook_digest,
        code=SOURCES.code_digests,
        data="d" * 64,
        data_description="tiny",
        previous=earlier.current.hash if earlier else None,
        reason="once more" if earlier else None,
        with_ledger=True,
    )
    return msgspec.structs.replace(entry, hash=entry.digest)


def verdict_of(entry: SealEntry) -> Verdict:
    return Verdict(
        experiment="toy",
        outcome="inconclusive",
        reasons=[],
        seal=entry.hash,
        kind="superiority",
        scope="method",
        metric="hit@1",
        direction="higher",
        margin=0.05,
        alpha=0.05,
        effect=None,
        interval=None,
        p=None,
        p_adjusted=None,
        family={},
        smallest_p=None,
        equivalent=False,
        units=1,
        means={},
        pairs=[],
        controls=[],
        replication=None,
        data=entry.data,
        data_description=entry.data_description,
        our_scale=None,
        paper_scale=None,
    )


def rerun_of(entry: SealEntry, verdict: Verdict, heads: list[str]) -> Rerun:
    return Rerun(
        id=new_run_id("rerun"),
        experiment="toy",
        seal=entry.hash,
        began=now(),
        ended=now(),
        result="held",
        was=verdict.outcome,
        now=verdict.outcome,
        largest_difference=0.0,
        largest_where="treatment s0",
        changed=[],
        verdict=verdict,
        ledger=heads,
    )


LIVES = {"by_hand": by_hand, "supervised": supervised}


def fork(life: Callable[[Path, Say], None], root: Path, *, line: int | None = None) -> tuple[int, int]:
    """A process that lives one life after another, or with `line` one life up to that line; pid and pipe."""
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return pid, read
    os.close(read)
    os.environ["CLAIMBOOK_ROOT"] = str(root)

    def say(*words: object) -> None:
        os.write(write, json.dumps(words).encode() + b"\n")

    try:
        if line is None:
            while True:
                life(root, say)
        sys.settrace(_killer(line))
        life(root, say)
    except BaseException as error:
        say("failed", repr(error))
    finally:
        os._exit(0)


def _killer(countdown: int) -> Callable[[FrameType, str, Any], Any]:
    """A tracer that kills this process when so many lines of the watched modules have begun."""

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal countdown
        if frame.f_code.co_filename not in WATCHED:
            return None
        if event == "line":
            countdown -= 1
            if countdown == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace


def lines(life: Callable[[Path, Say], None], root: Path, every: int) -> None:
    """Kill at every so many lines until a life ends before its line comes; then let another life follow."""
    line = 1
    while True:
        own = root / f"{line:05d}"
        own.mkdir(parents=True)
        (own / "pyproject.toml").write_text("[tool.claimbook]\n")
        pid, pipe = fork(life, own, line=line)
        killed = tell(own, pid, pipe)
        pid, pipe = fork(life, own, line=sys.maxsize)
        tell(own, pid, pipe)
        if not killed:
            return
        line += every


def moments(life: Callable[[Path, Say], None], root: Path, kills: int) -> None:
    """Kill after one to twelve acknowledgements, which is a whole life, and some microseconds more."""
    (root / "pyproject.toml").write_text("[tool.claimbook]\n")
    chance = random.Random(0)
    for kill in range(kills):
        wanted = 1 + kill % 12
        pid, pipe = fork(life, root)
        heard = b""
        while heard.count(b"\n") < wanted:
            chunk = os.read(pipe, 65_536)
            if not chunk:
                break
            heard += chunk
        time.sleep(chance.uniform(0, 0.004))
        os.kill(pid, signal.SIGKILL)
        tell(root, pid, pipe, heard)


def tell(root: Path, pid: int, pipe: int, heard: bytes = b"") -> bool:
    """Wait for a process and print what it has acknowledged; whether it was killed."""
    while chunk := os.read(pipe, 65_536):
        heard += chunk
    os.close(pipe)
    _, status = os.waitpid(pid, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    said = [json.loads(line) for line in heard.splitlines(keepends=True) if line.endswith(b"\n")]
    print(json.dumps({"root": str(root), "killed": killed, "said": said}), flush=True)
    return killed


def warm_up(life: Callable[[Path, Say], None], root: Path) -> None:
    """Live once in a workspace that nobody looks at."""
    root.mkdir()
    (root / "pyproject.toml").write_text("[tool.claimbook]\n")
    os.environ["CLAIMBOOK_ROOT"] = str(root)
    life(root, lambda *words: None)


def main(how: str, life: str, root: str, number: str) -> None:
    warm_up(LIVES[life], Path(root) / "warm")
    {"lines": lines, "moments": moments}[how](LIVES[life], Path(root), int(number))


if __name__ == "__main__":
    main(*sys.argv[1:])
