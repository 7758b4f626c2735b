from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claimbook.products.split import Group, assign, choose, make_groups, normal_title

SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}


def groups_of(sizes: list[int], stratum: str = "") -> list[Group]:
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [
        Group(f"{stratum}{i}", stratum, tuple(range(start, start + size)))
        for i, (start, size) in enumerate(zip(starts, sizes, strict=True))
    ]


def test_rows_are_joined_through_a_chain_of_products_and_titles() -> None:
    # 0 and 1 share a product, 1 and 2 a title, 2 and 3 a product; 4 stands alone
    groups = make_groups(["a", "a", "b", "b", "c"], [""] * 5, ["t", "u", "u", "v", "w"])
    assert sorted(group.rows for group in groups) == [(0, 1, 2, 3), (4,)]


def test_an_empty_value_joins_nothing() -> None:
    assert len(make_groups(["a", "b", "c"], [""] * 3, ["", "", "x"])) == 3


@pytest.mark.parametrize("other", ["red  mug", "RED MUG", " Red\tmug ", "Ｒed mug"])
def test_titles_are_equal_whatever_their_case_width_and_white_space(other: str) -> None:
    assert normal_title(other) == normal_title("Red mug")


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 12), st.sampled_from("xyz")), min_size=1, max_size=60
    ),
    seed=st.integers(0, 5),
)
def test_no_product_and_no_title_lies_in_two_splits(rows: list[tuple[int, int, str]], seed: int) -> None:
    products, titles = [f"p{p}" for p, _, _ in rows], [f"t{t}" for _, t, _ in rows]
    splits = assign(make_groups(products, [s for _, _, s in rows], titles), SHARES, seed)
    assert sorted(splits) == list(range(len(rows)))
    for column in (products, titles):
        for value in set(column):
            assert len({splits[i] for i, own in enumerate(column) if own == value}) == 1


@given(sizes=st.lists(st.integers(1, 7), min_size=1, max_size=14), data=st.data(), seed=st.integers(0, 3))
def test_a_subset_is_exact_where_whole_groups_allow_it_and_else_the_closest_below(
    sizes: list[int], data: st.DataObject, seed: int
) -> None:
    n = data.draw(st.integers(1, sum(sizes)))
    chosen = choose(groups_of(sizes), n, seed)
    sums = {0}
    for size in sizes:  # the oracle: every sum there is
        sums |= {s + size for s in sums}
    assert len(chosen) == max(s for s in sums if s <= n)
    for group in groups_of(sizes):
        assert set(group.rows) <= set(chosen) or not set(group.rows) & set(chosen)


def test_a_subset_keeps_the_share_of_every_stratum() -> None:
    products = [f"p{i}" for i in range(1000)]
    strata = ["shoe"] * 600 + ["bag"] * 300 + ["hat"] * 100
    chosen = choose(make_groups(products, strata), 100, seed=1)
    counts = Counter(strata[i] for i in chosen)
    assert len(chosen) == 100
    assert all(abs(counts[name] - share) <= 1 for name, share in {"shoe": 60, "bag": 30, "hat": 10}.items())


def test_every_stratum_is_cut_by_the_shares_to_within_one_picture() -> None:
    strata = ["shoe"] * 50 + ["bag"] * 35
    splits = assign(make_groups([f"p{i}" for i in range(85)], strata), SHARES, seed=4)
    for stratum, size in (("shoe", 50), ("bag", 35)):
        counts = Counter(splits[i] for i in range(85) if strata[i] == stratum)
        assert all(abs(counts[name] - share * size) <= 1 for name, share in SHARES.items())


def test_strata_of_one_group_do_not_all_go_to_the_first_split() -> None:
    splits = assign(make_groups([f"p{i}" for i in range(500)], [f"s{i}" for i in range(500)]), SHARES, seed=0)
    # binomial(500, 0.6): mean 300, standard deviation 11
    assert 250 < Counter(splits.values())["train"] < 350


def test_rows_added_to_one_stratum_leave_the_others_where_they_were() -> None:
    products, strata = [f"p{i}" for i in range(100)], ["a"] * 50 + ["b"] * 50
    before = assign(make_groups(products, strata), SHARES, seed=0)
    grown = assign(make_groups([*products, "new1", "new2"], [*strata, "b", "b"]), SHARES, seed=0)
    assert all(before[i] == grown[i] for i in range(50))
    assert sum(before[i] != grown[i] for i in range(50, 100)) <= 4


def test_the_order_of_rows_changes_nothing() -> None:
    products = [f"p{i}" for i in range(60)]
    forth = assign(make_groups(products, [""] * 60), SHARES, seed=0)
    back = assign(make_groups(products[::-1], [""] * 60), SHARES, seed=0)
    assert all(forth[i] == back[59 - i] for i in range(60))


def test_another_seed_gives_another_split() -> None:
    groups = make_groups([f"p{i}" for i in range(60)], [""] * 60)
    assert assign(groups, SHARES, seed=0) != assign(groups, SHARES, seed=1)
