"""papermill as a library: one process, a kernel for each notebook."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import papermill
from executor import serve


def execute(notebook: str, output: str, parameters: dict[str, Any]) -> None:
    """As papermill's documentation shows it."""
    papermill.execute_notebook(notebook, output, parameters=parameters, progress_bar=False)


if __name__ == "__main__":
    serve(f"papermill {version('papermill')}, ipykernel {version('ipykernel')}", execute)
