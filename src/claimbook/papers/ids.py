"""arXiv ids."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class ArxivId:
    """The canonical id of a paper, and a version of it where one is named."""

    number: str
    """`2103.00020`, or `math/0309136` for papers before April 2007."""
    version: int | None = None

    def __str__(self) -> str:
        return self.number if self.version is None else f"{self.number}v{self.version}"

    @property
    def latest(self) -> ArxivId:
        """The paper without a version: whatever version is newest."""
        return ArxivId(self.number)


@dataclass(frozen=True)
class Complaint:
    """Why a text is no arXiv id, and what to do."""

    text: str
    problem: str
    fix: str


def parse(text: str) -> ArxivId | Complaint:
    """The id in whatever was pasted, or what is wrong with it. Never raises."""
    raise NotImplementedError
