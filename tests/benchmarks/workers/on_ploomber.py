"""ploomber-engine as a library: one process, and all notebooks are executed inside it.

    python on_ploomber.py SITE_PACKAGES

What a notebook imports stays imported for the next one, as does all else that it leaves behind. torch
and the rest come from SITE_PACKAGES, so that every peer reads the same files.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Any

from executor import serve
from ploomber_engine import execute_notebook


def execute(notebook: str, output: str, parameters: dict[str, Any]) -> None:
    """As ploomber-engine's documentation shows it."""
    execute_notebook(notebook, output, parameters=parameters, progress_bar=False)


if __name__ == "__main__":
    sys.path.append(sys.argv[1])  # behind its own
    serve(f"ploomber-engine {version('ploomber-engine')}", execute)
