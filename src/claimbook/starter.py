"""What a workspace begins with: notebooks, papers, settings; and the files of a new experiment.

Never overwrites a file.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import claimbook
from claimbook.errors import WorkspaceError
from claimbook.experiments import BATCHES, BY_HAND
from claimbook.records import Claim
from claimbook.workspace import Workspace, check_slug, find, write_bytes

_PYPROJECT = """\
# Files are the truth: everything under .claimbook/ and site/ can be deleted at any time.
[tool.claimbook]
language = "en"            # of the pages: "en" or "ko"
timezone = "Asia/Seoul"
week_start = "monday"

# Weeks in which no paper is owed.
# [tool.claimbook.excused]
# "2026-W52" = "holiday"

# Your own products: name them here, then set `products = "shop"` in a hypothesis.
# [tool.claimbook.products.shop]
# source   = "folder"
# path     = "data/shop"               # relative to this file; $VARIABLES are expanded
# table    = "products.csv"            # or .jsonl
# columns  = { item = "id", image = "image", title = "name" }
# n        = 2400
# stratify = "category"
# group    = "title"                   # equal titles never lie in two splits
# split    = { train = 0.7, val = 0.1, test = 0.2 }
"""

_GITIGNORE = """\
/.claimbook/
/site/
.ipynb_checkpoints/
# executed notebooks hold product pictures; the records beside them are committed
experiments/*/*/*/notebook.ipynb
experiments/*/runs/*/heartbeat
experiments/exploratory/
# papers that were removed; git has their last version
papers/.*
"""

_GITATTRIBUTES = """\
# hashed byte by byte, and merged line by line: both branches keep the runs and seals that they entered
experiments/**/*.json -text
experiments/**/*.jsonl -text
experiments/**/*.parquet binary
experiments/seals.jsonl merge=union
experiments/*/ledger.jsonl merge=union
"""

_HYPOTHESIS = """\
title    = "{title}"
paper    = "{paper}"
claim    = "{claim}"            # an id in papers/{paper}/README.md
notebook = "{notebook}"
metric   = ""                   # one that the notebook gives to run.finish with item scores
kind     = "superiority"        # or "non-inferiority", "equivalence"
margin   = 0.01                 # the smallest difference worth having, in the metric's unit
# control_margin = 0.005        # how far from chance a control may score; without it, the margin
alpha    = 0.05
seeds    = [0, 1, 2, 3, 4, 5]   # under 6 seeds a two-sided p of .05 cannot be reached
scope    = "method"             # or "checkpoints": these two trainings only

[questions]                     # a sentence each; none may be empty when it is sealed
problem      = ""               # what is the problem?
difficulty   = ""               # what is hard about it?
tried        = ""               # how was it tried before?
similar      = ""               # how were similar problems solved?
method       = ""               # which method, and why this one?
verification = ""               # on which benchmark or ground truth is it verified?
service      = ""               # what would it change in our service?

[parameters]                    # the same in every arm
products = "catalog"

[arms.baseline]                 # what each arm sets beyond that
[arms.treatment]

[controls.shuffled]             # changes the treatment so that it must score chance
"""

_README = """\
---
decision:            # adopt, revise or drop, once the verdict is known
tags: []
---

# {title}

## What we learned

## What next
"""


def init(folder: Path) -> Workspace:
    """Make a workspace of one's own from the installed package: settings, notebooks, papers, experiments.

    Raises WorkspaceError when the folder is a workspace already or holds other files by the same names.
    """
    if (folder / "pyproject.toml").exists():
        raise WorkspaceError(
            "there is a pyproject.toml already",
            fix="name an empty folder, or add a [tool.claimbook] table to that file",
            where=folder,
        )
    source = starter_folder()
    clashes = [name for name in ("notebooks", "papers", "experiments") if (folder / name).exists()]
    if clashes:
        raise WorkspaceError(
            f"there are {', '.join(clashes)} already", fix="name an empty folder", where=folder
        )
    ignored = shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__")
    shutil.copytree(source / "notebooks", folder / "notebooks", ignore=ignored)
    _copy_papers(source / "papers", folder / "papers")
    (folder / "experiments").mkdir()
    for name, text in ((".gitignore", _GITIGNORE), (".gitattributes", _GITATTRIBUTES)):
        if not (folder / name).exists():
            write_bytes(folder / name, text.encode())
    # last, since it is what makes the folder a workspace
    write_bytes(folder / "pyproject.toml", _PYPROJECT.encode())
    return find(folder)


def _copy_papers(source: Path, target: Path) -> None:
    """The packaged papers as a queue: what its makers have read, and when, is not what its user has."""
    for note in source.glob("[!.]*/README.md"):
        text = note.read_text("utf-8")
        front, end, rest = text.partition("\n---\n")
        front = re.sub(r"^(?:week|read_version):.*\n", "", front, flags=re.MULTILINE)
        front = re.sub(r"^status:.*$", "status: queued", front, flags=re.MULTILINE)
        folder = target / note.parent.name
        write_bytes(folder / "README.md", (front + end + rest).encode(), durable="no")
        shutil.copyfile(note.parent / "meta.json", folder / "meta.json")


def new_experiment(workspace: Workspace, slug: str, paper: str, claim: Claim, notebook: str) -> Path:
    """Write hypothesis.toml and README.md of a new experiment; returns the hypothesis's path.

    Raises WorkspaceError when the experiment or the notebook's name is wrong, or the folder exists.
    """
    workspace.notebook(notebook)
    if slug in (BY_HAND, BATCHES):
        what = "runs by hand" if slug == BY_HAND else "the journals of batches"
        raise WorkspaceError(f"{slug!r} is the folder of {what}", fix="choose another slug")
    folder = workspace.experiments / check_slug(slug)
    if folder.exists():
        raise WorkspaceError("the experiment exists already", fix="choose another slug", where=folder)
    title = claim.text.replace("\\", "").replace('"', "'").replace("\n", " ")
    hypothesis = folder / "hypothesis.toml"
    text = _HYPOTHESIS.format(title=title, paper=paper, claim=claim.id, notebook=notebook)
    write_bytes(folder / "README.md", _README.format(title=title).encode())
    write_bytes(hypothesis, text.encode())
    return hypothesis


def copy_experiment(workspace: Workspace, slug: str) -> None:
    """Copy the hypothesis of a packaged experiment into a workspace, unsealed and without runs."""
    source = starter_folder() / "experiments" / slug / "hypothesis.toml"
    target = workspace.experiments / slug / "hypothesis.toml"
    if not target.exists():
        write_bytes(target, source.read_bytes())


def starter_folder() -> Path:
    """Where notebooks/, papers/ and experiments/ of the package lie: inside it, or in its source tree."""
    package = Path(claimbook.__file__).parent
    inside = package / "starter"
    return inside if inside.is_dir() else package.parent.parent
