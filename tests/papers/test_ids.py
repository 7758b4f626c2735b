"""Ids are made here from year, month and number, and written in the forms that people paste."""

from __future__ import annotations

import gzip
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claimbook.papers.ids import ArxivId, Complaint, find_all, parse

SINCE_2015 = st.builds(
    "{:02}{:02}.{:05}".format, st.integers(15, 99), st.integers(1, 12), st.integers(1, 99_999)
)
UNTIL_2014 = st.builds(
    "{:02}{:02}.{:04}".format, st.integers(8, 14), st.integers(1, 12), st.integers(1, 9_999)
)
WITH_ARCHIVE = st.builds(
    "{}/{:02}{:02}{:03}".format,
    st.sampled_from(["math", "hep-th", "cs", "quant-ph", "cond-mat", "cmp-lg", "q-bio"]),
    st.sampled_from([*range(92, 100), *range(0, 7)]),
    st.integers(1, 12),
    st.integers(1, 999),
)
IDS = st.builds(
    ArxivId,
    st.one_of(SINCE_2015, UNTIL_2014, WITH_ARCHIVE),
    st.none() | st.integers(1, 30) | st.integers(1, 10**9 - 1),
)

FORMS = [
    "{}",
    "arXiv:{}",
    "ARXIV:{}",
    "arxiv: {}",
    "arXiv:{} [cs.CV]",
    "arXiv:{}[cs.CV]",
    "arXiv:{} [cs.CV] 26 Feb 2021",
    "arXiv preprint arXiv:{} (2021)",
    "CoRR abs/{}",
    "abs/{}",
    "https://arxiv.org/abs/{}",
    "http://arxiv.org/abs/{}",
    "arxiv.org/abs/{}",
    "//arxiv.org/abs/{}",
    "HTTPS://WWW.ARXIV.ORG/ABS/{}",
    "https://export.arxiv.org/abs/{}",
    "http://cn.arxiv.org/abs/{}",
    "http://xxx.lanl.gov/abs/{}",
    "https://arxiv.org:443/abs/{}",
    "https://arxiv.org/abs/{}/",
    "https://arxiv.org/abs/{}?context=cs.LG",
    "https://arxiv.org/abs/{}#comments",
    "https://arxiv.org/pdf/{}",
    "https://arxiv.org/pdf/{}.pdf",
    "https://arxiv.org/pdf/{}.pdf#page=3",
    "https://arxiv.org/html/{}",
    "https://arxiv.org/html/{}#S3.F2",
    "https://arxiv.org/html/{}/x1.png",
    "https://arxiv.org/src/{}",
    "https://arxiv.org/e-print/{}",
    "https://arxiv.org/ps/{}",
    "https://arxiv.org/tb/{}",
    "https://arxiv.org/bibtex/{}",
    "https://arxiv.org/format/{}",
    "https://arxiv.org/abs/arXiv:{}",
    "https://alphaxiv.org/abs/{}",
    "https://www.alphaxiv.org/overview/{}",
    "https://huggingface.co/papers/{}",
    "https://hf.co/papers/{}",
    "https://ar5iv.org/abs/{}",
    "https://ar5iv.labs.arxiv.org/html/{}",
    "https://www.semanticscholar.org/arxiv/{}",
    "https://doi.org/10.48550/arXiv.{}",
    "https://dx.doi.org/10.48550/ARXIV.{}",
    "doi:10.48550/arxiv.{}",
    "10.48550/arXiv.{}",
    "https://www.google.com/url?q=https://arxiv.org/abs/{}&sa=D",
    "https://www.google.com/url?q=https%3A%2F%2Farxiv.org%2Fabs%2F{}&sa=D",
    "https://web.archive.org/web/2021/https://arxiv.org/abs/{}",
    "arXiv-{}.tar.gz",
    "{}.pdf",
    "{} (1).pdf",
    "\\url{{https://arxiv.org/abs/{}}}",
    "eprint={{{}}}",
    "[CLIP](https://arxiv.org/abs/{})",
    "CLIP: {}, Radford et al.",
    "{}을 읽자",
    "논문(arXiv:{})에서",
]
AROUND = [
    "{}",
    "  {}\n",
    "<{}>",
    '"{}"',
    "'{}'",
    "“{}”",
    "`{}`",
    "**{}**",
    "_{}_",
    "({})",
    "{}.",
    "{},",
    "{}。",
]


@settings(max_examples=1_000)
@given(IDS, st.sampled_from(FORMS), st.sampled_from(AROUND))
def test_an_id_is_read_from_every_form_in_which_it_is_pasted(paper, form, around):
    assert parse(around.format(form.format(paper))) == paper


