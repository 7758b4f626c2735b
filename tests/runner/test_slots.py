"""How slots, GPUs and limits are asked for, and what a kernel is told of them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from claimbook.errors import RunError
from claimbook.runner.slots import Limits, Place, environment, places, threads_of


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("CUDA_", "PYTORCH_")):
            monkeypatch.delenv(name)


def gpus_of(*arguments: object) -> list[str | None]:
    return [place.gpu for place in places(*arguments)]


def test_without_gpus_named_the_environment_chooses():
    assert places() == [Place(None, 1.0)]
    assert places(4) == [Place(None, 0.25)] * 4
    assert "CUDA_VISIBLE_DEVICES" not in environment(Limits(threads=1), Place())


def test_none_hides_every_gpu():
    assert gpus_of(2, "none") == ["", ""]
    assert environment(Limits(), Place(gpu=""))["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize(
    ("slots", "text", "expected"),
    [
        (None, "0,1", [("0", 1.0), ("1", 1.0)]),
        (1, "0,1", [("0", 1.0)]),
        (None, "0:0.5", [("0", 0.5), ("0", 0.5)]),
        (None, "0:.5, 1", [("0", 0.5), ("1", 1.0), ("0", 0.5)]),
        (2, "0:0.5,1:0.5", [("0", 0.5), ("1", 0.5)]),  # spread before they are doubled
        (None, "3:0.33", [("3", 0.33)] * 3),
        (None, "0:0.3333333333", [("0", 0.3333333333)] * 3),
        (None, "0:0.4", [("0", 0.4)] * 2),
        (None, "GPU-1d2e, MIG-9a0b:0.5", [("GPU-1d2e", 1.0), ("MIG-9a0b", 0.5), ("MIG-9a0b", 0.5)]),
    ],
)
def test_slots_are_dealt_out_over_the_gpus_by_their_shares(slots, text, expected):
    found = places(slots, text)
    assert [(place.gpu, place.gpu_share) for place in found] == expected


@pytest.mark.parametrize(
    "text", ["", "a", "0,", "0:0", "0:1.5", "0:-0.5", "0:0.001", "-1", "0;1", "cuda:0", "0:0.5:2", "０", "영"]
)
def test_what_is_no_gpu_is_refused_with_what_to_write(text):
    with pytest.raises(RunError, match="is no GPU or share of one") as caught:
        places(None, text)
    assert "0:0.5" in caught.value.fix
    assert caught.value.where == "--gpus"


def test_more_slots_than_the_gpus_give_are_refused():
    with pytest.raises(RunError, match=r"5 slots are too many: 0:0\.5,1:0\.5 gives 4"):
        places(5, "0:0.5,1:0.5")
    with pytest.raises(RunError, match="GPU 0 is named twice"):
        places(None, "0,0")
    with pytest.raises(RunError, match="cannot be 0 slots"):
        places(0)


def test_an_index_counts_among_the_gpus_that_the_environment_shows(monkeypatch):
    """A cluster gives a job GPUs 4 and 6: its GPU 1 is the machine's GPU 6."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 6")
    assert gpus_of(None, "1,0") == ["6", "4"]
    with pytest.raises(RunError, match="no GPU 2: CUDA_VISIBLE_DEVICES shows 2"):
        places(None, "2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1d2e,GPU-77")
    assert gpus_of(None, "1") == ["GPU-77"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(RunError, match="shows 0"):
        places(None, "0")


def test_threads_are_the_cores_that_this_process_may_use_divided():
    code = "import os; os.sched_setaffinity(0, {0}); from claimbook.runner.slots import threads_of; "
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("this system does not tell which cores a process may use")
    said = subprocess.run(
        [sys.executable, "-c", code + "print(threads_of(1), threads_of(3))"], capture_output=True, check=True
    )
    assert said.stdout.split() == [b"1", b"1"]
    cores = len(os.sched_getaffinity(0))
    assert (threads_of(1), threads_of(cores), threads_of(10 * cores)) == (cores, 1, 1)


def test_numeric_libraries_take_the_threads_that_they_are_given():
    code = "import torch, pyarrow; print(torch.get_num_threads(), pyarrow.cpu_count())"
    given = {**os.environ, **environment(Limits(threads=1), Place())}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=given)
    assert said.stdout.split() == [b"1", b"1"]
    assert environment(Limits(), Place()) == {}


def test_gpus_are_counted_as_the_driver_counts_them_unless_the_environment_says_otherwise(monkeypatch):
    assert environment(Limits(), Place(gpu="1"))["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert "CUDA_DEVICE_ORDER" not in environment(Limits(), Place())
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    assert environment(Limits(), Place(gpu="1"))["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"


def test_a_share_is_told_to_torchs_allocator_beside_what_it_was_told_before(monkeypatch):
    half = Place(gpu="0", gpu_share=0.5)
    share = "per_process_memory_fraction:0.5"
    assert environment(Limits(), half)["PYTORCH_CUDA_ALLOC_CONF"] == share
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    assert environment(Limits(), half)["PYTORCH_ALLOC_CONF"] == f"expandable_segments:True,{share}"
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "per_process_memory_fraction:0.9")
    told = environment(Limits(), half)
    assert told["PYTORCH_CUDA_ALLOC_CONF"] == share
    assert "PYTORCH_ALLOC_CONF" not in told
    whole = environment(Limits(), Place(gpu="0"))
    assert not {name for name in whole if name.startswith("PYTORCH")}
    assert not {name for name in environment(Limits(), Place(gpu=None, gpu_share=0.5)) if "ALLOC" in name}


def test_the_installed_torch_knows_the_word_for_a_share():
    """Its header lists the words that the allocator reads; an unknown one makes it fail."""
    import torch

    header = os.path.join(os.path.dirname(torch.__file__), "include/c10/cuda/CUDAAllocatorConfig.h")
    if not os.path.exists(header):
        pytest.skip("this torch comes without its headers")
    with open(header) as file:
        knows = '"per_process_memory_fraction"' in file.read()
    told = environment(Limits(), Place(gpu="0", gpu_share=0.5))
    assert any("ALLOC_CONF" in name for name in told) == knows
