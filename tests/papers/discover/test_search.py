"""What is found, in which order; beside a plain scan over the records with another Porter stemmer."""

from __future__ import annotations

import gzip
import json
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import Stemmer
from snapshots import FIRST, many, paper, write

from claimbook.errors import PaperError
from claimbook.papers.discover import Found, Record, build, search
from claimbook.workspace import Workspace

PORTER = Stemmer.Stemmer("porter")


@pytest.fixture
def find(workspace, tmp_path) -> Callable[..., list[str]]:
    """Build an index of some records and search it: the ids that are found."""

    def ids(records: list[dict], words: str, **filters: object) -> list[str]:
        build(workspace, [write(tmp_path / "some.jsonl", records)])
        return [found.id for found in search(workspace, words, **filters).papers]

    return ids


def test_papers_with_the_words_in_their_title_come_first_then_the_more_relevant_then_the_newer(find):
    records = [
        paper("2001.00001", title="On birds", abstract="Cats and cats and cats.", published="2020-01-09"),
        paper("2001.00002", title="On cats", abstract="Birds.", published="2020-01-01"),
        paper("2001.00003", title="On birds", abstract="Cats.", published="2020-01-02"),
        paper("2001.00004", title="On birds", abstract="Cats.", published="2020-01-03"),
        paper("2001.00005", title="A cat", abstract="Cats, cats!", published="2020-01-04"),
        paper("2001.00006", title="On cats", abstract="Cats.", published="2020-01-01"),
    ]
    # two titles have the word as it is typed, one has another form of it; the others have it in the abstract
    assert find(records, "cats") == [f"2001.0000{n}" for n in (6, 2, 5, 1, 4, 3)]


def test_without_words_the_newest_come_first(find):
    records = many(40)
    newest = sorted(records, key=lambda record: record["published"], reverse=True)
    assert {record["published"] for record in newest[:2]} == {"2020-01-28", "2020-01-27"}
    assert find(records, "", limit=2) == ["2001.00028", "2001.00027"]
    assert find(records, "  ", category="cs", limit=1) == ["2001.00028"]


def test_endings_case_and_accents_do_not_matter(find):
    schrodinger = paper("2001.00001", title="A cat", authors=['Erwin Schr\\"odinger'], abstract="Calibrated.")
    for words in ("schrodinger", "SCHRÖDINGER", "schro\u0308dinger", "calibration", "Calibrating cats"):
        assert find([schrodinger, paper("2001.00002", title="A dog")], words) == ["2001.00001"]


def test_a_phrase_stands_side_by_side_and_a_minus_leaves_out(find):
    records = [
        paper("2001.00001", title="Small batch training", abstract="It works."),
        paper("2001.00002", title="A batch is small", abstract="A survey."),
        paper("2001.00003", title="A batch is small", abstract="In a small batch."),
    ]
    assert find(records, '"small batch"') == ["2001.00001", "2001.00003"]
    assert find(records, "batch small -survey") == ["2001.00003", "2001.00001"]
    assert find(records, 'batch -"small batch"') == ["2001.00002"]
    assert find(records, "small-batch") == ["2001.00001", "2001.00003"]
    assert find(records, "batch - small") == ["2001.00003", "2001.00002", "2001.00001"]
    assert find(records, '"small batch') == ["2001.00001", "2001.00003"]


@pytest.mark.parametrize(
    "words",
    [
        "AND", "OR", "NOT", "NEAR(cats birds)", "NEAR", "title:", "categories : cs0cv0", "{title}",
        "birds*", "^birds", "(birds", "birds)", "cats + birds", 'ca"ts', "'; DROP TABLE papers; --",
        "cats\x00birds", "\ud800birds", "cats\u202ebirds",
        "📈 birds", "ﬁ", "①", "٣", "이미지 검색", "画像検索", "a" * 100_000,
        " ".join(f"w{n}" for n in range(2_000)),
    ],
)  # fmt: skip
def test_no_word_of_a_query_is_read_as_syntax(find, words):
    """Each word is a word: a paper that has all of them is found, another is not."""
    records = [paper("2001.00001", title=words.replace("\ud800", "")), paper("2001.00002", authors=["A Cat"])]
    assert find(records, words) == ["2001.00001"]


@pytest.mark.parametrize("words", ["***", "-survey", '""', "-", '-"a survey"', "\u200b"])
def test_a_query_without_a_word_that_must_be_there_is_refused(find, words):
    with pytest.raises(PaperError, match="no word"):
        find([paper()], words)


