"""A verdict: computed from the records, never written by hand."""

from __future__ import annotations

from typing import Literal

from claimbook.records.paper import Scale
from claimbook.records.schema import MachineRecord

Outcome = Literal["supported", "refuted", "equivalent", "inconclusive", "inadmissible", "deviated"]


class SeedDifference(MachineRecord, frozen=True):
    """One pair of runs."""

    seed: int
    baseline: float
    treatment: float
    difference: float
    """treatment − baseline in the better direction: positive favours the treatment."""
    runs: list[str]
    """Ids of the baseline's and the treatment's run."""


class ControlCheck(MachineRecord, frozen=True):
    """Whether a control arm scored chance."""

    name: str
    mean: float
    """Mean over seeds of the metric."""
    chance: float
    interval: list[float]
    """t-interval of (control − chance) at level 1 − 2·alpha, lower and upper end."""
    tolerance: float
    """The interval must lie within ± this."""
    passed: bool


class Reported(MachineRecord, frozen=True):
    """The paper's own number for the claim."""

    value: float | str
    metric: str
    where: str
    """Table or figure, dataset and version."""
    confirmed: bool
    """Whether somebody has looked it up there."""


class Verdict(MachineRecord, frozen=True):
    """verdict.json: a pure function of the seal and its runs; the same records give the same bytes."""

    experiment: str
    outcome: Outcome
    reasons: list[str]
    """Why it is inadmissible or deviated, a sentence each; empty otherwise."""
    seal: str
    kind: Literal["superiority", "non-inferiority", "equivalence"]
    scope: Literal["method", "checkpoints"]
    metric: str
    direction: Literal["higher", "lower"]
    margin: float
    alpha: float
    effect: float | None
    """Mean difference in the better direction, in the metric's unit; None when nothing could be computed."""
    interval: list[float] | None
    """t-interval of the effect at level 1 − alpha."""
    p: float | None
    """Two-sided exact sign-flip p (scope method) or permutation p over clusters (scope checkpoints)."""
    p_adjusted: float | None
    """p after Holm's correction over the family."""
    family: dict[str, float | None]
    """p of every experiment sealed on the same product set and metric, this one included, as it was known at
    the judgement; None for one that had no verdict yet."""
    smallest_p: float | None
    """The smallest p that this design can reach."""
    equivalent: bool
    """Whether the (1 − 2·alpha) interval lies within ±margin (two one-sided tests)."""
    units: int
    """Seeds (scope method) or clusters (scope checkpoints)."""
    means: dict[str, float]
    """Mean of the metric per arm and control."""
    pairs: list[SeedDifference]
    controls: list[ControlCheck]
    replication: float | None
    """Largest |difference| between two runs of one arm and seed; None when nothing was run twice."""
    data: str
    data_description: str
    our_scale: Scale | None
    paper_scale: Scale | None
    test: Literal["sign-flip", "permutation", "mcnemar"] | None = None
    """Which test gave p."""
    narrow_interval: list[float] | None = None
    """t-interval of the effect at level 1 − 2·alpha: within ±margin, it shows equivalence."""
    ordinal: int | None = None
    """This is the n-th hypothesis that was sealed on the product set and metric."""
    attempts: dict[str, list[str]] = {}
    """How each attempt ended, oldest first, where an arm and seed ("treatment s3") took more than one."""
    uneven_seeds: list[int] = []
    """Seeds whose arms used the declared fallback a different number of times: other batches, arm by arm."""
    uneven_surroundings: list[int] = []
    """Seeds whose arms ran under other installed versions, or on another GPU model, arm by arm."""
    unlike_cold: list[str] = []
    """Ids of warm runs that gave other numbers when they were repeated with a cold kernel."""
    fallbacks: dict[str, int] = {}
    """How many runs that count used the declared fallback, since memory ran out, by arm or control."""
    ledger: list[str] = []
    """sha256 of the ledger's last lines (one, or one per merged branch) when this was judged."""
    reported: Reported | None = None
    """What the paper reports for this claim; beside our numbers, never part of the verdict."""
    schema: int = 1
