"""The index is built from files, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from snapshots import many, paper, write

from claimbook.errors import PaperError, WorkspaceError
from claimbook.papers.discover import Built, build, search
from claimbook.papers.discover.index import index_path
from claimbook.workspace import Workspace


def counts(built: Built) -> tuple[int, int, int, int, int]:
    return built.added, built.replaced, built.unchanged, built.skipped, built.total


def contents(workspace: Workspace) -> list[tuple]:
    """All papers, in full, and how many of them each of some words finds."""
    with sqlite3.connect(index_path(workspace)) as db:
        rows = db.execute(
            "SELECT id, title, authors, categories, abstract FROM papers ORDER BY id"
        ).fetchall()
        for word in ("even", "odd", "n7", "series", "model"):
            rows += db.execute("SELECT ?, count(*) FROM words WHERE words MATCH ?", [word, word]).fetchall()
        db.execute("INSERT INTO words (words) VALUES ('integrity-check')")
    return rows


def test_papers_are_added_once(workspace, tmp_path):
    path = write(tmp_path / "a.jsonl", many(30))
    assert counts(build(workspace, [path])) == (30, 0, 0, 0, 30)
    again = build(workspace, [path])
    assert counts(again) == (0, 0, 0, 0, 30)
    assert again.known == [path]


def test_a_file_that_was_moved_is_known_again_and_a_changed_one_is_read(workspace, tmp_path):
    path = write(tmp_path / "a.jsonl", many(30))
    build(workspace, [path])
    path = path.rename(tmp_path / "b.jsonl")
    assert build(workspace, [path]).known == [path]
    os.utime(path, (1, 1))
    assert counts(build(workspace, [path])) == (0, 0, 30, 0, 30)


def test_a_newer_snapshot_replaces_by_id(workspace, tmp_path):
    older = [paper("2001.00001", title="A tigers paper"), paper("2001.00002"), paper("2001.00003")]
    newer = [
        paper("2001.00001", title="A lions paper"),
        paper("2001.00002"),
        paper("2001.00003", published="2022-05-05"),
        paper("2001.00004"),
    ]
    build(workspace, [write(tmp_path / "older.jsonl", older)])
    assert counts(build(workspace, [write(tmp_path / "newer.jsonl.gz", newer)])) == (1, 2, 1, 0, 4)
    assert search(workspace, "tigers").total == 0
    assert [found.title for found in search(workspace, "lions").papers] == ["A lions paper"]
    assert [found.id for found in search(workspace, "", since="2022-05-05").papers] == ["2001.00003"]
    assert search(workspace, "transferable").total == 3
    contents(workspace)


def test_a_paper_that_stands_twice_in_a_file_is_kept_as_it_was_read_last(workspace, tmp_path):
    twice = [paper(title="First"), paper(title="First"), paper(title="Second"), *many(2)]
    assert counts(build(workspace, [write(tmp_path / "a.jsonl", twice)])) == (3, 1, 1, 0, 3)
    assert search(workspace, "first").total == 0
    assert search(workspace, "second").total == 1


def test_broken_lines_are_counted_and_the_first_are_named(workspace, tmp_path):
    path = write(tmp_path / "a.jsonl", ["{", *many(3), *["nonsense"] * 9])
    built = build(workspace, [path])
    assert counts(built) == (3, 0, 0, 10, 3)
    assert [complaint.where for complaint in built.complaints] == [f"{path}:{n}" for n in (1, 5, 6, 7, 8)]


def test_a_packed_file_that_breaks_off_is_kept_as_far_as_it_goes_and_told_each_time(workspace, tmp_path):
    whole = write(tmp_path / "a.jsonl.gz", many(2000))
    torn = tmp_path / "torn.jsonl.gz"
    torn.write_bytes(whole.read_bytes()[:-2000])
    built = build(workspace, [torn])
    assert 0 < built.added < 2000
    assert built.torn[0].startswith(f"{torn}:{built.total}: ")
    again = build(workspace, [torn])
    assert counts(again) == (0, 0, 0, 0, built.total)
    assert again.torn == built.torn
    assert counts(build(workspace, [whole])) == (2000 - built.total, 0, built.total, 0, 2000)


def test_a_wrong_file_leaves_what_was_there(workspace, tmp_path):
    build(workspace, [write(tmp_path / "a.jsonl", many(3))])
    wrong = write(tmp_path / "wrong.jsonl", [json.dumps(many(3))])
    with pytest.raises(PaperError, match="no line read is a record"):
        build(workspace, [write(tmp_path / "b.jsonl", many(5)), wrong])
    with pytest.raises(PaperError, match="no such file"):
        build(workspace, [write(tmp_path / "c.jsonl", many(9)), tmp_path / "missing"])
    assert len(search(workspace, "").papers) == 5


def test_progress_ends_with_every_byte_of_every_file(workspace, tmp_path):
    files = [write(tmp_path / "a.jsonl", many(2500)), write(tmp_path / "b.jsonl.gz", many(1200))]
    told: list[tuple[int, int, int]] = []
    build(workspace, files, lambda *news: told.append(news))
    size = sum(file.stat().st_size for file in files)
    assert told[-1] == (3700, size, size)
    assert told == sorted(told)
    assert {total for _, _, total in told} == {size}


KILLED = """
import os, signal, sys
from pathlib import Path
from claimbook.papers.discover import build, index
from claimbook.workspace import Workspace

root, file, stop, within = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "within"
index._BATCH = 700
stored = 0