@given(IDS, st.sampled_from(FORMS), st.sampled_from("\u200b\u200c\u2060\ufeff\u00ad\u200e\u202a"), st.data())
def test_what_the_eye_does_not_see_is_read_past(paper, form, unseen, data):
    text = form.format(paper)
    place = data.draw(st.integers(0, len(text)))
    assert parse(text[:place] + unseen + text[place:]) == paper


@given(IDS)
def test_full_width_signs_are_those_that_they_widen(paper):
    assert parse("".join(chr(ord(char) + 0xFEE0) for char in f"arXiv:{paper}")) == paper


@given(WITH_ARCHIVE, st.sampled_from([".GT", ".str-el", ".CV"]))
def test_an_old_id_has_one_canonical_form(number, subject_class):
    archive, _, digits = number.partition("/")
    for text in (number.upper(), f"{archive}{subject_class}/{digits}", f"{archive.title()}/{digits}"):
        assert parse(text) == ArxivId(number)


@given(st.text(st.characters()))
def test_any_text_is_an_id_or_a_complaint_that_can_be_shown(text):
    found = parse(text)
    if isinstance(found, ArxivId):
        assert re.fullmatch(r"(\d{4}\.\d{4,5}|[a-z-]+/\d{7})(v[1-9]\d*)?", str(found), re.ASCII)
        assert parse(str(found)) == found
    else:
        assert found.text == text
        assert found.fix
        assert found.problem.isprintable()
        assert len(found.problem) < 300


TOKENS = [
    "arXiv:",
    "https://",
    "arxiv.org",
    "/abs/",
    "2103",
    ".",
    "00020",
    "v2",
    "/",
    "math",
    "0309136",
    " ",
    "-",
]


@given(
    st.lists(st.sampled_from([*TOKENS, "10.48550/", "arxiv.", "%2F", "?", "#", ".pdf", "v0"])).map("".join)
)
def test_an_id_in_canonical_form_is_read_as_itself(text):
    found = parse(text)
    if isinstance(found, ArxivId):
        assert parse(str(found)) == found


@given(
    st.lists(IDS, min_size=2, max_size=5, unique_by=lambda one: one.number),
    st.sampled_from([" ", ", ", "\n- ", "|", " und "]),
)
def test_several_ids_are_all_found_and_none_is_chosen(papers, between):
    text = between.join(map(str, papers))
    assert find_all(text) == papers
    complaint = parse(text)
    assert isinstance(complaint, Complaint)
    assert complaint.kind == "several"
    assert all(str(one) in complaint.problem for one in papers)


def test_addresses_pasted_onto_each_other_are_two():
    assert find_all("https://arxiv.org/abs/2103.00020https://arxiv.org/abs/2303.15343v4") == [
        ArxivId("2103.00020"),
        ArxivId("2303.15343", 4),
    ]


def test_a_version_named_once_is_the_one_that_is_meant():
    text = "Cite as: arXiv:2103.00020 [cs.CV] (or arXiv:2103.00020v1 [cs.CV] for this version)"
    assert find_all(text) == [ArxivId("2103.00020", 1)]
    assert kind("2103.00020v1 or 2103.00020v2") == "several"


def test_a_bad_id_beside_a_good_one_is_not_passed_over():
    assert kind("2103.00020 and 2113.00020") == "month"


def kind(text: str) -> str:
    found = parse(text)
    assert isinstance(found, Complaint), f"{text} was read as {found}"
    return found.kind


ENDS_WITH_ZERO = st.one_of(
    st.builds("{:02}{:02}.{:04}0".format, st.integers(15, 99), st.integers(1, 12), st.integers(1, 9_999)),
    st.builds("{:02}{:02}.{:03}0".format, st.integers(8, 14), st.integers(1, 12), st.integers(1, 999)),
)


@given(ENDS_WITH_ZERO, st.sampled_from(["{}", "arXiv:{}", "arXiv: {}", "https://arxiv.org/abs/{}"]))
def test_an_id_that_was_read_as_a_number_is_told_from_it(number, form):
    found = parse(form.format(float(number)))
    assert isinstance(found, Complaint)
    assert found.kind == "eaten zero"
    assert f" {number}," in found.fix


@pytest.mark.parametrize(
    ("eaten", "whole"),
    [
        ("2301.1259", "2301.12590"),
        ("2103.2", "2103.20000"),
        ("704.0001", "0704.0001"),
        ("1207.058", "1207.0580"),
    ],
)
def test_the_id_that_a_number_was_is_named(eaten, whole):
    found = parse(eaten)
    assert isinstance(found, Complaint)
    assert (found.kind, whole in found.fix) == ("eaten zero", True)