def test_korean_words_are_found_as_they_stand_between_spaces(find):
    records = [paper("2001.00001", title="이미지 검색 모델"), paper("2001.00002", title="상품 추천")]
    assert find(records, "이미지") == ["2001.00001"]
    assert find(records, unicodedata.normalize("NFD", "검색")) == ["2001.00001"]


CATEGORIES = {
    "2001.00001": ["cs.CV", "cs.LG"],
    "2001.00002": ["eess.IV", "cs.CV"],
    "2001.00003": ["math-ph"],
    "2001.00004": ["math.MP", "math.CS"],
    "2001.00005": ["cond-mat.mtrl-sci"],
    "2001.00006": ["csx.CV", "physics.optics"],
}


@pytest.mark.parametrize(
    ("category", "numbers"),
    [
        ("cs.CV", "12"), ("CS.cv", "12"), (" cs.LG ", "1"), ("cs", "12"), ("cs.*", "12"), ("eess", "2"),
        ("math", "4"), ("math-ph", "3"), ("math.PH", ""), ("cond-mat", "5"), ("cond-mat.mtrl-sci", "5"),
        ("cond-mat.mtrl", ""), ("physics.optic", ""), ("physics.optics", "6"),
    ],
)  # fmt: skip
def test_a_category_is_found_where_it_is_cross_listed_and_an_archive_as_a_whole(find, category, numbers):
    records = [paper(number, categories=names) for number, names in CATEGORIES.items()]
    for words in ("", "vision"):
        assert sorted(find(records, words, category=category)) == [f"2001.0000{n}" for n in numbers]


def test_an_archive_that_is_none_is_refused_with_the_nearest(find):
    with pytest.raises(PaperError, match="did you mean 'stat'"):
        find([paper()], "vision", category="stats.ML")


@pytest.mark.parametrize(
    ("since", "until", "days"),
    [
        ("2020", None, ["2020-01-01", "2020-02-29", "2020-12-31", "2021-01-01"]),
        (None, "2020", ["2019-12-31", "2020-01-01", "2020-02-29", "2020-12-31"]),
        ("2020-02", "2020-02", ["2020-02-29"]),
        ("2020-02-29", "2020-02-29", ["2020-02-29"]),
        ("2020-03-01", "2020-12-30", []),
        ("0001", "9999", ["2019-12-31", "2020-01-01", "2020-02-29", "2020-12-31", "2021-01-01"]),
    ],
)
def test_dates_are_whole_years_months_and_days_with_both_ends(find, since, until, days):
    published = ["2019-12-31", "2020-01-01", "2020-02-29", "2020-12-31", "2021-01-01"]
    records = [paper(f"2001.0000{n}", published=day) for n, day in enumerate(published, start=1)]
    wanted = [f"2001.0000{published.index(day) + 1}" for day in days]
    for words in ("", "vision"):
        assert sorted(find(records, words, since=since, until=until)) == wanted


@pytest.mark.parametrize(
    "text", ["yesterday", "25", "2025-3", "2025-13", "2025-02-30", "2025-00", "٢٠٢٥", "", "0000"]
)
def test_a_date_that_is_none_is_refused(find, text):
    for name in ("since", "until"):
        with pytest.raises(PaperError, match="is no date") as caught:
            find([paper()], "vision", **{name: text})
        assert caught.value.where == name


def test_an_empty_span_is_refused(find):
    with pytest.raises(PaperError, match="swap them"):
        find([paper()], "vision", since="2021", until="2020")


def test_pages_are_parts_of_one_order(workspace, tmp_path):
    """900 papers, more than are ranked by their texts, a third of them with the word in the title."""
    records = [{**record, "title": f"Odd {n}" if n % 3 else "Even"} for n, record in enumerate(many(900))]
    build(workspace, [write(tmp_path / "a.jsonl", records)])
    whole = search(workspace, "odd", limit=2000)
    assert (whole.total, whole.exact) == (len(whole.papers), True)
    pages = [search(workspace, "odd", limit=70, offset=offset) for offset in range(0, 1000, 70)]
    assert [found for page in pages for found in page.papers] == whole.papers
    assert {(page.total, page.exact) for page in pages} == {(whole.total, True)}
    assert search(workspace, "odd", offset=5000).papers == []


def test_of_very_many_papers_it_is_said_how_many_there_are_at_least(workspace, tmp_path):
    build(workspace, [write(tmp_path / "a.jsonl", many(1200))])
    few, all_ = search(workspace, "even"), search(workspace, "series")
    assert (few.total, few.exact) == (600, True)
    assert (all_.total, all_.exact) == (1000, False)
    assert search(workspace, "series", limit=5, offset=1190).total == 1195
    assert (
        search(workspace, "series", limit=5, offset=1198).papers
        == search(workspace, "series", limit=1200).papers[-2:]
    )


