"""What an MLflow server lets a key be called, and back. Knows nothing of records or servers.

MLflow takes letters of any script, digits, and `_ - . / : space` in the names of parameters, metrics and
tags, and refuses a name that reads as another path (`a//b`, `./a`); see `validate_param_and_metric_name` and
`path_not_unique` in https://github.com/mlflow/mlflow/blob/master/mlflow/utils/validation.py. So `recall@1`
becomes `recall_at_1`, as MLflow's own retrieval metrics are called, and a tag keeps the original.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterable, Mapping

RUN = "claimbook.run"
"""The tag by which a run is recognised: its id."""
EXPERIMENT = "claimbook.experiment"
"""The tag that holds an experiment's slug."""
ORIGINAL = "claimbook.name."
"""Tags `claimbook.name.<key>` hold what a changed key is called in the records."""
SUMMARY = "summary"
"""The `claimbook.run` of the run that carries an experiment's verdict: no run of ours, the parent of all."""

_LIMIT = 200  # MLflow takes 250 characters; the tag that keeps the original needs its prefix too


def legal_keys(names: Iterable[str]) -> dict[str, str]:
    """The key of each name on the server: itself where MLflow takes it; no two names get the same key."""
    unique = sorted(set(names))
    keys = {name: name for name in unique if _legal(name) == name}
    for name in unique:
        if name not in keys:
            keys[name] = _free(_legal(name), set(keys.values()))
    return keys


def original_tags(keys: Mapping[str, str]) -> dict[str, str]:
    """The tags that keep what `legal_keys` changed."""
    return {ORIGINAL + key: name for name, key in keys.items() if key != name}


def original_names(tags: Mapping[str, str]) -> dict[str, str]:
    """From the key on the server to the name in the records, for the keys that were changed."""
    return {tag.removeprefix(ORIGINAL): name for tag, name in tags.items() if tag.startswith(ORIGINAL)}


def _legal(name: str) -> str:
    # a colon is legal too, but not on a server that runs on Windows
    key = re.sub(r"[^/\w.\- ]", "_", name.replace("@", "_at_")) or "_"
    if posixpath.normpath(key) != key or key.startswith(("/", ".")):
        key = re.sub(r"^\.+", "_", key.replace("/", "_"))
    if len(key) > _LIMIT:
        key = f"{key[: _LIMIT - 9]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return key


def _free(key: str, taken: set[str]) -> str:
    number = 2
    free = key
    while free in taken:
        free = f"{key}_{number}"
        number += 1
    return free
