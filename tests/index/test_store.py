"""The index as it is asked: pages, frames, text search, wear; and the places where it cannot be kept."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from claimbook import index as index_package
from claimbook.errors import QueryError
from claimbook.index import Hit, Index, Wear
from claimbook.records import Hypothesis, Seal, encode_json
from claimbook.records.experiment import SealEntry


def file_of(log):
    return log.workspace.root / ".claimbook" / "index.sqlite"


@pytest.fixture
def thirty(log):
    """Runs run-00 to run-29, a minute apart, with the metric m = number / 2 on the even ones."""
    for number in range(30):
        log.run(
            "a",
            f"run-{number:02}",
            started=f"2026-11-24T01:{number:02}:00Z",
            seconds=float(number % 7),
            metrics={"m": number / 2} if number % 2 == 0 else {},
        )
    return log


def ids(page):
    return [row["id"] for row in page.rows]


def test_the_newest_come_first_and_pages_follow_one_another(thirty):
    with Index.open(thirty.workspace) as index:
        newest = [f"run-{number:02}" for number in reversed(range(30))]
        pages = [index.runs(limit=8, offset=offset) for offset in (0, 8, 16, 24)]
        assert [len(page.rows) for page in pages] == [8, 8, 8, 6]
        assert [name for page in pages for name in ids(page)] == newest
        assert {page.total for page in pages} == {30}
        assert (ids(index.runs(offset=100)), index.runs(offset=100).total) == ([], 30)


def test_a_limit_in_the_query_comes_first(thirty):
    with Index.open(thirty.workspace) as index:
        page = index.runs("order by metric.m desc, id limit 2", limit=10)
        assert ids(page) == ["run-28", "run-26"]
        assert page.total == 30


@pytest.mark.parametrize("few", [0, 10, 1000])
def test_few_and_many_matches_make_the_same_pages(thirty, few, monkeypatch):
    monkeypatch.setattr("claimbook.index.store._FEW", few)
    with Index.open(thirty.workspace) as index:
        page = index.runs("has metric.m order by seconds desc, metric.m", limit=4, offset=2)
        # even numbers by number % 7 downwards, then upwards: 6 20 | 12 26 4 18 | …
        assert ids(page) == ["run-12", "run-26", "run-04", "run-18"]
        assert page.total == 15


def test_runs_without_the_sort_key_come_last_either_way(thirty):
    with Index.open(thirty.workspace) as index:
        assert ids(index.runs("order by metric.m", limit=1)) == ["run-00"]
        assert ids(index.runs("order by metric.m desc", limit=1)) == ["run-28"]
        assert ids(index.runs("order by metric.m", limit=1, offset=15)) == ["run-29"]
        assert ids(index.runs("order by metric.m desc", limit=1, offset=29)) == ["run-01"]


def test_a_table_shows_the_usual_fields_and_the_metrics_asked_for(log):
    log.run("a", "a1", metrics={"rare": 1.0, "recall@1": 0.5, "recall@5": 0.7, "recall@10": 0.9})
    log.run("a", "a2", metrics={"recall@1": 0.5, "recall@5": 0.7, "recall@10": 0.9})
    usual = ["id", "experiment", "arm", "seed", "kind", "status", "started", "seconds"]
    with Index.open(log.workspace) as index:
        common = ["metric.recall@1", "metric.recall@5", "metric.recall@10"]
        assert index.runs().columns == [*usual, *common]
        asked = index.runs("metric.rare > 0 and seed = 0 order by started, notebook").columns
        assert asked == [*usual, "metric.rare", "notebook"]


def test_a_frame_has_a_row_per_run_and_a_column_per_name(log):
    import pandas

    log.run("a", "a1", metrics={"m": 0.5}, parameters={"loss": "sigmoid", "size": 64})
    log.run("a", "a2", started="2026-11-25T00:00:00Z", chance={"m": 0.1}, parameters={"loss": "softmax"})
    with Index.open(log.workspace) as index:
        frame = index.frame("order by started")
        assert list(frame["id"]) == ["a1", "a2"]
        assert list(frame["metric.m"].fillna(-1)) == [0.5, -1]
        assert list(frame["param.loss"]) == ["sigmoid", "softmax"]
        assert list(frame.columns[-4:]) == ["metric.m", "chance.m", "param.loss", "param.size"]
        assert frame["started"][0] == pandas.Timestamp("2026-11-24T10:28:28.084", tz="Asia/Seoul")
        assert index.frame("arm = nobody").empty


def test_a_notebook_asks_the_workspace_around_it(thirty, monkeypatch):
    monkeypatch.delenv("CLAIMBOOK_ROOT", raising=False)
    monkeypatch.chdir(thirty.workspace.experiments)
    assert list(index_package.runs("metric.m >= 14")["id"]) == ["run-28"]
    with pytest.raises(QueryError):
        index_package.runs("metric.n > 1")


@pytest.fixture
def library(log):
    log.hypothesis(
        "siglip-small-batch",
        "시그모이드 손실은 작은 배치에서 소프트맥스 손실보다 낫다",
        problem="매장의 상품으로 학습할 때 배치가 작아 이미지검색의 재현율이 떨어진다.",
    )
    log.hypothesis(
        "clip-captions",
        "Longer captions help retrieval",
        paper="clip",
        problem="Captions of one or two words tell products apart badly.",
    )
    log.hypothesis(
        "tip-cache", "캐시 모델은 새 상품을 바로 찾는다", paper="tip", problem="새 상품마다 다시 학습한다."
    )
    log.paper(
        "siglip", "Sigmoid Loss for Language Image Pre-Training", "A pairwise loss.", note="배치에 강하다."
    )
    with Index.open(log.workspace) as index:
        yield index


def test_a_search_finds_papers_and_experiments_best_first(library):
    found = library.search("배치")
    assert [(hit.kind, hit.slug) for hit in found] == [
        ("experiment", "siglip-small-batch"),
        ("paper", "siglip"),
    ]
    assert found[0].score > found[1].score
    assert found[1] == Hit("paper", "siglip", found[1].title, found[1].snippet, found[1].score)
    assert found[1].title == "Sigmoid Loss for Language Image Pre-Training"
    assert "배치에 강하다" in found[1].snippet
    assert [hit.kind for hit in library.search("배치", kinds=["paper"])] == ["paper"]
    assert library.search("손실 재현율")[0].slug == "siglip-small-batch"
    assert library.search('배치" OR "') == []
    assert library.search("!?") == []
    assert len(library.search("상품", limit=1)) == 1


def test_an_experiment_that_was_tried_before_is_found_in_korean_and_english(library):
    korean = "작은 배치로 학습할 때 시그모이드 손실이 이미지 검색을 개선한다"
    assert [hit.slug for hit in library.similar(korean)] == ["siglip-small-batch"]
    english = "Do longer captions improve retrieval of products?"
    assert [hit.slug for hit in library.similar(english)] == ["clip-captions"]
    assert library.similar(english, exclude="clip-captions") == []


def test_what_shares_a_common_word_only_does_not_resemble(library):
    assert library.similar("The price of the products in winter depends on the weather of the north") == []
    assert library.similar("상품의 가격은 계절과 지역의 날씨에 따라 달라지는가") == []


def entry(data: str, previous: str | None = None) -> SealEntry:
    hypothesis = Hypothesis(
        title="T", paper="p", claim="c", notebook="n", metric="m", margin=0.1, seeds=[0],
        arms={"baseline": {"x": 0}, "treatment": {"x": 1}},
    )  # fmt: skip
    unhashed = SealEntry(
        hash="", sealed_at="2026-11-24T00:00:00Z", hypothesis=hypothesis, notebook="n", code={}, data=data,
        data_description="d", previous=previous,
    )  # fmt: skip
    return SealEntry(
        **{**{f: getattr(unhashed, f) for f in unhashed.__struct_fields__}, "hash": unhashed.digest}
    )


def test_wear_counts_finished_runs_experiments_and_seals_on_a_product_set(log):
    on_shop = {"fingerprints": {"data": "shop"}}
    log.run("a", "a1", **on_shop)
    log.run("a", "a2", deleted=True, **on_shop)
    log.run("b", "b1", kind="confirmatory", **on_shop)
    log.run("b", "b2", status="failed", **on_shop)
    log.run("c", "c1", fingerprints={"data": "other"})
    log.run("c", "c2")
    first = entry("shop")
    for slug, entries in (
        ("b", [first, entry("other", first.hash)]),
        ("d", [first]),
        ("c", [entry("other")]),
    ):
        path = log.workspace.experiments / slug / "seal.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(encode_json(Seal(entries=entries))))
    with Index.open(log.workspace) as index:
        assert index.wear("shop") == Wear(runs=3, experiments=2, hypotheses=2)
        assert index.wear("other") == Wear(runs=1, experiments=1, hypotheses=2)
        assert index.wear("unused") == Wear(0, 0, 0)


def test_fields_of_an_experiment_reach_its_runs(log):
    log.run("small", "run", seal="ab" * 32)
    log.hypothesis("small", "Small batches")
    with Index.open(log.workspace) as index:
        (row,) = index.runs("paper = siglip and claim = small-batch and not has verdict").rows
        assert (row["paper"], row["claim"], row["verdict"]) == ("siglip", "small-batch", None)


@pytest.mark.parametrize("garbage", [b"", b"garbage" * 1000, b"SQLite format 3\0" + b"\xff" * 4000])
def test_a_file_that_is_no_index_is_replaced(thirty, garbage):
    file_of(thirty).parent.mkdir()
    file_of(thirty).write_bytes(garbage)
    with Index.open(thirty.workspace) as index:
        assert index.note is None
        assert index.runs().total == 30
    with closing(sqlite3.connect(file_of(thirty))) as db:
        assert db.execute("SELECT count(*) FROM runs").fetchone() == (30,)


def test_an_index_of_another_version_is_built_anew(thirty):
    Index.open(thirty.workspace).close()
    with closing(sqlite3.connect(file_of(thirty), isolation_level=None)) as db:
        db.execute("PRAGMA user_version = 99")
        db.execute("DELETE FROM runs")
    with Index.open(thirty.workspace) as index:
        assert index.runs().total == 30


def test_an_index_that_breaks_between_two_questions_is_built_anew(thirty):
    with Index.open(thirty.workspace) as index:
        index.close()
        size = file_of(thirty).stat().st_size
        with file_of(thirty).open("r+b") as file:  # all but the first page, which says that it is ours
            file.seek(16384)
            file.write(b"\xff" * (size - 16384))
    with Index.open(thirty.workspace) as index:
        assert index.runs("seconds >= 0").total == 30
        assert index.note is None


def test_deleting_the_cache_loses_nothing(thirty):
    Index.open(thirty.workspace).close()
    shutil.rmtree(thirty.workspace.root / ".claimbook")
    with Index.open(thirty.workspace) as index:
        assert index.runs().total == 30


def test_a_local_index_keeps_a_write_ahead_log_and_one_on_a_network_does_not(thirty, monkeypatch):
    def journal():
        with closing(sqlite3.connect(file_of(thirty))) as db:
            return db.execute("PRAGMA journal_mode").fetchone()[0]

    monkeypatch.setattr("claimbook.index.store.is_network", lambda path: False)
    Index.open(thirty.workspace).close()
    assert journal() == "wal"
    monkeypatch.setattr("claimbook.index.store.is_network", lambda path: True)
    with Index.open(thirty.workspace) as index:
        assert index.runs().total == 30
    assert journal() == "delete"


ASK = """
import sys
from pathlib import Path
from claimbook import workspace
from claimbook.index import Index

