"""A disk that is full: nothing half-written, a message that says so, and logging goes on once there is room.

Where the system lets its users mount, the disk is a file system of one megabyte; everywhere, a limit on the
size of a file stands in for it, which makes the same calls fail.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from claimbook import session
from claimbook.errors import RunError
from claimbook.experiments import BY_HAND, Experiment, beat
from claimbook.session import start
from claimbook.workspace import append_line, open_lines, write_bytes, write_json

ITEMS = {"item": ["a", "b"], "cluster": ["p", "p"], "hit@1": [1.0, 0.0]}


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let every write beyond so many bytes of a file fail, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture
def run(toy, monkeypatch):
    monkeypatch.delenv(session.RUN_VARIABLE, raising=False)
    monkeypatch.setattr(session, "_unfinished", None)
    return start()


def test_a_file_that_does_not_fit_leaves_the_old_one_and_nothing_beside_it(tmp_path):
    path = tmp_path / "verdict.json"
    write_json(path, {"effect": 0.5})
    with files_of_at_most(1024), pytest.raises(OSError, match=r"verdict\.json"):
        write_bytes(path, b"x" * 4096)
    assert json.loads(path.read_text()) == {"effect": 0.5}
    assert list(tmp_path.iterdir()) == [path]
    write_json(path, {"effect": 0.25})
    assert json.loads(path.read_text()) == {"effect": 0.25}


@pytest.mark.parametrize("room", range(0, 12))
def test_a_line_that_does_not_fit_leaves_the_old_lines_however_much_of_it_would(tmp_path, room):
    path = tmp_path / "metrics.jsonl"
    with open_lines(path) as file:
        append_line(file, b'{"step": 1}\n')
        with files_of_at_most(12 + room), pytest.raises(OSError, match=r"metrics\.jsonl"):
            append_line(file, b'{"step": 2}\n')
        assert path.read_bytes() == b'{"step": 1}\n'
        append_line(file, b'{"step": 3}\n')
    assert path.read_bytes() == b'{"step": 1}\n{"step": 3}\n'


def test_logging_goes_on_in_the_same_run_once_there_is_room(toy, run):
    run.log(step=0, 손실=1.0)
    size = (run.folder / "metrics.jsonl").stat().st_size
    with files_of_at_most(size + 10), pytest.raises(OSError, match=r"metrics\.jsonl"):
        run.log(step=1, 손실=0.5)
    run.log(step=2, 손실=0.25)
    run.finish(metrics={"hit@1": 0.5}, items=ITEMS)
    experiment = Experiment(toy.experiments / BY_HAND)
    (recorded,) = experiment.runs()
    assert recorded.status == "finished"
    assert [step.step for step in experiment.steps(recorded.id)[0]] == [0, 2]


@pytest.mark.parametrize("file", ["items.parquet", "metrics.jsonl", "run.json"])
def test_a_finish_that_does_not_fit_says_so_and_can_be_called_again(toy, monkeypatch, file):
    """It writes three files one after the other, here each larger than the last: any of them may fail."""
    monkeypatch.delenv(session.RUN_VARIABLE, raising=False)
    monkeypatch.setattr(session, "_unfinished", None)
    subprocess.run(["git", "init", "--quiet", toy.root], check=True)  # its state is asked for once a run
    whole = logged()
    finish(whole)
    items, metrics, record = (
        (whole.folder / name).stat().st_size for name in ("items.parquet", "metrics.jsonl", "run.json")
    )
    assert items + 100 < metrics < record - 200
    room = {"items.parquet": items - 1, "metrics.jsonl": metrics - 100, "run.json": record - 100}[file]
    run = logged()
    with files_of_at_most(room), pytest.raises(OSError, match=re.escape(file)):
        finish(run)
    finish(run)
    experiment = Experiment(toy.experiments / BY_HAND)
    recorded = next(one for one in experiment.runs() if one.id == run.run.id)
    assert (recorded.status, recorded.metrics["hit@1"]) == ("finished", 0.5)
    assert experiment.items(recorded).mean("hit@1") == 0.5
    assert len(experiment.steps(recorded.id)[0]) == 30
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "items.parquet",
        "metrics.jsonl",
        "run.json",
    ]
    with pytest.raises(RunError, match="finished"):
        finish(run)


def logged() -> session.Session:
    run = start()
    for step in range(30):
        run.log(step=step, loss=0.5)
    return run


def finish(run: session.Session) -> None:
    others = {f"m{number:03d}": 0.5 for number in range(300)}
    run.finish(metrics={"hit@1": 0.5, **others}, items=ITEMS)


def test_a_heartbeat_that_cannot_be_written_does_not_end_the_run(run, monkeypatch):
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "touch", refuse)
    beat(run.folder)
    run.log(step=0, loss=1.0)


def test_a_ledger_line_that_does_not_fit_leaves_the_chain_as_it_was(judged):
    before = judged.ledger_path.read_bytes()
    run = judged.runs()[0]
    with files_of_at_most(len(before) + 100), pytest.raises(OSError, match=r"ledger\.jsonl"):
        judged.enter_end(run)
    assert judged.ledger_path.read_bytes() == before
    judged.enter_end(run)
    assert judged.ledger().gaps() == []


def test_the_command_line_says_in_two_lines_that_the_disk_is_full(toy):
    """`seal` writes seal.json, whose hypothesis and hashes need more than two kilobytes."""
    code = (
        "import resource, signal; from claimbook.cli import main; import sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "sys.argv = ['claimbook', 'seal', 'toy']; main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=toy.root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    problem, what_to_do = done.stderr.strip().splitlines()
    assert problem.startswith("error: ")
    assert "experiments/toy/" in problem
    assert "File too large" in problem
    assert what_to_do.startswith("  what to do: ")
    assert Experiment.of(toy, "toy").seal() is None
    assert not [path for path in toy.root.rglob("*.tmp")]


ON_A_FULL_DISK = """\
import errno, json, os, sys
from pathlib import Path
from claimbook import start
from claimbook.experiments import Experiment
from claimbook.workspace import append_line, open_lines, write_bytes

