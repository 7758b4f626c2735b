"""A peer that executes notebooks in a process of its own: one JSON line in, one JSON line out.

The first line out says what it is; then each `{"notebook", "output", "parameters"}` is answered with the
seconds that it took. The time is taken here, around the peer's own call. Knows no peer and only the standard
library, since it runs in each peer's own environment.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

Execute = Callable[[str, str, dict[str, Any]], None]
"""Notebook, output and parameters."""


def serve(versions: str, execute: Execute) -> None:
    """Execute what standard input asks for until it ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what notebooks print must not mix with the answers
    print(json.dumps({"versions": versions}), file=answers)
    for line in sys.stdin:
        job = json.loads(line)
        begin = time.perf_counter()
        execute(job["notebook"], job["output"], job["parameters"])
        print(json.dumps({"seconds": time.perf_counter() - begin}), file=answers)
