"""The library of papers: which files make a paper, how they come from arXiv, and what a person adds.

library        the folders: load, find, add, remove, status and tags
adding, sync   what arXiv is asked for, and how it gets into the library
client         arXiv's API, asked politely; `pace`, `transport`, `answers`, `cache` are its parts
outcomes       what can come of asking
ids, imports   what people paste and export
front_matter   a person's file, changed by line; `scaffold` is how it begins
tables         what is generated: an overview, BibTeX, CSL-JSON
drift          what rests on an older version
discover       arXiv's whole metadata, searched here

Knows nothing of how a paper is judged or shown.
"""

from claimbook.papers.library import (
    Added,
    Card,
    Holdings,
    add,
    catalogue,
    check_tag,
    experiments_on,
    find,
    holdings,
    library,
    load,
    remove,
    restore,
    set_status,
    tag,
    update,
)
from claimbook.papers.tables import write_tables

__all__ = [
    "Added",
    "Card",
    "Holdings",
    "add",
    "catalogue",
    "check_tag",
    "experiments_on",
    "find",
    "holdings",
    "library",
    "load",
    "remove",
    "restore",
    "set_status",
    "tag",
    "update",
    "write_tables",
]
