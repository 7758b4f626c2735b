"""Folders for sockets: own, private, and what the dead left is removed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

from claimbook.runner import sockets


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(sockets, "TEMPORARY", tmp_path)
    return tmp_path


def left_by(temporary, pid: int, *, days: float):
    folder = temporary / f"claimbook-{pid}-abc"
    folder.mkdir()
    (folder / "server").touch()
    then = folder.stat().st_mtime - days * 86_400
    os.utime(folder, (then, then))
    return folder


def test_a_folder_is_this_users_alone_and_another_one_each_time(temporary):
    first, second = sockets.socket_folder(), sockets.socket_folder()
    assert first != second
    assert stat.S_IMODE(first.stat().st_mode) == 0o700


def test_what_a_killed_process_left_is_removed_after_a_day(temporary):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    old, fresh = left_by(temporary, gone.pid, days=2), temporary / f"claimbook-{gone.pid}-new"
    fresh.mkdir()
    alive = left_by(temporary, os.getpid(), days=2)
    other = temporary / "claimbook-notes-mine"
    other.mkdir()
    sockets.socket_folder()
    assert [one.exists() for one in (old, fresh, alive, other)] == [False, True, True, True]
