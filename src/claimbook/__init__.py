"""claimbook: from a paper's claim to a verdict that anyone would accept."""

__version__ = "0.1.0"
