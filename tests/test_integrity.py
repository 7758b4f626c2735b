"""Every recorded file is tampered with once, and is named. On copies of an experiment that really ran."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from claimbook import integrity
from claimbook.experiments import Experiment
from claimbook.judge.of_experiment import judge_experiment
from claimbook.records import Run
from claimbook.runner import sealing

RUNS = "experiments/toy/runs"
LEDGER = "experiments/toy/ledger.jsonl"


@pytest.fixture
def experiment(judged) -> Experiment:
    return Experiment.of(judged, "toy")


@pytest.fixture
def run(experiment) -> Path:
    """The folder of a run that the verdict rests on: treatment, seed 3, 0.595."""
    return next(experiment.folder.glob("runs/treatment-s3-*"))


def problems(experiment: Experiment) -> list[str]:
    return [str(error) for error in integrity.problems(experiment)]


def named(experiment: Experiment, place: str) -> str:
    """The first complaint about a place; what to do stands in it."""
    found = [text for text in problems(experiment) if text.startswith(f"{place}: ")]
    assert found, f"{place} is not named: {problems(experiment)}"
    assert "what to do" in found[0]
    return found[0]


def edit_json(path: Path, change: Callable[[Any], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def lines_of(experiment: Experiment) -> list[bytes]:
    return experiment.ledger_path.read_bytes().splitlines(keepends=True)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def rescored(data: bytes, scores: Callable[[list[Any]], list[Any]]) -> bytes:
    """The same item table with other scores: valid Parquet, written by another hand."""
    table = pq.read_table(io.BytesIO(data))
    columns = {name: table[name].to_pylist() for name in table.column_names}
    sink = io.BytesIO()
    pq.write_table(pa.table({**columns, "hit@1": scores(columns["hit@1"])}), sink)
    return sink.getvalue()


def forge(folder: Path, scores: Callable[[list[Any]], list[Any]], metric: float) -> None:
    """Other item scores, with the record and the finishing line changed so that all three agree."""
    items = rescored((folder / "items.parquet").read_bytes(), scores)
    (folder / "items.parquet").write_bytes(items)
    said = {"items_sha256": sha256(items), "metrics": {"hit@1": metric}}
    edit_json(folder / "run.json", lambda record: record.update(said))
    *steps, finish = (folder / "metrics.jsonl").read_text().splitlines()
    forged = json.dumps({**json.loads(finish), **said})
    (folder / "metrics.jsonl").write_text("\n".join([*steps, forged]) + "\n")


def test_what_the_machine_wrote_fits(experiment):
    assert problems(experiment) == []
    assert integrity.notes(experiment) == []
    lines = [json.loads(line) for line in lines_of(experiment)]
    assert sorted(line["event"] for line in lines) == ["ended"] * 18 + ["started"] * 18
    assert len({line["run"] for line in lines}) == 18


# a run's files


def other(value: Any) -> Any:
    """A value of the same kind that is not this one."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return f"{value}0"
        case list():
            return [*value, "x"]
        case dict():
            return {**value, "x": "y"}
        case _:
            return "x"


@pytest.mark.parametrize("field", Run.__struct_fields__)
def test_an_edited_field_of_a_runs_record_is_found(experiment, run, field):
    nobody = {"pid": 1, "created": 0.0, "host": "h"}
    changed: dict[str, Any] = {
        "status": "failed", "kind": "exploratory", "seconds": 1.0, "peak_gpu_memory": 1, "schema": 0,
        "scale": None, "failure": {"error": "E", "message": "m"}, "process": nobody,
        "metrics": {"hit@1": 0.9}, "chance": {"hit@1": 0.1}, "git": {"commit": "c", "diff": None},
    }  # fmt: skip
    edit_json(run / "run.json", lambda r: r.update({field: changed.get(field, other(r[field]))}))
    assert named(experiment, f"{RUNS}/{run.name}/run.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}"])
def test_a_runs_record_that_cannot_be_read_is_named(experiment, run, text):
    (run / "run.json").write_text(text)
    assert named(experiment, f"{RUNS}/{run.name}/run.json")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"loss":0.5', '"loss":0.4'),
        ('{"step":1', '{"step":0,"values":{"loss":0.9},"at":0.0}\n{"step":1'),
        ('"finished":true', '"finished":true '),
        ('"hit@1":0.595', '"hit@1":0.596'),
    ],
)
def test_an_edited_or_added_line_of_step_metrics_is_found(experiment, run, old, new):
    path = run / "metrics.jsonl"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert "was changed after the run had ended" in named(experiment, f"{RUNS}/{run.name}/metrics.jsonl")


