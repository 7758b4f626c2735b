"""Papers that are not in the library yet: a local index over the metadata snapshot that arXiv publishes.

snapshot    what a line of the snapshot says
index       the SQLite file that is built from it
search      words, category and dates to papers, the best first

Knows nothing of the library and asks no network.

SQLite FTS5 was chosen over tantivy 0.27 with tests/benchmarks/discover.py. Medians over fifteen kinds of
questions: 2 to 15 ms at 100,000 papers (tantivy 0.2 to 16), 8 to 20 ms at a million, but 89 for a rare
phrase of common words (tantivy 1 to 56, and 212 for a phrase of very common ones). FTS5 takes the newest of
many, where tantivy ranks them all, and finds a known paper as well. By this measure, at 3 million very
common words stay where they are, the rare phrase takes 0.3 s, and the index 7.6 GB. It is part of Python,
and what was read of a file is one transaction with the place in it.
"""

from claimbook.papers.discover.index import Built, Progress, build
from claimbook.papers.discover.search import Found, search
from claimbook.papers.discover.snapshot import Complaint, Record

__all__ = ["Built", "Complaint", "Found", "Progress", "Record", "build", "search"]