@given(st.integers(0, 99), st.sampled_from([0, *range(13, 100)]), st.integers(1, 99_999))
def test_a_month_that_no_year_has_is_said(year, month, number):
    assert kind(f"{year:02}{month:02}.{number:05}") == "month"
    assert kind(f"hep-th/{year:02}{month:02}{number % 999 + 1:03}") == "month"


@given(IDS.filter(lambda one: one.version is None), st.sampled_from(["v0", "v", "v01", "v00", "v9999999999"]))
def test_a_version_that_is_none_is_said(paper, version):
    assert kind(f"{paper}{version}") == "version"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ('""', "empty"),
        ("https://arxiv.org/list/cs.CV/recent", "listing"),
        ("https://arxiv.org/list/cs.CV/2103", "listing"),
        ("https://arxiv.org/search/?query=2103.00020", "listing"),
        ("https://arxiv.org/a/radford_a_1", "listing"),
        ("https://arxiv.org/", "listing"),
        ("arxiv.org", "listing"),
        ("https://huggingface.co/papers/date/2026-01-05", "listing"),
        ("cs.CV", "listing"),
        ("[hep-th]", "listing"),
        ("0703.0001", "month"),
        ("math/0704123", "month"),
        ("hep-th/9106123", "month"),
        ("0808.05394", "digits"),
        ("2103.000201", "digits"),
        ("2103.0002v2", "digits"),
        ("math/030913", "digits"),
        ("2103.00000", "number"),
        ("0704.0000", "number"),
        ("math/0309000", "number"),
        ("0309136", "archive"),
        ("arXiv:0309136", "archive"),
        ("mth/0309136", "archive"),
        ("https://doi.org/10.1109/CVPR.2016.90", "foreign"),
        ("10.1145/2103.00020", "foreign"),
        ("PMID: 33526767", "foreign"),
        ("https://aclanthology.org/2021.emnlp-main.1/", "foreign"),
        ("P18-1234", "foreign"),
        ("https://openreview.net/forum?id=YicbFdNTTy", "foreign"),
        ("CorpusID:231591445", "foreign"),
        ("https://github.com/openai/CLIP", "foreign"),
        ("https://huggingface.co/openai/clip-vit-base-patch32", "foreign"),
        ("https://example.com/2103.00020", "foreign"),
        ("https://notarxiv.org/abs/2103.00020", "foreign"),
        ("notarxiv.org/abs/2103.00020", "foreign"),
        ("Attention Is All You Need", "title"),
        ("주의만 있으면 된다", "title"),
        ("arXiv:hello", "none"),
        ("https://arxiv.org/abs/", "none"),
        ("https://arxiv.org/abs/2103.00020/2303.15343", "none"),
        ("3.14", "none"),
        ("12345", "none"),
        ("2103.0002²", "eaten zero"),
    ],
)  # fmt: skip
def test_what_is_no_id_is_said_precisely(text, expected):
    assert kind(text) == expected


def test_the_nearest_archive_is_named():
    found = parse("hep-thh/9901001")
    assert isinstance(found, Complaint)
    assert "'hep-th'" in found.problem


def test_a_date_in_the_future_is_none_of_our_business():
    assert parse("9912.00001") == ArxivId("9912.00001")


def test_words_and_links_around_an_id_are_read_past():
    text = "CLIP (2103.00020), code: https://github.com/openai/CLIP, 10.1109/CVPR.2016.90, 512.5 images/s"
    assert find_all(text) == [ArxivId("2103.00020")]


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        "1",
        " 1",
        "arxiv-",
        "arxiv:",
        "2103.00020 ",
        "math.",
        "abs/",
        "10.1234/",
        "http://",
        ".pdf",
        "v",
        "%",
        "2021.a-",
    ],
)
def test_a_megabyte_is_read_in_one_go(piece):
    """A step that looks back over the text would take hours."""
    text = piece * (1_000_000 // len(piece))
    found = parse(text)
    assert found == ArxivId("2103.00020") or (isinstance(found, Complaint) and len(found.problem) < 300)


def test_a_paper_comes_before_its_versions_and_versions_are_counted():
    ids = [
        ArxivId("2103.00020", 10),
        ArxivId("2103.00020", 9),
        ArxivId("2103.00020"),
        ArxivId("0704.0001", 1),
    ]
    assert [str(one) for one in sorted(ids)] == ["0704.0001v1", "2103.00020", "2103.00020v9", "2103.00020v10"]
    assert ids[0].latest == ids[2]


def test_every_id_that_arxiv_gave_is_read(test_data):
    with gzip.open(test_data / "arxiv" / "records.jsonl.gz", "rt", encoding="utf-8") as file:
        ids = [json.loads(line)["id"] for line in file]
    assert len(ids) == 12_090
    assert all(str(parse(one)) == one for one in ids)
