"""What this machine has, as the operating system and this Python say it."""

from pathlib import Path

import psutil
import pytest

from claimbook.week.machine import GIB, Machine, this_machine, weights_are_here

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def put_command(folder: Path, script: str) -> None:
    """An nvidia-smi that says what a real one would."""
    command = folder / "nvidia-smi"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)


def test_memory_and_disk_are_in_gib(tmp_path: Path) -> None:
    machine = this_machine(tmp_path)
    assert 0 < machine.memory <= psutil.virtual_memory().total / GIB
    assert machine.disk == pytest.approx(psutil.disk_usage(str(tmp_path)).free / GIB, abs=1.0)


def test_the_largest_gpu_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_command(tmp_path, "echo 24576; echo 81559")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    machine = this_machine(tmp_path)
    assert machine.gpu
    assert machine.gpu_memory == pytest.approx(79.6, abs=0.1)


@pytest.mark.parametrize("script", ["exit 9", "echo 'No devices were found'"])
def test_a_gpu_that_cannot_be_asked_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    put_command(tmp_path, script)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    machine = this_machine(tmp_path)
    assert machine == Machine(machine.memory, machine.disk, machine.gpu, None)


@pytest.mark.parametrize(
    ("name", "here"),
    [
        ("torch", True),
        ("scikit-learn-that-nobody-wrote", False),
        ("PyYAML", True),  # a distribution whose module has another name
        ("yaml", True),  # the module
        ("os.path", False),
        ("", False),
        ("../etc", False),
        ("한글", False),
        ("a/b/c", False),
        ("openai/clip-vit-base-patch32\n", False),
    ],
)
def test_an_installed_package_is_here(
    name: str, here: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert weights_are_here(name) is here


def test_the_local_cache_of_the_hub_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot with a configuration alone cannot be loaded; one with weights can."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    name = "openai/clip-vit-base-patch32"
    assert not weights_are_here(name)
    repository = tmp_path / "models--openai--clip-vit-base-patch32"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    (snapshot / "config.json").write_text("{}")
    assert not weights_are_here(name)
    (snapshot / "model.safetensors").write_bytes(b"weights")
    assert weights_are_here(name)
