"""claimbook's discovery over a metadata snapshot: built, then asked. Prints one JSON object.

python on_discover.py SNAPSHOT FOLDER < questions
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from claimbook.papers.discover import build, search
from claimbook.workspace import Workspace


def peak_memory() -> float:
    """Resident memory of this process at its highest, MiB; what getrusage tells may be its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main(snapshot: Path, folder: Path) -> dict[str, Any]:
    """What building took, and the answers with their times in milliseconds."""
    workspace = Workspace(folder)
    begin = time.perf_counter()
    build(workspace, [snapshot])
    seconds = time.perf_counter() - begin
    peak = peak_memory()
    answers = []
    for question in json.load(sys.stdin):
        words = " ".join(f'"{part}"' for part in question["parts"])
        filters = {name: question[name] for name in ("category", "since", "until")}
        times = []
        for _ in range(question["times"]):
            begin = time.perf_counter()
            found = search(workspace, words, limit=20, **filters)
            times.append((time.perf_counter() - begin) * 1000)
        answers.append({"ms": times, "total": found.total, "ids": [paper.id for paper in found.papers]})
    size = sum(file.stat().st_size for file in workspace.cache.iterdir())
    return {"seconds": seconds, "megabytes": size / 1e6, "peak": peak, "answers": answers}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]))))
