"""Which rows hang together, which of them make a subset, and which split each belongs to.

Works on plain sequences of strings: knows no pictures, files or settings. Everything is decided by sha256 of
a seed and a name, never by Python's `hash` or the order of rows, so that it is the same in every process.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """Rows that must stay together."""

    name: str
    """The least product id in it: stays when rows of other groups come or go."""
    stratum: str
    """The stratum of its first row."""
    rows: tuple[int, ...]
    """Row numbers, ascending."""


def normal_title(title: str) -> str:
    """A title as it is compared: Unicode NFKC, case folded, white space collapsed."""
    return " ".join(unicodedata.normalize("NFKC", title).casefold().split())


def make_groups(products: Sequence[str], strata: Sequence[str], *further: Sequence[str]) -> list[Group]:
    """Join rows that share a product, or a value of any further column, directly or through other rows.

    An empty value joins nothing: two pictures whose brand is unknown are not of one brand.
    """
    parent = list(range(len(products)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for column in (products, *further):
        first: dict[str, int] = {}
        for row, value in enumerate(column):
            if value:
                parent[root(row)] = root(first.setdefault(value, row))
    members: dict[int, list[int]] = defaultdict(list)
    for row in range(len(products)):
        members[root(row)].append(row)
    return [Group(min(products[r] for r in rows), strata[rows[0]], tuple(rows)) for rows in members.values()]


def choose(groups: Iterable[Group], n: int, seed: int) -> list[int]:
    """Row numbers, ascending, of whole groups with `n` rows together: each stratum keeps its share.

    Groups are ordered by sha256 within their stratum, the strata are interleaved by share, and the first
    groups whose sizes make n exactly are taken. Where no whole groups make n, the closest number below it.
    """
    order = _interleaved(groups, seed)
    # subset sum: bit s of `reached` says that s rows can be made; last[s] is the group that first made s.
    # The sum without that group was reached by earlier groups alone, so walking back never takes one twice.
    reached, all_sums = 1, (1 << (n + 1)) - 1
    last: dict[int, int] = {}
    for i, group in enumerate(order):
        new = (reached << len(group.rows)) & ~reached & all_sums
        reached |= new
        while new:
            last[(new & -new).bit_length() - 1] = i
            new &= new - 1
        if n in last:
            break
    rows: list[int] = []
    left = reached.bit_length() - 1
    while left:
        group = order[last[left]]
        rows += group.rows
        left -= len(group.rows)
    return sorted(rows)


def assign(groups: Iterable[Group], shares: Mapping[str, float], seed: int) -> dict[int, str]:
    """The split of each row: whole groups, `shares` of the rows in every stratum, to within one group.

    The groups of a stratum, ordered by sha256, lie on a line of length 1, each as long as its share of rows;
    the line is cut by the shares, and a group goes where its middle lies. Rows added to one stratum leave the
    others as they were, and move in their own only what lies next to a cut. Where there are several strata,
    each line starts at an offset of its own, or every stratum of one group would go to the first split.
    """
    by_stratum = _strata(groups, seed)
    result: dict[int, str] = {}
    for stratum, ordered in by_stratum.items():
        offset = _unit(seed, "offset", stratum) if len(by_stratum) > 1 else 0.0
        total, before = sum(len(g.rows) for g in ordered), 0
        for group in ordered:
            middle = (before + len(group.rows) / 2) / total
            split = _cut((middle + offset) % 1.0, shares)
            result.update(dict.fromkeys(group.rows, split))
            before += len(group.rows)
    return result


def _interleaved(groups: Iterable[Group], seed: int) -> list[Group]:
    placed = []
    for ordered in _strata(groups, seed).values():
        total, before = sum(len(g.rows) for g in ordered), 0
        for group in ordered:
            # a random place within its own stretch, or strata of one group would enter all at once
            place = before + len(group.rows) * _unit(seed, "place", group.name)
            placed.append((place / total, group.name, group))
            before += len(group.rows)
    return [group for _, _, group in sorted(placed, key=lambda entry: entry[:2])]


def _strata(groups: Iterable[Group], seed: int) -> dict[str, list[Group]]:
    strata: dict[str, list[Group]] = defaultdict(list)
    for group in sorted(groups, key=lambda g: (_unit(seed, "group", g.name), g.name)):
        strata[group.stratum].append(group)
    return strata


def _cut(place: float, shares: Mapping[str, float]) -> str:
    end = 0.0
    for name, share in shares.items():
        end += share
        if place < end:
            return name
    return max(shares, key=lambda name: shares[name])  # rounding left `end` a hair below 1


def _unit(seed: int, what: str, name: str) -> float:
    data = f"{seed}\0{what}\0{name}".encode()
    return int.from_bytes(hashlib.sha256(data).digest()[:7], "big") / (1 << 56)