def die(count):
    if count >= stop:
        os.kill(os.getpid(), signal.SIGKILL)

def next_number(db, day, real=index._next_number):
    global stored
    stored += 1
    die(stored)
    return real(db, day)

if within:
    index._next_number = next_number
build(Workspace(root), [file], None if within else lambda lines, done, total: die(lines))
"""


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
@pytest.mark.parametrize(("stop", "where", "kept"), [(1000, "between", 700), (2000, "within", 1400)])
def test_after_a_kill_the_build_goes_on_and_ends_with_the_same_index(
    workspace, tmp_path, name, stop, where, kept
):
    """Killed between two transactions and within one; 700 papers make one."""
    path = write(tmp_path / name, many(3000))
    command = [sys.executable, "-c", KILLED, workspace.root, path, str(stop), where]
    workspace.root.mkdir()
    assert subprocess.run(command).returncode == -9
    assert len(search(workspace, "", limit=5000).papers) == kept
    assert counts(build(workspace, [path])) == (3000 - kept, 0, 0, 0, 3000)
    undisturbed = Workspace(tmp_path / "other")
    build(undisturbed, [path])
    assert contents(workspace) == contents(undisturbed)


INTERRUPTED = """
import sys
from pathlib import Path
from claimbook.papers.discover import build, index
from claimbook.workspace import Workspace

index._BATCH = 700
def stop(lines, done, total):
    if lines == 2000:
        raise KeyboardInterrupt
build(Workspace(Path(sys.argv[1])), [Path(sys.argv[2])], stop)
"""


def test_after_ctrl_c_the_build_goes_on(workspace, tmp_path):
    path = write(tmp_path / "a.jsonl", many(3000))
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, workspace.root, path], stderr=subprocess.PIPE)
    assert b"KeyboardInterrupt" in done.stderr
    assert counts(build(workspace, [path])) == (3000 - 1400, 0, 0, 0, 3000)


ON_A_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from claimbook.errors import PaperError
from claimbook.papers.discover import build, index
from claimbook.workspace import Workspace

index._BATCH = 700
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    build(Workspace(Path(sys.argv[1])), [Path(sys.argv[2])])
except PaperError as error:
    sys.exit(str(error))
"""


def test_a_full_disk_is_named_and_costs_nothing_that_was_read(workspace, tmp_path):
    """A limit on the size of files stands in for the full disk."""
    path = write(tmp_path / "a.jsonl", many(3000))
    done = subprocess.run(
        [sys.executable, "-c", ON_A_FULL_DISK, workspace.root, path], stderr=subprocess.PIPE, text=True
    )
    assert done.returncode == 1
    assert "the index cannot be written" in done.stderr
    assert "make room" in done.stderr
    kept = len(search(workspace, "", limit=5000).papers)
    assert kept in (700, 1400, 2100)
    assert counts(build(workspace, [path])) == (3000 - kept, 0, 0, 0, 3000)
    contents(workspace)


def test_a_second_build_is_refused_while_one_runs_and_a_search_is_not(workspace, tmp_path):
    first, second = write(tmp_path / "a.jsonl", many(3000)), write(tmp_path / "b.jsonl", many(10))
    build(workspace, [second])
    seen: list[int] = []

    def meanwhile(lines: int, done: int, total: int) -> None:
        seen.append(search(workspace, "series").total)
        with pytest.raises(WorkspaceError, match="another claimbook process"):
            build(workspace, [second])

    build(workspace, [first], meanwhile)
    assert seen
    assert seen[0] == 10


def test_a_missing_index_is_named_with_the_command_that_builds_it(workspace):
    with pytest.raises(PaperError, match="no index") as caught:
        search(workspace, "anything")
    assert "claimbook discover build FILE" in caught.value.fix


def damage(path: Path, kind: str) -> None:
    data = bytearray(path.read_bytes())
    if kind == "no database":
        data = bytearray(b"something else entirely" * 1000)
    elif kind == "empty":
        data.clear()
    elif kind == "half":
        del data[len(data) // 2 :]
    elif kind == "overwritten":
        data[20_000:] = random.Random(0).randbytes(len(data) - 20_000)
    path.write_bytes(data)


@pytest.mark.parametrize("kind", ["no database", "empty", "half", "overwritten"])
def test_a_damaged_index_is_named_and_built_anew(workspace, tmp_path, kind):
    file = write(tmp_path / "a.jsonl", many(500))
    build(workspace, [file])
    damage(index_path(workspace), kind)
    with pytest.raises(PaperError, match=r"damaged|not of this version") as caught:
        search(workspace, "series")
    assert "claimbook discover build FILE" in caught.value.fix
    assert counts(build(workspace, [file])) == (500, 0, 0, 0, 500)
    contents(workspace)


def test_an_index_of_another_version_is_named_and_built_anew(workspace, tmp_path):
    file = write(tmp_path / "a.jsonl", many(5))
    build(workspace, [file])
    with sqlite3.connect(index_path(workspace)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(PaperError, match="not of this version"):
        search(workspace, "series")
    assert counts(build(workspace, [file])) == (5, 0, 0, 0, 5)


def test_the_index_lies_in_the_cache_that_is_named(workspace, tmp_path, monkeypatch):
    monkeypatch.setenv("CLAIMBOOK_CACHE", str(tmp_path / "elsewhere"))
    build(workspace, [write(tmp_path / "a.jsonl", many(5))])
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["discover.sqlite"]
