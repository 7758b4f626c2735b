"""The product sets that a notebook's parameters name, as one fingerprint. Knows nothing of runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from claimbook.errors import RunError
from claimbook.products.spec import load
from claimbook.records.experiment import Value
from claimbook.workspace import Workspace


def named_in(parameter_sets: Iterable[Mapping[str, Value]]) -> list[str]:
    """The product sets that parameters name, sorted: by one called `products`, or ending in `_products`."""
    return sorted(
        {
            str(value)
            for parameters in parameter_sets
            for name, value in parameters.items()
            if name == "products" or name.endswith("_products")
        }
    )


def fingerprint_of(parameter_sets: Iterable[Mapping[str, Value]], workspace: Workspace) -> tuple[str, str]:
    """Fingerprint and description of the product sets that parameters name.

    Raises RunError when none does, and ProductsError when a set cannot be loaded.
    """
    names = named_in(parameter_sets)
    if not names:
        raise RunError(
            "no parameter names a product set",
            fix='give the notebook a parameter `products: str = "catalog"` and load it by that name',
        )
    sets = [load(name, workspace=workspace) for name in names]
    description = "; ".join(
        f"{one.name}: {len(one)} pictures of {len(set(one.products))} products, "
        f"{len(one.train)} train, {len(one.val)} val, {len(one.test)} test"
        for one in sets
    )
    if len(sets) == 1:
        return sets[0].fingerprint, description
    joined = "\n".join(one.fingerprint for one in sets)
    return hashlib.sha256(joined.encode()).hexdigest(), description
