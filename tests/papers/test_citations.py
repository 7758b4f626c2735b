"""The references as bibtex, LaTeX and another reader of BibTeX see them; CSL-JSON by its published schema."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claimbook.papers.citations import bibtex, csl_json
from claimbook.records import Paper, PaperMeta, PaperNote

SIGLIP = """\
@misc{siglip,
  title         = {Sigmoid Loss for Language Image Pre-Training},
  author        = {Zhai, Xiaohua and Beyer, Lucas},
  year          = {2023},
  eprint        = {2303.15343},
  archivePrefix = {arXiv},
  primaryClass  = {cs.CV},
  url           = {https://arxiv.org/abs/2303.15343},
  doi           = {10.1109/ICCV51070.2023.01100},
  note          = {ICCV 2023, pp. 11941--11952},
}
"""

Bibliography = Callable[..., str]


def paper(slug: str = "siglip", **meta: Any) -> Paper:
    """A paper of the library; meta: what is to differ from SigLIP's."""
    known: dict[str, Any] = {
        "id": "2303.15343",
        "title": "Sigmoid Loss for Language Image Pre-Training",
        "authors": ["Xiaohua Zhai", "Lucas Beyer"],
        "abstract": "",
        "categories": ["cs.CV", "cs.AI"],
        "published": "2023-03-27",
        "updated": "2023-09-27",
        "versions": [1, 2, 3, 4],
        "source": "arxiv",
    }
    record = PaperMeta(**(known | meta))
    return Paper(slug=slug, meta=record, note=PaperNote(id=record.id), body="")


def field(name: str, **meta: Any) -> str:
    """The value of a field in the entry of a paper."""
    found = re.search(rf"^  {name} *= {{(.*)}},$", bibtex([paper(**meta)]), re.MULTILINE)
    return found[1] if found else ""


@pytest.fixture
def bibliography(tmp_path: Path) -> Bibliography:
    """Runs the real bibtex over papers and returns its .bbl; a warning or an error of it fails the test."""
    if shutil.which("bibtex") is None:
        pytest.skip("bibtex is not installed (Debian: texlive-binaries and texlive-base)")

    def run(papers: Sequence[Paper], style: str = "plain") -> str:
        (tmp_path / "library.bib").write_text(bibtex(papers), "utf-8")
        aux = f"\\citation{{*}}\n\\bibstyle{{{style}}}\n\\bibdata{{library}}\n"
        (tmp_path / "library.aux").write_text(aux)
        done = subprocess.run(["bibtex", "library"], cwd=tmp_path, capture_output=True)
        said = done.stdout.decode("utf-8", "replace")
        assert done.returncode == 0, said
        assert "arning" not in said, said
        return (tmp_path / "library.bbl").read_text("utf-8")

    return run


def test_an_entry_has_what_arxiv_gives_and_where_it_was_published():
    published = {"doi": "10.1109/ICCV51070.2023.01100", "journal_ref": "ICCV 2023, pp. 11941--11952"}
    assert bibtex([paper(**published)]) == SIGLIP


def test_a_paper_that_was_published_nowhere_has_no_place_made_up():
    entry = bibtex([paper()])
    assert not re.search("doi|note|journal|howpublished", entry)


def test_a_withdrawn_paper_says_so():
    assert field("note", withdrawn="an error in the proof") == "Withdrawn from arXiv"


def test_both_forms_are_sorted_by_slug_and_do_not_depend_on_the_order_given():
    papers = [paper("siglip"), paper("clip"), paper("blip-2")]
    assert bibtex(papers) == bibtex(papers[::-1])
    assert re.findall("@misc{(.*),", bibtex(papers)) == ["blip-2", "clip", "siglip"]
    assert [item["id"] for item in csl_json(papers)] == ["blip-2", "clip", "siglip"]
    assert (bibtex([]), csl_json([])) == ("", [])


@pytest.mark.parametrize(
    ("title", "written"),
    [
        ("Q&A at 80% of #1", r"{Q}\&{A} at 80\% of \#1"),
        ("ReCOGS_pos costs $5", r"{ReCOGS}\_pos costs \$5"),
        ("R^3 ~ {x", r"{R}\textasciicircum{}3 \textasciitilde{} \textbraceleft{}x"),
        ("CLIP-like models", "{CLIP}-like models"),
        ("A ViT for Vitamin C", "A {ViT} for Vitamin {C}"),
        (r"MoS$_2$ and \(k\)-means", "{MoS}{$_2$} and {$k$}-means"),
        (r"$\mathcal{O}(n\%)$ of $\{x\}$", r"{$\mathcal{O}(n\%)$} of {$\lbrace x\rbrace $}"),
        (r"half $\of$ {it}", r"half \$\textbackslash{}of\$ \textbraceleft{}it\textbraceright{}"),
        (r"Erd\H{o}s \& \'Ecole", r"Erd{\H{o}}s \& {\'E}cole"),
        (r"in \textit{alia lingua}", r"in \textit{alia lingua}"),
        (r"\input{secrets} \foo", r"\textbackslash{}input{secrets} \textbackslash{}foo"),
        ("Musée, α and ℝ", r"Mus{\'e}e, {{\ensuremath{\alpha}}} and {{{\ensuremath{\mathbb{R}}}}}"),
        ("상품 검색", "상품 검색"),
        ("two\nlines\x00 \u202eleft", "two lines left"),
        ("a backslash \\", r"a backslash \textbackslash{}"),
    ],
)
def test_a_title_is_written_so_that_latex_shows_it(title, written):
    assert field("title", title=title) == written


@pytest.mark.parametrize(
    ("author", "in_bibtex", "in_csl"),
    [
        ("Jong Wook Kim", "Kim, Jong Wook", {"family": "Kim", "given": "Jong Wook"}),
        (
            "Laurens van der Maaten",
            "van der Maaten, Laurens",
            {"family": "Maaten", "given": "Laurens", "non-dropping-particle": "van der"},
        ),
        ("Hal Daumé III", r"Daum{\'e}, III, Hal", {"family": "Daumé", "given": "Hal", "suffix": "III"}),
        ("김 종욱", "김, 종욱", {"family": "김", "given": "종욱"}),
        ("김종욱", "{김종욱}", {"literal": "김종욱"}),
        ("NVIDIA", "{NVIDIA}", {"literal": "NVIDIA"}),
        ("Team Hunyuan3D", "{Team Hunyuan3D}", {"literal": "Team Hunyuan3D"}),
        ("Oak and Sons, Inc.", "{Oak and Sons, Inc.}", {"literal": "Oak and Sons, Inc."}),
        ("de Vries", "{de Vries}", {"literal": "de Vries"}),
        (":", "{:}", {"literal": ":"}),
    ],
)  # fmt: skip
def test_a_name_is_split_as_its_bearer_would(author, in_bibtex, in_csl):
    assert field("author", authors=[author]) == in_bibtex
    assert csl_json([paper(authors=[author])])[0]["author"] == [in_csl]


def test_bibtex_reads_the_parts_of_names(bibliography):
    authors = ["Laurens van der Maaten", "Hal Daumé III", "Mistral and Sons Team", "Jong Wook Kim"]
    listed = " ".join(bibliography([paper(authors=authors)], style="abbrv").split())
    assert r"L.~van~der Maaten, H.~Daum{\'e}, III, {Mistral and Sons Team}, and J.~W. Kim." in listed


def test_styles_keep_capitals_and_sort_accented_names_by_their_letter(bibliography):
    papers = [
        paper("z", authors=["Hao Zhang"], title="BLIP Helps Vision"),
        paper("o", authors=["Ada Ömer"], title="CLIP"),
    ]
    listed = bibliography(papers)
    assert listed.index("{o}") < listed.index("{z}")
    assert "{BLIP} helps vision" in listed


@pytest.mark.parametrize("style", ["plain", "abbrv", "unsrt", "alpha", "apalike", "ieeetr", "acm", "siam"])
def test_every_style_takes_a_paper_of_which_little_is_known(bibliography, style):
    bare = paper("bare", title="CLIP", authors=["", "\u202e"], categories=[], published="2021")
    full = paper("full", authors=["Jürgen Ünal"], doi="10.1/a{b}_c%\\", id="math/0309136")
    assert bibliography([bare, full], style).count("\\bibitem") == 2


SIGNS = "\\{}$^_&%#~'\"`@,.|<> \n\x00\u202e\ud800éα한a"
COMMANDS = [r"\alpha", r"\(", r"\)", r"\{", r"\}", r"\'", r"\H{o}", r"\textit{", r"\def\x{1}", r"\input{x}"]
PIECES = st.sampled_from([*SIGNS, *COMMANDS, "CLIP", " and ", "$x$", r"$\frac{1}{2}$", "--"])
HOSTILE = st.lists(PIECES, max_size=12).map("".join) | st.text(st.characters(), max_size=40)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(HOSTILE, HOSTILE, HOSTILE), max_size=200))
def test_no_title_or_name_breaks_the_file_for_bibtex(bibliography, texts):
    papers = [
        paper(f"p{number}", title=title, authors=[name, f"{name} {other}"], journal_ref=other)
        for number, (title, name, other) in enumerate([*texts, ("last", "Ann Author", "")])
    ]
    assert bibliography(papers).count("\\bibitem") == len(papers)


