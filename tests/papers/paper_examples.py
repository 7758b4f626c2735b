"""Papers for tests: what arXiv would say of them, and a note as only a person writes one."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from claimbook.papers.ids import ArxivId
from claimbook.papers.metadata import metadata
from claimbook.papers.outcomes import Entry
from claimbook.workspace import Workspace, write_json

THEN = datetime(2026, 11, 24, 1, 28, tzinfo=UTC)

HAND_WRITTEN = (
    "\ufeff---\r\n"
    "# 손으로 고친 노트 🙂  \r\n"
    "status:   reading   # 이번 주\r\n"
    'id: "2303.15343"\r\n'
    "tags:\r\n"
    "- 손실   # 왜?\r\n"
    "-   'pre-training'\r\n"
    "claims:\r\n"
    "  - {id: small-batch, text: 'It''s better: at 32', metric: \"recall@1\"}\r\n"
    "  - id: batch-32k\r\n"
    "    metric: recall@1\r\n"
    "    text: >-   # status: read\r\n"
    "      the upper\r\n"
    "\r\n"
    "      curve\r\n"
    "\r\n"
    "---   \r\n"
    "# SigLIP\t\r\n"
    "## 문제\n"
    "섞인 줄바꿈, 끝 공백  \r\n"
    "no newline at the end"
).encode()
"""Comments, odd YAML, Korean, a byte order mark, both line ends, blanks behind lines."""


def entry(number: str = "2303.15343", version: int = 1, **fields: Any) -> Entry:
    """What arXiv says of a version of a paper."""
    usual: dict[str, Any] = {
        "title": "Sigmoid Loss for Language Image Pre-Training",
        "authors": ("Xiaohua Zhai", "Lucas Beyer"),
        "abstract": "We propose a simple pairwise sigmoid loss.",
        "categories": ("cs.CV", "cs.AI"),
        "published": "2023-03-27",
        "updated": f"2023-09-{version:02}",
        "comment": None,
        "journal_ref": None,
        "doi": None,
        "has_pdf": True,
    }
    return Entry(id=ArxivId(number, version), **{**usual, **fields})


def put(
    workspace: Workspace,
    slug: str,
    *,
    note: bytes | str = HAND_WRITTEN,
    number: str = "2303.15343",
    **fields: Any,
) -> Path:
    """A paper as it lies in a library; returns its folder."""
    folder = workspace.papers / slug
    folder.mkdir(parents=True)
    changes = {name: fields.pop(name) for name in ("source", "links", "fetched_at") if name in fields}
    meta = msgspec.structs.replace(metadata(entry(number, **fields), THEN), **changes)
    write_json(folder / "meta.json", msgspec.to_builtins(meta))
    (folder / "README.md").write_bytes(note if isinstance(note, bytes) else note.encode())
    return folder
