"""Collections as other tools export them, an entry of each written here by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from claimbook.errors import PaperError
from claimbook.papers.citations import bibtex, csl_json
from claimbook.papers.ids import ArxivId, Complaint
from claimbook.papers.imports import Imported, Item, read, read_text
from claimbook.records import Paper, PaperMeta, PaperNote

CLIP = ArxivId("2103.00020")

EXPORTS = {
    "Zotero": """@misc{radford_learning_2021,
	title = {Learning {Transferable} {Visual} {Models}},
	url = {http://arxiv.org/abs/2103.00020},
	doi = {10.48550/arXiv.2103.00020},
	abstract = {Compared with arXiv:1512.03385, 76.2\\% @ home},
	publisher = {arXiv},
	note = {arXiv:2103.00020 [cs]},
}""",
    "Better BibTeX": """@online{radford2021,
  title = {Learning Transferable Visual Models},
  eprint = {2103.00020},
  eprinttype = {arxiv},
  eprintclass = {cs},
}""",
    "arXiv": """@misc{radford2021learning,
      title={Learning Transferable Visual Models},
      eprint={2103.00020},
      archivePrefix={arXiv},
      primaryClass={cs.CV},
}""",
    "Google Scholar": """@article{radford2021learning,
  title={Learning transferable visual models},
  journal={arXiv preprint arXiv:2103.00020},
  volume={139},
  year={2021}
}""",
    "DBLP": """@article{DBLP:journals/corr/abs-2103-00020,
  title        = {Learning Transferable Visual Models},
  journal      = {CoRR},
  volume       = {abs/2103.00020},
}""",
    "Mendeley": '@article{Radford2021, arxivId = {2103.00020}, title = "Learning {\\"u}ber Models"}',
    "by hand": "@misc(clip, howpublished = {\\url{https://arxiv.org/pdf/2103.00020.pdf}})",
    "an extra line": "@inproceedings{clip, doi = {10.1109/x}, note = {ICML 2021\n arXiv:2103.00020}}",
}


def only(imported: Imported) -> Item:
    (item,) = imported.items
    return item


def complaint(item: Item) -> Complaint:
    assert isinstance(item.found, Complaint)
    return item.found


@pytest.mark.parametrize("tool", EXPORTS)
def test_the_id_is_found_where_a_tool_writes_it(tool):
    assert only(read_text(f"\n{EXPORTS[tool]}\n", "refs.bib")).found == CLIP


def test_an_entry_brings_its_place_title_tags_status_and_note():
    text = """% my papers

@misc{clip,
  title = {Learning {Transferable} Models},
  eprint = {2103.00020v1},
  keywords = {loss, 검색; loss, Computer Science - Machine Learning},
  readstatus = {skimmed},
  annote = {Why 32k?},
}
"""
    assert only(read_text(text, "refs.bib")) == Item(
        place="refs.bib:3",
        found=ArxivId("2103.00020", 1),
        title="Learning Transferable Models",
        tags=("loss", "검색"),
        status="reading",
        note="Why 32k?",
    )


def test_another_paper_that_an_entry_speaks_of_is_not_its_own():
    text = "@article{a, doi = {10.1109/x}, note = {Extends arXiv:2103.00020}, abstract = {arXiv:2303.15343}}"
    found = complaint(only(read_text(text, "refs.bib")))
    assert found.kind == "foreign"
    assert "10.1109/x" in found.problem


def test_an_eprint_of_another_archive_is_none_of_arxivs():
    text = "@article{a, title = {X}, eprint = {33526767}, eprinttype = {pubmed}}"
    assert "no arXiv id" in complaint(only(read_text(text, "refs.bib"))).problem


def test_an_entry_that_names_two_papers_is_a_complaint():
    text = "@misc{a, eprint = {2103.00020}, url = {https://arxiv.org/abs/2303.15343}}"
    assert complaint(only(read_text(text, "refs.bib"))).kind == "several"


def test_an_eprint_that_lost_its_zero_is_a_complaint():
    text = "@misc{a, title = {T}, eprint = 2103.2, archiveprefix = {arXiv}}"
    found = complaint(only(read_text(text, "refs.bib")))
    assert (found.kind, found.text) == ("eaten zero", "T")
    assert "2103.20000" in found.fix


def test_a_broken_entry_is_named_and_loses_no_other():
    text = """@misc{before, eprint = {2101.00001}}
@misc{open, title = {No {closing brace,
  eprint = {2102.00002},
}

@misc{between, eprint = {2103.00003}}
@misc{comma title = {x}, eprint = {2104.00004}}
@misc{twice, title = {a}, title = {b}, eprint = {2105.00005}}
@misc{cut, title = {trunc"""
    imported = read_text(text, "refs.bib")
    good = [(item.place, str(item.found)) for item in imported.items if isinstance(item.found, ArxivId)]
    assert good == [
        ("refs.bib:1", "2101.00001"),
        ("refs.bib:6", "2103.00003"),
        ("refs.bib:8", "2105.00005"),
    ]
    bad = [(item.place, complaint(item).text) for item in imported.items if isinstance(item.found, Complaint)]
    assert [place for place, _ in bad] == ["refs.bib:2", "refs.bib:7", "refs.bib:9"]
    assert all(name in shown for name, (_, shown) in zip(["{open,", "{comma", "{cut,"], bad, strict=True))


def test_an_id_outside_of_the_entries_is_said():
    imported = read_text("@misc{a, eprint = {2101.00001}}\nSee also 2103.00020.\n", "refs.bib")
    assert imported.remarks == ("refs.bib:2: 2103.00020 stands outside of the entries and was passed over",)


def test_the_parser_says_nothing_of_its_own(capfd):
    read_text("@misc{open, title = {", "refs.bib")
    assert capfd.readouterr() == ("", "")


def test_an_item_of_csl_json_brings_what_zotero_keeps():
    text = """[
  {"id": "http://zotero.org/users/1/items/A", "title": "CLIP", "number": "arXiv:2103.00020",
   "note": "arXiv:2103.00020 [cs]\\nRead_Status: Read"},
  {"id": "b", "archive": "arXiv", "archive_location": "2303.15343", "keyword": "loss"},

  {"id": "c", "title": "Deep Residual Learning", "DOI": "10.1109/CVPR.2016.90", "volume": 1}
]"""
    clip, siglip, resnet = read_text(text, "My Library.json").items
    assert clip == Item("My Library.json:2", CLIP, "CLIP", status="read")
    assert siglip == Item("My Library.json:4", ArxivId("2303.15343"), tags=("loss",))
    assert (resnet.place, complaint(resnet).kind) == ("My Library.json:6", "foreign")


@pytest.mark.parametrize(
    "text", ['[{"id": "a"', "[1, 2", "[1] 2", "{} {}", "]", "nothing", "[" * 10**5, "[1" + "0" * 5000 + "]"]
)
def test_broken_json_is_an_error_with_its_place(text):
    with pytest.raises(PaperError, match=r"library.json") as caught:
        read_text(text, "library.json")
    assert "CSL JSON" in caught.value.fix


def test_a_list_holds_ids_and_addresses_with_words_and_comments_around():
    text = """# to read

- [CLIP](https://arxiv.org/abs/2103.00020), the beginning
* [ ] 2303.15343v4 and https://huggingface.co/papers/2304.00001   # both by Friday
1. math/0309136
| 2305.00001 | 상품 검색 |
|---|---|
2306.00001을 읽자
https://arxiv.org/pdf/2307.00001#page=3
"""
    imported = read_text(text, "list.md")
    assert [(item.place, str(item.found)) for item in imported.items] == [
        ("list.md:3", "2103.00020"),
        ("list.md:4", "2303.15343v4"),
        ("list.md:4", "2304.00001"),
        ("list.md:5", "math/0309136"),
        ("list.md:6", "2305.00001"),
        ("list.md:8", "2306.00001"),
        ("list.md:9", "2307.00001"),
    ]
    assert imported.remarks == ()


def test_a_line_without_an_id_is_a_complaint_where_it_is_an_entry_and_else_a_remark():
    text = "Our list:\n- Attention Is All You Need\nhttps://github.com/openai/CLIP\n2103.0002\n"
    imported = read_text(text, "list.txt")
    assert [(item.place, complaint(item).kind) for item in imported.items] == [
        ("list.txt:2", "title"),
        ("list.txt:3", "foreign"),
        ("list.txt:4", "eaten zero"),
    ]
    assert imported.remarks == ("list.txt:1: no id, taken for prose: 'Our list:'",)


def test_an_id_in_a_comment_is_said():
    imported = read_text("2103.00020\n# 2303.15343\n", "list.txt")
    assert only(imported).found == CLIP
    assert imported.remarks == ("list.txt:2: 2303.15343 stands in a comment and was passed over",)


def test_a_paper_that_comes_again_is_merged_into_the_later_version_and_said():
    text = """@misc{a, eprint = {2103.00020v1}, keywords = {loss}, annote = {One.}}
@misc{b, eprint = {2303.15343}}
@misc{a, eprint = {2103.00020v2}, title = {CLIP}, keywords = {loss, zero-shot}, annote = {Two.}}
"""
    imported = read_text(text, "refs.bib")
    assert [str(item.found) for item in imported.items] == ["2103.00020v2", "2303.15343"]
    first = imported.items[0]
    assert (first.place, first.title, first.tags) == ("refs.bib:1", "CLIP", ("loss", "zero-shot"))
    assert first.note == "One.\n\nTwo."
    assert imported.remarks == ("refs.bib:3: 2103.00020v2 is the paper of refs.bib:1; the two are merged",)


@pytest.mark.parametrize(
    "text", ["@misc{a, eprint = {2103.00020}}", '{"id": "a", "number": "arXiv:2103.00020"}', "2103.00020"]
)
def test_a_text_of_no_file_tells_its_form_itself(text):
    assert only(read_text(f"\ufeff\n{text}\r\n", "-")) == Item("-:2", CLIP, text if text[0] == "2" else "")


def test_a_list_of_tasks_is_no_json():
    assert only(read_text("[ ] 2103.00020\n", "-")).found == CLIP


def test_nothing_is_said_to_be_nothing():
    assert read_text(" \n", "list.txt") == Imported((), ("list.txt: there is no paper in it",))


def written(folder: Path, data: bytes) -> Path:
    path = folder / "list.txt"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_is_read_in_the_encodings_that_say_what_they_are(tmp_path, encoding):
    path = written(tmp_path, "# 논문\r\n2103.00020 상품\r\n".encode(encoding))
    assert only(read(path)) == Item(f"{path}:2", CLIP, "2103.00020 상품")


def test_a_file_of_korean_windows_is_named_as_one(tmp_path):
    path = written(tmp_path, "2103.00020\n상품 검색\n".encode("cp949"))
    with pytest.raises(PaperError, match="CP949") as caught:
        read(path)
    assert caught.value.where == f"{path}:2"
    assert "UTF-8" in caught.value.fix


def test_what_is_no_text_is_an_error(tmp_path):
    for data in (b"2103.00020\0", b"\x80\x81\xff"):
        with pytest.raises(PaperError, match=r"list.txt"):
            read(written(tmp_path, data))
    for path in (tmp_path, tmp_path / "missing.bib"):
        with pytest.raises(PaperError, match="cannot be read"):
            read(path)


def test_ris_is_sent_back_with_the_form_to_export():
    for text, name in [("TY  - JOUR\nUR  - https://arxiv.org/abs/2103.00020\n", "-"), ("", "refs.ris")]:
        with pytest.raises(PaperError) as caught:
            read_text(text, name)
        assert "BibTeX" in caught.value.fix


@given(st.text(st.characters()), st.sampled_from(["-", "a.bib", "a.txt"]))
def test_any_text_is_papers_or_said_to_be_none(text, name):
    assume(not re.match(r"\s*\[?\s*{", text))  # JSON, of which broken one is an error
    imported = read_text(text, name)
    assert imported.items or imported.remarks
    assert all(item.place.startswith(f"{name}:") for item in imported.items)


NUMBERS = st.builds(
    "{:02}{:02}.{:05}".format, st.integers(15, 26), st.integers(1, 12), st.integers(1, 99_999)
)


@given(st.lists(st.tuples(NUMBERS, st.text(st.characters(codec="utf-8"), max_size=30)), max_size=10))
def test_what_we_export_is_read_back(papers):
    numbers = dict(papers)
    library = [
        Paper(
            slug=f"p{place:02}",
            meta=PaperMeta(
                id=number, title=title, authors=[title], abstract=title, categories=["cs.CV"], versions=[1],
                published="2021-11", updated="2021-11", source="arxiv", journal_ref=title,
            ),
            note=PaperNote(id=number),
            body="",
        )
        for place, (number, title) in enumerate(numbers.items())
    ]  # fmt: skip
    for text, name in [(bibtex(library), "library.bib"), (json.dumps(csl_json(library)), "library.json")]:
        found = [str(item.found) for item in read_text(text, name).items]
        assert found == list(numbers)
