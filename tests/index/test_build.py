"""How files get into the index, stay in step with it, and what broken ones do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from claimbook.errors import RecordError
from claimbook.index import Index
from claimbook.index.build import Refreshed

NOTHING = Refreshed(0, 0, 0, [])


def ids(index: Index, query: str = "order by id", **options) -> list[str]:
    return [row["id"] for row in index.runs(query, limit=None, **options).rows]


def test_a_workspace_without_experiments_has_an_index(log):
    with Index.open(log.workspace) as index:
        assert index.runs().rows == []
        assert index.runs().total == 0
        assert index.search("검색") == []


def test_added_changed_moved_and_removed_runs_are_taken_in(log):
    first = log.run("a", "a1", arm="baseline")
    with Index.open(log.workspace) as index:
        assert index.refresh() == NOTHING
        log.run("a", "a2")
        log.run("exploratory", "by-hand")
        assert index.refresh() == Refreshed(2, 0, 0, [])
        log.run("a", "a1", arm="treatment")
        assert index.refresh() == Refreshed(0, 1, 0, [])
        assert ids(index, "arm = treatment") == ["a1"]
        (first.parent.parent.parent / "deleted").mkdir()
        first.parent.rename(first.parent.parent.parent / "deleted" / "a1")
        assert index.refresh() == Refreshed(1, 0, 1, [])
        assert ids(index) == ["a2", "by-hand"]
        assert ids(index, deleted=True) == ["a1", "a2", "by-hand"]
        assert ids(index, "deleted = true") == ["a1"]
        assert ids(index, "has deleted order by id") == ["a1", "a2", "by-hand"]
        (log.workspace.experiments / "a" / "deleted" / "a1" / "run.json").unlink()
        assert index.refresh() == Refreshed(0, 0, 1, [])
        assert index.refresh() == NOTHING
    with Index.open(log.workspace) as again:
        assert ids(again, deleted=True) == ["a2", "by-hand"]


def test_a_change_in_place_shows_although_size_and_time_of_the_content_are_the_old_ones(log):
    path = log.run("a", "a1", arm="baseline1")
    before = path.stat()
    with Index.open(log.workspace) as index:
        text = path.read_text().replace("baseline1", "baseline2")
        with path.open("r+") as file:
            file.write(text)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert (path.stat().st_size, path.stat().st_ino) == (before.st_size, before.st_ino)
        assert index.refresh() == Refreshed(0, 1, 0, [])
        assert index.runs().rows[0]["arm"] == "baseline2"


@pytest.mark.parametrize(
    ("break_it", "problem"),
    [
        (lambda text: text[:100], "no valid JSON"),
        (lambda text: text.replace('"seed": 0', '"seed": "zero"'), "seed"),
        (lambda text: text.replace('"status": "finished"', '"status": "done"'), "status"),
        (lambda text: text.replace('"arm": "baseline", ', ""), "'arm' is missing"),
        (lambda text: text.replace("2026-11-24T01:28:28.084Z", "yesterday"), "started is 'yesterday'"),
        (lambda text: text.replace("2026-11-24T", "9999-12-31T"), "which is no time since 1970"),
        (lambda text: text.replace('"id": "a2"', '"id": "a7"'), "id is 'a7', the folder is called 'a2'"),
        (lambda text: text.replace('"baseline"', '"\\ud800"'), ""),
        (lambda text: "[" * 100_000, ""),
        (lambda text: "", "no valid JSON"),
    ],
    ids=["torn", "type", "choice", "missing", "time", "late", "moved", "surrogate", "deep", "empty"],
)
def test_a_broken_run_stops_nothing_and_is_named_until_it_is_mended(log, break_it, problem):
    log.run("a", "a1")
    path = log.run("a", "a2")
    sound = path.read_text()
    broken = break_it(sound)
    assert broken != sound
    path.write_text(broken)
    with Index.open(log.workspace) as index:
        for refreshed in (index.refresh(), index.refresh()):
            assert (refreshed.added, refreshed.changed) == (0, 0)
            (complaint,) = refreshed.problems
            assert isinstance(complaint, RecordError)
            assert problem in complaint.problem
            assert complaint.fix
            assert complaint.where.startswith("experiments/a/runs/a2/run.json")
            assert [str(one) for one in index.problems] == [str(complaint)]
        assert ids(index) == ["a1"]
        path.write_text(sound)
        assert index.refresh() == Refreshed(0, 1, 0, [])
        assert ids(index) == ["a1", "a2"]
        path.write_text(broken)
        assert len(index.refresh().problems) == 1
        assert ids(index) == ["a1"]


def test_foreign_files_and_folders_are_left_alone(log):
    run = log.run("a", "a1")
    (run.parent.parent / "notes.txt").write_text("…")
    (run.parent.parent / "unfinished").mkdir()
    (run.parent.parent / ".hidden").mkdir()
    (run.parent.parent / ".hidden" / "run.json").write_text("{}")
    (log.workspace.experiments / "README.md").write_text("…")
    os.mkdir(os.fsencode(run.parent.parent) + b"/\xff")
    (run.parent.parent / "is-a-folder" / "run.json").mkdir(parents=True)
    with Index.open(log.workspace) as index:
        (complaint,) = index.refresh().problems
        assert complaint.where == "experiments/a/runs/is-a-folder/run.json"
        assert "cannot be read" in complaint.problem
        assert ids(index) == ["a1"]


def test_a_broken_hypothesis_leaves_its_runs_and_is_named_with_its_line(log):
    log.run("small", "run")
    path = log.hypothesis("small", "Small batches")
    with Index.open(log.workspace) as index:
        assert index.runs().rows[0]["paper"] == "siglip"
        path.write_text(path.read_text().replace("margin = 0.01", "margin = 'wide'"))
        (complaint,) = index.refresh().problems
        assert complaint.where == "experiments/small/hypothesis.toml:6"
        assert index.runs().rows[0]["paper"] is None
        assert index.search("small") == []


def test_a_paper_that_is_corrected_is_found_by_its_experiments(log):
    log.run("small", "run")
    log.hypothesis("small", "Small batches")
    log.paper("siglip", "SigLIP", "첫 번째 요약")
    with Index.open(log.workspace) as index:
        assert ids(index, "text contains 요약") == ["run"]
        log.paper("siglip", "SigLIP", "상품검색 논문")
        index.refresh()
        assert ids(index, "text contains 요약") == []
        assert ids(index, "text contains 검색") == ["run"]
        (log.workspace.papers / "siglip" / "meta.json").unlink()
        (complaint,) = index.refresh().problems
        assert "papers/siglip/meta.json" in complaint.where
        assert ids(index, "text contains 검색") == []


def test_a_run_whose_process_is_gone_reads_as_lost_without_a_change_of_its_file(log):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    from claimbook.experiments import this_process

    process = {
        "pid": child.pid,
        "created": psutil.Process(child.pid).create_time(),
        "host": this_process().host,
    }
    log.run("a", "a1", status="running", process=process)
    with Index.open(log.workspace) as index:
        assert ids(index, "status = running") == ["a1"]
        assert index.refresh() == NOTHING
        child.kill()
        child.wait()
        assert index.refresh() == Refreshed(0, 1, 0, [])
        assert ids(index, "status = lost") == ["a1"]
        assert index.refresh() == NOTHING
        log.run("a", "a1", status="finished", process=process)
        index.refresh()
        assert ids(index, "status = finished") == ["a1"]


def test_a_run_of_another_machine_reads_as_lost_when_its_heartbeat_stops(log):
    heartbeat = log.run("a", "a1", status="running").with_name("heartbeat")
    heartbeat.touch()
    with Index.open(log.workspace) as index:
        assert ids(index, "status = running") == ["a1"]
        yesterday = time.time() - 86_400
        os.utime(heartbeat, (yesterday, yesterday))
        assert index.refresh() == Refreshed(0, 1, 0, [])
        assert ids(index, "status = lost") == ["a1"]


def test_a_running_run_with_a_broken_start_is_named(log):
    log.run("a", "a1", status="running", started="yesterday")
    with Index.open(log.workspace) as index:
        (complaint,) = index.problems
        assert complaint.where == "experiments/a/runs/a1/run.json"


def test_two_runs_of_one_millisecond_are_two(log):
    for number in range(50):
        log.run("a", f"a{number}", started="2026-11-24T01:28:28Z")
    with Index.open(log.workspace) as index:
        assert index.runs("started = 2026-11-24T01:28:28Z").total == 50
        assert index.runs("started = 2026-11-24T01:28:29Z").total == 0


def test_a_workspace_read_in_another_order_gives_the_same_rows(log, tmp_path, make_log):
    other = make_log(tmp_path / "other")
    for number in range(30):
        log.run("a", f"a{number}", started="2026-11-24T01:28:28Z", metrics={f"m{number % 3}": 1.0})
    for number in reversed(range(30)):
        other.run("a", f"a{number}", started="2026-11-24T01:28:28Z", metrics={f"m{number % 3}": 1.0})
    with Index.open(log.workspace) as index, Index.open(other.workspace) as reversed_index:
        assert index.runs().rows == reversed_index.runs().rows


CHILD = """
import os, signal, sys
from pathlib import Path
from claimbook import workspace
from claimbook.index import Index

