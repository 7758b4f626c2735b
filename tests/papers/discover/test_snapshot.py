"""What a line of a snapshot says, and what is said of a line that is none."""

from __future__ import annotations

import gzip
import json
import random
import zipfile
import zlib
from datetime import date
from pathlib import Path

import pytest
from snapshots import FIRST, many, paper, write

from claimbook.errors import PaperError
from claimbook.papers.discover.snapshot import Complaint, Place, Record, Snapshot


def read(path: Path) -> list[Record | Complaint]:
    return list(Snapshot(path).records(Place()))


def one(path: Path, record: dict | str) -> Record | Complaint:
    """What becomes of a record, read beside a good one."""
    return read(write(path, [paper("0704.0001"), record]))[1]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "snapshot.jsonl"


def test_a_record_as_arxiv_publishes_it(file):
    assert read(write(file, [FIRST])) == [
        Record(
            id="0704.0001",
            title="Calculation of prompt diphoton production cross sections at Tevatron and LHC energies",
            authors=("C. Balázs", "E. L. Berger", "P. M. Nadolsky", "C. -P. Yuan"),
            categories=("hep-ph",),
            published=date(2007, 4, 2),
            abstract="A fully differential calculation in perturbative quantum chromodynamics is presented.",
        )
    ]


def test_a_record_with_lists(file):
    assert one(file, paper()) == Record(
        id="2103.00020",
        title="Learning Transferable Visual Models",
        authors=("Alec Radford", "Jong Wook Kim"),
        categories=("cs.CV", "cs.LG"),
        published=date(2021, 2, 26),
        abstract="State-of-the-art vision systems are trained to predict categories.",
    )


def test_every_real_record_is_read(test_data):
    path = test_data / "arxiv" / "records.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        raw = [json.loads(line) for line in lines]
    records = read(path)
    assert all(isinstance(record, Record) for record in records)
    assert [record.id for record in records] == [record["id"] for record in raw]
    assert [str(record.published) for record in records] == [record["published"][:10] for record in raw]
    assert all(
        record.categories[0] == known["primary_category"] for record, known in zip(records, raw, strict=True)
    )


@pytest.mark.parametrize(
    ("fields", "day"),
    [
        ({"published": "2025-03-14"}, date(2025, 3, 14)),
        ({"published": "2025-03-14T01:35:20Z", "update_date": "2025-06-01"}, date(2025, 3, 14)),
        ({"published": None, "update_date": "2008-11-26"}, date(2008, 11, 26)),
        ({"versions": [{"version": "v1", "created": "Mon, 2 Apr 2007 19:18:42 GMT"}]}, date(2007, 4, 2)),
        ({"versions": [], "published": "2025-03-14"}, date(2025, 3, 14)),
    ],
)
def test_the_date_is_that_of_the_first_version_that_is_told(file, fields, day):
    assert one(file, paper(**fields)).published == day


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ('Erwin Schr\\"odinger', "Erwin Schrödinger"),
        ('Kurt G{\\"o}del', "Kurt Gödel"),
        ("Jos\\'{e} Garc\\'{\\i}a", "José García"),
        ("Fran\\c{c}ois", "François"),
        ("Milo\\v s Nov\\'ak", "Miloš Novák"),
        ("{\\L}ukasz Stra\\ss e", "Łukasz Straße"),
        ("Paul Erd\\H os", "Paul Erdős"),
        ("Mus{é}e d'Arch{é}ologie", "Musée d'Archéologie"),
        ("$\\nu$ and $\\bar{\\lambda}_{12}$", "$\\nu$ and $\\bar{\\lambda}_{12}$"),
    ],
)
def test_letters_that_are_spelt_in_tex(file, written, meant):
    assert one(file, paper(title=written)).title == meant
    assert one(file, paper(authors=[written])).authors == (meant,)


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("A. One, B. Two and C. Three", ("A. One", "B. Two", "C. Three")),
        ("A. One, B. Two, and C. Three", ("A. One", "B. Two", "C. Three")),
        ("Alexandra Anderson", ("Alexandra Anderson",)),
        ("", ()),
        (None, ()),
    ],
)
def test_authors_in_one_string(file, written, names):
    assert one(file, paper(authors=written)).authors == names


def test_signs_that_cannot_be_seen_are_left_out_and_markup_is_text(file):
    title = "<b>[bold]\u202egnp.exe\u2069</b>\x1b[31m \x00 re\u0301sume\u0301\nline two"
    assert one(file, paper(title=title)).title == "<b>[bold]gnp.exe</b>[31m résumé line two"


def test_classes_of_mathematics_and_computing_are_no_categories(file):
    record = one(file, paper(categories=["cs.CV", "68T50", "I.2.7; H.3.3", "math-ph", "cond-mat.mtrl-sci"]))
    assert record.categories == ("cs.CV", "math-ph", "cond-mat.mtrl-sci")


