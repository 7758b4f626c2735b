"""What stands on a real MLflow server after an export, looked at with MLflow's client and in its database."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import msgspec
import pytest

from claimbook.errors import ExchangeError, WorkspaceError
from claimbook.exchange import export_mlflow
from claimbook.judge import sentence
from claimbook.records import Failure
from claimbook.workspace import find

BEGAN = 1_795_478_400_000
"""2026-11-24T00:00:00Z in milliseconds since the epoch: 20,781 days of 86,400 s."""
ENDED = "2026-11-24T00:00:10.000Z"


def on_server(client, experiment) -> dict:
    """The runs of an experiment on the server, by their id in the records."""
    there = client.get_experiment_by_name(f"claimbook/{experiment.slug}")
    runs = client.search_runs([there.experiment_id])
    return {run.data.tags["claimbook.run"]: run for run in runs}


def test_a_run_arrives_whole(toy, experiment, add_run, server, client):
    run = add_run(arm="treatment", seed=3)
    done = export_mlflow(toy, server.address)
    assert (done.sent, done.unchanged, done.warnings) == (1, 0, [])
    assert done.experiments == [f"claimbook/{experiment.slug}"]
    there = on_server(client, experiment)[run.id]
    assert there.data.params == {
        "loss": "sigmoid",
        "lr": "0.002",
        "shuffle": "false",
        "crops": "[1, 2]",
        "seed": "3",
    }
    assert there.data.metrics == {"loss": 0.5, "recall_at_1": 0.75}
    assert [(p.step, p.value, p.timestamp) for p in client.get_metric_history(there.info.run_id, "loss")] == [
        (0, 2.0, BEGAN),
        (1, 1.0, BEGAN + 1000),
        (2, 0.5, BEGAN + 2000),
    ]
    assert (there.info.status, there.info.start_time, there.info.end_time) == (
        "FINISHED",
        BEGAN,
        BEGAN + 10_000,
    )
    tags = there.data.tags
    assert tags["claimbook.arm"] == "treatment"
    assert tags["claimbook.seed"] == "3"
    assert tags["claimbook.kind"] == "confirmatory"
    assert tags["claimbook.seal"] == "5" * 64
    assert tags["claimbook.fingerprint.data"] == "d" * 64
    # printf '{"shelf.py": "%s"}' $(printf 'b%.0s' {1..64}) | sha256sum
    assert tags["claimbook.fingerprint.code"].startswith("41a26e97c27f10d6")
    assert tags["claimbook.name.recall_at_1"] == "recall@1"
    assert tags["mlflow.source.git.commit"] == "c" * 40


def test_its_artifacts_are_the_files_byte_for_byte(toy, experiment, add_run, server, client, tmp_path):
    run = add_run()
    export_mlflow(toy, server.address)
    there = on_server(client, experiment)[run.id].info.run_id
    names = {artifact.path for artifact in client.list_artifacts(there)}
    assert names == {"run.json", "metrics.jsonl", "items.parquet", "notebook.ipynb"}
    for name in names:
        copy = client.download_artifacts(there, name, str(tmp_path))
        with open(copy, "rb") as file:
            assert file.read() == (experiment.run_folder(run.id) / name).read_bytes()


def test_without_notebooks_no_notebook_is_sent(toy, experiment, add_run, server, client):
    run = add_run()
    export_mlflow(toy, server.address, notebooks=False)
    there = on_server(client, experiment)[run.id].info.run_id
    assert "notebook.ipynb" not in {artifact.path for artifact in client.list_artifacts(there)}


def test_exporting_twice_adds_nothing(toy, experiment, add_run, server, client):
    runs = [add_run(seed=seed) for seed in range(3)]
    export_mlflow(toy, server.address)
    before = on_server(client, experiment)
    again = export_mlflow(toy, server.address)
    assert (again.sent, again.unchanged) == (0, 3)
    after = on_server(client, experiment)
    assert {key: run.info.run_id for key, run in after.items()} == {
        key: run.info.run_id for key, run in before.items()
    }
    assert after.keys() == {run.id for run in runs} | {"summary"}
    assert server.count("metrics", after[runs[0].id].info.run_id) == 4


def test_a_run_that_was_cut_off_is_completed_in_place(toy, experiment, add_run, server, client):
    run = add_run()
    export_mlflow(toy, server.address)
    there = on_server(client, experiment)[run.id].info.run_id
    # as after a power cut: parameters and a step had arrived, the end had not
    client.delete_tag(there, "claimbook.digest")
    server.change("delete from metrics where run_uuid = ? and step = 2", there)
    server.change("update runs set status = 'RUNNING', end_time = null where run_uuid = ?", there)
    assert export_mlflow(toy, server.address).sent == 1
    mended = on_server(client, experiment)[run.id]
    assert (mended.info.run_id, mended.info.status) == (there, "FINISHED")
    assert server.count("metrics", there) == 4


def test_a_run_under_way_is_running_and_later_finished(toy, experiment, add_run, server, client):
    running = add_run(status="running", ended=None, seconds=None, metrics={})
    export_mlflow(toy, server.address)
    first = on_server(client, experiment)[running.id]
    assert (first.info.status, first.info.end_time, first.data.metrics) == ("RUNNING", None, {"loss": 0.5})
    add_run()
    assert export_mlflow(toy, server.address).sent == 1
    then = on_server(client, experiment)[running.id]
    assert (then.info.run_id, then.info.status) == (first.info.run_id, "FINISHED")
    assert server.count("metrics", then.info.run_id) == 4


def test_how_a_run_ended_is_said_in_mlflows_words(toy, experiment, add_run, server, client):
    failure = Failure(error="ValueError", message="선반이 비어 있습니다")
    for seed, status in enumerate(["failed", "timed-out", "lost", "cancelled"]):
        add_run(
            seed=seed, status=status, failure=failure, metrics={}, ended=None if status == "lost" else ENDED
        )
    export_mlflow(toy, server.address)
    there = {run.data.tags.get("claimbook.status"): run for run in on_server(client, experiment).values()}
    assert {status: run.info.status for status, run in there.items() if status} == {
        "failed": "FAILED",
        "timed-out": "FAILED",
        "lost": "FAILED",
        "cancelled": "KILLED",
    }
    assert there["failed"].data.tags["claimbook.failure"] == "ValueError: 선반이 비어 있습니다"
    assert there["lost"].info.end_time == BEGAN + 2000  # its last sign of life


def test_more_points_than_one_request_takes_arrive(toy, experiment, add_run, server, client):
    run = add_run(parameters={f"p{number:03d}": number for number in range(250)})
    path = experiment.run_folder(run.id) / "metrics.jsonl"
    finish = path.read_text().splitlines()[-1]
    steps = [json.dumps({"step": n, "values": {"loss": 1 / (n + 1)}, "at": n / 1000}) for n in range(2500)]
    path.write_text("\n".join([*steps, finish]) + "\n")
    export_mlflow(toy, server.address)
    there = on_server(client, experiment)[run.id]
    assert server.count("metrics", there.info.run_id) == 2501
    assert there.data.metrics["loss"] == 1 / 2500
    assert there.data.params["p249"] == "249"


def test_a_parameter_that_is_too_long_is_cut_and_said(toy, experiment, add_run, server, client):
    run = add_run(parameters={"prompt": "상" * 7000})
    done = export_mlflow(toy, server.address)
    assert done.warnings == [
        f"{run.id}: parameter prompt is too long for MLflow and was cut; run.json has all of it"
    ]
    assert on_server(client, experiment)[run.id].data.params["prompt"] == "상" * 5999 + "…"


def test_the_verdict_stands_on_experiment_parent_and_the_runs_that_it_is_of(
    toy, experiment, add_run, server, client, verdict
):
    settings = toy.root / "pyproject.toml"
    settings.write_text(settings.read_text().replace('language = "en"', 'language = "ko"'))
    sealed, pilot = (
        add_run(),
        add_run(seed=101, kind="exploratory", seal=None, why_exploratory=["not sealed"]),
    )
    experiment.save_verdict(verdict)
    export_mlflow(find(toy.root), server.address)
    korean = sentence(verdict, "ko")
    assert korean.startswith("지지됨: ")
    there = client.get_experiment_by_name(f"claimbook/{experiment.slug}")
    runs = on_server(client, experiment)
    for tags in (there.tags, runs["summary"].data.tags, runs[sealed.id].data.tags):
        assert tags["claimbook.verdict"] == "supported"
        assert tags["claimbook.verdict.sentence"] == korean
        assert tags["claimbook.verdict.seal"] == "5" * 64
    assert there.tags["claimbook.hypothesis.margin"] == "0.05"
    assert there.tags["mlflow.note.content"] == f"A larger effect scores higher\n\n{korean}"
    assert "claimbook.verdict" not in runs[pilot.id].data.tags
    assert runs["summary"].data.metrics == {
        "effect": 0.4,
        "interval_low": 0.39,
        "interval_high": 0.41,
        "p": 0.03125,
        "p_adjusted": 0.03125,
        "mean/baseline": 0.2,
        "mean/treatment": 0.6,
    }
    parent = runs["summary"].info.run_id
    assert {run.data.tags.get("mlflow.parentRunId") for run in runs.values()} == {None, parent}
    assert {a.path for a in client.list_artifacts(parent)} == {"hypothesis.toml", "verdict.json"}


def test_a_verdict_that_changed_replaces_the_one_that_was_sent(
    toy, experiment, add_run, server, client, verdict
):
    run = add_run()
    experiment.save_verdict(verdict)
    export_mlflow(toy, server.address)
    # amended: the verdict is of another seal now, so the run does not count for it
    experiment.save_verdict(
        msgspec.structs.replace(verdict, seal="6" * 64, outcome="inconclusive", effect=0.02)
    )
    os.utime(experiment.verdict_path, (2_000_000_000, 2_000_000_000))
    export_mlflow(toy, server.address)
    runs = on_server(client, experiment)
    assert runs["summary"].data.tags["claimbook.verdict"] == "inconclusive"
    assert runs["summary"].data.metrics["effect"] == 0.02
    assert "claimbook.verdict" not in runs[run.id].data.tags
    assert (
        client.get_experiment_by_name(f"claimbook/{experiment.slug}").tags["claimbook.verdict"]
        == "inconclusive"
    )


def test_a_server_whose_artifacts_cannot_be_reached_gets_all_else(
    toy, experiment, add_run, server, client, tmp_path
):
    client.create_experiment(f"claimbook/{experiment.slug}", artifact_location=str(tmp_path / "theirs"))
    run = add_run()
    (warning,) = export_mlflow(toy, server.address).warnings
    assert "none were sent" in warning
    assert on_server(client, experiment)[run.id].data.metrics["recall_at_1"] == 0.75
    assert not (tmp_path / "theirs").exists()


def test_an_experiment_that_is_deleted_there_is_not_made_again(toy, experiment, add_run, server, client):
    add_run()
    client.delete_experiment(client.create_experiment(f"claimbook/{experiment.slug}"))
    with pytest.raises(ExchangeError, match="is deleted on the server"):
        export_mlflow(toy, server.address)


def test_one_export_at_a_time(toy, experiment, add_run, server):
    with toy.lock("exchange"), pytest.raises(WorkspaceError, match="another claimbook process"):
        export_mlflow(toy, server.address)


def test_progress_counts_runs(toy, experiment, add_run, server):
    for seed in range(3):
        add_run(seed=seed)
    seen = []
    export_mlflow(toy, server.address, report=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_nothing_is_printed(toy, experiment, add_run, server):
    """MLflow would write addresses to standard output; the process is new, so that it is imported in it."""
    add_run()
    code = "import sys; from claimbook import exchange, workspace\n"
    code += "exchange.export_mlflow(workspace.find(), sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, server.address], cwd=toy.root, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")
