"""Words, category and dates to papers of the index, the best first.

Words are found in titles, abstracts and names, in any case and ending (Porter's stemmer for English) and
without accents. Every word must be there; `"small batch"` must stand so, and neither `-survey` nor `-"a
survey"` may. Nothing else of a query has a meaning of its own.

Papers with every word in their title come first, then the others. Among the newest 200 of either, the one
with more of the words in its title, as they are typed, is better, then the one with more of them in its
abstract, then the newer; older ones follow by date. Words that thousands of papers share thus take no longer
than rare ones.
"""

from __future__ import annotations

import calendar
import re
import sqlite3
from dataclasses import dataclass
from datetime import date
from typing import Literal

from claimbook.errors import PaperError
from claimbook.papers.discover.index import (
    category_word,
    first_number,
    index_path,
    last_number,
    opened,
    record_of,
)
from claimbook.papers.discover.snapshot import Record, clean
from claimbook.papers.ids import ARCHIVES
from claimbook.workspace import Workspace, nearest

_RANKED = 200
"""Papers of either kind that are compared by their texts. With 5,000 instead, one word of its title brings a
paper among the first 20 of 12,090 in 45.0 % of 500 searches, not 43.0 %; two words in 93.2 %, not 93.0 %."""
_COUNTED = 1_000
"""Papers that are counted; of more it is said that there are at least so many."""
_PART = re.compile(r'(-?)"([^"]*)"?|(\S+)')
_TEXTS = "{title abstract authors}"


@dataclass(frozen=True)
class Found:
    """A part of the papers that were found."""

    papers: list[Record]
    total: int
    """All papers that match, or, where it is not exact, at least so many."""
    exact: bool


def search(
    workspace: Workspace,
    words: str,
    *,
    category: str | None = None,
    since: str | None = None,
    until: str | None = None,
    limit: int = 20,
    offset: int = 0,
) -> Found:
    """The papers that match, the best first; without words the newest first.

    category: `cs.CV`, also of papers that are only cross-listed there, or the archive `cs` or `cs.*`. since,
    until: the first and the last day of publication: `2025`, `2025-03` or `2025-03-14`. Raises PaperError for
    a query that cannot be read, and when the index is missing or damaged.
    """
    query = _Query(words, category, since, until)
    wanted = offset + limit
    with opened(index_path(workspace)) as db:
        ranked, exact = _ranked(db, query, wanted)
        papers = [_paper(db, n) for n in ranked[offset:wanted]]
        total = len(ranked)
        if not exact:
            counted = query.count(db)
            total, exact = max(total, counted), counted < _COUNTED
    return Found(papers, total, exact)


class _Query:
    """What is asked, as FTS5 reads it."""

    def __init__(self, words: str, category: str | None, since: str | None, until: str | None) -> None:
        wanted, unwanted = _parts(clean(words))
        if words.strip() and not wanted:
            raise PaperError(
                "the query has no word that a paper must hold", fix="write a word", where=repr(words)
            )
        self.words = [_pattern(part) for part in wanted]
        """Words and phrases as they are typed, to be found in texts in lower case."""
        parts = " AND ".join(map(_quoted, wanted))
        kind = f"categories : {_quoted(_category(category))}" if category else ""
        rest = "".join(f" NOT {_TEXTS} : {_quoted(part)}" for part in unwanted)
        # FTS5 binds NOT closer than AND
        self.everywhere = " AND ".join(filter(None, [kind, parts and f"{_TEXTS} : ({parts}){rest}"]))
        self.titles = " AND ".join(filter(None, [kind, parts and f"title : ({parts}){rest}"]))
        self.first = 0 if since is None else first_number(_day(since, "since"))
        self.last = 1 << 62 if until is None else last_number(_day(until, "until"))
        if self.first > self.last:
            raise PaperError(
                f"since {since} lies behind until {until}", fix="swap them, or leave one of them out"
            )

    def newest(self, db: sqlite3.Connection, expression: str, limit: int) -> list[int]:
        """The numbers of the papers that match, the newest first."""
        table, condition, bound = self._matching(expression)
        select = f"SELECT rowid FROM {table} WHERE {condition} ORDER BY rowid DESC LIMIT ?"
        return [n for (n,) in db.execute(select, [*bound, limit])]

    def count(self, db: sqlite3.Connection) -> int:
        """How many papers match, or `_COUNTED`."""
        table, condition, bound = self._matching(self.everywhere)
        select = f"SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {condition} LIMIT ?)"
        (row,) = db.execute(select, [*bound, _COUNTED])
        return int(row[0])

    def _matching(self, expression: str) -> tuple[str, str, list[str | int]]:
        span: list[str | int] = [self.first, self.last]
        if expression:
            return "words", "words MATCH ? AND rowid BETWEEN ? AND ?", [expression, *span]
        return "papers", "rowid BETWEEN ? AND ?", span


