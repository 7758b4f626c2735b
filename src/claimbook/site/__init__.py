"""The study group's pages: records and executed notebooks to static HTML that opens from file://.

Knows nothing of how runs are made or judged; what it shows it reads from the files. No page holds a script,
asks the network for anything, or contains HTML that was not cleaned.
"""

from claimbook.site.build import Built, build

__all__ = ["Built", "build"]
