"""The README's commands, run as they are printed, and its promises about files."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image

from claimbook.products import load

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def section(title: str) -> str:
    """The text under a heading."""
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(text: str) -> list[str]:
    """What stands after `$ ` in console blocks."""
    return [
        line[2:] for block in blocks(text, "console") for line in block.splitlines() if line.startswith("$ ")
    ]


def run(command: str, cwd: Path) -> str:
    program, *arguments = shlex.split(command)
    assert program == "claimbook"
    done = subprocess.run(
        [sys.executable, "-c", "from claimbook.cli import main; main()", *arguments],
        cwd=cwd, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def test_the_first_two_commands_are_targets_of_the_makefile():
    assert commands(README)[:2] == ["make demo", "make test"]
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for command in re.findall(r"(?:`|\$ )make ([a-z-]+)", README):
        assert re.search(rf"^{command}:", makefile, re.MULTILINE), command
    assert "make demo" in (ROOT / ".ci" / "run").read_text("utf-8")
    assert "make test" in (ROOT / ".ci" / "run").read_text("utf-8")


def test_the_weeks_flow_works_as_printed(tmp_path):
    """In a new workspace, on a catalog of eighty products and three steps of training per run."""
    workspace = tmp_path / "my claims"
    run(f"claimbook init {shlex.quote(str(workspace))}", tmp_path)
    settings = workspace / "pyproject.toml"
    settings.write_text(
        settings.read_text("utf-8")
        + '\n[tool.claimbook.products.catalog]\nsource = "catalog"\nn_products = 80\nviews = 1\n',
        "utf-8",
    )
    flow = commands(section("The week's flow"))
    assert len(flow) == 6
    run(flow[0], workspace)
    example = (ROOT / "experiments" / "siglip-small-batch" / "hypothesis.toml").read_text("utf-8")
    filled = re.sub(r"steps +=.*", "steps = 3", example)
    (workspace / "experiments" / "siglip-shop" / "hypothesis.toml").write_text(filled, "utf-8")
    outputs = [run(command, workspace) for command in flow[1:]]
    assert "18 runs" in outputs[0]
    assert "sealed siglip-shop" in outputs[1]
    assert outputs[3].startswith("verdict ")
    assert (workspace / "site" / "experiments" / "siglip-shop.html").is_file()
    found, _, hits, compared, verified = [run(command, workspace) for command in commands(section("The log"))]
    assert sum(line.startswith("treatment-s") for line in found.splitlines()) == 5
    assert "siglip" in hits
    assert "6 confirmatory" in compared
    assert verified.startswith("siglip-shop: verified")


@pytest.fixture
def shop(tmp_path, monkeypatch) -> Path:
    """A workspace with the README's settings and forty products in its data/shop."""
    (settings,) = blocks(section("Your own products"), "toml")
    (tmp_path / "pyproject.toml").write_text(f"[tool.claimbook]\n{settings}", "utf-8")
    folder = tmp_path / tomllib.loads(settings)["tool"]["claimbook"]["products"]["shop"]["path"]
    folder.mkdir(parents=True)
    rows = ["id,image,name,category"]
    for number in range(40):
        Image.new("RGB", (20, 30), (number * 6, 90, 200)).save(folder / f"{number}.jpg")
        rows.append(f"m-{number},{number}.jpg,Mug number {number},{'mug' if number % 2 else 'cap'}")
    (folder / "products.csv").write_text("\n".join(rows) + "\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CLAIMBOOK_ROOT", raising=False)
    return tmp_path


def test_ones_own_products_load_as_printed(shop, capsys):
    (code,) = blocks(section("Your own products"), "python")
    exec(code, {})
    assert capsys.readouterr().out.startswith("28 8 ")


def test_the_settings_in_comments_work_too(shop):
    path = shop / "pyproject.toml"
    text = re.sub(r"^# (n|stratify|where)( +=)", r"\1\2", path.read_text("utf-8"), flags=re.MULTILINE)
    path.write_text(text.replace("2400", "20"), "utf-8")
    assert len(load("shop")) == 20


def test_every_folder_of_the_tree_is_there_and_every_folder_is_in_the_tree():
    (tree,) = blocks(section("What lies where"), "")
    parents: list[str] = []
    named = set()
    for line in tree.splitlines():
        name = line.split()[0]
        if line.startswith("  "):
            named.add(parents[-1] + name)
        else:
            parents.append(name)
            named.add(name)
    for name in named:
        assert (ROOT / name).is_dir(), name
    packages = {f"src/claimbook/{p.parent.name}/" for p in (ROOT / "src" / "claimbook").glob("*/__init__.py")}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout
    top = {line.split("/")[0] + "/" for line in tracked.splitlines() if "/" in line} - {".ci/", "src/"}
    assert packages | top <= named


@pytest.mark.parametrize("target", re.findall(r"\]\((?!http)([^)]+)\)", README))
def test_every_link_leads_to_a_file(target):
    assert (ROOT / target).is_file()


def test_the_demo_output_is_that_of_the_committed_experiment():
    """The demo runs the committed hypothesis; on the machine that committed it the numbers are the same."""
    from claimbook import workspace
    from claimbook.experiments import Experiment
    from claimbook.judge import sentence

    verdict = Experiment.of(workspace.find(ROOT), "siglip-small-batch").verdict()
    assert verdict is not None
    assert sentence(verdict, "en") in README
