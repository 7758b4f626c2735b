"""Which pages there are, rendering them, and putting the new site in the place of the old.

Knows nothing of what the records mean: that is `dossier` and `pages`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from claimbook.errors import ClaimbookError
from claimbook.papers.drift import Drift, of_experiment
from claimbook.records import Run
from claimbook.runner.memory import show_bytes
from claimbook.site import formats, pages
from claimbook.site.dossier import (
    Dossier,
    attempted,
    experiment_slugs,
    paper_slugs,
    read_dossier,
    read_paper_or_error,
)
from claimbook.site.markdown import Headings, markdown
from claimbook.site.shelf import Figure, Page, Shelf
from claimbook.site.words import words
from claimbook.week import SIGNS, read
from claimbook.workspace import Language, Workspace

if TYPE_CHECKING:
    from jinja2 import Environment

Progress = Callable[[int, int, str], None]
"""Called after each page with pages done, pages in all, and the page's path."""

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Built:
    """A site that was built."""

    index: Path
    pages: int
    warnings: list[str]
    """What a person should mend, such as a figure without alt text."""
    errors: list[ClaimbookError]
    """What could not be read or shown; its page says so, all else is there."""


def build(workspace: Workspace, *, progress: Progress | None = None, now: datetime | None = None) -> Built:
    """Render all pages into workspace.site; `now`, an aware datetime, tells which week the home page shows.

    The old site stays until the new one is whole. Records that cannot be read do not raise: they are in
    `errors` and on their page. Raises WorkspaceError when another process is building.
    """
    fresh, old = workspace.root / ".claimbook" / "site.new", workspace.root / ".claimbook" / "site.old"
    with workspace.lock("site"):
        _recover(workspace.site, old)
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        built = _Site(workspace, fresh, progress or (lambda *_: None), now or datetime.now(UTC)).build()
        _swap(fresh, workspace.site, old)
    return built


def _recover(site: Path, old: Path) -> None:
    """Put the old site back if a build was killed between the two renames of a swap."""
    if old.exists() and not site.exists():
        old.replace(site)


def _swap(fresh: Path, site: Path, old: Path) -> None:
    """Put a folder in the place of another: no system call of Python does it in one step, so two renames."""
    shutil.rmtree(old, ignore_errors=True)
    if site.exists():
        site.replace(old)
    try:
        fresh.replace(site)
    except BaseException:
        _recover(site, old)
        raise
    shutil.rmtree(old, ignore_errors=True)


@dataclass(frozen=True)
class RunRow:
    """A run in the table of an experiment's page."""

    run: Run
    metric: str | None
    environment: list[tuple[str, str | None, str | None]]
    page: str | None
    """Path of its rendered notebook from the site's top."""


