"""The library at 500 papers: searched, listed, added to. Its own speed, no peer beside it.

    .venv/bin/python tests/benchmarks/papers.py [PAPERS]

A paper has a title of eight words, an abstract of 150, two claims and a note of 600 words, every second one
in Korean, drawn from 4,000 invented words of which a few are common. A search is timed as `claimbook paper
search` makes it, from the words to the list, in a process in which the index is open: the median of 200. The
files lie in a temporary folder and were just written: they are read from memory.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from claimbook.cli.paper import found_papers
from claimbook.index import Index
from claimbook.papers import add, holdings, set_status, write_tables
from claimbook.papers.ids import ArxivId
from claimbook.papers.outcomes import Entry
from claimbook.workspace import Workspace

PAPERS = 500
SEARCHES = 200
VOCABULARY = 4_000
THEN = datetime(2026, 11, 24, tzinfo=UTC)


def main(papers: int = PAPERS) -> None:
    """Print what was timed: median and longest, in milliseconds."""
    draw = random.Random(0)
    words = {language: vocabulary(draw, language) for language in ("en", "ko")}
    with tempfile.TemporaryDirectory() as folder:
        space = Workspace(Path(folder))
        titles = [write_paper(space, number, draw, words) for number in range(papers)]
        with Index.open(space) as index:
            some = draw.choices(titles, k=SEARCHES)
            searches = {
                "search, a rare word": draw.choices(words["en"][VOCABULARY // 2 :], k=SEARCHES),
                "search, a common English word": draw.choices(words["en"][:5], k=SEARCHES),
                "search, a common Korean word": draw.choices(words["ko"][:5], k=SEARCHES),
                "search, three words of a title": [" ".join(title.split()[:3]) for title in some],
                "search, two words of a title misspelt": [slips(draw, title) for title in some],
            }
            for name, texts in searches.items():
                found = sum(bool(found_papers(index, text)) for text in texts[:20])
                report(name, [lambda text=text: found_papers(index, text) for text in texts], found)
        report("list all papers", [lambda: holdings(space)] * 3)
        report("write the tables, nothing new", [lambda: write_tables(space)] * 3)
        slug = next(space.papers.glob("*/README.md")).parent.name
        report("add a paper", [lambda number=n: new_paper(space, papers + number) for n in range(20)])
        changes = [lambda week=n: set_status(space, slug, "read", f"2026-W{week + 1:02}") for n in range(20)]
        report("change a note's status", changes)


def report(name: str, calls: list[Callable[[], object]], found: int | None = None) -> None:
    spent = []
    for call in calls:
        begin = time.perf_counter()
        call()
        spent.append((time.perf_counter() - begin) * 1000)
    note = "" if found is None else f"  {found} of 20 found something"
    print(f"{name:40s} {statistics.median(spent):9.2f} {max(spent):9.2f}{note}")


def vocabulary(draw: random.Random, language: str) -> list[str]:
    """Invented words, the common ones first."""
    if language == "ko":
        return ["".join(chr(draw.randrange(0xAC00, 0xD7A4)) for _ in range(3)) for _ in range(VOCABULARY)]
    return ["".join(draw.choices("etaoinsrhldcu", k=draw.randint(4, 11))) for _ in range(VOCABULARY)]


def sentence(draw: random.Random, words: list[str], length: int) -> str:
    """Words by Zipf's law: the n-th is drawn n times more rarely than the first."""
    return " ".join(draw.choices(words, [1 / (rank + 1) for rank in range(len(words))], k=length))


def write_paper(space: Workspace, number: int, draw: random.Random, words: dict[str, list[str]]) -> str:
    """A paper whose note a person has filled in; returns its title."""
    own = words["ko" if number % 2 else "en"]
    title = " ".join(draw.sample(words["en"], 8))
    slug = new_paper(space, number, title, sentence(draw, words["en"], 150))
    claims = "".join(
        f"  - {{id: c{n}, text: {sentence(draw, own, 12)}, metric: recall@1}}\n" for n in range(2)
    )
    path = space.papers / slug / "README.md"
    text = path.read_text("utf-8").replace("claims: []\n", f"claims:\n{claims}")
    path.write_text(text.replace("\n## ", f"\n{sentence(draw, own, 75)}\n\n## ") + sentence(draw, own, 75))
    return title


def new_paper(space: Workspace, number: int, title: str = "Another one", abstract: str = "") -> str:
    paper = ArxivId(f"2101.{number:05}", 1)
    entry = Entry(
        paper, title, ("A. Author",), abstract, ("cs.CV",), "2021-01-01", "2021-01-01", None, None, None, True
    )
    return add(space, entry, THEN).slug


def slips(draw: random.Random, title: str) -> str:
    """Two long words of a title, in each two letters swapped."""
    long = [word for word in title.split() if len(word) > 5][:2]
    places = [draw.randrange(1, len(word) - 2) for word in long]
    return " ".join(w[:p] + w[p + 1] + w[p] + w[p + 2 :] for w, p in zip(long, places, strict=True))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PAPERS)
