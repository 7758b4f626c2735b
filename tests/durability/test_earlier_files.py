"""Files that an earlier version wrote are read, judged and verified as they are: the committed experiment.

Its seal and runs are of the first version: no ledger, no sealed sources, no test named in the verdict.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from claimbook import workspace
from claimbook.errors import RecordError
from claimbook.experiments import Experiment
from claimbook.judge.of_experiment import judge_experiment
from claimbook.records import encode_json
from claimbook.records.experiment import seal_digest
from claimbook.runner import sealing
from claimbook.verification import verify
from claimbook.workspace import Workspace

ROOT = Path(__file__).parents[2]
SLUG = "siglip-small-batch"
SEALED_AS = "92e3103f7c6491947bdba924c188ecbcf40c5a66237d019e768baecc556f22a3"
"""Its hash, as the first version computed it."""


@pytest.fixture
def old(tmp_path) -> tuple[Workspace, Experiment]:
    """The committed experiment, papers and notebooks, without what git ignores."""
    for name in ("papers", "notebooks", f"experiments/{SLUG}"):
        shutil.copytree(
            ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("notebook.ipynb", ".ipynb*")
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    space = workspace.find(tmp_path)
    return space, Experiment.of(space, SLUG)


def first_entry(path: Path) -> str:
    """The text of the first seal, as it stands in the file."""
    found = re.search(r"\n    \{\n.*?\n    \}", path.read_text("utf-8"), re.DOTALL)
    assert found is not None
    return found[0]


def test_its_files_are_of_the_first_version(old):
    _, experiment = old
    (entry,) = json.loads(experiment.seal_path.read_bytes())["entries"]
    assert not {"with_ledger", "changes"} & entry.keys()
    assert "control_margin" not in entry["hypothesis"]
    record = json.loads(next(experiment.folder.glob("runs/*/run.json")).read_bytes())
    assert not {"rerun"} & record.keys()
    assert not experiment.ledger_path.exists()


def test_its_seal_still_fits_its_hash(old):
    _, experiment = old
    seal = experiment.seal()
    assert seal is not None
    assert seal.current.hash == SEALED_AS
    assert not seal.current.with_ledger
    assert experiment.hypothesis() == seal.current.hypothesis
    assert experiment.sealed_sources(seal.current) is None


def test_its_runs_steps_and_item_scores_are_read(old):
    _, experiment = old
    runs = experiment.runs()
    assert [run.status for run in runs] == ["finished"] * 18
    assert {run.kind for run in runs} == {"confirmatory"}
    for run in runs:
        steps, finish = experiment.steps(run.id)
        assert steps
        assert finish is not None
        scores = experiment.items(run)
        assert scores.mean("i2t_recall@1") == pytest.approx(run.metrics["i2t_recall@1"])
    assert experiment.ledger().lines == []


def test_it_is_judged_as_it_was(old):
    space, experiment = old
    recorded = experiment.verdict()
    again = judge_experiment(space, experiment)
    assert recorded is not None
    assert (again.outcome, again.effect, again.interval, again.p, again.p_adjusted) == (
        recorded.outcome,
        recorded.effect,
        recorded.interval,
        recorded.p,
        recorded.p_adjusted,
    )
    assert again.outcome == "refuted"


def test_it_verifies(old):
    space, _ = old
    (found,) = verify(space, [SLUG])
    assert (found.state, found.outcome, found.problems) == ("verified", "refuted", [])


def test_it_does_not_verify_once_a_run_is_touched(old):
    space, experiment = old
    path = next(experiment.folder.glob("runs/treatment-s3*/run.json"))
    path.write_text(re.sub(r'"i2t_recall@1": 0\.\d+', '"i2t_recall@1": 0.9', path.read_text(), count=1))
    (found,) = verify(space, [SLUG])
    assert found.state == "does not verify"
    assert any(path.parent.name in problem for problem in found.problems)


def test_amending_it_keeps_the_old_entry_byte_for_byte(old):
    space, experiment = old
    before = first_entry(experiment.seal_path)
    path = experiment.folder / "hypothesis.toml"
    seeds = ", ".join(str(seed) for seed in range(10, 22))  # the first result has been seen: a family of two
    path.write_text(re.sub(r"(?m)^seeds .*$", f"seeds = [{seeds}]", path.read_text("utf-8")), "utf-8")
    entry, changed = sealing.amend(space, experiment, "더 많은 시드로 다시 확인한다")
    assert first_entry(experiment.seal_path) == before
    assert any(part.startswith("hypothesis (seeds") for part in changed)
    seal = experiment.seal()
    assert seal is not None
    assert [one.hash for one in seal.entries] == [json.loads(before)["hash"], entry.hash]
    assert entry.previous == json.loads(before)["hash"]
    assert entry.with_ledger
    assert experiment.sealed_sources(entry) is not None
    (found,) = verify(space, [SLUG])
    assert (found.state, found.problems) == ("verified", [])


def test_fields_that_a_later_version_adds_are_read_past(judged):
    run = judged.runs()[0]
    path = judged.run_folder(run.id) / "run.json"
    document = json.loads(path.read_bytes())
    document["carbon"] = {"grams": 12.5}
    document["process"]["cores"] = 2
    path.write_text(json.dumps(document))
    assert judged.runs()[0] == run
    document = json.loads(judged.seal_path.read_bytes())
    (entry,) = document["entries"]
    entry["reviewed_by"] = "다른 사람"
    judged.seal_path.write_text(json.dumps(document))
    with pytest.raises(RecordError, match=r"entries\[0\] does not fit its hash"):
        judged.seal()
    entry["hash"] = seal_digest(entry)  # as the later version would have sealed it
    judged.seal_path.write_text(json.dumps(document))
    seal = judged.seal()
    assert seal is not None
    assert seal.current.hash == entry["hash"]
    assert "reviewed_by" not in encode_json(seal.current)
