"""claimbook: from a paper's claim to a verdict that anyone would accept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from claimbook.session import Session, start

__all__ = ["Session", "__version__", "start"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load the session only when it is asked for, so that `import claimbook` costs next to nothing."""
    if name in ("Session", "start"):
        from claimbook import session

        return getattr(session, name)
    raise AttributeError(f"module 'claimbook' has no attribute {name!r}")
