"""Sizes as people write them, and which failures mean that memory ran out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from claimbook.errors import RunError
from claimbook.records import Failure
from claimbook.runner.memory import parse_bytes, ran_out, show_bytes, system_kills


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GiB", 8_589_934_592),
        ("8gib", 8_589_934_592),
        ("8G", 8_589_934_592),
        ("8 GB", 8_000_000_000),
        ("1.5GiB", 1_610_612_736),
        ("512MB", 512_000_000),
        (" 100 k ", 102_400),
        ("1TiB", 1_099_511_627_776),
        ("10b", 10),
    ],
)
def test_a_size_is_read_as_people_write_it(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "GiB", "-1GiB", "0GiB", "0.1b", "8 gigs", "8GiBs", "1e9", "nan", "8,5GB", "팔GiB", "9" * 5000],
)
def test_what_is_no_size_is_refused_where_it_stands(text):
    with pytest.raises(RunError, match="is no size in memory") as caught:
        parse_bytes(text, "nightly.toml: slots.memory")
    assert caught.value.where == "nightly.toml: slots.memory"
    assert "8GiB" in caught.value.fix


@pytest.mark.parametrize("number", ["8", "1.5", "0", "8589934592"])
def test_a_number_without_a_unit_is_refused(number):
    with pytest.raises(RunError, match=f"'{number}' has no unit") as caught:
        parse_bytes(number)
    assert caught.value.fix.startswith(f"write {number}GiB")


def test_a_size_is_shown_in_three_digits():
    sizes = (0, 999, 1023, 1024, 1024**2 * 3 // 2, 812 * 1024**2, 1000 * 1024**2, 8 * 1024**3)
    assert [show_bytes(size) for size in sizes] == [
        "0 B",
        "999 B",
        "0.999 KiB",
        "1 KiB",
        "1.5 MiB",
        "812 MiB",
        "0.977 GiB",
        "8 GiB",
    ]


@pytest.mark.parametrize(
    ("error", "message", "expected"),
    [
        ("MemoryError", "", True),
        ("MemoryError", "Unable to allocate 8.00 PiB for an array with shape (1,)", True),
        ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has …", True),
        ("RuntimeError", "CUDA out of memory. Tried to allocate 20.00 GiB", True),
        ("AcceleratorError", "CUDA error: out of memory\nCUDA kernel errors might be …", True),
        ("RuntimeError", "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: "
         "you tried to allocate 36028797018963968 bytes. Error code 12 (Cannot allocate memory)", True),
        ("RuntimeError", "[enforce fail at alloc_cpu.cpp:75] . DefaultCPUAllocator: not enough memory: you "
         "tried to allocate 8 bytes.", True),
        ("RuntimeError", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("OSError", "[Errno 12] Cannot allocate memory", True),
        ("ArrowMemoryError", "malloc of size 1 failed", True),
        ("ValueError", "the memory bank is empty", False),
        ("RuntimeError", "CUDA error: device-side assert triggered", False),
        ("RuntimeError", "mat1 and mat2 shapes cannot be multiplied (12x3 and 4x5)", False),
        ("OSError", "[Errno 28] No space left on device", False),
        ("KernelDied", "the kernel was killed or ran out of memory", False),
        ("AssertionError", "", False),
    ],
)  # fmt: skip
def test_an_error_that_says_memory_ran_out_is_known_by_its_name_or_its_words(error, message, expected):
    assert ran_out(Failure(error=error, message=message)) is expected


def test_the_systems_kills_are_those_that_it_counts_for_us():
    """On Linux the count is there, and never above that of the whole machine."""
    vmstat = Path("/proc/vmstat")
    if not vmstat.exists():
        assert system_kills() is None
        return
    found = re.search(r"^oom_kill (\d+)$", vmstat.read_text(), re.MULTILINE)
    kills = system_kills()
    assert kills is not None
    assert found is None or 0 <= kills <= int(found[1])
