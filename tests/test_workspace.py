"""Finding a workspace, naming things in it, and writing files that are whole at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from claimbook import workspace
from claimbook.errors import WorkspaceError
from claimbook.workspace import check_slug, is_week, write_bytes, write_json


def settings(folder, text: str):
    (folder / "pyproject.toml").write_text(text)
    return folder


def test_the_nearest_folder_above_with_settings_is_the_workspace(tmp_path, monkeypatch):
    settings(tmp_path, '[tool.claimbook]\nlanguage = "ko"\n')
    inner = tmp_path / "notebooks" / "deep"
    inner.mkdir(parents=True)
    settings(inner.parent, '[project]\nname = "something else"\n')
    monkeypatch.chdir(inner)
    found = workspace.find()
    assert found.root == tmp_path.resolve()
    assert found.language == "ko"


def test_claimbook_root_names_the_workspace(tmp_path, monkeypatch):
    settings(tmp_path, "[tool.claimbook]\n")
    monkeypatch.setenv("CLAIMBOOK_ROOT", str(tmp_path))
    monkeypatch.chdir("/")
    assert workspace.find().root == tmp_path.resolve()


def test_outside_a_workspace_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delenv("CLAIMBOOK_ROOT", raising=False)
    with pytest.raises(WorkspaceError, match="claimbook init DIR"):
        workspace.find(tmp_path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[tool.claimbook]\nlangauge = 'ko'\n", "did you mean 'language'"),
        ("[tool.claimbook]\nlanguage = 'kr'\n", "language is 'kr'"),
        ("[tool.claimbook]\ntimezone = 'Seoul'\n", "IANA name"),
        ("[tool.claimbook]\nweek_start = 'Mon'\n", "weekday"),
        ("[tool.claimbook]\nproducts = 3\n", r"\[tool.claimbook.products.<name>\]"),
        ("[tool.claimbook]\nexcused = ['2026-W52']\n", r"\[tool.claimbook.excused\]"),
        ("[tool.claimbook.excused]\n'2025-W53' = 'holiday'\n", "is no week and its reason"),
        ("[tool.claimbook.excused]\n2026-12-25 = 'holiday'\n", "is no week and its reason"),
        ("[tool.claimbook.excused]\n'2026-W53' = true\n", "is no week and its reason"),
        ("[tool.claimbook\n", "mend the TOML"),
    ],
)
def test_wrong_settings_name_file_and_setting(tmp_path, text, complaint):
    with pytest.raises(WorkspaceError, match=complaint) as caught:
        workspace.find(settings(tmp_path, text))
    assert "pyproject.toml" in str(caught.value)


def test_excused_weeks_and_why_are_read(tmp_path):
    """2026 has 53 ISO weeks, 2025 has 52."""
    text = "[tool.claimbook.excused]\n'2026-W53' = '연말'\n'2027-W01' = 'new year'\n"
    assert workspace.find(settings(tmp_path, text)).excused == {"2026-W53": "연말", "2027-W01": "new year"}


@pytest.mark.parametrize("week", ["２０２６-W48", "0001-W01", "1990-W10", "2026-W54", "2026-W4", "2026W48"])
def test_what_is_no_week_since_arxiv_began(week):
    assert not is_week(week)


@pytest.mark.skipif(os.name != "posix", reason="file modes")
def test_a_private_file_stays_private_when_it_is_replaced(tmp_path):
    path = tmp_path / "note.md"
    path.write_text("before")
    path.chmod(0o600)
    write_bytes(path, b"after")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"after", 0o600)


@pytest.mark.parametrize("slug", ["siglip", "e-clip", "siglip-small-batch", "2303"])
def test_slugs_that_can_name_a_folder(slug):
    assert check_slug(slug) == slug


@pytest.mark.parametrize("slug", ["", "../etc", "a/b", "SigLIP", "a b", "-a", "a--b", "학습", "a\n"])
def test_slugs_that_cannot(slug):
    with pytest.raises(WorkspaceError, match="lower-case letters"):
        check_slug(slug)


def test_a_name_that_is_nearly_right_is_suggested(toy):
    with pytest.raises(WorkspaceError, match="no experiment 'toi', did you mean 'toy'"):
        toy.experiment("toi")
    with pytest.raises(WorkspaceError, match="no notebook 'toyy', did you mean 'toy'"):
        toy.notebook("toyy")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "verdict.json"
    write_json(path, {"effect": 0.5})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"effect": float("nan")})
    assert path.read_text() == '{\n  "effect": 0.5\n}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_the_group_may_read_what_is_written(tmp_path):
    path = tmp_path / "run.json"
    write_bytes(path, b"{}")
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_reader_never_sees_half_a_file_while_the_writer_is_killed(tmp_path):
    """Twenty writers, each killed in mid-write: the file is always one of the whole ones."""
    path = tmp_path / "run.json"
    code = (
        "import sys; from pathlib import Path; from claimbook.workspace import write_json\n"
        "path = Path(sys.argv[1]); print('ready', flush=True)\n"
        "n = 0\n"
        "while True: n += 1; write_json(path, {'n': n, 'text': 'x' * 200_000, 'again': n})\n"
    )
    for attempt in range(20):
        process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.005 * attempt)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        if path.exists():
            import json

            value = json.loads(path.read_text())
            assert value["n"] == value["again"]


def test_a_lock_holds_between_processes_and_goes_with_its_holder(toy):
    code = (
        "import sys, time; from pathlib import Path; from claimbook import workspace\n"
        "with workspace.find(Path(sys.argv[1])).lock('toy'): print('held', flush=True); time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(toy.root)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(WorkspaceError, match="another claimbook process"), toy.lock("toy"):
        pass
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with toy.lock("toy"):
        pass