def test_one_changed_item_score_in_valid_parquet_is_found(experiment, run):
    path = run / "items.parquet"
    path.write_bytes(rescored(path.read_bytes(), lambda hits: [1.0 - hits[0], *hits[1:]]))
    assert pq.read_table(path).num_rows == 200
    assert named(experiment, f"{RUNS}/{run.name}/items.parquet")


def test_the_same_scores_written_anew_are_found_too(experiment, run):
    path = run / "items.parquet"
    path.write_bytes(rescored(path.read_bytes(), lambda hits: hits))
    assert named(experiment, f"{RUNS}/{run.name}/items.parquet")


@pytest.mark.parametrize("name", ["run.json", "metrics.jsonl", "items.parquet"])
def test_a_removed_file_of_a_run_is_found(experiment, run, name):
    (run / name).unlink()
    place = run.name if name == "run.json" else f"{run.name}/{name}"
    assert named(experiment, f"{RUNS}/{place}")


def test_a_changed_executed_notebook_is_found_and_a_missing_one_is_no_fault(experiment, run):
    path = run / "notebook.ipynb"
    text = path.read_text()
    path.write_text(text.replace("loss=0.5", "loss=0.4"))
    assert path.read_text() != text
    assert named(experiment, f"{RUNS}/{run.name}/notebook.ipynb")
    for notebook in experiment.folder.glob("runs/*/notebook.ipynb"):
        notebook.unlink()
    assert problems(experiment) == []


def test_two_runs_whose_items_changed_places_are_both_found(experiment, run):
    swapped = next(experiment.folder.glob("runs/baseline-s3-*"))
    here, there = run / "items.parquet", swapped / "items.parquet"
    first, second = here.read_bytes(), there.read_bytes()
    here.write_bytes(second)
    there.write_bytes(first)
    assert named(experiment, f"{RUNS}/{run.name}/items.parquet")
    assert named(experiment, f"{RUNS}/{swapped.name}/items.parquet")


def test_two_runs_whose_folders_changed_names_are_found(experiment, run):
    swapped = next(experiment.folder.glob("runs/baseline-s3-*"))
    away = run.rename(run.with_name("away"))
    swapped.rename(run)
    away.rename(swapped)
    assert any("the folder is called" in text for text in problems(experiment))


def test_record_steps_and_items_forged_together_are_each_found(experiment, run):
    forge(run, lambda hits: [1.0] * len(hits), 1.0)
    for name in ("run.json", "metrics.jsonl", "items.parquet"):
        assert named(experiment, f"{RUNS}/{run.name}/{name}")


def test_a_removed_run_is_named_with_what_the_ledger_knows_of_it(experiment, run):
    shutil.rmtree(run)
    assert "the run is gone; the ledger has it as finished" in named(experiment, f"{RUNS}/{run.name}")


def test_a_run_that_was_copied_under_another_name_is_found(experiment, run):
    extra = run.with_name("treatment-s3-20200101-000000-abcdef")
    shutil.copytree(run, extra)
    edit_json(extra / "run.json", lambda r: r.update(id=extra.name, started="2020-01-01T00:00:00.000Z"))
    complaint = named(experiment, f"{RUNS}/{extra.name}")
    assert "the run is finished, and the ledger does not know it" in complaint


# the seal


@pytest.mark.parametrize(
    "field",
    [
        "sealed_at", "hypothesis", "notebook", "code", "data", "previous", "reason", "changes",
        "with_ledger", "hash",
    ],
)  # fmt: skip
def test_an_edited_field_of_a_seal_is_found(experiment, field):
    def change(seal: Any) -> None:
        entry = seal["entries"][0]
        entry[field] = {**entry[field], "margin": 0.04} if field == "hypothesis" else other(entry[field])

    edit_json(experiment.seal_path, change)
    assert "entries[0] does not fit its hash" in named(experiment, "experiments/toy/seal.json")


@pytest.mark.parametrize("field", ["git", "data_description"])
def test_what_of_a_seal_is_only_to_be_read_is_fixed_too(experiment, field):
    edit_json(experiment.seal_path, lambda seal: seal["entries"][0].update({field: "x"}))
    assert named(experiment, "experiments/toy/seal.json")


def test_a_removed_seal_is_found_by_the_runs_that_name_it(experiment):
    experiment.seal_path.unlink()
    assert problems(experiment)


def test_an_amendment_taken_back_out_of_the_seal_is_found(judged, experiment, edit):
    edit("margin   = 0.05", "margin   = 0.04")
    edit("seeds    = [0, 1, 2, 3, 4, 5]", "seeds    = [6, 7, 8, 9, 10, 11, 12]")
    sealing.amend(judged, experiment, "a smaller margin")
    assert problems(experiment) == []
    edit_json(experiment.seal_path, lambda seal: seal["entries"].pop())
    assert problems(experiment)


