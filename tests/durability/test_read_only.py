"""A workspace that cannot be written: a snapshot, or another user's. Reading works, writing is refused."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

READ_ONLY = """\
import json, os, subprocess, sys
from pathlib import Path
from claimbook import start, workspace
from claimbook.errors import ClaimbookError
from claimbook.experiments import Experiment

os.chdir(sys.argv[1])
space = workspace.find(Path(sys.argv[1]))
experiment = Experiment.of(space, "toy")
seen = {"runs": len(experiment.runs())}

def claimbook(*words):
    command = [sys.executable, "-c", "from claimbook.cli import main; main()", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    return [done.returncode, done.stderr.strip().splitlines(), done.stdout]

code, _, found = claimbook("verify", "--json")
seen["verify"] = [code, *[(one["state"], one["problems"]) for one in json.loads(found)]]
for words in (["judge", "toy"], ["run", "toy", "--seeds", "101"]):
    seen[words[0]] = claimbook(*words)

def refused(call, *arguments):
    try:
        call(*arguments)
    except (OSError, ClaimbookError) as error:
        return str(error)

seen["start"] = refused(start)
seen["enter"] = refused(experiment.enter_start, experiment.runs()[0])
print(json.dumps(seen))
"""


def assert_read_and_not_written(seen: dict, strerror: str) -> None:
    assert seen["runs"] == 36
    assert seen["verify"] == [0, ["verified", []]]
    for verb in ("judge", "run"):
        code, lines, _ = seen[verb]
        assert code == 1
        assert not any("Traceback" in line for line in lines)
        problem, what_to_do = lines[-2:]
        assert problem.startswith("error: ")
        assert strerror in problem
        assert what_to_do.startswith("  what to do: ")
    for said in (seen["start"], seen["enter"]):
        assert strerror in said


def test_a_workspace_on_a_read_only_file_system_is_read_and_says_why_it_is_not_written(judged, in_namespace):
    root = judged.folder.parent.parent
    before = everything(root)
    mounts = f"mount --bind '{root}' '{root}'\nmount -o remount,ro,bind '{root}'"
    assert_read_and_not_written(in_namespace(mounts, READ_ONLY, root), "Read-only file system")
    assert everything(root) == before


@pytest.mark.skipif(
    os.name != "posix" or (os.geteuid() == 0 and shutil.which("setpriv") is None),
    reason="permissions do not bind root, and there is no setpriv to become someone else",
)
def test_a_workspace_without_the_permission_to_write_is_read_and_says_why_it_is_not_written(judged):
    root = judged.folder.parent.parent
    before = everything(root)
    folders = [root, *(path for path in root.rglob("*") if path.is_dir())]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [*folders, *root.rglob("*.jsonl")]}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222 | 0o055 if path.is_dir() else mode & ~0o222)
    # the same user as before, only without root's way around permissions
    without = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"]
    command = [*(without if os.geteuid() == 0 else []), sys.executable, "-c", READ_ONLY, str(root)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    assert done.returncode == 0, done.stderr
    assert_read_and_not_written(json.loads(done.stdout), "Permission denied")
    assert everything(root) == before


def everything(root: Path) -> dict[Path, bytes]:
    """All files but the locks."""
    found = [path for path in root.rglob("*") if path.is_file() and ".claimbook" not in path.parts]
    return {path: path.read_bytes() for path in found}