class _Site:
    """One build: the records read once, then page after page."""

    def __init__(self, workspace: Workspace, folder: Path, progress: Progress, now: datetime) -> None:
        self.workspace = workspace
        self.progress = progress
        self.habit = read(workspace, now, building=True)
        self.dossiers = [read_dossier(workspace, slug) for slug in experiment_slugs(workspace)]
        self.paper_errors: dict[str, list[ClaimbookError]] = {slug: [] for slug in paper_slugs(workspace)}
        self.papers = {
            slug: read_paper_or_error(workspace, slug, errors) for slug, errors in self.paper_errors.items()
        }
        self.errors: list[ClaimbookError] = []
        self.shelf = Shelf(folder, workspace.root, known=self._known_pages())
        self.words = words(workspace.language)
        self.templates = _environment(self)
        self.done = 0
        self.total = 1 + len(self.papers) + len(self.dossiers) + sum(1 for _ in self._notebooks())

    def build(self) -> Built:
        """Write every page and say what came of it."""
        self.shelf.write("style.css", (_HERE / "static" / "style.css").read_bytes())
        shown = {(dossier.slug, run.id): self._notebook(dossier, run) for dossier, run in self._notebooks()}
        for dossier in self.dossiers:
            self._experiment(dossier, shown)
        for slug in self.papers:
            self._paper(slug)
        self._home()
        errors = [
            *(error for each in self.paper_errors.values() for error in each),
            *(error for each in self.dossiers for error in each.errors),
            *self.errors,
        ]
        return Built(self.workspace.site / "index.html", self.done, self.shelf.warnings, errors)

    def badge(self, dossier: Dossier) -> pages.Badge:
        return pages.badge(dossier, self.workspace.language, self.words)

    def sentences(self, dossier: Dossier) -> list[tuple[Language, str]]:
        return pages.sentences(dossier.verdict, self.workspace.language) if dossier.verdict else []

    def behind_paper(self, dossier: Dossier) -> Drift | None:
        """How far an experiment is behind its paper, where that can be read."""
        hypothesis = dossier.hypothesis
        paper = self.papers.get(hypothesis.paper) if hypothesis else None
        return of_experiment(dossier.slug, hypothesis, paper) if hypothesis and paper else None

    def _home(self) -> None:
        page = self.shelf.page("index.html", self.workspace.root)
        board = pages.on_board(self.dossiers)
        self._write(
            page,
            "home.html",
            habit=self.habit,
            week=self.habit.standing(self.habit.this),
            year=self._year(),
            board=board,
            tally=pages.tally(map(self.badge, board)),
        )

    def _paper(self, slug: str) -> None:
        folder = self.workspace.papers / slug
        page = self.shelf.page(f"papers/{slug}.html", folder / "README.md")
        paper = self.papers[slug]
        note = markdown(paper.body, page, Headings(top=3)) if paper else ""
        claims = [
            (claim, pages.claim_dossiers(claim, slug, self.dossiers))
            for claim in (paper.note.claims if paper else [])
        ]
        self._write(
            page,
            "paper.html",
            slug=slug,
            paper=paper,
            note=note,
            claims=claims,
            errors=self.paper_errors[slug],
        )

    def _experiment(self, dossier: Dossier, shown: dict[tuple[str, str], str | None]) -> None:
        page = self.shelf.page(_experiment_page(dossier.slug), dossier.experiment.folder / "README.md")
        decimals = pages.decimals_of(dossier)
        metric = dossier.hypothesis.metric if dossier.hypothesis else None
        rows = [
            RunRow(
                run,
                pages.metric_of(run, metric, decimals),
                dossier.environment_differences(run),
                shown.get((dossier.slug, run.id)),
            )
            for run in sorted(dossier.runs, key=pages.by_arm)
        ]
        self._write(
            page,
            "experiment.html",
            d=dossier,
            rows=rows,
            decimals=decimals,
            claim=pages.claim_of(dossier, self.papers),
            forest=self._forest(dossier),
            curves=self._curves(dossier),
            learned=markdown(dossier.learned, page, Headings(top=3)),
        )

    def _notebooks(self) -> Iterator[tuple[Dossier, Run]]:
        for dossier in self.dossiers:
            for run in dossier.runs:
                if dossier.experiment.notebook_path(run.id).is_file():
                    yield dossier, run

    def _notebook(self, dossier: Dossier, run: Run) -> str | None:
        """Build the page of an executed notebook and return its path; None when it cannot be read."""
        from claimbook.site.notebook import cells

        source = dossier.experiment.notebook_path(run.id)
        page = self.shelf.page(f"runs/{dossier.slug}/{run.id}.html", source)
        shown = attempted(partial(cells, page), None, self.errors, _place(dossier))
        if shown is None:
            self._step(page.path)
            return None
        self._write(page, "notebook.html", d=dossier, run=run, cells=shown)
        return page.path

    def _year(self) -> Figure | None:
        """The year at a glance, once a paper has a week."""
        from claimbook.plots import year

        if self.habit.first is None:
            return None
        this = self.habit.this
        return self._drawn("papers", partial(year, self.habit.year(this.year), this, self.workspace.language))

    def _forest(self, dossier: Dossier) -> Figure | None:
        from claimbook.plots import forest

        verdict = dossier.verdict
        if verdict is None or verdict.effect is None:
            return None
        return self._drawn(_place(dossier), partial(forest, verdict, self.workspace.language))

    def _curves(self, dossier: Dossier) -> list[Figure]:
        from claimbook.plots import curves

        series = pages.curve_series(dossier)
        place = _place(dossier)
        drawn = [self._drawn(place, partial(curves, lines, metric)) for metric, lines in series.items()]
        return [figure for figure in drawn if figure is not None]

    def _drawn(self, place: str, draw: Callable[[], tuple[Any, str]]) -> Figure | None:
        """Draw and store a figure; None, and one more error, when it cannot be drawn."""
        drawn = attempted(draw, None, self.errors, place)
        return None if drawn is None else self.shelf.keep(_svg(drawn[0]), drawn[1])

    def _write(self, page: Page, template: str, **context: Any) -> None:
        html = self.templates.get_template(template).render(page=page, **context)
        self.shelf.write(page.path, html.encode())
        self._step(page.path)

    def _step(self, path: str) -> None:
        self.done += 1
        self.progress(self.done, self.total, path)

    def _known_pages(self) -> dict[str, str]:
        known = {".": "index.html", "papers": "index.html", "experiments": "index.html"}
        for slug in self.papers:
            known |= dict.fromkeys(
                (f"papers/{slug}", f"papers/{slug}/README.md", f"papers/{slug}/meta.json"),
                f"papers/{slug}.html",
            )
        for dossier in self.dossiers:
            folder = f"experiments/{dossier.slug}"
            files = ("README.md", "hypothesis.toml", "seal.json", "verdict.json", "runs")
            known |= dict.fromkeys(
                (folder, *(f"{folder}/{name}" for name in files)), _experiment_page(dossier.slug)
            )
        return known


def _experiment_page(slug: str) -> str:
    return f"experiments/{slug}.html"


def _place(dossier: Dossier) -> str:
    """How an error calls an experiment."""
    return f"experiments/{dossier.slug}"


def _svg(figure: Any) -> bytes:
    """A matplotlib figure as SVG, the same bytes for the same figure."""
    import io

    import matplotlib

    sink = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "claimbook", "svg.fonttype": "path"}):
        figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": None})
    return sink.getvalue()


def _environment(site: _Site) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    workspace = site.workspace
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "w": site.words,
        "language": workspace.language,
        "signs": SIGNS,
        "badge": site.badge,
        "sentences": site.sentences,
        "behind_paper": site.behind_paper,
        "papers": site.papers,
        "experiment_page": _experiment_page,
        "parameter_rows": pages.parameter_rows,
        "questions": pages.questions,
        "reasons": partial(pages.reasons, language=workspace.language),
        "beside": partial(pages.beside, language=workspace.language),
        "scale_rows": pages.scale_rows,
    }
    environment.filters |= {
        "num": formats.number,
        "p": formats.p_value,
        "duration": formats.duration,
        "memory": show_bytes,
        "moment": partial(formats.moment, timezone=workspace.timezone),
        "language_of": formats.language_of,
        "plain": formats.plain,
        "value": pages.shown_value,
    }
    return environment
