"""claimbook: from a paper's claim to a verdict that anyone would accept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from claimbook.papers.ids import ArxivId
    from claimbook.session import Session, start

__all__ = ["ArxivId", "Session", "__version__", "start"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load a name only when it is asked for, so that `import claimbook` costs next to nothing."""
    if name == "ArxivId":
        from claimbook.papers.ids import ArxivId

        return ArxivId
    if name in ("Session", "start"):
        from claimbook import session

        return getattr(session, name)
    raise AttributeError(f"module 'claimbook' has no attribute {name!r}")