@given(st.lists(st.tuples(HOSTILE, HOSTILE), max_size=20))
def test_another_reader_of_bibtex_finds_every_entry(texts):
    import bibtexparser

    papers = [paper(f"p{number}", title=title, doi=doi) for number, (title, doi) in enumerate(texts)]
    library = bibtexparser.parse_string(bibtex(papers))
    assert not library.failed_blocks
    assert sorted(entry.key for entry in library.entries) == sorted(one.slug for one in papers)


HOSTILE_TO_LATEX = [
    "\\", "{", "}{", "$", "$x", "a % b", "#1", "^^M", "x_1 ^2", "$a%b$ & c", '<a> | "b"', "é Ł α ∑ ﬁ ’ — × ≤",
    r"\foo", r"\def\x{1}\x", r"$\foo$", r"$\def\x{1}\x$", r"\input{x}", r"\end{document}", r"\verb|x|",
    r"\'", r"\'{", r"\H{o} \c c \i", r"\(x\) \{y\}", r"$\{z\}$", r"\textit{a $b$ c}", r"\\ \& \%",
]  # fmt: skip


def test_no_title_stops_latex(bibliography, tmp_path):
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed (Debian: texlive-latex-base)")
    papers = [
        paper(f"p{number}", title=f"On {text}", authors=[text, f"Ann {text}"], journal_ref=text)
        for number, text in enumerate(HOSTILE_TO_LATEX)
    ]
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\\usepackage[T1]{fontenc}\\begin{document}\n"
        f"{bibliography(papers)}\\end{{document}}\n",
        "utf-8",
    )
    command = ["pdflatex", "-draftmode", "-halt-on-error", "-interaction=nonstopmode", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stdout.decode("utf-8", "replace")[-2000:]


def test_bibtex_takes_every_title_and_name_that_arxiv_gave(bibliography, test_data):
    with gzip.open(test_data / "arxiv" / "records.jsonl.gz", "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    papers = [
        paper(
            f"p{number}", id=one["id"], title=one["title"], authors=one["authors"], journal_ref=one["comment"]
        )
        for number, one in enumerate(records)
    ]
    assert bibliography(papers).count("\\bibitem") == 12_090


CSL_ITEMS = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["type", "id"],
        "additionalProperties": False,
        "properties": {
            "type": {"const": "article"},
            "author": {
                "type": "array",
                "items": {
                    "additionalProperties": {"type": "string"},
                    "propertyNames": {
                        "enum": ["family", "given", "non-dropping-particle", "suffix", "literal"]
                    },
                },
            },
            "issued": {
                "required": ["date-parts"],
                "properties": {
                    "date-parts": {
                        "maxItems": 2,
                        "items": {"minItems": 1, "maxItems": 3, "items": {"type": "number"}},
                    }
                },
            },
            **{
                name: {"type": "string"}
                for name in ("id", "title", "publisher", "number", "URL", "DOI", "abstract", "note")
            },
        },
    },
}
"""What csl-data.json, version 1.0.2, says of the fields that are written here."""


@given(
    st.lists(st.tuples(HOSTILE, HOSTILE), max_size=5), st.sampled_from(["2021-11", "2021-11-09", "2021", ""])
)
def test_items_are_csl_json(texts, published):
    papers = [
        paper(f"p{number}", title=title, authors=[name], abstract=name, doi=name, published=published)
        for number, (title, name) in enumerate(texts)
    ]
    items = csl_json(papers)
    jsonschema.validate(items, CSL_ITEMS)
    assert json.loads(json.dumps(items, ensure_ascii=False).encode()) == items


def test_an_item_is_a_preprint_of_arxiv_with_as_much_of_a_date_as_is_known():
    (item,) = csl_json([paper(published="2023-03")])
    assert item == {
        "id": "siglip",
        "type": "article",
        "title": "Sigmoid Loss for Language Image Pre-Training",
        "author": [{"family": "Zhai", "given": "Xiaohua"}, {"family": "Beyer", "given": "Lucas"}],
        "issued": {"date-parts": [[2023, 3]]},
        "publisher": "arXiv",
        "number": "arXiv:2303.15343",
        "URL": "https://arxiv.org/abs/2303.15343",
    }
