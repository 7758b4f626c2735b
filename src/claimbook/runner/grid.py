"""Other parameters than the hypothesis's: one setting, or a grid of them, as values of their declared types.

    --set lr=0.001          --grid lr=0.001,0.002 --grid loss=softmax,sigmoid
    --set sizes=8,16        --grid 'sizes=[[32, 64], [128]]' --grid 'name=["a, b", "c"]'

On the command line a value is read by its parameter's type, so that a text stays one. What begins with `[` is
a JSON list, for texts with commas and for lists. A TOML file has its types already. Knows nothing of runs.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress

from claimbook.errors import RunError
from claimbook.records.experiment import Value
from claimbook.runner.annotations import Kind, Misfit, shown
from claimbook.runner.parameters import Parameter, declared_parameter

Declared = Mapping[str, Parameter]

_MOST = 10_000
"""Points of a grid. Each is as many runs as there are arms and seeds, so more of them is a slip."""


def changes_of(texts: Sequence[str], declared: Declared) -> dict[str, Value]:
    """The values of `--set NAME=VALUE` texts.

    Raises RunError for a name that is not declared or comes twice, and for a value that does not fit.
    """
    read = _read(texts, declared, "--set", _value)
    return {name: declared[name].check(value, "--set") for name, value in read.items()}


def grid_of(
    texts: Sequence[str], declared: Declared, fixed: Mapping[str, Value] | None = None
) -> list[dict[str, Value]]:
    """All combinations of `--grid NAME=V1,V2` texts, each on top of what `fixed` sets for all of them.

    The first name varies slowest. Without texts it is the one point `fixed`. Raises RunError for a name that
    is not declared, comes twice or is fixed, and for a value that does not fit or comes twice.
    """
    return points_of(_read(texts, declared, "--grid", _axis), declared, "--grid", fixed)


def points_of(
    table: Mapping[str, object], declared: Declared, where: str, fixed: Mapping[str, Value] | None = None
) -> list[dict[str, Value]]:
    """All combinations of a table's lists, such as {"lr": [0.001, 0.002]}, as `grid_of` makes them."""
    fixed = fixed or {}
    axes = {name: _values(_parameter(declared, name, where), value, where) for name, value in table.items()}
    for name in axes.keys() & fixed.keys():
        raise RunError(
            f"{name} has one value for all and a grid too", fix="remove one of the two", where=where
        )
    size = math.prod(map(len, axes.values()))
    if size > _MOST:
        sizes = " × ".join(str(len(values)) for values in axes.values())
        raise RunError(
            f"the grid has {sizes} = {size:,} points; {_MOST:,} is the most",
            fix="take fewer values of each, or one grid after the other",
            where=where,
        )
    return [{**fixed, **dict(zip(axes, point, strict=True))} for point in itertools.product(*axes.values())]


def _read(
    texts: Sequence[str], declared: Declared, where: str, read: Callable[[str, Kind, str], object]
) -> dict[str, object]:
    """NAME=TEXT pairs, each text read by the kind of its parameter."""
    found: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name:
            raise RunError(f"{shown(text)} sets nothing", fix="write NAME=VALUE", where=where)
        kind = _parameter(declared, name, where).kind
        if name in found:
            raise RunError(f"{name} comes twice", fix="remove one of the two", where=where)
        found[name] = read(value, kind, where)
    return found


def _parameter(declared: Declared, name: str, where: str) -> Parameter:
    if name == "seed":
        raise RunError("seed is no setting", fix="name the seeds: --seeds 101,102", where=where)
    return declared_parameter(declared, name, where)


def _values(parameter: Parameter, values: object, where: str) -> list[Value]:
    """The different values of an axis, each checked."""
    if not isinstance(values, list) or not values:
        raise RunError(
            f"{parameter.name} is {shown(values)}, which is no list of values",
            fix=f"list the values, such as [{shown(parameter.default)}]",
            where=where,
        )
    checked = [parameter.check(value, where) for value in values]
    # by their text, for to Python 1, 1.0 and True are one
    twice = [text for text, count in Counter(map(repr, checked)).items() if count > 1]
    if twice:
        raise RunError(f"{parameter.name} takes {twice[0]} twice", fix="remove one of the two", where=where)
    return checked


def _value(text: str, kind: Kind, where: str) -> object:
    """What `--set` gives one parameter."""
    if not kind.many:
        return _one(text, kind)
    if text.lstrip().startswith("["):
        return _json_list(text, where)
    return [_one(part.strip(), kind) for part in text.split(",")] if text.strip() else []


def _axis(text: str, kind: Kind, where: str) -> object:
    """What `--grid` gives one parameter: a list of values."""
    if text.lstrip().startswith("["):
        return _json_list(text, where)
    if kind.many:
        raise RunError(
            f"{shown(text)} could be one list or several",
            fix="write a JSON list of lists, such as [[32, 64], [128]]",
            where=where,
        )
    parts = [part.strip() for part in text.split(",")]
    if "" in parts:
        raise RunError(
            f"a value is missing in {shown(text)}",
            fix='write V1,V2; the empty text stands in a JSON list: ["", "a"]',
            where=where,
        )
    return [_one(part, kind) for part in parts]


def _json_list(text: str, where: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RunError(
            f"{shown(text)} is no JSON list: {error}",
            fix='quote it for the shell and put texts in double quotes: \'name=["a, b", "c"]\'',
            where=where,
        ) from None


def _one(text: str, kind: Kind) -> object:
    """A text as its type reads it; as it stands where it cannot be read so, for `check` to refuse."""
    match kind.base:
        case "Literal":
            readings = [text, *_readings(text, int, float, _truth)]
            return next((one for one in readings if not isinstance(kind.element.fit(one), Misfit)), text)
        case "int":
            return next(_readings(text, int), text)
        case "float":
            return next(_readings(text, float), text)
        case "bool":
            return next(_readings(text, _truth), text)
    return text


def _readings(text: str, *readers: Callable[[str], object]) -> Iterator[object]:
    for read in readers:
        with suppress(ValueError, KeyError):
            yield read(text)


def _truth(text: str) -> bool:
    return {"true": True, "false": False}[text.strip().lower()]
