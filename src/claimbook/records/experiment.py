"""An experiment's intent: the hypothesis, the seal that fixes it, the decision that followed."""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Any, Literal, TypeGuard

from claimbook.records.schema import (
    MachineRecord,
    Record,
    convert,
    decode_toml,
    encode_json,
    split_front_matter,
)

Value = bool | int | float | str | list[bool | int | float | str]
Arm = dict[str, Value]
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


class Questions(Record, frozen=True):
    """How research is done in a product company, a sentence each; none may be empty when sealed."""

    problem: str = ""
    """What is the problem?"""
    difficulty: str = ""
    """What is hard about it?"""
    tried: str = ""
    """How was it tried before?"""
    similar: str = ""
    """How were similar problems solved?"""
    method: str = ""
    """Which method, and why this one?"""
    verification: str = ""
    """On which benchmark or ground truth is it verified?"""
    service: str = ""
    """What would it change in our service?"""

    def empty(self) -> list[str]:
        """The questions without an answer."""
        return [name for name, answer in encode_json(self).items() if not answer.strip(" \t\n.…")]


class Fallback(Record, frozen=True):
    """What a run may do when memory runs out, decided before any run: half the batch, twice the accumulation,
    so that every step still sees the same samples. Both are whole numbers among the parameters."""

    halve: str
    """The parameter that is halved, such as `batch_size`."""
    double: str
    """The parameter that is doubled, such as `accumulate`."""

    def applied(self, parameters: Arm, times: int) -> Arm | None:
        """Parameters after so many halvings; None when the batch would not stay a whole number from 1 on."""
        batch, accumulation = parameters.get(self.halve), parameters.get(self.double)
        if not (_counts(batch) and _counts(accumulation)):
            return None
        if not 0 <= times < batch.bit_length() or batch % 2**times:
            return None
        return {**parameters, self.halve: batch // 2**times, self.double: accumulation * 2**times}


class Hypothesis(Record, frozen=True):
    """hypothesis.toml: our falsifiable form of a paper's claim."""

    title: str
    paper: str
    """Slug of a paper in the library."""
    claim: str
    """Id of one of its claims."""
    notebook: str
    """Slug of the technique's notebook."""
    metric: str
    margin: float
    """The smallest difference worth having, in the metric's unit."""
    seeds: list[int]
    arms: dict[str, Arm]
    """`baseline` and `treatment`: what each sets beyond `parameters`."""
    direction: Literal["higher", "lower"] = "higher"
    """Which way of the metric is better."""
    kind: Literal["superiority", "non-inferiority", "equivalence"] = "superiority"
    alpha: float = 0.05
    scope: Literal["method", "checkpoints"] = "method"
    questions: Questions = Questions()
    parameters: Arm = {}
    """Notebook parameters that are the same in every arm."""
    controls: dict[str, Arm] = {}
    """Arms that must score chance: what each sets beyond the treatment's parameters."""
    control_margin: float | None = None
    """How far from chance a control may score, in the metric's unit; None takes `margin`."""
    fallback: Fallback | None = None
    """What a run may do when memory runs out; None when it may do nothing but fail."""

    def __post_init__(self) -> None:
        # msgspec turns ValueErrors of this method into validation errors with the record's path
        if set(self.arms) != {"baseline", "treatment"}:
            raise ValueError(f"arms are {', '.join(self.arms) or 'missing'}; write baseline and treatment")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ValueError("seeds repeat, are missing or below 0; list different whole numbers from 0 on")
        if not 0 < self.alpha < 0.5:
            raise ValueError(f"alpha is {self.alpha}; write a number between 0 and 0.5")
        if not (math.isfinite(self.margin) and self.margin > 0):
            raise ValueError(f"margin is {self.margin}; write the smallest difference worth having, above 0")
        if self.control_margin is not None and not (
            math.isfinite(self.control_margin) and self.control_margin > 0
        ):
            raise ValueError(
                f"control_margin is {self.control_margin}; write how far from chance a control may score"
            )
        if self.arms["baseline"] == self.arms["treatment"]:
            raise ValueError("arms.baseline and arms.treatment are the same; let them differ in a parameter")
        for name in ("title", "metric"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name} is empty; write it")
        for name, value in [item for table in self.tables() for item in table.items()]:
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name} is {value}; write a finite number")
        for name in self.controls:
            if name in self.arms or not _NAME.fullmatch(name):
                raise ValueError(f"controls.{name} is no name for a control; use lower-case words of its own")
        if "seed" in {key for table in self.tables() for key in table}:
            raise ValueError("seed is no parameter here; list the seeds in `seeds`")
        if self.fallback is not None:
            self._check_fallback(self.fallback)

    def _check_fallback(self, fallback: Fallback) -> None:
        if fallback.halve == fallback.double:
            raise ValueError(f"fallback.double is {fallback.double} too; name the parameter that accumulates")
        for arm in self.arm_names():
            parameters = self.parameters_of(arm, self.seeds[0])
            for field, name in (("halve", fallback.halve), ("double", fallback.double)):
                named = f"fallback.{field} names {name}, which"
                if name not in parameters:
                    raise ValueError(f"{named} arm {arm} does not set; write it in [parameters]")
                if not _counts(parameters[name]):
                    found = parameters[name]
                    raise ValueError(f"{named} is {found!r} in arm {arm}; write a whole number from 1 on")
            if fallback.applied(parameters, 1) is None:
                found = parameters[fallback.halve]
                raise ValueError(
                    f"fallback.halve names {fallback.halve}, which is {found} in arm {arm} and has no half; "
                    "write an even number"
                )

    @property
    def control_tolerance(self) -> float:
        """A control's scores must lie within ± this of chance."""
        return self.margin if self.control_margin is None else self.control_margin

    def tables(self) -> list[Arm]:
        """All tables of notebook parameters: common ones, arms and controls."""
        return [self.parameters, *self.arms.values(), *self.controls.values()]

    def arm_names(self) -> list[str]:
        """Arms first, then controls."""
        return [*self.arms, *self.controls]

    def parameters_of(self, arm: str, seed: int) -> Arm:
        """What the notebook is given for one arm or control and seed.

        A control changes one thing about the treatment, so it starts from the treatment's parameters.
        """
        own = self.arms[arm] if arm in self.arms else {**self.arms["treatment"], **self.controls[arm]}
        return {**self.parameters, **own, "seed": seed}

    def fallen_back(self, parameters: Arm, times: int) -> Arm | None:
        """Parameters of a run after so many uses of the declared fallback.

        None when none is declared, or when the batch would not stay a whole number from 1 on.
        """
        if times == 0:
            return parameters
        return None if self.fallback is None else self.fallback.applied(parameters, times)


