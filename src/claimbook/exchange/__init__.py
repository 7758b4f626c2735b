"""Records out to other tools and in from them: MLflow tracking servers, CSV, Parquet.

tables          runs and item scores as one table
mlflow_names    what an MLflow server lets a key be called, and back
mlflow_server   the way to a server: address, credentials, telemetry off, its complaints as ours
mlflow_payload  one run's records → one MLflow run, ready to be sent
to_mlflow       experiments to a server
from_mlflow     a team's runs from a server, as exploratory ones

Knows the records, nothing of how runs are made or judged. What leaves here is a copy: files stay the truth.
"""

from claimbook.exchange.from_mlflow import Imported, import_mlflow
from claimbook.exchange.tables import export_items, export_table, run_rows
from claimbook.exchange.to_mlflow import Exported, export_mlflow

__all__ = [
    "Exported",
    "Imported",
    "export_items",
    "export_mlflow",
    "export_table",
    "import_mlflow",
    "run_rows",
]