root = Path(sys.argv[1])
(root / "pyproject.toml").write_text("[tool.claimbook]\\n")
os.chdir(root)
ITEMS = {"item": ["a", "b"], "cluster": ["p", "p"], "hit@1": [1.0, 0.0]}
seen = {}

def fill():
    with open(root / "ballast", "wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)): pass
        except OSError as error:
            assert error.errno == errno.ENOSPC

def refused(name, call, *arguments, **options):
    try:
        call(*arguments, **options)
        seen[name] = "written"
    except OSError as error:
        seen[name] = [errno.errorcode[error.errno], str(error.filename)]

write_bytes(root / "seal.json", b"old" * 2000)
lines = open_lines(root / "metrics.jsonl")
append_line(lines, b"x" * 4095 + b"\\n")
run = start()
run.log(step=0, loss=1.0)
fill()
refused("write", write_bytes, root / "seal.json", b"new" * 20000)
refused("append", append_line, lines, b"y" * 8191 + b"\\n")
refused("start", start)
refused("finish", run.finish, metrics={"hit@1": 0.5}, items=ITEMS)
seen["old"] = [(root / "seal.json").read_bytes() == b"old" * 2000, (root / "metrics.jsonl").stat().st_size]
seen["left"] = [path.name for path in root.rglob("*.tmp")]
(root / "ballast").unlink()
append_line(lines, b"z\\n")
run.log(step=1, loss=0.5)
run.finish(metrics={"hit@1": 0.5}, items=ITEMS)
experiment = Experiment(run.folder.parent.parent)
seen["runs"] = [one.status for one in experiment.runs() if one.id == run.run.id]
seen["steps"] = [step.step for step in experiment.steps(run.run.id)[0]]
print(json.dumps(seen))
"""


def test_on_a_disk_of_one_megabyte_that_is_full_nothing_is_lost_and_writing_goes_on(in_namespace, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    seen = in_namespace(f"mount -t tmpfs -o size=1m tmpfs '{disk}'", ON_A_FULL_DISK, disk)
    assert seen["write"] == ["ENOSPC", str(disk / "seal.json")]
    assert seen["append"] == ["ENOSPC", str(disk / "metrics.jsonl")]
    assert seen["start"][0] == seen["finish"][0] == "ENOSPC"
    assert seen["old"] == [True, 4096]
    assert seen["left"] == []
    assert seen["runs"] == ["finished"]
    assert seen["steps"] == [0, 1]
