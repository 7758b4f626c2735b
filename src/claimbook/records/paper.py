"""A paper in the library: what the machine fetched, what a person wrote, and its claims."""

from __future__ import annotations

from datetime import date
from typing import Any, Literal

from claimbook.errors import RecordError
from claimbook.records.schema import MachineRecord, Record, convert, decode_json, split_front_matter
from claimbook.workspace import is_week

Status = Literal["queued", "reading", "read"]
"""How far the reading of a paper is."""


class Scale(Record, frozen=True):
    """How large a training was: what a verdict at another scale cannot speak for."""

    parameters: float | None = None
    """Trainable and frozen parameters of the model."""
    pairs_seen: float | None = None
    """Image-text pairs over all steps, repetitions counted."""
    resolution: int | None = None
    """Side of the training pictures, pixels."""


class Claim(Record, frozen=True):
    """One sentence of a paper that can be tested."""

    id: str
    text: str
    metric: str
    direction: Literal["higher", "lower"] = "higher"
    reported: float | str | None = None
    """The number that the paper reports, or the words where it shows a curve."""
    where: str = ""
    """Table or figure, dataset and version."""
    confirmed: bool = False
    """True when somebody has looked `reported` up at `where`; else it is from memory."""
    version: int | None = None
    """Version of the paper that the claim was read in; without it, the note's `read_version`."""
    scale: Scale | None = None

    def __post_init__(self) -> None:
        for name in ("id", "text", "metric"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name} is empty; write the claim's {name}")
        if self.version is not None and self.version < 1:
            raise ValueError("version is below 1; write the paper's version, such as 2")


class Link(Record, frozen=True):
    """Where the code or the weights of a paper lie."""

    kind: Literal["code", "model", "data", "project"]
    url: str
    said_in: Literal["abstract", "comment", "person"]
    """Who gives the link: arXiv's metadata or a person."""

    def __post_init__(self) -> None:
        if not self.url.startswith(("https://", "http://")):
            raise ValueError("url is no address of the web; write one that begins with https://")


class PaperMeta(MachineRecord, frozen=True):
    """meta.json: what arXiv says of a paper, or what a person entered where `source` is manual."""

    id: str
    """arXiv id without version."""
    title: str
    authors: list[str]
    abstract: str
    """Empty where nobody has fetched it."""
    categories: list[str]
    """The primary one first."""
    published: str
    """ISO date of the first version, or the year and month of the id where nobody has fetched it."""
    updated: str
    """ISO date of the version seen last, or as `published`."""
    versions: list[int]
    """Versions known to exist, oldest first: all up to the one seen last."""
    source: Literal["arxiv", "manual"]
    fetched_at: str | None = None
    """ISO time in UTC; None where the source is manual."""
    comment: str | None = None
    """The authors' comment: pages, venue, code, or why they withdrew the paper."""
    journal_ref: str | None = None
    doi: str | None = None
    """DOI of the published version, without https://doi.org/."""
    withdrawn: str | None = None
    """Why the last version looks withdrawn, in arXiv's own words; None where it does not."""
    links: list[Link] = []
    schema: int = 1

    @property
    def latest(self) -> int:
        """The newest version known."""
        return max(self.versions, default=1)

    @property
    def url(self) -> str:
        """The page of the paper's abstract."""
        return f"https://arxiv.org/abs/{self.id}"


class Reproduction(Record, frozen=True):
    """What it takes to test a paper's claims on products, as a person judged it."""

    mode: Literal["scratch", "features", "weights"]
    """Testable from scratch with a tiny model, on the features of any frozen encoder, or only with pretrained
    weights."""
    weights: str | None = None
    """Where the weights are: a package, or an id of the Hugging Face hub."""
    cpu_minutes: float | None = None
    """One arm and seed on two cores."""
    gpu_minutes: float | None = None
    """One arm and seed on one GPU, with real weights."""
    gpu_memory: float | None = None
    """GPU memory that it needs, GiB; None where a CPU will do."""


class PaperNote(Record, frozen=True):
    """The front matter of a paper's README.md."""

    id: str
    read_version: int | None = None
    status: Status = "queued"
    week: str | None = None
    """ISO week of the reading, such as 2026-W48."""
    tags: list[str] = []
    reproduction: Reproduction | None = None
    claims: list[Claim] = []

    def __post_init__(self) -> None:
        if self.week is not None and not is_week(self.week):
            raise ValueError(f'week is {self.week!r}, which is none; write an ISO week such as "2026-W48"')
        if self.read_version is not None and self.read_version < 1:
            raise ValueError("read_version is below 1; write the version that was read, such as 2")


class Paper(Record, frozen=True):
    """A paper: metadata, front matter, and the reading note in Markdown."""

    slug: str
    meta: PaperMeta
    note: PaperNote
    body: str

    def claim(self, claim_id: str) -> Claim:
        """A claim by its id. Raises RecordError that lists the claims there are."""
        for claim in self.note.claims:
            if claim.id == claim_id:
                return claim
        known = ", ".join(c.id for c in self.note.claims) or "none yet"
        raise RecordError(
            f"the paper has no claim {claim_id!r}",
            fix=f"add it to the claims of the front matter, or name one of: {known}",
            where=f"papers/{self.slug}/README.md",
        )


def read_paper(slug: str, meta: bytes, readme: str) -> Paper:
    """A paper from the texts of its two files. Raises RecordError with file and line or field."""
    place = f"papers/{slug}/README.md"
    fields, body, _ = split_front_matter(readme, place)
    note = convert(_checked(fields, readme, place), PaperNote, place, readme)
    ids = [claim.id for claim in note.claims]
    for claim_id in ids:
        if ids.count(claim_id) > 1:
            raise RecordError(
                f"two claims are called {claim_id!r}", fix="give each claim an id of its own", where=place
            )
    record = decode_json(meta, PaperMeta, f"papers/{slug}/meta.json")
    if record.id != note.id:
        raise RecordError(
            f"the note is about {note.id}, meta.json about {record.id}",
            fix="give both the same arXiv id",
            where=place,
        )
    return Paper(slug=slug, meta=record, note=note, body=body)


def _checked(fields: dict[str, Any], text: str, place: str) -> dict[str, Any]:
    """YAML reads an unquoted 2103.00020 as a number and an unquoted week as a date: say so."""
    if isinstance(fields.get("id"), float):
        raise RecordError(
            f"id: YAML reads {fields['id']} as a number and loses its zeros",
            fix='put the arXiv id in quotes, all its zeros too: id: "YYMM.NNNNN"',
            where=place,
        )
    if isinstance(fields.get("week"), date):
        raise RecordError("week: a date, not a week", fix='write it as "2026-W48"', where=place)
    return fields
