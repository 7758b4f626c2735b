"""Discovery at 100,000 papers: claimbook's index on SQLite FTS5 beside tantivy, built and asked.

    .venv/bin/python tests/benchmarks/discover.py [PAPERS]

The papers are those of CLAIMBOOK_TEST_DATA, over and over with other ids, on days from 2015 to 2025, every
seventh word exchanged for one of another abstract. Each engine is a process of its own (tantivy from
.venv-peers/tantivy) that builds once and answers each question ten times, of which the first does not count.
The snapshot was just written: it is read from memory, not from a disk. Last comes quality: how many of 500
real papers stand among the first 20 when words of their title or abstract are searched among the real ones.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

PAPERS = 100_000
TIMES = 9
KNOWN = 500
HERE = Path(__file__).parent
ENGINES = {
    "FTS5": (Path(sys.executable), "on_discover.py"),
    "tantivy": (HERE.parent.parent / ".venv-peers" / "tantivy" / "bin" / "python", "on_tantivy.py"),
}
FIRST, LAST = date(2015, 1, 1), date(2025, 10, 1)
SPAN = {"since": "2020-01-01", "until": "2020-03-31"}

QUESTIONS: dict[str, tuple[list[str], dict[str, str]]] = {
    "selective: calibration": (["calibration"], {}),
    "selective: sigmoid, loss": (["sigmoid", "loss"], {}),
    "very common: we": (["we"], {}),
    "very common: the": (["the"], {}),
    "very common: model": (["model"], {}),
    "common and common: language, images": (["language", "images"], {}),
    "very common and very common: the, model": (["the", "model"], {}),
    "selective and very common: the, calibration": (["the", "calibration"], {}),
    "phrase: vision language": (["vision language"], {}),
    "phrase of very common words: of the": (["of the"], {}),
    "rare phrase of common words: images language": (["images language"], {}),
    "in a common category: model, cs.CV": (["model"], {"category": "cs.CV"}),
    "in a rare archive: the, q-bio": (["the"], {"category": "q-bio"}),
    "within three months: model": (["model"], SPAN),
    "category and dates: the, model": (["the", "model"], {"category": "cs.CV", **SPAN}),
}


def main(papers: int, folder: Path) -> None:
    """Build, ask and print."""
    real = real_records()
    console = Console()
    console.width = max(console.width, 150)  # a pipe has no width to fold to
    snapshot = folder / "snapshot.jsonl"
    console.print(f"writing {papers:,} papers …")
    write_snapshot(snapshot, replicated(real, papers))
    console.print(f"{snapshot.stat().st_size / 1e6:,.0f} MB of JSON Lines", highlight=False)
    questions = [question(parts, TIMES + 1, **filters) for parts, filters in QUESTIONS.values()]
    results = {name: measured(name, snapshot, folder / name, questions) for name in ENGINES}
    results = {name: result for name, result in results.items() if result}
    for table in (costs(results), answers(results)):
        console.print(table)
    console.print(f"FTS5 from a shell: {from_shell(folder):.0f} ms", highlight=False)
    write_snapshot(snapshot, (as_published(record, record["id"], day_of(record)) for record in real))
    console.print(quality(real, snapshot, folder, list(results)))


def real_records() -> list[dict[str, Any]]:
    """The records that lie beside the checkout."""
    named = os.environ.get("CLAIMBOOK_TEST_DATA")
    if not named:
        sys.exit("set CLAIMBOOK_TEST_DATA to the folder that has arxiv/records.jsonl.gz")
    with gzip.open(Path(named) / "arxiv" / "records.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def replicated(real: list[dict[str, Any]], papers: int) -> Iterable[dict[str, Any]]:
    """So many papers in arXiv's own form, in the order of their ids."""
    draw = random.Random(0)
    pool = [word for record in real for word in record["abstract"].split()]
    days = (LAST - FIRST).days
    in_month: dict[str, int] = {}

    def varied(text: str) -> str:
        words = text.split()
        return " ".join(draw.choice(pool) if draw.random() < 1 / 7 else word for word in words)

    for number in range(papers):
        day = FIRST + timedelta(days=number * days // papers)
        month = f"{day:%y%m}"
        in_month[month] = in_month.get(month, 0) + 1
        record = draw.choice(real)
        other = {**record, "title": varied(record["title"]), "abstract": varied(record["abstract"])}
        yield as_published(other, f"{month}.{in_month[month]:05d}", day)


def as_published(record: dict[str, Any], identity: str, day: date) -> dict[str, Any]:
    """A record with the fields of arXiv's snapshot."""
    return {
        "id": identity,
        "submitter": record["authors"][0],
        "authors": ", ".join(record["authors"]),
        "title": record["title"],
        "comments": record["comment"],
        "journal-ref": None,
        "doi": None,
        "report-no": None,
        "categories": " ".join(name for name in record["categories"] if re.fullmatch(r"[a-z][\w.-]+", name)),
        "license": None,
        "abstract": f"  {record['abstract']}\n",
        "versions": [{"version": "v1", "created": f"{day:%a, %d %b %Y} 12:00:00 GMT"}],
        "update_date": day.isoformat(),
        "authors_parsed": [[name.split()[-1], " ".join(name.split()[:-1]), ""] for name in record["authors"]],
    }


def day_of(record: dict[str, Any]) -> date:
    """When a real paper was published."""
    return date.fromisoformat(record["published"][:10])


def write_snapshot(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """JSON Lines."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


def question(
    parts: list[str],
    times: int,
    category: str | None = None,
    since: str | None = None,
    until: str | None = None,
) -> dict[str, Any]:
    """What the workers are asked."""
    return {"parts": parts, "category": category, "since": since, "until": until, "times": times}


def measured(name: str, snapshot: Path, folder: Path, questions: list[Any]) -> dict[str, Any] | None:
    """What an engine's process tells of itself; None when it is not installed."""
    python, script = ENGINES[name]
    if not python.exists():
        print(f"{name} is not installed: {python} is missing, `make peers` makes it")
        return None
    folder.mkdir(parents=True, exist_ok=True)
    command = [python, HERE / "workers" / script, snapshot, folder]
    done = subprocess.run(command, input=json.dumps(questions), stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def costs(results: dict[str, dict[str, Any]]) -> Table:
    """What building took."""
    table = Table("building", *results)
    for label, key in (("seconds", "seconds"), ("MB on disk", "megabytes"), ("MB of memory, peak", "peak")):
        table.add_row(label, *(f"{result[key]:,.0f}" for result in results.values()))
    return table


def answers(results: dict[str, dict[str, Any]]) -> Table:
    """Median and worst of each question, and how many papers match."""
    columns = [f"{name}: {what}" for name in results for what in ("median", "worst", "found")]
    table = Table("ms", *columns, *(["ratio of medians"] if len(results) > 1 else []))
    for number, name in enumerate(QUESTIONS):
        row, medians = [name], []
        for result in results.values():
            answer = result["answers"][number]
            times = answer["ms"][1:]
            medians.append(statistics.median(times))
            row += [f"{medians[-1]:.1f}", f"{max(times):.1f}", f"{answer['total']:,}"]
        table.add_row(*row, *([f"{medians[0] / medians[1]:.2f}"] if len(medians) > 1 else []))
    return table


def from_shell(folder: Path) -> float:
    """Median milliseconds of a whole `claimbook discover search`, Python's start included."""
    root = folder / "FTS5"
    (root / "pyproject.toml").write_text("[tool.claimbook]\n")
    verb = "from claimbook.cli.discover import discover; discover()"
    command = [sys.executable, "-c", verb, "search", "calibration", "--ids"]
    times = []
    for _ in range(TIMES):
        begin = time.perf_counter()
        subprocess.run(command, cwd=root, check=True, stdout=subprocess.DEVNULL)
        times.append((time.perf_counter() - begin) * 1000)
    return statistics.median(times)


def quality(real: list[dict[str, Any]], snapshot: Path, folder: Path, engines: list[str]) -> Table:
    """How often a paper is found again by some of its words, and the mean of 1 / place."""
    draw = random.Random(1)
    known = draw.sample(real, KNOWN)
    kinds = {
        "two words of the title": ("title", 2),
        "three words of the title": ("title", 3),
        "five words of the abstract": ("abstract", 5),
    }
    questions = [
        question(some_words(record[field], count, draw), 1)
        for field, count in kinds.values()
        for record in known
    ]
    table = Table(f"{KNOWN} papers found again", *engines)
    results = {name: measured(name, snapshot, folder / f"{name}-real", questions) for name in engines}
    for number, kind in enumerate(kinds):
        row = [kind]
        for result in results.values():
            assert result
            own = result["answers"][number * KNOWN : (number + 1) * KNOWN]
            places = [
                answer["ids"].index(record["id"]) + 1
                for record, answer in zip(known, own, strict=True)
                if record["id"] in answer["ids"]
            ]
            row.append(f"{len(places) / KNOWN:.1%} in 20, 1/place {sum(1 / p for p in places) / KNOWN:.3f}")
        table.add_row(*row)
    return table


def some_words(text: str, count: int, draw: random.Random) -> list[str]:
    """Words of four letters and more, or all there are."""
    words = sorted(set(re.findall(r"[a-z]{4,}", text.lower())))
    return draw.sample(words, min(len(words), count))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else PAPERS, Path(temporary))
