"""Papers that are not in the library yet: a local index over the metadata snapshot that arXiv publishes.

snapshot    what a line of the snapshot says
index       the SQLite file that is built from it
search      words, category and dates to papers, the best first

Knows nothing of the library and asks no network.

SQLite FTS5 was chosen over tantivy 0.27 with tests/benchmarks/discover.py, fifteen kinds of questions.
Medians at 100,000 papers: 3 to 16 ms, tantivy 0.2 to 16; at a million: 5 to 16 ms and 86 for a rare phrase of
common words, tantivy 2 to 39 and 186 for a phrase of very common ones. FTS5 compares the newest of many: it
takes no longer for more of them; tantivy ranks them all, and both find known papers about as often. Projected
to 3 million: very common words as before, the rare phrase 0.3 s, 7.6 GB, 16 minutes to build. FTS5 comes with
Python, and what was read of a file is one transaction with the place in it.
"""

from claimbook.papers.discover.index import Built, Progress, build
from claimbook.papers.discover.search import Found, search
from claimbook.papers.discover.snapshot import Complaint, Record

__all__ = ["Built", "Complaint", "Found", "Progress", "Record", "build", "search"]
