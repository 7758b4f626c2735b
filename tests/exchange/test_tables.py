"""Tables as others read them: csv, pandas, pyarrow."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from claimbook.errors import ExchangeError, RecordError, WorkspaceError
from claimbook.exchange import export_items, export_table, run_rows
from claimbook.exchange.tables import spreadsheet_cell
from claimbook.experiments import BY_HAND, Experiment
from claimbook.records import decode_json
from claimbook.records.run import Run


def read_csv(path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")))


def test_a_row_says_what_a_run_was_and_what_it_scored(toy, experiment, add_run, verdict):
    sealed = add_run(arm="treatment", seed=3)
    pilot = add_run(seed=101, kind="exploratory", seal=None, why_exploratory=["not sealed"], metrics={})
    experiment.save_verdict(verdict)
    rows = {row["id"]: row for row in run_rows(toy)}
    assert rows[sealed.id] == {
        "id": sealed.id,
        "experiment": experiment.slug,
        "arm": "treatment",
        "seed": 3,
        "kind": "confirmatory",
        "status": "finished",
        "started": "2026-11-24T00:00:00.000Z",
        "ended": "2026-11-24T00:00:10.000Z",
        "seconds": 10.0,
        "seal": "5" * 64,
        "verdict": "supported",
        "metric.recall@1": 0.75,
        "param.loss": "sigmoid",
        "param.lr": 0.002,
        "param.shuffle": False,
        "param.crops": [1, 2],
        "param.seed": 3,
    }
    assert rows[pilot.id]["verdict"] is None
    assert "metric.recall@1" not in rows[pilot.id]


def test_runs_by_hand_are_in_the_table_of_everything_only(toy, experiment, add_run):
    run = add_run()
    by_hand = Experiment(toy.experiments / BY_HAND)
    copy = (experiment.run_folder(run.id) / "run.json").read_bytes()
    by_hand.save_run(decode_json(copy, Run, "run.json"))
    assert len(run_rows(toy)) == 2
    assert len(run_rows(toy, [experiment.slug])) == 1
    with pytest.raises(WorkspaceError, match="no experiment 'mug'"):
        run_rows(toy, ["mug"])


def test_csv_has_a_column_for_everything_and_stays_empty_where_there_is_nothing(toy, add_run, tmp_path):
    add_run(seed=0, parameters={"temperature": 0.5})
    add_run(seed=1, parameters={"말투": "존댓말, 짧게"}, metrics={})
    path = tmp_path / "runs.csv"
    assert export_table(path, run_rows(toy)) == 2
    first, second = read_csv(path)
    assert list(first)[-3:] == ["metric.recall@1", "param.temperature", "param.말투"]
    assert (first["metric.recall@1"], first["param.temperature"], first["param.말투"]) == ("0.75", "0.5", "")
    assert (second["metric.recall@1"], second["param.말투"]) == ("", "존댓말, 짧게")


def test_a_spreadsheet_reads_korean(toy, add_run, tmp_path):
    """Excel takes a file for UTF-8 by its first three bytes."""
    add_run(parameters={"말투": "존댓말"})
    path = tmp_path / "runs.csv"
    export_table(path, run_rows(toy))
    assert path.read_bytes().startswith(b"\xef\xbb\xbfid,experiment,")
    assert pd.read_csv(path)["param.말투"].tolist() == ["존댓말"]


FORMULAS = [
    "=1+1",
    '=HYPERLINK("http://example.com","할인")',
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "＝1+1",
    "＋1+1",
    "－1-1",
    "＠SUM(A1)",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_text_that_a_spreadsheet_would_execute_is_defused(toy, add_run, tmp_path, text):
    add_run(parameters={"prompt": text})
    path = tmp_path / "runs.csv"
    export_table(path, run_rows(toy))
    (row,) = read_csv(path)
    assert row["param.prompt"] == f"'{text}"


@pytest.mark.parametrize("value", [-0.5, -3, "-0.5", "+1e-3", "a=b", "1-2", "", "도자기 머그"])
def test_numbers_and_harmless_texts_stay_as_they_are(value):
    assert spreadsheet_cell(value) == value


def test_the_heading_is_defused_too(experiment, tmp_path):
    path = tmp_path / "runs.csv"
    export_table(path, [{"=1+1": 1}])
    assert list(read_csv(path)[0]) == ["'=1+1"]


def test_parquet_keeps_types_and_texts_as_they_are(toy, add_run, tmp_path):
    add_run(seed=0, parameters={"lr": 1, "flag": True, "mixed": "=1", "crops": [1, 2]})
    add_run(seed=1, parameters={"lr": 0.5, "flag": False, "mixed": 2}, ended=None, seconds=None)
    path = tmp_path / "runs.parquet"
    export_table(path, run_rows(toy))
    table = pq.read_table(path)
    types = {name: table.schema.field(name).type for name in table.column_names}
    assert types["seed"] == pa.int64()
    assert types["param.lr"] == types["metric.recall@1"] == types["seconds"] == pa.float64()
    assert types["param.flag"] == pa.bool_()
    assert types["param.mixed"] == types["param.crops"] == pa.string()
    assert table["param.lr"].to_pylist() == [1.0, 0.5]
    assert table["param.mixed"].to_pylist() == ["=1", "2"]
    assert table["param.crops"].to_pylist() == ["[1, 2]", None]
    assert table["ended"].to_pylist() == [datetime(2026, 11, 24, 0, 0, 10, tzinfo=UTC), None]


def test_a_whole_number_too_large_for_parquet_becomes_text(tmp_path):
    path = tmp_path / "runs.parquet"
    export_table(path, [{"param.n": 2**70}])
    assert pq.read_table(path)["param.n"].to_pylist() == ["1180591620717411303424"]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_item_scores_of_all_finished_runs_come_as_one_table(experiment, add_run, tmp_path, ending):
    first, second = add_run(arm="baseline", seed=0), add_run(arm="treatment", seed=3)
    add_run(arm="treatment", seed=4, status="failed", metrics={})
    path = tmp_path / f"items.{ending}"
    assert export_items(path, experiment) == 8
    frame = pd.read_csv(path) if ending == "csv" else pd.read_parquet(path)
    assert frame.columns.tolist() == ["experiment", "run", "arm", "seed", "item", "cluster", "recall@1"]
    assert frame["run"].tolist() == [first.id] * 4 + [second.id] * 4
    assert frame.groupby(["arm", "seed", "cluster"])["recall@1"].mean().to_dict() == {
        ("baseline", 0, "m"): 1.0,
        ("baseline", 0, "n"): 0.5,
        ("treatment", 3, "m"): 1.0,
        ("treatment", 3, "n"): 0.5,
    }


def test_item_scores_that_were_changed_are_not_passed_on(experiment, add_run, tmp_path):
    run = add_run()
    path = experiment.run_folder(run.id) / "items.parquet"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(RecordError, match=r"items\.parquet was changed"):
        export_items(tmp_path / "items.csv", experiment)
    assert not (tmp_path / "items.csv").exists()


def test_an_experiment_without_scores_says_what_to_do(experiment, tmp_path):
    with pytest.raises(ExchangeError, match="no finished run has item scores") as refused:
        export_items(tmp_path / "items.csv", experiment)
    assert f"claimbook run {experiment.slug}" in refused.value.fix


def test_another_ending_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(ExchangeError, match=r"runs\.xlsx ends neither with \.csv nor with \.parquet"):
        export_table(tmp_path / "runs.xlsx", [])


def test_no_runs_make_an_empty_table(tmp_path):
    assert export_table(tmp_path / "runs.parquet", []) == 0
    assert pq.read_table(tmp_path / "runs.parquet").num_rows == 0
