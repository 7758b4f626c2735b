"""Runs and item scores as one table, CSV for spreadsheets or Parquet for programs. Reads records only.

A spreadsheet executes a cell that begins with `=`, `+`, `-` or `@` (https://owasp.org/www-community/attacks/
CSV_Injection); such a text gets an apostrophe in front, in CSV alone. Numbers stay numbers.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from claimbook.errors import ExchangeError
from claimbook.experiments import BY_HAND, Experiment
from claimbook.records import Run, Verdict
from claimbook.workspace import Workspace, write_bytes

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # the wide ones open one too
_MOMENTS = ("started", "ended")


def run_rows(workspace: Workspace, slugs: Sequence[str] | None = None) -> list[Row]:
    """One row per run of these experiments, or of all and those by hand, oldest first in each.

    Columns: id, experiment, arm, seed, kind, status, started, ended (ISO, UTC), seconds, seal, verdict (the
    outcome, for the runs that it was computed from), `metric.<name>` and `param.<name>`. A column
    that a run has nothing for is missing from its row.
    """
    return [
        row
        for experiment in _experiments(workspace, slugs)
        for verdict in [experiment.verdict()]
        for row in (_row(run, verdict) for run in experiment.runs())
    ]


def export_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> int:
    """Write rows to a file whose ending says how, .csv or .parquet; returns their number.

    The columns are all those of any row: metrics and parameters last, by name. In Parquet a column has one
    type, text where the values have several.

    Raises ExchangeError for another ending.
    """
    _check_ending(path)
    names = _columns(rows)
    columns = {name: [row.get(name) for row in rows] for name in names}
    if path.suffix == ".csv":
        write_bytes(path, _csv(names, zip(*columns.values(), strict=True)))
    else:
        write_bytes(path, _parquet({name: _typed(name, values) for name, values in columns.items()}))
    return len(rows)


def export_items(path: Path, experiment: Experiment) -> int:
    """Write the item scores of an experiment's finished runs, as `export_table` does; returns their number.

    Columns: experiment, run, arm, seed, item, cluster and one per metric, empty where a run has no score.

    Raises ExchangeError for another ending or when no run has item scores, RecordError when scores are not
    those that were recorded.
    """
    _check_ending(path)
    table = _items(experiment)
    if path.suffix == ".csv":
        rows = (tuple(row.values()) for batch in table.to_batches() for row in batch.to_pylist())
        write_bytes(path, _csv(table.column_names, rows))
    else:
        write_bytes(path, _parquet(table))
    return int(table.num_rows)


def spreadsheet_cell(value: Any) -> Any:
    """A value as a CSV cell that no spreadsheet executes.

    >>> spreadsheet_cell("=1+1"), spreadsheet_cell("-0.5"), spreadsheet_cell(-0.5), spreadsheet_cell(True)
    ("'=1+1", '-0.5', -0.5, 'true')
    """
    if isinstance(value, bool | list):
        value = json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and value.startswith(_FORMULA) and not _is_number(value):
        return f"'{value}"
    return value


def counts_for(run: Run, verdict: Verdict) -> bool:
    """Whether a verdict was computed from a run: finished, and made under the seal that it speaks of."""
    return run.kind == "confirmatory" and run.status == "finished" and run.seal == verdict.seal


def _experiments(workspace: Workspace, slugs: Sequence[str] | None) -> list[Experiment]:
    if slugs:
        return [Experiment.of(workspace, slug) for slug in dict.fromkeys(slugs)]
    by_hand = Experiment(workspace.experiments / BY_HAND)
    return [*(Experiment.of(workspace, slug) for slug in workspace.slugs("experiments")), by_hand]


def _row(run: Run, verdict: Verdict | None) -> Row:
    names = ("id", "experiment", "arm", "seed", "kind", "status", "started", "ended", "seconds", "seal")
    row: Row = {name: getattr(run, name) for name in names}
    row["verdict"] = verdict.outcome if verdict and counts_for(run, verdict) else None
    row |= {f"metric.{name}": value for name, value in run.metrics.items()}
    return row | {f"param.{name}": value for name, value in run.parameters.items()}


def _columns(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    names = dict.fromkeys(name for row in rows for name in row)
    many = [name for name in names if name.startswith(("metric.", "param."))]
    return [*(name for name in names if name not in many), *sorted(many)]


def _typed(name: str, values: list[Any]) -> pa.Array:
    """A Parquet column: times, truth values, whole numbers, numbers, else text."""
    import pyarrow as pa

    kinds = {type(value) for value in values if value is not None}
    if name in _MOMENTS:
        moments = [value and datetime.fromisoformat(value) for value in values]
        return pa.array(moments, pa.timestamp("ms", tz="UTC"))
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {int} and all(value is None or -(2**63) <= value < 2**63 for value in values):
        return pa.array(values, pa.int64())
    if float in kinds and kinds <= {int, float}:
        return pa.array([value if value is None else float(value) for value in values], pa.float64())
    return pa.array([value if value is None else _text(value) for value in values], pa.string())


def _items(experiment: Experiment) -> pa.Table:
    import pyarrow as pa

    tables = []
    for run in experiment.runs():
        if run.status != "finished" or run.items_sha256 is None:
            continue
        scores = experiment.items(run)
        size = len(scores.item)
        about = {"experiment": run.experiment, "run": run.id, "arm": run.arm}
        columns: dict[str, Any] = {name: pa.array([value] * size) for name, value in about.items()}
        columns |= {"seed": pa.array([run.seed] * size, pa.int64())}
        columns |= {"item": list(scores.item), "cluster": list(scores.cluster), **scores.scores}
        tables.append(pa.table(columns))
    if not tables:
        raise ExchangeError(
            "no finished run has item scores",
            fix=f"run `claimbook run {experiment.slug}` first",
            where=f"experiments/{experiment.slug}",
        )
    return pa.concat_tables(tables, promote_options="default")


def _check_ending(path: Path) -> None:
    if path.suffix not in (".csv", ".parquet"):
        raise ExchangeError(
            f"{path.name} ends neither with .csv nor with .parquet", fix="name the file so", where=path
        )


def _csv(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([spreadsheet_cell(name) for name in names])
    writer.writerows([spreadsheet_cell(value) for value in row] for row in rows)
    return text.getvalue().encode("utf-8-sig")  # without the mark Excel takes Korean for another encoding


def _parquet(columns: dict[str, pa.Array] | pa.Table) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.table(columns) if isinstance(columns, dict) else columns, sink, compression="zstd")
    return sink.getvalue()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
