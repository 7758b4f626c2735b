"""What running notebooks costs: `claimbook run`, warm and cold, beside papermill and ploomber-engine.

    python tests/benchmarks/batches.py                       everything, as tables: half an hour or more
    python tests/benchmarks/batches.py --only heavy --rounds 5
    python tests/benchmarks/batches.py --only trivial --runs 100 --json

    heavy      one run of a notebook that imports torch, transformers and matplotlib and then does nothing
    batch      eight such runs as one command, Python's start and the fork server's included
    trivial    a thousand runs that do nothing: the runner's memory and its processor time
    same       a real training, warm and cold: metrics and item scores to the last digit

Contestants take turns, the order rotated from round to round; ratios are medians of those within a round.
papermill and ploomber-engine execute the same notebook without `start` and `finish`: they keep no records.
ploomber-engine lives in .venv-peers/ploomber and imports torch from this environment, so that all read the
same files. Its library executes notebooks inside its own process, where what one imports stays for the next.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
PLOOMBER = HERE.parent.parent / ".venv-peers" / "ploomber" / "bin"
CLAIMBOOK = [sys.executable, "-c", "from claimbook.cli import main; main()"]
QUIET = {**os.environ, "PLOOMBER_STATS_ENABLED": "false"}
BATCH = 8
"""Runs of the batch."""
EVERY = 0.5
"""Seconds between two looks at the runner."""
STEPS = 20
"""Training steps of the run that is made warm and cold."""

IMPORTS = """\
import torch
import matplotlib.pyplot as plt
from transformers import AutoProcessor, CLIPModel
"""
CELL = "score = float(seed % 2)"
BEGIN = "from claimbook import start\nrun = start()"
END = """\
run.finish(metrics={"score": score}, items={"item": [0, 1], "cluster": [0, 1], "score": [score, score]})
"""
PARAMETERS = 'products: str = "tiny"\neffect: float = 0.0\nseed: int = 0\n'
HYPOTHESIS = """\
title    = "A benchmark"
paper    = "none"
claim    = "none"
notebook = "{notebook}"
metric   = "score"
margin   = 0.1
seeds    = {seeds}

[questions]
{questions}

[parameters]
products = "tiny"

[arms.baseline]
effect = 0.0
[arms.treatment]
effect = 1.0
"""
QUESTIONS = ("problem", "difficulty", "tried", "similar", "method", "verification", "service")
SETTINGS = """\
[tool.claimbook]
[tool.claimbook.products.tiny]
source  = "folder"
path    = "data"
table   = "items.jsonl"
columns = { item = "id", image = "image", title = "name" }
split   = { train = 0.5, val = 0.0, test = 0.5 }
"""


@dataclass
class Result:
    """Seconds of a contestant, one number per round; an error instead when it failed."""

    name: str
    seconds: list[float] = field(default_factory=list)
    error: str | None = None


@dataclass
class Bookkeeping:
    """The runner over a batch of trivial runs."""

    runs: int
    seconds: float
    """Wall clock of the whole command."""
    resident: list[tuple[float, float]]
    """Share of the runs that had ended, and MB of the runner's resident memory then."""
    runner: float
    """Seconds of processor time of the runner's process."""
    helpers: float
    """The same of short processes that it started and waited for, such as git."""
    workers: float
    """The same of the processes below it that outlive a run: workers and fork server; no kernels."""


# ---------------------------------------------------------------------------------------------- notebooks


def write_notebook(path: Path, *code: str) -> Path:
    """A notebook of code cells, the first of them tagged `parameters`."""
    cells = [
        {
            "cell_type": "code",
            "id": f"cell-{number}",
            "metadata": {"tags": ["parameters"]} if number == 0 else {},
            "execution_count": None,
            "outputs": [],
            "source": source,
        }
        for number, source in enumerate(code)
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    document = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), "utf-8")
    return path


