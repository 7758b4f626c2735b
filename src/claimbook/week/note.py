"""What a reading note lacks: which of its seven sections are missing or empty.

The sections are the note's level-two headings, in whatever words and language; the words known here only
serve to say which one is missing. Knows nothing of front matter or of where the note lies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from claimbook.papers.scaffold import HEADINGS

_SECTIONS = HEADINGS["en"]
# place in it and words; the more telling first, since "How similar problems were solved" names a problem too
_KNOWN_BY = (
    (3, r"similar|비슷|유사"),
    (2, r"tried|before|prior|related|기존|시도|선행"),
    (1, r"hard|difficult|challenge|어려|난점|난관"),
    (5, r"verif|benchmark|evaluat|검증|평가"),
    (6, r"service|서비스|적용"),
    (4, r"method|approach|방법"),
    (0, r"problem|문제"),
)
_COMMENT = re.compile(r"(?<!\\)<!--.*?(?:-->|\Z)", re.DOTALL)


def lacks(body: str) -> str | None:
    """What keeps a note, Markdown without front matter, from being filled in; None when nothing does.

    It is filled in when it has at least seven sections and none of them is empty.
    """
    sections = list(_sections(body))
    empty = [heading or "a heading without words" for heading, filled in sections if not filled]
    complaints = []
    if len(sections) < len(_SECTIONS):
        complaints.append(f"{len(sections)} of {len(_SECTIONS)} sections{_without(sections)}")
    if empty:
        complaints.append(f"empty: {', '.join(empty)}")
    return "; ".join(complaints) or None


def _without(sections: list[tuple[str, bool]]) -> str:
    """Which sections are missing, where every heading that is there can be told."""
    there = {_recognised(heading) for heading, _ in sections}
    missing = [name for number, name in enumerate(_SECTIONS) if number not in there]
    told = sections and len(missing) == len(_SECTIONS) - len(sections)
    return f", missing: {', '.join(missing)}" if told else ""


def _recognised(heading: str) -> int | None:
    """The section that a heading begins, by its words; None for one of a person's own."""
    known = (number for number, words in _KNOWN_BY if re.search(words, heading, re.IGNORECASE))
    return next(known, None)


def _sections(body: str) -> Iterator[tuple[str, bool]]:
    """Each level-two heading, and whether text follows it; comments and lower headings are none."""
    from markdown_it import MarkdownIt

    heading: str | None = None
    filled = False
    tokens = MarkdownIt("commonmark").parse(body)
    for before, token in pairwise(tokens):
        if before.type != "heading_open":
            filled = filled or bool(re.search(r"\w", _COMMENT.sub("", token.content)))
        elif before.level == 0 and before.tag in ("h1", "h2"):
            if heading is not None:
                yield heading, filled
            heading, filled = (token.content if before.tag == "h2" else None), False
    if heading is not None:
        yield heading, filled
