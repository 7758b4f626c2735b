"""The index of the log: SQLite built from the files, to query, search and compare. A cache, never the truth.

    from claimbook import index

    index.runs("metric.recall@1 > 0.4 and status = finished")     # a pandas frame, from a notebook

Knows nothing of how runs are made or judged. `query` is the language, `sql` turns it into SQL, `text` cuts
text into words, `build` brings files into tables, `store` is what is asked, `compare` puts arms side by side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from claimbook.index.build import Refreshed
from claimbook.index.compare import Comparison, compare
from claimbook.index.mounts import is_network
from claimbook.index.store import Hit, Index, Page, Wear

if TYPE_CHECKING:
    import pandas

__all__ = ["Comparison", "Hit", "Index", "Page", "Refreshed", "Wear", "compare", "is_network", "runs"]


def runs(query: str = "") -> pandas.DataFrame:
    """The runs of the workspace around the current folder that a query finds, a row each.

    Raises WorkspaceError outside a workspace, QueryError when the query cannot be read.
    """
    from claimbook import workspace

    with Index.open(workspace.find()) as index:
        return index.frame(query)
