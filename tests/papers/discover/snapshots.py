"""Records as the two forms of a snapshot have them, and files of them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# the first record of arXiv's snapshot
FIRST: dict[str, Any] = {
    "id": "0704.0001",
    "submitter": "Pavel Nadolsky",
    "authors": "C. Bal\\'azs, E. L. Berger, P. M. Nadolsky, C.-P. Yuan",
    "title": "Calculation of prompt diphoton production cross sections at Tevatron and\n  LHC energies",
    "comments": "37 pages, 15 figures; published version",
    "journal-ref": "Phys.Rev.D76:013009,2007",
    "doi": "10.1103/PhysRevD.76.013009",
    "report-no": "ANL-HEP-PR-07-12",
    "categories": "hep-ph",
    "license": None,
    "abstract": "  A fully differential calculation in perturbative quantum chromodynamics is\npresented.\n",
    "versions": [
        {"version": "v1", "created": "Mon, 2 Apr 2007 19:18:42 GMT"},
        {"version": "v2", "created": "Tue, 24 Jul 2007 20:10:27 GMT"},
    ],
    "update_date": "2008-11-26",
    "authors_parsed": [
        ["Balázs", "C.", ""],
        ["Berger", "E. L.", ""],
        ["Nadolsky", "P. M.", ""],
        ["Yuan", "C. -P.", ""],
    ],
}


def paper(number: str = "2103.00020", **fields: Any) -> dict[str, Any]:
    """A short record in the form with lists."""
    return {
        "id": number,
        "title": "Learning Transferable Visual Models",
        "authors": ["Alec Radford", "Jong Wook Kim"],
        "abstract": "State-of-the-art vision systems are trained to predict categories.",
        "categories": ["cs.CV", "cs.LG"],
        "published": "2021-02-26 19:04:58",
        **fields,
    }


def many(count: int) -> list[dict[str, Any]]:
    """Records with ids from 2001.00001 on; the words of each tell its number."""
    return [
        paper(
            f"2001.{n + 1:05d}",
            title=f"Paper {n} of a series",
            abstract=f"It says n{n} and {'even' if n % 2 == 0 else 'odd'}.",
            published=f"2020-01-{n % 28 + 1:02d}",
        )
        for n in range(count)
    ]


def write(path: Path, records: Iterable[dict[str, Any] | str]) -> Path:
    """A file of records, gzipped where it is called so; a text becomes a line as it is."""
    lines = [line if isinstance(line, str) else json.dumps(line) for line in records]
    data = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path
