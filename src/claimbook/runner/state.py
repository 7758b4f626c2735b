"""The state that a seal fixes, as it is now: hypothesis, notebook, technique code, product set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from claimbook.errors import RunError
from claimbook.experiments import Experiment
from claimbook.products.named import fingerprint_of, named_in
from claimbook.records import Hypothesis, SealedSources, SealEntry
from claimbook.records.experiment import Value
from claimbook.runner.fingerprints import code_cells, code_fingerprints, code_sources, notebook_fingerprint
from claimbook.runner.parameters import effective_parameters, notebook_parameters
from claimbook.workspace import Workspace


@dataclass(frozen=True)
class State:
    """What runs made now would be made of."""

    hypothesis: Hypothesis
    notebook_path: Path
    notebook: str
    """sha256 of the code cells."""
    code: dict[str, str]
    """sha256 per source file."""
    data: str
    """Fingerprint of the product set."""
    data_description: str
    parameters: dict[tuple[str, int], dict[str, Value]]
    """Effective parameters per arm and seed."""
    sources: SealedSources
    """The text of notebook and technique code."""

    @property
    def fingerprints(self) -> dict[str, str | dict[str, str]]:
        """As a run records them."""
        return {"notebook": self.notebook, "code": self.code, "data": self.data}

    def changed_since(self, workspace: Workspace) -> list[str]:
        """What a run made of this state can no longer vouch for: the files changed while it ran."""
        changed = []
        if notebook_fingerprint(self.notebook_path) != self.notebook:
            changed.append("notebook code")
        if code_fingerprints(self.notebook_path, workspace) != self.code:
            changed.append("technique code")
        names = named_in(self.parameters.values())
        # what is drawn depends on settings and code that this process has read once
        drawn = all(workspace.products.get(n, {"source": n}).get("source") == "catalog" for n in names)
        if not drawn and fingerprint_of(self.parameters.values(), workspace)[0] != self.data:
            changed.append("product set")
        return changed

    def differences(self, seal: SealEntry) -> list[str]:
        """Which parts are not as sealed, a phrase each."""
        return seal.differences(self.hypothesis, self.notebook, self.code, self.data)


def current_state(
    workspace: Workspace,
    experiment: Experiment,
    *,
    seeds: list[int] | None = None,
    changes: Mapping[str, Value] | None = None,
    sealed: Hypothesis | None = None,
) -> State:
    """The state of an experiment now, its parameters checked against the notebook's types.

    seeds and changes stand in for the hypothesis's seeds and parameters, for an exploratory run; sealed
    stands in for hypothesis.toml, for a replication. Raises RecordError, RunError, WorkspaceError or
    ProductsError with the place of what is wrong.
    """
    hypothesis = sealed or experiment.hypothesis()
    notebook = workspace.notebook(hypothesis.notebook)
    declared = notebook_parameters(notebook)
    if "seed" not in declared:
        raise RunError(
            "the notebook has no parameter `seed`", fix="add `seed: int = 0` to it and use it", where=notebook
        )
    parameters = {
        (arm, seed): effective_parameters(
            declared,
            {**hypothesis.parameters_of(arm, seed), **(changes or {})},
            f"experiments/{experiment.slug}/hypothesis.toml: arm {arm}",
        )
        for arm in hypothesis.arm_names()
        for seed in (seeds or hypothesis.seeds)
    }
    data, description = fingerprint_of(parameters.values(), workspace)
    sources = SealedSources(notebook=code_cells(notebook), code=code_sources(notebook, workspace))
    return State(
        hypothesis=hypothesis,
        notebook_path=notebook,
        notebook=sources.notebook_digest,
        code=sources.code_digests,
        data=data,
        data_description=description,
        parameters=parameters,
        sources=sources,
    )
