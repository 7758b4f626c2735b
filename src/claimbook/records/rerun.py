"""A rerun: a sealed experiment replicated under later code and environment, and whether its verdict held."""

from __future__ import annotations

from typing import Literal

from claimbook.records.run import Failure
from claimbook.records.schema import MachineRecord
from claimbook.records.verdict import Verdict

Result = Literal["held", "flipped", "no longer runs"]


class Rerun(MachineRecord, frozen=True):
    """reruns/<id>.json. A replication never adds to n: it is judged by itself, beside the verdict."""

    id: str
    experiment: str
    seal: str
    """Hash of the seal that was replicated."""
    began: str
    ended: str
    result: Result
    was: str
    """The outcome of the verdict that was replicated."""
    now: str | None
    """The outcome by the replications alone; None when they do not run."""
    largest_difference: float | None
    """Largest |difference| of the metric between a run and its replication, over arms and seeds."""
    largest_where: str | None
    """The arm and seed of it, such as "treatment s3"."""
    changed: list[str]
    """What differs from the sealed state and from the first runs' environment, a phrase each."""
    verdict: Verdict | None
    """Computed from the replications, with the family that the replicated verdict was corrected for."""
    ledger: list[str] = []
    """sha256 of the ledger's last lines when this was concluded."""
    failure: Failure | None = None
    """Why it no longer runs."""
    schema: int = 1
