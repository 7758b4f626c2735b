"""What must never be recorded: values of the environment, tokens in a remote's URL or on a command line.

Each value is unlike anything else, so that it can be looked for in every file that a run leaves.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from claimbook import session
from claimbook.experiments import BY_HAND, Experiment
from claimbook.runner import batch
from claimbook.runner.local import LocalEngine
from claimbook.runner.slots import Limits, places
from claimbook.session import start
from claimbook.site import build
from claimbook.workspace import Workspace

ENVIRONMENT = {
    "HF_TOKEN": "hf_QwErTyUiOpAsDfGhJkLzXcVbNm",
    "SHOP_DB_PASSWORD": "온새미로-hunter2!",
    "WANDB_API_KEY": "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c",
    "RUNNER_BLOB": "zk81mQv05rT77pLxY2nB",  # only its looks give it away
    "MODEL_STORE": "https://reader:p4ss-w0rd-x@models.example/siglip",
}
REMOTE = "ghp_RemoteRemoteRemoteRemote0123456789"
ARGUMENT = "sk-ArgumentArgumentArgument0123"
SECRETS = [
    *(value for name, value in ENVIRONMENT.items() if name != "MODEL_STORE"),
    "p4ss-w0rd-x",
    REMOTE,
    ARGUMENT,
]
TELL_TALE = """\
import os, sys
print("token", os.environ["HF_TOKEN"])
print("key", os.environ["WANDB_API_KEY"], file=sys.stderr)
os.environ["RUNNER_BLOB"]
"""
FAILING = """\
store, password = os.environ["MODEL_STORE"], os.environ["SHOP_DB_PASSWORD"]
reason = f"401 from {store} for {os.environ['HF_TOKEN']} ({password}, {os.environ['RUNNER_BLOB']})"
raise PermissionError(reason)
"""


@pytest.fixture
def space(toy: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The toy workspace as a git repository whose remote holds a token, with secrets in the environment."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(session.RUN_VARIABLE, raising=False)
    git = ["git", "-C", str(toy.root), "-c", "user.name=A", "-c", "user.email=a@example.org"]
    url = f"https://oauth2:{REMOTE}@git.example/shop/claims.git"
    for words in (["init", "--quiet"], ["remote", "add", "origin", url], ["add", "."]):
        subprocess.run([*git, *words], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "A start"], check=True)
    (toy.notebooks / "note.txt").write_text("uncommitted")
    return toy


def leaks(space: Workspace) -> list[str]:
    """The recorded files that hold a secret; git's own folder is the person's."""
    found = []
    for path in space.root.rglob("*"):
        if path.is_file() and ".git" not in path.relative_to(space.root).parts:
            text = path.read_bytes()
            found += [f"{path.relative_to(space.root)}: {s}" for s in SECRETS if s.encode() in text]
    return found


def with_cells(space: Workspace, *sources: str) -> None:
    """Put cells into the toy notebook, behind its `start()`."""
    path = space.notebook("toy")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2:2] = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(notebook, path)


def test_the_search_for_leaks_finds_one(space):
    (space.experiments / "toy" / "leak.json").write_text(f'{{"message": "{ENVIRONMENT["HF_TOKEN"]}"}}')
    assert leaks(space) == [f"experiments/toy/leak.json: {ENVIRONMENT['HF_TOKEN']}"]


def test_a_supervised_run_that_fails_over_a_secret_records_none_of_it(space):
    """Its message, its traceback, what it printed and what it showed; then the pages made of them."""
    with_cells(space, TELL_TALE, FAILING)
    command = ["from claimbook.cli import main; main()", "run", "toy", "--seeds", "101"]
    done = subprocess.run(
        [sys.executable, "-X", f"note={ARGUMENT}", "-c", *command],
        cwd=space.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert not [secret for secret in SECRETS if secret in done.stdout + done.stderr]
    runs = Experiment.of(space, "toy").runs()
    assert {run.status for run in runs} == {"failed"}
    for run in runs:
        assert run.failure is not None
        assert run.failure.error == "PermissionError"
        assert run.failure.message == "401 from https://***@models.example/siglip for *** (***, ***)"
        executed = Experiment.of(space, "toy").notebook_path(run.id).read_text("utf-8")
        assert "token ***" in executed
        assert "401 from https://***@models.example" in executed
    build(space)
    assert "401 from" in (space.site / "index.html").read_text("utf-8") or any(
        "401 from" in page.read_text("utf-8") for page in space.site.rglob("*.html")
    )
    assert leaks(space) == []


def test_a_supervised_run_that_finishes_records_no_secret(space, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["claimbook", "run", "toy", f"--token={ARGUMENT}"])
    with_cells(space, TELL_TALE)
    experiment = Experiment.of(space, "toy")
    plan = batch.plan(space, experiment, seeds=[101])
    plan.missing[:] = plan.missing[:1]
    (run,) = batch.execute(space, [plan], engine=LocalEngine(Limits(seconds=60, threads=1), places()))
    assert run.status == "finished"
    assert run.git["commit"]
    build(space)
    assert leaks(space) == []


def test_a_run_by_hand_records_no_secret_in_whatever_a_parameter_holds_it(space):
    parameters = """\
import os
token: str = os.environ["HF_TOKEN"]
tokens: list = [os.environ["WANDB_API_KEY"], "other"]
store: str = os.environ["MODEL_STORE"] + "/large"
header: str = f"Bearer {os.environ['SHOP_DB_PASSWORD']}"
effect: float = 0.4
seed: int = 7
"""
    notebook = nbformat.v4.new_notebook()
    work = "run.log(step=1, 손실=0.5)\n"
    work += 'run.finish(metrics={"m": 1.0}, items={"item": ["a"], "cluster": ["a"], "m": [1.0]})'
    for source in (parameters, "from claimbook import start\nrun = start()", work):
        notebook.cells.append(nbformat.v4.new_code_cell(source))
    NotebookClient(notebook, resources={"metadata": {"path": str(space.root)}}).execute()
    (run,) = Experiment(space.experiments / BY_HAND).runs()
    assert run.status == "finished"
    assert run.parameters["effect"] == 0.4
    assert run.seed == 7
    build(space)
    assert leaks(space) == []


def test_a_script_by_hand_records_neither_its_command_line_nor_the_remote(space):
    code = (
        "from claimbook import start\nrun = start()\n"
        'run.finish(metrics={"m": 1.0}, items={"item": ["a"], "cluster": ["a"], "m": [1.0]})'
    )
    subprocess.run([sys.executable, "-c", code, f"--token={ARGUMENT}"], cwd=space.root, check=True)
    (run,) = Experiment(space.experiments / BY_HAND).runs()
    assert run.git["commit"]
    assert leaks(space) == []


def test_the_name_of_the_machine_and_of_the_user_are_not_recorded(space, monkeypatch):
    monkeypatch.setattr(session, "_unfinished", None)
    run = start()
    recorded = (run.folder / "run.json").read_text("utf-8")
    assert os.uname().nodename not in recorded
    assert str(Path.home()) not in recorded
