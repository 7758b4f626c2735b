"""A team's runs on a real MLflow server, logged with MLflow's own client, and what the log makes of them."""

from __future__ import annotations

import json
import math
import shutil
import uuid

import pytest

from claimbook.errors import ExchangeError
from claimbook.exchange import export_mlflow, import_mlflow, mlflow_server
from claimbook.experiments import BY_HAND, Experiment
from claimbook.workspace import find

BEGAN = 1_795_478_400_000
"""2026-11-24T00:00:00Z in milliseconds since the epoch."""


@pytest.fixture
def theirs(client):
    """An experiment of a team, by name and id."""
    name = f"상품 검색 {uuid.uuid4().hex[:12]}"
    return name, client.create_experiment(name)


def log_run(client, experiment_id, *, status="FINISHED", points=(), params=None, tags=None) -> str:
    run = client.create_run(experiment_id, start_time=BEGAN, run_name="첫 시도", tags=tags)
    run_id = run.info.run_id
    for name, value in (params or {}).items():
        client.log_param(run_id, name, value)
    for name, value, milliseconds, step in points:
        client.log_metric(run_id, name, value, timestamp=BEGAN + milliseconds, step=step)
    if status != "RUNNING":
        client.set_terminated(run_id, status=status, end_time=BEGAN + 90_500)
    return run_id


def by_hand(toy) -> Experiment:
    return Experiment(toy.experiments / BY_HAND)


def test_a_run_comes_in_as_an_exploratory_one(toy, server, client, theirs):
    name, experiment_id = theirs
    points = [("loss", 2.0, 1000, 1), ("acc", 0.5, 1000, 1), ("loss", 1.5, 2500, 2), ("loss", 1.4, 2500, 2)]
    run_id = log_run(
        client,
        experiment_id,
        points=points,
        params={"lr": "0.10", "온도": "낮음", "seed": "7"},
        tags={"mlflow.source.git.commit": "c" * 40, "mlflow.source.name": "/home/kim/notebooks/search.ipynb"},
    )
    done = import_mlflow(toy, server.address, name)
    assert (done.runs, done.known, done.warnings) == ([f"mlflow-{run_id}"], 0, [])
    (run,) = by_hand(toy).runs()
    assert (run.kind, run.why_exploratory, run.seal) == ("exploratory", ["imported from MLflow"], None)
    assert (run.status, run.seed, run.notebook) == ("finished", 7, "search")
    assert (run.started, run.ended) == ("2026-11-24T00:00:00.000Z", "2026-11-24T00:01:30.500Z")
    assert run.seconds == 90.5
    assert run.parameters == {"lr": "0.10", "온도": "낮음", "seed": "7"}
    assert run.metrics == {"loss": 1.5, "acc": 0.5}  # of two at one moment, MLflow keeps the larger
    assert run.git["commit"] == "c" * 40
    assert run.environment == {"imported_from": f"MLflow experiment {name}, run 첫 시도"}
    steps, finish = by_hand(toy).steps(run.id)
    assert sorted((s.step, s.at, sorted(s.values.items())) for s in steps) == [
        (1, 1.0, [("acc", 0.5), ("loss", 2.0)]),
        (2, 2.5, [("loss", 1.4)]),
        (2, 2.5, [("loss", 1.5)]),
    ]
    assert finish.metrics == run.metrics


def test_the_same_run_is_not_read_twice(toy, server, client, theirs):
    name, experiment_id = theirs
    log_run(client, experiment_id, points=[("loss", 2.0, 1000, 1)])
    import_mlflow(toy, server.address, name)
    before = {path: path.read_bytes() for path in by_hand(toy).folder.rglob("*") if path.is_file()}
    again = import_mlflow(toy, server.address, name)
    assert (again.runs, again.known) == ([], 1)
    assert {path: path.read_bytes() for path in by_hand(toy).folder.rglob("*") if path.is_file()} == before


def test_a_run_that_was_put_away_does_not_come_back(toy, server, client, theirs):
    name, experiment_id = theirs
    log_run(client, experiment_id)
    (run_id,) = import_mlflow(toy, server.address, name).runs
    shutil.move(by_hand(toy).run_folder(run_id), by_hand(toy).folder / "deleted" / run_id)
    assert import_mlflow(toy, server.address, name).runs == []


def test_an_import_that_was_cut_off_is_made_anew(toy, server, client, theirs):
    name, experiment_id = theirs
    log_run(client, experiment_id, points=[("loss", 2.0, 1000, 1)])
    (run_id,) = import_mlflow(toy, server.address, name).runs
    (by_hand(toy).run_folder(run_id) / "run.json").unlink()  # it is written last
    assert import_mlflow(toy, server.address, name).runs == [run_id]
    assert len(by_hand(toy).steps(run_id)[0]) == 1