def workspace(root: Path, seeds: int) -> Path:
    """A workspace with the experiments `heavy` and `trivial`, of two arms each."""
    from PIL import Image

    (root / "data").mkdir(parents=True)
    lines = []
    for number in range(12):
        Image.new("RGB", (8, 8), (20 * number, 90, 160)).save(root / "data" / f"{number}.png")
        lines.append(json.dumps({"id": f"p{number}", "image": f"{number}.png", "name": f"mug {number}"}))
    (root / "data" / "items.jsonl").write_text("\n".join(lines) + "\n")
    (root / "pyproject.toml").write_text(SETTINGS)
    write_notebook(root / "notebooks" / "heavy.ipynb", PARAMETERS, IMPORTS, BEGIN, CELL, END)
    write_notebook(root / "notebooks" / "trivial.ipynb", PARAMETERS, BEGIN, CELL, END)
    questions = "\n".join(f'{name} = "none"' for name in QUESTIONS)
    for notebook in ("heavy", "trivial"):
        experiment = root / "experiments" / notebook
        experiment.mkdir(parents=True)
        text = HYPOTHESIS.format(notebook=notebook, seeds=list(range(seeds)), questions=questions)
        (experiment / "hypothesis.toml").write_text(text)
    return root


# -------------------------------------------------------------------------------------------- contestants


