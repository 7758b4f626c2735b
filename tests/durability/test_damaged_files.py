"""Files that somebody edited, emptied or put there from elsewhere: an error that names file and place.

Each damage is done to an experiment whose files fit one another; then it is read, and verified.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from claimbook import papers, workspace
from claimbook.errors import ClaimbookError, RecordError
from claimbook.experiments import BY_HAND, Experiment
from claimbook.records import ItemScores
from claimbook.records.run import Finish
from claimbook.verification import verify_here

RUN = "treatment-s0-1"
Damage = Callable[[bytes], bytes]


def become(data: bytes) -> Damage:
    return lambda old: data


def edit(pattern: str, text: str) -> Damage:
    """Replace the first place where a pattern fits."""

    def damage(old: bytes) -> bytes:
        new, count = re.subn(pattern, lambda match: text, old.decode(), count=1)
        assert count == 1, f"{pattern} is nowhere in the file"
        return new.encode()

    return damage


def twice(name: str) -> Damage:
    """Write a JSON field a second time."""
    return edit(rf'"{name}":', f'"{name}": null, "{name}":')


DEEP = b"[" * 100_000
DIGITS = "9" * 5_000
ANY_JSON: dict[str, tuple[Damage, str]] = {
    "empty": (become(b""), "JSON"),
    "no JSON": (become(b"<html></html>"), "JSON"),
    "half": (lambda old: old[: len(old) // 2], "JSON"),
    "a list": (become(b"[1, 2]"), "array"),
    "a number": (become(b"7"), "int"),
    "null": (become(b"null"), "null"),
    "another object": (become(b'{"name": "Alice"}'), "missing"),
    "UTF-16": (lambda old: old.decode().encode("utf-16"), "JSON"),
    "Latin-1": (lambda old: old + "é".encode("latin-1"), "JSON"),
    "a zero at its end": (lambda old: old + b"\0", "JSON"),
    "only zeros": (lambda old: bytes(len(old)), "JSON"),
    "very deep": (become(DEEP), "JSON"),
    "a number of 5,000 digits": (become(f'{{"schema": {DIGITS}}}'.encode()), "JSON"),
    "two documents": (lambda old: old + old, "JSON"),
}
FIELDS: dict[str, dict[str, tuple[Damage, str]]] = {
    "run": {
        "a text for a number": (edit(r'"seed": 0', '"seed": "zero"'), "seed"),
        "a broken number": (edit(r'"seed": 0', '"seed": 0.5'), "seed"),
        "a status that is none": (edit(r'"status": "finished"', '"status": "done"'), "status"),
        "no arm": (edit(r'"arm": "treatment",', ""), "arm"),
        "NaN": (edit(r'"hit@1": 0\.75', '"hit@1": NaN'), "NaN"),
        "infinity": (edit(r'"hit@1": 0\.75', '"hit@1": 1e999'), "1e999"),
        "400 digits": (edit(r'"hit@1": 0\.75', f'"hit@1": 1{"0" * 400}'), "out of range"),
        "a metric that is a list": (edit(r'"hit@1": 0\.75', '"hit@1": [0.75]'), "metrics"),
        "a field twice": (twice("seed"), "'seed' comes twice"),
        "a later schema": (edit(r'"schema": 1', '"schema": 2'), "schema is 2"),
        "schema zero": (edit(r'"schema": 1', '"schema": 0'), "schema is 0"),
        "another run's record": (edit(RUN, "treatment-s1-1"), "treatment-s1-1"),
        "an impossible process": (edit(r'"pid": \d+', '"pid": "none"'), "pid"),
    },
    "seal": {
        "another margin": (edit(r'"margin": 0\.05', '"margin": 0.01'), "entries[0]"),
        "another hash": (edit(r'"hash": "..', '"hash": "00'), "entries[0]"),
        "another ancestor": (edit(r'"previous": null', '"previous": "abc"'), "entries[0]"),
        "no entries": (become(b'{"entries": [], "schema": 1}'), "no entry"),
        "entries that are a text": (become(b'{"entries": "none", "schema": 1}'), "entries"),
        "a margin in words": (edit(r'"margin": 0\.05', '"margin": "small"'), "margin"),
        "NaN": (edit(r'"margin": 0\.05', '"margin": NaN'), "NaN"),
        "a field twice": (twice("margin"), "'margin' comes twice"),
        "a later schema": (edit(r'"schema": 1', '"schema": 2'), "schema is 2"),
    },
    "sources": {
        "code that is a list": (edit(r'"code": \{', '"code": [{'), "JSON"),
        "cells that are a text": (become(b'{"notebook": "cells", "code": {}}'), "notebook"),
        "a field twice": (twice("notebook"), "'notebook' comes twice"),
    },
    "verdict": {
        "an outcome that is none": (edit(r'"outcome": "[a-z]+"', '"outcome": "proven"'), "outcome"),
        "an effect in words": (edit(r'"effect": [\d.]+', '"effect": "large"'), "effect"),
        "NaN": (edit(r'"effect": [\d.]+', '"effect": NaN'), "NaN"),
        "no margin": (edit(r'"margin": [\d.]+,', ""), "margin"),
        "pairs that are texts": (edit(r'"pairs": \[', '"pairs": ["one",'), "pairs"),
        "a field twice": (twice("p"), "'p' comes twice"),
        "a later schema": (edit(r'"schema": 1', '"schema": 2'), "schema is 2"),
    },
    "rerun": {
        "a result that is none": (edit(r'"result": "held"', '"result": "fine"'), "result"),
        "a difference in words": (
            edit(r'"largest_difference": 0\.0', '"largest_difference": "none"'),
            "largest_difference",
        ),
        "NaN": (edit(r'"largest_difference": 0\.0', '"largest_difference": NaN'), "NaN"),
        "a field twice": (twice("was"), "'was' comes twice"),
    },
}
LINES: dict[str, dict[str, tuple[Damage, str]]] = {
    "metrics": {
        "no JSON": (become(b"step one\n"), ":1"),
        "an empty line": (lambda old: b"\n" + old, ":1"),
        "a list": (become(b"[1]\n"), ":1"),
        "a step in words": (edit(r'"step":1', '"step":"one"'), ":1"),
        "a value in words": (edit(r'"손실":0\.5', '"손실":"half"'), ":1"),
        "NaN": (edit(r'"손실":0\.5', '"손실":NaN'), ":1"),
        "infinity": (edit(r'"손실":0\.5', '"손실":-Infinity'), ":1"),
        "400 digits": (edit(r'"손실":0\.5', f'"손실":1{"0" * 400}'), ":1"),
        "5,000 digits": (edit(r'"step":1', f'"step":{DIGITS}'), ":1"),
        "a field twice": (edit(r'"step":1', '"step":1,"step":2'), ":1"),
        "a finish without metrics": (edit(r'\n\{"metrics":.*', '\n{"finished":true}\n'), ":2"),
        "UTF-16": (lambda old: old.decode().encode("utf-16"), ":1"),
        "zeros": (lambda old: bytes(50) + b"\n" + old, ":1"),
        "very deep": (become(DEEP + b"\n"), ":1"),
    },
    "ledger": {
        "no JSON": (become(b"started\n"), ":1"),
        "an empty line": (lambda old: b"\n" + old, ":1"),
        "a list": (become(b"[1]\n"), ":1"),
        "an event that is none": (edit(r'"event":"ended"', '"event":"won"'), ":2"),
        "a seed in words": (edit(r'"seed":0', '"seed":"zero"'), ":1"),
        "NaN": (edit(r'"seed":0', '"seed":NaN'), ":1"),
        "a field twice": (edit(r'"seed":0', '"seed":0,"seed":1'), ":1"),
        "UTF-16": (lambda old: old.decode().encode("utf-16"), ":1"),
        "zeros": (lambda old: old + bytes(50) + b"\n", ":73"),
        "very deep": (become(DEEP + b"\n"), ":1"),
    },
}
HYPOTHESIS: dict[str, tuple[Damage, str]] = {
    "empty": (become(b""), "title"),
    "JSON": (become(b'{"title": "A"}'), "TOML"),
    "a text for a number": (edit(r"margin   = 0\.05", 'margin = "small"'), "toml:6"),
    "no metric": (edit(r"metric .*\n", ""), "metric"),
    "a field that is none": (edit(r"margin  ", "margn"), "margn"),
    "NaN": (edit(r"margin   = 0\.05", "margin = nan"), "toml:6"),
    "infinity": (edit(r"margin   = 0\.05", "margin = inf"), "toml:6"),
    "a huge number": (edit(r"margin   = 0\.05", f"margin = 1{'0' * 400}"), "toml:6"),
    "5,000 digits": (edit(r"margin   = 0\.05", f"margin = {DIGITS}"), "hypothesis.toml"),
    "a field twice": (edit(r"margin ", "margin = 0.1\nmargin "), "hypothesis.toml"),
    "seeds in words": (edit(r"seeds .*", 'seeds = ["one", "two"]'), "toml:7"),
    "a date for a title": (edit(r"title .*", "title = 2026-11-24"), "toml:1"),
    "a table for a parameter": (edit(r'products = "tiny"', "products = { a = 1 }"), "parameters"),
    "UTF-16": (lambda old: old.decode().encode("utf-16"), "UTF-8"),
    "EUC-KR": (lambda old: old.replace(b"By hand.", "손으로.".encode("euc-kr")), "UTF-8"),
    "a zero": (lambda old: old + b"\0", "TOML"),
    "very deep": (become(b"title = " + DEEP), "TOML"),
}
FRONT_MATTER: dict[str, tuple[Damage, str]] = {
    "empty": (become(b""), "md:1"),
    "no front matter": (become(b"# What we learned\n"), "md:1"),
    "never closed": (become(b"---\ndecision: adopt\n"), "md:1"),
    "a decision that is none": (become(b"---\ndecision: maybe\n---\n"), "md:2"),
    "a field that is none": (become(b"---\ndecison: adopt\n---\n"), "decison"),
    "a text for a list": (become(b"---\ntags: loss\n---\n"), "md:2"),
    "a date for a tag": (become(b"---\ntags: [2026-11-24]\n---\n"), "md:2"),
    "a date that is none": (become(b"---\ndecision: 2026-99-99\n---\n"), "README.md"),
    "a list": (become(b"---\n- adopt\n---\n"), "md:1"),
    "a number for a name": (become(b"---\n1: adopt\n---\n"), "README.md"),
    "a list for a name": (become(b"---\n? [a]\n: adopt\n---\n"), "md:2"),
    "a field twice": (become(b"---\ndecision: adopt\ndecision: drop\n---\n"), "'decision' comes twice"),
    "no YAML": (become(b"---\ndecision: [adopt\n---\n"), "YAML"),
    "Python's YAML": (become(b"---\ndecision: !!python/object/apply:os.getcwd []\n---\n"), "md:2"),
    "a tag that lies": (become(b"---\ndecision: !!int adopt\n---\n"), "README.md"),
    "5,000 digits": (become(f"---\ndecision: {DIGITS}\n---\n".encode()), "README.md"),
    "an alias to itself": (become(b"---\ntags: &a [*a]\n---\n"), "md:2"),
    "UTF-16": (lambda old: old.decode().encode("utf-16"), "UTF-8"),
    "a zero": (become(b"---\ndecision: \0\n---\n"), "YAML"),
    "very deep": (become(b"---\ntags: " + DEEP + b"\n---\n"), "YAML"),
}


def path_of(experiment: Experiment, name: str) -> Path:
    """The file that a table above is about."""
    seal = next(experiment.folder.glob("sealed/*.json"))
    folder = experiment.run_folder(RUN)
    return {
        "run": folder / "run.json",
        "metrics": folder / "metrics.jsonl",
        "items": folder / "items.parquet",
        "seal": experiment.seal_path,
        "sources": seal,
        "verdict": experiment.verdict_path,
        "rerun": next(experiment.folder.glob("reruns/*.json")),
        "ledger": experiment.ledger_path,
        "hypothesis": experiment.folder / "hypothesis.toml",
        "README": experiment.folder / "README.md",
    }[name]


def reader_of(experiment: Experiment, name: str) -> Callable[[], object]:
    """What reads that file alone; found before the damage is done."""
    seal = experiment.seal()
    assert seal is not None
    run = next(one for one in experiment.runs() if one.id == RUN)
    return {
        "run": experiment.runs,
        "metrics": lambda: experiment.steps(RUN),
        "items": lambda: experiment.items(run),
        "seal": experiment.seal,
        "sources": lambda: experiment.sealed_sources(seal.current),
        "verdict": experiment.verdict,
        "rerun": experiment.reruns,
        "ledger": experiment.ledger,
        "hypothesis": experiment.hypothesis,
        "README": experiment.decision,
    }[name]


@contextmanager
def damaged(path: Path, damage: Damage) -> Iterator[None]:
    """Damage a file, and mend it afterwards: the experiment is shared."""
    before = path.read_bytes()
    path.write_bytes(damage(before))
    try:
        yield
    finally:
        path.write_bytes(before)


def cases(tables: dict[str, dict[str, tuple[Damage, str]]]) -> list:
    return [
        pytest.param(name, damage, said, id=f"{name}: {what}")
        for name, table in tables.items()
        for what, (damage, said) in table.items()
    ]


BY_MACHINE = [*cases({name: ANY_JSON for name in FIELDS}), *cases(FIELDS), *cases(LINES)]
BY_A_PERSON = cases({"hypothesis": HYPOTHESIS, "README": FRONT_MATTER})


@pytest.mark.parametrize(("name", "damage", "said"), [*BY_MACHINE, *BY_A_PERSON])
def test_a_damaged_file_is_named_with_the_place_in_it(whole, name, damage, said):
    path, read = path_of(whole, name), reader_of(whole, name)
    with damaged(path, damage), pytest.raises(RecordError) as caught:
        read()
    message = str(caught.value)
    assert path.relative_to(whole.folder).as_posix() in message
    assert said in message
    assert "\n  what to do: " in message


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        *cases({name: {what: ANY_JSON[what] for what in ("half", "a list")} for name in FIELDS}),
        *cases(FIELDS),
        *cases(LINES),
    ],
)
def test_verifying_names_the_damaged_file_and_goes_to_its_end(whole, name, damage, said):
    path = path_of(whole, name)
    with damaged(path, damage):
        found = verify_here(workspace.find(whole.folder), whole.slug)
    assert found.state == "does not verify"
    assert any(path.relative_to(whole.folder).as_posix() in problem for problem in found.problems)


@pytest.mark.parametrize(
    "name",
    ["run", "metrics", "items", "seal", "sources", "verdict", "rerun", "ledger", "hypothesis", "README"],
)
def test_a_folder_in_place_of_a_file_is_named(judged, name):
    path, read = path_of(judged, name), reader_of(judged, name)
    path.unlink()
    path.mkdir()
    with pytest.raises(RecordError, match=re.escape(path.name)):
        read()
    if name not in ("README", "hypothesis"):
        found = verify_here(workspace.find(judged.folder), judged.slug)
        assert found.state == "does not verify"
        assert any(path.name in problem or path.parent.name in problem for problem in found.problems)


def parquet(**columns: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"item": ["컵", "모자"], "cluster": ["컵", "모자"], **columns}), sink)
    return sink.getvalue()


def named_twice() -> bytes:
    sink = io.BytesIO()
    table = pa.table([["a"], ["a"], [0.5], [0.5]], names=["item", "cluster", "hit@1", "hit@1"])
    pq.write_table(table, sink)
    return sink.getvalue()


FOREIGN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "Parquet"),
    "JSON": (b'{"item": ["a"]}', "Parquet"),
    "zeros": (bytes(500), "Parquet"),
    "half": (parquet(**{"hit@1": [1.0, 0.0]})[:-40], "Parquet"),
    "texts": (parquet(**{"hit@1": ["good", "bad"]}), "hit@1"),
    "null": (parquet(**{"hit@1": [1.0, None]}), "hit@1 of item '모자'"),
    "NaN": (parquet(**{"hit@1": [float("nan"), 1.0]}), "hit@1 of item '컵'"),
    "infinity": (parquet(**{"hit@1": [1.0, float("inf")]}), "hit@1 of item '모자'"),
    "lists": (parquet(**{"hit@1": [[1.0], [0.0]]}), "hit@1"),
    "lists of unequal length": (parquet(**{"hit@1": [[1.0], [0.0, 1.0]]}), "hit@1"),
    "records": (parquet(**{"hit@1": [{"a": 1.0}, {"a": 0.0}]}), "hit@1"),
    "times": (parquet(**{"hit@1": pa.array([1, 2], pa.timestamp("s"))}), "hit@1"),
    "bytes": (parquet(**{"hit@1": [b"\x00", b"\x01"]}), "hit@1"),
    "a column twice": (named_twice(), "items.parquet"),
    "one item twice": (parquet(item=["컵", "컵"], **{"hit@1": [1.0, 0.0]}), "'컵' comes twice"),
    "no rows": (parquet(item=[], cluster=[], **{"hit@1": []}), "lengths"),
}


@pytest.mark.parametrize(("data", "said"), FOREIGN.values(), ids=FOREIGN)
def test_foreign_item_scores_are_refused_also_where_the_hashes_fit(judged, data, said):
    """Another program wrote the whole run, so that nothing was changed after it had finished."""
    digest = hashlib.sha256(data).hexdigest()
    run = next(one for one in judged.runs() if one.id == RUN)
    run = msgspec.structs.replace(run, items_sha256=digest)
    finish = Finish(metrics=run.metrics, chance=run.chance, items_sha256=digest)
    judged.metrics_path(RUN).write_bytes(msgspec.json.encode(finish) + b"\n")
    judged.save_run(run)
    path_of(judged, "items").write_bytes(data)
    with pytest.raises(RecordError) as caught:
        judged.items(run)
    assert f"experiments/toy/runs/{RUN}/items.parquet" in str(caught.value)
    assert said in str(caught.value)


def test_a_flipped_bit_of_the_item_scores_never_makes_an_error_of_another_kind():
    """500 flips: the file alone is refused or read. A flip that it is read with, its recorded hash shows."""
    scores = ItemScores.of(
        {
            "item": [f"상품 {number}" for number in range(500)],
            "cluster": [f"군 {number // 5}" for number in range(500)],
            "hit@1": [number % 3 / 2 for number in range(500)],
        }
    )
    data = scores.to_parquet()
    chance = random.Random(0)
    refused = 0
    for _ in range(500):
        flipped = bytearray(data)
        flipped[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        try:
            ItemScores.from_parquet(bytes(flipped), "items.parquet")
        except RecordError:
            refused += 1
    assert refused > 100


def test_a_change_of_the_item_scores_is_found_by_their_hash(judged):
    path, read = path_of(judged, "items"), reader_of(judged, "items")
    path.write_bytes(parquet(**{"hit@1": [1.0, 1.0]}))
    with pytest.raises(RecordError, match=r"items\.parquet was changed after the run had finished"):
        read()


@pytest.mark.parametrize("pid", [-1, 0, 2**31, 10**20])
def test_a_running_run_of_a_process_that_cannot_be_is_lost(judged, pid):
    path = path_of(judged, "run")
    document = json.loads(path.read_bytes())
    document["status"] = "running"
    document["process"]["pid"] = pid
    path.write_text(json.dumps(document))
    assert {run.status for run in judged.runs() if run.id == RUN} == {"lost"}


def test_a_run_that_was_copied_under_another_name_is_named(judged):
    copy = judged.run_folder("treatment-s0-copied")
    shutil.copytree(judged.run_folder(RUN), copy)
    with pytest.raises(
        RecordError, match=r"id is 'treatment-s0-1', the folder is called 'treatment-s0-copied'"
    ):
        judged.runs()


def test_files_of_other_programs_beside_the_records_are_left_alone(judged):
    before = judged.runs(), judged.reruns(), judged.seal(), judged.ledger()
    for folder in (judged.folder, judged.folder / "runs", judged.folder / "reruns", judged.run_folder(RUN)):
        (folder / ".DS_Store").write_bytes(bytes(100))
        (folder / "._run.json").write_bytes(bytes(100))
        (folder / "Thumbs.db").write_bytes(b"\xff\xfe")
        (folder / "notes").mkdir()
    assert (judged.runs(), judged.reruns(), judged.seal(), judged.ledger()) == before


@pytest.mark.parametrize(
    ("file", "data", "said"),
    [
        ("meta.json", b"[]", "array"),
        ("meta.json", b'{"id": 2303}', "id"),
        ("meta.json", DEEP, "JSON"),
        ("README.md", b"---\nid: 2303.15343\n---\n", "quotes"),
        ("README.md", b'---\nid: "2303.15343"\nweek: 2026-11-24\n---\n', "week"),
        ("README.md", b'---\nid: "2303.15343"\nweek: 2026-99-99\n---\n', "README.md"),
        ("README.md", b'---\nid: "2303.15343"\nclaims: [{id: a}]\n---\n', "md:3"),
        ("README.md", b'---\nid: "2303.15343"\nid: "2303.15344"\n---\n', "'id' comes twice"),
        ("README.md", b'---\nid: "2303.99999"\n---\n', "meta.json"),
        ("README.md", "---\nid: 가\n---\n".encode("euc-kr"), "UTF-8"),
    ],
)
def test_a_damaged_paper_is_named(toy, file, data, said):
    (toy.papers / "toy" / file).write_bytes(data)
    with pytest.raises(ClaimbookError) as caught:
        papers.load(toy, "toy")
    assert f"papers/toy/{file}" in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize("file", ["meta.json", "README.md"])
def test_a_folder_in_place_of_a_papers_file_is_named(toy, file):
    (toy.papers / "toy" / file).unlink()
    (toy.papers / "toy" / file).mkdir()
    with pytest.raises(ClaimbookError, match=re.escape(f"papers/toy/{file}")):
        papers.load(toy, "toy")


def test_one_damaged_run_by_hand_does_not_keep_a_sealed_experiment_from_its_verdict(judged):
    space = workspace.find(judged.folder)
    folder = space.experiments / BY_HAND / "runs" / "unknown-1"
    folder.mkdir(parents=True)
    (folder / "run.json").write_bytes(b"{")
    assert verify_here(space, judged.slug).problems == []


def test_every_damage_was_done_to_files_that_fit(whole):
    found = verify_here(workspace.find(whole.folder), whole.slug)
    assert (found.state, found.problems) == ("verified", [])