def a_cell(sources: Any) -> None:
    sources["notebook"][2] = sources["notebook"][2].replace("n = 200", "n = 100")


def a_code_line(sources: Any) -> None:
    sources["code"]["claimbook/products/split.py"] += "# nothing\n"


@pytest.mark.parametrize(
    "change", [a_cell, a_code_line, lambda s: s["code"].popitem(), lambda s: s["notebook"].pop()]
)
def test_edited_sealed_sources_are_found(experiment, change):
    (path,) = experiment.folder.glob("sealed/*.json")
    edit_json(path, change)
    assert "sealed sources" in named(experiment, f"experiments/toy/sealed/{path.name}")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"notebook": 3}'])
def test_sealed_sources_that_cannot_be_read_are_named(experiment, text):
    (path,) = experiment.folder.glob("sealed/*.json")
    path.write_text(text)
    assert named(experiment, f"experiments/toy/sealed/{path.name}")


def test_removed_sealed_sources_are_found(experiment):
    (path,) = experiment.folder.glob("sealed/*.json")
    path.unlink()
    assert "missing" in named(experiment, f"experiments/toy/sealed/{path.name}")


# the ledger


@pytest.mark.parametrize("number", [1, 2, 18, 35])
def test_an_edited_line_of_the_ledger_is_found_at_the_next_one(experiment, number):
    lines = lines_of(experiment)
    lines[number - 1] = lines[number - 1].replace(b'"seed":', b'"seed":1')
    experiment.ledger_path.write_bytes(b"".join(lines))
    assert "the line before this one was changed or taken out" in named(experiment, f"{LEDGER}:{number + 1}")


@pytest.mark.parametrize("number", [1, 2, 18, 35])
def test_a_line_taken_out_of_the_ledger_is_found_where_the_next_one_stands(experiment, number):
    lines = lines_of(experiment)
    del lines[number - 1]
    experiment.ledger_path.write_bytes(b"".join(lines))
    assert named(experiment, f"{LEDGER}:{number}")


def test_lines_of_the_ledger_that_changed_places_are_found(experiment):
    lines = lines_of(experiment)
    lines[9], lines[10] = lines[10], lines[9]
    experiment.ledger_path.write_bytes(b"".join(lines))
    assert named(experiment, f"{LEDGER}:10")


@pytest.mark.parametrize("cut", [1, 2, 36])
def test_last_lines_cut_off_the_ledger_are_missed_by_the_verdict(experiment, cut):
    experiment.ledger_path.write_bytes(b"".join(lines_of(experiment)[:-cut]))
    assert "verdict.json was computed after" in named(experiment, LEDGER)


def test_an_edited_last_line_is_missed_by_the_verdict(experiment):
    lines = lines_of(experiment)
    lines[-1] = lines[-1].replace(b'"finished"', b'"failed"')
    experiment.ledger_path.write_bytes(b"".join(lines))
    assert named(experiment, LEDGER)


def test_a_removed_ledger_is_found(experiment):
    experiment.ledger_path.unlink()
    assert named(experiment, LEDGER)


@pytest.mark.parametrize("line", [b"{\n", b"\n", b"[]\n", b"\xff\n", b'{"event":"started"}\n'])
def test_a_line_of_the_ledger_that_is_no_event_is_named(experiment, line):
    lines = lines_of(experiment)
    experiment.ledger_path.write_bytes(b"".join([*lines[:4], line, *lines[5:]]))
    assert named(experiment, f"{LEDGER}:5")


def test_a_torn_last_line_of_the_ledger_is_no_fault(experiment):
    with experiment.ledger_path.open("ab") as file:
        file.write(b'{"event":"started","run":"trea')
    assert problems(experiment) == []


@pytest.mark.parametrize("changes", [{}, {"seal": None}, {"event": "started"}])
def test_a_second_entry_that_would_cover_a_forged_run_is_found(judged, experiment, run, changes):
    """The chain is whole, the hashes are those of the forged files, and the verdict is judged anew."""
    forge(run, lambda hits: [1.0] * len(hits), 1.0)
    lines = lines_of(experiment)
    (ended,) = [
        line for line in map(json.loads, lines) if line["run"] == run.name and line["event"] == "ended"
    ]
    files = {name: sha256((run / name).read_bytes()) for name in ended["files"]}
    forged = {**ended, "files": files, "previous": sha256(lines[-1][:-1]), **changes}
    experiment.ledger_path.write_bytes(b"".join([*lines, json.dumps(forged).encode() + b"\n"]))
    assert f"contradicts an earlier one about run {run.name}" in named(experiment, f"{LEDGER}:37")


