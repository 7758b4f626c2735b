"""What a person or a damaged disk may write, and what the complaint says."""

from __future__ import annotations

import json
import math

import msgspec
import pytest

from claimbook.errors import RecordError
from claimbook.records import Claim, ItemScores, decode_json, encode_json, read_steps
from claimbook.records.experiment import SealEntry, read_decision, read_hypothesis
from claimbook.records.paper import PaperMeta, read_paper

HYPOTHESIS = """\
title    = "One"
paper    = "siglip"
claim    = "small-batch"
notebook = "siglip"
metric   = "recall@1"
margin   = 0.01
seeds    = [0, 1, 2, 3, 4, 5]

[parameters]
products = "catalog"
[arms.baseline]
loss = "softmax"
[arms.treatment]
loss = "sigmoid"
[controls.shuffled]
shuffle_pairs = true
"""

META = {
    "id": "2103.00020", "title": "CLIP", "authors": ["A"], "abstract": "…", "categories": ["cs.CV"],
    "published": "2021-02-26", "updated": "2021-02-26", "versions": [1], "source": "manual",
}  # fmt: skip


def hypothesis(old: str = "", new: str = ""):
    assert old in HYPOTHESIS
    return read_hypothesis(HYPOTHESIS.replace(old, new, 1), "hypothesis.toml")


def test_defaults_are_those_of_the_documentation():
    read = hypothesis()
    assert (read.direction, read.kind, read.alpha, read.scope) == ("higher", "superiority", 0.05, "method")
    assert read.arm_names() == ["baseline", "treatment", "shuffled"]


def test_a_control_changes_the_treatment_and_nothing_else():
    assert hypothesis().parameters_of("shuffled", 3) == {
        "products": "catalog",
        "loss": "sigmoid",
        "shuffle_pairs": True,
        "seed": 3,
    }


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("margin   = 0.01", "margin   = -1", "hypothesis.toml:6: margin is -1"),
        ("margin   = 0.01", "margin   = nan", "hypothesis.toml:6: margin is nan"),
        ('metric   = "recall@1"', 'metric   = " "', "hypothesis.toml:5: metric is empty"),
        ('loss = "sigmoid"', "loss = nan", "loss is nan"),
        ("margin   = 0.01", 'margin   = "a"', "hypothesis.toml:6: margin: Expected `float`, got `str`"),
        ("margin   = 0.01", "marign   = 0.01", "hypothesis.toml:6: there is no field 'marign', did you mean"),
        ("margin   = 0.01\n", "", "hypothesis.toml: the field 'margin' is missing"),
        ("margin   = 0.01", "margin   = 0.01\nalpha = 0.7", "hypothesis.toml:7: alpha is 0.7"),
        ("seeds    = [0, 1, 2, 3, 4, 5]", "seeds    = [0, 0]", "hypothesis.toml:7: seeds repeat"),
        ("seeds    = [0, 1, 2, 3, 4, 5]", "seeds    = [0, 1.5]", r"hypothesis.toml:7: seeds\[1\]"),
        ("seeds    = [0, 1, 2, 3, 4, 5]", "seeds    = []", "hypothesis.toml:7: seeds repeat"),
        ('loss = "sigmoid"', 'loss = "softmax"', "arms.baseline and arms.treatment are the same"),
        ('loss = "sigmoid"', 'loss = "sigmoid"\nseed = 1', "seed is no parameter here"),
        ("[arms.treatment]", "[arms.other]", "arms are baseline, other"),
        ("[controls.shuffled]", "[controls.baseline]", "controls.baseline is no name"),
        ('title    = "One"', 'title    = "One', "mend the TOML"),
        ('metric   = "recall@1"', 'metric   = "recall@1"\nkind = "better"', "Invalid enum value 'better'"),
    ],
)
def test_what_is_wrong_in_a_hypothesis_is_named_with_its_line(old, new, complaint):
    with pytest.raises(RecordError, match=complaint) as caught:
        hypothesis(old, new)
    assert "what to do" in str(caught.value)


def test_unanswered_questions_are_listed():
    read = hypothesis("[parameters]", '[questions]\nproblem = "Yes."\nmethod = "…"\n[parameters]')
    assert read.questions.empty() == ["difficulty", "tried", "similar", "method", "verification", "service"]


def test_a_seal_notices_every_edit():
    read = hypothesis()
    entry = SealEntry(
        hash="",
        sealed_at="2026-11-23T00:00:00Z", hypothesis=read, notebook="n", code={"a.py": "1"},
        data="d", data_description="",
    )  # fmt: skip
    digest = entry.digest
    assert msgspec.structs.replace(entry, hash="x", git="y", data_description="z").digest == digest
    assert entry.differences(read, "n", {"a.py": "1"}, "d") == []
    changed = hypothesis("margin   = 0.01", "margin   = 0.02")
    assert entry.differences(changed, "m", {"a.py": "2", "b.py": "1"}, "e") == [
        "hypothesis (margin)",
        "notebook code",
        "technique code (a.py, b.py)",
        "product set",
    ]
    raw = encode_json(entry)
    for field, value in (
        ("notebook", "m"),
        ("data", "e"),
        ("code", {}),
        ("hypothesis", encode_json(changed)),
        ("sealed_at", "2026"),
        ("reason", "r"),
        ("previous", "p"),
    ):
        assert decode_json(json.dumps({**raw, field: value}), SealEntry, "seal.json").digest != digest