def test_a_record_comes_back_as_it_was_read(workspace, tmp_path):
    build(workspace, [write(tmp_path / "a.jsonl", [FIRST, paper(authors=[], categories=[], abstract=None)])])
    first = search(workspace, "diphoton").papers[0]
    assert first.authors == ("C. Balázs", "E. L. Berger", "P. M. Nadolsky", "C. -P. Yuan")
    other = search(workspace, "transferable").papers[0]
    assert (other.authors, other.categories, other.abstract) == ((), (), "")


@dataclass
class Scanned:
    """A real record as the oracle sees it, its words stemmed and between spaces."""

    id: str
    day: str
    categories: list[str]
    title: str
    texts: list[str]

    def has(self, part: str) -> bool:
        return any(stemmed(part) in text for text in self.texts)


@cache
def stem(word: str) -> str:
    return str(PORTER.stemWord(word))


def stemmed(text: str) -> str:
    """Words in lower case without accents."""
    apart = unicodedata.normalize("NFD", text.lower())
    bare = unicodedata.normalize("NFC", "".join(char for char in apart if not unicodedata.combining(char)))
    words = " ".join(map(stem, re.findall(r"[^\W_]+", bare)))
    return f" {words} "


@pytest.fixture(scope="module")
def real(test_data: Path, tmp_path_factory) -> tuple[Workspace, list[Scanned]]:
    """All real records, in an index and as they are."""
    path = test_data / "arxiv" / "records.jsonl.gz"
    workspace = Workspace(tmp_path_factory.mktemp("real"))
    build(workspace, [path])
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    scanned = [
        Scanned(
            record["id"],
            record["published"][:10],
            record["categories"],
            stemmed(record["title"]),
            [stemmed(text) for text in (record["title"], record["abstract"], ", ".join(record["authors"]))],
        )
        for record in records
    ]
    return workspace, scanned


QUESTIONS = [
    (["calibration"], [], {}),
    (["vision", "language"], [], {}),
    (["vision language"], ["survey"], {}),
    (["contrastive", "hard negatives"], [], {}),
    (["the"], [], {"category": "q-bio"}),
    (["model"], [], {"category": "cs.IR", "since": "2025-09"}),
    (["retrieval"], ["image"], {"since": "2025-08-05", "until": "2025-08-20"}),
    (["joséphine"], [], {}),
    (["images language"], [], {}),
]


@pytest.mark.parametrize(("parts", "without", "filters"), QUESTIONS)
def test_a_search_finds_what_a_scan_over_all_records_finds_titles_first(real, parts, without, filters):
    workspace, records = real
    words = " ".join([*(f'"{part}"' for part in parts), *(f'-"{part}"' for part in without)])
    found: Found = search(workspace, words, limit=20_000, **filters)
    category, since, until = (filters.get(name, "") for name in ("category", "since", "until"))
    matching = [
        record
        for record in records
        if all(record.has(part) for part in parts)
        and not any(record.has(part) for part in without)
        and (not category or any(f"{name}.".startswith(f"{category}.") for name in record.categories))
        and record.day >= since
        and (not until or record.day <= until)
    ]
    assert matching
    assert {paper.id for paper in found.papers} == {record.id for record in matching}
    assert len(found.papers) == found.total == len(matching)
    titles = {record.id for record in matching if all(stemmed(part) in record.title for part in parts)}
    assert {paper.id for paper in found.papers[: len(titles)]} == titles
    for tier in (found.papers[: len(titles)], found.papers[len(titles) :]):
        assert_ranked(tier[:200], parts)
        days = [paper.published for paper in tier[200:]]
        assert days == sorted(days, reverse=True)
        assert len(tier) <= 200 or max(days) <= min(paper.published for paper in tier[:200])


def assert_ranked(papers: list[Record], parts: list[str]) -> None:
    """More of the words in the title, then more in the abstract, then the newer."""

    def rank(paper: Record) -> tuple[int, int, str]:
        title, abstract = (
            " ".join(re.findall(r"[^\W_]+", text.lower())) for text in (paper.title, paper.abstract)
        )
        wanted = [rf"(?<!\S){re.escape(part)}(?!\S)" for part in parts]
        return (
            sum(bool(re.search(word, title)) for word in wanted),
            sum(len(re.findall(word, abstract)) for word in wanted),
            str(paper.published),
        )

    ranks = [rank(paper) for paper in papers]
    assert ranks == sorted(ranks, reverse=True)
