"""The way to an MLflow tracking server: address, credentials, telemetry off, its complaints as ours.

Credentials come from where MLflow takes them (MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD,
MLFLOW_TRACKING_TOKEN, ~/.mlflow/credentials) or from the address; they are handed to MLflow's client and are
in no error, record or result. Knows nothing of records.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from claimbook.errors import ExchangeError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

PAGE = 1000
"""Runs asked for at a time."""

_QUIET = {
    # MLflow reads these when it is imported and again at every call
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # it would print addresses to standard output, which belongs to --json
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_AGENT_HINT": "true",
}
_FIRST_CALL = {
    # a wrong address is told at once; MLflow's seven retries would take minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
}


def split_uri(uri: str) -> tuple[str, dict[str, str]]:
    """An address without credentials, and the credentials in it as the variables that MLflow reads.

    Raises ExchangeError, which does not repeat the address, unless it is one of HTTP.
    """
    try:
        parts = urlsplit(uri)
        wrong = parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0
    except ValueError:
        wrong = True
    if wrong or parts.query or parts.fragment:
        raise ExchangeError(
            "this is no address of an MLflow tracking server",
            fix="write one such as http://localhost:5000; for a store in files or a database, "
            "start `mlflow server --backend-store-uri …` and write its address",
        )
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")
    given = {"MLFLOW_TRACKING_USERNAME": parts.username, "MLFLOW_TRACKING_PASSWORD": parts.password}
    return address, {name: unquote(value) for name, value in given.items() if value}


@contextmanager
def connect(uri: str) -> Iterator[MlflowClient]:
    """MLflow's client for a server that has answered. Inside, MLflow's complaints become ExchangeError.

    Raises ExchangeError when the client is not installed, or the server cannot be reached or refuses.
    """
    address, credentials = split_uri(uri)
    with _environment({**_QUIET, **credentials}):
        try:
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException
            from requests import RequestException
        except ImportError as error:
            raise ExchangeError(
                "MLflow's client is not installed", fix="run `pip install 'claimbook[mlflow]'`"
            ) from error
        client = MlflowClient(tracking_uri=address, registry_uri=address)
        try:
            with _environment(_FIRST_CALL):
                client.search_experiments(max_results=1)
            yield client
        except (MlflowException, RequestException) as error:
            raise _complaint(error, address) from error


def all_runs(client: MlflowClient, experiment_id: str) -> Iterator[MlflowRun]:
    """Every run of an experiment that is not deleted, page by page."""
    token = None
    while True:
        page = client.search_runs([experiment_id], max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _complaint(error: Exception, address: str) -> ExchangeError:
    code = _http_status(error)
    said = " ".join(str(error).split())
    if code in (401, 403):
        fix = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, for it"
        return ExchangeError(f"the server refuses: {_short(said)}", fix=fix, where=address)
    if "failed with exception" in said or "failed with timeout" in said:
        # "NewConnectionError("HTTPConnection(host=…, port=1): Failed to …: [Errno 111] Connection refused")"
        reason = said.rpartition("Caused by ")[2].rpartition(": ")[2].strip("'\")")
        return ExchangeError(
            f"the server cannot be reached: {_short(reason)}",
            fix="mend the address, or start the server (`mlflow server`)",
            where=address,
        )
    return ExchangeError(
        f"the server complains: {_short(said)}",
        fix="mend what it names, then do the same again; what has arrived is recognised",
        where=address,
    )


def _http_status(error: Exception) -> int | None:
    response: Any = getattr(error, "response", None)  # of requests, from the transfer of artifacts
    if response is not None:
        return int(response.status_code)
    ask: Any = getattr(error, "get_http_status_code", None)
    return int(ask()) if ask else None


def _short(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:300]}…"


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, which is how MLflow is configured, and put them back."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