def test_two_branches_of_a_merged_ledger_fit(experiment):
    """Two exploratory runs were made on two clones, and their lines kept side by side."""
    lines = lines_of(experiment)
    branches = []
    for name in ("pilot-s101", "pilot-s102"):
        line = {"event": "started", "run": name, "arm": "baseline", "seed": 101, "at": "2026-11-24T00:00:00Z"}
        branches.append(json.dumps({**line, "previous": sha256(lines[-1][:-1])}).encode() + b"\n")
    experiment.ledger_path.write_bytes(b"".join([*lines, *branches]))
    assert problems(experiment) == []


def test_an_end_that_another_branch_entered_late_as_well_is_no_fault(experiment, run):
    """Merged after the verdict, its line stands last, and the verdict knows the other one."""
    lines = lines_of(experiment)
    started, ended = [json.loads(line) for line in lines if json.loads(line)["run"] == run.name]
    (number,) = [n for n, line in enumerate(lines) if json.loads(line) == started]
    theirs = {**ended, "late": True, "previous": sha256(lines[number][:-1])}
    experiment.ledger_path.write_bytes(b"".join([*lines, json.dumps(theirs).encode() + b"\n"]))
    assert problems(experiment) == []


# what the verdict knows of the ledger


@pytest.mark.parametrize("known", [[], ["first line"]])
def test_a_verdict_that_was_judged_before_its_runs_had_ended_is_found(experiment, known):
    """With an earlier head, or none, the lines after it could be cut without a trace."""
    first = sha256(lines_of(experiment)[0][:-1])
    edit_json(experiment.verdict_path, lambda v: v.update(ledger=[first for _ in known]))
    assert problems(experiment)


def test_a_head_that_is_no_line_is_found(experiment):
    edit_json(experiment.verdict_path, lambda v: v.update(ledger=["0" * 64]))
    assert "verdict.json was computed after" in named(experiment, LEDGER)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"effect": "large"}'])
def test_a_verdict_that_cannot_be_read_is_named_and_can_be_judged_anew(judged, experiment, text):
    experiment.verdict_path.write_text(text)
    assert named(experiment, "experiments/toy/verdict.json")
    assert judge_experiment(judged, experiment).outcome == "supported"


# runs that do not count


def exploratory(experiment: Experiment, run: Path, name: str, **changes: Any) -> Run:
    """A finished pilot beside the sealed runs, entered in the ledger."""
    (found,) = [one for one in experiment.runs() if one.id == run.name]
    pilot = msgspec.structs.replace(found, id=name, kind="exploratory", seal=None, **changes)
    shutil.copytree(run, experiment.run_folder(name))
    experiment.save_run(pilot)
    experiment.enter_start(pilot)
    experiment.enter_end(pilot)
    return pilot


def test_a_pilot_that_was_put_away_is_no_fault(experiment, run):
    exploratory(experiment, run, "pilot-s101", seed=101)
    assert problems(experiment) == []
    experiment.delete("pilot-s101")
    assert problems(experiment) == []


def test_a_sealed_run_that_was_put_away_by_hand_is_found(experiment, run):
    (experiment.folder / "deleted").mkdir()
    run.rename(experiment.folder / "deleted" / run.name)
    assert any(run.name in text for text in problems(experiment))


def test_a_run_that_was_killed_before_its_entry_is_no_fault(experiment, run):
    """Its process is gone, it executed nothing, and it has no result."""
    (found,) = [one for one in experiment.runs() if one.id == run.name]
    gone = msgspec.structs.replace(found.process, created=0.0)
    killed = msgspec.structs.replace(
        found, id="treatment-s3-killed", status="running", metrics={}, process=gone
    )
    experiment.save_run(killed)
    assert [one.status for one in experiment.runs() if one.id == killed.id] == ["lost"]
    assert problems(experiment) == []


def test_an_end_that_was_recorded_and_not_entered_is_noted_and_entered_by_the_next_batch(experiment, run):
    (found,) = [one for one in experiment.runs() if one.id == run.name]
    failed = msgspec.structs.replace(found, id="treatment-s3-failed", status="failed", metrics={})
    experiment.save_run(failed)
    experiment.enter_start(failed)
    (note,) = integrity.notes(experiment)
    assert "run treatment-s3-failed is failed, and its end is not entered" in note
    assert experiment.enter_late() == ["treatment-s3-failed"]
    assert integrity.notes(experiment) == ["run treatment-s3-failed: its end was entered late"]
    assert problems(experiment) == []
