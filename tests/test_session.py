"""What a notebook is told, and what it may not say."""

from __future__ import annotations

import json
import math

import msgspec
import nbformat
import pytest
from matplotlib.figure import Figure
from nbclient import NotebookClient

from claimbook import session
from claimbook.errors import RecordError, RunError
from claimbook.experiments import BY_HAND, Experiment
from claimbook.records import decode_json
from claimbook.records.run import Run
from claimbook.session import start

ITEMS = {"item": ["a", "b"], "cluster": ["p", "p"], "hit@1": [1.0, 0.0]}


@pytest.fixture
def run(toy, monkeypatch):
    monkeypatch.delenv(session.RUN_VARIABLE, raising=False)
    monkeypatch.setattr(session, "_unfinished", None)
    return start()


def by_hand(toy) -> Experiment:
    return Experiment(toy.experiments / BY_HAND)


def test_a_run_by_hand_is_exploratory_and_never_sealed(toy, run):
    assert run.kind == "exploratory"
    run.log(step=0, loss=2.5)
    run.finish(metrics={"hit@1": 0.5}, items=ITEMS)
    (recorded,) = by_hand(toy).runs()
    assert recorded.status == "finished"
    assert recorded.seal is None
    assert recorded.why_exploratory == ["run by hand"]
    assert recorded.metrics == {"hit@1": 0.5}
    assert by_hand(toy).items(recorded).item == ("a", "b")


def test_a_notebook_opened_by_hand_records_its_typed_parameters_only(toy, monkeypatch):
    """Plain nbclient, as JupyterLab or papermill would: nothing is set, nothing else is needed."""
    monkeypatch.delenv(session.RUN_VARIABLE, raising=False)
    notebook = nbformat.read(toy.notebook("toy"), as_version=4)
    notebook.cells.insert(1, nbformat.v4.new_code_cell('password = "hunter2"\neffect = 0.4'))
    NotebookClient(notebook, resources={"metadata": {"path": str(toy.notebooks)}}).execute()
    (recorded,) = by_hand(toy).runs()
    assert recorded.status == "finished"
    assert recorded.parameters == {
        "effect": 0.4,
        "products": "tiny",
        "shuffle": False,
        "crash": "",
        "seed": 0,
    }
    assert "hunter2" not in json.dumps([c.source for c in notebook.cells[:1]] + [str(recorded)])


def test_starting_again_cancels_the_run_that_was_left_open(toy, run):
    again = start()
    statuses = {r.id: r.status for r in by_hand(toy).runs()}
    assert statuses == {run.run.id: "cancelled", again.run.id: "running"}


def test_a_loss_that_is_not_finite_stops_the_run(run):
    with pytest.raises(RunError, match="loss at step 3 is nan"):
        run.log(step=3, loss=math.nan)


def test_a_metric_must_be_the_mean_of_its_item_scores(run):
    with pytest.raises(RunError, match=r"hit@1 is 0\.9, the mean of its item scores 0\.5"):
        run.finish(metrics={"hit@1": 0.9}, items=ITEMS)


@pytest.mark.parametrize(
    ("items", "complaint"),
    [
        ({**ITEMS, "cluster": ["p"]}, "lengths"),
        ({**ITEMS, "item": ["a", "a"]}, "'a' comes twice"),
        ({**ITEMS, "hit@1": [1.0, math.nan]}, "item 'b' is not a finite number"),
        ({"item": ["a"], "hit@1": [1.0]}, "no column 'cluster'"),
        ({"item": [], "cluster": [], "hit@1": []}, "lengths"),
    ],
)
def test_item_scores_that_do_not_fit_are_refused_and_nothing_is_written(toy, run, items, complaint):
    with pytest.raises(RecordError, match=complaint):
        run.finish(metrics={"hit@1": 0.5}, items=items)
    assert [p.name for p in run.folder.iterdir()] == ["run.json"]


def test_a_run_finishes_once(run):
    run.finish(metrics={"hit@1": 0.5}, items=ITEMS)
    with pytest.raises(RunError, match="this run is finished"):
        run.finish(metrics={"hit@1": 0.5}, items=ITEMS)


def test_nothing_is_logged_after_the_finish(run):
    run.finish(metrics={"hit@1": 0.5}, items=ITEMS)
    with pytest.raises(RunError, match="this run is finished"):
        run.log(step=1, loss=0.1)


def test_a_text_that_an_environment_variable_holds_is_not_recorded(toy, monkeypatch):
    monkeypatch.delenv(session.RUN_VARIABLE, raising=False)
    monkeypatch.setenv("HF_TOKEN", "hf_hunter2hunter2")
    notebook = nbformat.v4.new_notebook()
    source = "import os\ntoken: str = os.environ['HF_TOKEN']\nsteps: int = 3\n"
    source += "from claimbook import start\nrun = start()"
    notebook.cells.append(nbformat.v4.new_code_cell(source))
    NotebookClient(notebook, resources={"metadata": {"path": str(toy.root)}}).execute()
    (recorded,) = by_hand(toy).runs()
    assert recorded.parameters == {"steps": 3}


def test_a_figure_needs_words_for_those_who_do_not_see_it(run):
    with pytest.raises(RunError, match="alt text"):
        run.figure(Figure(), alt=" ")


def test_a_figure_carries_its_alt_text_into_the_notebook(toy, monkeypatch):
    monkeypatch.delenv(session.RUN_VARIABLE, raising=False)
    notebook = nbformat.v4.new_notebook()
    notebook.cells.append(
        nbformat.v4.new_code_cell(
            "from claimbook import start\nfrom matplotlib.figure import Figure\n"
            "f = Figure(); f.subplots().plot([1, 2])\nstart().figure(f, alt='A line going up')"
        )
    )
    NotebookClient(notebook, resources={"metadata": {"path": str(toy.root)}}).execute()
    (output,) = notebook.cells[0].outputs
    assert output.metadata["image/png"]["alt"] == "A line going up"
    assert output.data["text/plain"] == "A line going up"


def test_under_the_runner_the_registered_metric_needs_item_scores(toy, monkeypatch, run):
    experiment = Experiment.of(toy, "toy")
    record = decode_json((run.folder / "run.json").read_bytes(), Run, "run.json")
    experiment.save_run(msgspec.structs.replace(record, metric="hit@1"))
    monkeypatch.setenv(session.RUN_VARIABLE, str(experiment.run_folder(record.id)))
    supervised = start()
    with pytest.raises(RunError, match="registered metric 'hit@1' is missing"):
        supervised.finish(metrics={"loss": 0.1}, items={"item": ["a"], "cluster": ["p"]})
    with pytest.raises(RecordError, match="no item scores of 'hit@1'"):
        supervised.finish(metrics={"hit@1": 0.1}, items={"item": ["a"], "cluster": ["p"]})
    supervised.finish(metrics={"hit@1": 0.5}, items=ITEMS)
    with pytest.raises(RunError, match=r"call start\(\) once"):
        start()


def test_the_scale_of_a_training_is_recorded(toy, run):
    run.finish(
        metrics={"hit@1": 0.5}, items=ITEMS, scale={"parameters": 1e6, "pairs_seen": 9600, "resolution": 64}
    )
    (recorded,) = by_hand(toy).runs()
    assert (recorded.scale.parameters, recorded.scale.resolution) == (1e6, 64)