class Peer:
    """A peer's library in a process of its own, which executes one notebook after another."""

    def __init__(self, python: Path, script: str, folder: Path, *arguments: str) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [python, HERE / "workers" / script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=QUIET,
        )
        self.versions = str(self._answer()["versions"])

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def ask(self, notebook: Path, seed: int) -> None:
        """Give it a notebook to execute."""
        output = self._folder / f"{notebook.stem}-{seed}.ipynb"
        job = {"notebook": str(notebook), "output": str(output), "parameters": {"seed": seed}}
        assert self._process.stdin
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        self._process.stdin.flush()

    def seconds(self) -> float:
        """How long the next one of those took; waits for it."""
        return float(self._answer()["seconds"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise ChildProcessError(f"ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def papermill(folder: Path) -> Peer:
    """papermill's library."""
    return Peer(Path(sys.executable), "on_papermill.py", folder)


def ploomber(folder: Path) -> Peer:
    """ploomber-engine's library."""
    return Peer(PLOOMBER / "python", "on_ploomber.py", folder, sysconfig.get_paths()["purelib"])


def command(*words: str | Path, cwd: Path, **environment: str) -> float:
    """Seconds of a command. Raises ChildProcessError with its last words when it fails."""
    begin = time.perf_counter()
    done = subprocess.run(
        words, cwd=cwd, env={**QUIET, **environment}, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - begin
    if done.returncode != 0:
        raise ChildProcessError("\n".join((done.stderr or done.stdout).strip().splitlines()[-3:]))
    return seconds


class Contest:
    """Notebooks and the folder in which everybody writes; each call is one measurement."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._places = 0
        self._notebook = write_notebook(folder / "notebooks" / "heavy.ipynb", PARAMETERS, IMPORTS, CELL)

    def _place(self) -> Path:
        self._places += 1
        place = self._folder / str(self._places)
        place.mkdir()
        return place

    # one run

    def library(self, begin: Callable[[Path], Peer], earlier: int = 0) -> float:
        """One run of a library whose process is up already, and has made some before."""
        with begin(self._place()) as peer:
            for seed in range(earlier + 1):
                peer.ask(self._notebook, seed)
                seconds = peer.seconds()
            return seconds

    def papermill_command(self) -> float:
        """One whole `papermill` command."""
        return command(
            sys.executable, "-m", "papermill", self._notebook, "out.ipynb", "-p", "seed", "1",
            cwd=self._place(),
        )  # fmt: skip

    def ploomber_command(self) -> float:
        """One whole `ploomber-engine` command."""
        return command(
            PLOOMBER / "ploomber-engine", self._notebook, "out.ipynb", "-p", "seed", "1",
            cwd=self._place(), PYTHONPATH=self._behind(),
        )  # fmt: skip

    def _behind(self) -> str:
        """A folder whose sitecustomize puts this environment's packages behind ploomber-engine's own."""
        folder = self._folder / "behind"
        folder.mkdir(exist_ok=True)
        site = sysconfig.get_paths()["purelib"]
        (folder / "sitecustomize.py").write_text(f"import sys\nsys.path.append({site!r})\n")
        return str(folder)

    def further_run(self, *options: str, runs: int = 4) -> float:
        """One more run of a batch in one slot: the median time between two ends."""
        root = workspace(self._place(), runs // 2 + 1)
        command(*CLAIMBOOK, "run", "heavy", "-j", "1", *options, cwd=root)
        ends = sorted(ended(root / "experiments" / "heavy"))
        return statistics.median(after - before for before, after in itertools.pairwise(ends))

    # a batch

    def library_batch(self, begin: Callable[[Path], Peer], processes: int = 1) -> float:
        """Eight runs shared out over new processes, from their start to their end."""
        began = time.perf_counter()
        with ExitStack() as stack:
            # all are started before the first one is waited for
            peers = [stack.enter_context(begin(self._place())) for _ in range(processes)]
            for seed in range(BATCH):
                peers[seed % processes].ask(self._notebook, seed)
            for seed in range(BATCH):
                peers[seed % processes].seconds()
        return time.perf_counter() - began

    def claimbook_batch(self, *options: str) -> float:
        """`claimbook run` with eight runs, as a whole."""
        root = workspace(self._place(), BATCH // 2)
        return command(*CLAIMBOOK, "run", "heavy", *options, cwd=root)


def ended(experiment: Path) -> Iterator[float]:
    """When each finished run ended, seconds since the epoch."""
    for path in experiment.glob("runs/*/run.json"):
        run = json.loads(path.read_bytes())
        if run["status"] == "finished":
            yield datetime.fromisoformat(run["ended"]).timestamp()


Measure = Callable[[], float]
OURS = "claimbook run, a further run"
OUR_BATCH = "claimbook run -j 2"


def heavy(contest: Contest) -> dict[str, Measure]:
    """One run of the heavy notebook."""
    return {
        OURS: contest.further_run,
        "claimbook run --cold, a further run": lambda: contest.further_run("--cold", runs=2),
        "papermill, library": lambda: contest.library(papermill),
        "papermill, command": contest.papermill_command,
        "ploomber-engine, command": contest.ploomber_command,
        "ploomber-engine, a further run in one process": lambda: contest.library(ploomber, earlier=1),
    }


def batch(contest: Contest) -> dict[str, Measure]:
    """Eight runs of it."""
    return {
        OUR_BATCH: lambda: contest.claimbook_batch("-j", "2"),
        "claimbook run -j 2 --cold": lambda: contest.claimbook_batch("-j", "2", "--cold"),
        "papermill, library, one after another": lambda: contest.library_batch(papermill),
        "papermill, library, 2 processes": lambda: contest.library_batch(papermill, 2),
        "papermill, command, one after another": lambda: repeated(contest.papermill_command),
        "ploomber-engine, command, one after another": lambda: repeated(contest.ploomber_command),
        "ploomber-engine, all in one process": lambda: contest.library_batch(ploomber),
    }


def repeated(measure: Measure) -> float:
    """Eight times the same."""
    return sum(measure() for _ in range(BATCH))


def in_turn(contestants: dict[str, Measure], rounds: int, say: Callable[[str], None]) -> list[Result]:
    """Each contestant once a round, beginning with another one each time; who fails is out from then on."""
    results = {name: Result(name) for name in contestants}
    order = list(contestants)
    for turn in range(rounds):
        for name in order[turn % len(order) :] + order[: turn % len(order)]:
            if results[name].error is None:
                say(f"round {turn + 1} of {rounds}: {name}")
                try:
                    results[name].seconds.append(contestants[name]())
                except (OSError, ChildProcessError) as error:
                    results[name].error = str(error)
    return list(results.values())


# ------------------------------------------------------------------------------------------- bookkeeping


def bookkeeping(root: Path, runs: int, slots: int) -> Bookkeeping:
    """A batch of trivial runs, its runner watched from outside."""
    workspace(root, runs // 2)
    if shutil.which("git"):  # which is asked for the commit of each run
        command("git", "init", "--quiet", cwd=root)
    began = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        runner = psutil.Popen(
            [*CLAIMBOOK, "run", "trivial", "-j", str(slots)], cwd=root, stdout=said, stderr=said, env=QUIET
        )
        watch = Watch(runner, root / "experiments" / "trivial" / "ledger.jsonl", runs)
        while runner.poll() is None:
            watch.look()
            time.sleep(EVERY)
        seconds = time.perf_counter() - began
        said.seek(0)
        if runner.returncode != 0:
            raise ChildProcessError(said.read().decode("utf-8", "replace")[-500:])
    return Bookkeeping(runs, seconds, watch.resident, watch.runner, watch.helpers, watch.workers())


class Watch:
    """What a runner and the lasting processes below it have used, as far as it was seen."""

    def __init__(self, runner: psutil.Process, ledger: Path, runs: int) -> None:
        self._runner, self._ledger, self._runs = runner, ledger, runs
        self._workers: dict[int, float] = {}
        self.resident: list[tuple[float, float]] = []
        self.runner = 0.0
        self.helpers = 0.0

    def look(self) -> None:
        """Take the figures of this moment."""
        with suppress(psutil.Error):
            with self._runner.oneshot():
                times, memory = self._runner.cpu_times(), self._runner.memory_info()
            done = self._done()
            self.runner = times.user + times.system
            if done < 1:  # afterwards it has waited for workers and kernels too
                self.helpers = times.children_user + times.children_system
            self.resident.append((done, memory.rss / 1e6))
            for child in self._runner.children():
                times = child.cpu_times()
                self._workers[child.pid] = times.user + times.system

    def workers(self) -> float:
        """Seconds of processor time of all workers and the fork server."""
        return sum(self._workers.values())

    def _done(self) -> float:
        with suppress(FileNotFoundError):
            return self._ledger.read_bytes().count(b'"ended"') / self._runs
        return 0.0


# -------------------------------------------------------------------------------------------- same numbers


def design_of(slug: str, root: Path) -> None:
    """Copy an experiment's hypothesis, and nothing that came of it."""
    folder = Path("experiments", slug)
    (root / folder).mkdir(parents=True)
    shutil.copy(HERE.parent.parent / folder / "hypothesis.toml", root / folder)


def fingerprints(root: Path, *options: str) -> dict[str, str]:
    """A hash of metrics and item scores of each run of a short training, by arm and seed."""
    command(*CLAIMBOOK, "init", root, cwd=root.parent)
    slug = "siglip-small-batch"
    design_of(slug, root)
    words = ["run", slug, "-j", "2", "--seeds", "0,1", "--set", f"steps={STEPS}", *options]
    command(*CLAIMBOOK, *words, cwd=root)
    found = {}
    for path in sorted((root / "experiments" / slug / "runs").glob("*/run.json")):
        run = json.loads(path.read_bytes())
        digest = hashlib.sha256(json.dumps(run["metrics"], sort_keys=True).encode())
        digest.update((path.parent / "items.parquet").read_bytes())
        found[f"{run['arm']} seed {run['seed']}"] = f"{run.get('kernel')}: {digest.hexdigest()[:16]}"
    return found


# ------------------------------------------------------------------------------------------------ printing


def compared(title: str, results: list[Result], ours: str) -> Table:
    """Medians, spread, and how many times ours."""
    table = Table(title, "seconds, median", "least to most", f"times {ours!r}")
    own = next((result.seconds for result in results if result.name == ours), [])
    for result in results:
        seconds = result.seconds
        if result.error or not seconds:
            table.add_row(result.name, "–", "–", f"failed: {result.error}")
            continue
        ratios = [theirs / mine for theirs, mine in zip(seconds, own, strict=False)]
        times = statistics.median(ratios) if ratios else None
        table.add_row(
            result.name,
            f"{statistics.median(seconds):.2f}",
            f"{min(seconds):.2f} to {max(seconds):.2f}",
            "–" if times is None else f"{times:.1f}" if times >= 1 else f"{times:.2f}",
        )
    return table


def told(books: Bookkeeping, slots: int) -> Iterator[str]:
    """Bookkeeping in sentences."""
    yield (
        f"{books.runs:,} trivial runs in {slots} slots: {books.seconds:.0f} s, "
        f"{books.runs / books.seconds:.2f} runs a second"
    )
    for name, seconds in (
        ("runner", books.runner),
        ("what it waited for, such as git", books.helpers),
        ("workers and fork server", books.workers),
    ):
        each, share = 1000 * seconds / books.runs, seconds / books.seconds
        yield f"{name}: {each:.1f} ms of processor time per run, {share:.1%} of one core"
    yield "runner's resident memory, MB: " + ", ".join(
        f"{memory:.0f} at {share:.0%}" for share, memory in tenths(books.resident)
    )


def tenths(resident: list[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """The first sample of each tenth of the runs, and the last sample."""
    seen = set()
    for share, memory in resident:
        if int(10 * share) not in seen:
            seen.add(int(10 * share))
            yield share, memory
    yield resident[-1]


def machine() -> str:
    """What the figures hang on."""
    from claimbook.surroundings import kernel_environment

    packages = ("papermill", "nbclient", "ipykernel", "torch", "transformers", "matplotlib")
    load = ", ".join(f"{value:.1f}" for value in psutil.getloadavg())
    return "; ".join(
        (
            f"{kernel_environment()['processor']}, {os.cpu_count()} cores, load {load}",
            f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
            ", ".join(f"{name} {version(name)}" for name in packages),
        )
    )


def main() -> None:
    """Measure what is asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", choices=["heavy", "batch", "trivial", "same"], action="append")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=1000, help="trivial runs")
    parser.add_argument("--slots", type=int, default=2, help="of the trivial runs")
    parser.add_argument("--names", help="only contestants whose name has this in it, and claimbook's")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    parts = asked.only or ["heavy", "batch", "trivial", "same"]
    console = Console(stderr=asked.json, highlight=False)
    console.width = max(console.width, 110)  # a pipe has no width to fold to
    console.print(machine())
    document: dict[str, Any] = {"machine": machine()}
    with tempfile.TemporaryDirectory(prefix="batches-") as temporary:
        folder = Path(temporary).resolve()
        contest = Contest(folder)
        for part, contestants, ours in (
            ("heavy", heavy(contest), OURS),
            ("batch", batch(contest), OUR_BATCH),
        ):
            if part in parts:
                chosen = {
                    name: measure
                    for name, measure in contestants.items()
                    if not asked.names or name == ours or asked.names in name
                }
                results = in_turn(chosen, asked.rounds, lambda text: print(text, file=sys.stderr))
                title = "a heavy run" if part == "heavy" else f"{BATCH} heavy runs"
                console.print(compared(title, results, ours))
                document[part] = [asdict(result) for result in results]
        if "trivial" in parts:
            books = bookkeeping(folder / "trivial", asked.runs, asked.slots)
            console.print("\n".join(told(books, asked.slots)))
            document["trivial"] = asdict(books)
        if "same" in parts:
            warm, cold = fingerprints(folder / "warm"), fingerprints(folder / "cold", "--cold")
            for run in sorted(warm.keys() | cold.keys()):
                console.print(f"{run}: {warm.get(run)}, {cold.get(run)}")
            document["same"] = {"warm": warm, "cold": cold}
    if asked.json:
        print(json.dumps(document))


if __name__ == "__main__":
    main()
