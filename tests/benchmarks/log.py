"""What logging and searching cost: claimbook, MLflow, Aim, trackio, and plain sqlite3 as the floor.

    python tests/benchmarks/log.py                  everything, as tables
    python tests/benchmarks/log.py --json           the same as JSON on stdout
    python tests/benchmarks/log.py --only 'sqlite3;claimbook' --rounds 1 --runs 5 --size 100

Each tracker is one long-lived process in its own environment (.venv-peers/<name>), asked in turn, the order
rotated from round to round; it takes the time itself, so imports and warm-up do not count. Shown are medians
over the rounds, and ratios as the median of the ratios within each round. A tracker that cannot be started or
fails keeps its row, with its error below the tables. Knows no tracker's calls: see workers/.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE / "workers"))

from worker import BEST, NEWEST, values  # noqa: E402, the workers run as scripts and make no package

TIMEOUT = 900.0
"""Seconds after which a tracker that does not answer is given up."""
PAUSE = 0.005
"""Seconds between two step metrics of the run that is killed."""
FILL_SECONDS = 60.0
"""How long a tracker that can only be filled through its API may take to reach its size."""


@dataclass(frozen=True)
class Contestant:
    """A row of the tables: a tracker with its settings."""

    name: str
    worker: str
    environment: str | None = None
    """Folder under .venv-peers/; None is the environment of this process."""
    options: tuple[str, ...] = ()
    parts: frozenset[str] = frozenset({"write", "kill", "search"})
    """What it takes part in; another setting of the row above leaves out what the setting does not touch."""

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        if self.environment is None:
            return Path(sys.executable)
        return ROOT / ".venv-peers" / self.environment / "bin" / "python"


OURS = "claimbook"
WRITE, SEARCH = frozenset({"write"}), frozenset({"search"})
CONTESTANTS = [
    Contestant(OURS, "on_claimbook.py"),
    Contestant("claimbook in git", "on_claimbook.py", options=("git",), parts=WRITE),
    Contestant("claimbook, refreshing", "on_claimbook.py", options=("refresh",), parts=SEARCH),
    Contestant("MLflow", "on_mlflow.py", "mlflow"),
    Contestant("MLflow, WAL", "on_mlflow.py", "mlflow", ("WAL",), parts=WRITE),
    Contestant("Aim", "on_aim.py", "aim"),
    Contestant("trackio", "on_trackio.py", "trackio"),
    Contestant("sqlite3", "on_sqlite.py", options=("NORMAL",)),
    Contestant("sqlite3, synced", "on_sqlite.py", options=("FULL",), parts=WRITE),
]


@dataclass
class Result:
    """What was measured of one contestant; a list holds one number per round."""

    name: str
    versions: str = ""
    durability: str = ""
    """What the store says about its journal and its syncing."""
    syncs_per_run: float | None = None
    """Calls of fsync and fdatasync; None where they could not be counted."""
    syncs_per_metric: float | None = None
    run_ms: list[float] = field(default_factory=list)
    metric_ms: list[float] = field(default_factory=list)
    """Until the call returned."""
    stored_metric_ms: list[float] = field(default_factory=list)
    """Until the run was closed and everything stored, shared out over its metrics."""
    bytes_per_run: float | None = None
    """Allocated on the disk."""
    files_per_run: float | None = None
    acknowledged: list[int] = field(default_factory=list)
    """Step metrics whose call had returned when the process was killed."""
    lost: list[int] = field(default_factory=list)
    """Those of them that a reader does not find afterwards."""
    size: int | None = None
    """Runs in the store that was searched."""
    filled: str = ""
    newest_ms: list[float] = field(default_factory=list)
    best_ms: list[float] = field(default_factory=list)
    error: str | None = None


class TrackerError(Exception):
    """A tracker did not start, did not answer in time, reported an error or answered wrongly."""


class Worker:
    """A tracker's process, seen from here."""

    def __init__(self, contestant: Contestant, folder: Path, around: Iterable[str | Path] = ()) -> None:
        if not contestant.python.exists():
            raise TrackerError(f"not installed: {contestant.python.relative_to(ROOT)} is missing")
        folder.mkdir(parents=True, exist_ok=True)
        script = HERE / "workers" / contestant.worker
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115, it goes with the process
        self._process = subprocess.Popen(
            [*around, contestant.python, script, folder, *contestant.options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            cwd=folder,
        )
        self._read()

    def ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """The answer to a request. Raises TrackerError."""
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps({"do": verb, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise TrackerError(self._last_words()) from None
        return self._read()

    def log_until_killed(self, after: int) -> tuple[str, int]:
        """Kill the process once it has acknowledged so many steps; returns the run, and how many it had."""
        run = str(self.ask("until_killed", pause=PAUSE)["run"])
        for _ in range(after):
            self._read()
        assert self._process.stdout
        self._process.kill()
        whole = [line for line in self._process.stdout if line.endswith(b"\n")]
        self._process.wait()
        return run, after + len(whole)

    def close(self) -> None:
        """Let the process end by itself; it is killed when it does not."""
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout
        watchdog = threading.Timer(TIMEOUT, self._process.kill)
        watchdog.start()
        line = self._process.stdout.readline()
        watchdog.cancel()
        if not line:
            raise TrackerError(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise TrackerError(str(answer["error"]).strip())
        return answer

    def _last_words(self) -> str:
        code = self._process.wait()
        self._complaints.seek(0)
        text = self._complaints.read().decode("utf-8", "replace").strip()
        return f"ended with {code} or was killed after {TIMEOUT:.0f} s\n" + "\n".join(text.split("\n")[-5:])


class Benchmark:
    """The contest in one temporary folder; a contestant that fails is out from then on."""

    def __init__(self, contestants: list[Contestant], folder: Path, say: Callable[[str], None]) -> None:
        self._contestants = contestants
        self._folder = folder
        self._say = say
        self.results = {contestant.name: Result(contestant.name) for contestant in contestants}

    def count_syncs(self, count: int) -> None:
        """How often each asks the disk to keep what it was given, where strace can tell."""
        trace = self._folder / "syncs.txt"
        strace = ["strace", "-f", "-e", "trace=fsync,fdatasync", "-o", str(trace)]
        if not shutil.which("strace") or subprocess.run([*strace, "true"], capture_output=True).returncode:
            return

        def counted(contestant: Contestant, result: Result) -> None:
            calls = []
            with closing(Worker(contestant, self._place("syncs", contestant), strace)) as worker:
                for verb, times in (("runs", count), ("runs", count), ("steps", count), ("steps", 5 * count)):
                    worker.ask(verb, count=times)
                    calls.append(trace.read_bytes().count(b"sync("))
            result.syncs_per_run = (calls[1] - calls[0]) / count
            # the same run with five times the steps: what the run itself costs drops out
            result.syncs_per_metric = (calls[3] - 2 * calls[2] + calls[1]) / (4 * count)

        self._each("write", "syncs", counted)

    def write(self, rounds: int, runs: int, steps: int) -> None:
        """Closed runs and what they take on the disk; step metrics."""
        before: dict[str, tuple[int, int]] = {}
        with self._workers("write") as workers:

            def begin(contestant: Contestant, result: Result) -> None:
                worker = workers[contestant.name] = Worker(contestant, self._place("write", contestant))
                about = worker.ask("about")
                result.versions, result.durability = about["versions"], about["durability"]
                worker.ask("runs", count=3)
                worker.ask("steps", count=50)
                before[contestant.name] = usage(self._place("write", contestant))

            def closed_runs(contestant: Contestant, result: Result) -> None:
                seconds = workers[contestant.name].ask("runs", count=runs)["seconds"]
                result.run_ms.append(1000 * seconds / runs)

            def weigh(contestant: Contestant, result: Result) -> None:
                size, files = usage(self._place("write", contestant))
                result.bytes_per_run = (size - before[contestant.name][0]) / (rounds * runs)
                result.files_per_run = (files - before[contestant.name][1]) / (rounds * runs)

            def step_metrics(contestant: Contestant, result: Result) -> None:
                answer = workers[contestant.name].ask("steps", count=steps)
                result.metric_ms.append(1000 * answer["returned"] / steps)
                result.stored_metric_ms.append(1000 * answer["stored"] / steps)

            self._each("write", "warm-up", begin)
            self._rounds("write", "runs", closed_runs, rounds)
            self._each("write", "disk", weigh)
            self._rounds("write", "steps", step_metrics, rounds)

    def kill(self, times: int) -> None:
        """What of the acknowledged step metrics a reader finds after kill -9."""
        moments = random.Random(0)  # so that no kill keeps step with a tracker's own clock
        with self._workers("kill") as readers:

            def begin(contestant: Contestant, result: Result) -> None:
                readers[contestant.name] = Worker(contestant, self._place("kill", contestant))

            def one(contestant: Contestant, result: Result) -> None:
                victim = Worker(contestant, self._place("kill", contestant))
                run, acknowledged = victim.log_until_killed(moments.randint(150, 250))
                kept = readers[contestant.name].ask("logged", run=run)["count"]
                result.acknowledged.append(acknowledged)
                result.lost.append(max(0, acknowledged - kept))

            self._each("kill", "reader", begin)
            self._rounds("kill", "kill", one, times)

    def search(self, rounds: int, size: int) -> None:
        """Two queries over as many runs as each can be filled with; the answers are checked."""
        with self._workers("search") as workers:

            def query(contestant: Contestant, result: Result, which: str) -> float:
                answer = workers[contestant.name].ask("search", which=which)
                if answer["found"] != expected(which, result.size or 0):
                    raise TrackerError(f"{which!r} over {result.size} runs found others: {answer['found']}")
                return 1000 * float(answer["seconds"])

            def fill(contestant: Contestant, result: Result) -> None:
                worker = workers[contestant.name] = Worker(contestant, self._place("search", contestant))
                answer = worker.ask("fill", count=size, seconds=FILL_SECONDS)
                result.size = answer["count"]
                result.filled = f"{answer['how']}; {answer['seconds']:.0f} s"
                query(contestant, result, "newest")
                query(contestant, result, "best")

            def both(contestant: Contestant, result: Result) -> None:
                result.newest_ms.append(query(contestant, result, "newest"))
                result.best_ms.append(query(contestant, result, "best"))

            self._each("search", "fill", fill)
            self._rounds("search", "search", both, rounds)

    def _rounds(self, part: str, what: str, do: Callable[[Contestant, Result], None], rounds: int) -> None:
        for turn in range(rounds):
            self._each(part, f"{what}, round {turn + 1} of {rounds}", do, turn)

    def _each(self, part: str, what: str, do: Callable[[Contestant, Result], None], turn: int = 0) -> None:
        """Ask all in turn that take part and have not failed, beginning with another one each turn."""
        contestants = [contestant for contestant in self._contestants if part in contestant.parts]
        first = turn % max(1, len(contestants))
        for contestant in contestants[first:] + contestants[:first]:
            result = self.results[contestant.name]
            if result.error is None:
                self._say(f"{what}: {contestant.name}")
                try:
                    do(contestant, result)
                except TrackerError as error:
                    result.error = f"{what}: {error}"

    @contextmanager
    def _workers(self, place: str) -> Iterator[dict[str, Worker]]:
        """The processes of one part; at its end they are closed and their stores removed."""
        workers: dict[str, Worker] = {}
        try:
            yield workers
        finally:
            for worker in workers.values():
                worker.close()
            shutil.rmtree(self._folder / place, ignore_errors=True)

    def _place(self, part: str, contestant: Contestant) -> Path:
        return self._folder / part / contestant.name.replace(" ", "-").replace(",", "")


def expected(which: str, size: int) -> list[int]:
    """The runs that a query must find, computed from the values themselves."""
    metrics = {number: values(number)[1] for number in range(size)}
    half = [number for number in metrics if metrics[number]["m0"] > 0.5]
    if which == "newest":
        return half[:-51:-1]
    sigmoid = [number for number in half if values(number)[0]["p0"] == "sigmoid"]
    return sorted(sigmoid, key=lambda number: -metrics[number]["m1"])[:50]


def usage(folder: Path) -> tuple[int, int]:
    """Bytes allocated on the disk below a folder, and the number of files."""
    entries = [path.lstat() for path in folder.rglob("*")]
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sum(512 * entry.st_blocks for entry in entries), len(files)


def machine(folder: Path) -> dict[str, str]:
    """What the figures hang on: processor, file system, and what it costs there to sync 4 KiB."""
    import psutil

    from claimbook.surroundings import kernel_environment

    environment = kernel_environment()
    mounts = [part for part in psutil.disk_partitions(all=True) if folder.is_relative_to(part.mountpoint)]
    mount = max(mounts, key=lambda part: len(part.mountpoint), default=None)
    return {
        "processor": f"{environment['processor']}, {environment['cores']} cores",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "file system": mount.fstype if mount else "unknown",
        "fsync of 4 KiB": f"{sync_ms(folder):.2f} ms",
    }


def sync_ms(folder: Path, times: int = 100) -> float:
    """Median milliseconds of appending 4 KiB to a file and syncing it."""
    taken = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(times):
            begin = time.perf_counter()
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
            taken.append(1000 * (time.perf_counter() - begin))
    return statistics.median(taken)


def spread(numbers: list[float]) -> str:
    """The median, and below it the least and the largest."""
    if not numbers:
        return "–"
    return f"{digits(statistics.median(numbers))}\n[dim]{digits(min(numbers))}–{digits(max(numbers))}[/]"


def ratio(numbers: list[float], ours: list[float]) -> str:
    """How many times ours: the median over the rounds."""
    if not numbers or len(numbers) != len(ours):
        return "–"
    times = statistics.median(a / b for a, b in zip(numbers, ours, strict=True))
    return f"{digits(times)} ×"


def digits(number: float) -> str:
    """Three significant digits without an exponent."""
    return f"{number:#.3g}".removesuffix(".") if 0 < abs(number) < 1000 else f"{number:,.0f}"


def tables(results: list[Result], rounds: int) -> Iterator[Table]:
    """What was measured, for the terminal."""
    ours = next((result for result in results if result.name == OURS), Result(OURS))
    writing = ["ms per run", "×", "ms per metric", "×", "ms until stored", "×"]
    yield table(
        f"Writing: median of {rounds} rounds (least–most), and how many times claimbook's", writing,
        {
            r.name: [
                spread(r.run_ms), ratio(r.run_ms, ours.run_ms),
                spread(r.metric_ms), ratio(r.metric_ms, ours.metric_ms),
                spread(r.stored_metric_ms), ratio(r.stored_metric_ms, ours.stored_metric_ms),
            ]
            for r in results
            if r.run_ms or r.error
        },
    )  # fmt: skip
    keeping = ["syncs per run", "syncs per metric", "lost in a kill", "KiB per run", "files per 1,000 runs"]
    yield table(
        "Keeping", keeping,
        {
            r.name: [
                number(r.syncs_per_run, "z.1f"), number(r.syncs_per_metric, "z.1f"),
                f"{sum(r.lost)} of {sum(r.acknowledged)}" if r.lost else "–",
                number(r.bytes_per_run and r.bytes_per_run / 1024, ".1f"),
                number(r.files_per_run and 1000 * r.files_per_run, ",.0f"),
            ]
            for r in results
            if r.run_ms or r.error
        },
    )  # fmt: skip
    yield table(
        "Searching", ["runs", "ms, newest", "×", "ms, best", "×"],
        {
            r.name: [
                number(r.size, ","),
                spread(r.newest_ms), ratio(r.newest_ms, ours.newest_ms),
                spread(r.best_ms), ratio(r.best_ms, ours.best_ms),
            ]
            for r in results
            if r.newest_ms or r.error
        },
    )  # fmt: skip


def table(title: str, columns: list[str], rows: dict[str, list[str]]) -> Table:
    """A table with a named row each and numbers beside it."""
    made = Table("", title=title, title_justify="left", title_style="bold")
    for column in columns:
        made.add_column(column, justify="right")
    for name, cells in rows.items():
        made.add_row(name, *cells)
    return made


def number(value: float | None, form: str) -> str:
    """A number as text; a dash where there is none."""
    return "–" if value is None else format(value, form)


REMARKS = f"""\
A run is 10 parameters and 5 metrics, closed. A run of claimbook records besides: ten item scores in a file of
their own, the versions installed, the process, the processor, the git state.
ms per metric: until the call returns; until stored: with the closing of the run shared out over its metrics.
Lost in a kill: of the step metrics whose call had returned before kill -9, those that a reader does not find;
one was logged every {1000 * PAUSE:.0f} ms. Of Aim, after `aim storage reindex`; before it, all.
The machine stayed up: what a power cut would cost depends on the syncs.
Newest: {NEWEST}.
Best: {BEST}. Every answer is compared with the right one.
×: how many times claimbook's, the median over the rounds."""


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; 1 when a tracker failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=100, help="closed runs per round")
    parser.add_argument("--steps", type=int, default=500, help="step metrics per round")
    parser.add_argument("--size", type=int, default=20_000, help="runs to search")
    parser.add_argument("--only", help="names from the tables, joined by semicolons")
    parser.add_argument("--json", action="store_true", help="JSON on stdout instead of tables")
    chosen = parser.parse_args(arguments)
    progress = Console(stderr=True)
    with (
        tempfile.TemporaryDirectory(prefix="claimbook-benchmark-") as folder,
        progress.status("") as status,
    ):
        place = Path(folder).resolve()
        benchmark = Benchmark(selected(chosen.only), place, lambda text: status.update(text))
        about = machine(place)
        benchmark.count_syncs(min(50, chosen.runs))
        benchmark.write(chosen.rounds, chosen.runs, chosen.steps)
        benchmark.kill(chosen.rounds)
        benchmark.search(chosen.rounds, chosen.size)
    results = list(benchmark.results.values())
    if chosen.json:
        document = {"machine": about, "settings": vars(chosen), "results": [asdict(r) for r in results]}
        print(json.dumps(document, indent=2))
    else:
        show(about, results, chosen.rounds)
    return 1 if any(result.error for result in results) else 0


def selected(only: str | None) -> list[Contestant]:
    """The contestants whose names are given; all when none is."""
    if only is None:
        return CONTESTANTS
    return [c for c in CONTESTANTS if c.name in only.split(";")]


def show(about: dict[str, str], results: list[Result], rounds: int) -> None:
    """Print everything for a reader."""
    console = Console(width=None if sys.stdout.isatty() else 110)
    for name, value in about.items():
        console.print(f"{name}: {value}", highlight=False)
    console.print("; ".join(sorted({r.versions for r in results if r.versions})), "\n", highlight=False)
    for each in tables(results, rounds):
        console.print(each, "")
    console.print(REMARKS, highlight=False, soft_wrap=True)
    for result in results:
        filled = f"to search, filled by {result.filled}" if result.filled else ""
        notes = "; ".join(filter(None, [result.durability, filled]))
        console.print(f"  {result.name}: {notes}", highlight=False, soft_wrap=True)
    for result in results:
        if result.error:
            console.print(
                f"\n{result.name} failed. {result.error}", style="red", markup=False, highlight=False
            )


if __name__ == "__main__":
    sys.exit(main())
