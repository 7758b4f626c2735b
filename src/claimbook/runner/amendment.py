"""What changed between a seal and the state now, line by line."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from typing import Any

from claimbook.experiments import Experiment
from claimbook.records import Hypothesis, SealedSources, SealEntry, encode_json
from claimbook.runner.state import State


def differences_in_full(experiment: Experiment, sealed: SealEntry, state: State) -> str:
    """What changed since a seal, as a unified diff: hypothesis, notebook, technique code, product set."""
    kept = experiment.sealed_sources(sealed)
    before, after = _texts(sealed.hypothesis, kept, sealed), _texts(state.hypothesis, state.sources, state)
    changed: list[str] = []
    for name in [*before, *(name for name in after if name not in before)]:
        old, new = before.get(name, ""), after.get(name, "")
        if kept is None and name not in _ALWAYS_KEPT:
            continue  # the first version kept hashes only
        changed += difflib.unified_diff(
            old.splitlines(), new.splitlines(), f"sealed/{name}", f"now/{name}", lineterm="", n=2
        )
    if kept is None:
        lost = [part for part in state.differences(sealed) if not part.startswith(_ALWAYS_KEPT)]
        changed += [f"# {part} changed; its sealed text was not kept" for part in lost]
    return "\n".join(changed)


_ALWAYS_KEPT = ("hypothesis", "product set")


def _texts(hypothesis: Hypothesis, sources: SealedSources | None, fixed: SealEntry | State) -> dict[str, str]:
    """A state as named texts that a person can compare."""
    texts = {
        "hypothesis": "\n".join(_lines_of(encode_json(hypothesis))),
        "product set": f"{fixed.data_description}\nfingerprint {fixed.data}",
    }
    if sources is not None:
        cells = (f"# cell {number}\n{cell}" for number, cell in enumerate(sources.notebook, start=1))
        texts["notebook"] = "\n\n".join(cells)
        texts.update(sources.code)
    return texts


def _lines_of(value: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Nested values as lines such as `arms.treatment.loss = "sigmoid"`."""
    for name, item in value.items():
        if isinstance(item, dict):
            yield from _lines_of(item, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name} = {json.dumps(item, ensure_ascii=False)}"