die_at = int(sys.argv[2])
def progress(done, total):
    if done == die_at:
        os.kill(os.getpid(), signal.SIGKILL)

print("ready", flush=True)
sys.stdin.readline()
with Index.open(workspace.find(Path(sys.argv[1])), progress) as index:
    print(index.runs().total, index.note or "kept")
"""


def child(log, die_at: int = -1) -> subprocess.Popen[str]:
    """A process that opens the index as soon as it reads a line; it kills itself after so many files."""
    command = [sys.executable, "-c", CHILD, str(log.workspace.root), str(die_at)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def killed(log, die_at: int) -> bool:
    process = child(log, die_at)
    process.communicate("go\n", timeout=60)
    return process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("die_at", [0, 500, 1000, 1200])
def test_a_refresh_that_is_killed_leaves_an_index_that_is_brought_up_to_date(log, die_at):
    for number in range(1200):
        log.run("a", f"a{number}")
    assert killed(log, die_at)
    with Index.open(log.workspace) as index:
        assert index.note is None
        assert index.runs().total == 1200
        assert index.refresh() == NOTHING


def test_a_later_refresh_that_is_killed_loses_nothing_of_the_earlier_one(log):
    for number in range(600):
        log.run("a", f"a{number}")
    with Index.open(log.workspace) as index:
        log.run("a", "a0", arm="changed")
        for number in range(600, 1200):
            log.run("a", f"a{number}")
        assert killed(log, 500)
        assert index.runs().total == 600
        assert index.runs("arm = changed").total == 0
        assert index.refresh() == Refreshed(600, 1, 0, [])
        assert index.runs("arm = changed").total == 1


def test_eight_processes_make_the_index_at_once_on_first_use(log):
    for number in range(300):
        log.run("a", f"a{number}", metrics={f"m{number % 20}": number})
    children = [child(log) for _ in range(8)]
    assert {process.stdout.readline() for process in children} == {"ready\n"}
    for process in children:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=120) for process in children]
    assert [process.returncode for process in children] == [0] * 8, said
    assert {out for out, _ in said} == {"300 kept\n"}
    with Index.open(log.workspace) as index:
        assert index.refresh() == NOTHING
        assert index.runs("metric.m7 >= 0").total == 15


def test_readers_and_writers_work_at_once(log):
    """Four processes refresh again and again while runs are added; none fails, none sees half a refresh."""
    looking = (
        "import sys\n"
        "from pathlib import Path\n"
        "from claimbook import workspace\n"
        "from claimbook.index import Index\n"
        "index, seen = Index.open(workspace.find(Path(sys.argv[1]))), 0\n"
        "while seen < 40:\n"
        "    index.refresh()\n"
        "    page = index.runs(limit=None)\n"
        "    assert page.total == len(page.rows) >= seen\n"
        "    seen = page.total\n"
    )
    log.run("a", "first")
    command = [sys.executable, "-c", looking, str(log.workspace.root)]
    lookers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for number in range(39):
        log.run("a", f"a{number}")
        time.sleep(0.02)
    said = [process.communicate(timeout=60)[1] for process in lookers]
    assert [process.returncode for process in lookers] == [0] * 4, said
