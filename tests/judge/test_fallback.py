"""The declared fallback: what a hypothesis may declare, and that a run made under it is as sealed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from claimbook.errors import RecordError
from claimbook.judge import beside
from claimbook.records import SealEntry, decode_json, encode_json
from claimbook.records.experiment import Fallback, read_hypothesis, seal_digest

Build = Callable[..., Any]
FALLBACK = {"halve": "batch_size", "double": "accumulate"}
PARAMETERS = {"epochs": 6, "batch_size": 64, "accumulate": 1}
DIFFERENCES = [0.02, 0.03, 0.02, 0.03, 0.02, 0.04]

TOML = """\
title    = "A sigmoid loss beats the softmax loss"
paper    = "siglip"
claim    = "small-batch"
notebook = "siglip"
metric   = "recall@1"
margin   = 0.01
seeds    = [0, 1]

[parameters]
batch_size = 64
accumulate = 1

[fallback]
halve  = "batch_size"
double = "accumulate"

[arms.baseline]
loss = "softmax"
[arms.treatment]
loss = "sigmoid"
"""


@pytest.fixture
def study(by_seed: Build) -> Any:
    """Six paired seeds whose batch may be halved when memory runs out."""
    return by_seed(DIFFERENCES, parameters=PARAMETERS, fallback=Fallback(**FALLBACK))


# what may be declared


def test_halving_the_batch_doubles_the_accumulation_and_keeps_the_samples_of_a_step():
    hypothesis = read_hypothesis(TOML, "hypothesis.toml")
    sealed = hypothesis.parameters_of("treatment", 0)
    twice = hypothesis.fallen_back(sealed, 2)
    assert twice == {"batch_size": 16, "accumulate": 4, "loss": "sigmoid", "seed": 0}
    assert hypothesis.fallen_back(sealed, 0) == sealed
    assert hypothesis.fallen_back(sealed, 6)["batch_size"] == 1
    for times in (7, -1, 10**12):
        assert hypothesis.fallen_back(sealed, times) is None
    assert hypothesis.fallen_back({**sealed, "batch_size": 12}, 3) is None
    assert hypothesis.fallen_back({"batch_size": 64}, 1) is None


def test_without_a_declaration_nothing_falls_back():
    declared = '[fallback]\nhalve  = "batch_size"\ndouble = "accumulate"\n'
    plain = read_hypothesis(TOML.replace(declared, ""), "hypothesis.toml")
    assert plain.fallback is None
    assert plain.fallen_back({"batch_size": 64, "accumulate": 1}, 0) == {"batch_size": 64, "accumulate": 1}
    assert plain.fallen_back({"batch_size": 64, "accumulate": 1}, 1) is None


@pytest.mark.parametrize(
    ("old", "new", "problem", "line"),
    [
        ('"batch_size"', '"batchsize"', "batchsize, which arm baseline does not set", 14),
        ('double = "accumulate"', 'double = "steps"', "steps, which arm baseline does not set", 15),
        ('double = "accumulate"', 'double = "batch_size"', "fallback.double is batch_size too", 15),
        ("batch_size = 64", "batch_size = 63", "is 63 in arm baseline and has no half", 14),
        ("batch_size = 64", "batch_size = 1", "is 1 in arm baseline and has no half", 14),
        ("batch_size = 64", "batch_size = 64.0", "is 64.0 in arm baseline", 14),
        ("accumulate = 1", "accumulate = true", "is True in arm baseline", 15),
        ("accumulate = 1", "accumulate = 0", "is 0 in arm baseline", 15),
        ('loss = "sigmoid"', 'loss = "sigmoid"\nbatch_size = 5', "is 5 in arm treatment", 14),
        ('double = "accumulate"', 'double = "accumulate"\ntimes = 3', "no field 'times'", 16),
        ('halve  = "batch_size"\n', "", "the field 'halve' is missing", None),
    ],
)
def test_a_fallback_that_cannot_be_used_is_refused_with_its_line(old, new, problem, line):
    text = TOML.replace(old, new)
    assert text != TOML
    with pytest.raises(RecordError) as caught:
        read_hypothesis(text, "hypothesis.toml")
    assert problem in caught.value.problem
    if line is not None:
        assert caught.value.where == f"hypothesis.toml:{line}"


# what is as sealed


def test_a_run_under_the_declared_fallback_counts(study: Any) -> None:
    plain = study.judge()
    study.change("treatment", 3, fallbacks=2, parameters=changed(study, batch_size=16, accumulate=4))
    verdict = study.judge()
    assert verdict.outcome == plain.outcome == "supported"
    assert (verdict.reasons, verdict.p, verdict.effect) == ([], plain.p, plain.effect)


@pytest.mark.parametrize(
    ("fallbacks", "parameters", "named"),
    [
        (0, {"batch_size": 32, "accumulate": 2}, ["accumulate", "batch_size"]),  # nobody said so
        (1, {"batch_size": 32, "accumulate": 1}, ["accumulate"]),  # half the samples a step
        (1, {"batch_size": 16, "accumulate": 4}, ["accumulate", "batch_size"]),
        (1, {"batch_size": 32, "accumulate": 2, "epochs": 7}, ["epochs"]),
        (1, {}, ["accumulate", "batch_size"]),
        (-1, {"batch_size": 128, "accumulate": 1}, ["batch_size"]),
        (10**12, {"batch_size": 32, "accumulate": 2}, ["accumulate", "batch_size"]),
    ],
)
def test_anything_else_than_what_was_declared_deviates(study: Any, fallbacks, parameters, named) -> None:
    study.change("treatment", 3, fallbacks=fallbacks, parameters=changed(study, **parameters))
    verdict = study.judge()
    assert verdict.outcome == "deviated"
    assert [reason.split("parameter ")[1].split()[0] for reason in verdict.reasons] == named


def test_a_fallback_that_was_not_sealed_deviates(by_seed: Build) -> None:
    study = by_seed(DIFFERENCES, parameters=PARAMETERS)
    study.change("treatment", 3, fallbacks=1, parameters=changed(study, batch_size=32, accumulate=2))
    assert study.judge().outcome == "deviated"


def changed(study: Any, **parameters: int) -> dict[str, Any]:
    """The sealed parameters of treatment and seed 3 with these in their place."""
    return {**study.seal.hypothesis.parameters_of("treatment", 3), **parameters}


# seals


def test_a_seal_from_before_there_were_fallbacks_still_fits_its_hash(study: Any) -> None:
    raw = encode_json(study.seal)
    del raw["hypothesis"]["fallback"]
    old = {**raw, "hash": seal_digest(raw)}
    entry = decode_json(json.dumps(old), SealEntry, "seal.json")
    assert entry.hypothesis.fallback is None
    assert entry.hash == seal_digest(old)


def test_a_fallback_added_after_the_seal_is_a_change_of_the_hypothesis(study: Any, by_seed: Build) -> None:
    without = by_seed(DIFFERENCES, parameters=PARAMETERS)
    seal = without.seal
    assert seal.differences(study.seal.hypothesis, seal.notebook, seal.code, seal.data) == [
        "hypothesis (fallback)"
    ]


# what is told beside the verdict


def test_how_many_runs_of_which_arm_fell_back_is_told_in_both_languages(study: Any) -> None:
    for arm, seed, times in (("treatment", 3, 2), ("treatment", 4, 1), ("baseline", 0, 1)):
        parameters = study.seal.hypothesis.fallen_back(study.seal.hypothesis.parameters_of(arm, seed), times)
        study.change(arm, seed, fallbacks=times, parameters=parameters)
    verdict = study.judge()
    assert verdict.fallbacks == {"baseline": 1, "treatment": 2}
    assert beside(verdict) == [
        "memory ran out, and the declared fallback (half the batch, twice the accumulation) was used in "
        "1 of 6 runs of baseline, 2 of 6 runs of treatment",
        "one arm used it more often than the other, and so trained with smaller batches, at seeds 0, 3, 4",
    ]
    assert beside(verdict, "ko") == [
        "메모리가 부족해 미리 정해 둔 대체 설정(배치 절반, 누적 2배)으로 진행한 실행: "
        "baseline 6개 중 1개, treatment 6개 중 2개",
        "두 비교군의 대체 설정 적용 횟수가 달라 배치 크기가 서로 다른 시드: 0, 3, 4",
    ]
    assert beside(study.judge(), "ko") == beside(verdict, "ko")


def test_a_second_run_that_does_not_count_is_not_told(study: Any, four_items: Build) -> None:
    parameters = changed(study, batch_size=32, accumulate=2)
    study.add("treatment", 3, four_items(0.5), fallbacks=1, parameters=parameters)
    assert study.judge().fallbacks == {}


def test_arms_that_used_the_fallback_as_often_are_not_uneven(study: Any) -> None:
    for arm in ("baseline", "treatment"):
        parameters = study.seal.hypothesis.fallen_back(study.seal.hypothesis.parameters_of(arm, 3), 1)
        study.change(arm, 3, fallbacks=1, parameters=parameters)
    assert study.judge().uneven_seeds == []


# what the arms of a seed ran under


def test_seeds_whose_arms_ran_under_other_versions_or_gpus_are_told_in_both_languages(study: Any) -> None:
    study.change("treatment", 1, environment={"distributions": "aaaa", "gpu": "NVIDIA L4"})
    study.change("baseline", 1, environment={"distributions": "aaaa", "gpu": "NVIDIA L4"})
    study.change("treatment", 2, environment={"distributions": "bbbb"})
    study.change("baseline", 4, environment={"gpu": "NVIDIA L4"})
    verdict = study.judge()
    assert verdict.uneven_surroundings == [2, 4]
    assert beside(verdict)[-1] == (
        "the arms ran under different installed versions or on different GPUs at seeds 2, 4"
    )
    assert beside(verdict, "ko")[-1] == "두 비교군의 설치 패키지 버전이나 GPU가 서로 다른 시드: 2, 4"
