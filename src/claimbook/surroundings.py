"""What a result may depend on besides its code and data: versions, hardware, git state. No variable's value.

Knows nothing of records; returns plain values that go into them.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path

SHOWN = (
    "claimbook",
    "torch",
    "transformers",
    "tokenizers",
    "numpy",
    "pillow",
    "scipy",
    "statsmodels",
    "papermill",
)
"""The distributions whose versions are shown; all others are covered by one hash."""


_SECRET_NAME = re.compile(
    r"token|secret|passw|pwd$|api_?key|access_?key|credential|auth|cookie", re.IGNORECASE
)
_SECRET_TEXT = re.compile(
    r"(?<=://)[^\s/@]+(?=@)"  # user:token@ in a URL
    r"|\b(?:hf_|gh[opsu]_|github_pat_|glpat-|sk-|xox[abp]-|AKIA)[A-Za-z0-9_\-]{12,}"
)


def redacted(text: str) -> str:
    """A text, such as an error's message, without what must not be recorded: `***` in its place.

    That is the value of any environment variable that its name or its looks give away as a secret, a user and
    password in a URL, and tokens of the forms that the common services give out.
    """
    for name, value in os.environ.items():
        if value in text and _is_secret(name, value):
            text = text.replace(value, "***")
    return _SECRET_TEXT.sub("***", text)


def _is_secret(name: str, value: str) -> bool:
    """By its name; or a long word of letters and digits, which a path, a locale or a version is not."""
    if name in ("PWD", "OLDPWD"):  # folders
        return False
    if len(value) >= 6 and _SECRET_NAME.search(name):
        return True
    word = re.fullmatch(r"[A-Za-z0-9_\-+=]{20,}", value) is not None
    return word and any(c.isdigit() for c in value) and any(c.isalpha() for c in value)


_INSTALLED = {"site-packages", "dist-packages"}
"""Folders of the path that hold what is installed; a folder within one is a package's own affair."""


def distributions() -> dict[str, str]:
    """Python, the versions that matter most, and a hash over every installed distribution.

    As they are now: a batch may outlast an installation.
    """
    # Ray, setuptools and others put folders of their own on the path when they are imported
    path = [folder or "." for folder in sys.path if not _INSTALLED & {*Path(folder).parts[:-1]}]
    found = []
    for folder in path:
        with suppress(OSError):
            found += [entry for entry in os.listdir(folder) if entry.endswith((".dist-info", ".egg-info"))]
    return _distributions(tuple(path), tuple(found))


@cache
def _distributions(path: tuple[str, ...], metadata_folders: tuple[str, ...]) -> dict[str, str]:
    """What is installed on a path while these folders tell of it: each is named by name and version."""
    installed = {d.name.lower(): d.version for d in metadata.distributions(path=list(path)) if d.name}
    lines = "\n".join(f"{name}=={version}" for name, version in sorted(installed.items()))
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **{name: installed[name] for name in SHOWN if name in installed},
        "distributions": hashlib.sha256(lines.encode()).hexdigest()[:16],
    }


def kernel_environment() -> dict[str, str]:
    """Processor, threads, and the GPU with its driver, as the process that computes sees them."""
    environment = {"processor": _processor(), "cores": str(os.cpu_count())}
    torch = sys.modules.get("torch")
    if torch is not None:
        environment["threads"] = str(torch.get_num_threads())
        if torch.cuda.is_available():
            environment["gpu"] = torch.cuda.get_device_name()
            environment["cuda"] = str(torch.version.cuda)
            environment["driver"] = _driver()
    return environment


def peak_memory() -> int | None:
    """Largest resident memory of this process so far, bytes; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


def git_state(folder: Path) -> dict[str, str | None]:
    """`commit`, and `diff`: a hash of what differs from it (tracked files), None when nothing does.

    Both are None outside a git repository or without git. No remote is asked for: its URL may hold a token.
    """
    return GitState(folder).result()


class GitState:
    """`git_state`, asked for when this is made and waited for in `result`."""

    def __init__(self, folder: Path) -> None:
        inside = any((parent / ".git").exists() for parent in (folder, *folder.parents))
        self._commit = _Git(folder, "rev-parse", "HEAD") if inside else None
        self._changes = _Git(folder, "diff", "HEAD") if inside else None

    def result(self) -> dict[str, str | None]:
        """What git said."""
        commit = self._commit.output if self._commit else None
        changes = self._changes.output if self._changes else None
        return {
            "commit": commit.decode().strip() if commit else None,
            "diff": hashlib.sha256(changes).hexdigest()[:16] if changes else None,
        }


class _Git:
    """A git command under way."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        command = ["git", "-C", str(folder), *arguments]
        nowhere = subprocess.DEVNULL
        self._process: subprocess.Popen[bytes] | None = None
        # a file takes what git says: a pipe that nobody reads yet would block it
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  (closed in `output`)
        with suppress(OSError):
            self._process = subprocess.Popen(command, stdin=nowhere, stdout=self._said, stderr=nowhere)

    @cached_property
    def output(self) -> bytes | None:
        """What it said; None when it failed, or is not installed."""
        if self._process is None:
            return None
        with self._said:
            try:
                if self._process.wait(timeout=30) != 0:
                    return None
            except subprocess.TimeoutExpired:
                self._process.kill()
                return None
            self._said.seek(0)
            return self._said.read()


@cache
def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _driver() -> str:
    try:
        return Path("/proc/driver/nvidia/version").read_text().split("Kernel Module")[1].split()[0]
    except (OSError, IndexError):
        return "unknown"