with Index.open(workspace.find(Path(sys.argv[1]))) as index:
    print(index.runs().total, index.note or "kept", sep="|")
"""


def ask(log, shell: str = "", **options) -> str:
    """What another process says; `shell`: commands that set the stage in a mount namespace of its own."""
    command = [sys.executable, "-c", ASK, str(log.workspace.root)]
    if shell:
        command = ["unshare", "--mount", "sh", "-ec", f'{shell}\nexec "$@"', "sh", *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def can_mount(folder) -> bool:
    try:
        command = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", str(folder)]
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("kept", [False, True], ids=["never built", "built before"])
def test_on_a_read_only_disk_it_is_built_in_memory(thirty, kept):
    root = thirty.workspace.root
    if not can_mount(root):
        pytest.skip("no right to mount a read-only file system here")
    if kept:
        Index.open(thirty.workspace).close()
        thirty.run("a", "later")
    said = ask(thirty, f"mount --bind '{root}' '{root}'\nmount -o remount,ro,bind '{root}'")
    assert said.startswith(f"{30 + kept}|")
    assert "cannot be written (Read-only file system): the index was built in memory" in said
    assert not file_of(thirty).exists() or kept


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_without_the_right_to_write_it_is_built_in_memory(thirty):
    thirty.workspace.root.chmod(0o555)
    try:
        assert "cannot be written (Permission denied)" in ask(thirty)
    finally:
        thirty.workspace.root.chmod(0o755)


@pytest.mark.parametrize("pages", [0, 4, 12, 40])
def test_on_a_full_disk_it_is_built_in_memory(thirty, pages):
    """From a disk without a byte to one that holds the empty tables but not the rows."""
    cache = thirty.workspace.root / ".claimbook"
    cache.mkdir()
    if not can_mount(cache):
        pytest.skip("no right to mount a small file system here")
    room = 256 + 16 * pages
    fill = f"mount -t tmpfs -o size={room}k none '{cache}'\nhead -c 256k /dev/zero > '{cache}/filler'"
    said = ask(thirty, fill)
    assert said.startswith("30|")
    assert "cannot be written" in said or pages == 40


def test_a_file_that_may_not_grow_is_given_up_for_memory(thirty):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536))

    said = ask(thirty, preexec_fn=limit)
    assert said.startswith("30|")
    assert "the index was built in memory" in said
