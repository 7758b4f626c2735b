"""A judged experiment whose files fit one another, and file systems that are full or read-only."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from claimbook.experiments import Experiment, Metrics, this_process
from claimbook.judge.of_experiment import judge_experiment
from claimbook.judge.verdict import judge_rerun, largest_difference
from claimbook.records import Finish, ItemScores, Rerun, Run, SealEntry, Step
from claimbook.runner import sealing
from claimbook.runner.state import State, current_state
from claimbook.session import completed
from claimbook.workspace import Workspace

RERUN = "rerun-20261124-000000-aaaaaa"


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system in memory where there is one: kill -9 ends a process, not the kernel, so
    that what is on a disk plays no part, and fsync costs nothing there."""
    shared = Path("/dev/shm")
    if not shared.is_dir():
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="claimbook-", dir=shared))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the files of `whole` are kept between tests."""
    return tmp_path_factory.mktemp("kept") / "workspace"


@pytest.fixture
def whole(kept: Path, request: pytest.FixtureRequest) -> Experiment:
    """The toy experiment sealed, run, judged and replicated; made through the records, without kernels.

    It is made once: who damages a file of it mends it again. `judged` is a copy of one's own.
    """
    if not kept.exists():
        space = request.getfixturevalue("toy")
        make_judged(space, Experiment.of(space, "toy"))
        shutil.copytree(space.root, kept)
    return Experiment(kept / "experiments" / "toy")


@pytest.fixture
def judged(toy: Workspace, kept: Path, whole: Experiment) -> Experiment:
    """A copy of `whole`, to be written in."""
    shutil.copytree(kept, toy.root, dirs_exist_ok=True)
    return Experiment.of(toy, "toy")


def make_judged(space: Workspace, experiment: Experiment) -> None:
    """Seal, runs, verdict and one rerun, each by the code that makes it."""
    sealed = sealing.seal(space, experiment)
    state = current_state(space, experiment)
    for (arm, seed), _ in state.parameters.items():
        make_run(experiment, state, sealed, arm, seed)
    verdict = judge_experiment(space, experiment)
    experiment.save_verdict(verdict)
    for (arm, seed), _ in state.parameters.items():
        make_run(experiment, state, sealed, arm, seed, rerun=RERUN)
    family = {name: p for name, p in verdict.family.items() if name != experiment.slug}
    again = judge_rerun("toy", sealed, experiment.runs(), experiment.items, rerun=RERUN, family=family)
    difference, where = largest_difference(sealed, experiment.runs(), RERUN)
    experiment.save_rerun(
        Rerun(
            id=RERUN,
            experiment="toy",
            seal=sealed.hash,
            began="2026-11-24T00:00:00.000Z",
            ended="2026-11-24T00:01:00.000Z",
            result="held",
            was=verdict.outcome,
            now=again.outcome,
            largest_difference=difference,
            largest_where=where,
            changed=[],
            verdict=again,
            ledger=experiment.ledger().heads,
        )
    )
    (experiment.folder / "README.md").write_text(
        "---\ndecision: adopt\ntags: [검색]\n---\n\n다음에는 더 큰 상품군에서 확인한다.\n", "utf-8"
    )


def make_run(
    experiment: Experiment,
    state: State,
    sealed: SealEntry,
    arm: str,
    seed: int,
    rerun: str | None = None,
) -> Run:
    """A finished run of four items, with its lines in the ledger."""
    shares = {"baseline": 0.25, "treatment": 0.75, "shuffled": 0.5}
    hits = [1.0 if number < 4 * shares[arm] else 0.0 for number in range(4)]
    scores = ItemScores.of(
        {"item": ["컵-1", "컵-2", "모자-1", "모자-2"], "cluster": ["컵", "컵", "모자", "모자"], "hit@1": hits}
    )
    run = Run(
        id=f"{arm}-s{seed}-{'2' if rerun else '1'}",
        experiment=experiment.slug,
        arm=arm,
        seed=seed,
        kind="replication" if rerun else "confirmatory",
        why_exploratory=[],
        seal=sealed.hash,
        notebook="toy",
        parameters=state.parameters[arm, seed],
        fingerprints=state.fingerprints,
        environment={"python": "3.11.9"},
        git={"commit": None, "diff": None},
        status="running",
        started=f"2099-01-01T00:0{seed}:00.000Z",
        process=this_process(),
        metric="hit@1",
        rerun=rerun,
    )
    experiment.save_run(run)
    experiment.enter_start(run)
    metrics = Metrics(experiment, run.id)
    metrics.append(Step(step=1, values={"손실": 0.5}, at=0.1))
    finish = Finish(
        metrics={"hit@1": scores.mean("hit@1")},
        chance={"hit@1": 0.5},
        items_sha256=experiment.save_items(run.id, scores),
    )
    metrics.append(finish)
    ended = msgspec.structs.replace(completed(run, finish, 1.0), ended=run.started)
    experiment.save_run(ended)
    experiment.enter_end(ended)
    return ended


@pytest.fixture
def in_namespace() -> Callable[..., Any]:
    """Run Python code after shell commands that mount something, in a mount namespace of its own.

    The code prints JSON, which is returned. Skips where the system does not allow such a namespace.
    """

    def run(mounts: str, code: str, *arguments: object) -> Any:
        if shutil.which("unshare") is None:
            pytest.skip("no `unshare` here: mounting needs a namespace of its own")
        inside = ["unshare", "--user", "--map-root-user", "--mount"]
        may_mount = [*inside, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
        refused = subprocess.run(may_mount, capture_output=True, text=True, check=False)
        if refused.returncode != 0:
            pytest.skip(f"this system does not let its users mount: {refused.stderr.strip()}")
        words = [sys.executable, "-c", code, *map(str, arguments)]
        done = subprocess.run(
            [*inside, "sh", "-ec", f'{mounts}\nexec "$@"', "sh", *words],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run