def test_what_is_no_number_is_left_out_and_said(toy, server, client, theirs):
    name, experiment_id = theirs
    points = [
        ("loss", 2.0, 0, 0),
        ("loss", math.nan, 1, 1),
        ("loss", math.inf, 2, 2),
        ("gap", -math.inf, 3, 3),
    ]
    log_run(client, experiment_id, points=points)
    done = import_mlflow(toy, server.address, name)
    (run_id,) = done.runs
    assert sorted(done.warnings) == [
        f"{run_id}: 1 value of gap left out, no finite number",
        f"{run_id}: 2 values of loss left out, no finite number",
    ]
    steps, _ = by_hand(toy).steps(run_id)
    assert [step.values for step in steps] == [{"loss": 2.0}]
    assert by_hand(toy).runs()[0].metrics == {}  # the last value was none
    record = (by_hand(toy).run_folder(run_id) / "run.json").read_text()
    json.loads(record, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


@pytest.mark.parametrize(("status", "ours"), [("FAILED", "failed"), ("KILLED", "cancelled")])
def test_a_run_that_did_not_finish_says_so(toy, server, client, theirs, status, ours):
    name, experiment_id = theirs
    log_run(client, experiment_id, status=status, points=[("loss", 2.0, 0, 0)])
    (run_id,) = import_mlflow(toy, server.address, name).runs
    (run,) = by_hand(toy).runs()
    assert (run.status, run.failure.error) == (ours, status)
    assert by_hand(toy).steps(run_id)[1] is None


def test_a_run_that_goes_on_is_left_for_later(toy, server, client, theirs):
    name, experiment_id = theirs
    run_id = log_run(client, experiment_id, status="RUNNING")
    done = import_mlflow(toy, server.address, name)
    assert done.runs == []
    assert done.warnings == [
        "첫 시도 is RUNNING on the server and was left there; import again once it has ended"
    ]
    client.set_terminated(run_id, end_time=BEGAN + 1)
    assert import_mlflow(toy, server.address, name).runs == [f"mlflow-{run_id}"]


def test_all_pages_of_a_long_list_are_read(toy, server, client, theirs, monkeypatch):
    monkeypatch.setattr(mlflow_server, "PAGE", 2)
    name, experiment_id = theirs
    expected = {f"mlflow-{log_run(client, experiment_id)}" for _ in range(5)}
    seen = []
    done = import_mlflow(toy, server.address, name, report=lambda number, total: seen.append((number, total)))
    assert set(done.runs) == expected
    assert seen == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_an_unknown_experiment_is_told_with_the_nearest(toy, server, theirs):
    name, _ = theirs
    with pytest.raises(ExchangeError, match=f"did you mean '{name}'"):
        import_mlflow(toy, server.address, name[:-1])


def test_our_own_runs_come_back_under_their_names_in_another_workspace_only(
    toy, experiment, add_run, verdict, server, tmp_path
):
    run = add_run()
    experiment.save_verdict(verdict)
    (name,) = export_mlflow(toy, server.address).experiments
    at_home = import_mlflow(toy, server.address, name)
    assert (at_home.runs, at_home.known) == ([], 1)

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "pyproject.toml").write_text("[tool.claimbook]\n")
    (run_id,) = import_mlflow(find(elsewhere), server.address, name).runs
    (copy,) = Experiment(elsewhere / "experiments" / BY_HAND).runs()
    assert copy.id == run_id
    assert copy.metrics == {"recall@1": 0.75, "loss": 0.5}
    assert copy.parameters["loss"] == run.parameters["loss"]
    assert (copy.started, copy.ended, copy.kind) == (run.started, run.ended, "exploratory")


def test_imported_runs_are_not_sent_back(toy, server, client, theirs):
    name, experiment_id = theirs
    log_run(client, experiment_id)
    import_mlflow(toy, server.address, name)
    assert export_mlflow(toy, server.address, [BY_HAND]).sent == 0


def test_a_server_does_not_choose_where_files_are_written(toy, server, client, theirs):
    name, experiment_id = theirs
    run_id = log_run(client, experiment_id)
    server.change("update runs set run_uuid = '../../../escaped' where run_uuid = ?", run_id)
    try:
        with pytest.raises(ExchangeError, match="escaped"):
            import_mlflow(toy, server.address, name)
    finally:
        server.change("delete from runs where run_uuid = '../../../escaped'")
    assert not list(toy.root.rglob("*escaped*"))
