import os
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from claimbook.errors import RecordError, SiteError, WorkspaceError
from claimbook.site import Built, build
from claimbook.workspace import Workspace


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class Targets(HTMLParser):
    """What a page links to and shows."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[str] = []
        self.ids: list[str] = []
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.found += [values[name] or "" for name in ("href", "src") if name in values]
        self.ids += [values["id"] or ""] if "id" in values else []


def test_every_paper_experiment_and_executed_notebook_has_a_page(full: Workspace) -> None:
    pages = {name for name in files(full.site) if name.endswith(".html")}
    assert pages == {
        "index.html",
        *(f"papers/{slug}.html" for slug in ("siglip", "hostile")),
        *(f"experiments/{slug}.html" for slug in ("judged", "sealed", "broken", "hostile")),
        *(f"runs/{slug}/treatment-0.html" for slug in ("judged", "broken")),
    }


def test_all_internal_links_lead_to_files_of_the_site(full: Workspace) -> None:
    for page in full.site.rglob("*.html"):
        targets = Targets(page)
        assert len(targets.ids) == len(set(targets.ids)), page
        for url in targets.found:
            parts = urlsplit(url)
            if parts.scheme in ("https", "data"):
                continue
            assert not parts.scheme, url
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            assert target.is_file(), f"{page}: {url}"
            assert target.is_relative_to(full.site.resolve())
            assert not parts.fragment or parts.fragment in targets.ids


def test_two_builds_give_the_same_bytes(tmp_path: Path, make: Any) -> None:
    workspace = make.fill(tmp_path, "ko")
    build(workspace)
    first = files(workspace.site)
    build(workspace)
    assert files(workspace.site) == first


def test_a_picture_shown_on_two_pages_is_stored_once(full: Workspace) -> None:
    stored = sorted(path.suffix for path in (full.site / "figures").glob("*.png"))
    assert stored == [".png", ".png"]  # the notebook's, shown in two notebooks, and the note's


def test_progress_counts_to_the_number_of_pages(workspace: Workspace, make: Any) -> None:
    make.put_paper(workspace)
    make.put_judged(workspace)
    seen: list[tuple[int, int, str]] = []
    built = build(workspace, progress=lambda done, total, what: seen.append((done, total, what)))
    assert [done for done, _, _ in seen] == [1, 2, 3, 4]
    assert {total for _, total, _ in seen} == {4} == {built.pages}
    assert seen[-1][2] == "index.html"


def test_an_empty_workspace_says_how_to_begin(workspace: Workspace) -> None:
    built = build(workspace)
    assert built == Built(workspace.site / "index.html", 1, [], [])
    home = built.index.read_text("utf-8")
    assert "claimbook new" in home
    assert "claimbook paper add" in home


def test_a_broken_experiment_is_reported_and_hides_nothing_else(workspace: Workspace, make: Any) -> None:
    make.put_paper(workspace)
    make.put_judged(workspace)
    make.put_broken(workspace)
    built = build(workspace)
    assert [type(error) for error in built.errors] == [RecordError]
    page = (workspace.site / "experiments/broken.html").read_text("utf-8")
    assert "experiments/broken/seal.json" in page
    assert "it was edited after sealing" in page
    assert "treatment-0.html" in page
    assert 'class="hero' not in page
    assert "Supported" in (workspace.site / "experiments/judged.html").read_text("utf-8")
    assert (workspace.site / "papers/siglip.html").exists()


def test_a_broken_paper_is_reported_on_its_page(workspace: Workspace, make: Any) -> None:
    make.put_paper(workspace)
    make.put_judged(workspace)
    (workspace.papers / "siglip" / "meta.json").unlink()
    built = build(workspace)
    assert [error.where for error in built.errors] == ["papers/siglip/meta.json"]
    assert "the file is missing" in (workspace.site / "papers/siglip.html").read_text("utf-8")


def test_a_paper_without_a_note_is_still_there(workspace: Workspace, make: Any) -> None:
    make.put_paper(workspace)
    (workspace.papers / "siglip" / "README.md").unlink()
    assert [error.where for error in build(workspace).errors] == ["papers/siglip/README.md"]
    assert (workspace.site / "papers/siglip.html").exists()


def test_bytes_that_are_no_text_are_an_error_like_any_other(workspace: Workspace, make: Any) -> None:
    make.put_sealed(workspace)
    (workspace.experiments / "sealed" / "hypothesis.toml").write_bytes(b"title = '\xff'")
    assert [type(error) for error in build(workspace).errors] == [RecordError]


def test_a_broken_notebook_costs_its_page_only(workspace: Workspace, make: Any) -> None:
    make.put_judged(workspace)
    notebook = workspace.experiments / "judged/runs/treatment-0/notebook.ipynb"
    notebook.write_text("{", "utf-8")
    built = build(workspace)
    assert [error.where for error in built.errors] == [notebook.relative_to(workspace.root).as_posix()]
    assert not (workspace.site / "runs").exists()
    assert "Supported" in (workspace.site / "experiments/judged.html").read_text("utf-8")


def test_a_figure_that_cannot_be_drawn_costs_itself_only(workspace: Workspace, make: Any) -> None:
    make.put_judged(workspace, interval=None)
    assert [type(error) for error in build(workspace).errors] == [SiteError]
    assert "Supported" in (workspace.site / "experiments/judged.html").read_text("utf-8")


def test_an_experiment_that_lost_its_hypothesis_is_still_there(workspace: Workspace, make: Any) -> None:
    make.put_sealed(workspace)
    (workspace.experiments / "sealed" / "hypothesis.toml").unlink()
    assert len(build(workspace).errors) == 1
    assert "experiments/sealed.html" in (workspace.site / "index.html").read_text("utf-8")


def test_a_page_of_something_deleted_goes_with_the_next_build(workspace: Workspace, make: Any) -> None:
    make.put_sealed(workspace)
    build(workspace)
    shutil.rmtree(workspace.experiments / "sealed")
    build(workspace)
    assert not (workspace.site / "experiments").exists()


def test_a_figure_without_alt_text_is_a_warning(workspace: Workspace, make: Any) -> None:
    make.put_judged(workspace)
    warnings = [text for text in build(workspace).warnings if "figure has no alt text" in text]
    assert warnings == [
        "experiments/judged/runs/treatment-0/notebook.ipynb: "
        "a figure has no alt text: show it with run.figure(fig, alt=…)"
    ]


def test_a_build_that_is_killed_leaves_the_old_site(workspace: Workspace, make: Any) -> None:
    make.put_judged(workspace)
    build(workspace)
    before = files(workspace.site)
    (workspace.experiments / "judged" / "README.md").write_text("---\ndecision: drop\n---\nno", "utf-8")
    program = (
        "import os, sys; from pathlib import Path; from claimbook.site import build;"
        "from claimbook.workspace import Workspace;"
        "build(Workspace(Path(sys.argv[1])), progress=lambda *_: os._exit(9))"
    )
    killed = subprocess.run([sys.executable, "-c", program, os.fspath(workspace.root)], timeout=60)
    assert killed.returncode == 9
    assert files(workspace.site) == before
    build(workspace)
    assert files(workspace.site) != before


def test_a_swap_that_fails_puts_the_old_site_back(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(workspace)
    before = files(workspace.site)
    rename = Path.replace

    def fail(self: Path, target: Path) -> Path:
        if self.name == "site.new":
            raise OSError("no space left")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        build(workspace)
    assert files(workspace.site) == before


def test_a_build_killed_between_the_two_renames_is_mended_by_the_next(workspace: Workspace) -> None:
    build(workspace)
    before = files(workspace.site)
    workspace.site.rename(workspace.root / ".claimbook" / "site.old")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(workspace, progress=stop)
    assert files(workspace.site) == before


def test_two_builds_at_once_are_refused(workspace: Workspace) -> None:
    with workspace.lock("site"), pytest.raises(WorkspaceError, match="another claimbook process"):
        build(workspace)


def test_the_site_is_small(full: Workspace) -> None:
    assert len((full.site / "index.html").read_bytes()) < 12_000
    assert len((full.site / "style.css").read_bytes()) < 20_000


def test_importing_the_site_loads_nothing_heavy() -> None:
    program = (
        "import sys, claimbook.site; heavy = {'matplotlib', 'jinja2', 'nh3', 'pygments', 'scipy', 'torch', "
        "'markdown_it', 'PIL', 'nbconvert'}; print(sorted(heavy & sys.modules.keys()))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