def _ranked(db: sqlite3.Connection, query: _Query, wanted: int) -> tuple[list[int], bool]:
    """The numbers of the best papers, as many as are wanted or more, and whether there are no others."""
    if not query.words:
        newest = query.newest(db, query.everywhere, wanted)
        return newest, len(newest) < wanted
    depth = max(wanted, _RANKED)
    ranked = _by_relevance(db, query.newest(db, query.titles, depth), query.words)
    if len(ranked) >= wanted:
        return ranked, False
    titles = set(ranked)
    newest = query.newest(db, query.everywhere, depth + len(titles))
    ranked += _by_relevance(db, [n for n in newest if n not in titles], query.words)
    return ranked, len(newest) < depth + len(titles)


def _by_relevance(db: sqlite3.Connection, numbers: list[int], words: list[re.Pattern[str]]) -> list[int]:
    """The first of the numbers in the order of their texts; sorting keeps the newer of equals in front."""
    head = numbers[:_RANKED]
    marks = ", ".join("?" * len(head))
    texts = db.execute(f"SELECT n, title, abstract FROM papers WHERE n IN ({marks})", head)
    scores = {n: _relevance(words, title, abstract) for n, title, abstract in texts}
    return sorted(head, key=lambda n: scores[n], reverse=True) + numbers[_RANKED:]


def _relevance(words: list[re.Pattern[str]], title: str, abstract: str) -> tuple[int, int]:
    """How many of the words the title has, and how often the abstract has any."""
    title, abstract = title.lower(), abstract.lower()
    return sum(bool(w.search(title)) for w in words), sum(len(w.findall(abstract)) for w in words)


def _pattern(part: str) -> re.Pattern[str]:
    """A word, or words side by side, and not within a longer one.

    What may not stand before the first is asked after it: a pattern that begins with letters is searched
    eight times as fast as one that begins with a word's border.
    """
    first, *rest = re.findall(r"[^\W_]+", part.lower())
    return re.compile(
        rf"{first}(?<![^\W_]{first})" + "".join(rf"[\W_]+{word}" for word in rest) + r"(?![^\W_])"
    )


def _paper(db: sqlite3.Connection, n: int) -> Record:
    return record_of(*db.execute("SELECT * FROM papers WHERE n = ?", [n]).fetchone())


def _parts(words: str) -> tuple[list[str], list[str]]:
    """The words and phrases that must be there, and those that must not; without letters a part is none."""
    wanted: dict[str, None] = {}
    unwanted: dict[str, None] = {}
    for minus, phrase, word in _PART.findall(words):
        part = phrase or word
        if any(char.isalnum() for char in part):
            (unwanted if minus or word.startswith("-") else wanted)[part] = None
    return list(wanted), list(unwanted)


def _quoted(part: str) -> str:
    """A part as a string of FTS5, within which nothing has a meaning."""
    return f'"{part.replace(chr(34), " ")}"'


def _category(name: str) -> str:
    archive, _, part = name.strip().lower().removesuffix(".*").partition(".")
    if archive not in ARCHIVES:
        raise PaperError(
            f"{name!r} is in no archive of arXiv{nearest(archive, sorted(ARCHIVES))}",
            fix="name a category such as cs.CV, or an archive such as cs",
        )
    return category_word(f"{archive}.{part}" if part else archive)


def _day(text: str, name: Literal["since", "until"]) -> date:
    """The first day that a date names, or the last where it is the end of a span."""
    form = re.fullmatch(r"(\d{4})(?:-(\d{2}))?(?:-(\d{2}))?", text.strip(), re.ASCII)
    try:
        if form is None:
            raise ValueError
        year, month = int(form[1]), int(form[2] or ("01" if name == "since" else "12"))
        last = calendar.monthrange(year, month)[1]
        return date(year, month, int(form[3] or (1 if name == "since" else last)))
    except ValueError:
        raise PaperError(
            f"{text!r} is no date", fix="write 2025, 2025-03 or 2025-03-14", where=name
        ) from None
