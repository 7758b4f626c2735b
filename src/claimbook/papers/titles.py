"""A paper's title in other forms: a slug, Markdown that shows it as it is, titles that resemble a query.

Knows nothing of files.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Container, Mapping

_WORDS = 4
_LONGEST = 40
"""Words and characters of a slug that is made from the beginning of a title."""
_LINKS = {
    "a", "an", "and", "as", "at", "by", "for", "from", "in", "is", "of", "on", "or", "the", "to", "with",
}  # fmt: skip
"""Words that no slug ends with."""
_NAME_WORDS = 3
"""Words before a colon that are still a name, as in `BLIP-2: Bootstrapping …`."""
_ACRONYM = re.compile(r"\(([A-Za-z]*[A-Z][A-Za-z0-9-]*[A-Z][A-Za-z0-9-]*)\)")
_MARKUP = re.compile(r"[\\`*_\[\]<>|~$&#]|:(?=//)|(?<=www)\.")
"""What Markdown reads as more than a character within a line; the last two begin links of GitHub's."""
_ONE_SLIP, _TWO_SLIPS = 3, 7
"""Letters from which on a word may be one slip away, and two. Lucene's fuzzy queries allow the second from
six on; but Hangul is counted by its letters, and two of six may be another word (학습, 학생)."""


def slug_of(title: str, number: str, taken: Container[str] = ()) -> str:
    """A short name for a paper's folder.

    The name before the title's colon, an acronym in brackets, or the first four words; `arxiv-2103-00020` for
    a title without Latin letters. A name that is taken gets a number behind it.
    """
    name, colon, _ = title.partition(":")
    words = _latin_words(name)
    if not colon or not 0 < len(words) <= _NAME_WORDS:
        acronym = _ACRONYM.search(title)
        words = _latin_words(acronym[1]) if acronym else _latin_words(title)[:_WORDS]
    while len(words) > 1 and (len("-".join(words)) > _LONGEST or words[-1] in _LINKS):
        words.pop()
    slug = "-".join(words)[:_LONGEST]
    if not re.search("[a-z]", slug):
        slug = "-".join(["arxiv", *_latin_words(number)])
    numbered = (f"{slug}-{count}" for count in itertools.count(2))
    return slug if slug not in taken else next(other for other in numbered if other not in taken)


def as_markdown(text: str) -> str:
    """A text that Markdown, also in a table of GitHub's, shows on one line and letter by letter.

    Control characters and marks of direction are left out.
    """
    visible = "".join(letter for letter in text if letter.isprintable() or letter.isspace())
    return _MARKUP.sub(r"\\\g<0>", " ".join(visible.split()))


def resembling_titles(query: str, titles: Mapping[str, str]) -> list[str]:
    """The slugs of the papers whose title or slug holds every word of a query but for slips, best first.

    titles: by slug. A slip is a letter too many, too few, another one, or two swapped.
    """
    from rapidfuzz import process
    from rapidfuzz.distance import OSA

    holders: dict[str, set[str]] = {}
    for slug, title in titles.items():
        for word in _spelt(f"{title} {slug}"):
            holders.setdefault(word, set()).add(slug)
    words = list(holders)
    found: dict[str, int] | None = None
    for wanted in set(_spelt(query)):
        slips: dict[str, int] = {}
        allowed = (len(wanted) >= _ONE_SLIP) + (len(wanted) >= _TWO_SLIPS)
        for word, distance, _ in process.extract(
            wanted, words, scorer=OSA.distance, score_cutoff=allowed, limit=None
        ):
            for slug in holders[word]:
                slips[slug] = min(int(distance), slips.get(slug, allowed))
        found = slips if found is None else {slug: found[slug] + slips[slug] for slug in found.keys() & slips}
    return sorted(found or {}, key=lambda slug: ((found or {})[slug], titles[slug], slug))


def _latin_words(text: str) -> list[str]:
    """Words of a to z and digits; accents are taken off, other scripts left out."""
    bare = unicodedata.normalize("NFKD", text.casefold()).encode("ascii", "ignore").decode()
    return re.findall(r"[a-z0-9]+", bare.replace("'", ""))


def _spelt(text: str) -> list[str]:
    """Words by their letters: case and accents aside, Hangul syllables taken apart."""
    folded = text.casefold()
    if not folded.isascii():
        apart = unicodedata.normalize("NFKD", folded)
        folded = "".join(letter for letter in apart if not unicodedata.combining(letter))
    return re.findall(r"[^\W_]+", folded)