def _counts(value: Value | None) -> TypeGuard[int]:
    """Whether a value is a whole number from 1 on."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def read_hypothesis(text: str, where: str) -> Hypothesis:
    """A hypothesis from its TOML. Raises RecordError with file and line."""
    return decode_toml(text, Hypothesis, where)


class SealEntry(MachineRecord, frozen=True):
    """What was fixed at a moment. Every run that it covers was made in exactly this state."""

    hash: str
    """sha256 of all other fields as canonical JSON; see `seal_digest`."""
    sealed_at: str
    """ISO time in UTC."""
    hypothesis: Hypothesis
    notebook: str
    """sha256 of the notebook's code cells."""
    code: dict[str, str]
    """sha256 of each source file that the notebook's numbers depend on."""
    data: str
    """Fingerprint of the product set."""
    data_description: str
    """Its name and size, to be read."""
    git: str | None = None
    """Commit at the time of sealing, with "+dirty" when the tree had changes."""
    previous: str | None = None
    """Hash of the seal that this one amends; None for the first."""
    reason: str | None = None
    """Why the seal was amended; None for the first."""
    changes: str | None = None
    """What the amendment changed, as a unified diff; None for the first."""
    with_ledger: bool = False
    """Whether a ledger lists every run that was started; seals of the first version have none."""

    @property
    def digest(self) -> str:
        """What the hash must be."""
        return seal_digest(encode_json(self))

    def differences(
        self, hypothesis: Hypothesis, notebook: str, code: dict[str, str], data: str
    ) -> list[str]:
        """Which parts of a state are not the sealed ones, a phrase each; empty when all are."""
        found = []
        if encode_json(hypothesis) != encode_json(self.hypothesis):
            old, new = encode_json(self.hypothesis), encode_json(hypothesis)
            fields = ", ".join(key for key in new if new[key] != old[key])
            found.append(f"hypothesis ({fields})")
        if notebook != self.notebook:
            found.append("notebook code")
        changed = sorted(
            path for path in code.keys() | self.code.keys() if code.get(path) != self.code.get(path)
        )
        if changed:
            found.append(f"technique code ({', '.join(changed)})")
        if data != self.data:
            found.append("product set")
        return found


def seal_digest(entry: dict[str, Any]) -> str:
    """The hash of a seal's entry as it stands in the file.

    It covers the time and the earlier seal, so that amending back to an old state is a new seal and runs made
    under the old one do not count for it. It is taken of what the file says, not of the record read from it:
    a field that a later version adds leaves old hashes as they are. Seals of the first version, which have no
    ledger, left `git` and `data_description` out of it.
    """
    left_out = {"hash"} if entry.get("with_ledger") else {"hash", "git", "data_description"}
    sealed = {name: value for name, value in entry.items() if name not in left_out}
    text = json.dumps(sealed, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class SealedSources(MachineRecord, frozen=True):
    """sealed/<hash>.json: the text behind a seal's hashes, so that an amendment can be shown as a diff."""

    notebook: list[str]
    """The notebook's code cells."""
    code: dict[str, str]
    """Each source file, by the name that the seal gives it."""

    @property
    def notebook_digest(self) -> str:
        """sha256 of the code cells, white space around each left out."""
        cells = [cell.strip() for cell in self.notebook]
        return hashlib.sha256(json.dumps(cells, ensure_ascii=False).encode()).hexdigest()

    @property
    def code_digests(self) -> dict[str, str]:
        """sha256 of each source file."""
        return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in self.code.items()}

    def fit(self, entry: SealEntry) -> bool:
        """Whether these are the sources that a seal fixed."""
        return self.notebook_digest == entry.notebook and self.code_digests == entry.code


class Seal(MachineRecord, frozen=True):
    """seal.json: the seals of an experiment, oldest first. The last one counts."""

    entries: list[SealEntry]
    schema: int = 1

    @property
    def current(self) -> SealEntry:
        """The seal in force."""
        return self.entries[-1]


class Decision(Record, frozen=True):
    """Front matter of an experiment's README.md: what was decided once the verdict was known."""

    decision: Literal["adopt", "revise", "drop"] | None = None
    tags: list[str] = []


def read_decision(text: str, where: str) -> tuple[Decision, str]:
    """Decision and Markdown body of an experiment's README. Raises RecordError with file and line."""
    fields, body, _ = split_front_matter(text, where)
    return convert(fields, Decision, where, text), body