def test_an_id_loses_its_version(file):
    assert one(file, paper("2103.00020v2")).id == "2103.00020"
    assert one(file, paper("math.GT/0309136")).id == "math/0309136"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"id": "2103.00020", "title": "Lear', "malformed"),
        ("null", "null"),
        ("[1, 2]", "array"),
        ('{"title": "No id", "published": "2021-02-26"}', "`id`"),
        (paper(2103.0002), "$.id"),
        (paper("2103.0002"), "zero"),
        (paper("x"), "arXiv id"),
        (paper(title="\u200b "), "title is empty"),
        (paper(title=["a"]), "$.title"),
        (paper(published=None), "no date"),
        (paper(published="yesterday"), "yesterday"),
        (paper(versions=[{"version": "v1", "created": "soon"}]), "soon"),
        (paper(versions=[{"version": "v1", "created": "Mon, 31 Feb 2007 19:18:42 GMT"}]), "out of range"),
        ('{"id": "2103.00020", "title": "\\ud800", "published": "2021-02-26"}', "surrogate"),
        ('{"x": ' + "[" * 100_000 + "}", "JSON"),
        ("x" * 3_000_000, "JSON"),
    ],
)
def test_a_line_that_is_no_record_is_named_with_its_place(file, line, why):
    complaint = one(file, line)
    assert isinstance(complaint, Complaint)
    assert complaint.where == f"{file}:2"
    assert why in complaint.problem


def test_what_comes_after_broken_and_empty_lines_is_read(file):
    write(file, [paper("2103.00020"), "{", "", "  ", "x" * 3_000_000, paper("2103.00021")])
    with file.open("ab") as more:
        more.write(b'\xff\xfe{"id"\n' + json.dumps(paper("2103.00022")).encode())  # no line break at the end
    items = read(file)
    assert [item.id for item in items if isinstance(item, Record)] == [
        "2103.00020",
        "2103.00021",
        "2103.00022",
    ]
    assert [item.where for item in items if isinstance(item, Complaint)] == [
        f"{file}:{line}" for line in (2, 5, 7)
    ]


def test_plain_and_packed_say_the_same(tmp_path):
    records = many(50)
    plain, packed = write(tmp_path / "a.jsonl", records), write(tmp_path / "a.jsonl.gz", records)
    packed.rename(tmp_path / "named-wrongly.jsonl")
    assert read(plain) == read(tmp_path / "named-wrongly.jsonl")


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_reading_goes_on_from_a_place(tmp_path, name):
    path = write(tmp_path / name, ["{", *many(50)])
    whole = read(path)
    for stop in (1, 2, 30, 51):
        snapshot = Snapshot(path)
        items = snapshot.records(Place())
        first = [next(items) for _ in range(stop)]
        assert [*first, *Snapshot(path).records(snapshot.place)] == whole


def test_of_a_packed_file_that_breaks_off_all_whole_lines_are_read(tmp_path):
    """The oracle is zlib itself: what it can still unpack."""
    draw = random.Random(0)
    words = [f"{draw.getrandbits(60):x}" for _ in range(2000)]
    records = [paper(f"2001.{n:05d}", abstract=" ".join(draw.choices(words, k=100))) for n in range(1, 500)]
    path = write(tmp_path / "whole.jsonl.gz", records)
    data = path.read_bytes()
    for size in (len(data) // 3, len(data) - 1000, len(data) - 4):
        torn = tmp_path / f"{size}.jsonl.gz"
        torn.write_bytes(data[:size])
        lines = zlib.decompressobj(31).decompress(data[:size]).count(b"\n")
        snapshot = Snapshot(torn)
        found = [item.id for item in snapshot.records(Place()) if isinstance(item, Record)]
        assert found == [record["id"] for record in records[:lines]]
        assert lines > 0
        assert "breaks off" in str(snapshot.torn)


def test_a_packed_file_with_a_wrong_byte_is_read_up_to_it(tmp_path):
    path = write(tmp_path / "a.jsonl.gz", many(20_000))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    snapshot = Snapshot(path)
    found = [item for item in snapshot.records(Place()) if isinstance(item, Record)]
    assert 0 < len(found) < 20_000
    assert snapshot.torn


def wrong_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Files that are no snapshot, and a word of what is said of each."""
    records = many(3)
    files = {
        "array": json.dumps(records).encode(),
        "indented": json.dumps(records, indent=2).encode(),
        "empty": b"",
        "blank": b"\n \n\n",
        "table": b"id,title\n2103.00020,Learning\n" * 5_000,
        "binary": random.Random(0).randbytes(4_000_000),
        "no head": gzip.compress(json.dumps(paper()).encode())[:12],
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    with zipfile.ZipFile(folder / "archive.zip", "w") as archive:
        archive.writestr("snapshot.json", json.dumps(paper()))
    return {
        **{name: (folder / name, "no line read is a record") for name in files},
        "zip": (folder / "archive.zip", "not with gzip"),
        "folder": (folder, "no such file"),
        "missing": (folder / "missing", "no such file"),
    }


@pytest.mark.parametrize(
    "kind", ["array", "indented", "empty", "blank", "table", "binary", "no head", "zip", "folder", "missing"]
)
def test_a_file_of_another_kind_is_refused_with_what_to_do(tmp_path, kind):
    path, words = wrong_files(tmp_path)[kind]
    with pytest.raises(PaperError, match=words) as caught:
        read(path)
    assert caught.value.where == str(path)
    assert caught.value.fix


def test_a_wrong_file_is_given_up_after_a_thousand_lines(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("id,title\n" * 100_000)
    snapshot = Snapshot(path)
    with pytest.raises(PaperError, match=f"the first: {path}:1: no JSON"):
        list(snapshot.records(Place()))
    assert snapshot.lines == 1000