def test_machine_files_of_a_later_version_are_read_past_what_is_new():
    meta = decode_json(json.dumps({**META, "licence": "CC0"}), PaperMeta, "meta.json")
    assert meta.url == "https://arxiv.org/abs/2103.00020"


def test_machine_files_whose_meaning_changed_in_a_later_version_are_refused():
    with pytest.raises(RecordError, match=r"meta\.json: schema is 2.*reads up to 1\n.*update claimbook"):
        decode_json(json.dumps({**META, "schema": 2}), PaperMeta, "meta.json")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"id": 3}', "null"])
def test_machine_files_that_are_damaged_are_named(text):
    with pytest.raises(RecordError, match=r"meta\.json"):
        decode_json(text, PaperMeta, "meta.json")


def paper(front: str, body: str = "A note.\n"):
    return read_paper("clip", json.dumps(META).encode(), f"---\n{front}\n---\n{body}")


def test_a_paper_is_its_metadata_its_claims_and_the_note():
    read = paper('id: "2103.00020"\nclaims:\n  - {id: a, text: 주장, metric: recall}\n', "# 읽은 것\n")
    assert read.claim("a") == Claim(id="a", text="주장", metric="recall")
    assert read.body == "# 읽은 것\n"
    with pytest.raises(RecordError, match="no claim 'b'"):
        read.claim("b")


@pytest.mark.parametrize(
    ("front", "complaint"),
    [
        ("id: 2103.00020", "put the arXiv id in quotes"),
        ('id: "2303.15343"', r"the note is about 2303\.15343, meta\.json about 2103\.00020"),
        ('id: "2103.00020"\nstatus: done', r"README\.md:3: status: Invalid enum value 'done'"),
        ('id: "2103.00020"\nclaims:\n  - {id: a, text: t}', "'metric' is missing"),
        (
            'id: "2103.00020"\nclaims:\n  - {id: a, text: t, metric: m}\n  - {id: a, text: t, metric: m}',
            "two claims are called 'a'",
        ),
        ('id: "2103.00020"\nweek: 2026-11-23', '"2026-W48"'),
        ("id: [", r"README\.md:\d+: the front matter is no YAML"),
    ],
)
def test_what_is_wrong_in_a_note_is_named(front, complaint):
    with pytest.raises(RecordError, match=complaint):
        paper(front)


def test_a_note_without_front_matter_is_refused():
    with pytest.raises(RecordError, match=r"papers/clip/README\.md:1: the front matter is missing"):
        read_paper("clip", json.dumps(META).encode(), "# A note\n")


def test_a_decision_may_still_be_open():
    decision, body = read_decision("---\ndecision:\ntags: []\n---\n# Learned\n", "README.md")
    assert decision.decision is None
    assert body == "# Learned\n"


def test_a_torn_last_line_is_read_past_and_any_other_is_named():
    line = b'{"step":1,"values":{"loss":2.0},"at":0.5}\n'
    steps, finish = read_steps(line + line.replace(b":1,", b":2,") + b'{"step":3,"va', "metrics.jsonl")
    assert [step.step for step in steps] == [1, 2]
    assert finish is None
    steps, _ = read_steps('{"step":1,"values":{"손실\u2028b":2.0},"at":0.5}\n'.encode(), "metrics.jsonl")
    assert steps[0].values == {"손실\u2028b": 2.0}
    with pytest.raises(RecordError, match=r"metrics\.jsonl:1"):
        read_steps(b'{"step"\n' + line, "metrics.jsonl")
    with pytest.raises(RecordError, match=r"metrics\.jsonl:2"):
        read_steps(line + b"{torn but ended\n", "metrics.jsonl")


def test_item_scores_survive_parquet_to_the_last_bit():
    scores = ItemScores.of({"item": ["사과", "b"], "cluster": ["p", "q"], "hit": [0.1 + 0.2, 1 / 3]})
    again = ItemScores.from_parquet(scores.to_parquet(), "items.parquet")
    assert again.item == ("사과", "b")
    assert again.cluster == ("p", "q")
    assert again.scores["hit"].tolist() == [0.1 + 0.2, 1 / 3]
    assert again.mean("hit") == math.fsum([0.1 + 0.2, 1 / 3]) / 2


def test_a_damaged_parquet_file_is_named():
    data = ItemScores.of({"item": ["a"], "cluster": ["p"], "hit": [1.0]}).to_parquet()
    with pytest.raises(RecordError, match=r"items\.parquet: no readable Parquet"):
        ItemScores.from_parquet(data[:-20], "items.parquet")
