"""The library as others cite it: BibTeX for LaTeX, CSL-JSON for Zotero, pandoc and word processors.

Knows how titles and names are written in both, nothing of files. A title on arXiv is half TeX: `$k$` and
`\\'e` are meant, a bare `&` or `%` is not. What LaTeX would understand is kept, all else is shown letter by
letter, so that no title breaks the file. Accented letters become TeX's, since bibtex's own styles sort and
shorten names byte by byte; scripts that TeX has no commands for stay UTF-8.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import quote

from claimbook.records import Paper


def bibtex(papers: Iterable[Paper]) -> str:
    """A .bib file of the papers, by slug, which is the key. `@misc`, as arXiv itself exports.

    Where a paper was published stands in its note, as the authors said it, and its DOI is given; nothing is
    made up of it.
    """
    return "\n".join(_entry(paper) for paper in sorted(papers, key=lambda paper: paper.slug))


def csl_json(papers: Iterable[Paper]) -> list[dict[str, Any]]:
    """The papers as items of CSL-JSON, by slug, which is the id.

    See https://github.com/citation-style-language/schema, schemas/input/csl-data.json.
    """
    return [_item(paper) for paper in sorted(papers, key=lambda paper: paper.slug)]


def _entry(paper: Paper) -> str:
    meta = paper.meta
    names = [_in_bibtex(_name(author)) for author in meta.authors if _visible(author)]
    fields = {
        "title": _tex(meta.title, keep_capitals=True),
        "author": " and ".join(names),
        "key": "" if names else paper.slug,  # what a style sorts by, for want of an author
        "year": "".join(str(part) for part in _date(meta.published)[:1]),
        "eprint": _verbatim(meta.id),
        "archivePrefix": "arXiv",
        "primaryClass": _verbatim("".join(meta.categories[:1])),
        "url": _verbatim(meta.url),
        "doi": _verbatim(meta.doi or ""),
        "note": _tex(_note(paper)),
    }
    lines = [f"  {name:<13} = {{{value}}},\n" for name, value in fields.items() if value]
    return f"@misc{{{paper.slug},\n{''.join(lines)}}}\n"


def _item(paper: Paper) -> dict[str, Any]:
    meta = paper.meta
    date = _date(meta.published)
    fields = {
        "id": paper.slug,
        "type": "article",  # CSL's word for a preprint; a published one is article-journal
        "title": _visible(meta.title),
        "author": [_in_csl(_name(author)) for author in meta.authors if _visible(author)],
        "issued": {"date-parts": [date]} if date else None,
        "publisher": "arXiv",
        "number": _visible(f"arXiv:{meta.id}"),
        "URL": _visible(meta.url),
        "DOI": _visible(meta.doi or ""),
        "abstract": _visible(meta.abstract),
        "note": _visible(_note(paper)),
    }
    return {name: value for name, value in fields.items() if value}


def _note(paper: Paper) -> str:
    """What a reader of a list of references should know besides."""
    withdrawn = "" if paper.meta.withdrawn is None else "Withdrawn from arXiv"
    return ". ".join(filter(None, [paper.meta.journal_ref, withdrawn]))


def _date(published: str) -> list[int]:
    """Year, month and day of an ISO date, as far as it goes."""
    match = re.match(r"(\d{4})(?:-(\d{2}))?(?:-(\d{2}))?", published, re.ASCII)
    return [int(part) for part in match.groups() if part] if match else []


def _visible(text: str) -> str:
    """A text on one line, without control characters, marks of direction and halves of surrogate pairs."""
    shown = "".join(char for char in text if char.isprintable() or char.isspace())
    return unicodedata.normalize("NFC", " ".join(shown.split()))


# Names


@dataclass(frozen=True)
class _Name:
    """A person's name in its parts, or a whole one in `family` alone: a team's, or a single word."""

    family: str
    given: str = ""
    particle: str = ""
    """`van der`, which some styles sort by and some do not."""
    suffix: str = ""


_SUFFIXES = {"Jr", "Jr.", "Sr", "Sr.", "II", "III", "IV"}
_PARTICLES = {
    "af", "al", "av", "bin", "da", "dal", "de", "dei", "del", "della", "den", "der", "des", "di", "do", "dos",
    "du", "el", "ibn", "la", "le", "ten", "ter", "van", "vom", "von", "zu", "zum", "zur",
}  # fmt: skip
_TEAM = re.compile(
    r"\b(?:and|team|collaboration|consortium|group|labs?|project|initiative|community|authors|university"
    r"|(?-i:AI))\b|[\d,:;@/]",
    re.IGNORECASE,
)
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3 ]+")


def _name(author: str) -> _Name:
    """The parts of a name as arXiv gives it, given name first; Korean, Chinese and Japanese ones begin with
    the family's.
    """
    author = _visible(author)
    words = author.split()
    of_letters = all(re.search(r"[^\W_]", word) for word in words)
    if len(words) < 2 or words[0] in _PARTICLES or _TEAM.search(author) or not of_letters:
        return _Name(author)
    if _CJK.fullmatch(author):
        return _Name(words[0], " ".join(words[1:]))
    suffix = words.pop() if len(words) > 2 and words[-1] in _SUFFIXES else ""
    last = len(words) - 1
    first = next((place for place in range(1, last) if words[place] in _PARTICLES), last)
    family = next(
        place for place in range(first, last + 1) if place == last or words[place] not in _PARTICLES
    )
    return _Name(" ".join(words[family:]), " ".join(words[:first]), " ".join(words[first:family]), suffix)


def _in_bibtex(name: _Name) -> str:
    if not name.given:  # in braces, so that no "and" and no comma of it is read as BibTeX's own
        return f"{{{_tex(name.family)}}}"
    parts = [f"{name.particle} {name.family}".strip(), name.suffix, name.given]
    return ", ".join(_tex(part) for part in parts if part)


def _in_csl(name: _Name) -> dict[str, str]:
    if not name.given:
        return {"literal": name.family}
    parts = {
        "family": name.family,
        "given": name.given,
        "non-dropping-particle": name.particle,
        "suffix": name.suffix,
    }
    return {key: part for key, part in parts.items() if part}


# TeX

_SPECIAL = str.maketrans(
    {
        "&": r"\&",
        "%": r"\%",
        "#": r"\#",
        "_": r"\_",
        "$": r"\$",
        "{": r"\textbraceleft{}",
        "}": r"\textbraceright{}",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "\\": r"\textbackslash{}",
    }
)
_TEX = re.compile(
    r"""
      (?P<math>   \$(?:[^$\\]|\\.)+\$ | \\\((?:[^\\]|\\(?![()]).)+\\\) )
    | (?P<accent> \\(?:['`^"~=.]|[uvHcdbkrt](?![A-Za-z]))\s*
                  (?:[A-Za-z]|\\[ij](?![A-Za-z])|\{(?:[A-Za-z]{1,2}|\\[ij])\})
                | \\(?:ss|ae|AE|oe|OE|aa|AA|o|O|l|L)(?![A-Za-z]) )
    | (?P<kept>   \\(?:emph|text(?:it|bf|tt|sc|sf|rm)?)(?=\{) | \\[&%\#_$] )
    | (?P<escaped>\\[{}] )
    | (?P<brace>  [{}] )
    | (?P<word>   [^\W_]+ )
    | (?P<other>  \\(?:[A-Za-z]+|.) | . )
    """,
    re.VERBOSE,
)
_PLAIN = re.compile(r"(?P<word>[^\W_]+)|(?P<other>.)")
_ARTICLE = re.compile(r"(?<!\S)A(?!\S)")
_DEFINES = re.compile(r"\\(?:[egx]?def|let|(?:re)?newcommand|providecommand)(?![A-Za-z])")


def _tex(text: str, keep_capitals: bool = False) -> str:
    """A text as LaTeX shows it, its braces balanced.

    keep_capitals: put words such as CLIP into braces, since styles write titles in lower case.
    """
    text = _visible(text)
    depth, out = 0, []
    for token in (_TEX if _is_tex(text) else _PLAIN).finditer(text):
        kind, found = token.lastgroup, token[0]
        if kind == "brace":
            depth += 1 if found == "{" else -1
            out.append(found)
        elif kind == "math":
            out.append(f"{{${_in_commands(_math(found))}$}}")
        elif kind == "accent":  # in braces it is one letter for BibTeX
            out.append(f"{{{found}}}")
        elif kind == "kept":
            out.append(found)
        elif kind == "word" and keep_capitals and depth == 0 and _has_capitals(token):
            out.append(f"{{{_letters(found)}}}")
        else:
            out.append(_letters(found[1:] if kind == "escaped" else found))
    return "".join(out)


def _letters(text: str) -> str:
    """A text letter by letter, nothing of it read as TeX."""
    return _in_commands(text.translate(_SPECIAL))


def _in_commands(tex: str) -> str:
    """TeX with its accented and Greek letters as commands."""
    return tex if tex.isascii() else str(_encoder().unicode_to_latex(tex))


@cache
def _encoder() -> Any:
    from pylatexenc.latexencode import UnicodeToLatexEncoder  # type: ignore[import-untyped]

    def protect(command: str) -> str:  # BibTeX would write the R of {\ensuremath{\mathbb{R}}} in lower case
        return f"{{{{{command}}}}}" if command.startswith(r"\ensuremath") else f"{{{command}}}"

    return UnicodeToLatexEncoder(
        non_ascii_only=True,
        replacement_latex_protection=protect,
        unknown_char_policy="keep",
        unknown_char_warning=False,
    )


def _is_tex(text: str) -> bool:
    """Whether a text's braces and formulas are whole; else its signs are meant as they stand."""
    from math_core import LatexError, LatexToMathML

    depth = 0
    for token in _TEX.finditer(text):
        if token["brace"]:
            depth += 1 if token[0] == "{" else -1
            if depth < 0:
                return False
        elif token["math"]:
            if _DEFINES.search(token[0]):
                return False
            try:
                LatexToMathML().convert_with_local_state(_math(token[0]), displaystyle=False)
            except LatexError:
                return False
    return depth == 0


def _math(formula: str) -> str:
    r"""The inside of $…$ or \(…\): no comment begins in it, and BibTeX counts no brace that is shown."""
    inside = formula[1:-1] if formula[0] == "$" else formula[2:-2]
    shown = {r"\{": r"\lbrace ", r"\}": r"\rbrace ", "%": r"\%"}
    return re.sub(r"\\.|%", lambda sign: shown.get(sign[0], sign[0]), inside)


def _has_capitals(token: re.Match[str]) -> bool:
    """Whether a word would be another one in lower case: CLIP, SigLIP, both of Q&A, but not the article A."""
    word = token[0]
    if word == "A":
        return _ARTICLE.match(token.string, token.start()) is None
    return word[1:] != word[1:].lower() or (len(word) == 1 and word.isupper())


def _verbatim(text: str) -> str:
    """An id or address; what would end a BibTeX field early is written as in an address."""
    return quote(text, safe="/:?#[]@!$&'()*+,;=%<>|~^", errors="replace")
