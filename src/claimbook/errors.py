"""What can go wrong, and how it is said. Knows nothing of files, papers or models.

    ClaimbookError
    ├── WorkspaceError     no workspace here, a lock is held, a name that cannot be a folder
    ├── RecordError        a file does not say what a file of its kind must say
    ├── PaperError         an id that is none, or arXiv did not give what was asked
    ├── ProductsError      a product set cannot be loaded whole
    ├── TechniqueError     a technique was asked for what it cannot do
    ├── SealError          a design that cannot be decided, or is not what was sealed
    ├── RunError           a run cannot be started or finished
    ├── JudgeError         the records do not allow a verdict
    ├── QueryError         a search of the log that cannot be read
    ├── ExchangeError      another tool refused, or cannot be reached
    └── SiteError          a page cannot be built

Every error names the place, the problem and the next step:

>>> print(RecordError("margin is -0.01", fix="write a number above 0", where="hypothesis.toml:7"))
hypothesis.toml:7: margin is -0.01
  what to do: write a number above 0
"""

from __future__ import annotations

from pathlib import Path


class ClaimbookError(Exception):
    """Base of all errors that a user can act on.

    problem: one sentence; fix: the next step, one sentence; where: file (and line) or field.
    """

    def __init__(self, problem: str, *, fix: str, where: str | Path | None = None) -> None:
        self.problem = problem
        self.fix = fix
        self.where = None if where is None else str(where)
        place = "" if where is None else f"{where}: "
        super().__init__(f"{place}{problem}\n  what to do: {fix}")


class WorkspaceError(ClaimbookError):
    """No workspace here, a lock is held, or a name cannot be a folder's."""


class RecordError(ClaimbookError):
    """A file does not say what a file of its kind must say; `where` is file:line or file: field."""


class PaperError(ClaimbookError):
    """A text that is no arXiv id, or a paper that arXiv did not give; the library is what it was."""


class ProductsError(ClaimbookError):
    """A product set cannot be loaded whole; nothing was loaded."""


class TechniqueError(ClaimbookError):
    """A technique or an encoder was asked for what it cannot do."""


class SealError(ClaimbookError):
    """A design that cannot be decided, or a state that is not the sealed one."""


class RunError(ClaimbookError):
    """A run cannot be started, or cannot be finished as it was asked."""


class JudgeError(ClaimbookError):
    """The records do not allow a verdict yet."""


class QueryError(ClaimbookError):
    """A search of the log that cannot be read; `where` shows the place in it."""


class ExchangeError(ClaimbookError):
    """Another tool refused records, or cannot be reached; what was sent before stays sent."""


class SiteError(ClaimbookError):
    """A page cannot be built."""
