"""Processes that change a library and are killed before each call that touches the disk.

    cut_off.py SCENARIO FOLDER

FOLDER/begin is the workspace to begin with; a copy of it is made for each kill. Prints a line of JSON for
each process: where it was killed, and in which copy. The last one comes to its end. The processes are forked
from one that has imported all that it takes, so that a kill costs milliseconds.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from paper_examples import THEN, entry

from claimbook.papers.library import add, catalogue, remove, restore, set_status, tag
from claimbook.papers.tables import write_tables
from claimbook.workspace import Workspace

CALLS = ("open", "fsync", "rename", "replace", "mkdir", "unlink", "rmdir")
"""Between two of them only `open` leaves something to see: an empty file, before it is written."""


def adding(workspace: Workspace) -> None:
    """A new paper, and a new version of one whose note a person wrote."""
    add(workspace, entry("2103.00020", title="CLIP: a name"), THEN, tags=["새 논문"])
    add(workspace, entry(version=2), THEN)
    write_tables(workspace)


def editing(workspace: Workspace) -> None:
    """Three fields of a note, then its tags."""
    set_status(workspace, "mine", "read", week="2026-W48", read_version=1)
    tag(workspace, "mine", add=["검색"])
    write_tables(workspace)


def removing(workspace: Workspace) -> None:
    """Into the trash and back."""
    if "mine" in catalogue(workspace):
        remove(workspace, "mine")
        write_tables(workspace)
    restore(workspace, "mine")
    write_tables(workspace)


SCENARIOS: dict[str, Callable[[Workspace], None]] = {
    "adding": adding, "editing": editing, "removing": removing
}  # fmt: skip


def kill_at(place: int) -> None:
    """Let this process die at a place: before a call, or behind one that opens a file, by their order."""
    places = count()

    def dying(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            _die_when(next(places) == place, f"before {name}")
            result = call(*arguments, **named)
            if name == "open":
                _die_when(next(places) == place, f"behind {name}")
            return result

        return wrapped

    for name in CALLS:
        setattr(os, name, dying(name, getattr(os, name)))


def _die_when(now: bool, where: str) -> None:
    if now:
        os.write(1, f'"{where}"'.encode())
        os.kill(os.getpid(), signal.SIGKILL)


def main(scenario: str, folder: Path) -> None:
    for place in count():
        root = folder / f"{place:04}"
        shutil.copytree(folder / "begin", root)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.dup2(write, 1)
            kill_at(place)
            try:
                SCENARIOS[scenario](Workspace(root))
                os.write(1, b"null")
            finally:
                os._exit(0)
        os.close(write)
        os.waitpid(pid, 0)
        with os.fdopen(read) as said:
            killed = json.loads(said.read())
        print(json.dumps({"root": str(root), "killed": killed}), flush=True)
        if killed is None:
            return


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
