"""Words as full-text search sees them. Knows nothing of SQL, files or records.

Words are NFC-normalised and case-folded. Chinese, Japanese and Korean have compounds and particles that no
space sets apart, so a run of their characters becomes overlapping pairs: 이미지검색 is stored as 이미, 미지,
지검, 검색, 색. The lone last character lets a one-syllable query, a prefix, find every syllable of the run.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

_CJK = "\u1100-\u11ff\u3040-\u318f\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff"
_RUN = re.compile(rf"(?P<pairs>[{_CJK}]+)|[^\W_{_CJK}]+")
_IS_CJK = re.compile(f"[{_CJK}]")
_AROUND = 60
"""Characters that a snippet shows before and after the word found."""


def fold(text: str) -> str:
    """A text in the form in which two spellings of it are equal: NFC, case-folded."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def tokens(text: str) -> list[str]:
    """What is stored of a text for the search, in its order."""
    found: list[str] = []
    for run in _RUN.finditer(fold(text)):
        found += [*_pairs(run[0]), run[0][-1]] if run["pairs"] else [run[0]]
    return found


def match_all(text: str) -> str | None:
    """An FTS5 expression for texts that hold every word of `text`; None when there is no letter in it.

    A Latin word must be there whole, the last one may be the beginning of a word; a Korean one may stand
    anywhere inside a compound. Nothing of the text is read as FTS5 syntax.
    """
    phrases = [phrase for word in text.split() if (phrase := _phrase(word))]
    return (
        " AND ".join(
            f'"{words}" *'
            if ends == "syllable" or (ends == "word" and number == len(phrases))
            else f'"{words}"'
            for number, (words, ends) in enumerate(phrases, start=1)
        )
        or None
    )


def match_any(text: str) -> str | None:
    """An FTS5 expression for texts that share a word of `text`; None when there is no letter in it."""
    words = sorted(shared_words(text))
    return " OR ".join(f'"{word}"' for word in words) or None


def shared_words(text: str) -> set[str]:
    """The words of a text by which two texts resemble each other.

    Lone syllables are none of them, nor Latin words of up to three letters: articles and prepositions.
    """
    return {token for token in tokens(text) if len(token) > (1 if _IS_CJK.match(token) else 3)}


def snippet(text: str, query: str) -> str:
    """The part of a text around the longest word of a query that stands in it, on one line."""
    flat = " ".join(unicodedata.normalize("NFC", text).split())
    words = sorted((run[0] for run in _RUN.finditer(fold(query))), key=len, reverse=True)
    found = (re.search(re.escape(word), flat, re.IGNORECASE) for word in words)
    middle = next((place.start() for place in found if place), 0)
    start, end = max(0, middle - _AROUND), min(len(flat), middle + _AROUND)
    return ("…" if start else "") + flat[start:end].strip() + ("…" if end < len(flat) else "")


def _pairs(run: str) -> list[str]:
    return [run[i : i + 2] for i in range(len(run) - 1)]


def _phrase(word: str) -> tuple[str, Literal["word", "pairs", "syllable"]] | None:
    """The tokens of one word of a query, and what the last of them is."""
    runs = list(_RUN.finditer(fold(word)))
    if not runs:
        return None
    *before, last = runs
    words = [token for run in before for token in tokens(run[0])]
    if not last["pairs"]:
        return " ".join([*words, last[0]]), "word"
    # within a longer run a pair follows the last pair, so the lone last syllable is left out
    pairs = _pairs(last[0])
    return " ".join([*words, *(pairs or [last[0]])]), "pairs" if pairs else "syllable"
