"""arXiv ids: from whatever is pasted to a canonical id and version, or a complaint that says what is wrong.

Knows the two schemes of https://info.arxiv.org/help/arxiv_identifier.html and the forms in which people paste
them. Asks nobody, so it cannot tell whether a well-formed id exists, nor a date that lies in the future.

    2103.00020       since 2015: year, month, a number of five digits
    0704.0001        April 2007 to December 2014: four digits
    math/0309136     until March 2007: archive, year, month, three digits; the class of math.GT is dropped
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import unquote

from claimbook.workspace import nearest

ARCHIVES = {
    "astro-ph", "cond-mat", "cs", "econ", "eess", "gr-qc", "hep-ex", "hep-lat", "hep-ph", "hep-th", "math",
    "math-ph", "nlin", "nucl-ex", "nucl-th", "physics", "q-bio", "q-fin", "quant-ph", "stat",
    # closed; their papers keep the old name
    "acc-phys", "adap-org", "alg-geom", "ao-sci", "atom-ph", "bayes-an", "chao-dyn", "chem-ph", "cmp-lg",
    "comp-gas", "dg-ga", "funct-an", "mtrl-th", "patt-sol", "plasm-ph", "q-alg", "solv-int", "supr-con",
}  # fmt: skip
"""Names that stand before the slash of an old id, or before the point of a category."""

Kind = Literal[
    "empty",  # nothing but space and punctuation
    "listing",  # a category, a search, an author: a page of many papers
    "several",  # two ids, or two versions of one
    "month",  # year and month that no paper has
    "eaten zero",  # what is left of an id once a program read it as a number
    "digits",  # too many or too few of them
    "number",  # arXiv counts from 1
    "version",  # versions do too
    "archive",  # an old id needs one that exists
    "foreign",  # a DOI, a link to another place
    "title",  # words
    "none",  # anything else
]


@dataclass(frozen=True)
class ArxivId:
    """The canonical id of a paper, and a version of it where one is named."""

    number: str
    """`2103.00020`, or `math/0309136` for papers before April 2007."""
    version: int | None = None

    def __str__(self) -> str:
        return self.number if self.version is None else f"{self.number}v{self.version}"

    def __lt__(self, other: ArxivId) -> bool:
        """By number, the paper without a version before its versions."""
        return (self.number, self.version or 0) < (other.number, other.version or 0)

    @property
    def latest(self) -> ArxivId:
        """The paper without a version: whatever version is newest."""
        return ArxivId(self.number)


@dataclass(frozen=True)
class Complaint:
    """Why a text is no arXiv id, and what to do."""

    text: str
    problem: str
    fix: str
    kind: Kind = "none"


def parse(text: str) -> ArxivId | Complaint:
    """The id in whatever was pasted, or what is wrong with it. Never raises.

    A text may hold more than the id, and may name it twice, once with its version. Two different ids, or a
    good one beside a bad one, are a complaint: nothing is guessed.
    """
    found = find_all(text)
    for mention in found:
        if isinstance(mention, Complaint):
            return replace(mention, text=text)
    if len(found) > 1:
        ids = ", ".join(map(str, found[:5])) + (", …" if len(found) > 5 else "")
        return Complaint(text, f"{len(found)} ids in one text: {ids}", "give them one by one", "several")
    return found[0] if found else _other(text)


def find_all(text: str) -> list[ArxivId | Complaint]:
    """Every id of a text in its order, each once, and a complaint for each form that should be an id.

    A paper named with and without a version is there with it. Links to other places and plain words are read
    past.
    """
    words = _WORD.findall(_plain(text))
    found: dict[ArxivId | Complaint, None] = {}
    before = ""
    for word in words:
        expected = len(words) == 1 or before.lower() in ("arxiv", "arxiv:")
        found.update(dict.fromkeys(_read(word, expected)))
        before = word
    versioned = {i.number for i in found if isinstance(i, ArxivId) and i.version is not None}
    return [
        i for i in found if isinstance(i, Complaint) or i.version is not None or i.number not in versioned
    ]


_WORD = re.compile(r"[\w.~:/?#@%&=+-]+", re.ASCII)
"""What may stand in an address; brackets, quotes, commas and all other scripts set words apart."""
_FULL_WIDTH = {0xFF00 + code: 0x20 + code for code in range(1, 0x5F)}
# NFKC would do this as well, and turn the footnote of 2103.0002² into a digit
_UNSEEN = dict.fromkeys(
    [0xAD, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF]
)

_MARK = re.compile(
    r"""(?<![a-z0-9-])(?:
        (?:(?:arxiv|alphaxiv|ar5iv)\.org | xxx\.lanl\.gov | (?:huggingface|hf)\.co/papers) (?::[0-9]+)?
            (?=[/?\#]|$)
      | arxiv:(?=.)
      | arxiv[./_-](?=[0-9]|[a-z-]{2,20}(?:\.[a-z-]{2,20})?/[0-9])   # a DOI, a file, another site's address
    )""",
    re.VERBOSE | re.IGNORECASE,
)
_PATH = re.compile(r"/*(?:abs|pdf|html|src|e-print|ps|tb|bibtex|format|overview|papers)/+", re.IGNORECASE)
_ID = re.compile(
    r"""(?: (?P<date>[0-9]{3,4})\.(?P<count>[0-9]+)
          | (?P<archive>[a-z-]{2,20})(?:\.[a-z-]{2,20})?/(?P<old>[0-9]+)
          | (?P<bare>[0-9]{7}) )
        (?:v(?P<version>[0-9]*))?
        (?:\.(?:pdf|ps|html?|md|tar|gz|tgz|tex|txt))*
        (?:/(?!.*[0-9]{4}\.?[0-9]{3}).*)?                               # a file of it, but no second id""",
    re.VERBOSE | re.IGNORECASE,
)
_AGAIN = "copy the id again from the paper's page on https://arxiv.org"
_AROUND = "._~:/?#@%&=+-"


def _plain(text: str) -> str:
    """A text in ASCII's own signs: no zero-width ones, full-width forms or percent escapes."""
    text = text.translate(_FULL_WIDTH).translate(_UNSEEN)
    text = unquote(text) if "%" in text else text
    return re.sub("(?<=[0-9])(?=https?://)", " ", text)  # pasted twice


def _read(word: str, expected: bool) -> Iterator[ArxivId | Complaint]:
    """The ids that a word holds: after each sign of arXiv in it, else between signs such as `=`."""
    marked = _MARK.split(word)[1:]  # several: an address travels in that of a redirection
    pieces = [re.split("[?#&]", piece)[0] for piece in marked]
    if not marked and "://" not in word:
        pieces = re.split("[?#&=+@:]", word)
    found = [one for piece in pieces if (one := _id(piece, certain=expected or bool(marked)))]
    yield from found
    if marked and not found:
        yield _no_paper(word, pieces[-1])


def _id(text: str, certain: bool) -> ArxivId | Complaint | None:
    """The id that a text is, or why it is none; None where it does not look like one.

    certain: something says that an id must stand here, so that 2103.2 is a bad id and no mere number.
    """
    text = text.strip(_AROUND)
    path = _PATH.match(text)
    text = text[path.end() :] if path else text
    form = _ID.fullmatch(text)
    if form is None or not (certain or path or _is_exact(form)):
        return None
    number = _old_number(form, text) if form["date"] is None else _new_number(form, text)
    if isinstance(number, Complaint):
        return number
    if form["version"] is None:
        return ArxivId(number)
    if not re.fullmatch("[1-9][0-9]{0,8}", form["version"]):
        problem = f"{_shown(text)} names no version: they are v1, v2, …"
        return Complaint(text, problem, "mend it or leave it away", "version")
    return ArxivId(number, int(form["version"]))


def _is_exact(form: re.Match[str]) -> bool:
    """Whether a form is too much like an id to be anything else, wherever it stands."""
    if form["date"]:
        return len(form["date"]) == 4 and len(form["count"]) in (4, 5)
    return bool(form["archive"]) and form["archive"].lower() in ARCHIVES and len(form["old"]) == 7


def _new_number(form: re.Match[str], text: str) -> str | Complaint:
    date, count = form["date"].zfill(4), form["count"]
    digits = 5 if date >= "1501" else 4
    if len(form["date"]) == 4 and not _is_month(date):
        return _no_month(text, date)
    if len(form["date"]) == 3 or len(count) < digits:
        return _too_short(text, date, count.ljust(digits, "0"), versioned=form["version"] is not None)
    if date < "0704":
        problem = f"{_shown(text)} is dated before 0704, when such ids began"
        return Complaint(text, problem, f"{_AGAIN}; an older one has an archive: math/0309136", "month")
    if len(count) > digits:
        since = "arXiv counts with five" if digits == 5 else "until 1412 arXiv counted with four"
        problem = f"{_shown(text)} has {len(count)} digits after the point; {since}"
        return Complaint(text, problem, _AGAIN, "digits")
    if not count.strip("0"):
        return Complaint(text, f"{_shown(text)}: arXiv counts a month's papers from 1", _AGAIN, "number")
    return f"{date}.{count}"


def _too_short(text: str, date: str, count: str, versioned: bool) -> Complaint:
    """date, count: with the zeros that a number does not need, and that a program may have dropped."""
    if versioned or not _is_month(date) or date < "0704" or not count.strip("0"):
        return Complaint(text, f"{_shown(text)} has too few digits for an arXiv id", _AGAIN, "digits")
    return Complaint(
        text,
        f"{_shown(text)} lacks a zero: something read the id as a number",
        f"check that you mean {date}.{count}, and write it in quotes where YAML or `-p` reads it",
        "eaten zero",
    )


def _old_number(form: re.Match[str], text: str) -> str | Complaint:
    archive, number = (form["archive"] or "").lower(), form["old"] or form["bare"]
    if archive not in ARCHIVES:
        if archive:
            problem = f"{archive!r} is no archive of arXiv{nearest(archive, sorted(ARCHIVES))}"
        else:
            problem = f"{_shown(text)} lacks the archive that an id until March 2007 begins with"
        return Complaint(text, problem, f"write it as on the paper's page, such as math/{number}", "archive")
    if len(number) != 7:
        problem = f"{_shown(text)} has {len(number)} digits; an id with an archive has seven"
        return Complaint(text, problem, _AGAIN, "digits")
    date, count = number[:4], number[4:]
    if not _is_month(date):
        return _no_month(text, date)
    if "0703" < date < "9107":
        problem = f"{_shown(text)}: ids with an archive are from 9107 to 0703, not from {date}"
        return Complaint(text, problem, _AGAIN, "month")
    if count == "000":
        return Complaint(text, f"{_shown(text)}: arXiv counts a month's papers from 1", _AGAIN, "number")
    return f"{archive}/{number}"


def _is_month(date: str) -> bool:
    return "01" <= date[2:] <= "12"


def _no_month(text: str, date: str) -> Complaint:
    return Complaint(text, f"{_shown(text)}: {date} is no year and month", _AGAIN, "month")


def _no_paper(word: str, rest: str) -> Complaint:
    """A text that is marked as arXiv's and holds no id: a page of many papers, or a slip."""
    if _PATH.match(rest) or not re.search("arxiv.org|papers", word, re.IGNORECASE):
        return Complaint(word, f"{_shown(word)} holds no arXiv id", f"{_AGAIN}, such as 2103.00020", "none")
    problem = f"{_shown(word)} is a page of many papers or of none"
    return Complaint(word, problem, "open one paper there and copy its address", "listing")


_FOREIGN = (
    (r"github\.com/", "a repository on GitHub"),
    (r"openreview\.net/", "a page of OpenReview"),
    (r"semanticscholar\.org/|\bCorpusID:|\A\s*[0-9a-f]{40}\s*\Z", "of Semantic Scholar"),
    (r"aclanthology\.org/|aclweb\.org/|\b[0-9]{4}\.[a-z0-9]+-[a-z0-9]+\.[0-9]+\b", "of the ACL Anthology"),
    (r"\A\s*[A-Z][0-9]{2}-[0-9]{4}\s*\Z", "of the ACL Anthology"),
    (r"ncbi\.nlm\.nih\.gov/|\bPMID\b|\bPMC[0-9]+", "of PubMed"),
    (r"\b10\.[0-9]{4,9}/", "a publisher's DOI"),
    (r"(?:huggingface|hf)\.co/", "a page of Hugging Face that is no paper's"),
)  # fmt: skip


def _other(text: str) -> Complaint:
    """What a text is in which nothing looks like an id of arXiv."""
    plain = _plain(text)
    shown, find = _shown(text.strip()), "find the paper on https://arxiv.org and paste its address"
    if not any(char.isalnum() for char in plain):
        return Complaint(text, "there is no id", "paste one, such as 2103.00020, or its address", "empty")
    for pattern, what in _FOREIGN:
        if re.search(pattern, plain, re.IGNORECASE):
            return Complaint(text, f"{shown} is {what}, not of arXiv", find, "foreign")
    link = re.search(r"https?://([^\s/?#]{1,100})|\A\W*((?:[\w-]+\.)+[a-z]{2,})/", plain, re.IGNORECASE)
    if link:
        host = _shown(link[1] or link[2])
        return Complaint(text, f"{shown} leads to {host}, not to arXiv", find, "foreign")
    word = plain.strip().strip("[]()")
    if word.partition(".")[0].lower() in ARCHIVES and re.fullmatch(r"[\w-]+(\.[\w-]+)?", word):
        return Complaint(text, f"{shown} is a category, not a paper", find, "listing")
    if len(re.findall(r"[^\W\d_]{2,}", plain)) > 1:
        return Complaint(text, f"{shown} looks like a title", find, "title")
    return Complaint(
        text, f"{shown} is no arXiv id", f"{find}, such as https://arxiv.org/abs/2103.00020", "none"
    )


def _shown(text: str) -> str:
    """A text as a message shows it: in quotes, no control characters, not too long."""
    return repr(text if len(text) <= 60 else f"{text[:57]}…")
