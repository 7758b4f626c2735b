"""The library of papers: which files make a paper, and the paper that they make.

Knows nothing of experiments, of how a paper is judged or shown.
"""

from claimbook.papers.library import library, load

__all__ = ["library", "load"]
