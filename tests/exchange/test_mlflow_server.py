"""A server that is not there, refuses, or is none; and a password that nobody gets to see."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from claimbook.errors import ExchangeError
from claimbook.exchange import export_mlflow, import_mlflow
from claimbook.exchange.mlflow_server import connect, split_uri


def test_an_address_is_parted_from_its_credentials():
    assert split_uri("https://team:ssh%21hush@mlflow.example:8443/tracking/") == (
        "https://mlflow.example:8443/tracking",
        {"MLFLOW_TRACKING_USERNAME": "team", "MLFLOW_TRACKING_PASSWORD": "ssh!hush"},
    )


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:///hush.db",
        "file:///mlruns/hush",
        "databricks",
        "http://",
        "http://host:hush",
        "http://host/?token=hush",
        "",
    ],
)
def test_an_address_of_another_kind_is_refused_and_not_repeated(uri):
    with pytest.raises(ExchangeError, match="no address of an MLflow tracking server") as refused:
        split_uri(uri)
    assert "hush" not in str(refused.value)
    assert "http://localhost:5000" in refused.value.fix


def test_a_server_that_is_not_there_is_told_at_once(toy, add_run):
    """Port 9 of this machine: nobody listens. MLflow by itself would try for four minutes."""
    add_run()
    with pytest.raises(ExchangeError, match="the server cannot be reached") as refused:
        export_mlflow(toy, "http://team:ssh!hush@127.0.0.1:9")
    assert refused.value.where == "http://127.0.0.1:9"
    assert "mlflow server" in refused.value.fix
    assert "hush" not in str(refused.value)


def test_something_else_that_answers_is_no_server(toy, add_run, server):
    add_run()
    with pytest.raises(ExchangeError, match="404"):
        export_mlflow(toy, f"{server.address}/somewhere/else")


def test_a_password_opens_the_server_and_stays_unseen(toy, add_run, server, guarded, capfd):
    run = add_run()
    done = export_mlflow(toy, f"http://team:ssh%21hush@{guarded}")
    assert (done.sent, done.address) == (1, f"http://{guarded}")
    assert import_mlflow(toy, f"http://team:ssh%21hush@{guarded}", done.experiments[0]).known == 1
    printed = capfd.readouterr()
    texts = [repr(done).encode(), printed.out.encode(), printed.err.encode(), server.database.read_bytes()]
    texts += [path.read_bytes() for path in toy.root.rglob("*") if path.is_file()]
    assert len(texts) > 10
    assert run.id.encode() in b"".join(texts)
    assert not any(word in text for word in (b"ssh!hush", b"ssh%21hush", b"c3NoIWh1c2g") for text in texts)
    assert not any(name.startswith("MLFLOW_TRACKING_") for name in os.environ)


@pytest.mark.parametrize("who", ["", "team:wrong-hush@"])
def test_a_wrong_password_says_where_to_put_the_right_one(toy, add_run, guarded, who):
    add_run()
    with pytest.raises(ExchangeError, match="the server refuses") as refused:
        export_mlflow(toy, f"http://{who}{guarded}")
    assert "MLFLOW_TRACKING_USERNAME" in refused.value.fix
    assert "hush" not in str(refused.value)


def test_credentials_from_the_environment_open_it_too(toy, add_run, guarded, monkeypatch):
    add_run()
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "team")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "ssh!hush")
    assert export_mlflow(toy, f"http://{guarded}").sent == 1


def test_without_mlflows_client_the_extra_is_named(toy, add_run, monkeypatch):
    add_run()
    monkeypatch.setitem(sys.modules, "mlflow", None)  # Python's own way to make an import fail
    with pytest.raises(ExchangeError, match="is not installed") as refused:
        export_mlflow(toy, "http://127.0.0.1:9")
    assert refused.value.fix == "run `pip install 'claimbook[mlflow]'`"


def test_mlflow_is_imported_without_its_telemetry(server):
    """In a new process without the variables by which MLflow recognises tests and turns it off itself."""
    code = "import sys; from claimbook.exchange.mlflow_server import connect\n"
    code += "with connect(sys.argv[1]):\n    from mlflow.telemetry import get_telemetry_client\n"
    code += "    print(get_telemetry_client())"
    kept = {"PATH", "HOME", "LANG", "PYTHONPATH"}
    environment = {name: value for name, value in os.environ.items() if name in kept}
    command = [sys.executable, "-c", code, server.address]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"


def test_the_environment_is_as_before(server, monkeypatch):
    monkeypatch.setenv("DO_NOT_TRACK", "false")
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    before = dict(os.environ)
    with connect(server.address):
        assert os.environ["DO_NOT_TRACK"] == "true"
        assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert dict(os.environ) == before
